# SPDX-License-Identifier: MIT
"""The page of an application in the browser, and clean URLs, by the real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest

import tux
from tests.e2e.client import FRESH, Client, get, put, stop, until

APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Content-Type-Options", "nosniff")])
    return [b"from the application"]
"""


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[tux.Server]:
    put(site / "index.html", "app")
    put(site / "about.html", "about")
    with tux.Server(site, workers=1, access_log="off", spa="index.html", clean_urls=True) as server:
        yield server
        stop(server)


def test_pages_and_files(site: Path, server: tux.Server) -> None:
    with Client(server) as client:
        for _ in range(3):  # planned, admitted, remembered
            assert client.ask("/users/7").body == b"app"
            assert client.ask("/users/7", method="HEAD").status == 200
            assert client.ask("/about").body == b"about"
            assert client.ask("/missing.js").status == 404
            assert client.ask("/about/")["Location"] == "../about"
        assert client.ask("/users/7", method="POST").status == 405
        client.finish()


@pytest.mark.parametrize(("policy", "index", "page"), [("always", "/s/", "/s/p/"), ("never", "/s", "/s/p")])
def test_trailing_slash(site: Path, policy: str, index: str, page: str) -> None:
    put(site / "s/index.html", "index")
    put(site / "s/p.html", "page")
    with tux.Server(
        site, workers=1, access_log="off", clean_urls=True, trailing_slash=policy, favicon=True, robots="deny"
    ) as server:
        with Client(server) as client:
            for _ in range(3):
                assert (client.ask(index).body, client.ask(page).body) == (b"index", b"page")
                for path in (index, page):
                    other = path[:-1] if path.endswith("/") else path + "/"
                    assert urljoin(other, client.ask(other)["Location"]) == path
                assert client.ask("/favicon.ico").status == 204
                assert client.ask("/robots.txt").body == b"User-agent: *\nDisallow: /\n"
            client.finish()
        stop(server)


def test_a_file_that_appears(site: Path, server: tux.Server) -> None:
    with Client(server) as client:
        assert client.ask("/later").body == b"app"
        put(site / "later.html", "page")
        until(lambda: client.ask("/later").body == b"page", "the page", FRESH)
        put(site / "later", "file")
        until(lambda: client.ask("/later").body == b"file", "the file", FRESH)
        client.finish()


def test_clean_urls_come_before_an_application(site: Path) -> None:
    """The engine, too, must not think that there is no file."""
    put(site / "behind.html", "page")
    put(site / "code/pages_app.py", APP)
    with tux.Server(
        site, workers=1, access_log="off", clean_urls=True, app="pages_app:app", app_dir=site / "code"
    ) as server:
        for _ in range(3):
            assert get(server, "/behind").body == b"page"
            assert get(server, "/none").body == b"from the application"
        stop(server)
