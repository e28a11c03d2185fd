"""What supervisor and worker say to each other: short messages over a socketpair (SOCK_SEQPACKET keeps them apart).

worker to supervisor   READY              it serves
                       DRAINING           it accepts nothing any more
                       ERROR text         it cannot start; the text is for the user
supervisor to worker   LOG + descriptor   the access log was reopened
                       FINISH             accept nothing more; what was begun has its time
                       LINK + numbers     descriptors of a link with an application's process
                       UNLINK + number    that process is gone
app to supervisor      READY              the application has started
                       RETIRE             the process wants to be replaced
                       LOST + number      a link has ended, from the other end
supervisor to app      LINK + number      descriptors of a link with a worker
                       LEAVE              take no more requests, finish those at work, and end
either                 end of file        the other one is gone, however it ended
"""

from __future__ import annotations

import socket

READY = b"ready"
DRAINING = b"draining"
ERROR = b"error "
LOG = b"log"
FINISH = b"finish"
LINK = b"LINK"
UNLINK = b"UNLINK"
RETIRE = b"retire"
LOST = b"LOST"
LEAVE = b"DRAIN"

MESSAGE_BYTES = 4096
"""The longest message: an error text is cut to it."""


def pair() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end, which never blocks, and the worker's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(0)
    return ours, theirs


def send(sock: socket.socket, message: bytes) -> None:
    """Send, unless the other end is gone."""
    try:
        sock.send(message[:MESSAGE_BYTES], socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError):
        pass


def receive(sock: socket.socket) -> bytes | None:
    """The next message, b"" at the end of file, None when nothing waits (on a socket that does not block)."""
    try:
        return sock.recv(MESSAGE_BYTES)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""


def send_log(sock: socket.socket, fd: int) -> None:
    """Hand over the descriptor of the reopened log; it stays open here, too. OSError: the worker does not read."""
    socket.send_fds(sock, [LOG], [fd])


LINK_DESCRIPTORS = 5
"""Of a link, at the worker's end."""


def receive_with_descriptors(sock: socket.socket) -> tuple[bytes, list[int]]:
    """The next message (b"" at the end of file), and the descriptors that came with it. Blocks."""
    try:
        message, fds, _, _ = socket.recv_fds(sock, MESSAGE_BYTES, LINK_DESCRIPTORS)
    except ConnectionResetError:
        return b"", []
    return message, fds
