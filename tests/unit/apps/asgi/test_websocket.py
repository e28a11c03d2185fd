"""WebSockets at ASGI applications."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.apps.asgi.conftest import Serve
from tests.unit.apps.asgi.ws_client import BINARY, CONTINUATION, PING, TEXT, close, compress, frame, parse
from tests.unit.apps.fakes import PATIENCE_S, WINDOW_BYTES, Answer
from tests.unit.apps.running import Running
from tux.apps.asgi import websocket
from tux.apps.asgi.scope import Application, Message, Receive, Scope, Send

HEADERS = [
    (b"host", b"a.test"),
    (b"connection", b"Upgrade"),
    (b"upgrade", b"WebSocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]
ACCEPT: Message = {"type": "websocket.accept"}


class App:
    """Accepts, and echoes until the client leaves. Notes all that it gets, and what sending raises."""

    def __init__(self, *, accept: Message = ACCEPT, then: Callable[[Receive, Send], Any] | None = None) -> None:
        self.accept = accept
        self.then = then
        self.scope: Scope = {}
        self.messages: list[Message] = []
        self.error: BaseException | None = None
        self.changed = threading.Condition()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope

        async def noting() -> Message:
            message = await receive()
            with self.changed:
                self.messages.append(message)
                self.changed.notify_all()
            return message

        assert (await noting())["type"] == "websocket.connect"
        try:
            await send(self.accept)
            if self.then is not None:
                await self.then(noting, send)
                return
            while (message := await noting())["type"] == "websocket.receive":
                await send({**message, "type": "websocket.send"})
        except Exception as error:
            self.error = error
            raise

    def until(self, n: int) -> list[Message]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.messages) >= n, PATIENCE_S), self.messages
        return self.messages


async def listen(receive: Receive, send: Send) -> None:
    """Say nothing, until the client leaves."""
    while (await receive())["type"] == "websocket.receive":
        pass


def connect(server: Running, *extra: tuple[bytes, bytes], **attributes: Any) -> Answer:
    return server.request("GET", "/ws?a=1", headers=[*HEADERS, *extra], upgrade=True, **attributes)


def opened(server: Running, *extra: tuple[bytes, bytes]) -> Answer:
    return connect(server, *extra).until("self.upgraded")


def start(serve: Serve, app: Application, *extra: tuple[bytes, bytes], **options: Any) -> tuple[Running, Answer]:
    server = serve(app, lifespan="off", **options)
    return server, opened(server, *extra)


def frames_of(answer: Answer) -> list[tuple[int, bytes]]:
    return [(one.first, one.payload) for one in parse(answer.body)]


# The handshake


def test_the_scope_and_the_handshake(serve: Serve) -> None:
    app = App(accept={**ACCEPT, "subprotocol": "chat.2", "headers": [(b"x", b"y")]})
    server, answer = start(
        serve, app, (b"sec-websocket-protocol", b"chat.1, chat.2"), (b"sec-websocket-protocol", b"x")
    )
    assert answer.fields == [
        (b"upgrade", b"websocket"),
        (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        (b"sec-websocket-protocol", b"chat.2"),
        (b"x", b"y"),
    ]
    assert app.scope["type"] == "websocket"
    assert app.scope["scheme"] == "ws"
    assert app.scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert app.scope["subprotocols"] == ["chat.1", "chat.2", "x"]
    assert app.scope["extensions"] == {"websocket.http.response": {}}
    assert (app.scope["path"], app.scope["query_string"]) == ("/ws", b"a=1")
    assert "method" not in app.scope
    server.port.hang_up(answer)


def test_the_scheme_is_wss_behind_tls(serve: Serve) -> None:
    app = App()
    server = serve(app, lifespan="off")
    server.port.hang_up(connect(server, scheme="https").until("self.upgraded"))
    assert app.scope["scheme"] == "wss"


@pytest.mark.parametrize(
    ("missing", "extra", "status"),
    [
        (b"sec-websocket-version", [], 426),
        (b"sec-websocket-version", [(b"sec-websocket-version", b"8")], 426),
        (b"sec-websocket-key", [], 400),
        (b"sec-websocket-key", [(b"sec-websocket-key", b"c2hvcnQ=")], 400),
        (b"sec-websocket-key", [(b"sec-websocket-key", b"???")], 400),
        (b"", [(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")], 400),
    ],
)
def test_handshakes_that_are_none(serve: Serve, missing: bytes, extra: list[tuple[bytes, bytes]], status: int) -> None:
    server = serve(App(), lifespan="off")
    headers = [field for field in HEADERS if field[0] != missing] + extra
    answer = server.request(headers=headers, upgrade=True).done()
    assert answer.status == status
    assert answer.value("sec-websocket-version") == ("13" if status == 426 else None)
    assert answer.value("x-content-type-options") == "nosniff"


@pytest.mark.parametrize(
    "attributes",
    [{"method": "POST"}, {"upgrade": False}, {"headers": [(b"upgrade", b"h2c"), (b"connection", b"upgrade")]}],
)
def test_requests_that_ask_for_something_else(serve: Serve, attributes: dict[str, Any]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": scope["type"].encode()})

    server = serve(app, lifespan="off")
    assert server.request(**{"headers": HEADERS, "upgrade": True, **attributes}).done().body == b"http"


def test_reject(serve: Serve) -> None:
    app = App(accept={"type": "websocket.close"})
    answer = connect(serve(app, lifespan="off")).done()
    assert (answer.refusal(), answer.upgraded) == (403, False)
    assert app.until(2)[1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


@pytest.mark.parametrize("pieces", [[b"no"], [b"n", b"o"], [b"n", b"o", b""]])
def test_reject_with_a_response(serve: Serve, pieces: list[bytes]) -> None:
    async def deny(receive: Receive, send: Send) -> None:
        for number, piece in enumerate(pieces):
            more = number < len(pieces) - 1
            await send({"type": "websocket.http.response.body", "body": piece, "more_body": more})
        await receive()

    head = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Basic")]}
    app = App(accept=head, then=deny)
    answer = connect(serve(app, lifespan="off")).done()
    assert (answer.status, answer.body) == (401, b"no")
    assert answer.value("www-authenticate") == "Basic"
    assert app.until(2)[1]["code"] == 1006


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({**ACCEPT, "subprotocol": "other"}, "did not offer"),
        ({**ACCEPT, "headers": [(b"Sec-WebSocket-Accept", b"x")]}, "the server's"),
        ({"type": "websocket.send", "text": "x"}, "Expected ASGI message 'websocket.accept'"),
        ({"type": "http.response.start", "status": 200}, "Expected ASGI message 'websocket.accept'"),
    ],
)
def test_wrong_answers_to_the_handshake(
    serve: Serve, message: Message, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(accept=message)
    server = serve(app, lifespan="off")
    assert connect(server).refusal() == 500
    assert isinstance(app.error, RuntimeError)
    assert text in str(app.error)
    server.end()
    assert text in caplog.text


@pytest.mark.parametrize("error", [None, ValueError("x")])
def test_no_answer_to_the_handshake(serve: Serve, error: Exception | None, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if error is not None:
            raise error

    server = serve(app, lifespan="off")
    assert connect(server).refusal() == 500
    server.end()
    assert ("ValueError" if error else "returned without an answer to the handshake") in caplog.text


# Messages


def test_echo(serve: Serve) -> None:
    app = App()
    server, answer = start(serve, app)
    server.port.send_body(answer, frame(TEXT, "h\u00e9".encode()) + frame(BINARY, b"\xff"))
    server.port.send_body(answer, frame(TEXT, b"fra", fin=False))
    server.port.send_body(answer, frame(CONTINUATION, b"gment"))
    app.until(4)
    server.port.send_body(answer, close(3000, b"bye"))
    answer.done()
    assert frames_of(answer) == [
        (0x81, "h\u00e9".encode()),
        (0x82, b"\xff"),
        (0x81, b"fragment"),
        (0x88, b"\x0b\xb8"),
    ]
    assert app.until(5)[1:] == [
        {"type": "websocket.receive", "text": "h\u00e9"},
        {"type": "websocket.receive", "bytes": b"\xff"},
        {"type": "websocket.receive", "text": "fragment"},
        {"type": "websocket.disconnect", "code": 3000, "reason": "bye"},
    ]
    assert not answer.aborted


def test_pings_are_answered(serve: Serve) -> None:
    server, answer = start(serve, App())
    server.port.send_body(answer, frame(PING, b"abc"))
    answer.until("self.body")
    assert frames_of(answer) == [(0x8A, b"abc")]
    server.port.hang_up(answer)


@pytest.mark.parametrize("compression", [True, False])
def test_compression(serve: Serve, compression: bool) -> None:
    app = App()
    offer = (b"sec-websocket-extensions", b"x-unknown, permessage-deflate; client_max_window_bits")
    server, answer = start(serve, app, offer, ws_compression=compression)
    expected = "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12" if compression else None
    assert answer.value("sec-websocket-extensions") == expected
    text = b"Hello " * 100
    server.port.send_body(answer, frame(TEXT, compress(text), rsv=4) if compression else frame(TEXT, text))
    app.until(2)
    assert app.messages[1] == {"type": "websocket.receive", "text": text.decode()}
    answer.until("self.body")
    ((first, payload),) = frames_of(answer)
    assert (first, len(payload) < 50) == ((0xC1, True) if compression else (0x81, False))
    server.port.hang_up(answer)


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", "permessage-deflate; server_max_window_bits=12"),
        (
            'permessage-deflate; server_max_window_bits="10"; client_max_window_bits=9',
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9",
        ),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits=12; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",
            "permessage-deflate; server_max_window_bits=12",
        ),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits=9", None),
        ("x-webkit-deflate-frame", None),
        (";;,=;", None),
    ],
)
def test_offers_of_compression(serve: Serve, offer: str, answer: str | None) -> None:
    server, got = start(serve, App(), (b"sec-websocket-extensions", offer.encode()))
    assert got.value("sec-websocket-extensions") == answer
    server.port.hang_up(got)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xff"), 1007),
        (frame(BINARY, bytes(1001)), 1009),
        (frame(BINARY, bytes(600), fin=False) + frame(CONTINUATION, bytes(600)), 1009),
        (frame(TEXT, b"x", masked=False), 1002),
        (frame(3), 1002),
    ],
)
def test_clients_that_break_the_protocol(serve: Serve, data: bytes, code: int) -> None:
    app = App()
    server, answer = start(serve, app, ws_max_size=1000)
    server.port.send_body(answer, data)
    answer.done()
    ((first, payload),) = frames_of(answer)
    assert (first, int.from_bytes(payload[:2], "big")) == (0x88, code)
    assert app.until(2)[1]["code"] == code


@pytest.mark.parametrize("hard", [True, False])
def test_a_client_that_leaves_without_a_word(serve: Serve, hard: bool) -> None:
    app = App(then=listen)
    server, answer = start(serve, app)
    server.port.send_body(answer, frame(TEXT, b"last"))
    server.port.hang_up(answer, hard=hard)
    assert app.until(3)[1:] == [
        {"type": "websocket.receive", "text": "last"},
        {"type": "websocket.disconnect", "code": 1006, "reason": ""},
    ]
    if not hard:
        answer.done()


def test_a_client_that_has_ended_before_the_handshake_is_answered(serve: Serve) -> None:
    go = threading.Event()
    app = App(then=listen)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        while not go.is_set():
            await asyncio.sleep(0.001)
        await app(scope, receive, send)

    server = serve(slow, lifespan="off")
    answer = connect(server)
    server.port.hang_up(answer, hard=False)
    go.set()
    assert app.until(2)[1]["code"] == 1006
    answer.done()


def test_the_end_is_told_again_and_again(serve: Serve) -> None:
    async def insist(receive: Receive, send: Send) -> None:
        for _ in range(3):
            await receive()

    app = App(then=insist)
    server, answer = start(serve, app)
    server.port.send_body(answer, close())
    assert [message["type"] for message in app.until(4)] == ["websocket.connect", *["websocket.disconnect"] * 3]
    server.end()


@pytest.mark.parametrize("how", ["close", "hang up"])
def test_sending_to_a_client_that_is_gone(serve: Serve, how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def send_after_the_end(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.send", "text": "too late"})

    app = App(then=send_after_the_end)
    server, answer = start(serve, app)
    if how == "close":
        server.port.send_body(answer, close())
    else:
        server.port.hang_up(answer)
    server.end()
    assert isinstance(app.error, OSError)
    assert not caplog.records


# Closing


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        ({}, b"\x03\xe8"),
        ({"code": 4000, "reason": "go away"}, b"\x0f\xa0go away"),
        ({"code": 1001, "reason": None}, b"\x03\xe9"),
    ],
)
def test_the_application_closes(serve: Serve, message: Message, payload: bytes) -> None:
    async def leave(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close", **message})
        await receive()
        with pytest.raises(RuntimeError, match=r"after sending 'websocket\.close'"):
            await send({"type": "websocket.send", "text": "x"})

    app = App(then=leave)
    server, answer = start(serve, app)
    answer.until("self.body")
    assert frames_of(answer) == [(0x88, payload)]
    assert app.until(2)[1]["code"] == message.get("code", 1000)
    assert not answer.ended
    server.port.send_body(answer, frame(TEXT, b"was on its way") + close())
    assert answer.done().body == bytes([0x88, len(payload)]) + payload
    server.end()
    assert app.error is None


def test_a_client_that_does_not_answer_our_close_frame(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 0.05)

    async def leave(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close"})

    _, answer = start(serve, App(then=leave))
    assert frames_of(answer.done()) == [(0x88, b"\x03\xe8")]


@pytest.mark.parametrize("code", [1005, 999, 2000, 5000])
def test_codes_that_cannot_be_sent(serve: Serve, code: int) -> None:
    async def leave(receive: Receive, send: Send) -> None:
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.close", "code": code})

    app = App(then=leave)
    server, answer = start(serve, app)
    answer.until("self.body")
    assert frames_of(answer) == [(0x88, b"\x03\xe8")]
    server.port.hang_up(answer)
    server.end()
    assert app.error is None


def test_an_application_that_fails(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    server, answer = start(serve, App(then=fail))
    answer.until("self.body")
    assert frames_of(answer) == [(0x88, b"\x03\xf3")]
    server.port.hang_up(answer)
    server.end()
    assert "the application failed" in caplog.text


@pytest.mark.parametrize("answers", [True, False])
def test_a_drain_closes_with_1012(serve: Serve, answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", PATIENCE_S if answers else 0.05)
    app = App()
    server, answer = start(serve, app)
    server.port.drain()
    answer.until("self.body")
    assert frames_of(answer) == [(0x88, b"\x03\xf4")]
    assert app.until(2)[1]["code"] == 1012
    if answers:
        server.port.send_body(answer, close(1012))
    answer.done()
    server.end()


def test_a_handshake_that_is_answered_after_the_drain(serve: Serve) -> None:
    go = threading.Event()
    begun = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        while not go.is_set():
            await asyncio.sleep(0.001)
        await App()(scope, receive, send)

    server = serve(app, lifespan="off")
    answer = connect(server)
    assert begun.wait(PATIENCE_S)
    server.port.drain()
    go.set()
    answer.until("self.body")
    assert frames_of(answer) == [(0x88, b"\x03\xf4")]
    server.port.hang_up(answer)
    server.end()


# Flow


def test_messages_that_are_not_taken_are_not_credited(serve: Serve) -> None:
    """But pieces of a message that is larger than the window are."""
    go = threading.Event()

    async def slow(receive: Receive, send: Send) -> None:
        while not go.is_set():
            await asyncio.sleep(0.001)
        while (await receive())["type"] == "websocket.receive":
            pass

    app = App(then=slow)
    server, answer = start(serve, app)
    large = frame(BINARY, bytes(1_000_000))
    for i in range(0, len(large), 100_000):
        server.port.send_body(answer, large[i : i + 100_000])
    answer.until("self.credited >= 1_000_000 - 100_000")
    many = frame(BINARY, bytes(1000)) * 200
    server.port.send_body(answer, many)
    server.port.send_body(answer, frame(TEXT, b"end"))
    assert answer.credited <= len(large)
    go.set()
    assert app.until(203)[-1] == {"type": "websocket.receive", "text": "end"}
    answer.until(f"self.credited >= {len(large) + len(many)}")
    server.port.send_body(answer, close())
    answer.done()


def test_sending_waits_while_the_client_takes_nothing(serve: Serve) -> None:
    sent = 0

    async def much(receive: Receive, send: Send) -> None:
        nonlocal sent
        for _ in range(20):
            await send({"type": "websocket.send", "bytes": bytes(100_000)})
            sent += 1
        await send({"type": "websocket.close"})

    server, answer = start(serve, App(then=much), reads=False)
    answer.until(f"self.unread >= {WINDOW_BYTES}")
    pings = frame(PING, b"one") + frame(PING, b"two")
    server.port.send_body(answer, pings)
    answer.until(f"self.credited == {len(pings)}")
    assert sent < 5
    while b"\x03\xe8" not in answer.pieces[-1]:
        server.port.read(answer, 100_000)
    server.port.send_body(answer, close())
    kinds = [first for first, _ in frames_of(answer.done())]
    assert kinds.count(0x82) == 20
    assert kinds.count(0x8A) == 1
    assert kinds[-1] == 0x88


def test_a_client_that_is_gone_wakes_who_waits_for_it(serve: Serve) -> None:
    async def much(receive: Receive, send: Send) -> None:
        while True:
            await send({"type": "websocket.send", "bytes": bytes(100_000)})

    app = App(then=much)
    server, answer = start(serve, app, reads=False)
    answer.until(f"self.unread >= {WINDOW_BYTES}")
    server.port.hang_up(answer)
    server.end()
    assert isinstance(app.error, OSError)


# Pings of our own


def test_pings_are_sent_and_answered(serve: Serve) -> None:
    app = App()
    server, answer = start(serve, app, ws_ping_interval=0.01, ws_ping_timeout=PATIENCE_S)
    for n in range(1, 4):
        answer.until(f"len(self.pieces) == {n}")
        first, payload = frames_of(answer)[-1]
        assert (first, len(payload)) == (0x89, 4)
        server.port.send_body(answer, frame(10, b"some other"))
        server.port.send_body(answer, frame(10, payload))
    server.port.hang_up(answer)
    server.end()
    assert app.messages[1]["code"] == 1006


def test_a_client_that_answers_no_ping(serve: Serve) -> None:
    app = App()
    _, answer = start(serve, app, ws_ping_interval=0.01, ws_ping_timeout=0.02)
    answer.done()
    kinds = [first for first, _ in frames_of(answer)]
    assert kinds == [0x89, 0x88]
    assert app.until(2)[1] == {
        "type": "websocket.disconnect",
        "code": 1006,
        "reason": "the ping was not answered",
    }


def test_a_pong_behind_what_the_application_does_not_take_is_waited_for(serve: Serve) -> None:
    go = threading.Event()

    async def slow(receive: Receive, send: Send) -> None:
        while not go.is_set():
            await asyncio.sleep(0.001)
        while (await receive())["type"] == "websocket.receive":
            pass

    app = App(then=slow)
    server, answer = start(serve, app, ws_ping_interval=0.01, ws_ping_timeout=0.01)
    server.port.send_body(answer, frame(BINARY, bytes(1000)) * 100)
    answer.until("len(self.pieces) >= 5")
    assert not answer.ended
    go.set()
    server.port.send_body(answer, close())
    answer.done()
