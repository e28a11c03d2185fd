# SPDX-License-Identifier: MIT
"""What happens to connections when the server, its tier or its files come and go, and when tables are full."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import pytest

from tests.corpus.reader import PATIENCE, ClosedError, Response
from tests.e2e.client import FRESH, put, replace, until
from tests.kernel.lab import Net, sysctl
from tests.kernel.traffic import QUIET, Request, head
from tests.kernel.wire import ones_sum
from tests.kernel.world import HITS, Asker, World, check, open_world, tcp_address

HIT: Final = Request(head("/1000.bin"), "hot")
MISS: Final = Request(head("/100.bin?n=1"), "miss")

QUIET_SECONDS: Final = 1.0
"""The promise: so long after the supervisor's death nothing is answered from the kernel any more."""


class Load:
    """A thread whose connections ask for hits and misses in turn, all the time, until it is stopped. Each keeps every
    byte under control; one that the server closes between two answers is opened anew."""

    def __init__(self, world: World, connections: int = 8) -> None:
        self._world = world
        self._count = connections
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers = 0
        self.closed = 0
        """Connections that the server closed properly: with nothing of an answer, or before it had been asked."""
        self.refused = 0
        self.wrong: list[str] = []
        self.may_end = False
        """Connections may be closed between two answers, reset or refused: nobody serves them any more."""
        self.may_break = False
        """... or within an answer: who was sending it was killed."""

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self.answers > 200 or self.wrong, "the load runs")
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(3 * PATIENCE)
        assert not self._thread.is_alive()

    def more(self, answers: int = 200) -> None:
        """Wait until so many more have come."""
        before = self.answers
        until(lambda: self.answers >= before + answers or self.wrong, f"{answers} more answers", 2 * PATIENCE)
        assert self.wrong == []

    def _run(self) -> None:
        askers: list[Asker | None] = [None] * self._count
        rng = random.Random(1)
        try:
            while not self._stop.is_set():
                for number in range(self._count):
                    askers[number] = self._turn(askers[number], rng)
        except Exception as error:  # noqa: BLE001 - the test shows it
            self.wrong.append(repr(error))
        finally:
            for asker in askers:
                if asker is not None:
                    asker.sock.close()

    def _turn(self, asker: Asker | None, rng: random.Random) -> Asker | None:
        try:
            if asker is None:
                asker = Asker(self._world, opened=False)
            request = HIT if rng.random() < 0.8 else MISS
            asker.send(request)
            response = asker.reader.response()
            wanted = self._world.reference.answer(request)
            if not (self.may_end and response.closes):  # of a worker that drains
                check(response, wanted, request)
                self.answers += 1
                return asker
            assert b"%d" % response.status == wanted.text[9:12]
            assert response.body == wanted.text.partition(b"\r\n\r\n")[2]
            asker.reader.expect_end()
            self.closed += 1
        except ConnectionRefusedError:
            self.refused += 1
        except (ClosedError, ConnectionResetError, BrokenPipeError) as error:
            held = error.received if isinstance(error, ClosedError) else b""
            if held and not self.may_break:
                self.wrong.append(f"closed within an answer: {held[:100]!r}")
            self.closed += 1
        if not self.may_end:
            self.wrong.append("a connection has ended")
        if asker is not None:
            asker.sock.close()
        self._stop.wait(0.01)
        return None


