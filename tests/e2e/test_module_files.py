# SPDX-License-Identifier: MIT
"""Files of the site that modules send and look up, and answers that are given again in their name: the whole server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tux
from tests.e2e.client import put, stop, until
from tests.e2e.dynamic import asking

LARGE = os.urandom(100_000)
MODULE = """
import itertools, os

import tux

counts = itertools.count(1)


@tux.module("/send")
def send(req: tux.Request):
    return req.send_object("/" + req.query, [("X-Own", "1")] if "own" in req.headers else [])


@tux.module("/look")
async def look(req: tux.Request):
    found = await req.get_object("/" + req.query)
    with found:
        return {"size": found.size, "text": bytes(found.memory[:7]).decode("latin-1")}


@tux.module("/kept", cache=60)
def kept(req: tux.Request) -> str:
    return f"{next(counts)} {os.getpid()}"
"""


@pytest.fixture
def server(site: Path) -> Iterator[tux.Server]:
    put(site / "public" / "small.txt", "content")
    put(site / "public" / "large.txt", LARGE)
    put(site / "inside" / "b.txt", "internal")
    put(site / "filed.py", MODULE)
    config = site / "modules.toml"
    config.write_text(
        '[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\naccess_log = "off"\n[module.one]\nmodules = ["filed.py"]\n'
        '[[site]]\nroot = "public"\nmodule = "one"\n'
        '[[site.route]]\npath = "/inside"\nroot = "inside"\ninternal = true\n'
    )
    with tux.Server(config=config) as server:
        yield server
        stop(server)


def test_objects(server: tux.Server) -> None:
    ask = asking(server)
    for path, content in (("small.txt", b"content"), ("large.txt", LARGE), ("inside/b.txt", b"internal")):
        for _ in range(8):  # asked, remembered, loaded
            reply = ask("GET", f"/send?{path}")
            assert (reply.status, reply.body, reply.value("content-type")[:10]) == (200, content, "text/plain")
            assert ask("GET", f"/send?{path}", own="1").value("x-own") == "1"
            assert ask("GET", f"/send?{path}", range="bytes=2-5").body == content[2:6]
            assert ask("GET", f"/send?{path}", if_none_match=reply.value("etag")).status == 304
            assert ask("HEAD", f"/send?{path}").value("content-length") == str(len(content))
    assert ask("GET", "/send?none").status == 404
    assert ask("GET", "/inside/b.txt").status == 404


def test_a_file_that_changes(server: tux.Server, site: Path) -> None:
    ask = asking(server)
    for _ in range(8):
        assert ask("GET", "/send?large.txt").body == LARGE
    put(site / "public" / "large.txt", LARGE[::-1])
    until(lambda: ask("GET", "/send?large.txt").body == LARGE[::-1], "the new content")


def test_lookups(server: tux.Server) -> None:
    ask = asking(server)
    for _ in range(3):
        assert ask("GET", "/look?small.txt").json() == {"size": 7, "text": "content"}
        assert ask("GET", "/look?large.txt").json()["size"] == len(LARGE)
        assert ask("GET", "/look?inside/b.txt").json()["text"] == "interna"


def test_answers_that_are_kept(server: tux.Server) -> None:
    ask = asking(server)
    given = [ask("GET", "/kept").body for _ in range(10)]
    assert set(given[1:]) == {given[1]}, "asked twice at most, and repeated from then on"
