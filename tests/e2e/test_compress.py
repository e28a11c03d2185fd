# SPDX-License-Identifier: MIT
"""Files that are compressed when they are first asked for, by the real server."""

from __future__ import annotations

import gzip
import importlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tux
from tests.e2e.client import FRESH, Client, get, put, stop, until
from tux.http.compress import compressors

UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "br": lambda data: bytes(importlib.import_module("brotli").decompress(data)),
    "zstd": lambda data: bytes(importlib.import_module("zstandard").ZstdDecompressor().decompress(data)),
}
QUIET = time.time() - 1000
TEXT = b"many words, many words, " * 5000


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[tux.Server]:
    with tux.Server(site, workers=1, access_log="off", compress=True) as server:
        yield server
        stop(server)


def test_every_form(site: Path, server: tux.Server) -> None:
    put(site / "a.txt", TEXT, QUIET)
    with Client(server) as client:
        for _ in range(3):  # planned, admitted, remembered
            small = client.ask("/a.txt", accept_encoding="gzip")
            assert gzip.decompress(small.body) == TEXT
            assert (small["Content-Encoding"], small["Vary"]) == ("gzip", "Accept-Encoding")
            assert client.ask("/a.txt").body == TEXT
            part = client.ask("/a.txt", accept_encoding="gzip", range="bytes=10-19")
            assert (part.status, part.body) == (206, small.body[10:20])
            assert part["Content-Range"] == f"bytes 10-19/{len(small.body)}"
            assert client.ask("/a.txt", accept_encoding="gzip", if_none_match=small["ETag"]).status == 304
            head = client.ask("/a.txt", accept_encoding="gzip", method="HEAD")
            assert (head["Content-Length"], head.body) == (str(len(small.body)), b"")
        client.finish()


@pytest.mark.parametrize("coding", compressors())
def test_every_coding_that_there_is(site: Path, server: tux.Server, coding: str) -> None:
    """Made in the process that may make few system calls; each has a tag of its own, which is no other's."""
    put(site / "c.txt", TEXT, QUIET)
    with Client(server) as client:
        plain = client.ask("/c.txt")
        for _ in range(3):
            answer = client.ask("/c.txt", accept_encoding=f"{coding}, *;q=0")
            assert (answer["Content-Encoding"], answer["Vary"]) == (coding, "Accept-Encoding")
            assert UNPACK[coding](answer.body) == TEXT
            assert answer["ETag"] != plain["ETag"] == client.ask("/c.txt")["ETag"]
            assert client.ask("/c.txt", accept_encoding=coding, if_none_match=plain["ETag"]).status == 200
            again = client.ask("/c.txt", accept_encoding=coding, if_none_match=answer["ETag"])
            assert (again.status, again["Vary"]) == (304, "Accept-Encoding")
        client.finish()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.woff2", "a.zip", "a.mp4", "a.txt.gz", "a.unknown"])
def test_what_is_compressed_already_is_left_alone(site: Path, server: tux.Server, name: str) -> None:
    put(site / name, TEXT, QUIET)
    answer = get(server, f"/{name}", accept_encoding="gzip, br, zstd")
    assert answer.body == TEXT
    assert {"content-encoding", "vary"}.isdisjoint(answer.fields)


def test_a_change_is_seen(site: Path, server: tux.Server) -> None:
    put(site / "b.txt", TEXT, QUIET)
    with Client(server) as client:
        for _ in range(3):
            assert gzip.decompress(client.ask("/b.txt", accept_encoding="gzip").body) == TEXT
        put(site / "b.txt", TEXT[::-1])
        until(
            lambda: gzip.decompress(client.ask("/b.txt", accept_encoding="gzip").body) == TEXT[::-1],
            "the new content",
            FRESH,
        )
        client.finish()
