"""Serve modules: a process has one loop, which calls plain functions itself and runs coroutines as tasks."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any, Final

from tux import modules
from tux._engine import SIGNIFICANT_BY_DEFAULT
from tux.apps import forked
from tux.apps.load import LoadError
from tux.apps.loop import LoopServer, run, without
from tux.apps.module.answers import BYTES, TEXT, answer, first_fields
from tux.apps.module.box import Box
from tux.apps.module.watchdog import Watchdog
from tux.apps.options import ModuleOptions
from tux.apps.port import BODY, CREDIT, DRAIN, GONE, OBJECT, REQUEST, Event, Port
from tux.http.target import TargetError, decode_path
from tux.modules.errors import ClientGoneError, TooLargeError
from tux.modules.registry import Handler, Kind, Registry
from tux.modules.request import FINISHED, NEW, Request

logger = logging.getLogger("tux.app")

_OURS: Final = (os.path.dirname(__file__), os.path.dirname(modules.__file__))
"""Frames of files in here say nothing to the author of a handler."""
_TEXT: Final = [(b"content-type", b"text/plain; charset=utf-8")]
COVERED: Final = SIGNIFICANT_BY_DEFAULT - {"range", "host"}
"""Fields that a handler may look at, and the answer is remembered all the same. Of Range the numbers are not covered;
of Host the case is not (`Request.host` has it in lower case)."""


def serve(port: Port, registry: Registry, options: ModuleOptions, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until DRAIN came and all requests have ended, or their grace is over. `ready` is called before the first
    request. LoadError: a class could not be made."""
    run(lambda: _main(port, registry, options, ready))


async def _main(port: Port, registry: Registry, options: ModuleOptions, ready: Callable[[], None]) -> None:
    for handler in registry.handlers:
        try:
            handler.bind()
        except (Exception, SystemExit) as error:
            raise LoadError.of(f"{handler.name}, which is for {handler.path}, could not be made", error) from error
    server = ModuleServer(port, registry, options)
    watchdog = Watchdog(server.loop, options.report_blocked, options.label, server.at_work)
    ready()
    if options.report_blocked:
        watchdog.start()
    try:
        await server.run()
    finally:
        if options.report_blocked:
            watchdog.stop()


