# SPDX-License-Identifier: MIT
"""Random traffic through the kernel tier: every byte is what the server without it says.

`make soak` runs `test_soak` with a million requests and more; the other tests are the same traffic in thousands, over
every kind of network.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.corpus.reader import DATE_SLACK, parse_date
from tests.e2e.client import until
from tests.kernel.lab import CLSACT, Net, Shape, sysctl, tcp_counters
from tests.kernel.traffic import LOSSLESS, Request, Script, head, scripts
from tests.kernel.wire import Faults
from tests.kernel.world import WIRE, Asker, open_world

SEED: Final = int(os.environ.get("TUX_SEED", "1"))

MATRIX: Final = [
    Net(family=family, mtu=mtu, offloads=offloads)
    for family in (4, 6) for mtu in (1500, 9000) for offloads in (True, False)
] + [Net(congestion="reno"), Net(Shape.LOOPBACK, mtu=65536), Net(Shape.LOOPBACK, family=6, mtu=65536)]  # fmt: skip

FAULTS: Final = {
    "loss": Faults(loss=0.05),
    "disorder": Faults(duplicate=0.04, reorder=0.06, delay=0.06),
    "all": Faults(loss=0.02, duplicate=0.02, reorder=0.02, delay=0.02, corrupt=0.02),
}

DISTURBED: Final = [
    (WIRE, "loss"),
    (WIRE, "disorder"),
    (WIRE, "all"),
    (Net(Shape.WIRE), "all"),
    (Net(Shape.WIRE, family=6, offloads=False), "all"),
    (Net(Shape.WIRE, family=6), "disorder"),
    (Net(Shape.WIRE, mtu=9000, offloads=False), "loss"),
]

NEVER: Final = (
    "Tcp.RetransSegs", "Tcp.InErrs", "Tcp.InCsumErrors", "TcpExt.PAWSEstab", "TcpExt.TCPChallengeACK",
    "TcpExt.TCPSYNChallenge", "TcpExt.TCPTimeouts", "TcpExt.TCPDSACKRecv", "TcpExt.TCPDSACKOldSent",
    "TcpExt.TCPOFOQueue", "TcpExt.TCPSackMerged", "TcpExt.TCPWantZeroWindowAdv", "TcpExt.TCPACKSkippedSeq",
    "TcpExt.TCPACKSkippedPAWS", "TcpExt.TCPLossProbes", "TcpExt.TCPAbortOnTimeout",
)  # fmt: skip
"""What does not happen to well-behaved connections on a network that loses nothing."""


@pytest.mark.parametrize("net", MATRIX, ids=str)
def test_every_network(net: Net) -> None:
    with open_world(net) as world:
        before = world.counters()
        tally = world.traffic(SEED, requests=1500)
        world.expect_answered(before, 0.9 * tally.due)


@contextlib.contextmanager
def one_cpu() -> Iterator[None]:
    """This process, and those that it starts, run on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("net", [Net(), Net(family=6, mtu=9000, offloads=False)], ids=str)
def test_the_stacks_notice_nothing(net: Net) -> None:
    """Where nothing is lost, neither side's TCP sends again, probes, or drops anything. On one CPU, since two may
    deliver the packets of a process that moves from one to the other in another order."""
    with one_cpu(), open_world(net) as world:
        spaces = (world.lab.client, world.lab.server)
        for space in spaces:
            with space:
                sysctl("ipv4/tcp_early_retrans", "0")  # a busy machine is as good as a lost tail to the probes of TCP
        counted = [tcp_counters(space) for space in spaces]
        before = world.counters()
        tally = world.traffic(SEED, requests=3000, moods={"steady": 2, "pipelined": 1, "close": 1, "half": 1})
        for was, space in zip(counted, spaces, strict=True):
            now = tcp_counters(space)
            assert {name: now[name] - was[name] for name in NEVER if now[name] != was[name]} == {}
        world.expect_answered(before, 0.9 * tally.due)


