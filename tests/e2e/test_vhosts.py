# SPDX-License-Identifier: MIT
"""Which site answers: exact hosts, wildcards, the default; IPv6 and unix sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import tux
from tests import features
from tests.e2e.client import Client, get, put, stop

CONFIG = """
[server]
workers = 1
listen = ["127.0.0.1:0"]
access_log = "off"

[[site]]
root = "default"

[[site]]
hosts = ["example.org", "www.example.org"]
root = "exact"

[[site.route]]
path = "/private"
deny = true

[[site]]
hosts = ["*.example.org"]
root = "wildcard"

[[site]]
hosts = ["*.deep.example.org"]
root = "deep"
"""


@pytest.fixture(scope="module")
def hosts(site: Path) -> Iterator[tux.Server]:
    for name in ("default", "exact", "wildcard", "deep"):
        put(site / name / "index.html", name)
        put(site / name / "private/secret.txt", "secret")
    with tux.Server(config=put(site / "tux.toml", CONFIG)) as server:
        yield server
        stop(server)


@pytest.mark.parametrize(
    ("host", "root"),
    [
        ("example.org", "exact"),
        ("EXAMPLE.Org", "exact"),
        ("example.org:8080", "exact"),
        ("example.org.", "exact"),
        ("www.example.org", "exact"),
        ("a.example.org", "wildcard"),
        ("a.b.example.org", "wildcard"),
        ("a.deep.example.org", "deep"),
        ("deep.example.org", "wildcard"),
        ("notexample.org", "default"),
        ("example.org.evil.test", "default"),
        ("127.0.0.1", "default"),
        ("[::1]:80", "default"),
    ],
)
def test_the_host_decides(hosts: tux.Server, host: str, root: str) -> None:
    for _ in range(3):  # asked twice, then remembered
        assert get(hosts, "/", host=host).body == root.encode()


def test_an_absolute_target_overrides_host(hosts: tux.Server) -> None:
    for _ in range(3):
        assert get(hosts, "http://a.example.org/", host="example.org").body == b"wildcard"


def test_http_1_0_without_host_gets_the_default(hosts: tux.Server) -> None:
    with Client(hosts) as client:
        client.sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.reader.response().body == b"default"
        client.reader.expect_end()


@pytest.mark.parametrize(
    "path", ["/private", "/private/", "/private/secret.txt", "/%70rivate/secret.txt", "//private/./secret.txt"]
)
def test_a_denied_route(hosts: tux.Server, path: str) -> None:
    for _ in range(3):
        assert get(hosts, path, host="example.org").status == 403
    assert get(hosts, "/private/secret.txt", host="a.example.org").body == b"secret"


def test_a_prefix_is_whole_segments(hosts: tux.Server) -> None:
    assert get(hosts, "/privateer", host="example.org").status == 404


def test_ipv6(site: Path) -> None:
    features.require("ipv6")
    put(site / "six.txt", "six")
    with tux.Server(site, listen="[::1]:0", workers=1) as server:
        assert server.url.startswith("http://[::1]:")
        for _ in range(3):
            assert get(server, "/six.txt").body == b"six"
        stop(server)


def test_unix_socket(site: Path) -> None:
    put(site / "unix.txt", "unix" * 50_000)
    path = site / "tux.sock"
    with tux.Server(site, listen=f"unix:{path}", workers=2, access_log="off") as server:
        assert server.url == f"unix:{path}"
        for _ in range(3):
            assert get(server, "/unix.txt").body == b"unix" * 50_000
            assert get(server, "/missing").status == 404
        with Client(server) as client:  # a body that is dropped: other calls than on TCP
            client.sock.sendall(
                b"POST /unix.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000)
            )
            assert client.reader.response().status == 405
            assert client.ask("/unix.txt").status == 200
        stop(server)
    assert not path.exists()


def test_a_stale_unix_socket_is_replaced_but_not_a_live_one(site: Path) -> None:
    path = site / "stale.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(os.fspath(path))
        stale.listen()
        with pytest.raises(tux.StartError, match="in use"):
            tux.Server(site, listen=f"unix:{path}").start()
    with tux.Server(site, listen=f"unix:{path}") as server:
        assert get(server, "/").status in (200, 404)
