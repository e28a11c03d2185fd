"""HTTP requests at ASGI applications."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.unit.apps.asgi.conftest import Serve
from tests.unit.apps.fakes import PATIENCE_S, WINDOW_BYTES, Answer
from tux.apps.asgi.scope import Application, Message, Receive, Scope, Send
from tux.apps.port import CREDIT

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send(START)
        await send(body(b"Hello"))


class Sends:
    """An application that sends messages, and notes what comes of it."""

    def __init__(self, *messages: Message) -> None:
        self.messages = messages
        self.scope: Scope = {}
        self.results: list[BaseException | None] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.scope = scope
        for message in self.messages:
            try:
                await send(message)
                self.results.append(None)
            except Exception as error:  # noqa: BLE001 (what tests look at)
                self.results.append(error)


def answered(serve: Serve, app: Application, method: str = "GET", **attributes: Any) -> Answer:
    """The answer to one request, when the application has ended."""
    server = serve(app, lifespan="off")
    answer = server.request(method, **attributes).done()
    server.end()
    return answer


def test_a_small_answer_is_one_call(serve: Serve) -> None:
    server = serve(hello)
    answer = server.get()
    assert (answer.status, answer.fields, answer.length) == (200, [(b"content-type", b"text/plain")], 5)
    assert answer.pieces == [b"Hello"]


def test_many_requests(serve: Serve) -> None:
    server = serve(hello)
    answers = [server.request() for _ in range(1000)]
    assert all(answer.done().body == b"Hello" for answer in answers)
    assert server.port.flushes < 1000


def test_the_scope(serve: Serve) -> None:
    app = Sends(START, body(b""))
    server = serve(app, lifespan="off")
    headers = [(b"host", b"a.test"), (b"x", b"1"), (b"x", b"2")]
    server.request("POST", "/caf%C3%A9/a%2Fb?q=%41", headers=headers, scheme="https").done()
    scope = dict(app.scope)
    assert scope.pop("extensions").keys() == {
        "http.response.pathsend",
        "http.response.zerocopysend",
        "http.response.early_hint",
        "http.response.trailers",
    }
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": "/caf\u00e9/a/b",
        "raw_path": b"/caf%C3%A9/a%2Fb",
        "query_string": b"q=%41",
        "root_path": "",
        "headers": headers,
        "client": ("192.0.2.7", 40000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


def test_the_scope_of_a_request_by_a_unix_socket_with_a_path_that_is_no_utf_8(serve: Serve) -> None:
    app = Sends(START, body(b""))
    server = serve(app, lifespan="off")
    server.get("/%FF", client=None, server=("/run/tux.sock", None), minor=0)
    assert app.scope["path"] == "/\ufffd"
    assert app.scope["raw_path"] == b"/%FF"
    assert app.scope["client"] is None
    assert app.scope["server"] == ("/run/tux.sock", None)
    assert app.scope["http_version"] == "1.0"


@pytest.mark.parametrize(
    ("target", "path", "raw_path"),
    [
        ("/a%20b", "/s hop/a b", b"/s%20hop/a%20b"),
        ("/s%20hop/a", "/s hop/a", b"/s%20hop/a"),
        ("/s%20hop", "/s hop", b"/s%20hop"),
        ("/s%20hopping", "/s hop/s hopping", b"/s%20hop/s%20hopping"),
    ],
)
def test_root_path_is_a_prefix_of_the_path(serve: Serve, target: str, path: str, raw_path: bytes) -> None:
    """Whether something in front has taken it off or not."""
    app = Sends(START, body(b""))
    server = serve(app, lifespan="off", root_path="/s hop/")
    server.get(target)
    assert (app.scope["root_path"], app.scope["path"], app.scope["raw_path"]) == ("/s hop", path, raw_path)


def test_a_request_sees_nothing_of_what_others_set(serve: Serve) -> None:
    """Contexts, states and scopes are its own."""
    variable = contextvars.ContextVar("variable", default="")
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["common"] = "yes"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        seen.append((variable.get(), dict(scope["state"]), len(scope["extensions"])))
        variable.set(scope["path"])
        scope["state"]["own"] = scope["path"]
        scope["extensions"].clear()
        await send(START)
        await send(body(b"", more=True))
        await asyncio.sleep(0)
        assert variable.get() == scope["path"]
        await send(body(b""))

    server = serve(app)
    for number in range(4):
        server.get(f"/{number}")
    assert seen == [("", {"common": "yes"}, 4)] * 4


# The request's body


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    more = True
    await send(START)
    while more:
        message = await receive()
        more = message["more_body"]
        await send(body(message["body"], more=more))


def test_a_body_that_comes_with_the_head(serve: Serve) -> None:
    server = serve(echo, lifespan="off")
    answer = server.request("POST", body=b"all of it", length=9).done()
    assert answer.body == b"all of it"
    assert answer.credited == 0


def test_a_body_is_streamed_and_credited_when_it_was_taken(serve: Serve) -> None:
    server = serve(echo, lifespan="off")
    answer = server.request("POST", body=b"first ", complete=False)
    answer.until("self.credited == 6 and self.body == b'first '")
    server.port.send_body(answer, b"second ")
    answer.until("self.credited == 13")
    server.port.send_body(answer, b"", end=True)
    assert answer.done().body == b"first second "


def test_what_the_application_does_not_take_is_not_credited(serve: Serve) -> None:
    taken = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/take":
            taken.set()
            await hello(scope, receive, send)
            return
        await send(START)
        await send(body(b"", more=True))
        await taken.wait()
        total = b""
        while (message := await receive())["more_body"]:
            total += message["body"]
        await send(body(total + message["body"]))

    server = serve(app, lifespan="off")
    answer = server.request("POST", body=b"a", complete=False)
    for data in (b"b", b"c", b"d"):
        server.port.send_body(answer, data)
    answer.until("self.status == 200")
    assert answer.credited == 0
    server.port.send_body(answer, b"e", end=True)
    server.get("/take")
    assert answer.done().body == b"abcde"


def test_receive_after_the_body_waits_for_the_client_to_leave(serve: Serve) -> None:
    messages: list[Message] = []
    has_sent = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"x", more=True))
        messages.append(await receive())
        has_sent.set()
        messages.extend([await receive(), await receive()])

    server = serve(app, lifespan="off")
    answer = server.request()
    assert has_sent.wait(PATIENCE_S)
    server.port.hang_up(answer)
    server.end()
    assert [message["type"] for message in messages] == ["http.request", "http.disconnect", "http.disconnect"]


def test_receive_after_the_answer_says_disconnect(serve: Serve) -> None:
    """As uvicorn does it, whether the body was read or not."""
    messages: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"x"))
        messages.append(await receive())

    server = serve(app, lifespan="off")
    server.request("POST", body=b"unread").done()
    server.end()
    assert messages == [{"type": "http.disconnect"}]


def test_receivers_that_are_cancelled_take_nothing_away(serve: Serve) -> None:
    is_cancelled = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def read() -> Message:
            return await receive()

        one, other = asyncio.create_task(read()), asyncio.create_task(read())
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait((one,))
        is_cancelled.set()
        await send(START)
        await send(body((await other)["body"]))

    server = serve(app, lifespan="off")
    answer = server.request("POST", complete=False)
    assert is_cancelled.wait(PATIENCE_S)
    server.port.send_body(answer, b"data", end=True)
    assert answer.done().body == b"data"


def test_a_half_closed_client_still_gets_its_answer(serve: Serve) -> None:
    messages: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        messages.append(await receive())
        messages.append(await receive())
        await send(START)
        await send(body(b"still here"))

    server = serve(app, lifespan="off")
    answer = server.request()
    server.port.hang_up(answer, hard=False)
    assert answer.done().body == b"still here"
    assert [message["type"] for message in messages] == ["http.request", "http.disconnect"]


# The answer


def test_a_streamed_answer(serve: Serve) -> None:
    app = Sends(START, body(b"one ", more=True), body(b"", more=True), body(memoryview(b"two"), more=True), body(b""))  # type: ignore[arg-type]
    server = serve(app, lifespan="off")
    answer = server.get()
    assert (answer.body, answer.length) == (b"one two", -1)


def test_the_head_waits_for_the_body(serve: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await receive()
        await receive()

    server = serve(app, lifespan="off")
    answer = server.request()
    server.port.hang_up(answer)
    server.end()
    assert answer.status == 0


def test_sending_waits_while_the_client_takes_nothing(serve: Serve) -> None:
    piece = bytes(100_000)
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(START)
        for _ in range(10):
            await send(body(piece, more=True))
            sent += 1
        await send(body(b""))

    server = serve(app, lifespan="off", reads=False)
    answer = server.request().until("self.unread >= 200000")
    while answer.unread < WINDOW_BYTES:
        answer.until("self.unread >= 300000")
    assert sent < 10
    while not answer.ended:
        server.port.read(answer, 50_000)
        answer.until("self.unread < 400000")
    assert answer.body == piece * 10


def test_a_large_body_at_once_ends_when_it_has_left(serve: Serve) -> None:
    data = os.urandom(1_000_000)
    server = serve(Sends(START, body(data)), lifespan="off", reads=False)
    answer = server.request().until("self.unread == 1000000")
    assert not answer.ended
    server.port.read(answer, 1_000_000)
    assert answer.done().body == data
    assert answer.length == 1_000_000


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_head_has_no_body(serve: Serve, method: str) -> None:
    server = serve(Sends(START, body(b"abc")), lifespan="off")
    answer = server.request(method).done()
    assert answer.length == 3
    assert answer.body == (b"abc" if method == "GET" else b"")


def test_head_with_a_declared_length_and_no_body(serve: Serve) -> None:
    app = Sends({**START, "headers": [(b"content-length", b"10")]}, body(b""))
    answer = answered(serve, app, "HEAD")
    assert (answer.length, answer.body, app.results) == (10, b"", [None, None])


@pytest.mark.parametrize("streamed", [False, True])
def test_204_has_no_body_whatever_is_sent(serve: Serve, streamed: bool) -> None:
    messages = [body(b"null", more=True), body(b"")] if streamed else [body(b"null")]
    answer = serve(Sends({**START, "status": 204}, *messages), lifespan="off").get()
    assert (answer.status, answer.body, answer.length) == (204, b"", -1)


LENGTH_5: Message = {**START, "headers": [(b"content-length", b"5")]}


def test_content_length_is_kept(serve: Serve) -> None:
    answer = serve(Sends(LENGTH_5, body(b"12", more=True), body(b"345")), lifespan="off").get()
    assert (answer.length, answer.body) == (5, b"12345")


@pytest.mark.parametrize(
    "messages",
    [
        (body(b"123456"),),
        (body(b"1234"),),
        (body(b"123456", more=True),),
    ],
)
def test_another_length_than_announced_before_the_head_left_is_500(serve: Serve, messages: tuple[Message, ...]) -> None:
    app = Sends(LENGTH_5, *messages)
    answer = answered(serve, app)
    assert answer.refusal() == 500
    assert isinstance(app.results[-1], (RuntimeError, ValueError))


@pytest.mark.parametrize("last", [body(b"4567"), body(b"3456", more=True), body(b"34")])
def test_another_length_than_announced_after_the_head_left_is_cut(serve: Serve, last: Message) -> None:
    app = Sends(LENGTH_5, body(b"12", more=True), last)
    answer = answered(serve, app)
    assert (answer.aborted, answer.body) == (True, b"12")
    assert isinstance(app.results[-1], RuntimeError)


def test_a_field_that_cannot_be_sent_is_500(serve: Serve) -> None:
    app = Sends({**START, "headers": [(b"x", b"a\r\nset-cookie: b")]}, body(b"x"))
    answer = answered(serve, app)
    assert answer.status == 500
    assert answer.value("set-cookie") is None
    assert isinstance(app.results[-1], ValueError)


def test_headers_of_any_iterable(serve: Serve) -> None:
    app = Sends(
        {"type": "http.response.start", "status": 200, "headers": ([name, b"1"] for name in (b"a", b"b"))}, body(b"")
    )
    answer = answered(serve, app)
    assert [(name, value) for name, value in answer.fields] == [(b"a", b"1"), (b"b", b"1")]


# Misuse


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([body(b"")], "Expected ASGI message 'http.response.start', but got 'http.response.body'."),
        ([START, START], "Expected ASGI message 'http.response.body', but got 'http.response.start'."),
        (
            [START, body(b""), body(b"")],
            "Unexpected ASGI message 'http.response.body' sent, after response already completed.",
        ),
        (
            [START, body(b""), START],
            "Unexpected ASGI message 'http.response.start' sent, after response already completed.",
        ),
        ([START, {"type": "http.response.trailers"}], "'trailers' was not set"),
        ([START, {"type": "http.response.debug"}], "Expected ASGI message 'http.response.body'"),
    ],
)
def test_messages_out_of_order(serve: Serve, messages: list[Message], text: str) -> None:
    """The errors are uvicorn's."""
    app = Sends(*messages)
    answered(serve, app)
    assert isinstance(app.results[-1], RuntimeError)
    assert text in str(app.results[-1])