@pytest.mark.parametrize(("net", "faults"), DISTURBED, ids=[f"{net}-{name}" for net, name in DISTURBED])
def test_every_fault(net: Net, faults: str) -> None:
    with open_world(net) as world:
        assert world.lab.wire is not None
        world.lab.wire.both(SEED, FAULTS[faults])
        before = world.counters()
        tally = world.traffic(SEED, requests=600)
        world.expect_answered(before, 0.5 * tally.due)


def test_a_kernel_without_tcx() -> None:
    """The programs are filters of traffic control there. The same traffic, and nothing of them stays behind."""
    with open_world(Net(Shape.WIRE), stops=False, altered=CLSACT) as world:
        assert world.lab.wire is not None
        world.lab.wire.both(SEED, FAULTS["all"])
        before = world.counters()
        tally = world.traffic(SEED, requests=600)
        world.expect_answered(before, 0.5 * tally.due)
        assert world.lab.attached() == {"tcx": 0, "clsact": 2 if world.has_tier else 0}
        assert world.server.stop() == 0
        # Connections may be left whose ends were lost.
        world.lab.tux("kernel", "detach", "--force", "--bpffs", str(world.lab.bpffs))
        assert world.lab.attached() == {"tcx": 0, "clsact": 0}


def test_small_windows() -> None:
    """Clients that take little at a time: no answer is larger than the window that its request announced."""
    with open_world(Net()) as world:
        tally = world.traffic(SEED, requests=200, moods={"tiny": 3, "slow": 1}, at_once=64)
        assert tally.answers >= 200
        if world.has_tier:
            assert world.counters()["pass_window"] > 0


def test_one_line_of_log_for_each_answer() -> None:
    """Also when answers are lost and sent again: none is missing, and none is there twice."""
    with open_world(WIRE, stops=False, log=True) as world:
        assert world.lab.wire is not None
        world.lab.wire.both(SEED, FAULTS["all"])
        asked: Counter[tuple[str, str, int, int]] = Counter()
        before = world.counters()
        world.ask_each([Request(head("/end-of-warm-up"), "miss")])
        until(lambda: lines_of_warm_up(world.log, before["answered"]), "all of the warm-up is in the log")
        warm_up = lines_of_warm_up(world.log, before["answered"])

        def noted() -> Iterator[Script]:
            for script in scripts(world.catalogue, SEED, LOSSLESS):
                for request in script.requests:
                    text = world.reference.answer(request).text
                    method, target, _ = request.data.split(b" ", 2)
                    body = len(text) - text.index(b"\r\n\r\n") - 4
                    asked[method.decode(), target.decode(), int(text[9:12]), body] += 1
                yield script

        tally = world.traffic(SEED, requests=1000, drawn=noted())
        answered = world.answered() - before["answered"]
        world.expect_answered(before, 0.5 * tally.due)
        assert world.server.stop() == 0
        late = [json.loads(line) for line in world.log.read_text().splitlines()[warm_up:]]
        logged = Counter((line["method"], line["target"], line["status"], line["bytes"]) for line in late)
        assert logged == asked
        assert sum(line["tier"] == "kernel" for line in late) == answered
        assert {line["peer"] for line in late} == {"10.77.0.1"}


def lines_of_warm_up(log: Path, answered: int) -> int:
    """How many lines the log has, when it has all of the tier and the last of the daemon; else 0. Each process writes
    its own."""
    text = log.read_text()
    complete = text.count('"tier":"kernel"') == answered and '"/end-of-warm-up"' in text
    return text.count("\n") if complete else 0


