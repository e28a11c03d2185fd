# SPDX-License-Identifier: MIT
"""The memo from outside: a remembered answer is the decided one, byte for byte, and what is hot stays hot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tux
from tests.e2e.client import Client, put, request, stop, until

OLD = 1_700_000_000
LARGE = bytes(range(251)) * 2000  # over what is held in memory from the first ask


@pytest.fixture(scope="module", autouse=True)
def files(site: Path) -> None:
    put(site / "page.html", "<p>page", OLD)
    put(site / "page.html.gz", "not really gzip", OLD)
    put(site / "large.bin", LARGE, OLD)
    put(site / "folder/index.html", "index", OLD)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"accept_encoding": "gzip"},
        {"if_none_match": "*"},
        {"if_match": '"no"'},
        {"if_modified_since": "Tue, 14 Nov 2023 22:13:20 GMT"},
        {"range": "bytes=1-3"},
        {"range": "bytes=1-3,5-"},
        {"range": "bytes=99999999-"},
        {"if_range": '"no"', "range": "bytes=1-3"},
    ],
    ids=lambda fields: "-".join(fields) or "plain",
)
@pytest.mark.parametrize(
    "path", ["/page.html", "/page.html?query", "/large.bin", "/folder", "/folder?x", "/folder/", "/missing"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_tenth_answer_is_the_first(server: tux.Server, path: str, fields: dict[str, str], method: str) -> None:
    """Decided, decided and remembered, replayed; for a file also loaded into memory on the way."""
    with Client(server) as client:
        answers = [client.ask(path, method=method, **fields) for _ in range(10)]
    first = answers[0]
    for answer in answers[1:]:
        assert (answer.status, answer.stable_head, answer.body) == (first.status, first.stable_head, first.body)


def test_ranges_of_one_file_are_each_their_own(server: tux.Server) -> None:
    with Client(server) as client:
        for i in range(300):
            first = i * 1_600
            for wanted, body in [
                (f"bytes={first}-{first + 99}", LARGE[first : first + 100]),
                (f"bytes={first}-", LARGE[first:]),
                (f"bytes=-{first + 1}", LARGE[-first - 1 :]),
            ]:
                response = client.ask("/large.bin", range=wanted)
                assert response.status == 206
                assert response.body == body
                start = len(LARGE) - len(body) if wanted[6] == "-" else first
                assert response["content-range"] == f"bytes {start}-{start + len(body) - 1}/{len(LARGE)}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("range", "bytes=0-1"),
        ("if-none-match", "*"),
        ("if-match", '"no"'),
        ("if-modified-since", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("if-unmodified-since", "Mon, 13 Nov 2023 22:13:20 GMT"),
        ("accept-encoding", "gzip"),
    ],
)
def test_what_changes_the_answer_is_not_overlooked_when_it_is_hot(server: tux.Server, name: str, value: str) -> None:
    with Client(server) as client:
        plain = [client.ask("/page.html") for _ in range(5)][-1]
        special = client.ask("/page.html", **{name: value})
        assert (special.status, special.body) != (plain.status, plain.body)
        assert client.ask("/page.html").body == plain.body


def test_a_flood_of_misses_leaves_what_is_hot_in_the_memo(site: Path, tmp_path: Path) -> None:
    """Seen in the log, which tells what was remembered from what was decided anew."""
    log = tmp_path / "log"
    with tux.Server(site, workers=1, access_log=log, log_format="json") as server, Client(server) as client:
        for _ in range(5):
            client.ask("/page.html")
        for start in range(0, 20_000, 50):
            client.sock.sendall(b"".join(request(f"/missing/{i}?{i}") for i in range(start, start + 50)))
            for _ in range(50):
                assert client.reader.response().status == 404
        client.ask("/page.html")
        until(lambda: log.read_bytes().count(b"\n") == 20_006, "all is in the log")
        stop(server)
    tiers = [json.loads(line)["tier"] for line in log.read_text().splitlines() if "/page.html" in line]
    # It may be checked again on the way, but it is never decided again.
    assert tiers == ["planned", "planned", "memo", "memo", "memo", "memo"]


def test_random_queries_are_answered_from_the_memo(site: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with tux.Server(site, workers=1, access_log=log, log_format="json") as server, Client(server) as client:
        for i in range(100):
            assert client.ask(f"/page.html?cache-buster={i}").body == b"<p>page"
        stop(server)
    tiers = [json.loads(line)["tier"] for line in log.read_text().splitlines()]
    assert tiers == ["planned"] * 2 + ["memo"] * 98
