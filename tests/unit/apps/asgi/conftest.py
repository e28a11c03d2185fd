"""A running server of ASGI applications, on a fake port."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.apps.fakes import WINDOW_BYTES, Answer, FakePort
from tux.apps.asgi import server as asgi
from tux.apps.asgi.scope import Application
from tux.apps.options import AppOptions
from tux.apps.port import Event, Fields

PATIENCE_S = 20.0


class AsgiPort(FakePort):
    """With a descriptor, and as patient with bodies and fields as the real one."""

    def __init__(self, *, reads: bool = True) -> None:
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.methods: dict[int, str] = {}
        super().__init__(reads=reads)

    def close(self) -> None:
        os.close(self._event_fd)

    def fileno(self) -> int:
        return self._event_fd

    def _put(self, event: Event) -> None:
        super()._put(event)
        os.eventfd_write(self._event_fd, 1)

    def awake(self) -> None:
        try:
            os.eventfd_read(self._event_fd)
        except BlockingIOError:
            pass

    def answer(self, key: int, status: int, fields: Any, **options: Any) -> bool:
        """Content-Length may be among the fields; those of the connection are left out."""
        lengths = [int(value) for name, value in fields if name.lower() == b"content-length"]
        plain = [(name, value) for name, value in fields if name.lower() not in {b"content-length", b"connection"}]
        body = bytes(options.pop("body", b""))
        length = options.pop("length", -1)
        if lengths:
            if length not in {-1, lengths[0]}:
                raise ValueError("two lengths")
            length = lengths[0]
        method = self.methods.get(key, "GET")
        if method == "HEAD" or status in {204, 304}:
            kept = b""
        else:
            kept = body
            if options.get("end") and not options.get("trailers"):
                length = len(body) if length < 0 else length
                if length != len(body):
                    raise ValueError(f"{len(body)} bytes of a body of {length}")
        return super().answer(key, status, plain, length=length, body=kept, **options)

    def upgrade(self, key: int, fields: Fields) -> bool:
        """With Upgrade among the fields."""
        assert (b"upgrade", b"websocket") in fields
        sent = super().upgrade(key, [field for field in fields if field[0] != b"upgrade"])
        self.answers[key].fields = list(fields)
        return sent

    def request(self, method: str = "GET", target: str = "/", **attributes: object) -> Answer:
        with self.changed:
            self.methods[self._key + 1] = method
            return super().request(method, target, **attributes)

    def _take(self, answer: Answer, body: bytes, end: bool) -> bool:
        """More than the window is kept, not refused."""
        if body and self.methods.get(answer.key) != "HEAD":
            answer.pieces.append(body)
            answer.unread += len(body)
            if self.reads:
                self.read(answer, len(body))
        self._end(answer, end)
        return True

    def window(self, key: int) -> int:
        with self._call():
            answer = self._open(key)
            return 0 if answer is None else WINDOW_BYTES - answer.unread


class Running:
    """An application that is served in a thread."""

    def __init__(self, application: Application, *, reads: bool = True, **options: Any) -> None:
        self.port = AsgiPort(reads=reads)
        options.setdefault("grace", PATIENCE_S)
        self.options = AppOptions(name="shop", module="shop:app", **options)
        self.is_ready = threading.Event()
        self.error: BaseException | None = None
        self._application = application
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            asgi.serve(self.port, self._application, self.options, self.is_ready.set)
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


@pytest.fixture(params=["asyncio", "uvloop"])
def serve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serve an application, on each loop. All have ended well at the end of the test, unless the test ended them."""
    if request.param == "asyncio":
        monkeypatch.setattr(asgi, "new_loop", asyncio.new_event_loop)
    else:
        pytest.importorskip("uvloop")
    servers: list[Running] = []

    def start(application: Application, **options: Any) -> Running:
        server = Running(application, **options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        if server.error is None:
            server.end()
        server.port.close()
