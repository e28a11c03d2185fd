# SPDX-License-Identifier: MIT
"""Modules behind the whole server: loading, requests and their bodies, streams, helpers in other processes, errors."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tux
from tests.corpus.reader import PATIENCE, ClosedError
from tests.e2e.client import put, until
from tests.e2e.dynamic import Connection, asking
from tux.errors import StartError

HELLO = """
import asyncio, os, subprocess, sys, threading, time

import tux


@tux.module("/hello")
def hello(req: tux.Request) -> str:
    return "Hello!"


@tux.module("/echo")
def echo(req: tux.Request) -> bytes:
    return req.body


@tux.module("/length")
async def length(req: tux.Request) -> dict[str, int]:
    total = 0
    async for piece in req.stream():
        total += len(piece)
    return {"length": total}


@tux.module("/large")
def large(req: tux.Request):
    for n in range(300):
        yield bytes([n % 256]) * 100_000


@tux.module("/counter")
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, req: tux.Request) -> str:
        self.count += 1
        return str(self.count)


HELPER = "import sys, tux; tux.resume(sys.argv[1], 'from ' + sys.argv[2])"


@tux.module("/helper")
async def helper(req: tux.Request) -> str:
    subprocess.Popen([sys.executable, "-c", HELPER, req.token, "a process"])
    return await req.postpone(timeout=20)


@tux.module("/pid")
async def pid(req: tux.Request) -> int:
    return 200, str(os.getpid())


@tux.module("/fail")
def fail(req: tux.Request) -> float:
    return 1 / 0


@tux.module("/short")
def short(req: tux.Request):
    req.start(length=10)
    yield "abc"


@tux.module("/slow")
def slow(req: tux.Request) -> str:
    time.sleep(0.4)
    return "slow"


@tux.module("/other/*")
def other(req: tux.Request):
    return req.decline()
