# SPDX-License-Identifier: MIT
"""An answer of the kernel tier is lost, late, or there twice, and then something else happens on its connection.

The stack knows nothing of these answers, so it cannot repair what is lost: the tier must. Each case takes away certain
packets, and every byte must still come, once and in order, on a connection that the server then ends properly.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final

import pytest

from tests.e2e.client import until
from tests.kernel.lab import Net, Shape, tcp_counters
from tests.kernel.traffic import CHROME, Request, head
from tests.kernel.wire import Rule
from tests.kernel.world import Asker, World, open_world

HIT: Final = Request(head("/1000.bin"), "hot")
OTHER: Final = Request(head("/100.bin", CHROME), "hot")
MISS: Final = Request(head("/100.bin?n=1"), "miss")
LARGE: Final = Request(head("/big.bin"), "miss")
LAST: Final = Request(head("/100.bin", "Connection: close\r\n"), "miss")

ANSWER: Final = "HTTP/1.1 200 OK\r\n"

LOST: Final = Rule(to="client", do="drop", starts=ANSWER)
"""The first answer."""

HISTORIES: Final[dict[str, Sequence[Request]]] = {
    "fresh": (),
    "after-a-hit": (HIT,),
    "after-both": (HIT, LARGE, OTHER, MISS, HIT),
}
"""What the connection has asked for before."""


Case = tuple[int, str]
"""IP version, and a history."""

CASES: Final[list[Case]] = [*((4, history) for history in HISTORIES), (6, "after-both")]


class Worlds:
    """A server behind a wire for each IP version; idle connections end after two seconds. Made when first needed."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._open: dict[int, World] = {}

    def of(self, family: int) -> World:
        if family not in self._open:
            net = Net(Shape.WIRE, family=family, offloads=False)
            world = open_world(net, config="limits = { idle_timeout = 2 }")
            self._open[family] = self._stack.enter_context(world)
        return self._open[family]


@pytest.fixture(scope="module")
def worlds() -> Iterator[Worlds]:
    with contextlib.ExitStack() as stack:
        yield Worlds(stack)


@pytest.fixture(params=CASES, ids=lambda case: f"v{case[0]}-{case[1]}")
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def world(worlds: Worlds, case: Case) -> World:
    return worlds.of(case[0])


@pytest.fixture
def asker(world: World, case: Case) -> Iterator[Asker]:
    """A connection with such a past; nothing is in flight. What it asks for is answered by the tier at least once."""
    assert world.lab.wire is not None
    world.lab.wire.set()
    world.ask_each([HIT, OTHER])
    before = world.counters()
    with Asker(world) as asker:
        for earlier in HISTORIES[case[1]]:
            asker.ask(earlier)
        yield asker
    world.lab.wire.set()
    world.expect_more(before, answered=1)


def rules(world: World, *rules: Rule) -> None:
    assert world.lab.wire is not None
    world.lab.wire.set(rules=rules)


def done(world: World, rule: int = 0) -> int:
    """How often a rule was applied."""
    assert world.lab.wire is not None
    return world.lab.wire.counts().get(f"rule {rule}", 0)


def taken(world: World, rule: int) -> list[bytes]:
    assert world.lab.wire is not None
    return world.lab.wire.taken(rule)


