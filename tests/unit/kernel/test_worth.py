# SPDX-License-Identifier: MIT
"""When `--kernel auto` takes up no connections: judged by what was answered, on a clock of the test's own."""

from __future__ import annotations

import pytest

from tux.kernel.worth import MIN_REQUESTS, MIN_SHARE, PAUSE_SECONDS, PERIOD_SECONDS, Seen, Worth

LITTLE = int(MIN_REQUESTS * MIN_SHARE) - 1


class Clock:
    """Looks as the supervisor does: often, and only what is due is judged."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.worth = Worth(self.now)
        self.seen = Seen(0, 0)

    def after(self, seconds: float, answered: int = 0, passed: int = 0) -> str:
        """So much later, with so many requests more: what is said."""
        self.now += seconds
        self.seen = Seen(self.seen.answered + answered, self.seen.passed + passed)
        return self.worth.look(self.now, self.seen) if self.worth.is_due(self.now) else ""


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_it_is_not_judged_before_a_period_is_over(clock: Clock) -> None:
    assert clock.after(PERIOD_SECONDS - 1, 0, 10 * MIN_REQUESTS) == ""
    assert not clock.worth.paused
    assert clock.after(1)
    assert clock.worth.paused


@pytest.mark.parametrize(
    ("answered", "passed", "paused"),
    [
        (LITTLE, MIN_REQUESTS - LITTLE, True),
        (LITTLE + 1, MIN_REQUESTS - LITTLE - 1, False),
        (0, MIN_REQUESTS, True),
        (0, MIN_REQUESTS - 1, False),
        (0, 0, False),
        (10 * MIN_REQUESTS, 0, False),
    ],
    ids=["under the share", "the share", "nothing answered", "too few to judge", "nobody asks", "all answered"],
)
def test_what_pays(clock: Clock, answered: int, passed: int, paused: bool) -> None:
    said = clock.after(PERIOD_SECONDS, answered, passed)
    assert (clock.worth.paused, bool(said)) == (paused, paused)


def test_the_line_says_why(clock: Clock) -> None:
    assert clock.after(PERIOD_SECONDS, 3, 20_000) == (
        "the kernel tier answered 3 of 20003 requests in the last 5 minutes, and costs more than it gives with less "
        f"than {MIN_SHARE:.0%}: new connections are left to the workers for 30 minutes (--kernel on: always taken up)"
    )


def test_each_period_is_judged_by_itself(clock: Clock) -> None:
    """What was answered before does not count."""
    assert not clock.after(PERIOD_SECONDS, 100 * MIN_REQUESTS, 0)
    assert clock.after(PERIOD_SECONDS, 0, MIN_REQUESTS)


def test_it_is_tried_again(clock: Clock) -> None:
    clock.after(PERIOD_SECONDS, 0, MIN_REQUESTS)
    assert not clock.after(PAUSE_SECONDS - 1)
    assert clock.worth.paused
    assert "again" in clock.after(1)
    assert not clock.worth.paused


def test_connections_that_go_on_during_a_pause_do_not_end_it(clock: Clock) -> None:
    """Nor does what passed on them count in the period after it."""
    clock.after(PERIOD_SECONDS, 0, MIN_REQUESTS)
    clock.after(PAUSE_SECONDS, 0, 100 * MIN_REQUESTS)
    assert not clock.worth.paused
    assert not clock.after(PERIOD_SECONDS, MIN_REQUESTS, 0)
    assert not clock.worth.paused


def test_it_pauses_again_if_that_changes_nothing(clock: Clock) -> None:
    clock.after(PERIOD_SECONDS, 0, MIN_REQUESTS)
    clock.after(PAUSE_SECONDS)
    assert clock.after(PERIOD_SECONDS, 0, MIN_REQUESTS)
    assert clock.worth.paused


def test_a_supervisor_that_slept_judges_once(clock: Clock) -> None:
    assert clock.after(10 * PERIOD_SECONDS, 0, MIN_REQUESTS)
    assert not clock.after(1, 0, 10 * MIN_REQUESTS)
