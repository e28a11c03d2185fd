# SPDX-License-Identifier: MIT
"""How connections live and end: persistence, pipelining, slow and rude clients, time-outs."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tux
from tests.corpus.reader import PATIENCE, ClosedError, Reader
from tests.e2e.client import Client, address_of, get, is_idle, open_socket, put, request, stop, until

SMALL = b"small\n" * 20
MEDIUM = bytes(range(250)) * 40
SOME = bytes(range(256)) * 800  # 200 KiB: sockets hold it, a first flight of packets does not
LARGE = bytes(range(256)) * 4096 * 10  # 10 MiB: no socket buffer takes it
TIMEOUT = 0.6
"""Seconds, for the time-outs that tests wait for; three times that is the bound."""


@pytest.fixture(scope="module", autouse=True)
def files(site: Path) -> None:
    put(site / "small.txt", SMALL, mtime=1_700_000_000)
    put(site / "medium.bin", MEDIUM, mtime=1_700_000_000)
    put(site / "some.bin", SOME, mtime=1_700_000_000)
    put(site / "large.bin", LARGE, mtime=1_700_000_000)


@pytest.fixture(scope="module")
def impatient(site: Path) -> Iterator[tux.Server]:
    """A server with short time-outs. Its clean end shows that nothing leaked."""
    config = site / "impatient.toml"
    put(
        config,
        f'[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\naccess_log = "off"\n'
        f"[server.limits]\nhead_timeout = {TIMEOUT}\nidle_timeout = {TIMEOUT}\nstall_timeout = {TIMEOUT}\n"
        f'[[site]]\nroot = "{site}"\n',
    )
    with tux.Server(config=config) as server:
        yield server
        stop(server)


def test_one_connection_serves_many_requests(server: tux.Server) -> None:
    with Client(server) as client:
        for i in range(50):
            response = client.ask("/small.txt" if i % 3 else "/missing")
            assert response.status == (200 if i % 3 else 404)
            assert not response.closes
        client.finish()


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [("1.1", "", True), ("1.1", "close", False), ("1.0", "", False), ("1.0", "keep-alive", True)],
)
def test_who_keeps_the_connection(server: tux.Server, version: str, connection: str, kept: bool) -> None:
    fields = {"connection": connection} if connection else {}
    for path in ("/small.txt", "/large.bin", "/missing"):
        for _ in range(4):  # asked, and remembered
            with Client(server) as client:
                response = client.ask(path, version=version, **fields)
                assert response.closes != kept
                if kept:
                    assert response.get("connection") == ("keep-alive" if version == "1.0" else None)
                    assert client.ask("/small.txt").body == SMALL
                    client.finish()
                else:
                    assert response["connection"] == "close"
                    client.reader.expect_end()


def test_a_thousand_pipelined_requests_are_answered_in_order(server: tux.Server) -> None:
    paths = ["/small.txt", "/missing", "/large.bin", f"/new-{time.time_ns()}"]
    order = [paths[0] if i % 250 else paths[i // 250] for i in range(1000)]
    with Client(server) as client:
        sender = threading.Thread(target=client.sock.sendall, args=(b"".join(map(request, order)),))
        sender.start()
        for path in order:
            response = client.reader.response()
            expected = {"/small.txt": SMALL, "/large.bin": LARGE}.get(path)
            assert response.status == (404 if expected is None else 200)
            assert expected is None or response.body == expected
        sender.join()
        client.finish()


def test_a_client_that_sends_and_does_not_read_is_not_read_either(server: tux.Server) -> None:
    """Neither its requests nor their answers pile up in the server; when it reads, it gets all of them."""
    count = 5000
    data = request("/medium.bin", padding="x" * 4000) * count  # 20 MB, and 50 MB of answers: more than sockets hold
    (worker,) = server.worker_pids()
    with Client(server) as client:
        before = _resident_bytes(worker)
        client.sock.setblocking(False)
        sent = 0

        def stands_still() -> bool:
            nonlocal sent
            try:
                sent += client.sock.send(data[sent : sent + (1 << 20)])
            except BlockingIOError:
                return is_idle(server)
            return sent == len(data)

        until(stands_still, "the server does not read on")
        assert sent < len(data)
        assert _resident_bytes(worker) - before < 4_000_000
        client.sock.settimeout(PATIENCE)
        sender = threading.Thread(target=client.sock.sendall, args=(data[sent:],))
        sender.start()
        for _ in range(count):
            assert client.reader.response().body == MEDIUM
        sender.join()
        client.finish()


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class TestHalfClosed:
    """A client that has ended its side gets all its answers, and then the end."""

    def test_after_several_requests(self, server: tux.Server) -> None:
        with Client(server) as client:
            client.sock.sendall(request("/small.txt") + request(f"/new-{time.time_ns()}") + request("/large.bin"))
            client.sock.shutdown(socket.SHUT_WR)
            assert [client.reader.response().status for _ in range(3)] == [200, 404, 200]
            client.reader.expect_end()

    @pytest.mark.parametrize("path", ["/small.txt", "/large.bin", "/missing", "/"])
    def test_after_one_request(self, server: tux.Server, path: str) -> None:
        for _ in range(4):  # asked, and remembered
            with Client(server) as client:
                client.sock.sendall(request(path))
                client.sock.shutdown(socket.SHUT_WR)
                assert client.reader.response().status in (200, 404)
                client.reader.expect_end()

    def test_after_many(self, server: tux.Server) -> None:
        with Client(server) as client:
            client.sock.sendall(request("/small.txt") * 300)
            client.sock.shutdown(socket.SHUT_WR)
            for _ in range(300):
                assert client.reader.response().body == SMALL
            client.reader.expect_end()

    def test_in_the_middle_of_a_head(self, server: tux.Server) -> None:
        with Client(server) as client:
            client.sock.sendall(request("/small.txt") + b"GET / HT")
            client.sock.shutdown(socket.SHUT_WR)
            assert client.reader.response().body == SMALL
            client.reader.expect_end()

    def test_in_the_middle_of_a_body(self, server: tux.Server) -> None:
        with Client(server) as client:
            client.sock.sendall(request("/small.txt", method="POST", content_length="10") + b"12345")
            client.sock.shutdown(socket.SHUT_WR)
            client.reader.expect_end()

    def test_at_once(self, server: tux.Server) -> None:
        with Client(server) as client:
            client.finish()


def test_a_head_in_single_bytes(server: tux.Server) -> None:
    with Client(server) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request("/small.txt"):
            client.sock.send(bytes([byte]))
        assert client.reader.response().body == SMALL


def test_slow_readers_do_not_disturb_others(server: tux.Server) -> None:
    with contextlib.ExitStack() as opened:
        slow = [opened.enter_context(Client(server, receive_buffer=4096)) for _ in range(20)]
        for client in slow:
            client.sock.sendall(request("/large.bin"))
        for _ in range(200):
            assert get(server, "/small.txt").body == SMALL
        for client in slow:
            assert client.reader.response().body == LARGE


@pytest.mark.parametrize("after", [0, 10, 10_000])
def test_an_answer_survives_a_client_that_still_sends(server: tux.Server, after: int) -> None:
    """After an error nothing more is read for its meaning, but it is read: a RST would take the answer away."""
    with Client(server) as client:
        client.sock.sendall(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n" + b"x" * after)
        assert client.reader.response().status == 400
        client.reader.expect_end()


def test_an_answer_survives_what_comes_behind_the_last_request(server: tux.Server) -> None:
    """In a segment of its own, and before, while or after the server lets go of the connection."""
    for _ in range(20):
        with Client(server, receive_buffer=65536) as client:
            client.sock.sendall(request("/some.bin", connection="close"))
            client.sock.sendall(b"surplus")
            assert client.reader.response().body == SOME


def test_a_thousand_clients_that_go_away(site: Path) -> None:
    """At every point of a request and its answer; with and without a RST. Nothing may be left of them."""
    with tux.Server(site, workers=1, access_log="off") as server:
        first = request("/large.bin")
        whole = first + request("/small.txt") + request(f"/new-{time.time_ns()}")
        for i in range(1000):
            sock = open_socket(address_of(server), receive_buffer=4096)
            with sock, contextlib.suppress(ConnectionError):
                sent = 1 + i * len(whole) // 1000
                sock.sendall(whole[:sent])
                if i % 3 == 0 and sent >= len(first):
                    sock.recv(1 + i)
                if i % 2:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert get(server, "/small.txt").body == SMALL
        stop(server)


def test_clients_that_go_away_while_the_planner_decides(site: Path) -> None:
    """Its answers come for connections that are gone, and whose place another one has taken."""
    with tux.Server(site, workers=1, access_log="off") as server:
        for turn in range(20):
            for number in range(20):
                with open_socket(address_of(server)) as sock:
                    # Of several ranges and with a query of its own: never answered from the memo.
                    sock.sendall(request(f"/large.bin?{turn}-{number}", range="bytes=1-1,5-5,9-9"))
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert get(server, f"/small.txt?{turn}").body == SMALL
        stop(server)


def test_a_thousand_connections(server: tux.Server) -> None:
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(Client(server)) for _ in range(1000)]
        for _ in range(2):
            for client in clients:
                assert client.ask("/small.txt").body == SMALL


class TestTimeouts:
    def test_an_idle_connection_ends_quietly(self, impatient: tux.Server) -> None:
        with Client(impatient) as client:
            client.ask("/small.txt")
            began = time.monotonic()
            client.reader.expect_end()
            assert TIMEOUT * 0.5 < time.monotonic() - began < TIMEOUT * 3

    def test_so_does_one_that_never_said_anything(self, impatient: tux.Server) -> None:
        with Client(impatient) as client:
            client.reader.expect_end()

    def test_a_head_must_be_complete_in_time_however_it_trickles(self, impatient: tux.Server) -> None:
        began = time.monotonic()
        with Client(impatient) as client:
            sent = 0
            head = request("/small.txt", padding="x" * 5000)
            client.sock.settimeout(TIMEOUT / 20)
            received = b""
            while not received and time.monotonic() - began < TIMEOUT * 3:
                client.sock.send(head[sent : sent + 1])
                sent += 1
                with contextlib.suppress(TimeoutError):
                    received = client.sock.recv(4096)
            assert received.startswith(b"HTTP/1.1 408 ")
            assert b"\r\nConnection: close\r\n" in received

    def test_so_must_the_second_one(self, impatient: tux.Server) -> None:
        with Client(impatient) as client:
            client.sock.sendall(request("/small.txt") + b"GET")
            assert client.reader.response().status == 200
            assert client.reader.response().status == 408
            client.reader.expect_end()

    def test_a_connection_with_a_request_now_and_then_is_not_idle(self, impatient: tux.Server) -> None:
        began = time.monotonic()
        with Client(impatient) as client:
            while time.monotonic() - began < TIMEOUT * 3:
                assert client.ask("/small.txt").status == 200
                select.select([client.sock], [], [], TIMEOUT / 4)  # nothing comes

    def test_a_body_must_come_in_time(self, impatient: tux.Server) -> None:
        with Client(impatient) as client:
            client.sock.sendall(b"POST /small.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
            assert client.reader.response().status == 408
            client.reader.expect_end()

    def test_a_client_that_takes_nothing_is_given_up(self, impatient: tux.Server) -> None:
        with Client(impatient, receive_buffer=4096) as client:
            client.sock.sendall(request("/large.bin"))
            client.sock.recv(1)
            # It is given up when nothing was taken for a while: then the server's end is reset.
            until(lambda: _is_reset(client.sock), "the connection is reset", TIMEOUT * 6)

    def test_a_client_that_takes_a_little_is_not(self, impatient: tux.Server) -> None:
        with Client(impatient) as client:
            client.sock.sendall(request("/large.bin"))
            began, taken = time.monotonic(), 0
            pace = len(LARGE) / (TIMEOUT * 2.5)  # bytes a second: all of it takes longer than the time-out
            while taken < len(LARGE):
                piece = client.sock.recv(len(LARGE) // 60)
                assert piece
                taken += len(piece)
                while (time.monotonic() - began) * pace < taken:
                    os.sched_yield()
            client.finish()


def _is_reset(sock: socket.socket) -> bool:
    # tcp(7), TCP_INFO: the first byte is the state; 7 is TCP_CLOSE.
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 7


def test_a_connection_that_ends_in_the_middle_is_seen_as_such(server: tux.Server) -> None:
    """The client used by these tests notices a short body: a check of the checker."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 21:00:00 GMT\r\nContent-Length: 10\r\n\r\n12345")
        theirs.close()
        with pytest.raises(ClosedError):
            Reader(ours).response()