class ModuleServer(LoopServer):
    """The requests of one process."""

    def __init__(self, port: Port, registry: Registry, options: ModuleOptions) -> None:
        super().__init__(port, options)
        self.port = port
        self.options = options
        self.max_body = options.max_body
        self.covered = COVERED
        self._registry = registry
        self._answer = port.answer
        self._exact = {
            path: handler for handler in registry.handlers if self._find(path := handler.path.encode()) is handler
        }
        """By the path as sent, where nothing in it is encoded: most requests."""
        self._simple = {path: handler for path, handler in self._exact.items() if handler.is_simple}
        """Those that `_call_simple` can call for GET."""
        self._requests: dict[int, Request] = {}
        """Those for which events may come, by key."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._box = Box(self.loop)
        self.current: Request | None = None
        """Whose plain function runs."""

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._box.close()

    def _cancel_all(self) -> int:
        left = len(self._requests.keys() | {id(task) for task in self._tasks})
        for task in self._tasks:
            task.cancel()
        for request in list(self._requests.values()):
            if request.task is None or request.task.done():
                self._refuse(request, 503, b"Service Unavailable")
        return left

    def _is_idle(self) -> bool:
        return not self._requests and not self._tasks

    # -- events ------------------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        kind, key, payload = event
        if kind == REQUEST:
            handler = self._simple.get(payload.path)
            if handler is not None and payload.method == "GET" and payload.complete and not payload.body:
                self._call_simple(key, Request(self, payload, handler), handler)
                return
            handler = self._exact.get(payload.path) or self._find(payload.path)
            if handler is None:
                self.port.next(key)
                self.wrote()
            else:
                self._begin(Request(self, payload, handler))
            return
        if kind == DRAIN:
            self._drain()
            return
        request = self._requests.get(key)
        if request is None:
            if kind == OBJECT and payload.fd >= 0:
                os.close(payload.fd)
            return
        if kind == BODY:
            request.on_body(*payload)
            if request.task is None and request.phase == NEW:
                self._when_complete(request)
        elif kind == CREDIT:
            request.on_credit()
            if request.pump is not None:
                self._pump(request)
        elif kind == OBJECT:
            request.on_object(payload)
        elif kind == GONE and payload:
            request.on_gone()
            if request.task is None:
                self._close_pump(request)
            self.finished(request)

    def _find(self, path: bytes) -> Handler | None:
        try:
            decoded = decode_path(path.decode("latin-1"))
        except TargetError:
            return None
        return self._registry.find(decoded.decode("utf-8", "surrogateescape"))

    # -- requests ----------------------------------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        handler = request.handler
        if handler.methods and request.raw.method not in handler.methods:
            allow = ", ".join(handler.methods).encode()
            request.answer(405, [*_TEXT, (b"allow", allow)], b"Method Not Allowed")
            return
        call, kind = handler.call, handler.kind
        if handler.verbs is not None:
            call, kind = handler.verbs[request.raw.method]
        if kind == Kind.ASYNC:
            self._spawn(request, self._run(request, call))
        elif kind == Kind.ASYNC_GENERATOR:
            self._spawn(request, self._stream(request, call(request)))
        elif request.raw.complete and not request.raw.body:
            self._call(request, call)
        else:
            self._requests[request.raw.key] = request
            self._when_complete(request)

    def _call_of(self, request: Request) -> Callable[[Request], Any]:
        verbs = request.handler.verbs
        return request.handler.call if verbs is None else verbs[request.raw.method][0]

    def _when_complete(self, request: Request) -> None:
        """Call a plain function as soon as the body is there."""
        try:
            if request.collect():
                del self._requests[request.raw.key]
                self._call(request, self._call_of(request))
        except TooLargeError as error:
            self._fail(request, error)

    def _call_simple(self, key: int, request: Request, handler: Handler) -> None:
        """What `_call` does, in less time: for a plain function that returns text or bytes, and does nothing else."""
        self.current = request
        try:
            result = handler.call(request)
            kind = type(result)
            if request.phase or request.kept or forked.here:
                pass
            elif kind is str:
                self._answer(key, 200, handler.fields or TEXT, body=result.encode(), end=True)
                request.phase = FINISHED
                self.wrote()
                return
            elif kind is bytes:
                self._answer(key, 200, handler.fields or BYTES, body=result, end=True)
                request.phase = FINISHED
                self.wrote()
                return
        except BaseException as error:  # noqa: BLE001 (as below)
            self._fail(request, error)
            return
        finally:
            self.current = None
        self._call(request, lambda _: result)

    def _call(self, request: Request, call: Callable[[Request], Any]) -> None:
        self.current = request
        try:
            result = call(request)
            if forked.here:
                forked.leave(None)
            stream = answer(request, result)
            if stream is not None:
                self._flow(request, stream)
        except BaseException as error:  # noqa: BLE001 (whatever it is, the client gets an answer and the log a line)
            self._fail(request, error)
        self.current = None

    def _spawn(self, request: Request, coroutine: Any) -> None:
        self._requests[request.raw.key] = request
        task = request.task = asyncio.Task(coroutine, loop=self.loop)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self.is_draining:
            self._check_idle()

    async def _run(self, request: Request, call: Callable[[Request], Any]) -> None:
        try:
            result = await call(request)
            if forked.here:
                forked.leave(None)
            stream = answer(request, result)
            if stream is not None:
                if hasattr(stream, "__anext__"):
                    await self._send_pieces(request, stream)
                else:
                    request.task = None
                    self._flow(request, stream)
        except BaseException as error:  # noqa: BLE001 (as above)
            self._fail(request, error)

    # -- streams -----------------------------------------------------------------------------------------------

    def _flow(self, request: Request, stream: Any) -> None:
        """Send what a generator yields."""
        self._requests[request.raw.key] = request
        if hasattr(stream, "__anext__"):
            self._spawn(request, self._stream(request, stream))
        else:
            request.pump = stream
            self._pump(request)

    def _pump(self, request: Request) -> None:
        """Ask the generator for more, until the client has enough for now. One that waits is one that blocks all."""
        self.current = request
        port, key = self.port, request.raw.key
        pump = request.pump
        try:
            while True:
                if request.phase == FINISHED:
                    self._close_pump(request)
                    return
                if request.phase != NEW and port.window(key) <= 0:
                    return
                try:
                    piece = next(pump)
                except StopIteration:
                    if forked.here:
                        forked.leave(None)
                    request.pump = None
                    self._end_stream(request)
                    return
                if piece:
                    self._write(request, piece)
        except BaseException as error:  # noqa: BLE001 (as above)
            request.pump = None
            self._fail(request, error)
        finally:
            self.current = None

    def _write(self, request: Request, piece: Any) -> Any:
        if request.phase == NEW:
            request.start_raw(200, first_fields(request, piece))
        return request.write(piece)

    def _end_stream(self, request: Request) -> None:
        if request.phase == NEW:
            request.answer(200, first_fields(request, b""), b"")
        elif request.phase != FINISHED:
            request.finish()

    async def _stream(self, request: Request, stream: Any) -> None:
        try:
            await self._send_pieces(request, stream)
        except BaseException as error:  # noqa: BLE001 (as above)
            self._fail(request, error)

    async def _send_pieces(self, request: Request, stream: Any) -> None:
        try:
            async for piece in stream:
                if piece:
                    await self._write(request, piece)
            if forked.here:
                forked.leave(None)
            self._end_stream(request)
        finally:
            await stream.aclose()

    def _close_pump(self, request: Request) -> None:
        pump, request.pump = request.pump, None
        if pump is not None and hasattr(pump, "close"):
            try:
                pump.close()
            except BaseException as error:  # noqa: BLE001 (as above)
                self._report(request, error)

    # -- what requests ask for ---------------------------------------------------------------------------------

    def keep(self, request: Request) -> None:
        """Events may come for it."""
        if not request.gone and request.phase != FINISHED:
            request.kept = True
            self._requests[request.raw.key] = request

    def finished(self, request: Request) -> None:
        """No event of the port is for it any more."""
        if self._requests.get(request.raw.key) is request:
            del self._requests[request.raw.key]
        self._box.forget(request)
        if self.is_draining:
            self._check_idle()

    def token_of(self, request: Request) -> str:
        """OSError: there can be no socket for it to come back by."""
        self.keep(request)
        return self._box.token_of(request)

    def resumed(self, request: Request, value: Any, then: Callable[[Request, Any], Any] | None) -> None:
        """A plain function postponed the request, and somebody has continued it."""
        if then is None:
            self._call(request, lambda _: value)
        elif asyncio.iscoroutinefunction(then):
            self._spawn(request, self._run(request, lambda req: then(req, value)))
        else:
            self._call(request, lambda req: then(req, value))

    # -- failures ----------------------------------------------------------------------------------------------

    def at_work(self) -> str:
        """Which request is worked on now, for the log. Called by another thread: it may be over by then."""
        request = self.current
        task = asyncio.current_task(self.loop)
        if task is not None:
            request = next((one for one in list(self._requests.values()) if one.task is task), None)
        return "" if request is None else f"{request.handler.name}, for {_name(request)},"

    def _fail(self, request: Request, error: BaseException) -> None:
        if forked.here:
            forked.leave(error)
        self._close_pump(request)
        if isinstance(error, TooLargeError):
            self._refuse(request, 413, b"Content Too Large")
            return
        if isinstance(error, asyncio.CancelledError) and self.is_ending:
            self._refuse(request, 503, b"Service Unavailable")
            return
        if not (isinstance(error, ClientGoneError) and request.gone):
            self._report(request, error)
        self._refuse(request, 500, b"Internal Server Error")

    def _refuse(self, request: Request, status: int, body: bytes) -> None:
        """This answer if none has begun, else cut the connection: the client must not believe it whole."""
        if request.gone:
            self.finished(request)
        elif request.phase == NEW:
            self.port.answer(request.raw.key, status, _TEXT, body=body, end=True)
            request.phase = FINISHED
            self.wrote()
            self.finished(request)
        else:
            request.abort()

    def _report(self, request: Request, error: BaseException) -> None:
        logger.error(
            "%s: %s: the handler %s failed",
            self.options.label,
            _name(request),
            request.handler.name,
            exc_info=without(_OURS, error),
        )

    def not_remembered(self, request: Request) -> None:
        """It is declared cacheable, and is not."""
        handler = request.handler
        if not handler.complained:
            handler.complained = True
            logger.warning(
                "%s: answers of the handler %s are not remembered, though it is declared with cache=%g: it looks at %s",
                self.options.label,
                handler.name,
                handler.cache,
                request.uncovered,
            )


def _name(request: Request) -> str:
    """For the log."""
    return f"{request.raw.method} {request.raw.target.decode('ascii', 'backslashreplace')}"
