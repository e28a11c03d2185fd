# SPDX-License-Identifier: MIT
"""Redirects and rewrites, by the real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

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
        [[site.route]]
        path = "/docs"
        redirect = "/docs/{{1}}.html"
        match = "*.htm"
        status = 302
        [[site.route]]
        path = "/free"
        redirect = "/{{1}}/{{2}}"
        match = "*-/**"
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


def test_what_does_not_match_is_there_without_the_redirect(server: tux.Server) -> None:
    with Client(server) as client:
        for _ in range(3):
            assert client.ask("/docs/a.html").body == b"a"
            assert (client.ask("/docs/a.htm").status, client.ask("/docs/a.htm")["Location"]) == (302, "/docs/a.html")
            assert client.ask("/docs/b.html").status == 404
        client.finish()


@pytest.mark.parametrize(
    "path",
    [
        "/free/-/evil.example",
        "/free//-//evil.example",
        "/free/-/%5Cevil.example",
        "/free/-/%09//evil",
        "/old//evil.example",
    ],
)
def test_no_path_leads_to_another_host(server: tux.Server, path: str) -> None:
    with Client(server) as client:
        for method in ("GET", "HEAD", "POST"):
            location = urljoin(server.url, client.ask(path, method=method)["Location"])
            assert location.startswith(server.url + "/")
            assert "\\" not in location


@pytest.mark.parametrize("path", ["/old/%0D%0AX-Evil:%201", "/old/a?%0d%0aX-Evil:1", "/old/a?\xe9\x80"])
def test_no_path_makes_a_field(server: tux.Server, path: str) -> None:
    with Client(server) as client:
        answer = client.ask(path)
        assert "X-Evil" not in answer
        assert answer["Location"].isascii()


def test_rewrites(server: tux.Server) -> None:
    with Client(server) as client:
        for _ in range(3):
            assert client.ask("/manual/a").body == b"a"
            assert client.ask("/manual/b").status == 404
        client.finish()