class TestDeath:
    def test_of_the_supervisor(self) -> None:
        """Within a second nothing is answered from the kernel. Connections go on with their worker, which drains and
        ends; each gets whole answers or a proper end."""
        with open_world(Net(), stops=False, workers=2) as world, Load(world) as load:
            load.more()
            workers = world.server.worker_pids()
            pid = world.server.pid
            until(lambda: world.lab.status(pid).state == "answering", "its heart beats")
            load.may_end = True
            world.server.kill(signal.SIGKILL)
            world.server.wait(PATIENCE)
            died = time.monotonic()
            until(lambda: time.monotonic() - died > QUIET_SECONDS, "a second has passed", 2 * QUIET_SECONDS)
            before = world.lab.status(pid).counters["answered"]
            until(lambda: not any(os.path.exists(f"/proc/{worker}") for worker in workers), "the workers have ended")
            assert world.lab.status(pid).counters["answered"] == before, "it went on to answer"
            until(lambda: world.lab.status(pid).state == "orphan", "it is known to be dead")
            assert load.wrong == []
            # What is left is taken over, or removed by hand; then there is nothing of it any more.
            world.lab.tux("kernel", "detach", "--force", "--bpffs", str(world.lab.bpffs))
            assert world.lab.statuses() == []

    @pytest.mark.parametrize("at_once", [False, True], ids=["later", "at-once"])
    def test_of_the_supervisor_and_a_new_one(self, at_once: bool) -> None:
        """The new one takes over what the old one left."""
        with open_world(Net(), stops=False) as world, Load(world) as load:
            load.more()
            old = world.server.pid
            load.may_end = True
            world.server.kill(signal.SIGKILL)
            world.server.wait(PATIENCE)
            if not at_once:
                until(lambda: world.lab.status(old).state == "orphan", "the old one has been silent for a while")
            with world.lab.serve(world.site, tier=True, kernel="hits = 2", listen=[world.server.url[7:]]) as new:
                world.server = new
                until(lambda: world.lab.status(new.pid).counters["answered"] > 200, "the new one answers")
                until(lambda: [one.pid for one in world.lab.statuses()] == [new.pid], f"what {old} left is gone")
                load.may_end = False
                load.more()

    def test_of_a_worker(self) -> None:
        """Its answers are retired, its connections end; the next one publishes anew."""
        with open_world(Net()) as world, Load(world) as load:
            load.more()
            (worker,) = world.server.worker_pids()
            load.may_end = load.may_break = True
            os.kill(worker, signal.SIGKILL)
            until(lambda: world.server.worker_pids() not in ([worker], []), "another worker")
            load.more()
            load.may_end = load.may_break = False
            before = world.counters()
            until(lambda: world.answered() > before["answered"] + 200, "it is answered from the kernel again")
            load.more()


class TestHang:
    """What hangs needs no help to fall silent, and all goes on where it was when it is back."""

    def test_of_the_supervisor(self) -> None:
        """Within a second nothing is answered from the kernel any more; the workers answer all."""
        with open_world(Net()) as world, Load(world) as load:
            load.more()
            before = world.answered()
            with stopped(world.server.pid) as since:
                until(lambda: time.monotonic() - since > QUIET_SECONDS, "a second has passed", 2 * QUIET_SECONDS)
                silent = world.counters()
                load.more()
                now = world.counters() - silent
                assert now["answered"] == 0, now
                assert now["pass_quiet"] > 0, now
                assert world.lab.status(world.server.pid).state == "silent"
            until(lambda: world.answered() > before + 200, "it is answered from the kernel again")
            load.more()
            assert load.closed == load.refused == 0

    def test_of_a_worker(self) -> None:
        """Nobody looks after its files, so within a second its answers are given no more. Its connections wait."""
        with open_world(Net()) as world, Asker(world) as asker:

            def is_answered() -> bool:
                """By the tier; else it has been passed on, and its answer is to come."""
                before = world.counters()
                asker.send(HIT)
                until(lambda: any(has_gone(name) for name in world.counters() - before), "it has arrived")
                return world.answered() > before["answered"]

            def ask() -> bool:
                by_tier = is_answered()
                asker.receive(HIT)
                return by_tier

            until(ask, "the tier answers")
            (worker,) = world.server.worker_pids()
            with stopped(worker) as began:
                last = began
                while True:
                    sent = time.monotonic()
                    if not is_answered():
                        break
                    asker.receive(HIT)
                    last = sent
                assert last - began < QUIET_SECONDS
            asker.receive(HIT)
            asker.ask(MISS)
            until(ask, "it is answered from the kernel again")


def has_gone(counter: str) -> bool:
    """It counts requests that were answered, or passed on."""
    return counter == "answered" or counter.startswith("pass_")


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[float]:
    """A process that hangs: since when (time.monotonic())."""
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: state_of(pid) == "T", "it has stopped")
        yield time.monotonic()
    finally:
        os.kill(pid, signal.SIGCONT)


