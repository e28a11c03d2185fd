"""ASGI applications behind the real engine and the real port, in this process: HTTP on the wire, clients of others."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.unit.apps.asgi.test_frameworks import Stopped, starlette
from tests.unit.apps.asgi.test_http import START, body, echo, hello
from tests.unit.apps.fakes import PATIENCE_S
from tux import _app
from tux._engine import Engine, RouteTable
from tux.apps import asgi
from tux.apps.asgi.scope import Application, Receive, Scope, Send
from tux.apps.options import AppOptions


class Live:
    """An application, served."""

    def __init__(self, application: Application, **options: Any) -> None:
        table = RouteTable()
        table.add_route(table.add_site([""]), b"/", 0, [("app", 0)])
        self._engine = Engine(key=os.urandom(16), routes=table)
        self._engine.app(queue=100, queue_timeout_ms=2000)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._engine.listen(self._listener.fileno(), listener=0)
        raised, waits = _app.wake_pair()
        self.port = _app.Port(waits)
        requests, answers = _app.make_rings()
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._engine.link_app(0, 1, os.dup(requests), os.dup(answers), raised, os.dup(wake), mine.detach())
        self.port.attach(1, requests, answers, wake, theirs.detach())
        options.setdefault("grace", PATIENCE_S)
        self._options = AppOptions(name="shop", module="shop:app", **options)
        self._application = application
        self._error: BaseException | None = None
        self._threads = [threading.Thread(target=run) for run in (self._engine.run, self._serve)]
        for thread in self._threads:
            thread.start()

    def _serve(self) -> None:
        try:
            asgi.serve(self.port, self._application, self._options)
        except BaseException as error:  # noqa: BLE001 (raised again by end())
            self._error = error

    def end(self) -> None:
        self.port.drain()
        self._threads[1].join(PATIENCE_S)
        self._engine.drain(2000)
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        self._listener.close()
        assert not {name: n for name, n in self._engine.close().items() if n}
        if self._error is not None:
            raise self._error

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.address, timeout=PATIENCE_S)

    def websocket(self, target: str = "/ws", **options: Any) -> ClientConnection:
        client: ClientConnection = connect(
            f"ws://127.0.0.1:{self.address[1]}{target}", open_timeout=PATIENCE_S, **options
        )
        return client


Serve = Callable[..., Live]


@pytest.fixture
def live() -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:

        def start(application: Application, **options: Any) -> Live:
            server = Live(application, **options)
            stack.callback(server.end)
            return server

        yield start


def get(connection: http.client.HTTPConnection, target: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection.request("GET", target, headers=headers)
    answer = connection.getresponse()
    return answer, answer.read()


def read_all(client: socket.socket) -> bytes:
    """Until the server closes."""
    received = b""
    while data := client.recv(65536):
        received += data
    return received


def test_hello(live: Serve) -> None:
    with contextlib.closing(live(hello).connection()) as connection:
        for _ in range(100):
            answer, content = get(connection, "/")
            assert (answer.status, content) == (200, b"Hello")
            assert answer.headers["Content-Length"] == "5"
            assert answer.headers["Date"]


def test_bodies_stream_both_ways(live: Serve) -> None:
    data = os.urandom(3_000_000)
    with contextlib.closing(live(echo, lifespan="off").connection()) as connection:
        for chunked in (False, True):
            pieces = iter([data[i : i + 70_000] for i in range(0, len(data), 70_000)])
            headers = {} if chunked else {"Content-Length": str(len(data))}
            sender = threading.Thread(
                target=connection.request, args=("POST", "/"), kwargs={"body": pieces, "headers": headers}
            )
            sender.start()
            sender.join(PATIENCE_S)
            assert not sender.is_alive()
            answer = connection.getresponse()
            assert answer.read() == data


def test_a_large_answer_to_a_slow_client(live: Serve) -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(START)
        for _ in range(200):
            await send(body(bytes(100_000), more=True))
            sent += 1
        await send(body(b""))

    with contextlib.closing(live(app, lifespan="off").connection()) as connection:
        connection.request("GET", "/")
        answer = connection.getresponse()
        last = -1
        while sent != last:  # until it stands still
            last = sent
            time.sleep(0.05)
        assert sent < 200
        assert len(answer.read()) == 20_000_000


def test_an_answer_that_is_cut_is_seen_to_be(live: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"half", more=True))
        raise ZeroDivisionError

    connection = live(app, lifespan="off").connection()
    with contextlib.closing(connection), pytest.raises(http.client.IncompleteRead):
        get(connection, "/")


def test_head_204_and_304(live: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "status": int(scope["path"][1:])})
        await send(body(b"data"))

    with contextlib.closing(live(app, lifespan="off").connection()) as connection:
        for status in (204, 304):
            answer, content = get(connection, f"/{status}")
            assert (answer.status, content, answer.headers["Transfer-Encoding"]) == (status, b"", None)
        connection.request("HEAD", "/200")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, "4", b"")
        assert get(connection, "/200")[1] == b"data"


def test_trailers_and_hints_on_the_wire(live: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]})
        await send({**START, "trailers": True})
        await send(body(b"data"))
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"7")]})

    server = live(app, lifespan="off")
    with socket.create_connection(server.address, PATIENCE_S) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n")
        received = read_all(client)
    assert received.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert received.endswith(b"4\r\ndata\r\n0\r\nx-sum: 7\r\n\r\n")


def test_expect_100_continue(live: Serve) -> None:
    server = live(echo, lifespan="off")
    with socket.create_connection(server.address, PATIENCE_S) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).endswith(b"\r\n\r\nabc")


def test_starlette(live: Serve, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1_000_000))
    with contextlib.closing(live(starlette(path, Stopped())).connection()) as connection:
        assert get(connection, "/hello/you")[1] == b"Hello you /hello/x"
        assert get(connection, "/file")[1] == path.read_bytes()
        assert get(connection, "/file", Range="bytes=10-19")[1] == path.read_bytes()[10:20]
        assert get(connection, "/none")[0].status == 404


@pytest.mark.parametrize("target", ["/events", "/silence", "/poll"])
def test_a_client_that_goes_away(live: Serve, tmp_path: Path, target: str) -> None:
    stopped = Stopped()
    connection = live(starlette(tmp_path, stopped)).connection()
    connection.request("GET", target)
    if target != "/poll":
        answer = connection.getresponse()
        assert answer.read(3)
        answer.close()
    connection.close()
    assert stopped.wait(PATIENCE_S)


# WebSockets


async def socket_echo(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "websocket"
    assert (await receive())["type"] == "websocket.connect"
    if scope["path"] == "/no":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4000, "reason": "as you like"})
            return
        await send({**message, "type": "websocket.send"})


@pytest.mark.parametrize("compression", ["deflate", None])
def test_a_websocket(live: Serve, compression: str | None) -> None:
    server = live(socket_echo, lifespan="off")
    with server.websocket(compression=compression, subprotocols=["a", "b"], max_size=None) as client:
        assert client.subprotocol == "a"
        for data in ("", "h\u00e9", "x" * 1000, "y" * 200_000, b"", b"\xff", os.urandom(1000), os.urandom(3_000_000)):
            client.send(data)
            assert client.recv(PATIENCE_S) == data
        client.send(["frag", "ments", "!"])
        assert client.recv(PATIENCE_S) == "fragments!"
        assert client.ping().wait(PATIENCE_S)
        client.send("close")
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(PATIENCE_S)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4000, "as you like")


def test_a_websocket_is_rejected(live: Serve) -> None:
    server = live(socket_echo, lifespan="off")
    with pytest.raises(InvalidStatus) as caught:
        server.websocket("/no")
    assert caught.value.response.status_code == 403


def test_many_websockets(live: Serve) -> None:
    server = live(socket_echo, lifespan="off")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.websocket()) for _ in range(50)]
        for n in range(20):
            for number, client in enumerate(clients):
                client.send(f"{number} {n}")
        for n in range(20):
            for number, client in enumerate(clients):
                assert client.recv(PATIENCE_S) == f"{number} {n}"


def test_a_message_that_is_too_big(live: Serve) -> None:
    server = live(socket_echo, lifespan="off", ws_max_size=100_000)
    with server.websocket(compression="deflate") as client:
        client.send(bytes(100_001))
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(PATIENCE_S)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


def test_a_drain_closes_websockets_and_finishes_requests(live: Serve) -> None:
    go = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await socket_echo(scope, receive, send)
            return
        await send(START)
        await send(body(b"begun ", more=True))
        while not go.is_set():
            await asyncio.sleep(0.001)
        await send(body(b"finished"))

    server = live(app, lifespan="off")
    with server.websocket() as client, contextlib.closing(server.connection()) as connection:
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.read(6) == b"begun "
        server.port.drain()
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(PATIENCE_S)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012
        go.set()
        assert answer.read() == b"finished"
