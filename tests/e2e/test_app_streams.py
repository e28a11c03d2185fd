# SPDX-License-Identifier: MIT
"""What flows between clients and the processes of applications: in bounded memory, and without a request lost."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

import tux
from tests.corpus.reader import PATIENCE, ClosedError
from tests.e2e.client import address_of, end, is_idle, until
from tests.e2e.dynamic import Connection

APP = """
import asyncio
import ctypes
import hashlib
import os

PIECE = bytes(range(256)) * 256
LEAK = []


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path, query = scope["path"], scope["query_string"].decode()

    async def start(*fields):
        await send({"type": "http.response.start", "status": 200, "headers": list(fields)})

    async def body(data, more=False):
        await send({"type": "http.response.body", "body": data, "more_body": more})

    if path == "/down":
        await start()
        for _ in range(int(query)):
            await body(PIECE, True)
        await body(b"")
    elif path == "/up":
        digest, size, more = hashlib.sha256(), 0, True
        if query == "slowly":
            note("begun")
            await until(lambda: os.path.exists("go"))
        while more:
            message = await receive()
            digest.update(message.get("body", b""))
            size += len(message.get("body", b""))
            more = message["type"] == "http.request" and message["more_body"]
        await start()
        await body(f"{size} {digest.hexdigest()}".encode())
    elif path == "/echo":
        await start()
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            await body(message.get("body", b""), more)
    elif path == "/gone":
        note("begun")
        while (await receive())["type"] != "http.disconnect":
            pass
        note("gone")
    elif path == "/leak":
        LEAK.append(b"x" * 2_000_000)
        await start()
        await body(str(os.getpid()).encode())
    elif path == "/scribble":
        for line in open("/proc/self/maps"):
            if "tux-ring" in line:
                ctypes.memset(int(line.split("-")[0], 16), 0xFF, 128)
        await start()
        await body(b"scribbled")
    elif path == "/umask":
        mask = os.umask(0)
        os.umask(mask)
        await start()
        await body(str(mask).encode())
    elif path == "/abort":
        await start((b"content-length", b"100"))
        await body(b"begun", True)
        os._exit(1)
    else:
        await start()
        await body(str(os.getpid()).encode())


