# SPDX-License-Identifier: MIT
"""CGI behind the whole server: programs in four languages, streams both ways, all that a script can do wrong."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import http.client
import json
import os
import platform
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

import tux
from tests.corpus.reader import PATIENCE, ClosedError
from tests.e2e import client
from tests.e2e.dynamic import Connection, Reply, asking

C_PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    long n = getenv("CONTENT_LENGTH") ? atol(getenv("CONTENT_LENGTH")) : 0, sum = 0;
    for (long i = 0; i < n; i++)
        sum += getchar();
    printf("Content-Type: text/plain\r\nX-Sum: %ld\r\n\r\nhello from C, %s\n", sum, getenv("REQUEST_METHOD"));
    return 0;
}
"""
RT_SIGACTION = {"x86_64": 13, "aarch64": 134}
"""Machine -> number of rt_sigaction(2)."""
SIGCANCEL = 32
"""glibc's, for pthread_cancel(3)."""
ENVIRONMENT = """#!/usr/bin/python3
import json, os, sys
print("Content-Type: application/json\\n")
print(json.dumps({"env": dict(os.environ), "args": sys.argv, "cwd": os.getcwd(), "body": sys.stdin.read()}))
"""
DESCRIPTORS = """#!/usr/bin/python3
import json, os, signal
fds = [int(n) for n in os.listdir("/proc/self/fd")]
fds = [n for n in fds if os.path.exists(f"/proc/self/fd/{n}")]
status = open("/proc/self/status").read()
ignored = [line.split()[1] for line in status.splitlines() if line[:6] in ("SigIgn", "SigBlk")]
limits = open("/proc/self/limits").read()
print("Content-Type: application/json\\n")
alone = os.getsid(0) == os.getpid() == os.getpgid(0)
print(json.dumps({"fds": fds, "signals": ignored, "limits": limits, "alone": alone}))
"""
ECHO = """#!/usr/bin/python3
import os, sys
sys.stdout.write("Content-Type: application/octet-stream\\n\\n")
sys.stdout.flush()
while data := os.read(0, 65536):
    while data:
        data = data[os.write(1, data):]
"""
PERL = """#!/usr/bin/perl
print "Status: 201 Made\\nContent-Type: text/plain\\n\\n", "perl got ", scalar(<STDIN>);
"""
SHELL = {
    "sh": 'echo "Content-Type: text/plain"; echo; echo "shell $PATH_INFO"',
    "bash": 'echo "Content-Type: text/plain"; echo; echo "bash"',
    "status": 'printf "Status: 404 Nothing\\nContent-Type: text/plain\\nSet-Cookie: a=1\\nSet-Cookie: b=2\\n\\ngone"',
    "away": 'printf "Location: http://example.org/x\\n\\n"',
    "see-other": 'printf "Status: 303 See Other\\nLocation: /elsewhere\\n\\n"',
    "local": 'printf "Location: /page.html\\n\\n"',
    "to-script": 'printf "Location: /cgi-bin/sh/from?local=1\\n\\n"',
    "loop": 'printf "Location: /cgi-bin/loop\\n\\n"',
    "to-nothing": 'printf "Location: /nothing\\n\\n"',
    "length": 'printf "Content-Type: text/plain\\nContent-Length: 5\\n\\nabcde"',
    "short": 'printf "Content-Type: text/plain\\nContent-Length: 50\\n\\nabcde"',
    "surplus": 'printf "Content-Type: text/plain\\nContent-Length: 5\\n\\nabcdefgh"',
    "empty": "exit 3",
    "garbage": 'printf "\\001\\002:garbage\\n\\n"',
    "noise": "head -c 100000 /dev/urandom",
    "no-type": 'printf "X-A: b\\n\\nbody"',
    "typeless-body": 'printf "Status: 200 OK\\n\\nbody"',
    "no-body": 'printf "Status: 204 None\\n\\n"',
    "half": 'printf "Content-Type: text/plain\\nX-A"',
    "bad-field": 'printf "Content-Type: text/plain\\nX A: b\\n\\n"',
    "crash": 'printf "Content-Type: text/plain\\n\\npart"; kill -SEGV $$',
    "long-crash": 'printf "Content-Type: text/plain\\n\\n"; head -c 200000 /dev/zero; kill -SEGV $$',
    "errors": 'printf "one\\ntwo \\033[31m\\n%3000s\\nlast" x >&2; printf "Content-Type: text/plain\\n\\nok"',
    "error-flood": "i=0; while [ $i -lt 2000 ]; do echo flood $i >&2; i=$((i+1)); done; "
    'printf "Content-Type: text/plain\\n\\nok"',
    "nph-raw": 'printf "HTTP/1.1 299 Own Reason\\r\\nX-Own: 1\\r\\nConnection: close\\r\\n\\r\\nraw"',
    "nph-bad": 'printf "Content-Type: text/plain\\n\\nraw"',
    "hang": 'echo $$ >"$PIDS/hang"; sleep 1000 & echo $! >"$PIDS/child"; wait',
    "stubborn": 'trap "" TERM; echo $$ >"$PIDS/stubborn"; while :; do sleep 0.05; done',
    "stall": 'printf "Content-Type: text/plain\\n\\nsome"; exec sleep 1000',
    "flood": 'printf "Content-Type: text/plain\\n\\n"; exec cat /dev/zero',
    "flood-silently": 'printf "Content-Type: text/plain\\n\\n"; exec yes',
    "daemon": 'sleep 1000 & echo $! >"$PIDS/left"; printf "Content-Type: text/plain\\n\\nbye"',
    "session": 'setsid sleep 1000 >/dev/null 2>&1 & echo $! >"$PIDS/session"; '
    'printf "Content-Type: text/plain\\n\\nbye"; sleep 0.1',
    "closes": 'printf "Content-Type: text/plain\\n\\nall"; exec >&-; '
    'while [ ! -e "$PIDS/go" ]; do sleep 0.02; done; echo done >"$PIDS/closed"',
    "deaf": 'exec <&-; sleep 0.1; printf "Content-Type: text/plain\\n\\ndid not listen"',
    "wait": 'printf "Content-Type: text/plain\\n\\n"; while [ ! -e "$PIDS/go" ]; do sleep 0.02; done; echo went',
    "accel": 'printf "X-Accel-Redirect: /page.html\\n\\n"; printf "Content-Type: text/html\\n\\n"',
    "not-executable": "echo never",
    ".hidden": 'printf "Content-Type: text/plain\\n\\nhidden"',
}
PAGE = "a page of the site\n"


