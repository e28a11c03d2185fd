"""Responses, read from the bytes of a connection by whoever asks servers (RFC 9112 sections 4 to 6). No input or output
of its own. Of requests other than HEAD and CONNECT."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypeAlias

MAX_HEAD_BYTES = 65536
"""Of a head or the trailers; far more than any real one has."""

MAX_LINE_BYTES = 4096
"""Of the line that begins a chunk, extensions included."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;.*)?", re.DOTALL)

_WITHOUT_BODY = frozenset((204, 304))


_Part: TypeAlias = Literal["size", "data", "end", "trailers"]


class Response(NamedTuple):
    """One response that was read."""

    status: int
    body: bytes
    """When bodies are kept, else nothing."""
    closes: bool
    """No other one follows on this connection."""
    whole: bool = True
    """False: the body is larger than is wanted, and was not read to its end."""


class Responses:
    """Reads responses one after the other."""

    def __init__(self, *, max_body: int, keep: bool = False) -> None:
        """max_body: bytes; what is larger is not read. keep: bodies are wanted, not only their ends."""
        self._max_body = max_body
        self._keep = keep
        self._buffer = bytearray()
        self._begin()

    def _begin(self) -> None:
        self._status = 0  # no head yet
        self._closes = False
        self._chunked = False
        self._part: _Part = "size"  # of a chunked body: what comes next
        self._left: int | None = 0  # bytes of the body or of the chunk; None: until the connection ends
        self._body = bytearray()
        self._size = 0

    def feed(self, data: bytes) -> None:
        """The next bytes of the connection."""
        self._buffer += data

    def take(self) -> Response | None:
        """The next response; None: more bytes are needed first. ValueError: it is no response."""
        while self._status < 200:
            if not self._read_head():
                return None
        done = self._read_chunks() if self._chunked else self._read_body()
        if self._size + (self._left or 0) > self._max_body:
            return Response(self._status, b"", closes=True, whole=False)
        return self._finish() if done else None

    def end(self) -> Response | None:
        """The connection has ended: the response that ended with it, if one did. ValueError: it was cut short."""
        if self._status and not self._chunked and self._left is None:
            self._closes = True
            return self._finish()
        if self._status or self._buffer:
            raise ValueError("the connection ended in the middle of a response")
        return None

    def _finish(self) -> Response:
        response = Response(self._status, bytes(self._body), self._closes)
        self._begin()
        return response

    def _line(self, end: bytes, limit: int) -> bytes | None:
        """What is before `end`, which is taken off, too."""
        at = self._buffer.find(end, 0, limit)
        if at < 0:
            if len(self._buffer) >= limit:
                raise ValueError("a line or a head is too long")
            return None
        line = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return line

    def _read_head(self) -> bool:
        head = self._line(b"\r\n\r\n", MAX_HEAD_BYTES)
        if head is None:
            return False
        first, *lines = head.split(b"\r\n")
        found = _STATUS_LINE.fullmatch(first)
        if found is None:
            raise ValueError("what was answered is not HTTP/1")
        self._status = int(found[1])
        if self._status < 200:
            if self._status == 101:
                raise ValueError("the protocol was changed, unasked")
            return True
        fields: dict[bytes, bytes] = {}
        for line in lines:
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()
        options = fields.get(b"connection", b"").lower()
        self._closes = b"close" in options or (first.startswith(b"HTTP/1.0") and b"keep-alive" not in options)
        length = fields.get(b"content-length")
        if self._status in _WITHOUT_BODY:
            self._left = 0
        elif b"transfer-encoding" in fields:
            self._chunked = fields[b"transfer-encoding"].lower() == b"chunked"
            self._left = 0 if self._chunked else None
        elif length is None:
            self._left = None
        elif _DIGITS.fullmatch(length):
            self._left = int(length)
        else:
            raise ValueError("Content-Length is no number")
        return True

    def _read_body(self) -> bool:
        """Whether it is there."""
        self._drop(len(self._buffer) if self._left is None else self._left)
        return self._left == 0

    def _drop(self, limit: int) -> None:
        """Take that many bytes of the body, as far as they are here."""
        n = min(limit, len(self._buffer))
        if self._keep:
            self._body += self._buffer[:n]
        del self._buffer[:n]
        self._size += n
        if self._left is not None:
            self._left -= n

    def _read_chunks(self) -> bool:
        """Whether the body is there."""
        while True:  # ends: each round takes bytes, or returns
            if self._part == "data":
                self._drop(self._left or 0)
                if self._left or self._size > self._max_body:
                    return False
                self._part = "end"
            line = self._line(b"\r\n", 2 if self._part == "end" else MAX_LINE_BYTES)
            if line is None:
                return False
            if self._part == "end":
                self._part = "size"
            elif self._part == "size":
                found = _CHUNK.fullmatch(line)
                if found is None:
                    raise ValueError("the length of a chunk is no number")
                self._left = int(found[1], 16)
                self._part = "data" if self._left else "trailers"
            elif not line:
                return True
