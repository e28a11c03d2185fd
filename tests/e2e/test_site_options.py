# SPDX-License-Identifier: MIT
"""The options of static sites, by route, on one server: each counts where it is set and nowhere else, for every method,
and nothing that is remembered for one request is the answer to another."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes, urljoin

import pytest

import tux
from tests.corpus.reader import Response
from tests.e2e.client import Client, get, put, stop

OLD = time.time() - 1000
TEXT = b"many words, many words, " * 500
JSON = "application/json"
HASHED = "app.3f2a1b9c.js"

ROUTES = """
[server]
listen = ["127.0.0.1:0"]
workers = 1
access_log = "off"

[[site]]
root = "{root}"
error_page = {{ 404 = "404.html", 403 = "gone/403.html", 416 = "404.html" }}
headers = {{ X-Site = "1" }}

[[site.route]]
path = "/list"
listing = true

[[site.route]]
path = "/app"
root = "{root}/app"
spa = "index.html"
error_page = {{ 404 = "missing.html" }}

[[site.route]]
path = "/clean"
clean_urls = true

[[site.route]]
path = "/slashed"
clean_urls = true
trailing_slash = "always"

[[site.route]]
path = "/small"
compress = true

[[site.route]]
path = "/hashed"
immutable = true
cache_control = "no-cache"

[[site.route]]
path = "/shared"
cors = true

[[site.route]]
path = "/secure"
security_headers = true
headers = {{ X-Frame-Options = "DENY" }}

[[site.route]]
path = "/closed"
deny = true

[[site.route]]
path = "/old"
redirect = "/clean/{{rest}}"
status = 308

