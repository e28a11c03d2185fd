# SPDX-License-Identifier: MIT
"""Error pages, by the real server: what the planner and what the engine answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tux
from tests.corpus.reader import Response
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


def test_a_folder_for_pages_alone(site: Path, tmp_path: Path) -> None:
    put(site / "alone/down.html", "we are down")
    config = put(
        tmp_path / "tux.toml",
        f"""
        [server]
        listen = ["127.0.0.1:0"]
        workers = 1
        access_log = "off"
        [[site]]
        root = "{site}/alone"
        forward = "{NOBODY}"
        try = ["forward"]
        error_page = {{ 502 = "down.html", 503 = "down.html" }}
        """,
    )
    with tux.Server(config=config) as server:
        for path in ("/", "/down.html"):  # no file is sent for a request
            answer = get(server, path)
            assert answer.status in (502, 503)
            assert answer.body == b"we are down"
        stop(server)


@contextmanager
def of_two_sites(site: Path, folder: Path, limits: str) -> Iterator[tux.Server]:
    """Two sites, each with its own pages, of which the second is the default, and a route with one more."""
    for name in ("400", "404", "413", "414", "431", "502", "route"):
        put(site / f"a/{name}.html", f"{name} of a")
        put(site / f"b/{name}.html", f"{name} of b")
    pages = ", ".join(f'{status} = "{status}.html"' for status in (400, 404, 413, 414, 431, 502))
    config = folder / "tux.toml"
    config.write_text(
        f"""
        [server]
        listen = ["127.0.0.1:0"]
        workers = 1
        access_log = "off"
        limits = {{ {limits} }}
        [[site]]
        hosts = ["a.example", "*.a.example"]
        root = "{site}/a"
        error_page = {{ {pages}, 503 = "502.html" }}
        security_headers = true
        [[site.route]]
        path = "/api"
        forward = "{NOBODY}"
        [[site.route]]
        path = "/api/special"
        forward = "{NOBODY}"
        error_page = {{ 502 = "route.html", 503 = "route.html" }}
        [[site.route]]
        path = "/old"
        redirect = "/new/{{rest}}"
        [[site]]
        root = "{site}/b"
        error_page = {{ {pages}, 408 = "400.html" }}
        """
    )
    with tux.Server(config=config) as server:
        yield server
        stop(server)


@pytest.fixture(scope="module")
def several(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tux.Server]:
    with of_two_sites(site, tmp_path_factory.mktemp("several"), "body_bytes = 1000") as server:
        yield server


def broken(server: tux.Server, *pieces: str) -> Response:
    """The answer to bytes that are no request, or none that is taken; each piece arrives alone."""
    with Client(server) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sock.sendall(piece.encode())
        return client.reader.response("GET")


LONG = "x" * 9000
MANY = "".join(f"X-{number}: 1\r\n" for number in range(120))


@pytest.mark.parametrize(
    ("request_text", "page"),
    [
        ("GET / HTTP/1.1\r\nHost: a.example\r\nbroken line\r\n\r\n", "400 of a"),
        ("GET / HTTP/1.1\r\nHost: www.A.example:80\r\nbroken line\r\n\r\n", "400 of a"),
        ("GET / HTTP/1.1\r\nHost: b.example\r\nbroken line\r\n\r\n", "400 of b"),
        ("GET / HTTP/1.1\r\nbroken line\r\nHost: a.example\r\n\r\n", "400 of b"),
        ("GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\nbroken line\r\n\r\n", "400 of a"),
        ("GET /%zz HTTP/1.1\r\nHost: a.example\r\n\r\n", "400 of a"),
        (f"GET / HTTP/1.1\r\nHost: a.example\r\n{MANY}\r\n", "431 of a"),
        (f"GET / HTTP/1.1\r\n{MANY}Host: a.example\r\n\r\n", "431 of b"),
        (f"GET / HTTP/1.1\r\nHost: a.example\r\nX: {LONG}{LONG}\r\n\r\n", "431 of a"),
        (f"GET /{LONG} HTTP/1.1\r\nHost: a.example\r\n\r\n", "414 of b"),
        ("POST /api HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2000\r\n\r\n", "413 of a"),
        ("POST /x HTTP/1.1\r\nHost: b.example\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400 of b"),
        ("POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400 of a"),
        ("GET /api HTTP/1.1\r\nHost: a.example\r\n\r\n", "502 of a"),
        ("GET /api/special HTTP/1.1\r\nHost: a.example\r\n\r\n", "route of a"),
    ],
    ids=lambda value: value if len(value) < 20 else None,
)
def test_each_site_has_its_own_of_the_engine(several: tux.Server, request_text: str, page: str) -> None:
    answer = broken(several, request_text)
    assert answer.body.decode() == page
    assert page.startswith(str(answer.status)) or answer.status in (502, 503)


def test_a_site_is_known_by_a_head_in_pieces(several: tux.Server) -> None:
    start = "GET / HTTP/1.1\r\nHost: a.example\r\n"
    assert broken(several, start, "X: ", LONG, LONG).body == b"431 of a"
    assert broken(several, "GET / HTTP/1.1\r\n", "Host: a.example\r\nX: ", LONG, LONG).body == b"431 of a"


def test_a_site_is_known_by_a_head_that_does_not_end(site: Path, tmp_path: Path) -> None:
    with of_two_sites(site, tmp_path, "head_timeout = 0.2") as server:
        late = broken(server, "GET / HTTP/1.1\r\nHost: b.example\r\nX: ")
        assert (late.status, late.body) == (408, b"400 of b")
        late = broken(server, "GET / HTTP/1.1\r\nHost: a.example\r\n")
        assert (late.status, b"408 Request Timeout" in late.body) == (408, True)
        assert late["Referrer-Policy"] == "strict-origin-when-cross-origin"


def test_fields_for_all_files_are_with_all_that_tux_says(several: tux.Server) -> None:
    """As nginx has them with "always": on small pages, and redirects too."""
    asked = {
        "/old/x": 301,
        "/%2F": 404,
        "/none": 404,
        "/.hidden": 404,
    }
    with Client(several) as client:
        for target, status in asked.items():
            for _ in range(3):
                answer = client.ask(target, host="a.example")
                assert (answer.status, answer["X-Frame-Options"]) == (status, "SAMEORIGIN"), target
                assert "x-frame-options" not in client.ask(target, host="b.example").fields
        small = client.ask("/none", method="DELETE", host="a.example")
        assert (small.status, small["X-Frame-Options"], small["Allow"]) == (405, "SAMEORIGIN", "GET, HEAD, OPTIONS")
        assert b"405 Method Not Allowed" in small.body
        client.finish()
