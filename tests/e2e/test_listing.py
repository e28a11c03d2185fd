# SPDX-License-Identifier: MIT
"""Listings of folders, by the real server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tux
from tests.e2e.client import FRESH, Client, get, put, stop, until

JSON = "application/json"


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[tux.Server]:
    with tux.Server(site, workers=1, access_log="off", listing=True) as server:
        yield server
        stop(server)


def names(server: tux.Server, path: str) -> list[str]:
    return [row["name"] for row in json.loads(get(server, path, accept=JSON).body)]


def test_a_page_and_json_on_one_connection(site: Path, server: tux.Server) -> None:
    put(site / "one/a b.txt", "x" * 2000)
    with Client(server) as client:
        for _ in range(3):  # planned, admitted, remembered
            page, data = client.ask("/one/"), client.ask("/one/", accept=JSON)
            assert page["Content-Type"] == "text/html; charset=utf-8"
            assert b'<a href="a%20b.txt">' in page.body
            assert json.loads(data.body)[0]["size"] == 2000
            head = client.ask("/one/", method="HEAD")
            assert (head.status, head.body) == (200, b"")
            assert head.stable_head == page.stable_head
            assert client.ask("/one/", if_none_match=page["ETag"]).status == 304
        assert client.ask("/one").status == 301
        assert client.ask("/one/none").status == 404
        client.finish()


def test_changes_are_seen_within_the_promise(site: Path, server: tux.Server) -> None:
    file = put(site / "changes/a", "1")
    assert names(server, "/changes/") == ["a"]
    put(site / "changes/b", "1")
    until(lambda: names(server, "/changes/") == ["a", "b"], "a new name", FRESH)
    file.write_text("12345")
    until(lambda: json.loads(get(server, "/changes/", accept=JSON).body)[0]["size"] == 5, "a new size", FRESH)
    file.unlink()
    until(lambda: names(server, "/changes/") == ["b"], "a removed name", FRESH)
    put(site / "changes/index.html", "index")
    until(lambda: get(server, "/changes/").body == b"index", "an index", FRESH)
    (site / "changes/index.html").unlink()
    until(lambda: names(server, "/changes/") == ["b"], "no index", FRESH)


def test_a_large_folder_comes_in_pages(site: Path, server: tux.Server) -> None:
    for number in range(1100):
        put(site / f"many/{number:04}", "")
    with Client(server) as client:
        path, found = "/many/", []
        while path:
            answer = client.ask(path, accept=JSON)
            found += [row["name"] for row in json.loads(answer.body)]
            link = answer.get("Link")
            path = "/many/" + link.partition("<")[2].partition(">")[0] if link else ""
        assert found == [f"{number:04}" for number in range(1100)]
        client.finish()


def test_what_the_user_of_the_workers_cannot_read_is_not_named(site: Path, server: tux.Server) -> None:
    if os.geteuid() != 0:
        pytest.skip("workers run as the owner of the files")
    put(site / "mixed/open", "x")
    put(site / "mixed/closed", "x").chmod(0o600)
    (site / "mixed/locked").mkdir(mode=0o700)
    assert names(server, "/mixed/") == ["open"]
    put(site / "locked/a", "x")
    (site / "locked").chmod(0o711)
    assert get(server, "/locked/").status == 403


def test_a_folder_of_scripts_is_not_listed(site: Path) -> None:
    put(site / "bin/hello", "#!/bin/sh\n").chmod(0o755)
    put(site / "other/a", "x")
    with tux.Server(site, workers=1, access_log="off", listing=True, cgi={"/cgi/": site / "bin"}) as server:
        assert get(server, "/bin/").status == 404
        assert get(server, "/other/").status == 200
        stop(server)
