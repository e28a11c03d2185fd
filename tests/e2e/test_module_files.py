# SPDX-License-Identifier: MIT
"""Files of the site that modules send and look up, and answers that are given again in their name: the whole server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tux
from tests.e2e.backend import Backend, Peer
from tests.e2e.client import put, replace, stop, until
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


tux.register_mime("gmi", "text/gemini")


@tux.module("/type")
async def type_of(req: tux.Request):
    with await req.get_object("/" + req.query) as found:
        return found.type


@tux.module("/tell")
async def tell(req: tux.Request):
    try:
        (await req.get_object("/" + req.query)).close()
    except OSError as error:
        return type(error).__name__
    return "there"


@tux.module("/unknown")
def unknown(req: tux.Request):
    return 404, {}, "not here"


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
        '[[site]]\nroot = "public"\nmodule = "one"\ntypes = { ".rare" = "application/rare" }\n'
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
    replace(site / "public" / "large.txt", LARGE[::-1])  # written in place, half of it would be seen, too
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


def test_registered_types(server: tux.Server, site: Path) -> None:
    """They are those of modules alone; the site's own are for all."""
    put(site / "public" / "a.gmi", "# gemini")
    put(site / "public" / "a.rare", "rare")
    ask = asking(server)
    for _ in range(3):
        assert ask("GET", "/send?a.gmi").value("content-type") == "text/gemini"
        assert ask("GET", "/send?a.gmi", range="bytes=0-1").value("content-type") == "text/gemini"
        assert ask("GET", "/type?a.gmi").body == b"text/gemini"
        assert ask("GET", "/a.gmi").value("content-type") == "application/octet-stream"
        assert ask("GET", "/send?a.rare").value("content-type") == "application/rare"
        assert ask("GET", "/type?a.rare").body == b"application/rare"
        assert ask("GET", "/a.rare").value("content-type") == "application/rare"


def answer_all(peer: Peer) -> None:
    while (request := peer.request()) is not None:
        peer.ok(b"behind: " + request.target.encode())


def test_what_is_not_there_is_not_asked_for_elsewhere(server: tux.Server, site: Path) -> None:
    """Where another server is behind, too: it is asked for what has no module and no file, and for nothing else."""
    (site / "public" / "folder").mkdir(exist_ok=True)
    with Backend(answer_all) as backend:
        arguments = ["--module", str(site / "filed.py"), "--forward", backend.url]
        with tux.Server(str(site / "public"), args=arguments) as before:
            for ask in (asking(server), asking(before)):
                for body in (b"", b"x"):
                    method = "POST" if body else "GET"
                    for name in ("none", "folder", "folder/", ".hidden", "small.txt/x"):
                        for _ in range(3):
                            assert ask(method, f"/send?{name}", body).status == 404
                            assert ask(method, f"/tell?{name}", body).body == b"FileNotFoundError"
                    reply = ask(method, "/unknown", body)
                    assert (reply.status, reply.body) == (404, b"not here")
                    assert ask(method, "/tell?small.txt", body).body == b"there"
            assert asking(before)("GET", "/none").body == b"behind: /none"
            stop(before)
