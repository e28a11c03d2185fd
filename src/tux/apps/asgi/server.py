"""Serve an ASGI application: events of the port become calls of the application, each in a task of its own."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, cast

from tux.apps.asgi.handshake import HandshakeError, is_websocket, read_offer
from tux.apps.asgi.http import HttpExchange
from tux.apps.asgi.lifespan import Lifespan
from tux.apps.asgi.scope import Application, Scopes
from tux.apps.loop import LoopServer, run, without
from tux.apps.options import AppOptions
from tux.apps.port import BODY, CREDIT, DRAIN, GONE, REQUEST, Event, Port, Request

logger = logging.getLogger("tux.app")

_OURS: Final = os.path.dirname(__file__)
"""Frames of files in here say nothing to the application's author."""


class Exchange(Protocol):
    """What the server needs of a request at work, be it HTTP or a WebSocket."""

    key: int
    task: Any

    def run(self) -> Coroutine[Any, Any, None]: ...
    def on_body(self, data: bytes, *, end: bool) -> None: ...
    def on_credit(self) -> None: ...
    def on_gone(self, *, hard: bool) -> None: ...
    def on_drain(self) -> None: ...


def serve(port: Port, application: Application, options: AppOptions, ready: Callable[[], None] | None = None) -> None:
    """Serve until DRAIN came and all requests have ended, or their grace is over. `ready` is called when the
    application has started, before the first request. LoadError: it could not start."""
    run(lambda: _main(port, application, options, ready))


async def _main(
    port: Port, application: Application, options: AppOptions, ready: Callable[[], None] | None = None
) -> None:
    lifespan = Lifespan(application, options.name, options.lifespan)
    await lifespan.startup()
    if ready is not None:
        ready()
    try:
        await Server(port, application, options, lifespan.state).run()
    finally:
        await lifespan.shutdown()


class Server(LoopServer):
    """The requests of one process."""

    def __init__(self, port: Port, application: Application, options: AppOptions, state: dict[str, Any]) -> None:
        super().__init__(port, options)
        self.port = port
        self.application = application
        self.options = options
        self.scopes = Scopes(options.root_path, state)
        self._exchanges: dict[int, Exchange] = {}
        """Those at work, by key."""
        self._lingering: set[Exchange] = set()
        """Those at work that are answered, and whose key belongs to another one already."""

    def _cancel_all(self) -> int:
        left = [*self._exchanges.values(), *self._lingering]
        for exchange in left:
            exchange.task.cancel()
        return len(left)

    def _is_idle(self) -> bool:
        return not self._exchanges and not self._lingering

    # Events

    def _on_event(self, event: Event) -> bool:
        kind, key, payload = event
        if kind == REQUEST:
            self._begin(cast("Request", payload))
        elif kind == DRAIN:
            self._drain()
        elif (exchange := self._exchanges.get(key)) is not None:
            self._on_news(exchange, kind, payload)
        elif self.is_draining:
            self._check_idle()  # the port may have sent the last of what it kept
        return True

    def _on_news(self, exchange: Exchange, kind: int, payload: Any) -> None:
        """An event for an exchange at work."""
        if kind == BODY:
            data, end = cast("tuple[bytes, bool]", payload)
            exchange.on_body(data, end=end)
        elif kind == CREDIT:
            exchange.on_credit()
        elif kind == GONE:
            exchange.on_gone(hard=bool(payload))

    # Requests

    def _begin(self, request: Request) -> None:
        exchange: Exchange
        if request.upgrade and is_websocket(request):
            from tux.apps.asgi.websocket import WebSocketExchange  # wsproto is needed by WebSockets only

            try:
                exchange = WebSocketExchange(self, request, read_offer(request.headers))
            except HandshakeError as error:
                self._refuse(request, error)
                return
        else:
            exchange = HttpExchange(self, request)
        key = exchange.key
        if key in self._exchanges:
            self._lingering.add(self._exchanges[key])
        self._exchanges[key] = exchange
        exchange.task = asyncio.Task(exchange.run(), loop=self.loop)

    def _refuse(self, request: Request, error: HandshakeError) -> None:
        body = error.reason.encode()
        fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
        self.port.answer(request.key, error.status, [*fields, *error.fields], body=body, end=True)

    def ended(self, exchange: Exchange) -> None:
        """The application has returned."""
        if self._exchanges.get(exchange.key) is exchange:
            del self._exchanges[exchange.key]
        else:
            self._lingering.discard(exchange)
        if self.is_draining:
            self._check_idle()

    def _drain(self) -> None:
        if self.is_draining:
            return
        super()._drain()
        for exchange in list(self._exchanges.values()):
            exchange.on_drain()

    # The log

    def report(self, request: Request, error: BaseException) -> None:
        """The application failed."""
        self._log(request, "the application failed", without(_OURS, error))

    def complain(self, request: Request, what: str) -> None:
        """The application does not keep to the specification."""
        self._log(request, f"the application {what}", None)

    def _log(self, request: Request, what: str, error: Any) -> None:
        target = request.target.decode("ascii", "backslashreplace")
        logger.error("app %s: %s %s: %s", self.options.name, request.method, target, what, exc_info=error)
