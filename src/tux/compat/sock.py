"""The descriptor in `req.sock`: bytes that are written to it go to the client, from this process or from another one.

It is one end of a pair of sockets, not the client's connection: who holds it can send bytes of this one answer and say
CONTINUE_REQ, and do nothing else to the server. CONTINUE_REQ is a byte in the same stream that carries a descriptor, so
it cannot be taken for data and arrives after what was written before.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import stat
from typing import Final, NamedTuple

PIECE_BYTES: Final = 65536
"""Bytes that are read at once."""
_MARK: Final = b"\0"
_FD_BYTES: Final = array.array("i").itemsize
_MARK_ROOM: Final = socket.CMSG_SPACE(8 * _FD_BYTES)
"""Room for more descriptors than a mark has: whatever comes is closed."""


class Piece(NamedTuple):
    """What was read."""

    data: bytes
    continues: bool
    """CONTINUE_REQ was called after these bytes."""
    ended: bool
    """All copies of the descriptor are closed."""


class SockPair:
    """The module's end and ours. The module's is non-blocking while it is used on the event loop: it would wait for the
    loop's own work."""

    def __init__(self, *, blocking: bool) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        os.set_blocking(self.ours.fileno(), False)
        self.set_blocking(blocking=blocking)
        self.theirs.shutdown(socket.SHUT_RD)
        self._is_ended = False

    def set_blocking(self, *, blocking: bool) -> None:
        """Of the module's end, in all processes that have it."""
        os.set_blocking(self.theirs.fileno(), blocking)

    def read(self) -> Piece | None:
        """What is there; None: nothing yet."""
        try:
            data, control, _, _ = self.ours.recvmsg(PIECE_BYTES, _MARK_ROOM, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            data, control = b"", []
        passed = [fd for level, kind, value in control for fd in _descriptors(level, kind, value)]
        for fd in passed:
            os.close(fd)
        if passed:
            return Piece(data[:-1], continues=True, ended=False)
        self._is_ended = not data
        return Piece(data, continues=False, ended=self._is_ended)

    def close(self) -> None:
        self.ours.close()
        if self._is_ended:
            self.theirs.detach()  # the module has closed it: by now the number may be another one's
        else:
            self.theirs.close()


def _descriptors(level: int, kind: int, value: bytes) -> list[int]:
    if level != socket.SOL_SOCKET or kind != socket.SCM_RIGHTS:
        return []
    return array.array("i", value[: len(value) - len(value) % _FD_BYTES]).tolist()


def continue_by(fd: int) -> int:
    """CONTINUE_REQ with a descriptor that `req.sock` was, in whatever process: 0, or minus the error's number."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return -errno.EINVAL
        with socket.socket(fileno=os.dup(fd)) as sock:
            if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
                return -errno.EINVAL
            socket.send_fds(sock, [_MARK], [fd], socket.MSG_NOSIGNAL)
    except OSError as error:
        return -(error.errno or errno.EINVAL)
    return 0
