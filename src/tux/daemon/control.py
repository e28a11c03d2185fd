"""What supervisor and worker say to each other: short messages over a socketpair (SOCK_SEQPACKET keeps them apart).

worker to supervisor   READY              it serves
                       DRAINING           it accepts nothing any more
                       ERROR text         it cannot start; the text is for the user
supervisor to worker   LOG + descriptor   the access log was reopened
either                 end of file        the other one is gone, however it ended
"""

from __future__ import annotations

import socket

READY = b"ready"
DRAINING = b"draining"
ERROR = b"error "
LOG = b"log"

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


def receive_with_log(sock: socket.socket) -> tuple[bytes, int]:
    """The next message (b"" at the end of file), and the descriptor that came with it or -1. Blocks."""
    try:
        message, fds, _, _ = socket.recv_fds(sock, MESSAGE_BYTES, 1)
    except ConnectionResetError:
        return b"", -1
    return message, fds[0] if fds else -1
