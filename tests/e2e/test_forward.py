# SPDX-License-Identifier: MIT
"""Forwarding, end to end: requests and responses of every shape pass through a real server unharmed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

import tux
from tests.corpus.reader import PATIENCE
from tests.e2e.backend import OK, Backend, Peer, Script, config_of, echo
from tests.e2e.client import Client, address_of, open_socket, request, stop

Forward = Callable[..., tuple[tux.Server, Backend]]


@pytest.fixture
def forward(site: Path) -> Iterator[Forward]:
    """A function that starts a server before a backend with this script: options are those of `[upstream.NAME]`."""
    with contextlib.ExitStack() as stack:

        def start(script: Script = echo, *, where: str = "127.0.0.1", **options: Any) -> tuple[tux.Server, Backend]:
            backend = stack.enter_context(Backend(script, where))
            name = f"forward-{backend.authority.replace('/', '-')}.toml"
            config = config_of(site / name, backend.url, **options)
            server = tux.Server(config=config)
            stack.callback(lambda: stop(server))
            server.start()
            return server, backend

        yield start


def exchange(server: tux.Server, *pieces: bytes) -> bytes:
    """Send, and read all until the server closes."""
    with open_socket(address_of(server)) as sock:
        for piece in pieces:
            sock.sendall(piece)
        received = b""
        while piece := sock.recv(1 << 20):
            received += piece
        return received


def body_of(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


# ---- Requests.


def test_a_request_arrives(forward: Forward) -> None:
    server, backend = forward()
    with Client(server) as client:
        response = client.ask("/a//b/../c?d=%20e", x_one="1", connection="x-one", accept="text/plain")
        assert response.status == 200
        lines = response.body.decode().split("\r\n")
        assert lines[:3] == ["GET /a//b/../c?d=%20e HTTP/1.1", "Host: a.example", "accept: text/plain"]
        assert "X-Forwarded-For: 127.0.0.1" in lines
        assert "X-Forwarded-Proto: http" in lines
        assert "X-Forwarded-Host: a.example" in lines
        assert "x-one" not in response.body.decode()
        assert "server" not in response or response["server"] != "", "a date and a server are there all the same"
        assert "date" in response
    assert backend.accepted == 1


def test_connections_are_kept(forward: Forward) -> None:
    server, backend = forward()
    for _ in range(3):
        with Client(server) as client:
            for i in range(20):
                assert client.ask(f"/{i}").body.startswith(f"GET /{i} ".encode())
    assert backend.accepted == 1


def test_pipelined_requests(forward: Forward) -> None:
    server, backend = forward()
    with Client(server) as client:
        client.sock.sendall(b"".join(request(f"/{i}") for i in range(30)))
        for i in range(30):
            assert client.reader.response().body.startswith(f"GET /{i} ".encode())
    assert backend.accepted == 1


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
def test_bodies_go_up(forward: Forward, size: int, chunked: bool) -> None:
    def digest(peer: Peer) -> None:
        while (found := peer.request()) is not None:
            peer.ok(hashlib.sha256(found.body).hexdigest().encode())

    server, _ = forward(digest)
    body = os.urandom(size)
    head = b"POST /up HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    if chunked:
        chunks = [body[i : i + 9999] for i in range(0, size, 9999)]
        data = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nX-Trailer: t\r\n\r\n"
        received = exchange(server, head + b"Transfer-Encoding: chunked\r\n\r\n", data)
    else:
        received = exchange(server, head + b"Content-Length: %d\r\n\r\n" % size, body)
    assert body_of(received).decode() == hashlib.sha256(body).hexdigest()


def test_http_1_0(forward: Forward) -> None:
    def chunks(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n")

    server, backend = forward(chunks)
    for _ in range(2):
        received = exchange(server, b"GET / HTTP/1.0\r\n\r\n")
        assert b"Transfer-Encoding" not in received
        assert body_of(received) == b"abcde"
    assert backend.accepted == 1


@pytest.mark.parametrize("where", ["::1", "unix"])
def test_other_families(forward: Forward, site: Path, where: str) -> None:
    server, _ = forward(where=str(site / "backend.sock") if where == "unix" else where)
    with Client(server) as client:
        for _ in range(3):
            assert client.ask("/x").body.startswith(b"GET /x HTTP/1.1\r\nHost: a.example\r\n")


@pytest.mark.parametrize("host", ["keep", "server", "inner.example:8"])
def test_hosts(forward: Forward, host: str) -> None:
    server, backend = forward(host=host)
    with Client(server) as client:
        expected = {"keep": "a.example", "server": backend.authority}.get(host, host)
        assert f"\r\nHost: {expected}\r\n" in client.ask("/").body.decode()


def test_absolute_targets(forward: Forward) -> None:
    server, _ = forward()
    received = exchange(server, b"GET http://b.example/x?y HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n")
    assert body_of(received).startswith(b"GET /x?y HTTP/1.1\r\nHost: b.example\r\n")


# ---- Responses.

LARGE = os.urandom(1 << 20) * 10


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_large_bodies_come_down(forward: Forward, framing: str) -> None:
    def large(peer: Peer) -> None:
        while peer.request() is not None:
            if framing == "length":
                peer.ok(LARGE)
            elif framing == "chunked":
                peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for i in range(0, len(LARGE), 77_777):
                    piece = LARGE[i : i + 77_777]
                    peer.send(b"%x\r\n%s\r\n" % (len(piece), piece))
                peer.send(b"0\r\n\r\n")
            else:
                peer.send(b"HTTP/1.1 200 OK\r\n\r\n", LARGE)
                return

    server, _ = forward(large)
    for _ in range(2):  # a 1.0 client has no chunks to be read
        received = exchange(server, b"GET / HTTP/1.0\r\n\r\n")
        assert body_of(received) == LARGE


def test_a_slow_client(forward: Forward) -> None:
    """It reads nothing for a while: the backend is not read either, and then all comes."""
    sent = threading.Semaphore(0)
    blocked = threading.Event()

    def large(peer: Peer) -> None:
        while peer.request() is not None:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            peer.send(OK, b"Content-Length: %d\r\n\r\n" % (len(LARGE) * 3))
            peer.sock.settimeout(0.3)  # how long it must stand still
            at = 0
            body = memoryview(LARGE * 3)
            while at < len(body):
                try:
                    at += peer.sock.send(body[at:])
                except TimeoutError:
                    blocked.set()
                    peer.sock.settimeout(PATIENCE)
            sent.release()

    server, _ = forward(large)
    with Client(server, receive_buffer=4096) as client:
        client.sock.sendall(request("/"))
        assert blocked.wait(PATIENCE)
        assert client.reader.response().body == LARGE * 3
        assert sent.acquire(timeout=PATIENCE)


def test_heads_and_no_bodies(forward: Forward) -> None:
    def script(peer: Peer) -> None:
        while (found := peer.request()) is not None:
            if found.line.startswith("HEAD"):
                peer.send(b"HTTP/1.1 200 Fine\r\nContent-Length: 1234\r\nServer: back\r\n\r\n")
            elif found.target == "/204":
                peer.send(b"HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n")
            elif found.target == "/304":
                peer.send(b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n')
            else:
                peer.ok(b"")

    server, backend = forward(script)
    with Client(server) as client:
        response = client.ask("/", method="HEAD")
        assert (response["content-length"], response["server"]) == ("1234", "back")
        for path, status in (("/204", 204), ("/", 200), ("/304", 304), ("/", 200)):
            assert client.ask(path).status == status
        client.finish()
    assert backend.accepted == 1


def test_informational_responses(forward: Forward) -> None:
    def hints(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n")
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
            peer.ok()

    server, _ = forward(hints)
    received = exchange(server, request("/", connection="close"))
    heads = received.split(b"\r\n\r\n")
    assert heads[0] == b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload"
    assert heads[1].startswith(b"HTTP/1.1 102 ")
    assert heads[2].startswith(b"HTTP/1.1 200 OK\r\n")
    assert heads[3:] == [b"hello"]
    assert exchange(server, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")


def test_trailers(forward: Forward) -> None:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
            peer.send(b"3\r\nabc\r\n0\r\nX-Sum: 6\r\nContent-Length: 9\r\n\r\n")

    server, _ = forward(script)
    received = exchange(server, request("/", connection="close"))
    assert b"\r\nTrailer: X-Sum\r\n" in received
    assert body_of(received) == b"3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"


def test_expect_continue(forward: Forward) -> None:
    def script(peer: Peer) -> None:
        while (found := peer.head()) is not None:
            assert found.fields["expect"] == "100-continue"
            if found.target == "/no":
                peer.send(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
                assert peer.ended()
                return
            if found.target == "/yes":
                peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            peer.ok(peer.body_of(found))

    server, _ = forward(script)
    for target in ("/yes", "/silent"):
        with Client(server) as client:
            client.sock.sendall(request(target, method="PUT", expect="100-continue", content_length="3"))
            assert client.sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sock.sendall(b"abc")
            assert client.reader.response().body == b"abc"
    received = exchange(server, request("/no", method="PUT", expect="100-continue", content_length="3"))
    assert received.startswith(b"HTTP/1.1 401 No\r\n")
    assert b"\r\nConnection: close\r\n" in received


def test_upgrades(forward: Forward) -> None:
    def script(peer: Peer) -> None:
        found = peer.request()
        assert found is not None
        if "upgrade" not in found.fields:
            peer.ok(b"no")
            return
        assert (found.fields["connection"], found.fields["upgrade"]) == ("upgrade", "websocket")
        peer.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: y\r\n\r\nhi")
        while piece := peer.sock.recv(65536):
            peer.send(piece.upper())
        peer.send(b"bye")

    server, _ = forward(script)
    with open_socket(address_of(server)) as sock:
        sock.sendall(request("/", connection="keep-alive, Upgrade", upgrade="websocket") + b"early")
        received = b""
        while not received.endswith(b"hiEARLY"):
            received += sock.recv(65536)
        head = received.partition(b"\r\n\r\n")[0].decode()
        assert head.startswith("HTTP/1.1 101 ")
        assert "\r\nUpgrade: websocket" in head
        assert "\r\nX: y" in head
        data = os.urandom(300_000).lower()
        writer = threading.Thread(target=sock.sendall, args=(data,))
        writer.start()
        received = b""
        while len(received) < len(data):
            received += sock.recv(1 << 20)
        writer.join()
        assert received == data.upper()
        sock.shutdown(socket.SHUT_WR)
        rest = b""
        while piece := sock.recv(100):
            rest += piece
        assert rest == b"bye"
    h2c = request("/", connection="Upgrade, HTTP2-Settings, close", upgrade="h2c", http2_settings="x")
    assert body_of(exchange(server, h2c)) == b"no"


def test_websockets(site: Path) -> None:
    """Of a library that knows of no proxy, on both sides: compressed, large, to the closing code."""

    def answers(connection: ServerConnection) -> None:
        for text in connection:
            connection.send(text)
            if text == "end":
                connection.close(4001, "as agreed")

    with serve(answers, "127.0.0.1", 0) as behind:
        thread = threading.Thread(target=behind.serve_forever)
        thread.start()
        host, port = behind.socket.getsockname()
        with tux.Server(config=config_of(site / "websockets.toml", f"http://{host}:{port}")) as server:
            with connect(f"ws{server.url.removeprefix('http')}/", open_timeout=PATIENCE) as client:
                for text in ("", "h\u00e9", "x" * 900_000, "end"):
                    client.send(text)
                    assert client.recv(PATIENCE) == text
                with pytest.raises(ConnectionClosed) as caught:
                    client.recv(PATIENCE)
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "as agreed")
            stop(server)
        behind.shutdown()
        thread.join(PATIENCE)


def test_options_of_fields(forward: Forward) -> None:
    """By default no underscores, but upgrades; or the other way round."""
    for options, underscore, upgrade in (({}, False, True), ({"underscores": True, "upgrade": False}, True, False)):
        server, _ = forward(**options)
        data = b"GET / HTTP/1.1\r\nHost: a\r\nX_Y: z\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n"
        received = body_of(exchange(server, data))
        assert (b"\r\nX_Y: z\r\n" in received) == underscore
        assert (b"\r\nUpgrade: websocket\r\n" in received) == upgrade


# ---- Routes.


def test_escaped_slashes_do_not_pass_by_a_route(site: Path) -> None:
    """Whether a server takes "%2F" for a slash is its business, unless another route would then be meant."""
    config = site / "routes.toml"
    with Backend() as public, Backend() as other:
        config.write_text(
            f'[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\naccess_log = "off"\n[[site]]\nforward = "{other.url}"\n'
            f'[[site.route]]\npath = "/public"\nforward = "{public.url}"\n'
            f'[[site.route]]\npath = "/admin"\nforward = "{other.url}"\n'
        )
        with tux.Server(config=config) as server, Client(server) as client:
            for path, status in (
                ("/public/a", 200),
                ("/public/a%2Fb", 200),
                ("/public/a%2f..%2fb", 200),
                ("/public/x/../../admin/a", 200),
                ("/public/..%2fadmin/a", 404),
                ("/public%2F..%2fadmin%2fa", 404),
                ("/public%2fa", 404),
                ("/admin%2Fa", 404),
                ("/x%2Fa", 200),
                ("/..%2fx", 404),
            ):
                response = client.ask(path)
                assert response.status == status, path
                if status == 200:
                    assert response.body.startswith(f"GET {path} HTTP/1.1\r\n".encode())
            stop(server)
        assert public.accepted == 1


@pytest.mark.parametrize(
    "path",
    [
        "/a/..;/admin",
        "/a/..;x=1/admin",
        "/a/.;/b",
        "/;/admin",
        "/a;b/c",
        "/a/%2e%2e;/b",
        "/a/..%3b/b",
        "/a/%252e%252e/b",
    ],
)
def test_parameters_of_segments_are_passed_as_sent(forward: Forward, path: str) -> None:
    """A segment like "..;" is a name, and no step up: the server behind gets these very bytes."""
    server, _ = forward()
    with Client(server) as client:
        assert client.ask(path).body.startswith(f"GET {path} HTTP/1.1\r\n".encode())


def test_parameters_of_segments_choose_no_other_route(site: Path) -> None:
    """A route that is not for everybody is not reached by another one: the path is matched as it is sent."""
    config = site / "parameters.toml"
    with Backend() as public, Backend() as admin:
        config.write_text(
            f'[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\naccess_log = "off"\n'
            f'[[site]]\nforward = "{public.url}"\n'
            f'[[site.route]]\npath = "/admin/"\nforward = "{admin.url}"\n'
        )
        with tux.Server(config=config) as server, Client(server) as client:
            for path in ("/a/..;/admin/x", "/;/admin/x", "/admin;x/y"):
                assert client.ask(path).status == 200
            assert (public.accepted, admin.accepted) == (1, 0)
            assert client.ask("/admin/..;/x").status == 200
            assert admin.accepted == 1
            stop(server)


# ---- The server around it.


def test_a_stop_waits(forward: Forward) -> None:
    """What is under way is finished, idle connections to the backend are no hindrance."""
    there, go = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        while (found := peer.request()) is not None:
            if found.target == "/slow":
                there.set()
                assert go.wait(PATIENCE)
            peer.ok(LARGE)

    server, _ = forward(script)
    with Client(server) as client, Client(server) as other:
        assert other.ask("/quick").body == LARGE
        client.sock.sendall(request("/slow"))
        assert there.wait(PATIENCE)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        other.reader.expect_end()
        go.set()
        assert client.reader.response().body == LARGE
        client.reader.expect_end()
        stopper.join(PATIENCE)
        assert not stopper.is_alive()


def test_the_log(site: Path) -> None:
    """One line for each, with the status and the bytes that the client got."""
    log = site / "forward.log"
    backend = Backend()
    with tux.Server(forward=backend.url, workers=1, access_log=log, log_format="json") as server:
        with Client(server) as client:
            length = len(client.ask("/x?y").body)
        backend.close()
        with Client(server) as client:
            assert client.ask("/dead").status == 502
        stop(server)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["target"], line["status"], line["tier"]) for line in lines] == [
        ("/x?y", 200, "forward"),
        ("/dead", 502, "error"),
    ]
    assert lines[0]["bytes"] == length
