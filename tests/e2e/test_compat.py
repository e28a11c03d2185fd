# SPDX-License-Identifier: MIT
"""The examples for tux(2), behind the whole server."""

from __future__ import annotations

import shutil
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import tux
from tests.e2e.dynamic import Ask, asking

EXAMPLES = Path(__file__).parents[2] / "examples" / "tux2"


class Behind(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"behind: {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's)
        pass


class Lines(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.readline().upper())


@pytest.fixture(scope="module")
def asks(site: Path) -> Iterator[tuple[Ask, Ask]]:
    """Of a server, and of one with another server behind it."""
    modules = site / "tux2"
    shutil.copytree(EXAMPLES, modules, ignore=shutil.ignore_patterns("__pycache__"))
    modules.chmod(0o755)
    (site / "page.txt").write_bytes(b"a page\n" * 1000)
    (site / "page.txt").chmod(0o644)
    files = sorted(str(path) for path in modules.glob("*.py"))
    behind, lines = HTTPServer(("127.0.0.1", 0), Behind), socketserver.TCPServer(("127.0.0.1", 0), Lines)
    for server in (behind, lines):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    args = [part for file in files for part in ("--module", file)]
    forward = ["--forward", f"http://127.0.0.1:{behind.server_address[1]}"]
    env = {"BACKEND_PORT": str(lines.server_address[1])}
    alone, before = tux.Server(str(site), args=args, env=env), tux.Server(str(site), args=[*args, *forward], env=env)
    with alone, before:
        yield asking(alone), asking(before)
    assert "Traceback" not in alone.stderr_text() + before.stderr_text()
    for server in (behind, lines):
        server.shutdown()
        server.server_close()


@pytest.fixture
def ask(asks: tuple[Ask, Ask]) -> Ask:
    return asks[0]


@pytest.fixture
def ask_before(asks: tuple[Ask, Ask]) -> Ask:
    return asks[1]


def test_minimal_reply(ask: Ask) -> None:
    for _ in range(3):
        reply = ask("GET", "/demo.tux")
        assert (reply.status, reply.value("content-type"), reply.body) == (200, "text/html", b"<h1>Hello, world!</h1>")


def test_head(ask: Ask) -> None:
    reply = ask("HEAD", "/demo.tux")
    assert (reply.status, reply.value("content-length"), reply.body) == (200, "22", b"")


def test_object_with_own_headers(ask: Ask, ask_before: Ask) -> None:
    reply = ask("GET", "/demo2.tux?page.txt")
    assert (reply.status, reply.value("content-disposition")) == (200, "attachment")
    assert reply.body == b"a page\n" * 1000
    assert ask("GET", "/demo2.tux?none.txt").status == 404
    assert ask_before("GET", "/demo2.tux?none.txt").status == 404  # the module has said so


def test_postponed_work(ask: Ask) -> None:
    for _ in range(3):
        assert ask("GET", "/demo3.tux").body == b"done by a helper: 499999500000\n"


def test_redirect(ask_before: Ask) -> None:
    assert ask_before("GET", "/demo4.tux").body == b"here\n"
    assert ask_before("GET", "/demo4.tux?x=1").body == b"behind: /demo4.tux?x=1"


def test_methods_that_the_original_did_not_know_are_for_the_server_behind(ask_before: Ask) -> None:
    assert ask_before("DELETE", "/demo.tux").status == 501  # the one of the test knows GET only


def test_back_end_socket(ask: Ask) -> None:
    assert ask("GET", "/demo5.tux?hello").body == b"HELLO\n"


def test_program(ask: Ask) -> None:
    counts = [int(ask("GET", "/program.tux").body) for _ in range(3)]
    assert counts == sorted(set(counts))