[[site.route]]
path = "/alias"
match = "*"
rewrite = "/clean/{{1}}.html"
"""


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[tux.Server]:
    for folder in ("list", "app", "clean", "slashed", "small", "hashed", "shared", "secure", "plain"):
        put(site / folder / "page.html", f"page of {folder}", OLD)
        put(site / folder / HASHED, TEXT, OLD)
        put(site / folder / "empty/x.txt", "x", OLD)
    put(site / "app/index.html", "the app", OLD)
    put(site / "app/missing.html", "missing in the app", OLD)
    put(site / "404.html", "our own 404", OLD)
    config = put(site / "tux.toml", ROUTES.format(root=site))
    with tux.Server(config=config) as server:
        yield server
        stop(server)


PATHS = [
    *("/", "/none", "/404.html", "/tux.toml", "/closed", "/closed/x", "/robots.txt", "/favicon.ico"),
    *("/list/", "/list", "/list/?sort=size", "/list/empty/", "/list/page.html", "/list/none"),
    *("/app", "/app/", "/app/users/7", "/app/none.js", "/clean/page", "/clean/page/", "/clean/none"),
    *("/slashed/page", "/slashed/page/", f"/small/{HASHED}", f"/hashed/{HASHED}", "/shared/page.html", "/shared/none"),
    *("/secure/page.html", "/old/a%20b?x", "/alias/page", "/alias/none", "/alias/a/b", "/plain/", "/plain/page"),
]


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_its_body(server: tux.Server, path: str) -> None:
    """For every kind of answer, planned and remembered, in both orders."""
    for fields in ({}, {"accept": JSON}, {"accept_encoding": "gzip, br"}, {"range": "bytes=1-2"}, {"if_match": '"x"'}):
        with Client(server) as client:
            for _ in range(3):
                head = client.ask(path, method="HEAD", **fields)
                answer = client.ask(path, **fields)
                assert head.body == b""
                if "range" not in fields:  # which HEAD does not have
                    assert (head.status, head.stable_head) == (answer.status, answer.stable_head)
            client.finish()


def fields_of(answer: Response) -> set[str]:
    return set(answer.fields)


def test_each_option_counts_on_its_route_alone(server: tux.Server) -> None:
    with Client(server) as client:
        for _ in range(3):
            plain = client.ask(f"/plain/{HASHED}", accept_encoding="gzip", origin="https://b.example")
            assert {"cache-control", "vary", "content-encoding", "access-control-allow-origin"}.isdisjoint(plain.fields)
            assert {"x-frame-options", "content-security-policy", "referrer-policy"}.isdisjoint(plain.fields)
            assert plain["X-Site"] == "1"
            assert client.ask("/plain/").status == client.ask("/plain/page").status == 404
            assert client.ask("/plain/users").body == b"our own 404"

            assert b"page.html" in client.ask("/list/").body
            assert client.ask("/list/", accept=JSON)["Content-Type"] == JSON
            assert client.ask("/app/users").body == b"the app"
            assert client.ask("/app/x.js").body == b"missing in the app"
            assert client.ask("/clean/page").body == client.ask("/alias/page").body == b"page of clean"
            assert client.ask("/slashed/page/").body == b"page of slashed"
            assert client.ask("/slashed/page")["Location"] == "page/"

            small = client.ask(f"/small/{HASHED}", accept_encoding="gzip")
            assert (gzip.decompress(small.body), small["Vary"]) == (TEXT, "Accept-Encoding")
            assert client.ask(f"/small/{HASHED}").body == TEXT

            assert client.ask(f"/hashed/{HASHED}")["Cache-Control"] == "public, max-age=31536000, immutable"
            assert client.ask("/hashed/page.html")["Cache-Control"] == "no-cache"

            shared = client.ask("/shared/page.html", origin="https://b.example")
            assert shared["Access-Control-Allow-Origin"] == "*"
            flight = client.ask("/shared/page.html", method="OPTIONS", access_control_request_method="GET")
            assert (flight.status, flight["Access-Control-Allow-Methods"]) == (204, "GET, HEAD")
            assert "Access-Control-Allow-Origin" not in client.ask("/plain/page.html", method="OPTIONS")

            secure = client.ask("/secure/page.html")
            assert (secure["X-Frame-Options"], secure["Referrer-Policy"]) == (
                "DENY",
                "strict-origin-when-cross-origin",
            )
            assert secure["Content-Security-Policy"] == "frame-ancestors 'self'"
            assert client.ask("/old/x?y=1")["Location"] == "/clean/x?y=1"
        client.finish()


def test_errors_have_no_ranges_conditions_or_codings(site: Path, server: tux.Server) -> None:
    """Nor anything else that is about files; the page for 403 is not there."""
    with Client(server) as client:
        page = client.ask("/404.html")
        for _ in range(3):
            for fields in (
                {"range": "bytes=0-3"},
                {"range": "bytes=0-1, 3-4"},
                {"if_none_match": page["ETag"]},
                {"if_none_match": "*"},
                {"if_match": '"other"'},
                {"if_modified_since": page["Last-Modified"]},
                {"if_unmodified_since": "Thu, 01 Jan 1970 00:00:00 GMT"},
                {"if_range": page["ETag"], "range": "bytes=0-3"},
                {"accept_encoding": "gzip, br, zstd"},
            ):
                answer = client.ask("/small/none", **fields)
                assert (answer.status, answer.body) == (404, b"our own 404")
                assert answer["X-Site"] == "1"
                assert {
                    *("etag", "last-modified", "accept-ranges", "content-range", "cache-control", "content-encoding"),
                    *("vary", "expires", "age"),
                }.isdisjoint(answer.fields)
            refused = client.ask("/closed/x", range="bytes=0-3")
            assert (refused.status, b"<h1>403 Forbidden</h1>" in refused.body) == (403, True)
            beyond = client.ask("/plain/page.html", range="bytes=1000-")
            assert (beyond.status, beyond.body) == (416, b"our own 404")
            assert beyond["Content-Range"] == "bytes */13"
        client.finish()


def test_a_listing_as_what_the_client_prefers(server: tux.Server) -> None:
    """One URL, two forms, and a cache in between is told."""
    with Client(server) as client:
        for _ in range(3):
            for accept, is_json in [
                ("text/html,application/xhtml+xml,*/*;q=0.8", False),
                ("*/*", False),
                ("application/json", True),
                ("application/json;q=0.5, text/html", False),
                ("application/json, text/plain, */*", True),
                ("application/json;q=0", False),
                ("broken;;;q=, /", False),
            ]:
                answer = client.ask("/list/", accept=accept)
                assert (accept, answer["Content-Type"] == JSON) == (accept, is_json)
                assert answer["Vary"] == "Accept"
        client.finish()


NASTY = [
    b'"><script>alert(1)<script>.html',
    b"'onmouseover=alert(1) x='",
    b"new\r\nX-Evil: 1\r\n\r\nline",
    b"\xff\xfe\xc0\xaf invalid",
    b"\xed\xa0\x80 surrogate",
    b"<title><table><!--",
    b"javascript:alert(1)",
    b"%2e%2e%2fetc",
    b"..hidden-not",
    b"\x1b[31mred\x7f",
    b"a?b#c&d;e",
    b"\\\\evil.example\\x",
    b"x" * 255,
    b"\xe2\x80\xaegnp.exe",
]


def test_a_listing_of_hostile_names(site: Path, server: tux.Server) -> None:
    folder = site / "list/hostile"
    folder.mkdir()
    for number, name in enumerate(NASTY):
        put(Path(os.fsdecode(bytes(folder) + b"/" + name)), str(number), OLD)
    put(folder / ".secret", "x")
    put(folder / ".git/config", "x")
    os.symlink("/etc/passwd", folder / "absolute")
    os.symlink("../../../../../etc", folder / "up")
    os.symlink("loop", folder / "loop")
    os.symlink("../page.html", folder / "inside")
    os.mkfifo(folder / "fifo")
    expected = {name for name in NASTY if not name.startswith(b".")} | {b"inside"}
    with Client(server) as client:
        for _ in range(3):
            page, data = client.ask("/list/hostile/"), client.ask("/list/hostile/", accept=JSON)
            assert "X-Evil" not in page
            text = page.body.decode("utf-8")
            for mark in ("<script", "<!--", "\x1b", "\r", "onmouseover=alert(1) x='<", "<title><table>"):
                assert mark not in text
            rows = json.loads(data.body)
            assert {unquote_to_bytes(row["url"]) for row in rows} == expected
            for row in rows:
                url = urljoin(f"{server.url}/list/hostile/", row["url"])
                assert url.startswith(f"{server.url}/list/hostile/")
                answer = client.ask(url.removeprefix(server.url))
                assert (row["name"], answer.status, len(answer.body)) == (row["name"], 200, row["size"])
        client.finish()


def test_a_folder_with_a_hostile_name(site: Path, server: tux.Server) -> None:
    name = b"\"<b>'&\r\nX-Evil: 1"
    put(Path(os.fsdecode(bytes(site) + b"/list/" + name + b"/x")), "x")
    path = f"/list/{quote_from_bytes(name)}"
    with Client(server) as client:
        for _ in range(3):
            lead = client.ask(path)
            assert (lead.status, unquote_to_bytes(lead["Location"])) == (301, name + b"/")
            page = client.ask(path + "/")
            assert "X-Evil" not in lead
            assert "X-Evil" not in page
            assert b"<b>" not in page.body
        client.finish()


def test_a_huge_folder_is_bounded(site: Path, server: tux.Server) -> None:
    folder = site / "list/huge"
    folder.mkdir()
    for number in range(10_200):
        os.close(os.open(folder / f"{number}", os.O_CREAT | os.O_WRONLY, 0o644))
    answer = get(server, "/list/huge/?page=99")
    assert b"page 20 of 20" in answer.body
    assert b"There is more in this folder: only 10,000 entries were looked at." in answer.body
    assert answer["Tux-Listing-Incomplete"] == "limit=10000"
    assert len(answer.body) < 1_000_000


@pytest.mark.parametrize(
    "query",
    [
        "sort=name&sort=size",
        "page=0",
        "page=-1",
        "page=1e9",
        "page=" + "9" * 400,
        "sort=%00",
        "order=asc%0d%0aX:y",
        "&&&==",
    ],
)
def test_what_a_query_cannot_ask_for(server: tux.Server, query: str) -> None:
    answer = get(server, f"/list/?{query}")
    assert answer.status == 200
    assert b"page.html" in answer.body
    assert query.encode() not in answer.body
