# SPDX-License-Identifier: MIT
"""The kernel tier and the processes around it: a stop, a crash, a detachment. What TCP would have kept is kept, and
nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import tux
from tests.corpus.reader import PATIENCE, Reader
from tests.e2e.client import until
from tests.kernel.lab import CLSACT, START_SECONDS, TUX, Lab, Net, Shape, open_lab, require_tier
from tests.kernel.traffic import Request, head
from tests.kernel.world import Asker, World, open_world, tcp_address
from tux.kernel.worth import PAUSED, TAKING

HIT: Final = Request(head("/1000.bin"), "hot")
LARGE: Final = Request(head("/10000.bin"), "hot")
"""Too large for a packet."""
MISS: Final = Request(head("/100.bin?n=1"), "miss")

HASTY: Final = """
from tux.kernel import tier, worth
worth.GLANCE_SECONDS = 0.5
worth.MIN_REQUESTS = 300
tier.SWEEP_SECONDS = 0.5
"""
"""`auto` judges ten times as soon; when it does is tested apart (tests/unit/kernel/test_worth.py)."""

QUIET_SECONDS: Final = 1.0
"""Answering ends so long after the supervisor's death."""


@pytest.fixture
def world() -> Iterator[World]:
    """The test ends its server, one way or another."""
    with open_world(Net(), stops=False, warm=False, config="grace = 5") as world:
        if not world.has_tier:
            pytest.skip("without the tier there is nothing to be tested")
        yield world


def sets(world: World) -> list[dict[str, Any]]:
    """What `tux kernel status --json` says of each server."""
    said = world.lab.tux("kernel", "status", "--json", "--bpffs", str(world.lab.bpffs))
    return [json.loads(line) for line in said.splitlines()]


def until_answering(world: World) -> list[dict[str, Any]]:
    """What `tux kernel status --json` says when hearts beat, as on a busy machine they may not at any moment."""
    found: list[dict[str, Any]] = []

    def is_answering() -> bool:
        found[:] = sets(world)
        return all(one["state"] == "answering" for one in found)

    until(is_answering, "its heart beats")
    return found


def detach(world: World, *options: str, check: bool = True) -> str:
    return world.lab.tux("kernel", "detach", "--bpffs", str(world.lab.bpffs), *options, check=check)


def answered(world: World, asker: Asker) -> None:
    """Ask until the tier has answered on this connection: from then on it needs the programs."""
    before = world.answered()

    def is_answered() -> bool:
        asker.ask(HIT)
        return world.answered() > before

    until(is_answered, "the tier answers")


def restarted(world: World) -> tux.Server:
    """Another supervisor in the same network, with the same configuration."""
    server = world.server
    with world.lab.server:
        server.start()
    world.address = tcp_address(server)
    return server


class TestStatus:
    def test_a_server_that_answers(self, world: World) -> None:
        bpffs = str(world.lab.bpffs)
        with Asker(world) as asker:
            answered(world, asker)
            (found,) = until_answering(world)
            assert found["pid"] == world.server.pid
            assert found["interfaces"] == [world.lab.interface]
            assert found["entries"] > 0
            assert found["answered"] == found["counters"]["answered"] > 0
            assert found["answered_bytes"] > 1000
            assert found["connections"]["total"] >= found["connections"]["translated"] == 1
            assert found["connections"]["limit"] == 65536
            assert 0 < found["memory"]["used"] <= found["memory"]["limit"] == 16 * 2**20
        first = f"process {world.server.pid}: answering, on {world.lab.interface}\n"
        until(lambda: world.lab.tux("kernel", "status", "--bpffs", bpffs).startswith(first), "the same for people")

    def test_no_server(self, world: World) -> None:
        world.server.stop()
        assert sets(world) == []
        text = world.lab.tux("kernel", "status", "--bpffs", str(world.lab.bpffs))
        assert text == f"no kernel tier below {world.lab.bpffs}\n"


