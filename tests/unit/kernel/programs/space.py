# SPDX-License-Identifier: MIT
"""A network namespace of a test's own, with nothing but `lo` in it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from types import TracebackType
from typing import Final, Self

CLONE_NEWNET: Final = 0x40000000
SIOCSIFFLAGS: Final = 0x8914
IFF_UP, IFF_RUNNING = 1, 0x40

_libc = ctypes.CDLL(None, use_errno=True)


class Space:
    """Within a `with` block the calling thread is in the namespace, and the sockets that it makes stay there."""

    def __init__(self) -> None:
        """OSError: not permitted."""
        outside = _current()
        try:
            _check(_libc.unshare(CLONE_NEWNET), "unshare")
            self.fd = _current()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                fcntl.ioctl(asking, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP | IFF_RUNNING))
        finally:
            _check(_libc.setns(outside, CLONE_NEWNET), "setns")
            os.close(outside)
        self._outside: list[int] = []

    def __enter__(self) -> Self:
        self._outside.append(_current())
        _check(_libc.setns(self.fd, CLONE_NEWNET), "setns")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outside = self._outside.pop()
        _check(_libc.setns(outside, CLONE_NEWNET), "setns")
        os.close(outside)

    def close(self) -> None:
        os.close(self.fd)


def _current() -> int:
    return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _check(result: int, call: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
