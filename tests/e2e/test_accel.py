# SPDX-License-Identifier: MIT
"""X-Accel-Redirect and X-Sendfile, end to end: files that backends name are sent by the rules of static files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

import tux
from tests.corpus.reader import Response
from tests.e2e.backend import Backend, Peer
from tests.e2e.client import Client, put, stop

LARGE = os.urandom(300_000)
Start = Callable[[str], tuple[tux.Server, Backend]]


def dispatch(peer: Peer) -> None:
    """Answers with the field that the path says: /accel/PATH, /sendfile/PATH."""
    while (request := peer.request()) is not None:
        _, kind, path = request.target.partition("?")[0].split("/", 2)
        name = {"accel": "X-Accel-Redirect", "sendfile": "x-sendfile"}.get(kind, "X-None")
        fields = [f"{name}: /{unquote(path) if kind == 'sendfile' else path}".encode()]
        if "twice" in request.target:
            fields *= 2
        if "typed" in request.target:
            fields += [b"Cache-Control: private", b"Set-Cookie: a=b", b'ETag: "mine"']
        peer.ok(b"the backend's body" if "body" in request.target else b"", *fields)


@pytest.fixture
def start(site: Path) -> Iterator[Start]:
    """A server with files in /, and in /inside/ which clients do not get; the rest is the backend's. Options of
    [upstream.back]."""
    put(site / "public" / "a.txt", "content")
    put(site / "public" / ".secret", "no")
    put(site / "inside" / "b.txt", "internal")
    put(site / "inside" / "large.bin", LARGE)
    put(site / "files" / "sub" / "c d%.txt", "sendfile")
    put(site / "files" / ".hidden", "no")
    put(site / "outside.txt", "no")
    link = site / "files" / "link.txt"
    link.unlink(missing_ok=True)
    link.symlink_to("../outside.txt")
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(Backend(dispatch))

        def start(options: str) -> tuple[tux.Server, Backend]:
            config = site / "accel.toml"
            config.write_text(
                '[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\naccess_log = "off"\n'
                f'[upstream.back]\nservers = ["{backend.url}"]\n{options}\n'
                '[[site]]\nroot = "public"\nforward = "back"\n'
                '[[site.route]]\npath = "/inside"\nroot = "inside"\ninternal = true\n'
            )
            server = tux.Server(config=config)
            stack.callback(lambda: stop(server))
            server.start()
            return server, backend

        yield start


SENDFILE = 'sendfile_root = "files"'


def test_a_redirect(start: Start) -> None:
    server, backend = start("")
    with Client(server) as client:
        for query in ("", "?body", "?typed"):
            for path, content in (("a.txt", b"content"), ("inside/b.txt", b"internal"), ("inside/large.bin", LARGE)):
                response = client.ask(f"/accel/{path}{query}")
                assert (response.status, response.body) == (200, content)
                assert "x-accel-redirect" not in response
                assert response["content-type"] == "text/plain", "the backend's word"
                assert response["etag"] != '"mine"'
                if query == "?typed":
                    assert response["cache-control"] == "private"
                    assert response["set-cookie"] == "a=b"
        assert client.ask("/accel/a.txt", method="HEAD").status == 200
        client.sock.sendall(
            b"POST /accel/a.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nRange: bytes=0-1\r\n\r\nabc"
        )
        assert client.reader.response("POST").body == b"content"
        assert client.ask("/a.txt").body == b"content"
    assert backend.accepted <= 1 + 3, "connections are kept where there was no body to be dropped"


def test_ranges_and_conditions(start: Start) -> None:
    server, _ = start("")
    with Client(server) as client:
        whole = client.ask("/accel/inside/large.bin")
        part = client.ask("/accel/inside/large.bin", range="bytes=10-19")
        assert (part.status, part.body) == (206, LARGE[10:20])
        assert part["content-range"] == f"bytes 10-19/{len(LARGE)}"
        tail = client.ask("/accel/inside/large.bin", range="bytes=-200000")
        assert tail.body == LARGE[-200000:]
        parts = client.ask("/accel/inside/large.bin", range="bytes=0-0,5-6")
        assert parts["content-type"].startswith("multipart/byteranges")
        assert client.ask("/accel/inside/large.bin", range="bytes=999999-").status == 416
        same = client.ask("/accel/inside/large.bin", if_none_match=whole["etag"])
        assert (same.status, same.body) == (304, b"")
        assert client.ask("/accel/inside/large.bin", if_match='"other"').status == 412
        for _ in range(4):  # a part is no template for others
            assert client.ask("/accel/inside/b.txt", range="bytes=1-2").body == b"nt"
            assert client.ask("/accel/inside/b.txt").body == b"internal"


@pytest.mark.parametrize(
    "path", ["missing.txt", "inside", "inside/", ".secret", "..", "inside/../../outside.txt", "x%2fy"]
)
def test_what_cannot_be_redirected_to(start: Start, path: str) -> None:
    server, _ = start("")
    with Client(server) as client:
        response = client.ask(f"/accel/{path}?typed")
        assert response.status == 404
        assert response.get("set-cookie") == "a=b" or path in (
            "inside",
            "inside/",
            "..",
            "inside/../../outside.txt",
        )
        assert client.ask("/a.txt").body == b"content"


def test_internal_files_are_not_for_clients(start: Start) -> None:
    server, _ = start("")
    with Client(server) as client:
        for _ in range(3):
            assert client.ask("/inside/b.txt").status == 404
            assert client.ask("/accel/inside/b.txt").body == b"internal"


def test_it_can_be_switched_off(start: Start) -> None:
    server, _ = start("accel = false")
    with Client(server) as client:
        for path in ("/accel/inside/b.txt?body", "/sendfile/etc/passwd?body"):
            response = client.ask(path)
            assert (response.status, response.body) == (200, b"the backend's body")
            assert "x-accel-redirect" not in response
            assert "x-sendfile" not in response


def test_sendfile(start: Start, site: Path) -> None:
    server, _ = start(SENDFILE)

    def ask(client: Client, path: str) -> Response:
        return client.ask(f"/sendfile{site}/{path}")

    with Client(server) as client:
        response = ask(client, "files/sub/c%20d%25.txt")
        assert (response.status, response.body) == (200, b"sendfile")
        assert "x-sendfile" not in response
        for path in ("files/.hidden", "files/link.txt", "files/sub", "files/sub/", "files/missing"):
            assert ask(client, path).status == 404, path
        for path in ("outside.txt", "files", "files/", "filesx", "public/a.txt"):
            assert ask(client, path).status == 502, path
        assert ask(client, "files/sub/../../outside.txt").status == 404
        assert client.ask("/sendfile/etc/passwd").status == 502
        assert client.ask("/accel/a.txt").body == b"content", "the other field counts all the same"


def test_two_of_a_kind(start: Start) -> None:
    server, _ = start("")
    with Client(server) as client:
        assert client.ask("/accel/a.txt?twice").status == 502
        assert client.ask("/accel/a.txt").body == b"content"


APP = """
def app(environ, start_response):
    _, kind, path = environ["PATH_INFO"].split("/", 2)
    fields = [("Content-Type", "text/x-mine"), ("X-Content-Type-Options", "nosniff")]
    fields.append(({"accel": "X-Accel-Redirect", "sendfile": "X-Sendfile"}.get(kind, "X-None"), "/" + path))
    body = [] if path.endswith(".txt") else [b"a body ", b"in pieces " * 1000]
    fields.append(("Content-Length", str(sum(map(len, body)))))
    start_response("200 OK", fields)
    return body
"""


def test_an_application(site: Path) -> None:
    put(site / "public" / "a.txt", "content")
    put(site / "public" / "large", LARGE)
    put(site / "files" / "b.txt", "sendfile")
    put(site / "accelerated.py", APP)
    config = site / "accel-app.toml"
    config.write_text(
        '[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\naccess_log = "off"\n'
        '[app.one]\nmodule = "accelerated:app"\nsendfile_root = "files"\n'
        '[[site]]\nroot = "public"\napp = "one"\n'
    )
    with tux.Server(config=config) as server:
        with Client(server) as client:
            for _ in range(3):
                response = client.ask("/accel/a.txt")
                assert (response.status, response["content-type"], response.body) == (200, "text/x-mine", b"content")
                assert client.ask("/accel/large").body == LARGE
                assert client.ask("/accel/large", range="bytes=5-8").body == LARGE[5:9]
                assert client.ask(f"/sendfile{site}/files/b.txt").body == b"sendfile"
                assert client.ask("/sendfile/etc/passwd.txt").status == 502
                assert client.ask("/accel/missing.txt").status == 404
                assert client.ask("/none/x.txt").body == b""
                assert client.ask("/none/x").body.startswith(b"a body in pieces")
        assert "Traceback" not in stop(server)