class TestReload:
    def test_what_was_published_is_taken_back(self, world: World) -> None:
        """No answer of the old configuration is given any more; those of the new one are published."""
        with Asker(world) as asker:
            answered(world, asker)
            for file in world.lab.folder.glob("*.toml"):  # that of the reference, which is not told
                file.write_text(file.read_text() + 'headers = { "*" = { "X-New" = "yes" } }\n')
            world.server.kill(signal.SIGHUP)
            until(lambda: "reloaded the configuration" in world.server.stderr_text(), "it is reloaded")
        with world.lab.connect(world.address) as sock:
            reader = Reader(sock)
            before = world.answered()
            seen = 0

            def is_answered() -> bool:
                nonlocal seen
                sock.sendall(HIT.data)
                assert reader.response("GET").get("X-New") == "yes"
                seen += 1
                return world.answered() > before

            until(is_answered, "the tier answers")
            assert seen > 1


class TestPause:
    def test_new_connections_are_left_alone(self, world: World) -> None:
        """What is open goes on; when it is over, all is as before."""
        with Asker(world) as old:
            answered(world, old)
            world.lab.set_control(world.server.pid, "paused", PAUSED)
            before = world.counters()
            with Asker(world) as fresh:
                for request in (HIT, HIT, MISS, HIT):
                    fresh.ask(request)
                now = world.counters() - before
                assert now["open_paused"] == 1, now
                assert now["opened"] == now["open_unknown"] == now["answered"] == 0, now
            answered(world, old)
            (found,) = until_answering(world)
            assert found["paused"] is True
            world.lab.set_control(world.server.pid, "paused", TAKING)
            with Asker(world) as fresh:
                answered(world, fresh)
        assert world.server.stop() == 0

    def test_auto_rests_where_nothing_is_answered(self) -> None:
        """It notices soon; connections that were answered go on; those that were not, and new ones, are left alone.
        When the pause is over, all is as before."""
        with open_world(Net(), warm=False, mode="auto", altered=HASTY) as world, contextlib.ExitStack() as conns:
            if not world.has_tier:
                pytest.skip("without the tier there is nothing to be tested")
            pid = world.server.pid
            old, busy = conns.enter_context(Asker(world)), conns.enter_context(Asker(world))
            answered(world, old)

            def is_paused() -> bool:
                for _ in range(100):
                    busy.ask(LARGE)
                return world.lab.status(pid).paused

            until(is_paused, "it pauses", 60.0)
            until(lambda: world.lab.status(pid).connections == 1, "what was never answered is let go")
            answered(world, old)
            until(lambda: world.lab.status(pid).state == "answering", "its heart beats")
            old.finish()
            until(lambda: world.lab.status(pid).state == "resting", "nobody needs it", 60.0)

            before = world.counters()
            with Asker(world) as fresh:
                for asker in (busy, fresh):
                    for request in (HIT, HIT, MISS, LARGE, HIT):
                        asker.ask(request)
            assert world.counters() == before
            world.lab.set_control(pid, "paused", TAKING)
            with Asker(world) as fresh:
                answered(world, fresh)
                busy.ask(HIT)
            busy.finish()


class TestWorker:
    def test_it_has_its_two_maps_and_nothing_else_of_the_tier(self) -> None:
        """Mapped, not open. One that is taken over cannot reach what the supervisor tells the programs, nor the log."""
        with open_world(Net(), stops=False, warm=False, log=True) as world:
            if not world.has_tier:
                pytest.skip("without the tier there is nothing to be tested")
            (pid,) = world.server.worker_pids()
            areas = [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "bpf" in line]
            assert len(areas) == 2, areas
            opened = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            assert [name for name in opened if "bpf" in name or "btf" in name] == []
            assert world.server.stop() == 0


class TestStop:
    def test_nothing_stays_behind(self, world: World) -> None:
        with Asker(world) as asker:
            answered(world, asker)
            world.server.kill(signal.SIGTERM)
            asker.reader.expect_end()
        assert world.server.wait(PATIENCE) == 0
        assert sets(world) == []
        assert "still open" not in world.server.stderr_text()

    def test_a_client_that_does_not_end_keeps_the_programs(self, world: World) -> None:
        """The server has closed its side; the client leaves its own open."""
        with Asker(world) as asker:
            answered(world, asker)
            assert world.server.stop() == 0
            assert "connections are still open that were answered by the kernel tier" in world.server.stderr_text()
            (found,) = sets(world)
            assert (found["state"], found["connections"]["translated"]) == ("orphan", 1)
            asker.reader.expect_end()
        said = detach(world)
        assert said == f"process {found['pid']}: removed, no connection needs it\n"
        assert sets(world) == []


