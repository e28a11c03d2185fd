# SPDX-License-Identifier: MIT
"""What modules can do beside answering, what they can do wrong, and files that are theirs: the whole server."""

from __future__ import annotations

import contextlib
import os
import re
import socketserver
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tux
from tests.corpus.reader import PATIENCE
from tests.e2e.backend import Backend, Peer
from tests.e2e.client import end, put, stop, until
from tests.e2e.dynamic import Connection, asking
from tux.http.dates import parse_date

POWERS = """
import os
import socket
import threading

import tux

BACK_END = int(os.environ.get("BACK_END", 0))


@tux.module("/facts")
def facts(req: tux.Request):
    return {"date": req.date, "version": tux.__version__, "cookies": req.cookies, "method": req.method}


@tux.module("/raw")
def raw(req: tux.Request) -> bytes:
    return req.head


@tux.module("/kept-open")
def kept_open(req: tux.Request):
    req.start(200, {"Content-Type": "text/plain"}, length=10)
    req.write(bytearray(b"hello"))
    req.write(memoryview(b"world"))
    req.finish()


@tux.module("/thread")
async def thread(req: tux.Request) -> str:
    threading.Thread(target=lambda: req.resume(threading.current_thread().name), name="another").start()
    return await req.postpone(timeout=20)


@tux.module("/back-end")
async def back_end(req: tux.Request) -> bytes:
    with socket.create_connection(("127.0.0.1", BACK_END)) as sock:
        sock.setblocking(False)
        sock.send(req.query.encode() + b"\\n")
        await req.wait_readable(sock, timeout=20)
        return sock.recv(1000)


@tux.module("/stream")
async def stream(req: tux.Request):
    for n in range(3):
        yield f"{n} "


@tux.module("/pid")
def pid(req: tux.Request) -> str:
    return str(os.getpid())


@tux.module("/whole")
def whole(req: tux.Request):
    return req.send_object("/large.bin")


@tux.module("/summed")
async def summed(req: tux.Request) -> str:
    with await req.get_object("/large.bin") as found:
        return str(sum(bytes(found.memory[at : at + 1000]).count(1) for at in range(0, found.size, 1000)))


@tux.module("/twice")
def twice(req: tux.Request):
    req.send("once")
    req.finish()


@tux.module("/after")
def after(req: tux.Request):
    req.start(200, length=4)
    req.write("once")
    req.finish()
    req.write("more")


@tux.module("/released")
async def released(req: tux.Request):
    found = await req.get_object("/page.txt")
    piece = found.memory[:4]
    found.close()
    return bytes(piece)


@tux.module("/gone")
async def gone(req: tux.Request):
    found = await req.get_object("/page.txt")
    found.close()
    return found.read()


@tux.module("/unread")
async def unread(req: tux.Request):
    return req.body


@tux.module("/exits")
def exits(req: tux.Request):
    raise SystemExit(3)


@tux.module("/object")
def wrong(req: tux.Request):
    return object()
"""


LARGE = 20_000_000
"""Bytes of a file."""


