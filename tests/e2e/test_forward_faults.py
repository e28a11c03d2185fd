# SPDX-License-Identifier: MIT
"""Forwarding to servers that are slow, dead, resetting, lying: what the client sees, and that nothing is mixed up."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tux
from tests.corpus.reader import PATIENCE
from tests.e2e.backend import OK, Backend, Peer, Script, config_of, echo
from tests.e2e.client import Client, address_of, get, open_socket, request, stop, until

OK5 = OK + b"Content-Length: 5\r\n\r\nhello"
TIMEOUT = 0.5
"""Seconds, for time-outs that tests wait for."""

Forward = Callable[..., tuple[tux.Server, list[Backend]]]


@pytest.fixture
def forward(site: Path) -> Iterator[Forward]:
    """A function that starts a server before backends with these scripts (None: nobody listens there)."""
    with contextlib.ExitStack() as stack:
        count = 0

        def start(*scripts: Script | None, **options: Any) -> tuple[tux.Server, list[Backend]]:
            nonlocal count
            count += 1
            backends = []
            for script in scripts:
                backend = Backend(script or echo)
                if script is None:
                    backend.close()
                else:
                    stack.enter_context(backend)
                backends.append(backend)
            name = f"faults-{id(stack)}-{count}.toml"
            config = config_of(site / name, *(backend.url for backend in backends), **options)
            server = tux.Server(config=config)
            stack.callback(lambda: stop(server))
            server.start()
            return server, backends

        yield start


def once(*texts: bytes) -> Script:
    """Read one request, say this, and close."""

    def script(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(*texts)

    return script


def always(text: bytes) -> Script:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(text)

    return script


def raw(server: tux.Server, data: bytes) -> bytes:
    with open_socket(address_of(server)) as sock:
        sock.sendall(data)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := sock.recv(65536):
                received += piece
        return received


# ---- No answer.


def test_nobody_there(forward: Forward) -> None:
    server, _ = forward(None)
    for _ in range(3):
        response = get(server)
        assert (response.status, response["retry-after"]) == (502, "1")
    with Client(server) as client:  # the connection goes on
        assert client.ask("/").status == 502
        assert client.ask("/").status == 502


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"HTTP/1.1 103 Hint\r\n\r\n" * 100,
    ],
)
def test_no_sound_head(forward: Forward, said: bytes) -> None:
    server, _ = forward(once(said))
    with open_socket(address_of(server)) as sock:
        sock.sendall(request("/", connection="close"))
        received = b""
        while piece := sock.recv(65536):
            received += piece
    final = received[received.rindex(b"HTTP/1.1 ") :]
    assert final.startswith(b"HTTP/1.1 502 ")


def test_a_reset(forward: Forward) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.reset()

    server, _ = forward(script)
    assert get(server).status == 502


@pytest.mark.parametrize(
    ("option", "script"),
    [
        ("first_byte_timeout", "silent"),
        ("idle_timeout", "stalls"),
        ("send_timeout", "deaf"),
    ],
)
def test_timeouts(forward: Forward, option: str, script: str) -> None:
    done = threading.Event()

    def run(peer: Peer) -> None:
        if script != "deaf":
            peer.request()
        if script == "stalls":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
        done.wait(PATIENCE)

    server, _ = forward(run, **{option: TIMEOUT, "retries": 0})
    began = time.monotonic()
    if script == "deaf":
        with open_socket(address_of(server)) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
            received = b""
            writer = threading.Thread(target=_pour, args=(sock,))
            writer.start()
            with contextlib.suppress(ConnectionError):
                while b"\r\n\r\n" not in received and (piece := sock.recv(65536)):
                    received += piece
            writer.join()
    else:
        received = raw(server, request("/", connection="close"))
    assert TIMEOUT <= time.monotonic() - began < TIMEOUT + 5
    if script == "stalls":
        assert received.endswith(b"\r\n\r\nhel"), "cut, so that the client sees it"
    else:
        assert received.startswith(b"HTTP/1.1 504 ")
        assert b"\r\nRetry-After: 1\r\n" in received
    done.set()


def _pour(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        for _ in range(1000):
            sock.sendall(bytes(100_000))


# ---- Lies.


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ],
)
def test_too_little(forward: Forward, said: bytes) -> None:
    """The client must see that the answer is not whole."""
    server, _ = forward(once(said))
    with Client(server) as client:
        client.sock.sendall(request("/"))
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := client.sock.recv(65536):
                received += piece
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert not received.endswith(b"0\r\n\r\n")
        assert b"hello" in received
    received = raw(server, b"GET / HTTP/1.0\r\n\r\n")
    assert b"Content-Length: 50" in received or b"Content-Length" not in received


def test_surplus_bytes(forward: Forward) -> None:
    """What follows a complete response must never become the next client's."""
    server, (backend,) = forward(always(OK5 + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
    with Client(server) as client:
        for _ in range(20):
            assert client.ask("/").body == b"hello"
    assert backend.accepted == 20


def test_unsolicited_bytes(forward: Forward) -> None:
    """Bytes on an idle connection: they were there before the next request, so they are no answer to it."""
    more, sent = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(OK5)
        if peer.number == 0:
            more.wait(PATIENCE)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            sent.set()
        assert peer.ended()

    server, (backend,) = forward(script)
    assert get(server).body == b"hello"
    more.set()
    assert sent.wait(PATIENCE)
    assert get(server).body == b"hello"
    assert backend.accepted == 2


def test_early_answers(forward: Forward) -> None:
    def script(peer: Peer) -> None:
        if peer.head() is not None:
            peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
            with contextlib.suppress(ConnectionError):
                while peer.sock.recv(65536):
                    pass

    server, (backend,) = forward(script)
    for _ in range(2):
        with open_socket(address_of(server)) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\nabc")
            received = b""
            while not received.endswith(b"\r\n\r\nno"):
                received += sock.recv(65536)
            assert received.startswith(b"HTTP/1.1 413 Too Large\r\n")
    assert backend.accepted == 2


# ---- Connections that end.


def test_closing_between_requests(forward: Forward) -> None:
    """It says nothing of closing, and closes: some requests meet the end, and go over a new connection."""
    server, (backend,) = forward(once(OK5))
    with Client(server) as client:
        for i in range(200):
            assert client.ask("/", method=("GET", "PUT", "DELETE")[i % 3]).body == b"hello"
    assert backend.accepted == 200


def test_a_restart(forward: Forward) -> None:
    """All idle connections die at once."""
    peers: list[Peer] = []

    def script(peer: Peer) -> None:
        peers.append(peer)
        while peer.request() is not None:
            peer.send(OK5)

    server, _ = forward(script, keepalive_timeout=60.0)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(10)]
        for _ in range(5):
            for client in clients:
                client.sock.sendall(request("/"))
            for client in clients:
                assert client.reader.response().body == b"hello"
            for peer in peers:
                with contextlib.suppress(OSError):
                    peer.sock.shutdown(socket.SHUT_RDWR)
            peers.clear()


def test_the_client_goes(forward: Forward) -> None:
    """A reset ends the request at the server, too. After a FIN the client may still read, so it goes on."""
    there, gone = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        if (found := peer.request()) is not None and found.target == "/reset":
            there.set()
            assert peer.ended()
            gone.set()
        else:
            peer.ok()

    server, _ = forward(script)
    with open_socket(address_of(server)) as sock:
        sock.sendall(request("/reset"))
        assert there.wait(PATIENCE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert gone.wait(PATIENCE)
    with Client(server) as client:
        client.sock.sendall(request("/"))
        client.sock.shutdown(socket.SHUT_WR)
        assert client.reader.response().body == b"hello"


# ---- Several servers.


def named(name: bytes) -> Script:
    return always(OK + b"Content-Length: 1\r\n\r\n" + name)


def test_turns_and_failures(forward: Forward) -> None:
    server, backends = forward(named(b"a"), None, named(b"c"), keepalive=0)
    with Client(server) as client:
        found = [client.ask("/", method="POST", content_length="0").body for _ in range(20)]
    assert found.count(b"a") in (10, 11, 9)
    assert found.count(b"c") == 20 - found.count(b"a")
    del backends


def test_weights(forward: Forward) -> None:
    server, _ = forward(named(b"a"), named(b"b"), named(b"c"), weights=[5, 1, 1])
    with Client(server) as client:
        found = b"".join(client.ask("/").body for _ in range(14))
    assert found == b"aabacaa" * 2


def test_least_connections(forward: Forward) -> None:
    """A server that is at work on a long request gets no other one while the other server is idle."""
    go = threading.Event()
    held: list[bytes] = []

    def holds(name: bytes) -> Script:
        def script(peer: Peer) -> None:
            while (found := peer.request()) is not None:
                if found.target == "/hold":
                    held.append(name)
                    assert go.wait(PATIENCE)
                peer.ok(name)

        return script

    server, _ = forward(holds(b"a"), holds(b"b"), balance="least-connections")
    with Client(server) as first, Client(server) as second:
        first.sock.sendall(request("/hold"))
        until(lambda: held, "one of them is at work")
        assert {second.ask("/").body for _ in range(6)} == {b"a", b"b"} - set(held)
        go.set()
        assert first.reader.response().body == held[0]


def test_retries(forward: Forward) -> None:
    server, _ = forward(once(b""), named(b"b"), max_fails=0)
    with Client(server) as client:
        for method in ("GET", "PUT", "DELETE") * 4:
            assert client.ask("/", method=method).body == b"b"
        statuses = [client.ask("/", method="POST", content_length="0").status for _ in range(4)]
    assert sorted(statuses) == [200, 200, 502, 502]


def test_the_queue(forward: Forward) -> None:
    go = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            go.acquire(timeout=PATIENCE)
            peer.send(OK5)

    server, (backend,) = forward(script, connections=1, queue=2, queue_timeout=TIMEOUT)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(4)]
        clients[0].sock.sendall(request("/"))
        until(lambda: backend.accepted == 1, "the first is at work")
        for client in clients[1:]:
            client.sock.sendall(request("/"))
        answers = [client.reader.response() for client in clients[1:]]
        statuses = [answer.status for answer in answers if "retry-after" in answer]
        assert statuses == [503, 503, 503], "one at once, two when they had waited too long"
        go.release()
        assert clients[0].reader.response().body == b"hello"
        clients[1].sock.sendall(request("/"))
        clients[2].sock.sendall(request("/"))
        go.release()
        go.release()
        for client in clients[1:3]:
            assert client.reader.response().body == b"hello"
    assert backend.accepted == 1


# ---- What is said about it.


def test_failures_are_in_the_error_log(forward: Forward) -> None:
    scripts: dict[str, Script | None] = {
        "no connection: Connection refused": None,
        "closed without an answer": once(b""),
        "closed in the middle of the answer": once(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"),
        "the answer is not sound HTTP": once(b"220 smtp.example ready\r\n"),
    }
    for said, script in scripts.items():
        server, (backend,) = forward(script)
        for _ in range(2):
            raw(server, request("/", connection="close"))
        stop(server)
        address = backend.url.removeprefix("http://")
        assert f'upstream "back", {address}: {said} (' in server.stderr_text()
