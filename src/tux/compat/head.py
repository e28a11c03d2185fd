"""The head of an answer as modules write it, byte by byte: a status line, fields, an empty line (RFC 9112 section 4).

The original sent whatever it was given. Here the engine makes the framing, so the head is read, strictly, and what is
wrong with it is an error of the module, not of its client.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

HEAD_BYTES: Final = 32768
"""Bytes of a head at most: what the engine takes from an application, and much more than anybody sends."""

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
_CONNECTION: Final = frozenset((b"connection", b"keep-alive", b"proxy-connection"))
"""Fields about the connection: the server's business."""


class HeadError(ValueError):
    """What a module sent is no head; the message goes on after "the answer"."""


class Head(NamedTuple):
    """A head that can be sent."""

    status: int
    fields: list[tuple[bytes, bytes]]
    """Without Content-Length, and those about the connection."""
    length: int
    """Content-Length; -1: there was none."""
    closes: bool
    """It says `Connection: close`."""


def find_end(data: bytes | bytearray, start: int = 0) -> int:
    """Where the head ends and the body begins; -1: not yet. `start`: bytes that were looked at before. HeadError: it
    cannot become one."""
    end = data.find(b"\r\n\r\n", max(0, start - 3))
    if end >= 0:
        return end + 4
    if not data.startswith(b"HTTP/1."[: len(data)]):
        raise HeadError("does not begin with a status line, as in HTTP/1.1 200 OK")
    if len(data) > HEAD_BYTES:
        raise HeadError(f"has more than {HEAD_BYTES} bytes without the empty line that ends its head")
    return -1


def parse(data: bytes | bytearray) -> Head:
    """`data` ends with the empty line. HeadError."""
    if len(data) > HEAD_BYTES:
        raise HeadError(f"has a head of more than {HEAD_BYTES} bytes")
    first, *lines = bytes(data[:-4]).split(b"\r\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise HeadError("does not begin with a status line, as in HTTP/1.1 200 OK")
    fields: list[tuple[bytes, bytes]] = []
    length = -1
    closes = False
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise HeadError(f"has a line in its head that is no field: {line[:60]!r}")
        name, value = match.groups()
        lower = name.lower()
        if lower == b"content-length":
            length = _length(value, length)
        elif lower == b"transfer-encoding":
            raise HeadError("has Transfer-Encoding, which is the server's: leave it out, and the body as it is")
        elif lower in _CONNECTION:
            closes = closes or (lower == b"connection" and value.lower() == b"close")
        else:
            fields.append((name, value))
    number = int(status[1])
    if not 200 <= number <= 599:
        raise HeadError(f"has the status {number}; expected 200 to 599")
    return Head(number, fields, length, closes)


def _length(value: bytes, before: int) -> int:
    if not _DIGITS.fullmatch(value):
        raise HeadError(f"has Content-Length: {value.decode('latin-1')!r}; expected a number")
    if before not in {-1, int(value)}:
        raise HeadError("has two different Content-Lengths")
    return int(value)
