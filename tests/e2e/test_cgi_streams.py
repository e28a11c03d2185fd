# SPDX-License-Identifier: MIT
"""CGI: bodies in each language, as they come; what bounds a script, and where it comes from."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tux
from tests.corpus.reader import ClosedError
from tests.e2e.client import put, until
from tests.e2e.dynamic import Connection, Reply, asking

C_PROGRAM = r"""
#include <unistd.h>
int main(void)
{
    static const char head[] = "Content-Type: application/octet-stream\r\n\r\n";
    char buffer[65536];
    ssize_t n = sizeof head - 1, done;
    if (write(1, head, n) != n)
        return 1;
    while ((n = read(0, buffer, sizeof buffer)) > 0)
        for (ssize_t at = 0; at < n; at += done)
            if ((done = write(1, buffer + at, n - at)) < 0)
                return 1;
    return n < 0;
}
"""
PYTHON = """#!/usr/bin/python3
import shutil, sys
sys.stdout.buffer.write(b"Content-Type: application/octet-stream\\n\\n")
shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)
"""
PERL = """#!/usr/bin/perl
binmode STDIN; binmode STDOUT; $| = 1;
print "Content-Type: application/octet-stream\\n\\n";
my $piece;
print $piece while sysread(STDIN, $piece, 65536);
"""
SHELL = """#!/bin/sh
printf 'Content-Type: application/octet-stream\\n\\n'
exec cat
"""
# A child that ignores what asks it to end, as its parent does; the parent then does what the query says.
FAMILY = """#!/bin/sh
trap "" TERM
sh -c 'trap "" TERM; echo $$ >"$PIDS/child"; while :; do sleep 0.05; done' &
echo $$ >"$PIDS/parent"
while [ ! -s "$PIDS/child" ]; do sleep 0.01; done
case $QUERY_STRING in
silent) ;;
*) printf 'Content-Type: text/plain\\n\\nsome' ;;
esac
case $QUERY_STRING in
flood) while :; do printf %10000s x; done ;;
*) while :; do sleep 0.05; done ;;
esac
"""
SLOW = """#!/bin/sh
sleep 0.7
printf 'Content-Type: text/plain\\n\\n'
sleep 0.7
echo slow
"""
PARENT = """#!/bin/sh
printf 'Content-Type: text/plain\\n\\n'
cat /proc/$PPID/stat /proc/self/limits
"""
NPH = """#!/bin/sh
printf 'HTTP/1.1 404 Own Words\\r\\nContent-Type: text/plain\\r\\nContent-Length: 5\\r\\nX-Own: 1\\r\\n\\r\\nabcde'
"""
Start = Callable[..., tux.Server]


@pytest.fixture(scope="module")
def folder(site: Path) -> Path:
    scripts = {
        "python": PYTHON,
        "perl": PERL,
        "shell": SHELL,
        "family": FAMILY,
        "slow": SLOW,
        "parent": PARENT,
        "nph-own": NPH,
    }
    for name, text in scripts.items():
        put(site / "cgi-bin" / name, text).chmod(0o755)
    put(site / "echo.c", C_PROGRAM)
    subprocess.run(["gcc", "-O2", "-o", site / "cgi-bin/c", site / "echo.c"], check=True)
    (site / "pids").mkdir()
    (site / "pids").chmod(0o777)
    return site


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """start(timeout=1): a server with these keys in [cgi]."""
    started: list[tux.Server] = []
    for old in (folder / "pids").iterdir():
        old.unlink()

    def new(**keys: object) -> tux.Server:
        lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
        config = put(
            folder / "tux.toml",
            f'[server]\nlisten = ["127.0.0.1:0"]\nworkers = 1\n[cgi]\n{lines}env = {{ PIDS = "{folder}/pids" }}\n'
            '[[site]]\n[[site.route]]\npath = "/cgi-bin/"\ncgi = "cgi-bin"\n',
        )
        started.append(tux.Server(config=config).start())
        return started[-1]

    yield new
    for server in started:
        assert server.stop() == 0, server.stderr_text()
        assert "leaked" not in server.stderr_text()
        assert "Traceback" not in server.stderr_text()


def pid_in(folder: Path, name: str) -> int:
    """The pid that a script has written down."""
    file = folder / "pids" / name
    until(lambda: file.exists() and file.read_text().endswith("\n"), f"{name} runs")
    return int(file.read_text())


def has_ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()  # a zombie has not


def echo(server: tux.Server, path: str, body: bytes, *, chunked: bool) -> Reply:
    """What comes back while the body is sent: who sends all of it first may wait for ever for who waits for him."""
    framing = {"transfer_encoding": "chunked"} if chunked else {"content_length": str(len(body))}
    pieces = [body[i : i + 50_000] for i in range(0, len(body), 50_000)]
    sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n" if chunked else body
    with Connection(server) as connection:
        connection.send(path, method="POST", **framing)
        sender = threading.Thread(target=connection.sock.sendall, args=(sent,))
        sender.start()
        try:
            return connection.answer("POST")
        finally:
            connection.sock.shutdown(socket.SHUT_RDWR)
            sender.join()


@pytest.mark.parametrize("name", ["c", "python", "perl", "shell"])
def test_large_bodies_both_ways(start: Start, name: str) -> None:
    if name == "perl" and not shutil.which("perl"):
        pytest.skip("there is no perl")
    server = start()
    body = os.urandom(8_000_000)
    for chunked in (False, True):
        reply = echo(server, f"/cgi-bin/{name}", body, chunked=chunked)
        assert (reply.status, len(reply.body)) == (200, len(body))
        assert hashlib.sha256(reply.body).digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize("name", ["c", "shell"])
def test_a_body_arrives_while_it_is_sent(start: Start, name: str) -> None:
    """Each piece goes through the script and comes back before the next one is sent."""
    with Connection(start()) as connection:
        connection.sock.sendall(f"POST /cgi-bin/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n".encode())
        received = b""
        for piece in (b"first", b"/next", b"/last"):
            connection.sock.sendall(piece)
            while piece not in received:
                received += connection.sock.recv(65536)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_head_of_its_own(start: Start) -> None:
    """nph-: status, reason and fields are the script's; the framing is the server's, also for HEAD."""
    with Connection(start()) as connection:
        for _ in range(2):
            reply = connection.ask("/cgi-bin/nph-own")
            assert (reply.status, reply.value("x-own"), reply.body) == (404, "1", b"abcde")
            reply = connection.ask("/cgi-bin/nph-own", method="HEAD")
            assert (reply.status, reply.value("content-length"), reply.body) == (404, "5", b"")


@pytest.mark.parametrize(
    ("keys", "query", "status", "reason"),
    [
        ({"head_timeout": 0.3}, "silent", 504, "head_timeout"),
        ({"timeout": 0.5}, "silent", 504, "ran for longer than timeout"),
        ({"idle_timeout": 0.3}, "stall", None, "idle_timeout"),
        ({"timeout": 0.5}, "stall", None, "ran for longer than timeout"),
        ({"timeout": 0.5}, "flood", None, "ran for longer than timeout"),
        ({"output_bytes": 200_000}, "flood", None, "output_bytes"),
        ({}, "client", None, None),
    ],
)
def test_whatever_ends_a_script_ends_its_whole_group(
    start: Start, folder: Path, keys: dict[str, float], query: str, status: int | None, reason: str | None
) -> None:
    """Although all of it ignores SIGTERM."""
    server = start(kill_grace=0.2, **keys)
    with Connection(server) as connection:
        connection.send(f"/cgi-bin/family?{query}")
        pids = [pid_in(folder, name) for name in ("parent", "child")]
        if status is not None:
            assert connection.answer().status == status
        elif reason is None:
            connection.reset()
        else:
            with pytest.raises((ClosedError, ValueError, ConnectionError)):
                connection.answer()
    until(lambda: all(has_ended(pid) for pid in pids), "both have ended")
    if reason is not None:
        until(lambda: reason in server.stderr_text(), "it is in the log")


def test_a_client_that_has_closed_its_side(start: Start, folder: Path) -> None:
    """It gets what comes soon; what is silent for long ends, since it is most likely gone."""
    server = start(kill_grace=0.2)
    with Connection(server) as patient, Connection(server) as gone:
        for connection, path in ((patient, "/cgi-bin/slow"), (gone, "/cgi-bin/family?silent")):
            connection.send(path)
            connection.sock.shutdown(socket.SHUT_WR)
        reply = patient.answer()
        assert (reply.status, reply.body) == (200, b"slow\n")
        pids = [pid_in(folder, name) for name in ("parent", "child")]
        assert not any(has_ended(pid) for pid in pids)
        assert gone.answer().status == 504
    until(lambda: all(has_ended(pid) for pid in pids), "both have ended")


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("open_files", 77, "Max open files"),
        ("cpu_seconds", 33, "Max cpu time"),
        ("memory", 1 << 30, "Max address space"),
        ("file_bytes", 123_456, "Max file size"),
        ("processes", 4321, "Max processes"),
    ],
)
def test_limits(start: Start, key: str, value: int, name: str) -> None:
    said = asking(start(**{key: value}))("GET", "/cgi-bin/parent").body.decode()
    assert re.search(rf"^{name}\s+{value}\s+{value}\s", said, re.MULTILINE), said


def test_scripts_are_children_of_a_small_process(start: Start) -> None:
    """Not of the server, whose workers may not start anything (`tux.daemon.seccomp`)."""
    server = start(workers=1)
    said = asking(server)("GET", "/cgi-bin/parent").body.decode()
    pid, _, rest = said.partition("\n")[0].partition(" ")
    process = re.findall(r"cgi: process (\d+) is ready", server.stderr_text())
    assert [pid] == process
    supervisor = int(rest.rpartition(")")[2].split()[1])
    assert supervisor == server.pid
