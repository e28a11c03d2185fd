# SPDX-License-Identifier: MIT
"""Many clients that do not read what applications answer: they share the memory for what waits, and nobody is cut."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import tux
from tests.e2e.client import end, until
from tests.e2e.dynamic import Connection, asking

CLIENTS = 12
LARGE = 8 * 1024 * 1024
"""Bytes of an answer: more than the kernel buffers for a client that reads nothing."""
BUFFER = 65536
"""Bytes: what a client's own end of the connection takes."""

WSGI = """
import threading

PIECE = bytes(range(256)) * 256


def app(environ, start_response):
    path, body = environ["PATH_INFO"], [PIECE]
    if path == "/pieces":
        body = (PIECE for _ in range(128))
    elif path == "/block":
        body = [PIECE * 128]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return body
"""
ASGI = """
PIECE = bytes(range(256)) * 256


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for step in "startup", "shutdown":
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    path = scope["path"]
    await send({"type": "http.response.start", "status": 200})
    if path == "/pieces":
        for _ in range(128):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body"})
    else:
        await send({"type": "http.response.body", "body": PIECE * 128 if path == "/block" else PIECE})
"""
MODULE = """
import tux

PIECE = bytes(range(256)) * 256


@tux.module("/pieces")
def pieces(req):
    for _ in range(128):
        yield PIECE


@tux.module("/block")
async def block(req):
    for _ in range(128):
        await req.write(PIECE)


@tux.module("/small")
def small(req):
    return PIECE
"""
PIECE = bytes(range(256)) * 256
KINDS = {
    "wsgi": (WSGI, f'[app.big]\nmodule = "big:app"\nworkers = 1\nthreads = {CLIENTS + 1}\n', 'app = "big"'),
    "asgi": (ASGI, '[app.big]\nmodule = "big:app"\nworkers = 1\n', 'app = "big"'),
    "module": (MODULE, "", 'module = "big.py"'),
}


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, site: Path) -> Iterator[tux.Server]:
    code, app, key = KINDS[request.param]
    folder = site / str(request.node.name).replace("[", "-").rstrip("]")
    (folder / "public").mkdir(parents=True)
    (folder / "big.py").write_text(code)
    config = folder / "tux.toml"
    config.write_text(
        '[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\n[server.limits]\nheld_bytes = "1MiB"\n'
        f'{app}[[site]]\nroot = "public"\n{key}\n'
    )
    running = tux.Server(config=config).start()
    try:
        yield running
    finally:
        end(running)


def begun(client: Connection) -> None:
    """The answer is on its way, as far as the client's own buffer takes it."""
    until(lambda: len(client.sock.recv(BUFFER, socket.MSG_PEEK)) >= BUFFER // 4, "the answer begins")


def test_clients_that_do_not_read_share_the_memory(server: tux.Server) -> None:
    ask = asking(server)
    assert ask("GET", "/small").body == PIECE
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(contextlib.closing(Connection(server, receive_buffer=BUFFER))) for _ in range(CLIENTS)
        ]
        for n, client in enumerate(clients):
            client.send("/pieces" if n % 2 else "/block")
        for client in clients:
            begun(client)
        # Whoever reads is served all the while.
        for _ in range(CLIENTS):
            assert ask("GET", "/small").body == PIECE
        for client in clients:
            answer = client.answer()
            assert (answer.status, len(answer.body)) == (200, LARGE)
            assert answer.body == PIECE * 128
    assert ask("GET", "/small").body == PIECE
