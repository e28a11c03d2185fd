# SPDX-License-Identifier: MIT
"""Which connections count, and which are handed to the program that frees them."""

from __future__ import annotations

from tests.unit.kernel.layout_header import layouts, states
from tux.kernel import sweep
from tux.kernel.sweep import Count, Pair, Sweep

LAYOUTS = layouts()
TUPLE, CONN = LAYOUTS["tux_kernel_tuple"], LAYOUTS["tux_kernel_conn"]
SECOND = 10**9
NOW = 1000 * SECOND
BOTH = sweep.CLIENT_FIN | sweep.SERVER_FIN


def conn(port: int, *, idle: int = 0, state: int = 1, d_in: int = 0, d_out: int = 0) -> Pair:
    """idle: seconds since its last packet."""
    value = CONN.pack(state=state, last_ns=NOW - idle * SECOND, d_in=d_in, d_out=d_out)
    return TUPLE.pack(remote_port=port), value


class Reaper:
    """In place of the program: remembers the ports of what it was given."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []

    def __call__(self, packet: bytes) -> int:
        assert packet.startswith(bytes(14))
        keys = packet[14:]
        assert len(keys) % TUPLE.size == 0
        found = [TUPLE.number(keys, "remote_port", at) for at in range(0, len(keys), TUPLE.size)]
        self.runs.append(found)
        return len(found)


def swept(*conns: Pair) -> tuple[Count, list[int]]:
    reaper = Reaper()
    count = Sweep([list(conns)], reaper, LAYOUTS, NOW).run()
    return count, [port for run in reaper.runs for port in run]


def test_counts() -> None:
    count, _ = swept(conn(1), conn(2, d_in=1), conn(3, d_out=1), conn(4, idle=60, d_in=5, d_out=7))
    assert count == Count(total=4, translated=3)
    assert swept() == (Count(0, 0), [])


def test_a_connection_that_is_in_use_is_left_alone() -> None:
    assert swept(conn(1), conn(2, idle=119, d_in=1), conn(3, state=1 | sweep.CLIENT_FIN, idle=119))[1] == []


def test_one_that_nobody_used_for_long_may_be_gone() -> None:
    assert swept(conn(1, idle=119), conn(2, idle=120), conn(3, idle=999, d_in=1)) == (Count(3, 1), [2, 3])


def test_a_pause_asks_for_those_that_were_never_answered() -> None:
    reaper = Reaper()
    conns = [conn(1), conn(2, d_in=1), conn(3, d_out=1), conn(4, state=1 | BOTH)]
    assert Sweep([conns], reaper, LAYOUTS, NOW, paused=True).run() == Count(total=4, translated=2)
    assert reaper.runs == [[1, 4]]


def test_one_whose_end_was_seen() -> None:
    """It counts for a second more: its last packets are still to be renumbered."""
    just, before = conn(1, state=1 | BOTH, d_in=1), conn(2, state=1 | BOTH, d_in=1, idle=1)
    assert swept(just, before) == (Count(2, 1), [2])


def test_one_that_was_reset() -> None:
    """A reset may be false: the connection counts until the program has freed it."""
    just, before = conn(1, state=1 | sweep.RESET, d_in=1), conn(2, state=1 | sweep.RESET, d_in=1, idle=1)
    assert swept(just, before) == (Count(2, 2), [2])


def test_a_packet_that_came_after_the_clock_was_read() -> None:
    assert swept(conn(1, idle=-5, d_in=1)) == (Count(1, 1), [])


def test_many_go_in_several_runs() -> None:
    reaper = Reaper()
    portions = [[conn(port, idle=500) for port in range(start, start + 40)] for start in (0, 40)]
    look = Sweep(portions, reaper, LAYOUTS, NOW)
    assert not look.step()
    assert [len(run) for run in reaper.runs] == [32, 8]
    assert look.count is None
    assert look.run() == Count(80, 0)
    assert [port for run in reaper.runs for port in run] == list(range(80))


def test_the_states_are_those_of_the_header() -> None:
    known = states()
    assert known["TUX_KERNEL_CLIENT_FIN"] == sweep.CLIENT_FIN
    assert known["TUX_KERNEL_SERVER_FIN"] == sweep.SERVER_FIN
    assert known["TUX_KERNEL_RESET"] == sweep.RESET
