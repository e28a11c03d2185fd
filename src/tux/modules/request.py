"""A request, as a handler sees it, and what a handler can do with it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias
from urllib.parse import parse_qsl

from tux.http.dates import format_date
from tux.http.target import TargetError, decode_path
from tux.modules.errors import ClientGoneError, MisuseError, TooLargeError
from tux.modules.headers import Headers, parse_cookies
from tux.modules.mime import type_of
from tux.modules.objects import Object

if TYPE_CHECKING:
    from tux.apps import port
    from tux.modules.registry import Handler

Fields: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""Header fields of an answer."""
RawFields: TypeAlias = list[tuple[bytes, bytes]]

NEW: Final = 0
STARTED: Final = 1
"""The head has left."""
FINISHED: Final = 2
"""It is answered, or given away."""

MAX_KEPT_BYTES: Final = 16 * 1024 * 1024
"""What a handler may write without waiting for the client to take it: then it is held in memory."""

_BODY: Final = "body"
_WINDOW: Final = "window"
_OBJECT: Final = "object"


class Server(Protocol):
    """What a request needs of its process (`tux.apps.module.server.Server`)."""

    port: port.Port
    max_body: int
    covered: frozenset[str]
    """Fields that the signature covers."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    def wrote(self) -> None: ...
    def finished(self, request: Request) -> None: ...
    def not_remembered(self, request: Request) -> None: ...
    def keep(self, request: Request) -> None: ...
    def token_of(self, request: Request) -> str: ...
    def resumed(self, request: Request, value: Any, then: Callable[[Request, Any], Any] | None) -> None: ...


class Done:
    """What actions return: they are done at once, or as soon as the client reads. To be awaited for the latter."""

    __slots__ = ("_request",)

    def __init__(self, request: Request | None = None) -> None:
        self._request = request

    def __await__(self) -> Generator[Any, None, None]:
        if self._request is not None:
            yield from self._request.writable().__await__()


DONE: Final = Done()


class Postponed:
    """A request that somebody will continue. A coroutine awaits it; a plain function returns it."""

    __slots__ = ("_request", "_timeout", "then")

    def __init__(self, request: Request, timeout: float | None, then: Callable[[Request, Any], Any] | None) -> None:
        self._request = request
        self._timeout = timeout
        self.then = then

    def __await__(self) -> Generator[Any, None, Any]:
        return self._request.continued(self._timeout).__await__()


class Request:
    """One request, from its head to the end of its answer. `return` something for most answers; or use `start`, `write`
    and `finish`, `send_object`, `redirect_to_server`, `postpone`."""

    event: int = 0
    """The handler's own, as `event` of tux(2)."""
    priv: Any = None
    """The handler's own, as `priv` of tux(2)."""
    phase: int = NEW
    gone: bool = False
    """The client has closed the connection: nothing can be sent any more."""
    kept: bool = False
    """The process keeps it: events may come for it."""
    ignores_query: bool = True
    """The handler has not looked at the query."""
    uncovered: str = ""
    """What the handler has looked at that a remembered answer must not depend on."""
    task: asyncio.Task[None] | None = None
    pump: Any = None
    """The generator that gives the body."""

    _path: str | None = None
    _pieces: bytes | bytearray | None = None
    """What has come of the body and was not taken; None: what came with the head."""
    _whole: bytes | None = None
    _arrived: bool = False
    """All of the body has come, after the head."""
    _streamed: bool = False
    """A piece of the body was given away."""
    _waiters: dict[str, list[asyncio.Future[None]]] | None = None
    _found: port.Object | None = None
    _resumer: asyncio.Future[Any] | None = None
    _postponed: Postponed | None = None
    _values: list[Any] | None = None
    """Of `resume`, before it was waited for."""

    def __init__(self, server: Server, raw: port.Request, handler: Handler) -> None:
        self._server = server
        self.raw = raw
        """As the port has it. What is read there is not noted: answers that depend on it must not be `cache`d."""
        self.handler = handler

    def __repr__(self) -> str:
        return f"<Request {self.raw.method} {self.raw.target.decode('ascii', 'backslashreplace')}>"

    # -- what was asked for ------------------------------------------------------------------------------------

    @property
    def method(self) -> str:
        return self.raw.method

    @property
    def path(self) -> str:
        """Decoded, without empty and dot segments. Bytes that are not UTF-8 are surrogates, as of `os.fsdecode`."""
        path = self._path
        if path is None:
            try:
                path = decode_path(self.raw.path.decode("latin-1")).decode("utf-8", "surrogateescape")
            except TargetError:
                path = self.raw.path.decode("latin-1")
            self._path = path
        return path

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
        if name not in self._server.covered:
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
            await self._wait(_BODY)
        return self.body

    def collect(self) -> bool:
        """Take what has come, for `body`; whether that is all. TooLargeError."""
        if self._whole is not None or self.complete:
            if self._whole is None and len(self._pieces or self.raw.body) > self._server.max_body:
                raise TooLargeError("the body is larger than max_body")
            return True
        if self._streamed:
            raise MisuseError("the body was read piece by piece")
        pieces = self._pieces
        if type(pieces) is not bytearray:
            fresh = self.raw.body if pieces is None else pieces
            self._pieces = pieces = bytearray(fresh)
            self._credit(len(fresh))
        if max(len(pieces), self.raw.length) > self._server.max_body:
            raise TooLargeError("the body is larger than max_body")
        return False

    async def stream(self) -> AsyncIterator[bytes]:
        """The body, piece by piece, as it comes; more is sent only when these are taken. ClientGoneError."""
        if self._whole is not None:
            raise MisuseError("the body was read whole")
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
                await self._wait(_BODY)

    def _credit(self, count: int) -> None:
        if not self.complete and count:
            self._server.port.credit(self.raw.key, count)
            self._server.wrote()

    # -- the answer --------------------------------------------------------------------------------------------

    def start(self, status: int = 200, headers: Fields = (), *, length: int = -1) -> None:
        """Send the head. `length`: Content-Length of a body that follows; else it ends with `finish`. MisuseError;
        ValueError: a field that cannot be sent."""
        self.start_raw(status, raw_fields(headers), length)

    def start_raw(self, status: int, fields: RawFields, length: int = -1) -> None:
        """The same with bytes."""
        self._begin()
        self._server.port.answer(self.raw.key, status, fields, length=length)
        self.phase = STARTED
        self._server.keep(self)
        self._server.wrote()

    def write(self, data: str | bytes | bytearray | memoryview) -> Done:
        """Send a piece of the body; before it the head, if `start` was not called. The buffer may be used again at
        once. Await it, and it returns when the client has taken enough; who does not is bounded by MAX_KEPT_BYTES."""
        if isinstance(data, str):
            data = data.encode()
        if self.phase == NEW:
            self.start()
        elif self.phase == FINISHED:
            raise MisuseError("write() after the answer was finished")
        if self.gone:
            return Done(self)
        port, key = self._server.port, self.raw.key
        if -port.window(key) > MAX_KEPT_BYTES:
            raise MisuseError(f"over {MAX_KEPT_BYTES} bytes wait for the client: await req.write()")
        port.data(key, data)
        self._server.wrote()
        return DONE if port.window(key) > 0 else Done(self)

    def write_file(self, file: int | Any, offset: int = 0, length: int = -1) -> Done:
        """Send bytes of a regular file as a piece of the body, by its descriptor, without reading them. `length`: -1 is
        up to its end."""
        if self.phase == NEW:
            self.start()
        elif self.phase == FINISHED:
            raise MisuseError("write_file() after the answer was finished")
        if self.gone:
            return Done(self)
        fd = file if isinstance(file, int) else file.fileno()
        if length < 0:
            import os

            length = max(0, os.fstat(fd).st_size - offset)
        port, key = self._server.port, self.raw.key
        port.file(key, fd, offset, length, end=False)
        self._server.wrote()
        return DONE if port.window(key) > 0 else Done(self)

    def finish(self, *, close: bool = False) -> Done:
        """The answer is complete. `close`: and the connection is closed; else the client may keep it."""
        if self.phase == FINISHED:
            raise MisuseError("finish() after the answer was finished")
        if self.phase == NEW:
            return self.send(b"", 204, close=close)
        more = {"close": True} if close else {}
        self._server.port.data(self.raw.key, b"", end=True, **more)
        self._end()
        return DONE

    def send(
        self,
        body: str | bytes | bytearray | memoryview,
        status: int = 200,
        headers: Fields = (),
        *,
        close: bool = False,
    ) -> Done:
        """Answer, all at once. MisuseError; ValueError: a field that cannot be sent."""
        data = body.encode() if isinstance(body, str) else body
        self.answer(status, raw_fields(headers), data, close=close)
        return DONE

    def answer(
        self, status: int, fields: RawFields, body: bytes | bytearray | memoryview, *, close: bool = False
    ) -> None:
        """The same with bytes, which may be remembered."""
        self._begin()
        raw, server = self.raw, self._server
        length = len(body) if raw.method == "HEAD" and status not in {204, 304} else -1
        more: dict[str, Any] = {"close": True} if close else {}
        if self.handler.cache and not close:
            more = self._remembered(status, fields)
        server.port.answer(raw.key, status, fields, length=length, body=body, end=True, **more)
        self._end()

    def _remembered(self, status: int, fields: RawFields) -> dict[str, Any]:
        """What the port is told when the handler declares its answers cacheable."""
        raw = self.raw
        if raw.method not in {"GET", "HEAD"} or not raw.complete or raw.body or status >= 500:
            return {}
        if any(name.lower() == b"set-cookie" for name, _ in fields):
            self._look("Set-Cookie")
        if self.uncovered:
            self._server.not_remembered(self)
            return {}
        return {"remember_ms": round(self.handler.cache * 1000), "ignore_query": self.ignores_query}

    def send_object(self, target: str | Object, headers: Fields = (), *, status: int = 0) -> Done:
        """Answer with a file of the site, named by its path, as the static origin would: its Content-Type, ranges and
        conditions of the request included. `headers` come before its own. status 0: the file's."""
        self._begin()
        path = target.path if isinstance(target, Object) else target
        fields = raw_fields(headers)
        media_type = type_of(path)
        if media_type is not None and not any(name.lower() == b"content-type" for name, _ in fields):
            fields.append((b"content-type", media_type.encode("latin-1")))
        self._server.port.object(self.raw.key, _object_path(path), fields, status)
        self._end()
        return DONE

    async def get_object(self, path: str) -> Object:
        """Look up a file of the site by its path. FileNotFoundError, PermissionError, OSError: the static origin would
        answer 404, 403, or something else; ClientGoneError."""
        if self.phase == FINISHED:
            raise MisuseError("get_object() after the answer was finished")
        while self._waiters and self._waiters.get(_OBJECT):
            await self._wait(_OBJECT)  # one lookup at a time
        self._found = None
        if not self._server.port.lookup(self.raw.key, _object_path(path)):
            raise ClientGoneError
        self._server.keep(self)
        self._server.wrote()
        found = await self._looked_up()
        if found.fd < 0:
            kinds: dict[int, type[OSError]] = {404: FileNotFoundError, 403: PermissionError}
            raise kinds.get(found.status, OSError)(f"{path}: the static origin answers {found.status}")
        return Object(path, found, type_of(path))

    async def _looked_up(self) -> port.Object:
        while True:
            found, self._found = self._found, None
            if found is not None:
                return found
            await self._wait(_OBJECT)

    def redirect_to_server(self) -> Done:
        """Give the request to the forwarded server of the site, which answers in place of the handler."""
        self._begin()
        self._server.port.next(self.raw.key, forward=True)
        self._end()
        return DONE

    def decline(self) -> Done:
        """Give the request to what the site tries next, as if there were no handler for it."""
        self._begin()
        self._server.port.next(self.raw.key)
        self._end()
        return DONE

    def abort(self) -> None:
        """Cut the connection: the client must not take what it got for whole."""
        if self.phase != FINISHED:
            self._server.port.abort(self.raw.key)
            self._end()

    def _begin(self) -> None:
        if self.phase != NEW:
            raise MisuseError("the request is answered already" if self.phase == FINISHED else "the answer has begun")

    def _end(self) -> None:
        self.phase = FINISHED
        self._server.wrote()
        self._server.finished(self)

    # -- waiting -----------------------------------------------------------------------------------------------

    def postpone(self, timeout: float | None = None, then: Callable[[Request, Any], Any] | None = None) -> Postponed:
        """Let the request wait until somebody calls `resume`, or `tux.resume` with its `token`. A coroutine awaits it,
        for the value; TimeoutError after so many seconds. A plain function returns it: the answer is then the value, or
        what `then(req, value)` makes of it."""
        self._server.keep(self)
        return Postponed(self, timeout, then)

    @property
    def token(self) -> str:
        """Names this request in `tux.resume`. Whoever has it, and runs as the same user, can continue the request."""
        self._look("the token")
        return self._server.token_of(self)

    def resume(self, value: Any = None) -> None:
        """Continue it, from any thread."""
        loop = self._server.loop
        try:
            loop.call_soon_threadsafe(self.on_resume, value)
        except RuntimeError:
            pass  # the process ends

    async def continued(self, timeout: float | None) -> Any:
        """What `resume` brings."""
        if self._values:
            return self._values.pop(0)
        if self._resumer is not None:
            raise MisuseError("the request is postponed already")
        if self.gone:
            raise ClientGoneError
        self._resumer = self._server.loop.create_future()
        try:
            return await asyncio.wait_for(self._resumer, timeout)
        finally:
            self._resumer = None

    def hold(self, postponed: Postponed) -> None:
        """A plain function has returned this."""
        self._postponed = postponed
        if self._values:
            self.on_resume(self._values.pop(0))

    async def wait_readable(self, sock: socket.socket | int, timeout: float | None = None) -> None:
        """Return when this socket, or descriptor, has something to read, or an end. TimeoutError; ClientGoneError."""
        loop = self._server.loop
        fd = sock if isinstance(sock, int) else sock.fileno()
        ready: asyncio.Future[None] = loop.create_future()
        self._note(_BODY + str(fd), ready)
        loop.add_reader(fd, _wake, ready)
        try:
            await asyncio.wait_for(ready, timeout)
        finally:
            loop.remove_reader(fd)
            self._drop(_BODY + str(fd), ready)

    async def writable(self) -> None:
        """Return when the client has taken enough. ClientGoneError."""
        while not self.gone and self.phase != FINISHED and self._server.port.window(self.raw.key) <= 0:
            await self._wait(_WINDOW)
        if self.gone:
            raise ClientGoneError

    async def _wait(self, what: str) -> None:
        if self.gone:
            raise ClientGoneError
        waiter: asyncio.Future[None] = self._server.loop.create_future()
        self._note(what, waiter)
        try:
            await waiter
        finally:
            self._drop(what, waiter)

    def _note(self, what: str, waiter: asyncio.Future[None]) -> None:
        if self._waiters is None:
            self._waiters = {}
        self._waiters.setdefault(what, []).append(waiter)

    def _drop(self, what: str, waiter: asyncio.Future[None]) -> None:
        if self._waiters is not None and waiter in self._waiters.get(what, ()):
            self._waiters[what].remove(waiter)

    def _wake(self, what: str) -> None:
        for waiter in self._waiters.pop(what, ()) if self._waiters else ():
            _wake(waiter)

    # -- the process's side ------------------------------------------------------------------------------------

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
        self._wake(_BODY)

    def on_credit(self) -> None:
        if self._waiters and self._server.port.window(self.raw.key) > 0:
            self._wake(_WINDOW)

    def on_object(self, found: port.Object) -> None:
        self._found = found
        self._wake(_OBJECT)

    def on_gone(self) -> None:
        self.gone = True
        waiters = [waiter for waiters in (self._waiters or {}).values() for waiter in waiters]
        if self._resumer is not None:
            waiters.append(self._resumer)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(ClientGoneError())

    def on_resume(self, value: Any) -> None:
        if self.phase == FINISHED or self.gone:
            return
        if self._resumer is not None and not self._resumer.done():
            self._resumer.set_result(value)
        elif self._postponed is not None:
            postponed, self._postponed = self._postponed, None
            self._server.resumed(self, value, postponed.then)
        else:
            if self._values is None:
                self._values = []
            self._values.append(value)


def current_date() -> str:
    """The current date as HTTP writes it."""
    import time

    return format_date(int(time.time()))


def raw_fields(headers: Fields) -> RawFields:
    """Fields as the port takes them. ValueError, TypeError: they cannot be sent."""
    if not headers:
        return []
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


def _object_path(path: str) -> bytes:
    return (path if path.startswith("/") else "/" + path).encode("utf-8", "surrogateescape")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
