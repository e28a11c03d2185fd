# SPDX-License-Identifier: MIT
"""Files that are compressed when they are first asked for, by the real server."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tux
from tests.e2e.client import FRESH, Client, put, stop, until

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
