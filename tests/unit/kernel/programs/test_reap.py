# SPDX-License-Identifier: MIT
"""Freeing entries of connections that are gone."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from tests.unit.kernel.programs.cases import CLIENT, CLIENT6, SERVER, SERVER6, State, fresh, used
from tests.unit.kernel.programs.rig import PORT, Rig, tuple_of
from tux.kernel.worth import PAUSED, TAKING

SECOND = 10**9
BOTH = State.CLIENT_FIN | State.SERVER_FIN


def key(number: int = 0, *, v6: bool = False) -> bytes:
    """Of a connection that has no socket."""
    return tuple_of(SERVER6 if v6 else SERVER, CLIENT6 if v6 else CLIENT, PORT, 1024 + number)


def reap(rig: Rig, *keys: bytes, tail: bytes = b"") -> tuple[int, int]:
    """How many entries the program says that it freed, and how many it counted. The packet stays as it is."""
    packet = bytes(14) + b"".join(keys) + tail
    done = rig.run("reap", packet, beat=False)
    assert done.data == packet
    return done.verdict, done.counts.pop("closed", 0)


def left(rig: Rig, keys: Sequence[bytes]) -> list[bool]:
    return [rig.conn(each) is not None for each in keys]


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("state", "idle_seconds", "freed"),
    [
        (State(0), 119, False),
        (State(0), 121, True),
        (State.ANSWERED | State.PENDING, 119, False),
        (State.ANSWERED | State.PENDING, 121, True),
        (BOTH, 0.9, False),
        (BOTH, 1.1, True),
        (State.CLIENT_FIN, 119, False),
        (State.SERVER_FIN, 119, False),
        (State.RESET, 0.9, False),
        (State.RESET, 1.1, True),
        (State.DEAD, 200, False),
    ],
    ids=str,
)
def test_by_age(rig: Rig, state: State, idle_seconds: float, freed: bool, v6: bool) -> None:
    """A connection whose end was seen is kept for a second, another for two minutes. A dead entry is deleted by whoever
    made it dead."""
    rig.reset()
    rig.set_conn(key(v6=v6), fresh(v6=v6, state=state, last_ns=-int(idle_seconds * SECOND)))
    before = rig.conn(key(v6=v6))
    assert reap(rig, key(v6=v6)) == (freed, freed)
    assert rig.conn(key(v6=v6)) == (None if freed else before)


@pytest.mark.parametrize("paused", [TAKING, PAUSED], ids=["no pause", "a pause"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("answered", [False, True], ids=["never answered", "answered"])
def test_in_a_pause(rig: Rig, host: str, paused: int, answered: bool) -> None:
    """What was never answered goes, though its socket is there: to the stack it is the same without the programs."""
    rig.reset()
    rig.write("control", paused=paused)
    v6 = ":" in host
    with rig.connected(host) as (_, name):
        rig.set_conn(name, used(v6=v6) if answered else fresh(v6=v6))
        freed = paused == PAUSED and not answered
        assert reap(rig, name) == (freed, freed)
        assert (rig.conn(name) is None) == freed


def test_a_pause_leaves_dead_entries_to_whoever_made_them_dead(rig: Rig) -> None:
    rig.reset()
    rig.write("control", paused=PAUSED)
    rig.set_conn(key(), fresh(state=State.DEAD))
    rig.set_conn(key(1), fresh(), of=key(2))
    assert reap(rig, key(), key(1)) == (0, 0)
    assert left(rig, [key(), key(1)]) == [True, True]


def test_a_packet_came_after_the_clock_was_read(rig: Rig) -> None:
    rig.reset()
    rig.set_conn(key(), fresh(last_ns=2**62))
    assert reap(rig, key()) == (0, 0)
    assert rig.conn(key()) is not None


def test_the_entry_became_another_ones(rig: Rig) -> None:
    rig.reset()
    rig.set_conn(key(), fresh(last_ns=-200 * SECOND), of=key(1))
    assert reap(rig, key()) == (0, 0)
    assert rig.conn(key()) is not None


def test_no_entry(rig: Rig) -> None:
    rig.reset()
    assert reap(rig, key()) == (0, 0)


def test_only_those_that_are_named(rig: Rig) -> None:
    rig.reset()
    keys = [key(number) for number in range(4)]
    for each in keys:
        rig.set_conn(each, used(last_ns=-200 * SECOND))
    assert reap(rig, keys[1], keys[3]) == (2, 2)
    assert left(rig, keys) == [True, False, True, False]


def test_thirty_two_a_run(rig: Rig) -> None:
    rig.reset()
    keys = [key(number) for number in range(34)]
    for each in keys:
        rig.set_conn(each, fresh(last_ns=-200 * SECOND))
    assert reap(rig, *keys) == (32, 32)
    assert left(rig, keys) == [False] * 32 + [True] * 2


def test_half_a_key_at_the_end(rig: Rig) -> None:
    rig.reset()
    keys = [key(number) for number in range(2)]
    for each in keys:
        rig.set_conn(each, fresh(last_ns=-200 * SECOND))
    assert reap(rig, keys[0], tail=keys[1][:-1]) == (1, 1)
    assert left(rig, keys) == [False, True]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_that_is_only_quiet(rig: Rig, host: str) -> None:
    """The stack has its socket: it is never forgotten, however long nothing was heard of it."""
    rig.reset()
    with rig.connected(host) as (client, name):
        rig.set_conn(name, used(last_ns=-200 * SECOND))
        assert reap(rig, name) == (0, 0)
        assert rig.conn(name) is not None
        # A reset ends both sockets at once.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        client.close()
        assert reap(rig, name) == (1, 1)
        assert rig.conn(name) is None


def test_a_listener_of_the_same_port(rig: Rig) -> None:
    """It would take the packet, but the connection is gone."""
    rig.reset()
    with rig.space, socket.create_server(("127.0.0.1", 0)) as listener:
        name = tuple_of("127.0.0.1", "127.0.0.2", listener.getsockname()[1], 1024)
        rig.set_conn(name, fresh(last_ns=-200 * SECOND))
        assert reap(rig, name) == (1, 1)
