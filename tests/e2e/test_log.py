# SPDX-License-Identifier: MIT
"""The access log: its formats, what it escapes, that it is complete, and that a full disk does not stop serving."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import tux
from tests.e2e.client import Client, get, put, request, stop, until

FLUSH = 3 * 0.1
"""Seconds within which a record is in the file, three times what is promised."""

COMMON = re.compile(
    r"127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
    r'"(?P<line>[^"]*)" (?P<status>\d{3}) (?P<size>\d+)'
)


def lines_of(log: Path, count: int) -> list[str]:
    """The lines of the log, as soon as there are so many."""
    until(lambda: log.exists() and log.read_bytes().count(b"\n") >= count, f"{count} lines are in the log", 10 * FLUSH)
    text = log.read_text("ascii")
    assert text.endswith("\n")
    return text.splitlines()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.mark.parametrize("log_format", ["common", "combined", "json"])
def test_formats(site: Path, log: Path, log_format: str) -> None:
    put(site / "a.txt", "content")
    with tux.Server(site, workers=1, access_log=log, log_format=log_format) as server:
        for _ in range(3):  # planned twice, then remembered: the same line
            get(server, "/a.txt?q=1", referer='http://x/"y"', user_agent="agent\\1")
        get(server, "/a.txt", method="HEAD")
        get(server, "/missing")
        lines = lines_of(log, 5)
        stop(server)
    sizes = [7, 7, 7, 0]
    if log_format == "json":
        records = [json.loads(line) for line in lines]
        assert [record["status"] for record in records] == [200, 200, 200, 200, 404]
        assert [record["bytes"] for record in records[:4]] == sizes
        assert [record["tier"] for record in records[:3]] == ["planned", "planned", "memo"]
        assert records[0]["target"] == "/a.txt?q=1"
        assert records[0]["referer"] == 'http://x/"y"'
        assert records[0]["user_agent"] == "agent\\1"
        assert records[3]["method"] == "HEAD"
        return
    matches = [COMMON.match(line) for line in lines]
    assert [match["status"] for match in matches if match] == ["200", "200", "200", "200", "404"]
    assert [int(match["size"]) for match in matches[:4] if match] == sizes
    assert [match["line"] for match in matches[2:4] if match] == ["GET /a.txt?q=1 HTTP/1.1", "HEAD /a.txt HTTP/1.1"]
    if log_format == "combined":
        assert lines[0].endswith(r' "http://x/\x22y\x22" "agent\x5C1"')


def test_nothing_in_a_request_can_break_a_line(site: Path, log: Path) -> None:
    """Terminal escapes, quotes and bytes that are no text: the log is printable ASCII, one line a request."""
    with tux.Server(site, workers=1, access_log=log, log_format="combined") as server:
        with Client(server) as client:
            client.sock.sendall(b'GET /"\x80\xff HTTP/1.1\r\nHost: a\r\nUser-Agent: a\tb"\x9b[31m\r\n\r\n')
            assert client.reader.response().status == 404
        with Client(server) as client:
            client.sock.sendall(b"\x16\x03\x01\x1b[2J\r\n\r\n")
            assert client.reader.response().status == 400
        lines = lines_of(log, 2)
        stop(server)
    assert len(lines) == 2
    assert all(line.isprintable() and line.isascii() for line in lines)
    assert r"/\x22\x80\xFF" in lines[0]
    assert '"-" 400 ' in lines[1]


def test_every_request_has_one_whole_line(site: Path, log: Path) -> None:
    """Also with two workers that write the same file, pipelining, and a stop right after the last answer."""
    put(site / "b.txt", "b")
    total = 0
    with tux.Server(site, workers=2, access_log=log) as server:
        for _ in range(40):
            with Client(server) as client:
                client.sock.sendall(request("/b.txt") * 100)
                for _ in range(100):
                    assert client.reader.response().status == 200
                total += 100
        stop(server)
    lines = log.read_text("ascii").splitlines()
    assert len(lines) == total
    assert all(COMMON.fullmatch(line) for line in lines)


def test_a_full_disk_does_not_stop_serving(site: Path) -> None:
    put(site / "c.txt", "c")
    with tux.Server(site, workers=1, access_log="/dev/full", user="root") as server:
        for _ in range(100):
            assert get(server, "/c.txt").status == 200
        code = server.stop()
        said = server.stderr_text()
    assert code == 0, said
    assert re.search(r"access log.*lost", said), said
    assert "No space left on device" in said


def test_no_log_by_default_when_stderr_is_no_terminal(site: Path) -> None:
    with tux.Server(site, workers=1) as server:
        get(server, "/missing")
        said = stop(server)
    assert "GET" not in said