class TestCrash:
    def test_of_the_supervisor(self, world: World) -> None:
        """Answering stops, connections end in an orderly way, and the next server takes over what is left."""
        with Asker(world) as asker, Asker(world) as other:
            answered(world, asker)
            answered(world, other)
            killed = world.server.pid
            world.server.kill(signal.SIGKILL)
            world.server.wait(PATIENCE)
            end = time.monotonic() + QUIET_SECONDS
            until(lambda: world.lab.status(killed).orphan, "it is seen that it is gone")
            asker.reader.expect_end()
            time.sleep(max(0.0, end - time.monotonic()))
            count = world.lab.status(killed).counters["answered"]
            server = restarted(world)
            assert f"the kernel tier of process {killed}, which was killed, is being removed" in server.stderr_text()
            with Asker(world) as third:
                answered(world, third)
            assert world.lab.status(killed).counters["answered"] == count
            other.reader.expect_end()
        asker.sock.close()
        until(lambda: [one["pid"] for one in sets(world)] == [server.pid], "what was left is removed", within=30)
        assert server.stop() == 0

    def test_of_a_worker(self, world: World) -> None:
        """Its answers are given no more; those who come to its successor get their own."""
        with Asker(world) as asker:
            answered(world, asker)
            (pid,) = world.server.worker_pids()
            os.kill(pid, signal.SIGKILL)
            until(lambda: world.server.worker_pids() not in ([], [pid]), "another worker runs")
            until(lambda: world.lab.status(world.server.pid).entries == 0, "its answers are retired")
        with Asker(world) as asker:
            answered(world, asker)
        assert world.server.stop() == 0


class TestDetach:
    def test_a_server_goes_on_without(self, world: World) -> None:
        with Asker(world) as asker:
            answered(world, asker)
            said = detach(world, "--timeout", "0.2", check=False)
            assert "answers nothing any more, but 1 connections that it answered are open" in said
            (found,) = sets(world)
            assert (found["state"], found["connections"]["translated"]) == ("detached", 1)
            until(lambda: "detached from outside" in world.server.stderr_text(), "a line says so")
            count = world.answered()
            for _ in range(10):
                asker.ask(HIT)
                asker.ask(MISS)
            assert world.answered() == count
            asker.finish()
        said = detach(world)
        assert said == f"process {world.server.pid}: removed, no connection needs it\n"
        assert sets(world) == []
        with Asker(world) as asker:
            asker.ask(HIT)
            asker.ask(MISS)
        assert world.server.stop() == 0
        assert world.server.stderr_text().count("kernel tier was detached") == 1

    def test_by_force(self, world: World) -> None:
        with Asker(world) as asker:
            answered(world, asker)
            said = detach(world, "--force")
            assert said == f"process {world.server.pid}: removed, 1 connections that it answered break\n"
        assert sets(world) == []
        with Asker(world) as asker:
            asker.ask(HIT)
        assert world.server.stop() == 0

    @pytest.mark.parametrize("altered", ["", CLSACT], ids=["tcx", "clsact"])
    def test_pins_that_are_removed_by_hand(self, altered: str) -> None:
        """The server notices, and takes away what that has not ended: filters of clsact."""
        with open_world(Net(), stops=False, altered=altered) as world:
            if not world.has_tier:
                pytest.skip("without the tier there is nothing to be tested")
            assert sum(world.lab.attached().values()) == 2
            world.lab.remove_pins()
            until(lambda: "detached from outside" in world.server.stderr_text(), "a line says so")
            world.ask_each([HIT, MISS] * 10)
            assert world.server.stop() == 0
            assert world.lab.attached() == {"tcx": 0, "clsact": 0}

    def test_what_a_crash_left(self, world: World) -> None:
        with Asker(world) as asker:
            answered(world, asker)
            world.server.kill(signal.SIGKILL)
            world.server.wait(PATIENCE)
            asker.reader.expect_end()
        assert detach(world) == f"process {world.server.pid}: removed, no connection needs it\n"
        assert sets(world) == []