def test_dates_move() -> None:
    """The Date of the tier is that of the second in which it answers."""
    with open_world(Net()) as world, Asker(world) as asker:
        before = world.counters()
        request = Request(head("/100.bin"), "hot")
        seen: set[str] = set()
        asked = 0
        while len(seen) < 3:
            sent = time.time()
            asker.send(request)
            response = asker.reader.response()
            seen.add(response["Date"])
            asked += 1
            assert int(sent) - DATE_SLACK <= parse_date(response["Date"]) <= time.time()
        world.expect_answered(before, 0.9 * asked)


def test_each_connection_is_seen_alive_by_its_server() -> None:
    """A connection that is busy with the tier's answers is not idle, though the daemon hears little of it."""
    with (
        open_world(Net(), kernel="liveness = 0.2", config="limits = { idle_timeout = 2 }") as world,
        Asker(world) as asker,
    ):
        before = world.counters()
        asked, end = 0, time.monotonic() + 3  # longer than an idle connection lives
        while time.monotonic() < end:
            asker.ask(Request(head("/100.bin"), "hot"))
            asked += 1
        alive = world.counters()["pass_live"] - before["pass_live"]
        assert not world.has_tier or alive >= 3
        world.expect_answered(before, 0.9 * (asked - alive))
        asker.finish()


def test_several_workers() -> None:
    """Each worker publishes for the connections of all: a connection's answers come from any."""
    with open_world(Net(), workers=2) as world:
        before = world.counters()
        tally = world.traffic(SEED, requests=3000)
        world.expect_answered(before, 0.9 * tally.due)


def test_the_checks_of_a_run_are_repeatable() -> None:
    """The same seed draws the same scripts."""
    with open_world(Net(), tier=False) as world:
        drawn = [[request.data for request in script.requests] for script, _ in zip(
            scripts(world.catalogue, 5), range(50), strict=False)]  # fmt: skip
        again = [[request.data for request in script.requests] for script, _ in zip(
            scripts(world.catalogue, 5), range(50), strict=False)]  # fmt: skip
        assert drawn == again


SOAK_REQUESTS: Final = int(os.environ.get("TUX_SOAK_REQUESTS", "0"))
"""Set by `make soak`."""

SOAK_NETS: Final = [
    (Net(), ""),
    (Net(family=6, mtu=9000, offloads=False), ""),
    (Net(Shape.LOOPBACK, mtu=65536), ""),
    (WIRE, "loss"),
    (WIRE, "all"),
    (Net(Shape.WIRE, family=6), "disorder"),
    (Net(Shape.WIRE, family=6, mtu=9000, offloads=False, congestion="reno"), "all"),
]


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.skipif(not SOAK_REQUESTS, reason="run by `make soak`")
@pytest.mark.parametrize(("net", "faults"), SOAK_NETS, ids=[f"{net}-{name}" for net, name in SOAK_NETS])
def test_soak(net: Net, faults: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Most requests go over networks without faults, which are faster."""
    n_faulty = sum(bool(name) for _, name in SOAK_NETS)
    share = 0.06 if faults else (1 - 0.06 * n_faulty) / (len(SOAK_NETS) - n_faulty)
    wanted = int(SOAK_REQUESTS * share) + 1
    with open_world(net) as world:
        if world.lab.wire is not None:
            world.lab.wire.both(SEED, FAULTS[faults])
        before = world.counters()
        tally = world.traffic(SEED, requests=wanted, at_once=64)
        answered = world.answered() - before["answered"]
        with capsys.disabled():
            print(
                f"\n{net} {faults}: {tally.answers} answers on {tally.connections} connections in "
                f"{tally.seconds:.0f} s, {answered} by the tier; seed {SEED}"
            )
        world.expect_answered(before, 0.5 * tally.due)
        assert tally.answers >= wanted


def test_soak_is_a_million() -> None:
    """What `make soak` asks for."""
    makefile = Path(__file__).parents[2] / "Makefile"
    found = re.search(r"^SOAK_REQUESTS \?= (\d+)$", makefile.read_text(), re.MULTILINE)
    assert found is not None
    assert int(found[1]) >= 1_000_000
