# SPDX-License-Identifier: MIT
"""Redirects and rewrites, by the real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tux
from tests.e2e.client import Client, put, stop


@pytest.fixture(scope="module")
def server(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tux.Server]:
    put(site / "docs/a.html", "a")
    config = tmp_path_factory.mktemp("redirects") / "tux.toml"
    config.write_text(
        f"""
        [server]
        listen = ["127.0.0.1:0"]
        workers = 1
        access_log = "off"
        [[site]]
        root = "{site}"
        [[site.route]]
        path = "/old"
        redirect = "/new/{{rest}}"
        [[site.route]]
        path = "/post"
        redirect = "https://{{host}}{{path}}"
        status = 308
        [[site.route]]
        path = "/manual"
        rewrite = "/docs/{{1}}.html"
        match = "*"
        """
    )
    with tux.Server(config=config) as server:
        yield server
        stop(server)


def test_redirects(server: tux.Server) -> None:
    with Client(server) as client:
        for _ in range(3):  # planned, admitted, remembered
            answer = client.ask("/old/a%20b?x=1")
            assert (answer.status, answer["Location"]) == (301, "/new/a%20b?x=1")
            assert client.ask("/old/a%20b?x=2")["Location"] == "/new/a%20b?x=2"
            assert client.ask("/old/a", method="HEAD")["Location"] == "/new/a"
            assert client.ask("/post", method="POST", host="b.example:81")["Location"] == "https://b.example/post"
            assert client.ask("/post", method="POST", host="c.example")["Location"] == "https://c.example/post"
        client.finish()


def test_rewrites(server: tux.Server) -> None:
    with Client(server) as client:
        for _ in range(3):
            assert client.ask("/manual/a").body == b"a"
            assert client.ask("/manual/b").status == 404
        client.finish()