MISSING: Final = {
    "-bpf": "CAP_BPF",
    "-perfmon": "CAP_PERFMON",
    "-net_admin": "CAP_NET_ADMIN",
    "-bpf,-perfmon": "CAP_PERFMON and CAP_BPF",
}
"""Capabilities that a process lacks, and what it is told."""


class TestAuto:
    """Without being told to, a server attaches where that disturbs nobody."""

    def server(self, lab: Lab, *args: str, enter: bool = True) -> tux.Server:
        command = [*lab._enter(), *TUX] if enter else list(TUX)
        server = tux.Server(
            lab.folder,
            workers=1,
            access_log="off",
            listen=f"{lab.address}:0",
            command=command,
            args=list(args),
            timeout=START_SECONDS,
        )
        with lab.server:
            return server.start()

    @pytest.mark.parametrize("shape", [Shape.LOOPBACK, Shape.DIRECT])
    def test_it_attaches(self, shape: Shape) -> None:
        require_tier()
        with open_lab(Net(shape)) as lab:
            file = lab.folder / "auto.toml"
            file.write_text(f'[kernel]\nbpffs = "{lab.bpffs}"\n')
            server = self.server(lab, "--config", str(file))
            try:
                assert lab.status(server.pid).interfaces
                assert f"tux: the kernel tier answers on {lab.interface}\n" in server.stderr_text()
            finally:
                assert server.stop() == 0

    def test_it_says_why_not(self) -> None:
        require_tier()
        with open_lab(Net(Shape.LOOPBACK)) as lab:
            server = self.server(lab, "--config", "/dev/null", enter=False)
            try:
                said = server.stderr_text()
                assert said.startswith("tux: the kernel tier is off: /sys/fs/bpf is not a mounted bpffs; mount -t bpf")
            finally:
                assert server.stop() == 0

    def test_without_the_rights_it_says_nothing(self) -> None:
        require_tier()
        with open_lab(Net(Shape.LOOPBACK)) as lab:
            command = ["setpriv", "--bounding-set=-bpf,-sys_admin", *TUX]
            server = tux.Server(lab.folder, workers=1, access_log="off", command=command, timeout=START_SECONDS)
            with lab.server:
                server.start()
            try:
                assert "kernel" not in server.stderr_text()
            finally:
                assert server.stop() == 0

    @pytest.mark.parametrize(("dropped", "named"), MISSING.items())
    def test_on_names_what_is_missing(self, dropped: str, named: str) -> None:
        require_tier()
        with open_lab(Net(Shape.LOOPBACK)) as lab:
            without = ["setpriv", f"--bounding-set={dropped},-sys_admin"]
            server = tux.Server(lab.folder, command=[*without, *TUX], kernel="on", timeout=START_SECONDS)
            with lab.server, pytest.raises(tux.StartError) as caught:
                server.start()
            assert caught.value.message == f"cannot use the kernel tier: the kernel tier needs {named}"
            bpffs = str(lab.bpffs)
            for command in ("status", "detach"):
                full = [*lab._enter(), *without, *TUX, "kernel", command, "--bpffs", bpffs]
                done = subprocess.run(full, capture_output=True, text=True)
                assert (done.returncode, done.stdout) == (1, "")
                assert done.stderr == f"tux: error: this needs {named.replace(' and ', ', ')}\n"

    def test_on_names_an_interface_that_is_not_there(self) -> None:
        require_tier()
        with open_lab(Net(Shape.LOOPBACK)) as lab:
            file = lab.folder / "on.toml"
            file.write_text(f'[kernel]\nmode = "on"\ninterface = ["eth7"]\nbpffs = "{lab.bpffs}"\n')
            with pytest.raises(tux.StartError) as caught:
                self.server(lab, "--config", str(file))
            assert caught.value.message == "cannot use the kernel tier: there is no interface eth7"
