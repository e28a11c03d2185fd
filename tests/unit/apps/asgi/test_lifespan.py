"""The lifespan of ASGI applications."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.unit.apps.asgi.conftest import Serve
from tests.unit.apps.asgi.test_http import hello
from tests.unit.apps.running import Running
from tux.apps.asgi.scope import Message, Receive, Scope, Send
from tux.apps.load import LoadError


class App:
    """Notes what it is told; `startup` and `shutdown` are what it answers, or raises."""

    def __init__(self, startup: Message | Exception | None = None, shutdown: Message | Exception | None = None) -> None:
        self.answers = [
            startup or {"type": "lifespan.startup.complete"},
            shutdown or {"type": "lifespan.shutdown.complete"},
        ]
        self.calls: list[str] = []
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.calls.append("http")
            await hello(scope, receive, send)
            return
        self.scope = scope
        for answer in self.answers:
            self.calls.append((await receive())["type"])
            if isinstance(answer, Exception):
                raise answer
            await send(answer)
            if answer["type"].endswith(".failed"):
                raise RuntimeError("as Starlette does it")
        self.calls.append("end")


def failed(server: Running) -> LoadError:
    with pytest.raises(LoadError) as caught:
        server.end()
    assert not server.is_ready.is_set()
    return caught.value


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_the_life(serve: Serve, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    server = serve(app, lifespan=mode)
    server.get()
    server.end()
    assert app.calls == ["lifespan.startup", "http", "lifespan.shutdown", "end"]
    assert app.scope == {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    assert not caplog.records


def test_off(serve: Serve) -> None:
    app = App()
    server = serve(app, lifespan="off")
    server.get()
    server.end()
    assert app.calls == ["http"]


def test_requests_wait_until_the_start_is_complete(serve: Serve) -> None:
    go = threading.Event()
    app = App()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while not go.is_set():
                await asyncio.sleep(0.001)
        await app(scope, receive, send)

    server = serve(slow)
    answer = server.request()
    assert not server.is_ready.is_set()
    go.set()
    answer.done()
    assert server.is_ready.is_set()
    assert app.calls == ["lifespan.startup", "http"]


def test_shutdown_comes_when_all_requests_have_ended(serve: Serve) -> None:
    app = App()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        if scope["type"] == "http":
            for _ in range(20):
                await asyncio.sleep(0.002)
            app.calls.append("after")

    server = serve(slow)
    server.get()
    server.end()
    assert app.calls == ["lifespan.startup", "http", "after", "lifespan.shutdown", "end"]


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_the_application_says_that_it_failed(serve: Serve, mode: str) -> None:
    """Starlette's message is a whole traceback."""
    trace = 'Traceback (most recent call last):\n  File "shop.py", line 3\nConnectionError: no database\n'
    error = failed(serve(App({"type": "lifespan.startup.failed", "message": trace}), lifespan=mode))
    assert error.message == "its start failed: ConnectionError: no database"
    assert error.trace == trace


@pytest.mark.parametrize(("message", "text"), [({"message": "no database"}, ": no database"), ({}, "")])
def test_the_application_says_that_it_failed_in_a_word(serve: Serve, message: dict[str, Any], text: str) -> None:
    error = failed(serve(App({"type": "lifespan.startup.failed", **message})))
    assert (error.message, error.trace) == (f"its start failed{text}", "")


def test_an_exception_at_the_start_with_on(serve: Serve) -> None:
    error = failed(serve(App(ValueError("no lifespan here")), lifespan="on"))
    assert error.message == "its start failed: ValueError: no lifespan here"
    assert "Traceback" in error.trace
    assert "raise answer" in error.trace


def test_an_exception_at_the_start_with_auto(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The application does not know of it."""
    app = App(ValueError("no lifespan here"))
    server = serve(app, lifespan="auto")
    server.get()
    server.end()
    assert app.calls == ["lifespan.startup", "http"]
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_an_application_that_returns_at_once(serve: Serve, mode: str) -> None:
    server = serve(hello, lifespan=mode)
    if mode == "on":
        assert "ended before its start was complete" in failed(server).message
    else:
        assert server.get().body == b"Hello"


def test_leaving_by_sys_exit_is_an_error_like_others(serve: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise SystemExit(3)

    assert "SystemExit(3)" in failed(serve(app, lifespan="on")).message


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"type": "lifespan.shutdown.failed", "message": "disk full"}, "its shutdown failed: disk full"),
        (ValueError("disk full"), "its shutdown failed"),
    ],
)
def test_a_shutdown_that_fails_is_in_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture, answer: Message | Exception, text: str
) -> None:
    server = serve(App(None, answer))
    server.get()
    server.end()
    assert text in caplog.text
    assert "disk full" in caplog.text


def test_messages_out_of_order(serve: Serve) -> None:
    error = failed(serve(App({"type": "lifespan.shutdown.complete"}), lifespan="on"))
    assert "Unexpected ASGI message 'lifespan.shutdown.complete' during lifespan." in error.message


def test_tasks_that_the_application_left_are_cancelled(serve: Serve) -> None:
    cancelled = threading.Event()
    app = App()
    tasks = []

    async def leaves_a_task(scope: Scope, receive: Receive, send: Send) -> None:
        async def forever() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                cancelled.set()

        if scope["type"] == "lifespan":
            tasks.append(asyncio.create_task(forever()))
        await app(scope, receive, send)

    server = serve(leaves_a_task)
    server.get()
    server.end()
    assert cancelled.is_set()