"""

Start = Callable[..., tux.Server]


@pytest.fixture
def start(site: Path) -> Iterator[Start]:
    """Starts servers in a folder with hello.py and public/index.html."""
    put(site / "hello.py", HELLO)
    put(site / "public/index.html", "index")
    with contextlib.ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(
            tux.Server(*args, cwd=site, **{"module": "hello.py", "workers": 1, **options})
        )


def test_requests(start: Start) -> None:
    server = start("public")
    ask = asking(server)
    assert ask("GET", "/hello").body == b"Hello!"
    assert ask("GET", "/").body == b"index"
    assert ask("GET", "/none").status == 404
    assert ask("GET", "/other/one").status == 404
    assert ask("GET", "/hello.py").status == 404
    assert [ask("GET", "/counter").body for _ in range(3)] == [b"1", b"2", b"3"]
    body = os.urandom(700_000)
    assert ask("POST", "/echo", body).body == body
    assert ask("POST", "/echo", body, chunked=True).body == body
    assert ask("POST", "/echo", bytes(2_000_000)).status == 413
    assert ask("POST", "/length", bytes(5_000_000), chunked=True).json() == {"length": 5_000_000}
    assert ask("GET", "/large").body == b"".join(bytes([n % 256]) * 100_000 for n in range(300))
    head = ask("HEAD", "/hello")
    assert (head.value("content-length"), head.body) == ("6", b"")


def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    with Connection(start("public")) as connection:
        connection.sock.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n" * 3 + b"GET /fail HTTP/1.0\r\n\r\n")
        received = b""
        while data := connection.sock.recv(65536):
            received += data
    assert received.count(b"200 OK") == 3
    assert received.count(b"HTTP/1.1 500 ") == 1


def test_a_request_is_continued_by_another_process(start: Start) -> None:
    server = start(env={"PYTHONPATH": os.pathsep.join(sys.path)}, user="root" if os.getuid() == 0 else None)
    assert asking(server)("GET", "/helper").body == b"from a process"


def test_a_body_that_ends_early_is_cut_and_told(start: Start) -> None:
    server = start()
    with Connection(server) as connection:
        assert connection.ask("/short", method="HEAD").value("content-length") == "10"
        connection.send("/short")
        with pytest.raises(ClosedError):
            connection.answer()
    said = "the body ends 7 bytes before its length"
    until(lambda: said in server.stderr_text(), "the log says why")
    assert server.stderr_text().count("failed") == 1


def test_errors_are_in_the_log(start: Start) -> None:
    server = start("public")
    ask = asking(server)
    assert ask("GET", "/fail?a=b").status == 500
    assert ask("GET", "/hello").status == 200
    said = server.stderr_text()
    assert "module module: GET /fail?a=b: the handler fail failed\nTraceback" in said
    assert "ZeroDivisionError: division by zero" in said


def test_what_blocks_is_in_the_log(start: Start, site: Path) -> None:
    put(
        site / "tux.toml",
        '[module.one]\nmodules = ["hello.py"]\nreport_blocked = 0.1\n[[site]]\nroot = "public"\nmodule = "one"\n',
    )
    server = start(config=site / "tux.toml", module=None, listen="127.0.0.1:0")
    assert asking(server)("GET", "/slow").body == b"slow"
    until(lambda: "blocked its process for" in server.stderr_text(), "the end of what blocked")
    assert "module one: slow, for GET /slow, blocks its process" in server.stderr_text()
    assert "time.sleep(0.4)" in server.stderr_text()


def test_paths_of_a_table_and_an_entry_point(start: Start, site: Path) -> None:
    put(site / "shop/__init__.py", "def first(req): return 'first ' + req.path\n")
    put(site / "shop/second.py", "class Second:\n    def get(self, req): return 'second'\n")
    put(site / "shop-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: shop\nVersion: 1\n")
    put(site / "shop-1.dist-info/entry_points.txt", "[tux.modules]\nthird = shop:first\n")
    put(
        site / "tux.toml",
        '[module.one]\nmodules = ["third", "hello.py"]\n'
        'paths = { "/first/*" = "shop:first", "/second" = "shop/second.py:Second" }\n'
        '[[site]]\nmodule = "one"\n',
    )
    ask = asking(start(config=site / "tux.toml", module=None, listen="127.0.0.1:0"))
    assert ask("GET", "/first/a").body == b"first /first/a"
    assert ask("GET", "/second").body == b"second"
    assert ask("POST", "/second").status == 405
    assert ask("GET", "/third").body == b"first /third"
    assert ask("GET", "/hello").body == b"Hello!"


def test_several_processes_and_the_death_of_one(start: Start) -> None:
    server = start("public", module_workers=2)
    ask = asking(server)
    seen: set[bytes] = set()

    def all_seen() -> bool:
        answer = ask("GET", "/pid")
        if answer.status == 200:
            seen.add(answer.body)
        return len(seen) >= 2

    until(all_seen, "two processes")
    os.kill(int(seen.pop()), 9)
    seen.clear()
    until(all_seen, "two processes")


def test_files_that_belong_to_modules(start: Start, site: Path) -> None:
    put(site / "public/hello", "a file of that name")
    put(site / "public/a.tux", "its source")
    put(site / "public/closed.txt", "closed").chmod(0o640)
    put(
        site / "tux.toml",
        '[module.one]\npaths = { "/a.tux" = "hello.py:hello", "/closed.txt" = "hello.py:other" }\n'
        '[[site]]\nroot = "public"\nmodule = "one"\n'
        '[site.tux]\nredirect = ["tux"]\nmode_allowed = 0o004\nrefused_next = true\n',
    )
    ask = asking(start(config=site / "tux.toml", module=None, listen="127.0.0.1:0"))
    for _ in range(3):  # remembered or not
        assert ask("GET", "/a.tux").body == b"Hello!"
        assert ask("GET", "/hello").body == b"a file of that name"
        assert ask("GET", "/closed.txt").status in {403, 404}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import tux\n", "it registers nothing"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("import tux\ntux.module('/a')(1)\n", "a handler is a function or a class, not int"),
        ("import tux\n@tux.module('/a')\ndef a(req): pass\n@tux.module('/a')\ndef b(req): pass\n", "is taken by a"),
    ],
)
def test_what_cannot_be_loaded_is_no_start(site: Path, text: str, message: str) -> None:
    put(site / "wrong.py", text)
    assert message in said_at_start(site, "wrong.py")


def test_a_file_that_is_not_there(site: Path) -> None:
    assert f"there is no file {site}/none.py" in said_at_start(site, "none.py")


def said_at_start(site: Path, module: str) -> str:
    """What a server says that cannot start for this module."""
    server = tux.Server(cwd=site, module=module, workers=1)
    with contextlib.suppress(StartError):
        server.start()
    try:
        server.wait(PATIENCE)
        return server.stderr_text()
    finally:
        server.stop()


POWERS = """
import itertools

