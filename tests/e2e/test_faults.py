# SPDX-License-Identifier: MIT
"""What goes wrong around a server, and must not bring it down: no descriptors, no memory for more, killed workers."""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import select
import signal
import socket
import time
from pathlib import Path

import tux
from tests import features
from tests.corpus.reader import Response
from tests.e2e.client import Client, address_of, cpu_seconds, get, put, request, stop, until


def test_out_of_descriptors(site: Path) -> None:
    """A limit lowered under a running server: also files cannot be opened then. Connections go on, with 503 where a
    look at the disk is due; new ones wait in the queue of the kernel; nothing spins; all is well once there is room."""
    put(site / "d.txt", "d")
    user = pwd.getpwuid(os.getuid()).pw_name  # only one's own processes can be limited from outside
    with tux.Server(site, workers=1, access_log="off", user=user) as server:
        (worker,) = server.worker_pids()
        with Client(server) as before:
            assert before.ask("/d.txt").status == 200
            used = len(os.listdir(f"/proc/{worker}/fd"))
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 3, used + 3))
            with contextlib.ExitStack() as opened:
                waiting = [opened.enter_context(Client(server)) for _ in range(50)]
                for client in waiting:
                    client.sock.sendall(request("/d.txt"))
                until(lambda: len(os.listdir(f"/proc/{worker}/fd")) >= used + 3, "no descriptor is left")
                began, spent = time.monotonic(), cpu_seconds([worker])
                while time.monotonic() - began < 1:
                    assert _served_or_refused(before.ask("/d.txt"))
                    select.select([before.sock], [], [], 0.02)  # nothing comes: the time in which it must not spin
                assert cpu_seconds([worker]) - spent < 0.5
                for client in waiting:  # each that ends makes room for the next
                    assert _served_or_refused(client.reader.response())
                    client.sock.close()
            until(lambda: before.ask("/d.txt").status == 200, "there is room again")
        stop(server)


def _served_or_refused(response: Response) -> bool:
    if response.status == 503:
        return "retry-after" in response
    return (response.status, response.body) == (200, b"d")


def test_the_limit_of_connections(site: Path) -> None:
    put(site / "e.txt", "e")
    config = put(
        site / "few.toml",
        '[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\n[server.limits]\nconnections = 5\n'
        f'[[site]]\nroot = "{site}"\n',
    )
    with tux.Server(config=config) as server, contextlib.ExitStack() as opened:
        clients = [opened.enter_context(Client(server)) for _ in range(20)]
        for client in clients:
            client.sock.sendall(request("/e.txt"))
        for client in clients:
            assert client.reader.response().body == b"e"
            client.sock.close()
        stop(server)


def test_a_small_memo_evicts_and_still_serves_right(site: Path) -> None:
    files = {f"/many/{i}.bin": os.urandom(20_000) for i in range(60)}
    for path, data in files.items():
        put(site / path[1:], data, mtime=1_700_000_000)
    config = put(
        site / "small.toml",
        '[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\n[server.limits]\nmemo_bytes = "200KiB"\n'
        f'[[site]]\nroot = "{site}"\n',
    )
    with tux.Server(config=config) as server, Client(server) as client:
        for _ in range(4):
            for path, data in files.items():
                assert client.ask(path).body == data
        stop(server)


def test_little_memory_for_what_is_held(site: Path) -> None:
    """Clients that send heads without an end are answered with 503 when together they hold too much; others go on."""
    put(site / "f.txt", "f")
    config = put(
        site / "held.toml",
        '[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\n[server.limits]\nheld_bytes = "64KiB"\n'
        f'[[site]]\nroot = "{site}"\n',
    )
    head = request("/f.txt", padding="x" * 12_000)[:-2]
    with tux.Server(config=config) as server:
        with contextlib.ExitStack() as opened:
            clients = [opened.enter_context(Client(server)) for _ in range(12)]
            for client in clients:
                client.sock.sendall(head)
            refused: set[Client] = set()

            def most_are_refused() -> bool:
                for client in clients:
                    if client not in refused and select.select([client.sock], [], [], 0)[0]:
                        response = client.reader.response()
                        assert response.status == 503
                        assert "retry-after" in response
                        refused.add(client)
                return len(refused) >= 5

            until(most_are_refused, "most are refused")
            assert get(server, "/f.txt").body == b"f"
        stop(server)


def test_files_that_vanish_while_they_are_asked_for(site: Path) -> None:
    path = site / "comes-and-goes.txt"
    with tux.Server(site, workers=1, access_log="off") as server, Client(server) as client:
        seen = set()
        for i in range(400):
            if i % 2:
                put(path, f"version {i}")
            else:
                path.unlink(missing_ok=True)
            response = client.ask("/comes-and-goes.txt")
            seen.add(response.status)
            assert response.status in (200, 404)
            assert response.status == 404 or response.body.startswith(b"version ")
        assert 404 in seen
        stop(server)


def test_a_killed_worker_loses_only_its_own_connections(site: Path) -> None:
    put(site / "g.txt", "g")
    with tux.Server(site, workers=2, access_log="off") as server:
        with contextlib.ExitStack() as opened:
            clients = [opened.enter_context(Client(server)) for _ in range(40)]
            for client in clients:
                assert client.ask("/g.txt").body == b"g"
            victim = server.worker_pids()[0]
            os.kill(victim, signal.SIGKILL)
            alive = 0
            for client in clients:
                with contextlib.suppress(ConnectionError, AssertionError):
                    client.sock.sendall(request("/g.txt"))
                    alive += client.reader.response().body == b"g"
            assert 0 < alive < 40
        until(lambda: len(server.worker_pids()) == 2 and victim not in server.worker_pids(), "a new worker is there")
        for _ in range(40):  # both listening sockets are served
            assert get(server, "/g.txt").body == b"g"
        assert server.stop() == 0
        assert "SIGKILL" in server.stderr_text()


def _stopped(pid: int) -> bool:
    """Whether no thread can run any more: a signal takes its time on a busy machine."""
    stats = [Path(f"/proc/{pid}/task/{thread}/stat").read_text() for thread in os.listdir(f"/proc/{pid}/task")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def test_connections_to_a_killed_worker_wait_for_the_next(site: Path) -> None:
    """The listening socket is the supervisor's: what the kernel accepted while nobody was there is not lost."""
    features.require("root")
    put(site / "h.txt", "h")
    with tux.Server(site, workers=1, access_log="off") as server:
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGSTOP)
        until(lambda: _stopped(worker), "all threads stand still")
        with socket.create_connection(address_of(server)[:2]) as sock:  # type: ignore[arg-type]
            sock.settimeout(10)
            sock.sendall(request("/h.txt", connection="close"))
            os.kill(worker, signal.SIGKILL)
            received = b""
            while piece := sock.recv(4096):
                received += piece
        assert received.startswith(b"HTTP/1.1 200 ")
        assert received.endswith(b"\r\n\r\nh")
        assert server.stop() == 0
