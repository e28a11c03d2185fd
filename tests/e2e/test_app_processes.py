# SPDX-License-Identifier: MIT
"""The processes of applications: start, failure, replacement, and what none of it does to files."""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tux
from tests.corpus.reader import PATIENCE
from tests.e2e.client import Client, end, stop, until
from tux.errors import StartError

APP = """
import multiprocessing
import os
import signal
import sys
import threading
import time


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/pid":
        body = str(os.getpid()).encode()
    elif path == "/exit":
        os._exit(7)
    elif path == "/segv":
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)
    elif path == "/sleep":
        open("asleep", "w").close()
        end = time.monotonic() + float(environ["QUERY_STRING"])
        while time.monotonic() < end and not os.path.exists("enough"):
            time.sleep(0.01)
        body = b"slept"
    elif path == "/burn":
        end = time.monotonic() + float(environ["QUERY_STRING"])
        while time.monotonic() < end and not os.path.exists("enough"):
            pass
        body = b"burnt"
    elif path == "/leak":
        LEAK.append(b"x" * 8_000_000)
        body = b"leaked"
    elif path == "/env":
        names = ("COLOUR", "HOME", "USER", "LOGNAME")
        body = repr((os.getcwd(), os.getuid(), *map(os.environ.get, names))).encode()
    elif path == "/fork":
        child = os.fork()
        if child == 0:
            return fork_child(environ["QUERY_STRING"], start_response)
        body = str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode()
    elif path == "/terminate":
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        child.terminate()
        child.join()
        body = str(child.exitcode).encode()
    elif path == "/print":
        print("printed in a request")
        body = b"printed"
    elif path == "/fds":
        body = " ".join(sorted(os.listdir("/proc/self/fd"))).encode()
    else:
        body = VERSION.encode()
    fields = [("Content-Type", "text/plain"), ("X-Content-Type-Options", "nosniff")]
    start_response("200 OK", [*fields, ("Content-Length", str(len(body)))])
    return [body]


def fork_child(how, start_response):
    if how == "exit":
        sys.exit(3)
    if how == "raise":
        raise ValueError("in the child")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return endless() if how == "stream" else [b"by the child"]


def endless():
    while True:
        yield b"by the child"


LEAK = []
VERSION = "one"
"""

REWRITE_SECONDS = 1.0
"""A start takes less: an application that changes more often would never be ready."""

Start = Callable[..., tux.Server]


@pytest.fixture
def folder(site: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with an application and a file, new for each test."""
    folder = site / str(request.node.name).replace("[", "-").replace("]", "").replace("/", "-")
    (folder / "public").mkdir(parents=True)
    folder.chmod(0o777)  # the application says there that it sleeps
    (folder / "public" / "file.txt").write_text("a file\n")
    (folder / "shop.py").write_text(APP)
    return folder


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """A function that starts a server with the application; keys of `[app.shop]` as options."""
    with contextlib.ExitStack() as stack:

        def start(*, module: str = "shop:app", workers: int = 1, server: str = "", **options: Any) -> tux.Server:
            config = folder / "tux.toml"
            lines = [f'[app.shop]\nmodule = "{module}"\nworkers = {workers}\n']
            lines += [f"{name} = {_toml(value)}\n" for name, value in options.items()]
            config.write_text(
                f'[server]\nlisten = ["127.0.0.1:0"]\nworkers = 2\n{server}\n'
                + "".join(lines)
                + '[[site]]\nroot = "public"\napp = "shop"\n'
            )
            running = tux.Server(config=config)
            stack.callback(lambda: end(running))
            return running.start()

        yield start


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return repr(value)


def ask(server: tux.Server, path: str) -> tuple[int, str]:
    with Client(server) as client:
        answer = client.ask(path)
        return answer.status, answer.body.decode()


def pid_of(server: tux.Server) -> int:
    status, body = ask(server, "/pid")
    assert status == 200
    return int(body)


def test_it_runs_as_configured(start: Start, folder: Path) -> None:
    server = start(env={"COLOUR": "red"}, workers=2)
    cwd, uid, colour, *who = eval(ask(server, "/env")[1])
    assert (cwd, colour) == (str(folder), "red")
    assert uid == (os.getuid() or 65534)  # nobody's
    if os.getuid() == 0:
        entry = pwd.getpwuid(uid)
        assert who == [entry.pw_dir, entry.pw_name, entry.pw_name]
    else:
        assert who == [os.environ.get(name) for name in ("HOME", "USER", "LOGNAME")]
    until(lambda: len({pid_of(server) for _ in range(20)}) == 2, "both processes answer")
    assert ask(server, "/file.txt")[0] == 200
    assert "shop.py" not in ask(server, "/shop.py")[1]  # its source is the application's path like any other
    stop(server)


def test_a_process_has_no_descriptors_of_the_server(start: Start) -> None:
    """Standard streams, the link with each worker, epoll and eventfds: no listener, no log, no other's socket."""
    server = start()
    pid = pid_of(server)

    def sockets(process: int) -> set[str]:
        names = set()
        for link in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                names.add((int(link.name), os.readlink(link)))
        return {name for fd, name in names if fd > 2 and name.startswith("socket:")}  # standard streams are shared

    until(lambda: not sockets(pid) & sockets(server.pid), "what the supervisor passed on is closed there")


@pytest.mark.parametrize("path", ["/exit", "/segv"])
def test_a_crash_costs_its_own_request_only(start: Start, path: str) -> None:
    server = start()
    before = pid_of(server)
    assert ask(server, path)[0] == 502
    until(lambda: ask(server, "/pid")[0] == 200, "a new process answers")
    assert pid_of(server) != before
    assert ask(server, "/file.txt") == (200, "a file\n")
    assert "is replaced" in server.stderr_text()


@pytest.mark.parametrize(
    ("query", "code"),
    [("exit", "3"), ("raise", "1"), ("return", "1"), ("stream", "1")],
)
def test_a_forked_child_does_not_serve(start: Start, query: str, code: str) -> None:
    """One that comes back from the application has its parent's links: it ends instead of answering."""
    server = start(threads=2)
    before = pid_of(server)
    assert ask(server, f"/fork?{query}") == (200, code)
    assert pid_of(server) == before
    assert ask(server, "/nothing") == (200, "one")


def test_a_forked_child_can_be_terminated(start: Start) -> None:
    server = start()
    before = pid_of(server)
    assert ask(server, "/terminate") == (200, "-15")
    assert pid_of(server) == before
    stop(server)


def test_a_killed_process_is_replaced_under_load(start: Start) -> None:
    """No request but those that it had at work is lost: the next ones wait for the new process."""
    server = start(workers=2)
    statuses: list[int] = []
    ended = threading.Event()

    def load() -> None:
        while not ended.is_set():
            statuses.append(ask(server, "/")[0])

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        os.kill(pid_of(server), signal.SIGKILL)
        until(lambda: ask(server, "/pid")[0] == 200, "another one answers")
    ended.set()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 502}
    assert statuses.count(502) <= 3 * len(threads)
    assert statuses.count(200) > 10