@pytest.fixture(scope="module")
def folder(site: Path) -> Path:
    """A site with scripts below it, and files beside them."""
    scripts = site / "cgi-bin"
    scripts.mkdir()
    for name, text in SHELL.items():
        (scripts / name).write_text(f"#!/bin/{'bash' if name == 'bash' else 'sh'}\n{text}\n")
    (scripts / "environment").write_text(ENVIRONMENT)
    (scripts / "descriptors").write_text(DESCRIPTORS)
    (scripts / "echo").write_text(ECHO)
    (scripts / "perl").write_text(PERL)
    (scripts / "no-program").write_text("#!/nowhere/interpreter\n")
    (scripts / "no-first-line").write_text("echo hello\n")
    (site / "program.c").write_text(C_PROGRAM)
    subprocess.run(["gcc", "-O2", "-o", scripts / "c", site / "program.c"], check=True)
    (scripts / "sub").mkdir()
    shutil.copy(scripts / "sh", scripts / "sub" / "inner")
    (site / "page.html").write_text(PAGE)
    (site / "elsewhere").mkdir()
    (site / "elsewhere" / "link").symlink_to("../cgi-bin/sh")
    (site / "elsewhere" / "all").symlink_to("../cgi-bin")
    (site / "elsewhere" / "page.html").write_text(PAGE)
    (site / "elsewhere" / "page.html.gz").symlink_to("../cgi-bin/sh")
    (scripts / "outward").symlink_to("../outside")
    (site / "outside").write_text("#!/bin/sh\necho outside\n")
    (site / "pids").mkdir()
    for path in (site, *site.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o777 if path.is_dir() else 0o755)
    (scripts / "not-executable").chmod(0o644)
    return site


Start = Callable[..., tux.Server]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[tux.Server]]:
    """All that were started; the first one has no keys in [cgi], and is for all tests."""
    started: list[tux.Server] = []
    yield started
    for server in started:
        assert server.stop() == 0, server.stderr_text()
        assert "leaked" not in server.stderr_text()
        assert "Traceback" not in server.stderr_text()


