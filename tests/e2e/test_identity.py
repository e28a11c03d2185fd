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
from tests.e2e.backend import Backend, echo
from tests.e2e.client import Client, open_socket, put, stop, until

Start = Callable[..., tux.Server]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def start(site: Path, log: Path) -> Iterator[Start]:
    """Starts a server that has the file /a.txt, and forwards the rest to a backend that echoes heads: options of
    [server], and of [upstream.back]."""
    put(site / "a.txt", "content")
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(Backend(echo))

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
