"""A server on an event loop, in a thread, on a fake port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.unit.apps.fakes import PATIENCE_S, Answer, LoopPort
from tux.apps import loop

LOOPS = ("asyncio", "uvloop")


class Running:
    """What `serve` does with the port, until it ends."""

    def __init__(self, port: LoopPort, serve: Callable[[LoopPort, Callable[[], None]], None]) -> None:
        """`serve` gets the port, and what is to be called when it is ready."""
        self.port = port
        self.is_ready = threading.Event()
        self.error: BaseException | None = None
        self._serve = serve
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._serve(self.port, self.is_ready.set)
        except BaseException as error:  # noqa: BLE001 (raised again by end())
            self.error = error

    def request(self, method: str = "GET", target: str = "/", **attributes: object) -> Answer:
        return self.port.request(method, target, **attributes)

    def get(self, target: str = "/", **attributes: object) -> Answer:
        return self.port.request("GET", target, **attributes).done()

    def end(self) -> None:
        """Drain, and wait until the process would end. Raises what serve() raised."""
        if self.thread.is_alive():
            self.port.drain()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error
        assert not self.port.errors


def serving(
    name: str, monkeypatch: pytest.MonkeyPatch, start: Callable[..., Running]
) -> Iterator[Callable[..., Running]]:
    """For a fixture: what starts servers on this loop of LOOPS. All have ended well at the end of the test, unless the
    test ended them."""
    if name == "asyncio":
        monkeypatch.setattr(loop, "new_loop", asyncio.new_event_loop)
    else:
        pytest.importorskip("uvloop")
    servers: list[Running] = []

    def started(*arguments: object, **options: object) -> Running:
        server = start(*arguments, **options)
        servers.append(server)
        return server

    yield started
    for server in servers:
        if server.error is None:
            server.end()
        server.port.close()
