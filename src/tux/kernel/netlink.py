# SPDX-License-Identifier: MIT
"""rtnetlink, as little as is needed: one request at a time, answers as attributes (rtnetlink(7), linux/netlink.h).

It works in the caller's network namespace, whatever is mounted at /sys.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""

ERROR, DONE = 2, 3
REQUEST, MULTI, ACK, DUMP_INTERRUPTED, ACK_TLVS = 1, 2, 4, 0x10, 0x200
DUMP, EXCL, CREATE = 0x300, 0x200, 0x400

SOL_NETLINK: Final = 270
CAP_ACK, EXT_ACK = 10, 11

RECEIVE_BYTES: Final = 64 * 1024
"""More than the kernel puts into one answer (32 KiB)."""

TIMEOUT_SECONDS: Final = 10
"""The kernel answers at once; something is broken when it does not."""

TRIES: Final = 10
"""A list is asked for again when it changed meanwhile, so often at most."""


class NetlinkError(OSError):
    """The kernel refused a request. The text says what was attempted, and why it failed."""

    def __init__(self, number: int, attempt: str, reason: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.attempt = attempt
        self.reason = reason
        """What the kernel says beside the error number; often nothing."""

    def __str__(self) -> str:
        return f"cannot {self.attempt}: {self.strerror}" + (f" ({self.reason})" if self.reason else "")


class Message(NamedTuple):
    """An answer: its type, and what follows the header."""

    type: int
    body: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """A struct rtattr with its value and its padding."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(body: bytes, at: int = 0) -> dict[int, bytes]:
    """The attributes from an offset on. What is cut off is left out."""
    found = {}
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if length < 4 or at + length > len(body):
            break
        found[kind & 0x3FFF] = body[at + 4 : at + length]
        at += (length + 3) // 4 * 4
    return found


def text(value: bytes) -> str:
    """A string attribute."""
    return value.partition(b"\0")[0].decode("utf-8", "replace")


def request(kind: int, flags: int, body: bytes, attempt: str) -> list[Message]:
    """Ask, and return all answers. NetlinkError."""
    for _ in range(TRIES):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
            link.settimeout(TIMEOUT_SECONDS)
            for option in (CAP_ACK, EXT_ACK):
                link.setsockopt(SOL_NETLINK, option, 1)
            wanted = REQUEST | flags | (0 if flags & DUMP == DUMP else ACK)
            link.send(HEADER.pack(HEADER.size + len(body), kind, wanted, 1, 0) + body)
            found, interrupted = _receive(link, attempt)
        if not interrupted:
            return found
    raise NetlinkError(4, attempt, "it changes all the time")


def _receive(link: socket.socket, attempt: str) -> tuple[list[Message], bool]:
    found: list[Message] = []
    interrupted = False
    while True:
        for message, flags in _split(link.recv(RECEIVE_BYTES)):
            interrupted = interrupted or bool(flags & DUMP_INTERRUPTED)
            if message.type in (ERROR, DONE):
                code = struct.unpack_from("=i", message.body)[0] if len(message.body) >= 4 else 0
                if code:
                    told = attributes(message.body, 4 + HEADER.size) if flags & ACK_TLVS else {}
                    raise NetlinkError(-code, attempt, text(told.get(1, b"")))
                return found, interrupted
            found.append(message)


def _split(data: bytes) -> Iterator[tuple[Message, int]]:
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, _, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size or at + length > len(data):
            return
        yield Message(kind, data[at + HEADER.size : at + length]), flags
        at += (length + 3) // 4 * 4