import tux

count = itertools.count(1)


@tux.module("/sent")
def sent(req: tux.Request):
    return req.send_object("/data/large.txt", {"X-Own": "yes"})


@tux.module("/read")
async def read(req: tux.Request) -> bytes:
    with await req.get_object("data/large.txt") as found:
        return f"{found.size} {found.type} ".encode() + bytes(found.memory[:10]) + found.read(10, 10)


@tux.module("/small")
async def small(req: tux.Request) -> dict[str, str]:
    with await req.get_object("/index.html") as found:
        return {"text": bytes(found.memory).decode(), "etag": found.etag}


@tux.module("/none")
async def none(req: tux.Request):
    try:
        await req.get_object("/nothing.txt")
    except FileNotFoundError as error:
        return 404, str(error)


@tux.module("/cached", cache=3600)
def cached(req: tux.Request) -> str:
    return str(next(count))


@tux.module("/by-query", cache=3600)
def by_query(req: tux.Request) -> str:
    return req.query + str(next(count))


@tux.module("/personal", cache=3600)
def personal(req: tux.Request) -> str:
    return req.cookies.get("a", "") + str(next(count))


@tux.module("/close")
def close(req: tux.Request):
    return req.send("bye", close=True)


@tux.module("/late")
def late(req: tux.Request):
    req.write("bye")
    req.finish(close=True)


@tux.module("/server/*")
def server(req: tux.Request):
    return req.redirect_to_server()
"""


def test_objects_of_the_site(start: Start, site: Path) -> None:
    put(site / "powers.py", POWERS)
    large = os.urandom(200_000).hex().encode()
    etag = asking(start("public"))("GET", "/").value("etag")
    put(site / "public/data/large.txt", large)
    ask = asking(start("public", module="powers.py"))
    answer = ask("GET", "/sent")
    for _ in range(3):  # from the planner, and from the memo
        answer = ask("GET", "/sent")
        assert (answer.status, answer.value("x-own"), answer.body == large) == (200, "yes", True)
        assert answer.value("content-type") == "text/plain; charset=utf-8"
        assert ask("GET", "/read").body == b"400000 text/plain; charset=utf-8 " + large[:20]
        assert ask("GET", "/small").json() == {"text": "index", "etag": etag}
        assert ask("GET", "/none").body == b"/nothing.txt: the static origin answers 404"
    part = ask("GET", "/sent", range="bytes=5-9")
    assert (part.status, part.body) == (206, large[5:10])
    same = ask("GET", "/sent", if_none_match=answer.value("etag"))
    assert (same.status, same.body) == (304, b"")
    head = ask("HEAD", "/sent")
    assert (head.value("content-length"), head.body) == ("400000", b"")


def test_answers_that_are_remembered(start: Start, site: Path) -> None:
    put(site / "powers.py", POWERS)
    server = start("public", module="powers.py")
    ask = asking(server)

    def settled(target: str) -> bytes:
        """What is answered twice in a row."""
        last = b""
        while (answer := ask("GET", target).body) != last:
            last = answer
        return last

    first = settled("/cached")
    assert ask("GET", "/cached", user_agent="x").body == first
    assert ask("GET", "/cached?any").body == first
    assert settled("/by-query?a").startswith(b"a")
    assert settled("/by-query?b").startswith(b"b")
    assert len({ask("GET", "/personal", cookie="a=b").body for _ in range(5)}) == 5
    assert server.stderr_text().count("not remembered") == 1


def test_finish_closes_or_keeps(start: Start, site: Path) -> None:
    put(site / "powers.py", POWERS)
    with contextlib.ExitStack() as stack:
        server = start("public", module="powers.py")
        for target in (b"/close", b"/late"):
            connection = stack.enter_context(Connection(server))
            connection.sock.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            received = b""
            while data := connection.sock.recv(65536):
                received += data
            assert b"bye" in received


def test_a_request_is_given_to_the_server_behind(start: Start, site: Path) -> None:
    put(site / "powers.py", POWERS)
    put(site / "behind/server/a", "from behind")
    behind = start("behind", module=None, listen="127.0.0.1:0")
    ask = asking(start("public", module="powers.py", forward=behind.url))
    assert ask("GET", "/server/a").body == b"from behind"
    assert ask("GET", "/server/b").status == 404