class Lines(socketserver.StreamRequestHandler):
    """A back end that answers in capitals."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.readline().upper())


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[tux.Server]:
    put(site / "powers.py", POWERS)
    put(site / "public/page.txt", "a page")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Lines) as lines:
        threading.Thread(target=lines.serve_forever, daemon=True).start()
        env = {"BACK_END": str(lines.server_address[1])}
        with tux.Server("public", cwd=site, module="powers.py", workers=1, env=env) as server:
            yield server
            end(server)
        lines.shutdown()


# -- powers ------------------------------------------------------------------------------------------------------------


def test_date_version_and_cookies(server: tux.Server) -> None:
    said = asking(server)("GET", "/facts", cookie='a=b; c="d"').json()
    assert abs((parse_date(said["date"], lambda: int(time.time())) or 0) - time.time()) < PATIENCE
    assert said == {
        "date": said["date"],
        "version": tux.__version__,
        "cookies": {"a": "b", "c": '"d"'},
        "method": "GET",
    }


def test_the_raw_head(server: tux.Server) -> None:
    head = b"GET /raw?x HTTP/1.1\r\nhOST: a\r\nX-Odd:\t two  words \r\n\r\n"
    with Connection(server) as connection:
        connection.sock.sendall(head)
        assert connection.answer().body == head


def test_the_connection_stays_open_after_buffers(server: tux.Server) -> None:
    with Connection(server) as connection:
        for _ in range(3):
            reply = connection.ask("/kept-open")
            assert (reply.value("content-length"), reply.body) == ("10", b"helloworld")


def test_another_thread_continues_a_request(server: tux.Server) -> None:
    for _ in range(3):
        assert asking(server)("GET", "/thread").body == b"another"


def test_a_socket_of_its_own(server: tux.Server) -> None:
    for word in ("one", "two"):
        assert asking(server)("GET", f"/back-end?{word}").body == f"{word}\n".upper().encode()


def test_an_async_generator_is_a_body(server: tux.Server) -> None:
    reply = asking(server)("GET", "/stream")
    assert (reply.value("transfer-encoding"), reply.body) == ("chunked", b"0 1 2 ")


def figures(pid: bytes) -> tuple[int, int]:
    """Bytes that a process has read and written by system calls, and those of memory that is its own."""
    process = Path("/proc") / pid.decode()
    calls = re.findall(r"^[rw]char: (\d+)$", (process / "io").read_text(), re.MULTILINE)
    (own,) = re.findall(r"^RssAnon:\s+(\d+) kB$", (process / "status").read_text(), re.MULTILINE)
    return sum(map(int, calls)), int(own) * 1024


def test_objects_are_not_copied(server: tux.Server, site: Path) -> None:
    """Neither those that are sent nor those that are looked into: the bytes are the page cache's."""
    put(site / "public/large.bin", b"\1" * LARGE)
    ask = asking(server)
    pid = ask("GET", "/pid").body
    assert ask("GET", "/summed").body == str(LARGE).encode()
    calls, own = figures(pid)
    for _ in range(3):
        assert ask("GET", "/whole").body == b"\1" * LARGE
        assert ask("GET", "/summed").body == str(LARGE).encode()
    more_calls, more_own = figures(pid)
    assert more_calls - calls < LARGE / 10
    assert more_own - own < LARGE / 10