@pytest.fixture
def start(folder: Path, servers: list[tux.Server]) -> Start:
    """start(timeout=1): a server with these keys in [cgi]; without any, one that other tests have, too."""
    for old in (folder / "pids").iterdir():
        old.unlink()

    def new(args: Sequence[str], keys: Mapping[str, object]) -> tux.Server:
        lines = "".join(f"{key} = {str(value).lower()}\n" for key, value in keys.items())
        config = folder / f"tux{len(servers)}.toml"
        config.write_text(
            f'[cgi]\n{lines}env = {{ PIDS = "{folder}/pids" }}\n[[site]]\nroot = "{folder}"\n'
            f'[[site.route]]\npath = "/cgi-bin/"\ncgi = "{folder}/cgi-bin"\n'
            f'[[site.route]]\npath = "/aside"\nroot = "{folder}"\n'
        )
        servers.append(tux.Server(config=config, args=["--listen=127.0.0.1:0", "--kernel=off", *args], timeout=30))
        return servers[-1].start()

    def starter(*, args: Sequence[str] = (), **keys: object) -> tux.Server:
        if not servers:
            new((), {})
        return new(args, keys) if args or keys else servers[0]

    return starter


def until(condition: Callable[[], object]) -> None:
    client.until(condition, "see the test")


def pid_in(folder: Path, name: str) -> int:
    """The pid that a script has written down."""
    file = folder / "pids" / name
    until(lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # a zombie is there still: nobody has reaped it
    except ProcessLookupError:
        return True
    return False


def get(server: tux.Server, path: str, method: str = "GET", body: bytes = b"", **fields: str) -> Reply:
    return asking(server)(method, path, body, chunked=False, **fields)


def says(server: tux.Server, text: str) -> None:
    """Wait until this is in the error log."""
    until(lambda: text in server.stderr_text())


# -- what scripts get --------------------------------------------------------------------------------------------------


def test_programs_in_four_languages(start: Start) -> None:
    server = start()
    reply = get(server, "/cgi-bin/c", "POST", b"\x01\x02\x03")
    assert (reply.status, reply.value("x-sum"), reply.body) == (200, "6", b"hello from C, POST\n")
    assert get(server, "/cgi-bin/sh/a/b").body == b"shell /a/b\n"
    assert get(server, "/cgi-bin/sub/inner/x").body == b"shell /x\n"
    if shutil.which("perl"):
        reply = get(server, "/cgi-bin/perl", "POST", b"words")
        assert (reply.status, reply.body) == (201, b"perl got words")
    assert get(server, "/cgi-bin/environment").status == 200


def test_the_environment_is_complete_and_clean(start: Start, folder: Path) -> None:
    server = start()
    fields = {
        "User-Agent": "probe",
        "Proxy": "http://evil.example/",
        "Authorization": "Basic c2VjcmV0",
        "X_Underscore": "evil",
        "X-Underscore": "good",
        "Cookie": "a=1",
        "Host": "Example.org:1234",
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "https",
    }
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
    connection.request("GET", "/cgi-bin/environment/an%20info?a=b+c&d", headers=fields)
    said = json.loads(connection.getresponse().read())
    local = server.url.rpartition(":")[2]
    connection.close()
    env = said["env"]
    assert said["args"] == [f"{folder}/cgi-bin/environment"]
    assert said["cwd"] == f"{folder}/cgi-bin"
    expected = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "tux",
        "SERVER_NAME": "Example.org",
        "SERVER_PORT": local,
        "SERVER_ADDR": "127.0.0.1",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/cgi-bin/environment/an%20info?a=b+c&d",
        "REQUEST_SCHEME": "http",
        "SCRIPT_NAME": "/cgi-bin/environment",
        "SCRIPT_FILENAME": f"{folder}/cgi-bin/environment",
        "PATH_INFO": "/an info",
        "PATH_TRANSLATED": f"{folder}/an info",
        "DOCUMENT_ROOT": str(folder),
        "QUERY_STRING": "a=b+c&d",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_HOST": "127.0.0.1",
        "HTTP_USER_AGENT": "probe",
        "HTTP_X_UNDERSCORE": "good",
        "HTTP_COOKIE": "a=1",
        "HTTP_HOST": "Example.org:1234",
        "HTTP_ACCEPT_ENCODING": "identity",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PIDS": f"{folder}/pids",
    }
    assert {key: env.get(key) for key in expected} == expected
    rest = set(env) - set(expected) - {"REMOTE_PORT", "UNIQUE_ID", "LC_CTYPE"}
    assert not rest, rest