def test_hogs_do_not_stop_files(start: Start, folder: Path) -> None:
    server = start(threads=2)
    with Client(server) as sleeper, Client(server) as burner, Client(server) as client:
        for one, path in ((burner, "/burn?60"), (sleeper, "/sleep?60")):
            one.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        until((folder / "asleep").exists, "it sleeps")
        for _ in range(100):
            assert client.ask("/file.txt").body == b"a file\n"
        assert not select.select([sleeper.sock, burner.sock], [], [], 0)[0]  # both are still at it
        (folder / "enough").touch()
        assert sleeper.reader.response("GET").body == b"slept"
        assert burner.reader.response("GET").body == b"burnt"


def test_a_slow_start_does_not_delay_files(start: Start, folder: Path) -> None:
    waits = "import os, time\nwhile not os.path.exists('enough'):\n    time.sleep(0.01)\n"
    (folder / "shop.py").write_text(waits + APP)
    server = start()
    assert ask(server, "/file.txt") == (200, "a file\n")
    (folder / "enough").touch()
    assert ask(server, "/") == (200, "one")  # it waits


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("x = 1\n", "shop"),
        ("def app(:\n", "SyntaxError"),
        ("raise RuntimeError('not today')\n", "RuntimeError: not today"),
    ],
    ids=["no-module", "no-application", "no-syntax", "raises"],
)
def test_an_application_that_cannot_be_loaded_ends_the_start(
    start: Start, folder: Path, source: str, said: str
) -> None:
    """With its traceback, whole."""
    (folder / "shop.py").write_text(source)
    try:
        server = start()  # files may be served before it is known
        code, text = server.wait(PATIENCE), server.stderr_text()
    except StartError as error:
        code, text = error.exit_code, error.message
    assert code == 1
    assert said in text or "app shop could not start" in text


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user than one's own")
def test_a_folder_that_the_user_cannot_read_is_named(start: Start, folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "shop.py").write_text(APP)
    with pytest.raises(StartError) as caught:
        start(dir="closed")
    assert f"user nobody cannot read the folder {closed}; choose another user with --user NAME" in str(caught.value)


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user than one's own")
def test_a_library_that_the_user_cannot_read_is_named(folder: Path) -> None:
    """As with a virtual environment below /root: the import fails, and does not say why."""
    closed = folder / "closed"
    (closed / "lib").mkdir(parents=True)
    (closed / "lib" / "library.py").write_text("")
    closed.chmod(0o700)
    (folder / "shop.py").write_text("import library\n")
    command = [sys.executable, "-m", "tux", "serve", "--listen", "127.0.0.1:0", "--workers", "1", "--app", "shop:app"]
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(closed / "lib")},
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 1
    assert f"user nobody cannot read {closed}, where modules are looked for, too" in ended.stderr