def state_of(pid: int) -> str:
    """proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class TestReload:
    def test_under_load(self) -> None:
        """Connections of the old workers end between two answers; the new ones have a part in the tier."""
        with open_world(Net(), workers=2) as world, Load(world) as load:
            load.more()
            load.may_end = True
            for _ in range(3):
                reload(world)
                load.more()
            load.may_end = False
            before = world.answered()
            until(lambda: world.answered() > before + 200, "it is answered from the kernel again")
            load.more()
            assert load.refused == 0


def reload(world: World) -> None:
    """Wait until it is done, and the old workers have ended."""
    old, said = world.server.worker_pids(), len(world.server.stderr_text())
    world.server.kill(signal.SIGHUP)
    until(lambda: "reloaded the configuration" in world.server.stderr_text()[said:], "the new workers serve")
    until(lambda: not any(os.path.exists(f"/proc/{worker}") for worker in old), "the old ones have ended")


class TestDetach:
    def test_under_load(self) -> None:
        """Nobody notices."""
        with open_world(Net()) as world, Load(world) as load:
            load.more()
            done = threading.Thread(
                target=world.lab.tux, args=("kernel", "detach", "--timeout", "2", "--bpffs", str(world.lab.bpffs)),
                kwargs={"check": False},
            )  # fmt: skip
            done.start()
            until(
                lambda: world.lab.statuses() == [] or world.lab.status(world.server.pid).state == "detached", "detached"
            )
            load.more()
            done.join()
            load.more()
            assert load.closed == load.refused == 0

    def test_and_a_restart(self) -> None:
        """After a detachment the server goes on without; the next one has a tier again."""
        with open_world(Net()) as world:
            world.lab.tux("kernel", "detach", "--bpffs", str(world.lab.bpffs))
            assert world.lab.statuses() == []
            world.ask_each([HIT, MISS] * 3)
            with world.lab.serve(world.site, tier=True, kernel="hits = 2") as again:
                world.server, world.address = again, tcp_address(again)
                world.warm()

    def test_stop_under_load(self) -> None:
        """SIGTERM: what was asked is answered, then connections end."""
        with open_world(Net(), stops=False) as world, Load(world) as load:
            load.more()
            load.may_end = True
            assert world.server.stop() == 0, world.server.stderr_text()
            assert load.wrong == []
            until(lambda: world.lab.statuses() == [], "everything is removed")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """For tests that leave it as it was."""
    with open_world(Net()) as world:
        yield world


STATUS_AFTER: Final = {
    "write": 200, "replace": 200, "truncate": 200, "rename": 404, "chmod": 403, "delete": 404, "folder": 404,
    "link": 404, "fifo": 404, "becomes-a-folder": 301,
}  # fmt: skip
"""Changes of a file, and the status of its path afterwards."""


class TestFiles:
    """What changes is seen within a second, as everywhere else."""

    def ask(self, world: World, path: str) -> Response:
        with Asker(world) as asker:
            asker.sock.sendall(head(path))
            return asker.reader.response()

    def make_hot(self, world: World, path: str) -> None:
        """Until the tier answers it."""

        def is_hot() -> bool:
            before = world.answered()
            self.ask(world, path)
            return world.answered() > before

        until(is_hot, f"{path} is answered by the tier")

    def test_changes(self, world: World) -> None:
        """All kinds at the same time, each of a file of its own."""
        folders = {name: world.site / f"change-{name}" for name in STATUS_AFTER}
        files = {name: put(folder / "a.bin", b"a" * 1000, QUIET) for name, folder in folders.items()}
        paths = {name: f"/change-{name}/a.bin" for name in folders}
        for path in paths.values():
            self.make_hot(world, path)
        files["write"].write_bytes(b"b" * 1000)
        replace(files["replace"], b"b" * 1000)
        os.truncate(files["truncate"], 10)
        files["rename"].rename(folders["rename"] / "b.bin")
        files["chmod"].chmod(0)
        files["delete"].unlink()
        folders["folder"].rename(world.site / "elsewhere")
        for name in ("link", "fifo", "becomes-a-folder"):
            files[name].unlink()
        files["link"].symlink_to("/etc/passwd")
        os.mkfifo(files["fifo"])
        files["becomes-a-folder"].mkdir()
        changed = time.monotonic()
        last_old = dict.fromkeys(paths, changed)
        while time.monotonic() < changed + FRESH:
            for name, path in paths.items():
                sent = time.monotonic()
                if self.ask(world, path).body == b"a" * 1000:
                    last_old[name] = sent
        assert {name: last - changed for name, last in last_old.items() if last - changed > FRESH / 2} == {}
        after = {name: self.ask(world, path) for name, path in paths.items()}
        assert {name: response.status for name, response in after.items()} == STATUS_AFTER
        assert after["truncate"].body == b"a" * 10
        for name in ("write", "replace"):
            assert after[name].body == b"b" * 1000
            self.make_hot(world, paths[name])

    def test_a_file_that_appears(self, world: World) -> None:
        """A remembered 404 is not one for ever."""
        self.make_hot(world, "/appears.bin")
        put(world.site / "appears.bin", b"now", QUIET)
        until(lambda: self.ask(world, "/appears.bin").status == 200, "it is seen", FRESH)


class TestTables:
    def test_more_connections_than_there_is_room_for(self) -> None:
        """Those without a place are served as usual, and those with one are not turned out."""
        with open_world(Net(), kernel="connections = 64") as world, contextlib.ExitStack() as stack:
            askers = [stack.enter_context(Asker(world, opened=False)) for _ in range(200)]
            for asker in askers:
                asker.ask(HIT)
            before = world.counters()
            for asker in askers:
                asker.ask(HIT)
                asker.ask(MISS)
                asker.ask(HIT)
            after = world.counters()
            # The kernel counts the elements of a map on each CPU, in portions of 32.
            most = 64 + 32 * (os.cpu_count() or 1)
            assert after["open_full"] >= 200 - most
            world.expect_answered(before, 2 * 60)
            assert after["answered"] - before["answered"] <= 2 * most

    def test_more_answers_than_there_is_room_for(self) -> None:
        """Those that came too late are the workers', until others were not asked for for a while."""
        with open_world(Net(), kernel='memory = "64KiB"', warm=False) as world, Load(world) as load:
            files = [f"/many/{number}.bin" for number in range(40)]
            for path in files:
                put(world.site / path[1:], path, QUIET)

            def is_full() -> bool:
                world.ask_each([Request(head(path), "hot") for path in files for _ in range(HITS + 2)])
                status = world.lab.status(world.server.pid)
                assert status.memory <= status.memory_limit == 1 << 16
                return status.memory == status.memory_limit

            until(is_full, "nothing is free")
            load.more()
            assert load.closed == load.refused == 0

    def test_places_become_free(self) -> None:
        """After many short connections there is room."""
        with open_world(Net(), kernel="connections = 64") as world:
            for _ in range(500):
                with Asker(world) as asker:
                    asker.ask(HIT)
                    asker.finish()
            # Packets of a connection that has ended may still be on their way, so its place is kept for a while.
            until(lambda: world.is_answered(HIT), "there is room", 3 * PATIENCE)

    def test_ten_thousand_connections(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 10_000
        if hard < wanted + 1000:
            pytest.skip(f"the limit of open files is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            with open_world(Net()) as world, contextlib.ExitStack() as stack:
                socks = []
                for _ in range(wanted):
                    sock = stack.enter_context(world.lab.connect(world.address))
                    socks.append(sock)
                answer = world.reference.answer(HIT)
                before = world.counters()
                for rounds in range(4):
                    for sock in socks:
                        sock.sendall(HIT.data if rounds != 1 else MISS.data)
                    for sock in socks:
                        text = b""
                        expected = answer if rounds != 1 else world.reference.answer(MISS)
                        while len(text) < len(expected.text):
                            piece = sock.recv(1 << 16)
                            assert piece
                            text += piece
                        assert text[: expected.date] == expected.before
                        assert text[expected.date + 29 :] == expected.after
                world.expect_answered(before, 1.9 * wanted)
                assert world.lab.status(world.server.pid).connections >= wanted
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_a_flood_of_syns(self) -> None:
        """From addresses and ports that do not exist. Connections that were there go on being answered; new ones come
        by SYN cookies as long as the stack has too many half-open ones, and are not taken up; later they are."""
        with open_world(Net()) as world, Asker(world) as earlier:
            with world.lab.server:
                sysctl("ipv4/tcp_synack_retries", "0")
            earlier.ask(HIT)
            flood(world, 30_000)
            before = world.counters()
            for _ in range(20):
                with Asker(world) as asker:
                    asker.ask(HIT)
                    asker.ask(MISS)
                    asker.finish()
                earlier.ask(HIT)
            world.expect_answered(before, 20)
            # Half-open ones may have an entry each, but a cookie has none.
            assert world.lab.status(world.server.pid).connections < 20_000
            until(lambda: world.is_answered(HIT), "a new connection is answered by the tier")


def flood(world: World, count: int) -> None:
    """Send so many SYNs, each from another address or port, past the client's own stack."""
    server = socket.inet_aton(world.address[0])
    with world.lab.client:
        mac = bytes.fromhex(Path("/proc/thread-self/net/arp").read_text().split("\n")[1].split()[3].replace(":", ""))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("tux-client", 0))
            own = sock.getsockname()[4]
            for number in range(count):
                source = bytes((10, 77, 0, 100 + number % 100))
                tcp = struct.pack("!HHIIBBHHH", 1024 + number // 100, world.address[1], number, 0, 0x50, 2, 65535, 0, 0)
                total = ones_sum(source + server + struct.pack("!HH", 6, len(tcp))) + ones_sum(tcp)
                total = (total & 0xFFFF) + (total >> 16)
                tcp = tcp[:16] + struct.pack("!H", ~total & 0xFFFF) + tcp[18:]
                ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), number & 0xFFFF, 0, 64, 6, 0, source, server)
                ip = ip[:10] + struct.pack("!H", ~ones_sum(ip) & 0xFFFF) + ip[12:]
                sock.send(mac + own + b"\x08\0" + ip + tcp)