def test_what_a_trusted_proxy_says_is_true(start: Start) -> None:
    server = start(args=("--trusted", "127.0.0.0/8"))
    fields = {"X_Forwarded_For": "9.8.7.6", "X_Forwarded_Proto": "https", "Host": "shop.example"}
    env = get(server, "/cgi-bin/environment", "GET", b"", **fields).json()["env"]
    assert env["REMOTE_ADDR"] == "9.8.7.6"
    assert (env["HTTPS"], env["SERVER_NAME"], env["SERVER_PORT"]) == ("on", "shop.example", "443")


def test_authorization_is_told_when_asked_for(start: Start) -> None:
    server = start(authorization=True)
    env = get(server, "/cgi-bin/environment", Authorization="Basic eA==").json()["env"]
    assert env["HTTP_AUTHORIZATION"] == "Basic eA=="


def test_a_query_is_no_argument_and_a_function_is_no_command(start: Start) -> None:
    server = start()  # CVE-2012-1823, CVE-2014-6271
    assert get(server, "/cgi-bin/environment?-s+-d").json()["args"][1:] == []
    reply = get(server, "/cgi-bin/bash", User_Agent="() { :;}; echo; echo shocked")
    assert reply.body == b"bash\n"


def test_nothing_is_inherited(start: Start) -> None:
    said = get(start(open_files=64), "/cgi-bin/descriptors").json()
    assert said["fds"] == [0, 1, 2]
    assert {int(text, 16) & ~(1 << 12 | 1 << 24) for text in said["signals"]} == {0}  # Python ignores PIPE and XFSZ
    assert said["alone"]
    assert re.search(r"Max open files\s+64\s+64", said["limits"])
    assert re.search(r"Max core file size\s+0\s+0", said["limits"])


@pytest.mark.skipif(platform.machine() not in RT_SIGACTION, reason="the number of the system call is not known here")
def test_signals_of_the_c_library_are_not_ignored_by_inheritance(start: Start) -> None:
    """Its own sigaction(3) denies that they are there, posix_spawn(3) leaves them ignored."""
    libc = ctypes.CDLL(None, use_errno=True)
    ignore, before = (ctypes.c_uint64 * 8)(signal.SIG_IGN), (ctypes.c_uint64 * 8)()
    number = ctypes.c_long(RT_SIGACTION[platform.machine()])
    assert libc.syscall(number, SIGCANCEL, ignore, before, ctypes.c_long(8)) == 0
    try:
        said = get(start(open_files=64), "/cgi-bin/descriptors").json()
    finally:
        assert libc.syscall(number, SIGCANCEL, before, None, ctypes.c_long(8)) == 0
    assert not any(int(text, 16) >> (SIGCANCEL - 1) & 1 for text in said["signals"])


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_bodies_stream_both_ways(start: Start, size: int, chunked: bool) -> None:
    server = start()
    body = os.urandom(size)
    reply = asking(server)("POST", "/cgi-bin/echo", body, chunked=chunked)
    assert hashlib.sha256(reply.body).digest() == hashlib.sha256(body).digest()


def test_the_length_of_a_chunked_body_is_told(start: Start) -> None:
    server = start(spool_bytes=200_000)
    said = asking(server)("POST", "/cgi-bin/environment", b"x" * 100_000, chunked=True).json()
    assert said["env"]["CONTENT_LENGTH"] == "100000"
    assert len(said["body"]) == 100_000
    assert asking(server)("POST", "/cgi-bin/environment", b"x" * 300_000, chunked=True).status == 413


def test_a_script_that_reads_nothing(start: Start) -> None:
    assert get(start(), "/cgi-bin/deaf", "POST", b"x" * 2_000_000).body == b"did not listen"


