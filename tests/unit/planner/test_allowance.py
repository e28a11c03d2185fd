"""Work that has a share of the time."""

from __future__ import annotations

import pytest

from tux.planner.allowance import PAUSE, Allowance, BusyError

BURST_NS = 250_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.mark.parametrize("takes_ns", [1_000_000, 20_000_000, BURST_NS, BURST_NS * 4])
def test_a_share_of_the_time_in_the_long_run(takes_ns: int) -> None:
    clock, done = Clock(), 0
    allowance = Allowance(BURST_NS, clock)
    for _ in range(100_000):
        try:
            with allowance.work(clock):
                clock.now_ns += takes_ns
                done += 1
        except BusyError:
            clock.now_ns += 1_000_000
    # What takes longer than a burst is paid for by as long a pause, and no longer one.
    share = max(1 / (1 + PAUSE), takes_ns / (takes_ns + BURST_NS * PAUSE))
    assert done * takes_ns <= clock.now_ns * share + 2 * BURST_NS + takes_ns
    assert done * takes_ns >= clock.now_ns * share * 0.9, "and no less"


def test_a_burst_at_once() -> None:
    clock = Clock()
    allowance = Allowance(BURST_NS, clock)
    clock.now_ns += 3600 * 10**9
    for _ in range(10):
        assert allowance.any_left()
        allowance.spend(BURST_NS // 10)
    assert not allowance.any_left()
    clock.now_ns += 2 * PAUSE
    assert allowance.any_left()


def test_what_fails_has_taken_its_time() -> None:
    clock = Clock()
    allowance = Allowance(BURST_NS, clock)

    def fail() -> None:
        with allowance.work(clock):
            allowance.spend(BURST_NS)
            raise OSError

    with pytest.raises(OSError):
        fail()
    with pytest.raises(BusyError):
        fail()
