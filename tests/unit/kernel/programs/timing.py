# SPDX-License-Identifier: MIT
"""How long the programs take for a packet, from the same tables as the tests:

    sudo python -m tests.unit.kernel.programs.timing

Times are what the kernel measures around the program alone (BPF_PROG_TEST_RUN): no network card, no stack. A packet
that the programs leave alone is run a million times over. One that they alter, or that changes its connection, is run
once and all is put back, many times; the median is told. What a run takes that does nothing is told first, by both
ways; `net ns` is without it. A single run finds less in the caches, too.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.unit.kernel.programs import answer_cases, egress_cases, loss_cases, pass_cases
from tests.unit.kernel.programs.cases import PAGES, Case, arrange, at_rest
from tests.unit.kernel.programs.rig import Rig
from tux.kernel import load, sys_bpf

REPEAT: Final = 1_000_000
SINGLE: Final = 2_000

FOREIGN: Final = "a packet of another port, both programs"

UNTOUCHED: Final = {
    FOREIGN: ("not ours: another port", "egress: not ours: another port"),
    "a packet of another port, IPv6, in": ("not ours: another port, IPv6",),
    "our port, no entry, in": ("not ours: a connection without an entry",),
    "our port, no entry, out": ("egress: not ours: no entry",),
    "our port, no entry, at rest, both programs": (
        "at rest: not ours: a connection without an entry",
        "at rest: egress: not ours: no entry",
    ),
    "a fragment, in": ("not ours: a first fragment",),
}
"""Rows of packets that may be run over and over: the cases whose times are added."""

NOTHING: Final = ("nothing, over and over", "nothing, once")

ALTERED: Final = {
    "answer of 120 bytes": "answer: small, IPv4 with timestamps",
    "answer of 1 KiB": "answer: kilo, IPv4 with timestamps",
    "answer of 1 KiB, IPv6": "answer: kilo, IPv6 with timestamps",
    "answer of 1 KiB, no timestamps": "answer: kilo, IPv4",
    "answer of 10 KiB": "answer: three, IPv4 with timestamps",
    "answer of 15.5 KiB": "answer: largest, IPv4 with timestamps",
    "answer, and the stack hears of it": "answer: the stack hears what it acknowledges, IPv4 with timestamps",
    "answer, again": "again: IPv4 with timestamps",
    "acknowledgement, translated in": "translate: an acknowledgement, IPv4 with timestamps",
    "acknowledgement, translated out": "egress: translate: an acknowledgement, IPv4 with timestamps",
    "1,400 bytes, translated out": "egress: translate: data, IPv4 with timestamps",
    "acknowledgement, no answer yet": "no answer yet: an acknowledgement is left alone",
    "miss, the key is not known": "unknown: another head",
    "miss, 2 KiB": "unknown: as many bytes as a head may have",
    "miss, the worker is at it": "busy: the worker is at it",
}
"""Rows of packets that need their world made anew each time."""


class Row(NamedTuple):
    name: str
    ns: float
    """As the kernel measured it."""
    net: float
    """The same, less what nothing takes."""
    runs: int


def cases() -> dict[str, Case]:
    """All cases by name; those of the egress program with its name in front."""
    found = {case.name: case for table in (answer_cases, pass_cases, loss_cases) for case in table.all_cases()}
    found |= {f"egress: {case.name}": case for case in egress_cases.all_cases()}
    return found | {f"at rest: {name}": at_rest(case) for name, case in found.items()}


def measure(rig: Rig, *, repeat: int = REPEAT, single: int = SINGLE) -> Iterator[Row]:
    """All rows."""
    known = cases()
    frame = known["not ours: another port"].frame
    nothing = sys_bpf.prog_load(sys_bpf.SCHED_CLS, load.NOTHING, name="nothing")
    with sys_bpf.closing(nothing):
        over = rig.repeat(nothing, frame, repeat)
        once = statistics.median(rig.run(nothing, frame).duration_ns for _ in range(single))
    yield Row(NOTHING[0], over, 0, repeat)
    yield Row(NOTHING[1], once, 0, single)
    for name, parts in UNTOUCHED.items():
        total = 0
        for part in parts:
            arrange(rig, known[part])
            total += rig.repeat(known[part].program, known[part].frame, repeat)
        yield Row(name, total, total - over * len(parts), repeat)
    for name, part in ALTERED.items():
        ns = statistics.median(_single(rig, known[part], single))
        yield Row(name, ns, ns - once, single)


def _single(rig: Rig, case: Case, runs: int) -> Iterator[int]:
    arrange(rig, case)
    for _ in range(runs):
        if case.conn is not None:
            rig.set_conn(case.entry_key, case.conn)
        done = rig.run(case.program, case.frame)
        assert (done.verdict, done.counts) == (case.verdict, dict(case.counts))
        yield done.duration_ns


def main() -> int:
    reason = load.can_load()
    if reason:
        print(reason, file=sys.stderr)
        return 1
    rig = Rig()
    try:
        for page in PAGES.values():
            rig.publish(page)
        print(f"{'packet':<45} {'ns':>8} {'net ns':>8} {'runs':>9}")
        for row in measure(rig):
            print(f"{row.name:<45} {row.ns:>8,.0f} {row.net:>8,.0f} {row.runs:>9,}", flush=True)
    finally:
        rig.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