def test_responses_stream(start: Start, folder: Path) -> None:
    server = start()
    with Connection(server) as connection:
        connection.send("/cgi-bin/wait")
        assert connection._line().startswith(b"HTTP/1.1 200")
        (folder / "pids" / "go").touch()
        while connection._line():
            pass
        assert connection._chunks() == b"went\n"


# -- what scripts say --------------------------------------------------------------------------------------------------


def test_responses(start: Start) -> None:
    server = start()
    reply = get(server, "/cgi-bin/status")
    assert (reply.status, reply.body, reply.all("set-cookie")) == (404, b"gone", ["a=1", "b=2"])
    reply = get(server, "/cgi-bin/length")
    assert (reply.body, reply.value("content-length")) == (b"abcde", "5")
    assert get(server, "/cgi-bin/no-body").status == 204
    reply = get(server, "/cgi-bin/away")
    assert (reply.status, reply.value("location")) == (302, "http://example.org/x")
    reply = get(server, "/cgi-bin/see-other")
    assert (reply.status, reply.value("location")) == (303, "/elsewhere")
    reply = get(server, "/cgi-bin/nph-raw")
    assert (reply.status, reply.value("x-own"), reply.body) == (299, "1", b"raw")


def test_local_redirects(start: Start) -> None:
    server = start()
    reply = get(server, "/cgi-bin/local", "POST", b"x=1")
    assert (reply.status, reply.body.decode()) == (200, PAGE)
    assert get(server, "/cgi-bin/local", Range="bytes=2-5").body == b"page"
    assert get(server, "/cgi-bin/to-script").body == b"shell /from\n"
    assert get(server, "/cgi-bin/to-nothing").status == 404
    loop = get(server, "/cgi-bin/loop")
    assert (loop.status, loop.value("x-content-type-options")) == (502, "nosniff")
    says(server, "local redirects")


def test_head(start: Start) -> None:
    server = start()
    with Connection(server) as connection:
        for path in ("/cgi-bin/length", "/cgi-bin/c", "/cgi-bin/local", "/cgi-bin/flood-silently"):
            reply = connection.ask(path, method="HEAD")
            assert (reply.status, reply.body) == (200, b""), path
    assert get(server, "/cgi-bin/length", Range="bytes=1-2").status == 200  # ranges are the script's business


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", "it wrote nothing"),
        ("garbage", "is no header field"),
        ("noise", "/cgi-bin/noise: "),
        ("no-type", "none of Content-Type, Location and Status"),
        ("typeless-body", "a body without Content-Type"),
        ("half", "it ended within its head"),
        ("bad-field", "is no header field"),
        ("crash", "was killed by SIGSEGV"),
        ("short", "45 bytes less than its Content-Length"),
        ("nph-bad", "is no status line"),
        ("no-program", "does the program in its first line exist?"),
        ("no-first-line", "without a first line"),
    ],
)
def test_what_is_no_response(start: Start, name: str, reason: str) -> None:
    server = start()
    with contextlib.suppress(http.client.IncompleteRead, ConnectionError):  # its head may be on its way already
        assert get(server, f"/cgi-bin/{name}").status == 502
    says(server, reason)
    assert f"/cgi-bin/{name}: " in server.stderr_text()
    assert get(server, "/cgi-bin/sh").status == 200


def test_what_is_more_than_announced_is_not_sent(start: Start) -> None:
    server = start()
    with Connection(server) as connection:
        assert connection.ask("/cgi-bin/surplus").body == b"abcde"
        assert connection.ask("/cgi-bin/sh").body == b"shell \n"
    says(server, "more than its Content-Length")


def test_a_crash_in_the_middle_cuts_the_connection(start: Start) -> None:
    server = start()
    with Connection(server) as connection, pytest.raises((ClosedError, ValueError)):
        connection.ask("/cgi-bin/long-crash")
    says(server, "was killed by SIGSEGV")


def test_standard_error_is_logged_in_bounded_lines(start: Start) -> None:
    server = start()
    assert get(server, "/cgi-bin/errors").body == b"ok"
    says(server, "/cgi-bin/errors: last")
    text = server.stderr_text()
    (label,) = set(re.findall(r"cgi: ([0-9a-f]+-[0-9a-f]+) /cgi-bin/errors: ", text))
    assert f"{label} /cgi-bin/errors: one\n" in text
    assert r"two \x1b[31m" in text
    assert max(map(len, text.splitlines())) < 1200
    assert get(server, "/cgi-bin/error-flood").body == b"ok"
    assert server.stderr_text().count("flood ") < 1500