def test_what_is_printed_is_seen_at_once(folder: Path) -> None:
    """By whoever reads a pipe: a service manager, a container."""
    command = [sys.executable, "-m", "tux", "serve", "--listen", "127.0.0.1:0", "--workers", "1", "--app", "shop:app"]
    reader, writer = os.pipe()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [*command, "--ready-fd", str(writer)], cwd=folder, stdout=subprocess.PIPE, pass_fds=(writer,), env=environment
    ) as process:
        try:
            os.close(writer)
            with open(reader) as ready:
                url = ready.readline().strip()
            with urllib.request.urlopen(f"{url}/print", timeout=PATIENCE) as answer:
                assert answer.read() == b"printed"
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], PATIENCE)[0]
            assert process.stdout.readline() == b"printed in a request\n"
        finally:
            process.terminate()


def test_processes_are_replaced_after_so_many_requests(start: Start) -> None:
    """Without losing one."""
    server = start(max_requests=20)
    pids: dict[int, None] = {}
    end = time.monotonic() + 3 * PATIENCE
    with Client(server) as client:
        while len(pids) < 6:
            assert time.monotonic() < end
            answer = client.ask("/pid")
            assert answer.status == 200
            pids[int(answer.body)] = None
    first = list(pids)[:2]
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in first), "the first ones end")
    assert "error" not in server.stderr_text().lower()


def test_processes_are_replaced_when_they_grow(start: Start) -> None:
    server = start(max_memory=120_000_000)
    first = pid_of(server)
    end = time.monotonic() + PATIENCE
    while pid_of(server) == first and time.monotonic() < end:
        assert ask(server, "/leak") == (200, "leaked")
    assert pid_of(server) != first


def test_a_deadlocked_process_is_killed(start: Start, folder: Path) -> None:
    server = start(threads=1, stall_timeout=1)
    before = pid_of(server)
    with Client(server) as client:
        client.sock.sendall(b"GET /sleep?60 HTTP/1.1\r\nHost: a\r\n\r\n")
        until((folder / "asleep").exists, "it sleeps")
        with Client(server) as other:
            other.sock.sendall(b"GET /pid HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: "has taken no request" in server.stderr_text(), "it is noticed")
            until(lambda: ask(server, "/pid")[0] == 200, "a new one answers")
    assert pid_of(server) != before


def test_reload(start: Start, folder: Path) -> None:
    server = start(server="reload = true")
    assert ask(server, "/") == (200, "one")

    def becomes(text: str, condition: Callable[[], object], what: str) -> None:
        """The file is written again and again: the first change may come before it is watched."""
        written = -REWRITE_SECONDS

        def holds() -> bool:
            nonlocal written
            if time.monotonic() - written > REWRITE_SECONDS:
                (folder / "shop.py").write_text(text)
                written = time.monotonic()
            return bool(condition())

        until(holds, what)

    becomes(APP.replace('"one"', '"two"'), lambda: ask(server, "/") == (200, "two"), "the new code answers")
    becomes("broken(\n", lambda: "the old one goes on" in server.stderr_text(), "the failure is told")
    assert ask(server, "/") == (200, "two")
    becomes(APP.replace('"one"', '"three"'), lambda: ask(server, "/") == (200, "three"), "the repaired code answers")


def test_a_stop_finishes_what_is_at_work(start: Start, folder: Path) -> None:
    server = start()
    pid = pid_of(server)
    with Client(server) as client:
        client.sock.sendall(b"GET /sleep?1 HTTP/1.1\r\nHost: a\r\n\r\n")
        until((folder / "asleep").exists, "the request is at work")
        server.kill(signal.SIGTERM)
        answer = client.reader.response("GET")
        assert (answer.status, answer.body) == (200, b"slept")
    assert server.wait(PATIENCE) == 0
    assert not os.path.exists(f"/proc/{pid}")


def test_a_killed_worker_is_linked_again(start: Start) -> None:
    server = start()
    pid = pid_of(server)
    for worker in server.worker_pids():
        if worker != pid and _is_worker(worker):
            os.kill(worker, signal.SIGKILL)
    until(lambda: _answers(server), "new workers serve")
    assert pid_of(server) == pid  # the application never noticed


def _is_worker(pid: int) -> bool:
    threads = [Path(f"/proc/{pid}/task/{tid}/comm").read_text() for tid in os.listdir(f"/proc/{pid}/task")]
    return any("tux-engine" in name for name in threads)


def _answers(server: tux.Server) -> bool:
    with contextlib.suppress(OSError, AssertionError):
        return ask(server, "/pid")[0] == 200
    return False


def test_the_end_of_the_supervisor_is_the_end_of_all(start: Start) -> None:
    server = start(workers=2)
    pids = {pid_of(server) for _ in range(10)} | set(server.worker_pids())
    server.kill(signal.SIGKILL)
    server.wait(PATIENCE)
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "all end")
