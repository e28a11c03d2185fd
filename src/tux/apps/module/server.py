"""Serve modules: a process has one loop, which calls plain functions itself and runs coroutines as tasks."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from tux import modules
from tux._engine import SIGNIFICANT_BY_DEFAULT
from tux.apps import forked
from tux.apps.load import LoadError
from tux.apps.loop import LoopServer, run, without
from tux.apps.module.answers import answer, first_fields
from tux.apps.module.box import Box
from tux.apps.module.watchdog import Watchdog
from tux.apps.options import ModuleOptions
from tux.apps.port import BODY, CREDIT, DRAIN, GONE, OBJECT, REQUEST, Event, Port
from tux.apps.refusal import refuse
from tux.apps.turns import TURN_SECONDS
from tux.http.errors import page, page_fields
from tux.http.target import TargetError, decode_path
from tux.modules.errors import ClientGoneError, TooLargeError
from tux.modules.registry import Handler, Kind, Registry
from tux.modules.request import FINISHED, NEW, Request

logger = logging.getLogger("tux.app")

_OURS: Final = (os.path.dirname(__file__), os.path.dirname(modules.__file__))
"""Frames of files in here say nothing to the author of a handler."""
MAX_PATHS: Final = 4096
"""Paths whose handlers are remembered: clients choose them, so there has to be an end ..."""
MAX_PATH_BYTES: Final = 256
"""... as to the memory, 4 MB in all. Most are shorter."""
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
        self._found: dict[bytes, tuple[Handler | None, str]] = {}
        """What `_find` has found."""
        self._requests: dict[int, Request] = {}
        """Those for which events may come, by key."""
        self._running: set[Request] = set()
        """Those whose handlers are tasks that have not ended. Some are answered."""
        self._box = Box(self.loop)
        self.current: Request | None = None
        """Whose plain function runs."""

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._box.close()

    def _cancel_all(self) -> int:
        left = {*self._requests.values(), *self._running}
        for request in left:
            if request.task is not None and not request.task.done():
                request.task.cancel()
            else:
                self._refuse(request, 503)
        return len(left)

    def _is_idle(self) -> bool:
        return not self._requests and not self._running

    # -- events ------------------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> bool:
        kind, key, payload = event
        if kind == REQUEST:
            try:
                handler, path = self._found[payload.path]
            except KeyError:
                handler, path = self._find(payload.path)
            if handler is None:
                self.port.next(key)
                return False
            request = Request(self, payload, path, handler)
            if handler.is_simple and payload.method == "GET" and payload.complete and not payload.body:
                self._call(request, handler.call)
            else:
                self._begin(request)
            return request.kept
        if kind == DRAIN:
            self._drain()
        elif (known := self._requests.get(key)) is not None:
            self._on_news(known, kind, payload)
        elif kind == OBJECT and payload.fd >= 0:
            os.close(payload.fd)
        elif self.is_draining:
            self._check_idle()  # the port may have sent the last of what it kept
        return True

    def _on_news(self, request: Request, kind: int, payload: Any) -> None:
        """An event for a request at work."""
        if kind == BODY:
            request.on_body(*payload)
            if request.task is None and request.phase == NEW:
                self._when_complete(request)
        elif kind == CREDIT:
            request.on_credit()
            if request.pump is not None and not request.is_due:
                self._pump(request)
        elif kind == OBJECT:
            request.on_object(payload)
        elif kind == GONE and payload:
            request.on_gone()
            if request.task is None:
                self._close_pump(request)
            self.finished(request)

    def _find(self, path: bytes) -> tuple[Handler | None, str]:
        """The handler for this path as it was sent, and the path decoded."""
        try:
            decoded = decode_path(path.decode("latin-1")).decode("utf-8", "surrogateescape")
        except TargetError:
            return None, ""
        found = self._registry.find(decoded), decoded
        if len(path) <= MAX_PATH_BYTES:
            if len(self._found) >= MAX_PATHS:
                self._found.clear()
            self._found[path] = found
        return found

    # -- requests ----------------------------------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        handler = request.handler
        if handler.methods and request.raw.method not in handler.methods:
            allow = ", ".join(handler.methods).encode()
            request.answer(405, [*page_fields(405), (b"Allow", allow)], page(405))
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
            self.keep(request)
            self._when_complete(request)

    def _call_of(self, request: Request) -> Callable[[Request], Any]:
        verbs = request.handler.verbs
        return request.handler.call if verbs is None else verbs[request.raw.method][0]

    def _when_complete(self, request: Request) -> None:
        """Call a plain function as soon as the body is there."""
        try:
            if request.collect():
                self._call(request, self._call_of(request))
        except TooLargeError as error:
            self._fail(request, error)

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
        self.keep(request)
        self._running.add(request)
        request.task = asyncio.Task(coroutine, loop=self.loop)

    def _ended(self, request: Request) -> None:
        """Its task does nothing more."""
        self._running.discard(request)
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
        finally:
            self._ended(request)

    # -- streams -----------------------------------------------------------------------------------------------

    def _flow(self, request: Request, stream: Any) -> None:
        """Send what a generator yields."""
        self.keep(request)
        if hasattr(stream, "__anext__"):
            self._spawn(request, self._stream(request, stream))
        else:
            request.pump = stream
            self._pump(request)

    def _pump_on(self, request: Request) -> None:
        """Others had their turn."""
        request.is_due = False
        if request.pump is not None:
            self._pump(request)

    def _pump(self, request: Request) -> None:
        """Ask the generator for more, until the client has enough for now, or others are to have their turn. One that
        waits is one that blocks all."""
        self.current = request
        port, key = self.port, request.raw.key
        pump = request.pump
        end = monotonic() + TURN_SECONDS
        try:
            while True:
                if request.phase == FINISHED or request.gone:
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
                if monotonic() > end:
                    request.is_due = True
                    self.loop.call_soon(self._pump_on, request)
                    return
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
        finally:
            self._ended(request)

    async def _send_pieces(self, request: Request, stream: Any) -> None:
        end = monotonic() + TURN_SECONDS
        try:
            async for piece in stream:
                if piece:
                    await self._write(request, piece)
                if monotonic() > end:
                    await asyncio.sleep(0)
                    end = monotonic() + TURN_SECONDS
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
            request = next((one for one in list(self._running) if one.task is task), None)
        return "" if request is None else f"{request.handler.name}, for {_name(request)},"

    def _fail(self, request: Request, error: BaseException) -> None:
        if forked.here:
            forked.leave(error)
        self._close_pump(request)
        if isinstance(error, TooLargeError):
            self._refuse(request, 413)
            return
        if isinstance(error, asyncio.CancelledError) and self.is_ending:
            self._refuse(request, 503)
            return
        if not (isinstance(error, ClientGoneError) and request.gone):
            self._report(request, error)
        self._refuse(request, 500)

    def _refuse(self, request: Request, status: int) -> None:
        """This answer if none has begun, else cut the connection: the client must not believe it whole."""
        if request.gone:
            self.finished(request)
        elif request.phase == NEW:
            refuse(self.port, request.raw.key, status)
            request.phase = FINISHED
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
