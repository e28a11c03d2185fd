# SPDX-License-Identifier: MIT
"""Who the client is, end to end: what proxies in front say, in the log and behind the forwarder."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tux
from tests.corpus.reader import Reader
from tests.e2e.backend import Backend, Peer, Script, echo
from tests.e2e.client import Client, address_of, open_socket, put, request, stop, until
from tux._engine import build_proxy, parse_proxy

Start = Callable[..., tux.Server]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def script() -> Script:
    """What the backend does, for a test that does not say so itself."""
    return echo


@pytest.fixture
def start(site: Path, log: Path, script: Script) -> Iterator[Start]:
    """Starts a server that has the file /a.txt, and forwards the rest to a backend that echoes heads: options of
    [server], and of [upstream.back]."""
    put(site / "a.txt", "content")
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(Backend(script))

        def start(server: str = "", upstream: str = "", listen: str = '"127.0.0.1:0"') -> tux.Server:
            config = site / ".identity.toml"
            config.write_text(
                f'[server]\nworkers = 1\nlisten = [{listen}]\naccess_log = "{log}"\n{server}\n'
                f'[upstream.back]\nservers = ["{backend.url}"]\n{upstream}\n'
                f'[[site]]\nroot = "{site}"\nforward = "back"\n'
            )
            started = tux.Server(config=config)
            stack.callback(lambda: stop(started))
            started.start()
            return started

        yield start


def peers(log: Path, count: int) -> list[str]:
    until(lambda: log.exists() and log.read_bytes().count(b"\n") >= count, f"{count} lines are in the log")
    return [line.split(" ")[0] for line in log.read_text().splitlines()]


def told(text: bytes) -> list[str]:
    return [line for line in text.decode().split("\r\n") if re.match("(?i)x-forwarded|forwarded", line)]


def test_nobody_is_believed_unless_named(start: Start, log: Path) -> None:
    server = start()
    said = {
        "x_forwarded_for": "1.1.1.1",
        "x_forwarded_proto": "https",
        "x_forwarded_host": "evil",
        "forwarded": "for=1",
    }
    with Client(server) as client:
        for _ in range(3):  # planned twice, then from memory
            assert client.ask("/a.txt", **said).body == b"content"
        assert told(client.ask("/other", **said).body) == [
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: a.example",
        ]
    assert set(peers(log, 4)) == {"127.0.0.1"}


def test_a_trusted_proxy_is_believed(start: Start, log: Path) -> None:
    server = start('trusted = ["127.0.0.0/8", "10.0.0.0/8"]', "forwarded = true")
    with Client(server) as client:
        for i in range(4):
            assert client.ask("/a.txt", x_forwarded_for=f"9.9.9.9, 198.51.100.{i}, 10.1.1.1").body == b"content"
        response = client.ask("/other", x_forwarded_for="198.51.100.9", x_forwarded_proto="https", x_forwarded_host="b")
        assert told(response.body) == [
            "X-Forwarded-For: 198.51.100.9, 127.0.0.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: b",
            'Forwarded: for=198.51.100.9;host="b";proto=https',
        ]
        client.ask("/a.txt", forwarded='for="[2001:db8::7]:80"')
        client.ask("/a.txt")
        client.sock.sendall(b"\x00\r\n\r\n")  # nothing to read in this one
        assert client.reader.response().status == 400
    assert peers(log, 8) == [
        *(f"198.51.100.{i}" for i in range(4)),
        "198.51.100.9",
        "2001:db8::7",
        "127.0.0.1",
        "127.0.0.1",
    ]


def test_unix_sockets(start: Start, log: Path, site: Path) -> None:
    path = site / "identity.sock"
    server = start('trusted = ["unix"]', listen=f'"unix:{path}"')
    with open_socket(str(path)) as sock:
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n")
        assert told(Reader(sock).response().body)[0] == "X-Forwarded-For: 198.51.100.9"
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert told(Reader(sock).response().body)[0] == "X-Forwarded-Proto: http"
    assert peers(log, 2) == ["198.51.100.9", "unix:"]
    assert server.urls


# ---- The PROXY protocol.

NAMED = build_proxy(1, b"198.51.100.1:4711", b"203.0.113.1:80")
NAMED2 = build_proxy(2, b"[2001:db8::7]:4711", b"[2001:db8::1]:80")
TLVS = bytearray(build_proxy(2, b"198.51.100.2:1", b"203.0.113.1:80") + b"\x04\x00\x03abc")
TLVS[15] += 6
PROXIED = 'trusted = ["127.0.0.0/8"]\nproxy_protocol = true'


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (NAMED, "198.51.100.1"),
        (NAMED2, "2001:db8::7"),
        (bytes(TLVS), "198.51.100.2"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (build_proxy(2, b"unix:", b"unix:"), "127.0.0.1"),
    ],
)
def test_a_proxy_names_the_client(start: Start, log: Path, header: bytes, peer: str) -> None:
    server = start(PROXIED)
    both = request("/a.txt") + request("/x", x_forwarded_for="9.9.9.9")
    for pieces in ([header + both], [header, both], [bytes([byte]) for byte in header + both]):
        with open_socket(address_of(server)) as sock:
            reader = Reader(sock)
            for piece in pieces:
                sock.sendall(piece)
            assert reader.response().body == b"content"
            # Who is named is no proxy of ours; the proxy itself is.
            expected = "9.9.9.9, 127.0.0.1" if peer == "127.0.0.1" else peer
            assert told(reader.response().body)[0] == f"X-Forwarded-For: {expected}"
    assert peers(log, 6) == [peer, "9.9.9.9" if peer == "127.0.0.1" else peer] * 3


@pytest.mark.parametrize(
    "wrong",
    [
        request("/a.txt"),
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n" + request("/a.txt"),
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c" + bytes(12),
        b"\x16\x03\x01",
        b"PROXY TCP4 " + b"1" * 200,
    ],
)
def test_who_must_name_a_client_and_does_not_gets_nothing(start: Start, wrong: bytes) -> None:
    server = start(PROXIED)
    with open_socket(address_of(server)) as sock:
        sock.sendall(wrong)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""


def test_a_header_that_does_not_come(start: Start) -> None:
    server = start(PROXIED + "\n[server.limits]\nhead_timeout = 0.1")
    for part in (b"", b"PROXY TCP4 1.1.1.1"):
        with open_socket(address_of(server)) as sock:
            sock.sendall(part)
            assert sock.recv(1) == b""


def test_others_must_not_name_a_client(start: Start, log: Path) -> None:
    server = start('trusted = ["198.51.100.0/24"]\nproxy_protocol = true')
    with open_socket(address_of(server)) as sock:
        sock.sendall(NAMED + request("/a.txt"))
        assert Reader(sock).response().status == 400
    with Client(server) as client:
        assert client.ask("/a.txt").body == b"content"
    assert peers(log, 2) == ["127.0.0.1", "127.0.0.1"]


def named(peer: Peer) -> None:
    """Says what the header was, and the request."""
    first = peer.take(16)
    header = first + (peer.line() + b"\r\n" if first.startswith(b"PROXY") else peer.take(first[15]))
    found = parse_proxy(header)
    assert found["length"] == len(header)
    asked = peer.request()
    assert asked is not None
    peer.ok(f"{found['version']} {found['address']} {asked.line} ".encode() + asked.body)
    assert peer.ended()


@pytest.mark.parametrize("script", [named])
@pytest.mark.parametrize("version", [1, 2])
def test_the_upstream_is_told_by_the_protocol(start: Start, version: int) -> None:
    server = start('trusted = ["127.0.0.0/8"]', f"proxy_protocol = {version}")
    with Client(server) as client:
        for number in range(3):  # each by a connection of its own
            response = client.ask(f"/{number}", x_forwarded_for=f"198.51.100.{number}")
            assert response.body.decode() == f"{version} 198.51.100.{number} GET /{number} HTTP/1.1 "
        client.sock.sendall(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        assert client.reader.response("POST").body.decode() == f"{version} 127.0.0.1 POST /p HTTP/1.1 hello"
