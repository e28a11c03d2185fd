"""What a request asks for: its head, and its body."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from tux.http.dates import format_date
from tux.modules.errors import MisuseError, TooLargeError
from tux.modules.headers import Headers, parse_cookies
from tux.modules.waiting import BODY, Waiting

if TYPE_CHECKING:
    from tux.apps import port
    from tux.modules.process import Process
    from tux.modules.registry import Handler


class Asked(Waiting):
    """A request as it was sent. What a remembered answer must not depend on is noted when it is looked at."""

    ignores_query: bool = True
    """The handler has not looked at the query."""
    uncovered: str = ""
    """What the handler has looked at that a remembered answer must not depend on."""

    _pieces: bytes | bytearray | None = None
    """What has come of the body and was not taken; None: what came with the head."""
    _whole: bytes | None = None
    _arrived: bool = False
    """All of the body has come, after the head."""
    _streamed: bool = False
    """A piece of the body was given away."""

    def __init__(self, process: Process, raw: port.Request, path: str, handler: Handler) -> None:
        self._process = process
        self.raw = raw
        """As the port has it. What is read there is not noted: answers that depend on it must not be `cache`d."""
        self.path = path
        """Decoded, without empty and dot segments. Bytes that are not UTF-8 are surrogates, as of `os.fsdecode`."""
        self.handler = handler

    def __repr__(self) -> str:
        return f"<Request {self.raw.method} {self.raw.target.decode('ascii', 'backslashreplace')}>"

    # -- the head ----------------------------------------------------------------------------------------------

    @property
    def method(self) -> str:
        return self.raw.method

    @property
    def query(self) -> str:
        """As sent, without the question mark."""
        self.ignores_query = False
        return self.raw.query.decode("latin-1")

    @property
    def params(self) -> dict[str, str]:
        """The query, decoded as a form; the last of several values."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def target(self) -> str:
        """Path and query as sent."""
        self.ignores_query = False
        return self.raw.target.decode("latin-1")

    @property
    def version(self) -> str:
        """ "1.1" or "1.0"."""
        return f"1.{self.raw.minor}"

    @property
    def headers(self) -> Headers:
        return Headers(self.raw.headers, self._look)

    @property
    def host(self) -> str:
        """In lower case, as the signature has it; "" in a request of HTTP/1.0 without one."""
        return next((value.decode("latin-1").lower() for name, value in self.raw.headers if name == b"host"), "")

    @property
    def cookies(self) -> dict[str, str]:
        return parse_cookies(self.headers.all("cookie"))

    @property
    def head(self) -> bytes:
        """The whole head, as the client sent it."""
        self._look("the raw head")
        self.ignores_query = False
        return self.raw.head

    @property
    def client(self) -> str | None:
        """The client's address; None: it came by a unix socket."""
        self._look("the client's address")
        return self.raw.client[0] if self.raw.client else None

    @property
    def client_port(self) -> int:
        """0: unknown."""
        self._look("the client's address")
        return self.raw.client[1] if self.raw.client else 0

    @property
    def server(self) -> tuple[str, int | None]:
        """The address that it came to."""
        self._look("the server's address")
        return self.raw.server

    @property
    def scheme(self) -> str:
        """ "https" when a trusted proxy in front says so."""
        self._look("the scheme")
        return self.raw.scheme

    @property
    def date(self) -> str:
        """The current date as HTTP writes it."""
        return current_date()

    def _look(self, name: str) -> None:
        if name not in self._process.covered:
            self.uncovered = self.uncovered or name

    # -- the body ----------------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """All of the body has come."""
        return self.raw.complete or self._arrived

    @property
    def body(self) -> bytes:
        """All of it. A plain function is called when it has come; a coroutine says `await req.read()` first."""
        if self._whole is None:
            if not self.complete:
                raise MisuseError("the body has not been read: await req.read()")
            if self._streamed:
                raise MisuseError("the body was read piece by piece")
            self._whole = self.raw.body if self._pieces is None else bytes(self._pieces)
            self._pieces = b""
        return self._whole

    async def read(self) -> bytes:
        """All of the body. TooLargeError: it is larger than `max_body`; ClientGoneError."""
        while not self.collect():
            await self._wait(BODY)
        return self.body

    def collect(self) -> bool:
        """Take what has come, for `body`; whether that is all. TooLargeError."""
        if self._whole is not None or self.complete:
            if self._whole is None and len(self._pieces or self.raw.body) > self._process.max_body:
                raise TooLargeError("the body is larger than max_body")
            return True
        if self._streamed:
            raise MisuseError("the body was read piece by piece")
        pieces = self._pieces
        if type(pieces) is not bytearray:
            fresh = self.raw.body if pieces is None else pieces
            self._pieces = pieces = bytearray(fresh)
            self._process.port.accept(self.raw.key)
            self._credit(len(fresh))
        if max(len(pieces), self.raw.length) > self._process.max_body:
            raise TooLargeError("the body is larger than max_body")
        return False

    async def stream(self) -> AsyncIterator[bytes]:
        """The body, piece by piece, as it comes; more is sent only when these are taken. ClientGoneError."""
        if self._whole is not None:
            raise MisuseError("the body was read whole")
        if not self._streamed and not self.complete:
            self._process.port.accept(self.raw.key)
        self._streamed = True
        while True:
            piece = self.raw.body if self._pieces is None else bytes(self._pieces)
            self._pieces = b""
            if piece:
                self._credit(len(piece))
                yield piece
            elif self.complete:
                return
            else:
                await self._wait(BODY)

    def _credit(self, count: int) -> None:
        if not self.complete and count:
            self._process.port.credit(self.raw.key, count)

    def on_body(self, data: bytes, end: bool) -> None:  # noqa: FBT001 (the port's words)
        pieces = self._pieces
        if pieces is None:
            pieces = self.raw.body
        if type(pieces) is bytearray:
            pieces += data
            self._arrived = end
            self._credit(len(data))
        else:
            self._pieces = pieces + data if pieces else data
            self._arrived = end
        self._wake(BODY)


def current_date() -> str:
    """The current date as HTTP writes it."""
    return format_date(int(time.time()))
