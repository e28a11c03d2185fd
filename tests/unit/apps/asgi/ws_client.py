"""What a WebSocket client writes, by hand: so that wrong frames can be written, too."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

KEY = b"\x12\x34\x56\x78"
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length_bytes: int | None = None,
    length: int | None = None,
) -> bytes:
    """`length_bytes`: 0, 2 or 8 bytes of length, whatever is needed; `length`: what is said of it."""
    n = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if n < 126 else 2 if n < 65536 else 8
    short = n if length_bytes == 0 else 126 if length_bytes == 2 else 127
    head = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | short])
    head += n.to_bytes(length_bytes, "big") if length_bytes else b""
    return head + KEY + mask(payload) if masked else head + payload


def mask(payload: bytes) -> bytes:
    return bytes(byte ^ KEY[i % 4] for i, byte in enumerate(payload))


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def compress(data: bytes) -> bytes:
    """As permessage-deflate has it, without context."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


class Frame(NamedTuple):
    first: int
    payload: bytes


def parse(data: bytes) -> list[Frame]:
    """Frames of a server, all of them whole."""
    found = []
    while data:
        assert not data[1] & 0x80
        n, head = data[1], 2
        if n >= 126:
            head = 4 if n == 126 else 10
            n = int.from_bytes(data[2:head], "big")
        assert len(data) >= head + n
        found.append(Frame(data[0], data[head : head + n]))
        data = data[head + n :]
    return found
