# SPDX-License-Identifier: MIT
"""Forwarding to the servers of others as they are: files from those that have some, bodies to those that read them."""

from __future__ import annotations

import contextlib
import http.client
import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import tux
from tests import features
from tests.e2e.backend import config_of
from tests.e2e.client import Client, put, request, stop
from tests.e2e.servers import SERVERS, running
from tools.fetch_peers import FetchError

SMALL = b"small\n" * 20
LARGE = os.urandom(1 << 20) * 10
WITH_FILES = ("nginx", "apache", "lighttpd")
WITH_BODIES = ("gunicorn", "uvicorn", "node")


@dataclass(frozen=True)
class Pair:
    name: str
    front: tux.Server

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.front.url.removeprefix("http://"), timeout=30)


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, site: Path) -> Iterator[Pair]:
    features.require("peers")
    name = str(request.param)
    folder = site / name
    put(folder / "files" / "small.txt", SMALL, mtime=1_700_000_000)
    put(folder / "files" / "large.bin", LARGE, mtime=1_700_000_000)
    for path in (folder, folder / "files"):
        path.chmod(0o777)
    try:
        with contextlib.ExitStack() as stack:
            url = stack.enter_context(running(name, folder))
            front = stack.enter_context(tux.Server(config=config_of(folder / "tux.toml", url, workers=2)))
            yield Pair(name, front)
            stop(front)
    except FetchError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("pair", SERVERS, indirect=True, scope="module")
def test_many_requests(pair: Pair) -> None:
    """Over kept connections, from several clients at once: everybody gets his own answer."""
    wrong: list[str] = []

    def ask(number: int) -> None:
        connection = pair.connect()
        for i in range(50):
            target = "/files/small.txt" if pair.name in WITH_FILES else f"/{number}/{i}"
            connection.request("GET", f"{target}?{number}-{i}", headers={"Host": "a.example"})
            response = connection.getresponse()
            body = response.read()
            seen = response.getheader("X-Seen") or f"GET {target}?{number}-{i} a.example"
            if f"{target}?{number}-{i}" not in seen or (pair.name in WITH_FILES and body != SMALL):
                wrong.append(f"{response.status} {seen} {len(body)}")
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("pair", WITH_FILES, indirect=True, scope="module")
def test_files(pair: Pair) -> None:
    connection = pair.connect()
    connection.request("GET", "/files/large.bin")
    response = connection.getresponse()
    assert response.read() == LARGE
    etag, modified = response.getheader("ETag"), response.getheader("Last-Modified")
    connection.request("HEAD", "/files/large.bin")
    response = connection.getresponse()
    assert (response.status, response.getheader("Content-Length"), response.read()) == (200, str(len(LARGE)), b"")
    connection.request("GET", "/files/large.bin", headers={"Range": "bytes=5-1000004"})
    response = connection.getresponse()
    assert (response.status, response.read()) == (206, LARGE[5:1000005])
    connection.request(
        "GET", "/files/large.bin", headers={"If-None-Match": etag or "", "If-Modified-Since": modified or ""}
    )
    response = connection.getresponse()
    assert (response.status, response.read()) == (304, b"")
    connection.request("GET", "/files/none")
    response = connection.getresponse()
    assert response.status == 404
    response.read()
    connection.request("GET", "/files/small.txt")
    assert connection.getresponse().read() == SMALL
    connection.close()


@pytest.mark.parametrize("pair", WITH_BODIES, indirect=True, scope="module")
def test_bodies(pair: Pair) -> None:
    connection = pair.connect()
    for body in (b"", b"x", LARGE):
        for chunked in (False, True):
            pieces = iter([body[i : i + 99_999] for i in range(0, len(body), 99_999)])
            connection.request("POST", "/up", pieces if chunked else body, encode_chunked=chunked)
            response = connection.getresponse()
            assert response.read() == b"ok"
            seen = (response.getheader("X-Seen") or "").split(" ")
            assert seen[:2] + seen[3:] == ["POST", "/up", str(len(body)), str(zlib.crc32(body))]
    connection.close()


@pytest.mark.parametrize("pair", WITH_BODIES, indirect=True, scope="module")
def test_expect(pair: Pair) -> None:
    """Whether a server knows it or not, the body gets there."""
    with Client(pair.front) as client:
        head = request("/up", method="PUT", expect="100-continue", content_length="5", connection="close")
        client.sock.sendall(head)
        assert client.sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sock.sendall(b"hello")
        received = b""
        while piece := client.sock.recv(65536):
            received += piece
    seen = next(line for line in received.decode().split("\r\n") if line.lower().startswith("x-seen: "))
    assert seen.endswith(f" 5 {zlib.crc32(b'hello')}")
