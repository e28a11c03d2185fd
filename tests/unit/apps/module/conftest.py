"""A running process of modules, on a fake port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.apps.asgi.conftest import AsgiPort
from tests.unit.apps.fakes import PATIENCE_S, Answer
from tux.apps.module import server as module_server
from tux.apps.options import ModuleOptions
from tux.apps.port import OBJECT, Fields
from tux.modules.registry import Registry


class FakeModulePort(AsgiPort):
    """With what modules can do more."""

    def __init__(self, *, reads: bool = True) -> None:
        super().__init__(reads=reads)
        self.said: dict[int, dict[str, Any]] = {}
        """What `answer` was told beyond the answer."""
        self.closed: set[int] = set()
        self.objects: dict[int, tuple[bytes, Fields, int]] = {}
        self.given: dict[int, str] = {}
        """Declined: "next" or "forward"."""
        self.lookups: list[tuple[int, bytes]] = []

    def answer(self, key: int, status: int, fields: Any, **options: Any) -> bool:
        said: dict[str, Any] = {
            name: options.pop(name) for name in ("remember_ms", "ignore_query", "close") if name in options
        }
        sent = super().answer(key, status, fields, **options)
        self.said[key] = said
        if said.get("close"):
            self.closed.add(key)
        return sent

    def data(self, key: int, body: Any, end: bool = False, close: bool = False) -> bool:
        if close:
            self.closed.add(key)
        return super().data(key, body, end)

    def object(self, key: int, path: bytes, fields: Fields = (), status: int = 0) -> bool:
        self.objects[key] = (path, fields, status)
        return super().answer(key, status or 200, fields, body=b"object", end=True)

    def lookup(self, key: int, path: bytes) -> bool:
        with self.changed:
            self.lookups.append((key, path))
            self.changed.notify_all()
        return True

    def next(self, key: int, forward: bool = False) -> None:
        self.given[key] = "forward" if forward else "next"
        super().next(key)

    # What tests do

    def found(self, fd: int = -1, status: int = 200, size: int = 0) -> bytes:
        """Answer the next lookup: its path."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.lookups, PATIENCE_S)
            key, path = self.lookups.pop(0)
        found = SimpleNamespace(status=status, size=size, media_type=b"text/plain", etag=b'"e"', modified=10**9, fd=fd)
        self._put((OBJECT, key, found))
        return path


class Running:
    """Modules that are served in a thread."""

    def __init__(self, handlers: Registry, *, reads: bool = True, **options: Any) -> None:
        self.port = FakeModulePort(reads=reads)
        options.setdefault("grace", PATIENCE_S)
        self.options = ModuleOptions(name="shop", **options)
        self.is_ready = threading.Event()
        self.error: BaseException | None = None
        self._handlers = handlers
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            module_server.serve(self.port, self._handlers, self.options, self.is_ready.set)
        except BaseException as error:  # noqa: BLE001 (raised again by end())
            self.error = error

    def request(self, method: str = "GET", target: str = "/", **attributes: object) -> Answer:
        return self.port.request(method, target, **attributes)

    def get(self, target: str = "/", **attributes: object) -> Answer:
        return self.port.request("GET", target, **attributes).done()

    def end(self) -> None:
        """Drain, and wait until the process would end. Raises what serve() raised."""
        if self._thread.is_alive():
            self.port.drain()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        assert not self.port.errors


Serve = Callable[..., Running]
"""Of handlers: one for "/", or path -> handler or (handler, what `Registry.add` takes)."""


def registry_of(handlers: Any) -> Registry:
    registry = Registry()
    for path, entry in (handlers if isinstance(handlers, dict) else {"/": handlers}).items():
        handler, more = entry if isinstance(entry, Sequence) else (entry, {})
        registry.add(path, handler, **more)
    return registry


@pytest.fixture(params=["asyncio", "uvloop"])
def serve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serve handlers, on each loop. All have ended well at the end of the test, unless the test ended them."""
    if request.param == "asyncio":
        monkeypatch.setattr(module_server, "new_loop", asyncio.new_event_loop)
    else:
        pytest.importorskip("uvloop")
    servers: list[Running] = []

    def start(handlers: Any, **options: Any) -> Running:
        server = Running(registry_of(handlers), **options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        if server.error is None:
            server.end()
        server.port.close()