# -- what ends scripts -------------------------------------------------------------------------------------------------


def test_a_script_that_hangs_is_killed_with_all_its_children(start: Start, folder: Path) -> None:
    server = start(head_timeout=0.3)
    assert get(server, "/cgi-bin/hang").status == 504
    for name in ("hang", "child"):
        pid = pid_in(folder, name)
        until(functools.partial(has_ended, pid))
    says(server, "no head within head_timeout")


def test_one_that_ignores_sigterm_is_killed_harder(start: Start, folder: Path) -> None:
    server = start(head_timeout=0.3, kill_grace=0.2)
    assert get(server, "/cgi-bin/stubborn").status == 504
    pid = pid_in(folder, "stubborn")
    until(lambda: has_ended(pid))


def test_one_that_stalls_is_cut_off(start: Start) -> None:
    server = start(idle_timeout=0.3)
    with Connection(server) as connection, pytest.raises((ClosedError, ValueError)):
        connection.ask("/cgi-bin/stall")
    says(server, "idle_timeout")


def test_one_that_takes_too_long_is_cut_off(start: Start) -> None:
    server = start(timeout=0.5)
    with Connection(server) as connection, pytest.raises((ClosedError, ValueError)):
        connection.ask("/cgi-bin/flood")
    says(server, "ran for longer than timeout")


def test_output_is_bounded(start: Start) -> None:
    server = start(output_bytes=1_000_000)
    with Connection(server) as connection, pytest.raises((ClosedError, ValueError)):
        connection.ask("/cgi-bin/flood")
    says(server, "output_bytes")


def test_a_client_that_reads_nothing_stops_the_script(start: Start) -> None:
    server = start()
    with Connection(server, receive_buffer=4096) as connection:
        connection.send("/cgi-bin/flood-silently")
        until(lambda: _written(server, "yes") > 0)
        (pid,) = _pids_of(server, "yes")
        until(lambda: all(_state(pid) == "S" for _ in range(200)))  # it waits for room in its pipe
        assert _written(server, "yes") < 32_000_000
    until(lambda: not _pids_of(server, "yes"))


def _pids_of(server: tux.Server, name: str) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if Path(f"/proc/{entry}/comm").read_text().strip() == name and _is_below(int(entry), server.pid):
                    found.append(int(entry))
            except OSError:
                continue
    return found


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _is_below(pid: int, root: int) -> bool:
    while pid > 1:
        if pid == root:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def _written(server: tux.Server, name: str) -> int:
    for pid in _pids_of(server, name):
        return int(re.findall(r"wchar: (\d+)", Path(f"/proc/{pid}/io").read_text())[0])
    return 0


def test_a_client_that_is_gone_ends_the_script(start: Start, folder: Path) -> None:
    server = start()
    with Connection(server) as connection:
        connection.send("/cgi-bin/hang")
        pid = pid_in(folder, "hang")
        connection.reset()
    until(lambda: has_ended(pid))
    assert get(server, "/cgi-bin/sh").status == 200


def test_what_a_script_leaves_in_its_group_ends_with_it(start: Start, folder: Path) -> None:
    server = start()
    assert get(server, "/cgi-bin/daemon").body == b"bye"  # although its child has the output
    pid = pid_in(folder, "left")
    until(lambda: has_ended(pid))


def test_a_session_of_its_own_goes_on_and_becomes_no_zombie(start: Start, folder: Path) -> None:
    server = start()
    assert get(server, "/cgi-bin/session").body == b"bye"
    pid = pid_in(folder, "session")
    sleeping = next(iter(_pids_of(server, "sleep")), pid)
    assert not has_ended(sleeping)
    os.kill(sleeping, 9)
    until(lambda: has_ended(sleeping))


def test_one_that_closes_its_output_goes_on(start: Start, folder: Path) -> None:
    server = start()
    assert get(server, "/cgi-bin/closes").body == b"all"
    assert not (folder / "pids" / "closed").exists()
    (folder / "pids" / "go").touch()
    until((folder / "pids" / "closed").exists)


