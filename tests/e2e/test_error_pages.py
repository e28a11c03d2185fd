# SPDX-License-Identifier: MIT
"""Error pages, by the real server: what the planner and what the engine answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tux
from tests.e2e.client import FRESH, Client, get, put, stop, until

NOBODY = "http://127.0.0.1:9"
"""A server that does not answer: the port is that of the discard service."""


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[tux.Server]:
    pages = {400: "errors/400.html", 404: "errors/404.html", 405: "errors/405.html", 414: "errors/414.txt"}
    for status, path in pages.items():
        put(site / path, f"our own {status}")
    put(site / "errors/.htaccess", "x")
    with tux.Server(
        site, workers=1, access_log="off", error_page=pages, cache_control="max-age=60", headers={"X-A": "1"}
    ) as server:
        yield server
        stop(server)


def test_what_is_missing(server: tux.Server) -> None:
    with Client(server) as client:
        for _ in range(3):  # planned, admitted, remembered
            answer = client.ask("/none")
            assert (answer.status, answer.body) == (404, b"our own 404")
            assert answer["Content-Type"] == "text/html; charset=utf-8"
            assert answer["X-A"] == "1"
            assert {"cache-control", "etag"}.isdisjoint(answer.fields)
            head = client.ask("/none", method="HEAD")
            assert (head.status, head.body) == (404, b"")
            assert head.stable_head == answer.stable_head
        assert client.ask("/errors/.htaccess").body == b"our own 404"
        assert client.ask("/errors/404.html").status == 200
        client.finish()


def test_what_the_engine_finds(server: tux.Server) -> None:
    answer = get(server, "/x", method="POST")
    assert (answer.status, answer.body, answer["Allow"]) == (405, b"our own 405", "GET, HEAD, OPTIONS")
    with Client(server) as client:
        answer = client.ask("/" + "x" * 9000)
        assert (answer.status, answer.body) == (414, b"our own 414")
        assert answer["Content-Type"] == "text/plain; charset=utf-8"
    with Client(server) as client:
        client.sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nbroken line\r\n\r\n")
        answer = client.reader.response("GET")
        assert (answer.status, answer.body) == (400, b"our own 400")


def test_a_page_that_changes(site: Path, server: tux.Server) -> None:
    page = site / "errors/404.html"
    assert get(server, "/changing").body == b"our own 404"
    page.write_text("another")
    until(lambda: get(server, "/changing").body == b"another", "the new page", FRESH)
    page.unlink()
    until(lambda: b"<h1>404 Not Found</h1>" in get(server, "/changing").body, "no page", FRESH)
    page.write_text("our own 404")
    until(lambda: get(server, "/changing").body == b"our own 404", "the page again", FRESH)


def test_a_server_behind_that_does_not_answer(site: Path) -> None:
    put(site / "down.html", "we are down")
    with tux.Server(
        site, workers=1, access_log="off", forward=NOBODY, error_page={502: "down.html", 503: "down.html"}
    ) as server:
        answer = get(server, "/api")
        assert answer.status in (502, 503)
        assert answer.body == b"we are down"
        server.stop()


def test_a_site_among_several_has_none_of_the_engine(site: Path, tmp_path: Path) -> None:
    put(site / "n/404.html", "not here")
    put(site / "n/400.html", "not so")
    config = tmp_path / "tux.toml"
    config.write_text(
        f"""
        [server]
        listen = ["127.0.0.1:0"]
        workers = 1
        access_log = "off"
        [[site]]
        hosts = ["a.example"]
        root = "{site}/n"
        error_page = {{ 404 = "404.html", 400 = "400.html" }}
        [[site]]
        root = "{site}"
        """
    )
    with tux.Server(config=config) as server:
        assert get(server, "/x", host="a.example").body == b"not here"
        assert b"404 Not Found" in get(server, "/x", host="b.example").body
        with Client(server) as client:
            client.sock.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\nbroken line\r\n\r\n")
            assert b"400 Bad Request" in client.reader.response("GET").body
        stop(server)
