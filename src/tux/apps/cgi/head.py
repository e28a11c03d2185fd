"""The head of what a script writes: pure, without I/O (RFC 3875 section 6; for nph- scripts RFC 9112 section 4).

Lines end with LF or CRLF. Nothing is guessed: what is no head is an error, whose text is for the error log.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MAX_HEAD_BYTES: Final = 65536
"""As large as a head of an application may be: TUX_MAX_APP_FIELDS_BYTES."""
MAX_FIELDS: Final = 256
"""More than any response has; a head of one-byte fields would have 20,000."""
MAX_LENGTH_DIGITS: Final = 18
"""More bytes than a file can have."""
MAX_KNOWN: Final = 64
"""Heads that are remembered. Most scripts always write the same few."""
MAX_KNOWN_BYTES: Final = 512
"""Longer ones are rarely written twice."""

_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_STATUS: Final = re.compile(rb"([2-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
"""RFC 3875 section 6.3.3. Interim responses are the server's; codes up to 999 are passed on, as the engine does."""
_STATUS_LINE: Final = re.compile(rb"HTTP/[0-9]\.[0-9] ([2-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*:[\x21-\x7e]*")
_LOCAL: Final = re.compile(rb"/(?!/)[\x21-\x7e]*")
_BAD_TARGET: Final = re.compile(rb"[#\"<>\\^`{|}]|%(?![0-9A-Fa-f]{2})")
"""What a path with a query cannot have (RFC 3986 section 3.3, 3.4)."""


class HeadError(Exception):
    """This is no head; the text says why."""


class Head(NamedTuple):
    """A complete head. Immutable: heads are remembered."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    """As written, without Status and Content-Length, and without a Location that is for the server."""
    length: int = -1
    """Content-Length; -1: not said."""
    typed: bool = True
    """There is a Content-Type, or there need not be: otherwise there must be no body."""
    local: bytes = b""
    """A local redirect (section 6.2.2): the path and query of the request to be answered instead."""


class Parser:
    """Takes the bytes of one response until its head is complete."""

    def __init__(self, *, nph: bool = False, known: dict[bytes, Head] | None = None) -> None:
        """nph: the script writes a whole HTTP response (section 5). known: heads of earlier responses, shared."""
        self._nph = nph
        self._known = {} if known is None or nph else known
        self._data = b""
        self._from = 0
        """Where the end of the head is looked for."""
        self.rest = b""
        """What follows the head, once it is complete."""

    def feed(self, data: bytes) -> Head | None:
        """More bytes: the head, or None when more are needed. HeadError."""
        self._data = data = self._data + data if self._data else data
        end = self._end(data)
        if end < 0:
            if len(data) > MAX_HEAD_BYTES:
                raise HeadError(f"its head is longer than {MAX_HEAD_BYTES} bytes")
            self._from = max(0, len(data) - 2)
            return None
        if end > MAX_HEAD_BYTES:
            raise HeadError(f"its head is longer than {MAX_HEAD_BYTES} bytes")
        text = data[:end]
        self._data = b""
        self.rest = data[end:]
        head = self._known.get(text)
        if head is None:
            head = _whole(text) if self._nph else _document(text)
            if end <= MAX_KNOWN_BYTES and len(self._known) < MAX_KNOWN:
                self._known[text] = head
        return head

    def end(self) -> HeadError:
        """What is wrong when nothing follows, and the head is not complete."""
        if not self._data:
            return HeadError("it wrote nothing")
        return HeadError(f"it ended within its head, after {len(self._data)} bytes")

    def _end(self, data: bytes) -> int:
        """Behind the empty line that ends the head; -1: it has not come."""
        if data[:1] == b"\n":
            return 1
        if data[:2] == b"\r\n":
            return 2
        bare = data.find(b"\n\n", self._from)
        full = data.find(b"\n\r\n", self._from)
        if full < 0 or 0 <= bare < full:
            return -1 if bare < 0 else bare + 2
        return full + 3


def _lines(text: bytes) -> list[bytes]:
    lines = text.split(b"\n")[:-2]  # without the empty line, and what is behind it
    return [line[:-1] if line.endswith(b"\r") else line for line in lines]


def _fields(lines: list[bytes]) -> tuple[dict[bytes, bytes], list[tuple[bytes, bytes]], int]:
    """Fields that are there once, by their names in lower case; all of the others; Content-Length or -1."""
    once: dict[bytes, bytes] = {}
    others: list[tuple[bytes, bytes]] = []
    length = -1
    if len(lines) > MAX_FIELDS:
        raise HeadError(f"its head has more than {MAX_FIELDS} fields")
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise HeadError(f"{_shown(line)} is no header field")
        name, value = found[1], found[2].strip(b" \t")
        lower = name.lower()
        if lower == b"content-length":
            if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
                raise HeadError(f"Content-Length is {_shown(value)}, not a number of bytes")
            if length >= 0:
                raise HeadError("Content-Length is there twice")
            length = int(value)
        elif lower in {b"status", b"location", b"content-type"}:
            if lower in once:
                raise HeadError(f"{name.decode()} is there twice")
            once[lower] = value
            if lower != b"status":
                others.append((name, value))
        elif lower == b"transfer-encoding":
            raise HeadError("Transfer-Encoding is the server's to say")
        else:
            others.append((name, value))
    return once, others, length


def _document(text: bytes) -> Head:
    """Section 6.2: a document, a local redirect, a client redirect, or a client redirect with a document."""
    once, fields, length = _fields(_lines(text))
    said = once.get(b"status")
    location = once.get(b"location")
    typed = b"content-type" in once
    if said is None and location is None and not typed:
        raise HeadError("its head has none of Content-Type, Location and Status")
    status = 200
    if said is not None:
        found = _STATUS.fullmatch(said)
        if found is None:
            raise HeadError(f"Status is {_shown(said)}, not a code and a reason")
        status = int(found[1])
    if location is not None:
        if said is None and location[:1] == b"/":
            return _local(location, fields, length)
        if said is None:
            status = 302
        if not _ABSOLUTE.fullmatch(location) and (said is None or not location or b" " in location):
            raise HeadError(f"Location is {_shown(location)}, neither a URL nor a path")
    bare = status in {204, 304}
    if bare:
        length = -1  # RFC 9110 section 8.6
    return Head(status, tuple(fields), length, typed or bare)


def _local(location: bytes, fields: list[tuple[bytes, bytes]], length: int) -> Head:
    if not _LOCAL.fullmatch(location) or _BAD_TARGET.search(location):
        raise HeadError(f"Location is {_shown(location)}, which is no path of a URL")
    for name, _ in fields:  # most scripts say Content-Type in any case
        if name.lower() not in {b"location", b"content-type"}:
            raise HeadError(f"a local redirect cannot have the field {name.decode()}")
    if length > 0:
        raise HeadError("a local redirect cannot have a body")
    return Head(200, (), -1, typed=False, local=location)


def _whole(text: bytes) -> Head:
    """A response of HTTP/1.x. What it says about the connection is dropped with the fields that the port drops."""
    first, *lines = _lines(text) or [b""]
    found = _STATUS_LINE.fullmatch(first)
    if found is None:
        raise HeadError(f"{_shown(first)} is no status line, which an nph- script begins with")
    once, fields, length = _fields(lines)
    if b"status" in once:
        fields.append((b"Status", once[b"status"]))  # nothing special here
    status = int(found[1])
    return Head(status, tuple(fields), -1 if status in {204, 304} else length)


def _shown(text: bytes) -> str:
    return ascii(text[:60].decode("latin-1")) + ("..." if len(text) > 60 else "")
