"""A request, as a handler sees it, and what a handler can do with it."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tux.modules.asked import Asked
from tux.modules.errors import ClientGoneError, MisuseError
from tux.modules.mime import type_of
from tux.modules.objects import Object
from tux.modules.waiting import OBJECT, WINDOW, wake

if TYPE_CHECKING:
    from tux.apps import port

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


class Request(Asked):
    """One request, from its head to the end of its answer. `return` something for most answers; or use `start`, `write`
    and `finish`, `send_object`, `redirect_to_server`, `postpone`."""

    event: int = 0
    """The handler's own, as `event` of tux(2)."""
    priv: Any = None
    """The handler's own, as `priv` of tux(2)."""
    phase: int = NEW
    kept: bool = False
    """The process keeps it: events may come for it."""
    task: asyncio.Task[None] | None = None
    pump: Any = None
    """The generator that gives the body."""
    is_due: bool = False
    """It is asked for more when others have had their turn."""

    _found: port.Object | None = None
    _resumer: asyncio.Future[Any] | None = None
    _postponed: Postponed | None = None
    _values: list[Any] | None = None
    """Of `resume`, before it was waited for."""

    # -- the answer --------------------------------------------------------------------------------------------

    def start(self, status: int = 200, headers: Fields = (), *, length: int = -1) -> None:
        """Send the head. `length`: Content-Length of a body that follows; else it ends with `finish`. MisuseError;
        ValueError: a field that cannot be sent."""
        self.start_raw(status, raw_fields(headers), length)

    def start_raw(self, status: int, fields: RawFields, length: int = -1) -> None:
        """The same with bytes."""
        self._begin()
        self._process.port.answer(self.raw.key, status, fields, length=length)
        self.phase = STARTED
        self._process.keep(self)

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
        port, key = self._process.port, self.raw.key
        if -port.window(key) > MAX_KEPT_BYTES:
            raise MisuseError(f"over {MAX_KEPT_BYTES} bytes wait for the client: await req.write()")
        port.data(key, data)
        return DONE if port.window(key) > 0 else Done(self)

    def write_file(self, file: int | Any, offset: int = 0, length: int = -1) -> Done:
        """Send bytes of a regular file as a piece of the body, by its descriptor, without reading them. `length`: -1 is
        up to its end. ValueError: it is no regular file, or has no such bytes."""
        fd = file if isinstance(file, int) else file.fileno()
        length = _extent(fd, offset, length)
        if self.phase == NEW:
            self.start()
        elif self.phase == FINISHED:
            raise MisuseError("write_file() after the answer was finished")
        if self.gone:
            return Done(self)
        port, key = self._process.port, self.raw.key
        port.file(key, fd, offset, length, end=False)
        return DONE if port.window(key) > 0 else Done(self)

    def finish(self, *, close: bool = False) -> Done:
        """The answer is complete. `close`: and the connection is closed; else the client may keep it. ValueError: there
        were fewer bytes than `start` said."""
        if self.phase == FINISHED:
            raise MisuseError("finish() after the answer was finished")
        if self.phase == NEW:
            return self.send(b"", 204, close=close)
        self._process.port.data(self.raw.key, b"", end=True, close=close)
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
        if self.phase != NEW:
            self._begin()
        raw, answer = self.raw, self._process.port.answer
        length = len(body) if raw.method == "HEAD" and status not in {204, 304} else -1
        if close:
            answer(raw.key, status, fields, length=length, body=body, end=True, close=True)
        elif self.handler.cache:
            answer(raw.key, status, fields, length=length, body=body, end=True, **self._remembered(status, fields))
        else:
            answer(raw.key, status, fields, length=length, body=body, end=True)
        self.phase = FINISHED
        if self.kept:
            self._process.finished(self)

    def _remembered(self, status: int, fields: RawFields) -> dict[str, Any]:
        """What the port is told when the handler declares its answers cacheable."""
        raw = self.raw
        if raw.method not in {"GET", "HEAD"} or not raw.complete or raw.body or status >= 500:
            return {}
        if any(name.lower() == b"set-cookie" for name, _ in fields):
            self._look("Set-Cookie")
        if self.uncovered:
            self._process.not_remembered(self)
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
        self._process.port.object(self.raw.key, _object_path(path), fields, status)
        self._end()
        return DONE

    async def get_object(self, path: str) -> Object:
        """Look up a file of the site by its path. FileNotFoundError, PermissionError, OSError: the static origin would
        answer 404, 403, or something else; ClientGoneError."""
        if self.phase == FINISHED:
            raise MisuseError("get_object() after the answer was finished")
        while self._is_waited_for(OBJECT):
            await self._wait(OBJECT)  # one lookup at a time
        self._found = None
        if not self._process.port.lookup(self.raw.key, _object_path(path)):
            raise ClientGoneError
        self._process.keep(self)
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
            await self._wait(OBJECT)

    def redirect_to_server(self) -> Done:
        """Give the request to the forwarded server of the site, which answers in place of the handler."""
        self._begin()
        self._process.port.next(self.raw.key, forward=True)
        self._end()
        return DONE

    def decline(self) -> Done:
        """Give the request to what the site tries next, as if there were no handler for it."""
        self._begin()
        self._process.port.next(self.raw.key)
        self._end()
        return DONE

    def abort(self) -> None:
        """Cut the connection: the client must not take what it got for whole."""
        if self.phase != FINISHED:
            self._process.port.abort(self.raw.key)
            self._end()

    def _begin(self) -> None:
        if self.phase != NEW:
            raise MisuseError("the request is answered already" if self.phase == FINISHED else "the answer has begun")

    def _end(self) -> None:
        self.phase = FINISHED
        if self.kept:
            self._process.finished(self)

    # -- waiting -----------------------------------------------------------------------------------------------

    def postpone(self, timeout: float | None = None, then: Callable[[Request, Any], Any] | None = None) -> Postponed:
        """Let the request wait until somebody calls `resume`, or `tux.resume` with its `token`. A coroutine awaits it,
        for the value; TimeoutError after so many seconds. A plain function returns it: the answer is then the value, or
        what `then(req, value)` makes of it."""
        self._process.keep(self)
        return Postponed(self, timeout, then)

    @property
    def token(self) -> str:
        """Names this request in `tux.resume`. Whoever has it, and runs as the same user, can continue the request."""
        self._look("the token")
        return self._process.token_of(self)

    def resume(self, value: Any = None) -> None:
        """Continue it, from any thread."""
        loop = self._process.loop
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
        self._resumer = self._process.loop.create_future()
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
        loop = self._process.loop
        fd = sock if isinstance(sock, int) else sock.fileno()
        ready: asyncio.Future[None] = loop.create_future()
        what = f"descriptor {fd}"
        self._note(what, ready)
        loop.add_reader(fd, wake, ready)
        try:
            await asyncio.wait_for(ready, timeout)
        finally:
            loop.remove_reader(fd)
            self._drop(what, ready)

    async def writable(self) -> None:
        """Return when the client has taken enough. ClientGoneError."""
        while not self.gone and self.phase != FINISHED and self._process.port.window(self.raw.key) <= 0:
            await self._wait(WINDOW)
        if self.gone:
            raise ClientGoneError

    # -- the process's side ------------------------------------------------------------------------------------

    def on_credit(self) -> None:
        if self._is_waited_for(WINDOW) and self._process.port.window(self.raw.key) > 0:
            self._wake(WINDOW)

    def on_object(self, found: port.Object) -> None:
        self._found = found
        self._wake(OBJECT)

    def on_gone(self) -> None:
        super().on_gone()
        if self._resumer is not None and not self._resumer.done():
            self._resumer.set_exception(ClientGoneError())

    def on_resume(self, value: Any) -> None:
        if self.phase == FINISHED or self.gone:
            return
        if self._resumer is not None and not self._resumer.done():
            self._resumer.set_result(value)
        elif self._postponed is not None:
            postponed, self._postponed = self._postponed, None
            self._process.resumed(self, value, postponed.then)
        else:
            if self._values is None:
                self._values = []
            self._values.append(value)


def raw_fields(headers: Fields) -> RawFields:
    """Fields as the port takes them. ValueError, TypeError: they cannot be sent."""
    if not headers:
        return []
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


def _extent(fd: int, offset: int, length: int) -> int:
    """How many bytes of the file are to be sent. Of anything else the server's loop could have to wait for them."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("only regular files can be sent by their descriptor")
    rest = found.st_size - offset
    if offset < 0 or rest < max(length, 0):
        raise ValueError(f"the file has {found.st_size} bytes: there are no {max(length, 0)} from {offset} on")
    return rest if length < 0 else length


def _object_path(path: str) -> bytes:
    return (path if path.startswith("/") else "/" + path).encode("utf-8", "surrogateescape")