def note(name):
    open(name, "w").close()


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)
"""

Start = Callable[..., tux.Server]


@pytest.fixture
def folder(site: Path, request: pytest.FixtureRequest) -> Path:
    folder = site / str(request.node.name)
    (folder / "public").mkdir(parents=True)
    folder.chmod(0o777)  # the application leaves its notes there
    (folder / "public" / "file.txt").write_text("a file\n")
    (folder / "streams.py").write_text(APP)
    return folder


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def start(*options: str, servers: int = 2, workers: int = 1) -> tux.Server:
            config = folder / "tux.toml"
            config.write_text(
                f'[server]\nlisten = ["127.0.0.1:0"]\nworkers = {servers}\n'
                f'[app.streams]\nmodule = "streams:app"\nworkers = {workers}\n' + "".join(f"{one}\n" for one in options)
                + '[[site]]\nroot = "public"\napp = "streams"\n'
            )  # fmt: skip
            running = tux.Server(config=config)
            stack.callback(lambda: end(running))
            return running.start()

        yield start


def resident(pid: int) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_slow_client_costs_bounded_memory(start: Start) -> None:
    """80 MB to a client that takes none of them at first: neither the process nor the engine holds them."""
    server = start(servers=1)
    with Connection(server) as connection:
        pids = [*server.worker_pids(), int(connection.ask("/").body)]
        connection.ask("/down?64")  # whatever is made at the first time is there
        before = [resident(pid) for pid in pids]
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(Connection(server, receive_buffer=4096)) for _ in range(4)]
        for one in slow:
            one.send("/down?320")
        # They are all served to where it stops, and others are served on.
        with Connection(server) as connection:
            for _ in range(20):
                assert connection.ask("/down?16").status == 200
        assert all(resident(pid) - was < 16_000_000 for pid, was in zip(pids, before, strict=True))


def test_a_large_answer_is_whole(start: Start) -> None:
    server = start()
    with Connection(server) as connection:
        assert connection.ask("/down?320").body == bytes(range(256)) * 256 * 320


def test_uploads_wait_for_the_application(start: Start, folder: Path) -> None:
    """60 MB, of which the application takes nothing at first: the client is held back. Then all of it arrives."""
    server = start(servers=1)
    piece = os.urandom(1_000_000)
    sent = 0
    with Connection(server) as other:
        pids = [*server.worker_pids(), int(other.ask("/").body)]
        before = [resident(pid) for pid in pids]
        address = address_of(server)
        assert isinstance(address, tuple)
        connection = http.client.HTTPConnection(address[0], address[1], timeout=PATIENCE)
        done: list[bytes] = []

        def upload() -> None:
            nonlocal sent

            def pieces() -> Iterator[bytes]:
                nonlocal sent
                for _ in range(60):
                    yield piece
                    sent += 1

            connection.request("POST", "/up?slowly", body=pieces(), headers={"Content-Length": str(60 * len(piece))})
            done.append(connection.getresponse().read())

        thread = threading.Thread(target=upload)
        thread.start()
        until((folder / "begun").exists, "the application has it")

        def is_full() -> bool:
            """Nobody moves: the client cannot, and the server does not."""
            takes = select.select([], [connection.sock], [], 0)[1]
            return not takes and is_idle(server) and not select.select([], [connection.sock], [], 0)[1]

        until(is_full, "it goes no further")
        assert sent < 60
        assert other.ask("/").status == 200
        assert all(resident(pid) - was < 16_000_000 for pid, was in zip(pids, before, strict=True))
        (folder / "go").touch()
        thread.join()
        connection.close()
    assert done == [f"{60 * len(piece)} {hashlib.sha256(piece * 60).hexdigest()}".encode()]


def test_both_ways_at_once(start: Start) -> None:
    server = start()
    body = os.urandom(8_000_000)
    with Connection(server) as connection:
        answer: list[bytes] = []
        reader = threading.Thread(target=lambda: answer.append(connection.answer("POST").body))
        reader.start()
        connection.send("/echo", body, method="POST", content_length=str(len(body)))
        reader.join()
    assert answer == [body]


def test_an_application_learns_that_its_client_is_gone(start: Start, folder: Path) -> None:
    server = start()
    connection = Connection(server)
    connection.send("/gone")
    until((folder / "begun").exists, "the application has it")
    connection.reset()
    until((folder / "gone").exists, "it was told")


def test_an_answer_that_was_begun_is_cut(start: Start) -> None:
    """And never looks as if it were whole."""
    server = start()
    with Connection(server) as connection, pytest.raises(ClosedError):
        connection.ask("/abort")
    with Connection(server) as connection:
        assert connection.ask("/").status == 200  # by the next process


def test_a_process_that_ruins_its_rings_is_replaced(start: Start) -> None:
    """Whatever it writes there, workers live on."""
    server = start()
    workers = set(server.worker_pids())
    with Connection(server) as connection:
        pid = int(connection.ask("/").body)
        workers.discard(pid)
        assert connection.ask("/scribble").status in {200, 502}  # the answer may have left before it is noticed
        assert connection.ask("/file.txt").body == b"a file\n"
        until(lambda: connection.ask("/").body != str(pid).encode(), "another process answers")
    until(lambda: f"process {pid} wrote nonsense" in server.stderr_text(), "the supervisor knows")
    assert workers <= set(server.worker_pids())


def test_files_of_an_application_are_for_others_to_read(start: Start) -> None:
    """As the umask says that the server was started with."""
    mask = os.umask(0)
    os.umask(mask)
    server = start()
    with Connection(server) as connection:
        assert int(connection.ask("/umask").body) == mask


class Load:
    """Clients that ask without a pause, on connections that stay open, in threads."""

    def __init__(self, server: tux.Server, path: str, clients: int = 4) -> None:
        self.statuses: list[int] = []
        self.pids: set[bytes] = set()
        self.cut = 0
        self._server = server
        self._path = path
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            sock = socket.socket()
            if sock.connect_ex(address_of(self._server)):
                sock.close()  # the server stops, or its workers are being replaced
                self._ended.wait(0.01)
                continue
            sock.close()
            self._ask()

    def _ask(self) -> None:
        """Until the connection ends."""
        try:
            with Connection(self._server) as connection:
                while not self._ended.is_set():
                    reply = connection.ask(self._path)
                    self.statuses.append(reply.status)
                    if reply.status == 200:
                        self.pids.add(reply.body)
                    if "close" in reply.all("connection"):
                        break
        except (ClosedError, OSError):
            self.cut += 1

    def goes_on(self, n: int = 50) -> None:
        """So many more requests are answered."""
        goal = len(self.statuses) + n
        until(lambda: len(self.statuses) >= goal, "requests are answered")


def test_recycling_by_memory_loses_nothing(start: Start) -> None:
    server = start("max_memory = 150_000_000", workers=2)
    with Load(server, "/leak") as load:
        until(lambda: len(load.pids) >= 8, "processes are replaced")
    assert set(load.statuses) == {200}
    assert load.cut == 0


def test_recycling_by_count_loses_nothing(start: Start) -> None:
    server = start("max_requests = 100", "max_requests_jitter = 50", workers=2)
    with Load(server, "/", clients=8) as load:
        until(lambda: len(load.pids) >= 10, "processes are replaced")
    assert set(load.statuses) == {200}
    assert load.cut == 0


def test_killed_processes_cost_what_they_had(start: Start) -> None:
    server = start(workers=2)
    with Load(server, "/") as load, Connection(server) as files:
        for _ in range(5):
            load.goes_on()
            seen = set(load.pids)
            pid = next(int(pid) for pid in seen if os.path.exists(f"/proc/{int(pid)}"))
            os.kill(pid, signal.SIGKILL)
            load.pids.clear()
            assert files.ask("/file.txt").body == b"a file\n"
            until(lambda: len(load.pids) >= 2, "both answer again")
    assert set(load.statuses) <= {200, 502}
    assert load.statuses.count(502) + load.cut <= 5 * 4


def test_killed_workers_cost_their_connections_only(start: Start) -> None:
    server = start(workers=2)
    with Load(server, "/") as load:
        until(lambda: len(load.pids) == 2, "both processes answer")
        apps = {int(pid) for pid in load.pids}
        for _ in range(3):
            worker = next(pid for pid in server.worker_pids() if pid not in apps)
            os.kill(worker, signal.SIGKILL)
            load.goes_on(200)
    assert set(load.statuses) == {200}
    assert {int(pid) for pid in load.pids} == apps  # no application noticed


def test_a_stop_under_load_answers_all_that_it_took(start: Start) -> None:
    """Connections are closed after an answer, and none in the middle of one."""
    server = start(workers=2)
    load = Load(server, "/")
    with load:
        load.goes_on()
        assert server.stop() == 0
    assert set(load.statuses) == {200}