class TestAnAnswerIsLost:
    def test_it_comes_again(self, world: World, asker: Asker) -> None:
        before = world.counters()
        rules(world, LOST)
        asker.ask(HIT)
        assert done(world) == 1
        asker.ask(OTHER)
        asker.ask(MISS)
        asker.finish()
        world.expect_more(before, answered=1, resent=1)

    def test_many_times_and_is_the_same_each_time(self, world: World, asker: Asker) -> None:
        """Also its Date, though more than a second has passed: parts of two answers might be put together."""
        rules(world, Rule(to="client", do="drop", starts=ANSWER, times=7))
        asker.ask(HIT)
        copies = taken(world, 0)
        assert len(copies) == 7
        assert len(set(copies)) == 1
        asker.finish()

    def test_then_a_miss_is_pipelined(self, world: World, asker: Asker) -> None:
        rules(world, LOST)
        asker.send(HIT)
        until(lambda: done(world), "the answer is lost")
        asker.send(MISS)
        asker.receive(HIT, MISS)
        asker.ask(OTHER)
        asker.finish()

    def test_then_a_large_miss_is_pipelined(self, world: World, asker: Asker) -> None:
        """Of which more is lost."""
        rules(
            world,
            Rule(to="client", do="drop", starts=ANSWER, times=4),
            Rule(to="client", do="drop", data=True, again=False, skip=3, every=5, times=10),
        )
        asker.send(HIT)
        until(lambda: done(world), "the answer is lost")
        asker.send(LARGE)
        asker.receive(HIT, LARGE)
        asker.ask(HIT)
        asker.finish()

    def test_then_a_hit_is_pipelined(self, world: World, asker: Asker) -> None:
        rules(world, Rule(to="client", do="drop", starts=ANSWER, times=3))
        asker.send(HIT)
        until(lambda: done(world), "the answer is lost")
        asker.send(OTHER)
        asker.send(HIT)
        asker.receive(HIT, OTHER, HIT)
        asker.finish()

    def test_then_the_client_ends(self, world: World, asker: Asker) -> None:
        rules(world, LOST)
        asker.send(HIT)
        asker.sock.shutdown(socket.SHUT_WR)
        asker.receive(HIT)
        asker.reader.expect_end()
        assert done(world) == 1

    def test_then_the_client_ends_and_more_is_lost(self, world: World, asker: Asker) -> None:
        rules(
            world,
            Rule(to="client", do="drop", starts=ANSWER, times=3),
            Rule(to="client", do="drop", flags="F", times=2),
            Rule(to="server", do="drop", flags="F", times=2),
        )
        asker.send(HIT)
        asker.sock.shutdown(socket.SHUT_WR)
        asker.receive(HIT)
        asker.reader.expect_end()
        assert done(world) >= 1

    def test_then_the_server_ends(self, world: World, asker: Asker) -> None:
        """By the answer to what was asked next."""
        rules(world, Rule(to="client", do="drop", starts=ANSWER, times=3))
        asker.send(HIT)
        until(lambda: done(world), "the answer is lost")
        asker.send(LAST)
        asker.receive(HIT, LAST)
        asker.reader.expect_end()

    def test_until_the_server_ends_because_nothing_comes(self, world: World, asker: Asker) -> None:
        """Its FIN leaves while the client still misses the answer. (Without the tier it waits for the answer.)"""
        rules(
            world,
            Rule(to="client", do="drop", starts=ANSWER, times=0),
            Rule(to="client", do="note", flags="F", times=0),
        )
        asker.send(HIT)
        if world.has_tier:
            until(lambda: done(world, 1), "the server's FIN")
        rules(world)
        asker.receive(HIT)
        asker.reader.expect_end()

    def test_then_the_client_resets(self, world: World, asker: Asker) -> None:
        """The server's side is gone as well."""
        rules(world, Rule(to="client", do="drop", starts=ANSWER, times=0))
        asker.send(HIT)
        until(lambda: done(world), "the answer is lost")
        port = asker.port
        asker.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        asker.sock.close()
        until(lambda: port not in remote_ports(world), "the server's side is gone")
        rules(world)

    def test_and_the_retransmission_is_merged_with_what_followed(self, world: World, asker: Asker) -> None:
        """Linux puts small segments together when it sends them again."""
        rules(
            world,
            LOST,
            Rule(to="server", do="drop", data=True, again=False, starts="GET /100.bin?n=1"),
            Rule(to="server", do="merge", data=True, again=True, starts="GET /1000.bin"),
        )
        asker.send(HIT)
        until(lambda: done(world), "the answer is lost")
        asker.send(MISS)
        asker.receive(HIT, MISS)
        assert done(world, 2) == 1 or not world.has_tier
        asker.finish()

    @pytest.mark.parametrize("size", [1, len(HIT.data) - 1])
    def test_and_the_retransmission_has_only_a_part(self, world: World, asker: Asker, size: int) -> None:
        rules(world, LOST, Rule(to="server", do="cut", data=True, again=True, starts="GET /1000.bin", value=size))
        asker.ask(HIT)
        assert done(world, 1) == 1 or not world.has_tier
        asker.ask(MISS)
        asker.finish()

    def test_and_the_retransmission_is_damaged(self, world: World, asker: Asker) -> None:
        rules(world, LOST, Rule(to="server", do="corrupt", data=True, again=True, times=2))
        asker.ask(HIT)
        assert done(world, 1) == 2 or not world.has_tier
        asker.ask(MISS)
        asker.finish()