def test_an_application_that_fails_before_the_answer(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        raise ZeroDivisionError("by what?")

    server = serve(app, lifespan="off")
    answer = server.get("/a\xff")
    assert answer.refusal() == 500
    server.end()
    (record,) = caplog.records
    assert record.getMessage() == "app shop: GET /a\\xff: the application failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_an_application_that_fails_within_the_answer_is_cut(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"half", more=True))
        raise SystemExit(3)

    server = serve(app, lifespan="off")
    answer = server.get()
    assert (answer.aborted, answer.body) == (True, b"half")
    server.end()
    assert "the application failed" in caplog.text


def test_an_application_that_fails_after_the_answer(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await hello(scope, receive, send)
        raise ZeroDivisionError

    server = serve(app, lifespan="off")
    assert server.get().body == b"Hello"
    server.end()
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("messages", "cut", "text"),
    [
        ([], False, "returned without an answer"),
        ([START], False, "returned without completing the answer"),
        ([START, body(b"x", more=True)], True, "returned without completing the answer"),
    ],
)
def test_an_application_that_returns_too_early(
    serve: Serve, caplog: pytest.LogCaptureFixture, messages: list[Message], cut: bool, text: str
) -> None:
    server = serve(Sends(*messages), lifespan="off")
    answer = server.get()
    assert (answer.aborted, answer.status) == ((True, 200) if cut else (False, 500))
    server.end()
    assert text in caplog.text


def test_an_application_that_returns_something(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> str:
        await hello(scope, receive, send)
        return "done"

    server = serve(app, lifespan="off")
    assert server.get().body == b"Hello"
    server.end()
    assert "returned str; expected None" in caplog.text


@pytest.mark.parametrize("framework", [False, True])
def test_sending_to_a_client_that_is_gone(serve: Serve, caplog: pytest.LogCaptureFixture, framework: bool) -> None:
    """An OSError, which the log says nothing of, be it the framework's own by then."""
    errors: list[BaseException] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            while True:
                await send(body(bytes(1000), more=True))
                await asyncio.sleep(0)
        except OSError as error:
            errors.append(error)
            if framework:
                raise ValueError("client disconnect") from error
            raise

    server = serve(app, lifespan="off", reads=False)
    answer = server.request().until("self.unread > 100000")
    server.port.hang_up(answer)
    server.end()
    assert len(errors) == 1
    assert not caplog.records


# Extensions


def test_pathsend(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content of the file")
    app = Sends(START, {"type": "http.response.pathsend", "path": str(tmp_path / "file")})
    answer = answered(serve, app)
    assert (answer.length, answer.body, answer.files) == (19, b"content of the file", [(0, 19)])
    assert app.results == [None, None]


def test_pathsend_of_a_file_that_has_grown_is_cut_at_content_length(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234567")
    app = Sends(LENGTH_5, {"type": "http.response.pathsend", "path": str(tmp_path / "file")})
    answer = answered(serve, app)
    assert (answer.length, answer.body) == (5, b"12345")


@pytest.mark.parametrize("kind", ["missing", "shorter", "folder", "fifo", "late", "empty"])
def test_pathsend_that_cannot_be(serve: Serve, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind in {"shorter", "late"}:
        path.write_bytes(b"123")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "empty":
        path.touch()
    messages: list[Message] = [LENGTH_5, {"type": "http.response.pathsend", "path": str(path)}]
    if kind == "late":
        messages[0] = START
        messages.insert(1, body(b"x", more=True))
    elif kind == "empty":
        messages[0] = START
    app = Sends(*messages)
    answer = answered(serve, app)
    if kind == "empty":
        assert (answer.status, answer.length, answer.body) == (200, 0, b"")
    else:
        assert isinstance(app.results[-1], (OSError, RuntimeError))
        assert answer.aborted if kind == "late" else answer.status == 500


def test_zerocopysend(serve: Serve, tmp_path: Path) -> None:
    """Offsets and counts, from the position of the file on, mixed with other pieces; it may be closed afterwards."""
    (tmp_path / "file").write_bytes(b"0123456789")
    results = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        with (tmp_path / "file").open("rb", buffering=0) as file:
            one: Message = {"type": "http.response.zerocopysend", "file": file, "more_body": True}
            await send({**one, "offset": 7})
            await send(body(b"-", more=True))
            await send({**one, "count": 2})
            await send({**one, "count": 2})
            results.append(file.tell())
            await send({**one, "offset": 0, "count": 1})
            await send({**one, "offset": 20})
            await send({"type": "http.response.zerocopysend", "file": file.fileno(), "offset": 9, "count": 5})

    answer = answered(serve, app)
    assert answer.body == b"789-012309"
    assert results == [4]


def test_early_hints(serve: Serve) -> None:
    hint: Message = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b>; rel=preconnect"]}
    app = Sends(hint, START, hint, body(b"x", more=True), hint, body(b""))
    server = serve(app, lifespan="off")
    answer = server.get()
    expected = (103, [(b"link", b"</a.css>; rel=preload"), (b"link", b"</b>; rel=preconnect")])
    assert answer.informed == [expected, expected]
    assert server.get(minor=0).informed == []


TRAILERS: list[Message] = [
    {**START, "trailers": True},
    body(b"data"),
    {"type": "http.response.trailers", "headers": [(b"a", b"1")], "more_trailers": True},
    {"type": "http.response.trailers", "headers": [(b"b", b"2")]},
]


def test_trailers(serve: Serve) -> None:
    app = Sends(*TRAILERS)
    answer = answered(serve, app, headers={"te": "deflate, Trailers"})
    assert answer.body == b"data"
    assert answer.trailers == [(b"a", b"1"), (b"b", b"2")]
    assert app.results == [None] * 4


@pytest.mark.parametrize("attributes", [{}, {"minor": 0, "headers": {"te": "trailers"}}])
def test_trailers_that_the_client_does_not_want(serve: Serve, attributes: dict[str, Any]) -> None:
    app = Sends(*TRAILERS)
    answer = answered(serve, app, **attributes)
    assert (answer.body, answer.trailers) == (b"data", None)
    assert app.results == [None] * 4


# The end


def test_running_requests_are_finished_at_a_drain(serve: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"begun ", more=True))
        while (await receive())["more_body"]:
            pass
        await send(body(b"finished"))

    server = serve(app, lifespan="off")
    answer = server.request("POST", complete=False).until("self.body")
    server.port.drain()
    server.port.send_body(answer, b"", end=True)
    assert answer.done().body == b"begun finished"
    server.end()


def test_what_the_port_keeps_has_left_before_the_end(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    app = Sends(START, {"type": "http.response.pathsend", "path": str(tmp_path / "file")})
    server = serve(app, lifespan="off", reads=False)
    answer = server.request().until("self.kept")
    server.port.drain()
    answer.until("not self._port._events")
    server.port.read(answer, 0)
    server.end()
    assert answer.done().body == b"kept"
    assert CREDIT not in {kind for kind, _, _ in server.port._events}, "it has heard that the client took it"


def test_work_after_the_answer_is_finished_at_a_drain(serve: Serve) -> None:
    done = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await hello(scope, receive, send)
        for _ in range(20):
            await asyncio.sleep(0.005)
        done.append(True)

    server = serve(app, lifespan="off")
    server.get()
    server.end()
    assert done


@pytest.mark.parametrize("begun", [False, True])
def test_requests_that_outlast_the_grace(serve: Serve, begun: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await send(START)
            await send(body(b"begun", more=True))
        await receive()
        await receive()

    server = serve(app, lifespan="off", grace=0.05)
    answer = server.request()
    server.port.drain()
    answer.done()
    assert answer.aborted == begun
    assert begun or answer.refusal() == 503
    server.end()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_key_that_is_used_again_while_the_application_goes_on(serve: Serve) -> None:
    """After the answer the engine may give it to another exchange."""
    go = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await hello(scope, receive, send)
        if scope["path"] == "/first":
            while not go.is_set():
                await asyncio.sleep(0.001)

    server = serve(app, lifespan="off")
    server.get("/first")
    with server.port.changed:
        server.port._key -= 1
    assert server.get("/second").body == b"Hello"
    server.port.drain()
    go.set()
    server.end()


def test_a_bug_in_the_server_ends_it(serve: Serve) -> None:
    """Rather than leaving it deaf: the process is replaced."""
    server = serve(hello, lifespan="off")
    server.port._put((0, 1, "no request"))
    with pytest.raises(AttributeError):
        server.end()
