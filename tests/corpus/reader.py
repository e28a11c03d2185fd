# SPDX-License-Identifier: MIT
"""A client's side of HTTP/1.1 that forgives nothing: what is not exactly right is a `ViolationError`."""

from __future__ import annotations

import calendar
import re
import socket
import time
from dataclasses import dataclass

PATIENCE = 10.0
"""Seconds without any byte after which a test gives up."""

MAX_HEAD_BYTES = 65536
"""Of a response; far more than any of ours has."""

DATE_SLACK = 1
"""Whole seconds that Date may be behind: the server's clock is read once per turn of its loop."""

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([ -~]*)")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?")
_DATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT"
)
_NUMBER = re.compile("0|[1-9][0-9]*")

WITHOUT_BODY = frozenset({204, 304})

REQUIRED = {
    204: ("allow|cache-control",),
    206: ("content-range|content-type",),
    301: ("location",),
    405: ("allow",),
    416: ("content-range",),
    503: ("retry-after",),
}
"""Fields that belong to a status; of "a|b", at least one."""


class ViolationError(AssertionError):
    """The server said something that is not correct HTTP, or not what it must say."""


class ClosedError(AssertionError):
    """The connection ended before the response was complete; `received` is what there was of it."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"the connection ended after {len(received)} bytes of a response: {received[:200]!r}")
        self.received = received


@dataclass(frozen=True)
class Response:
    """One response. Names of fields are in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes
    raw_head: bytes

    def __getitem__(self, name: str) -> str:
        return self.fields[name.lower()]

    def __contains__(self, name: str) -> bool:
        return name.lower() in self.fields

    def get(self, name: str) -> str | None:
        return self.fields.get(name.lower())

    @property
    def closes(self) -> bool:
        """It says that the connection ends after it."""
        return self.fields.get("connection") == "close"

    @property
    def stable_head(self) -> bytes:
        """The head without its Date: what must be the same each time."""
        return re.sub(rb"\r\nDate: [^\r]*", b"", self.raw_head)


class Reader:
    """Reads the responses of one connection in their order, each byte once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._held = bytearray()
        self._began = int(time.time())
        sock.settimeout(PATIENCE)

    @property
    def held(self) -> bytes:
        """What has been received, and not returned."""
        return bytes(self._held)

    def response(self, method: str = "GET") -> Response:
        """The next response, which answers a request with this method. ViolationError, ClosedError, TimeoutError."""
        while b"\r\n\r\n" not in self._held:
            if len(self._held) > MAX_HEAD_BYTES:
                raise ViolationError("a head without end")
            self._more()
        raw_head = bytes(self._held[: self._held.index(b"\r\n\r\n")])
        del self._held[: len(raw_head) + 4]
        status, fields = parse_head(raw_head)
        length = body_length(status, fields, method)
        while len(self._held) < length:
            try:
                self._more()
            except ClosedError as error:
                raise ClosedError(raw_head + b"\r\n\r\n" + error.received) from None
        body = bytes(memoryview(self._held)[:length])
        del self._held[:length]
        check_fields(status, fields, bool(body), self._began)
        return Response(status, fields, body, raw_head)

    def rest(self) -> bytes:
        """All that comes until the server closes. ViolationError: it ended by a reset, which may destroy an answer."""
        try:
            while True:
                self._more()
        except ClosedError:
            pass
        except ConnectionResetError:
            raise ViolationError("the connection was reset, not closed") from None
        rest = bytes(self._held)
        self._held.clear()
        return rest

    def expect_end(self) -> None:
        """The server closes, and sends nothing before it."""
        rest = self.rest()
        if rest:
            raise ViolationError(f"bytes after the last answer: {rest[:300]!r}")

    def _more(self) -> None:
        piece = self._sock.recv(1 << 18)
        if not piece:
            raise ClosedError(bytes(self._held))
        self._held += piece


def parse_head(raw: bytes) -> tuple[int, dict[str, str]]:
    """Status and fields of a head without its blank line. ViolationError: not of that form, or a field twice."""
    lines = raw.split(b"\r\n")
    status_line = _STATUS_LINE.fullmatch(lines[0])
    if status_line is None:
        raise ViolationError(f"status line {lines[0]!r}")
    fields: dict[str, str] = {}
    for line in lines[1:]:
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise ViolationError(f"field line {line!r}")
        name, value = match[1].decode().lower(), (match[2] or b"").decode("latin-1")
        if name in fields:
            raise ViolationError(f"{name} is there twice")
        fields[name] = value
    return int(status_line[1]), fields


def body_length(status: int, fields: dict[str, str], method: str) -> int:
    """Bytes of the body that follows. ViolationError: the framing is not the one way that we use."""
    if "transfer-encoding" in fields:
        raise ViolationError("Transfer-Encoding in a response whose length is known")
    length = fields.get("content-length")
    if status in WITHOUT_BODY:
        if length is not None:
            raise ViolationError(f"Content-Length with {status}")
        return 0
    if length is None or _NUMBER.fullmatch(length) is None:
        raise ViolationError(f"Content-Length: {length}")
    return 0 if method == "HEAD" else int(length)


def check_fields(status: int, fields: dict[str, str], has_body: bool, began: int) -> None:
    """What every response must have. `began`: the Date is not before this second."""
    date = parse_date(fields.get("date", ""))
    if not began - DATE_SLACK <= date <= time.time():
        raise ViolationError(f"Date is wrong: {fields['date']}")
    if fields.get("connection", "close") not in ("close", "keep-alive"):
        raise ViolationError(f"Connection: {fields['connection']}")
    if has_body and "content-type" not in fields:
        raise ViolationError("a body without Content-Type")
    if has_body and fields.get("x-content-type-options") != "nosniff":
        raise ViolationError("a body without X-Content-Type-Options: nosniff")
    for names in REQUIRED.get(status, ()):
        if not any(name in fields for name in names.split("|")):
            raise ViolationError(f"{status} without {names}")
    if "last-modified" in fields and parse_date(fields["last-modified"]) > date:
        raise ViolationError("Last-Modified is later than Date")


def parse_date(text: str) -> int:
    """Seconds since 1970 of an IMF-fixdate with the right day of the week. ViolationError: it is none."""
    if _DATE.fullmatch(text) is None:
        raise ViolationError(f"not an IMF-fixdate: {text!r}")
    try:
        parsed = time.strptime(text, "%a, %d %b %Y %H:%M:%S GMT")
    except ValueError:
        raise ViolationError(f"no such date: {text}") from None
    seconds = calendar.timegm(parsed)
    if time.strftime("%a", time.gmtime(seconds)) != text[:3]:
        raise ViolationError(f"wrong day of the week: {text}")
    return seconds