class TestOtherPackets:
    def test_a_request_is_lost(self, world: World, asker: Asker) -> None:
        rules(world, Rule(to="server", do="drop", data=True, times=2))
        asker.ask(HIT)
        asker.ask(MISS)
        asker.finish()

    def test_a_damaged_request_is_not_answered(self, world: World, asker: Asker) -> None:
        """Nobody has looked at its checksum when the tier sees it."""
        before = tcp_counters(world.lab.server)["Tcp.InCsumErrors"]
        rules(world, Rule(to="server", do="corrupt", data=True, times=3))
        asker.ask(HIT)
        asker.finish()
        world.ask_each([HIT])  # by the tier
        assert tcp_counters(world.lab.server)["Tcp.InCsumErrors"] - before == 3, "the stack has dropped them"

    def test_acknowledgements_are_lost(self, world: World, asker: Asker) -> None:
        rules(world, Rule(to="server", do="drop", data=False, flags=".", times=0))
        for request in (HIT, MISS, OTHER, LARGE, HIT, HIT):
            if request is LARGE:
                rules(world, Rule(to="server", do="drop", data=False, flags=".", every=2, times=0))
            asker.ask(request)
        rules(world)
        asker.finish()

    def test_an_answer_is_there_twice(self, world: World, asker: Asker) -> None:
        rules(world, Rule(to="client", do="duplicate", data=True, times=0))
        for request in (HIT, OTHER, MISS, HIT):
            asker.ask(request)
        asker.finish()

    def test_a_request_is_there_twice(self, world: World, asker: Asker) -> None:
        rules(world, Rule(to="server", do="duplicate", data=True, times=0))
        for request in (HIT, OTHER, MISS, HIT):
            asker.ask(request)
        asker.finish()

    def test_an_old_request_arrives_late(self, world: World, asker: Asker) -> None:
        """After others have been answered: it is not answered anew."""
        rules(
            world,
            Rule(to="client", do="drop", starts=ANSWER),
            Rule(to="server", do="hold", data=True, again=True, starts="GET /1000"),
            Rule(to="server", do="duplicate", data=True, again=True, starts="GET /1000", times=2),
        )
        for request in (HIT, OTHER, HIT, MISS, HIT):
            asker.ask(request)
        asker.finish()

    def test_the_window_is_too_small_for_the_answer(self, world: World, asker: Asker) -> None:
        """It goes to the stack, which sends what there is room for."""
        before = world.counters()["answered"]
        rules(world, Rule(to="server", do="window", value=0, starts="GET /1000"))
        asker.ask(HIT)
        assert world.counters()["answered"] == before
        asker.ask(HIT)
        asker.finish()

    def test_answers_of_the_daemon_are_lost_behind_those_of_the_tier(self, world: World, asker: Asker) -> None:
        """Selective acknowledgements are in the client's numbers, and the stack needs its own."""
        for _ in range(3):
            rules(world, Rule(to="client", do="drop", data=True, again=False, skip=2, every=4, times=20))
            for request in (HIT, HIT, LARGE, OTHER):
                asker.ask(request)
        asker.finish()

    def test_the_end_is_lost(self, world: World, asker: Asker) -> None:
        """FINs are repeated by either side, and the server answers from TIME_WAIT."""
        rules(
            world,
            Rule(to="server", do="drop", flags="F", times=2),
            Rule(to="client", do="drop", flags="F", times=2),
        )
        asker.ask(HIT)
        asker.finish()
        port = asker.port
        asker.sock.close()
        until(lambda: port not in remote_ports(world), "the server's side is gone")

    def test_the_server_ends_first_and_its_end_is_lost(self, world: World, asker: Asker) -> None:
        rules(world, Rule(to="client", do="drop", flags="F", times=2))
        asker.ask(HIT)
        asker.ask(LAST)
        asker.reader.expect_end()

    def test_keep_alive_probes(self, world: World, asker: Asker) -> None:
        """Of the client's TCP: one byte before what it has sent. They are answered, and the connection lives on."""
        asker.ask(HIT)
        rules(
            world, Rule(to="server", do="note", data=False, times=0), Rule(to="client", do="note", data=False, times=0)
        )
        for name, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
            asker.sock.setsockopt(socket.IPPROTO_TCP, name, value)
        asker.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        until(lambda: done(world, 1), "the probe is answered")
        assert done(world, 0) >= 1
        asker.ask(OTHER)
        asker.ask(MISS)
        asker.finish()

    def test_urgent_data(self, world: World, asker: Asker) -> None:
        """Not understood, so not touched: the server sees the byte in its place, as without the tier."""
        asker.ask(HIT)
        asker.sock.send(HIT.data[:1], socket.MSG_OOB)
        asker.sock.sendall(HIT.data)
        with Asker(world) as plain:
            plain.sock.send(HIT.data[:1], socket.MSG_OOB)
            plain.sock.sendall(HIT.data)
            assert asker.reader.response().stable_head == plain.reader.response().stable_head

    def test_a_window_that_closes_while_the_daemon_sends(self, world: World) -> None:
        """The server's TCP probes it, in numbers that the client knows."""
        rules(world)
        with Asker(world, receive_buffer=4096) as asker:
            asker.ask(HIT)
            asker.send(LARGE)
            assert world.lab.wire is not None
            wire = world.lab.wire
            until(lambda: any(" win 0 " in line for line in wire.log(asker.port)), "a window of 0")
            asker.receive(LARGE)
            asker.ask(HIT)
            asker.finish()


def remote_ports(world: World) -> set[int]:
    """Of the connections that the server's stack still has, those in TIME_WAIT not counted."""
    found = set()
    with world.lab.server:
        for name in ("tcp", "tcp6"):
            with open(f"/proc/thread-self/net/{name}") as file:
                for line in list(file)[1:]:
                    fields = line.split()
                    if fields[3] != "06":
                        found.add(int(fields[2].rpartition(":")[2], 16))
    return found