# -- misuse ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "body", "said"),
    [
        ("/twice", 200, b"once", "MisuseError: finish() after the answer was finished"),
        ("/after", 200, b"once", "MisuseError: write() after the answer was finished"),
        ("/released", 500, None, "MisuseError: the object /page.txt is closed while a part of its memory is in use"),
        ("/gone", 500, None, "MisuseError: the object /page.txt is closed"),
        ("/unread", 500, None, "MisuseError: the body has not been read: await req.read()"),
        ("/exits", 500, None, "SystemExit: 3"),
        ("/object", 500, None, "object"),
    ],
)
def test_misuse_is_told_and_ends_no_process(
    server: tux.Server, path: str, status: int, body: bytes | None, said: str
) -> None:
    ask = asking(server)
    process = ask("GET", "/pid").body
    with Connection(server) as connection:
        if path == "/unread":
            connection.sock.sendall(b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        else:
            connection.send(path)
        reply = connection.answer()
    assert reply.status == status
    assert body is None or reply.body == body
    until(lambda: re.search(rf"GET {path}: .*|POST {path}: .*", server.stderr_text()), f"{path} is in the error log")
    until(lambda: said in server.stderr_text(), said)
    assert ask("GET", "/pid").body == process


# -- what is not for a module ------------------------------------------------------------------------------------------

FIRST = """
import tux


@tux.module("/mine")
async def mine(req: tux.Request) -> str:
    return f"module got {len(await req.read())}"


@tux.module("/declined")
async def declined(req: tux.Request):
    return req.decline()


@tux.module("/ignored")
async def ignored(req: tux.Request) -> str:
    return "ignored"


@tux.module("/server")
async def server(req: tux.Request):
    return req.redirect_to_server()
"""

SECOND = """
def app(environ, start_response):
    body = environ["wsgi.input"].read()
    known = environ["PATH_INFO"] != "/unknown"
    start_response("200 OK" if known else "404 Not Found", [("Content-Type", "text/plain")])
    return [b"app got %d" % len(body)]
"""


def counting(peer: Peer) -> None:
    while (request := peer.request()) is not None:
        peer.ok(b"server got %d" % len(request.body))


@pytest.mark.parametrize("forward", [False, True])
def test_an_application_and_a_server_come_after_the_module(site: Path, forward: bool) -> None:
    """With all of the body, however large, which nobody has read."""
    put(site / "chain/first.py", FIRST)
    put(site / "chain/second.py", SECOND)
    put(site / "chain/public/index.html", "index")
    sizes = (0, 3, 20_000, 1_000_000)
    with contextlib.ExitStack() as stack:
        behind: dict[str, Any] = {"forward": stack.enter_context(Backend(counting)).url} if forward else {}
        server = stack.enter_context(
            tux.Server("public", module="first.py", app="second:app", cwd=site / "chain", workers=1, **behind)
        )
        ask = asking(server)
        for size in sizes:
            for chunked in (False, True):
                body = bytes(size)
                for target, said in (("/mine", "module"), ("/declined", "app"), ("/none", "app")):
                    assert ask("POST", target, body, chunked=chunked).body.decode() == f"{said} got {size}", target
                reply = ask("POST", "/server", body, chunked=chunked)
                if forward:
                    assert (reply.status, reply.body.decode()) == (200, f"server got {size}")
                else:
                    assert reply.status == 502
        with Connection(server) as connection:
            post = b"POST /ignored HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
            get = b"GET /mine HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            connection.sock.sendall(post % (3, b"abc") + post % (20_000, bytes(20_000)) + get)
            both = connection.sock.makefile("rb").read()
            assert (both.count(b"ignored"), both.count(b"module got 0")) == (2, 1)
        assert ask("GET", "/unknown").body.decode() == ("server got 0" if forward else "app got 0")
        assert ask("GET", "/").body == b"index"
        stop(server)


# -- [site.tux] --------------------------------------------------------------------------------------------------------


def behind(peer: Peer) -> None:
    while (request := peer.request()) is not None:
        peer.ok(b"behind: " + request.target.encode())


@pytest.fixture
def policy(site: Path) -> Iterator[dict[str, tux.Server]]:
    """Servers of the same files before another one, with policies of tux(2), by name."""
    files = {"open.txt": 0o644, "closed.txt": 0o640, "program.txt": 0o755, "page.php": 0o644, "run.cgi": 0o755}
    for name, mode in files.items():
        put(site / "policy" / name, name).chmod(mode)
    policies = {
        "none": "",
        "refuses": "mode_allowed = 0o004\nmode_forbidden = 0o111\n",
        "asks": 'mode_allowed = 0o004\nmode_forbidden = 0o111\nrefused_next = true\nredirect = ["php"]\n',
    }
    reader: dict[str, Any] = {"user": "root"} if os.getuid() == 0 else {}  # who may read them all
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(Backend(behind))
        servers = {}
        for name, text in policies.items():
            config = put(
                site / f"{name}.toml",
                '[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\n'
                f'[[site]]\nroot = "policy"\nforward = "{backend.url}"\n[site.tux]\n{text}',
            )
            servers[name] = stack.enter_context(tux.Server(config=config, **reader))
        yield servers
        for server in servers.values():
            stop(server)


def test_permission_bits_and_extensions(policy: dict[str, tux.Server]) -> None:
    """Of files that the server could read: what is refused is 403, or the other server is asked first."""
    answers: dict[str, dict[str, int | None]] = {
        "none": {"open.txt": 200, "closed.txt": 200, "program.txt": 200, "page.php": 200, "run.cgi": 200},
        "refuses": {"open.txt": 200, "closed.txt": 403, "program.txt": 403, "page.php": 200, "run.cgi": 403},
        "asks": {"open.txt": 200, "closed.txt": None, "program.txt": None, "page.php": None, "run.cgi": None},
    }
    for name, expected in answers.items():
        ask = asking(policy[name])
        for file, status in expected.items():
            for _ in range(3):  # decided, remembered, and what is remembered
                reply = ask("GET", f"/{file}?q")
                if status is None:
                    assert (reply.status, reply.body) == (200, f"behind: /{file}?q".encode())
                else:
                    assert (reply.status, reply.body == file.encode()) == (status, status == 200), (name, file)


def test_bits_that_change_are_seen(policy: dict[str, tux.Server], site: Path) -> None:
    ask = asking(policy["refuses"])
    file = site / "policy/open.txt"
    assert [ask("GET", "/open.txt").status for _ in range(3)] == [200] * 3
    file.chmod(stat.S_IMODE(file.stat().st_mode) | 0o100)
    until(lambda: ask("GET", "/open.txt").status == 403, "it is a program now")
    file.chmod(0o644)
    until(lambda: ask("GET", "/open.txt").status == 200, "it is none any more")


PROGRAM = """#!/bin/sh
echo "Content-Type: text/plain"
echo
echo "$REQUEST_METHOD $SCRIPT_NAME $PATH_INFO $QUERY_STRING $DOCUMENT_ROOT"
"""


def test_extensions_of_programs(site: Path) -> None:
    """They are run where they lie, and never sent; what is none goes on to what the site tries next."""
    root = site / "programs"
    for name, mode in (("run.cgi", 0o755), ("sub/deep.CGI", 0o755), ("plain.cgi", 0o644), (".hidden.cgi", 0o755)):
        put(root / name, PROGRAM).chmod(mode)
    put(root / "index.html", "index")
    put(root / "run.sh", PROGRAM).chmod(0o755)
    (root / "outward.cgi").symlink_to("/bin/true")
    head = f'[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\n[[site]]\nroot = "{root}"\n'
    tail = 'mode_forbidden = 0o111\ncgi = ["cgi"]\n'
    ran = [
        ("GET", "/run.cgi", f"GET /run.cgi   {root}"),
        ("POST", "/run.cgi/a%20b?q", f"POST /run.cgi /a b q {root}"),
        ("GET", "/sub/deep.CGI/", f"GET /sub/deep.CGI / {''} {root}"),
    ]
    others = {
        "/plain.cgi": 403,
        "/run.sh": 403,
        "/.hidden.cgi": 404,
        "/outward.cgi": 404,
        "/none.cgi": 404,
        "/no/": 404,
    }
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(Backend(behind))
        alone = stack.enter_context(tux.Server(config=put(site / "programs.toml", f"{head}[site.tux]\n{tail}")))
        text = f'{head}forward = "{backend.url}"\n[site.tux]\nrefused_next = true\n{tail}'
        before = stack.enter_context(tux.Server(config=put(site / "before.toml", text)))
        for server in (alone, before):
            ask = asking(server)
            for method, target, said in ran:
                for _ in range(3):
                    reply = ask(method, target, b"x" if method == "POST" else b"")
                    assert (reply.status, reply.body.decode()) == (200, said + "\n")
            assert ask("HEAD", "/run.cgi").body == b""
            assert ask("GET", "/index.html").body == b"index"
            assert ask("GET", "/").body == b"index"
        for target, status in others.items():
            reply = asking(alone)("GET", target)
            assert (reply.status, b"echo" in reply.body) == (status, False), target
            assert asking(before)("GET", target).body == f"behind: {target}".encode()
        assert asking(before)("PUT", "/plain.cgi", b"x").body == b"behind: /plain.cgi"
        for server in (alone, before):
            stop(server)