def test_running_scripts_are_bounded(start: Start, folder: Path) -> None:
    server = start(running=1, queue=1, workers=1, queue_timeout=20)
    with Connection(server) as first, Connection(server) as second, Connection(server) as third:
        first.send("/cgi-bin/hang")
        pid_in(folder, "hang")
        waiting = {one.sock: one for one in (second, third)}
        for one in waiting.values():
            one.send("/cgi-bin/sh")
        (refused,) = select.select([*waiting], [], [], PATIENCE)[0]  # whichever came second
        assert waiting.pop(refused).answer().status == 503
        first.reset()
        assert [one.answer().status for one in waiting.values()] == [200]


def test_waiting_ends(start: Start, folder: Path) -> None:
    server = start(running=1, workers=1, queue_timeout=0.3)
    with Connection(server) as first:
        first.send("/cgi-bin/hang")
        pid_in(folder, "hang")
        reply = get(server, "/cgi-bin/sh")
        assert (reply.status, reply.value("retry-after")) == (503, "1")
        first.reset()


def test_a_stop_ends_what_does_not_end_by_itself(folder: Path) -> None:
    server = tux.Server(folder, cgi={"/cgi-bin/": folder / "cgi-bin"}, grace=0.3, env={"PIDS": "unused"})
    with server, Connection(server) as connection:
        connection.send("/cgi-bin/stall")
        connection._line()
        until(lambda: _pids_of(server, "sleep"))
        (pid,) = _pids_of(server, "sleep")
        server.stop()
        until(lambda: has_ended(pid))


# -- what is run, and what is never sent -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/cgi-bin/", 404),
        ("/cgi-bin/sub", 404),
        ("/cgi-bin/sub/", 404),
        ("/cgi-bin/missing", 404),
        ("/cgi-bin/.hidden", 404),
        ("/cgi-bin/not-executable", 403),
        ("/cgi-bin/outward", 404),
        ("/cgi-bin/%2e%2e/outside", 404),
        ("/cgi-bin/..%2foutside", 404),
        ("/cgi-bin/sub%2finner", 404),
        ("/cgi-bin/sh%00", 400),
    ],
)
def test_only_programs_in_the_folder_are_run(start: Start, path: str, status: int) -> None:
    reply = get(start(), path)
    assert (reply.status, b"#!" in reply.body) == (status, False) or (
        path.endswith("outside") and reply.status == 200 and b"#!/bin/sh" in reply.body
    )


@pytest.mark.parametrize(
    "path",
    [
        "/aside/cgi-bin/sh",
        "/elsewhere/link",
        "/elsewhere/all/sh",
        "/aside/elsewhere/link",
        "/aside/cgi-bin/not-executable",
    ],
)
def test_programs_are_never_sent(start: Start, path: str) -> None:
    server = start()
    for _ in range(3):  # from the memo, too
        reply = get(server, path)
        assert (reply.status, b"#!" in reply.body) == (404, False)
    reply = get(server, "/elsewhere/page.html", Accept_Encoding="gzip")
    assert (reply.status, reply.all("content-encoding"), reply.body.decode()) == (200, [], PAGE)


def test_programs_are_not_sent_for_other_backends_either(start: Start, folder: Path) -> None:
    server = start()
    (folder / "cgi-bin" / "steal").write_text('#!/bin/sh\nprintf "Location: /elsewhere/link\\n\\n"\n')
    (folder / "cgi-bin" / "steal").chmod(0o755)
    assert get(server, "/cgi-bin/steal").status == 404


def test_static_of_the_parent_does_not_send_programs(folder: Path) -> None:
    with tux.Server(static={"/files": folder}, cgi={"/run/": folder / "cgi-bin"}) as server:
        assert get(server, "/run/sh").body == b"shell \n"
        assert get(server, "/files/cgi-bin/sh").status == 404
        assert get(server, "/files/page.html").status == 200


def test_requests_on_one_connection(start: Start) -> None:
    server = start()
    with Connection(server) as connection:
        for n in range(50):
            assert connection.ask(f"/cgi-bin/sh/{n}").body == f"shell /{n}\n".encode()
            assert connection.ask("/page.html").status == 200
