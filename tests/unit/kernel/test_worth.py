# SPDX-License-Identifier: MIT
"""When `--kernel auto` takes up no connections: judged by what was answered, on a clock of the test's own."""

from __future__ import annotations

import pytest

from tests.unit.kernel.layout_header import pauses
from tux.kernel import worth
from tux.kernel.worth import (
    GLANCE_SECONDS,
    GLANCES,
    HOPELESS_SHARE,
    MIN_REQUESTS,
    MIN_SHARE,
    PAUSE_SECONDS,
    PERIOD_SECONDS,
    SHORT_PAUSE_SECONDS,
    Seen,
    Worth,
)

LITTLE = int(MIN_REQUESTS * MIN_SHARE) - 1
HARDLY = int(MIN_REQUESTS * HOPELESS_SHARE)
"""Of MIN_REQUESTS: as many as are not hopeless."""
ONCE = int(MIN_REQUESTS * (1 - MIN_SHARE)) + 1
"""Connections with one request, of MIN_REQUESTS: so many are hopeless."""


class Clock:
    """Looks as the supervisor does: often, and only what is due is judged."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.worth = Worth(self.now)
        self.seen = Seen(0, 0)

    def after(self, seconds: float, answered: int = 0, passed: int = 0, *, first: int = 0, closed: int = 0) -> str:
        """So much later, with so many requests more: what is said."""
        self.now += seconds
        before = self.seen
        self.seen = Seen(
            before.answered + answered, before.passed + passed, before.first + first, before.closed + closed
        )
        return self.worth.look(self.now, self.seen) if self.worth.is_due(self.now) else ""

    def glance(self, *, first: int = 0, closed: int = 0, answered: int = 0) -> str:
        """The time of one, with just enough requests."""
        return self.after(GLANCE_SECONDS, answered, MIN_REQUESTS - answered, first=first, closed=closed)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_words_are_those_of_the_header() -> None:
    assert pauses() == {f"TUX_KERNEL_{name}": getattr(worth, name) for name in ("TAKING", "PAUSED", "RESTING")}


class TestPeriod:
    """What all that is hot being published has come to."""

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
    def test_what_pays(self, clock: Clock, answered: int, passed: int, paused: bool) -> None:
        said = clock.after(PERIOD_SECONDS, answered, passed)
        assert (clock.worth.paused, bool(said)) == (paused, paused)

    def test_it_is_not_judged_before_it_is_over(self, clock: Clock) -> None:
        assert clock.after(PERIOD_SECONDS - 1, HARDLY, MIN_REQUESTS - HARDLY) == ""
        assert not clock.worth.paused
        assert clock.after(1)
        assert clock.worth.paused

    def test_the_line_says_why(self, clock: Clock) -> None:
        assert clock.after(PERIOD_SECONDS, 3, 20_000) == (
            "the kernel tier answered 3 of 20003 requests in the last 5 minutes, and costs more than it gives with "
            f"less than {MIN_SHARE:.0%}: new connections are left to the workers for 30 minutes "
            "(--kernel on: always taken up)"
        )

    def test_each_is_judged_by_itself(self, clock: Clock) -> None:
        """What was answered before does not count."""
        assert not clock.after(PERIOD_SECONDS, 100 * MIN_REQUESTS, 0)
        assert clock.after(PERIOD_SECONDS, 0, MIN_REQUESTS)

    def test_it_is_tried_again(self, clock: Clock) -> None:
        clock.after(PERIOD_SECONDS, 0, MIN_REQUESTS)
        assert not clock.after(PAUSE_SECONDS - 1)
        assert clock.worth.paused
        assert "again" in clock.after(1)
        assert not clock.worth.paused

    def test_connections_that_go_on_during_a_pause_do_not_end_it(self, clock: Clock) -> None:
        """Nor does what passed on them count in the period after it."""
        clock.after(PERIOD_SECONDS, 0, MIN_REQUESTS)
        clock.after(PAUSE_SECONDS, 0, 100 * MIN_REQUESTS)
        assert not clock.worth.paused
        assert not clock.after(PERIOD_SECONDS, MIN_REQUESTS, 0)
        assert not clock.worth.paused

    def test_it_pauses_again_if_that_changes_nothing(self, clock: Clock) -> None:
        clock.after(PERIOD_SECONDS, 0, MIN_REQUESTS)
        clock.after(PAUSE_SECONDS)
        assert clock.after(PERIOD_SECONDS, 0, MIN_REQUESTS)
        assert clock.worth.paused

    def test_a_supervisor_that_slept_judges_once(self, clock: Clock) -> None:
        assert clock.after(10 * PERIOD_SECONDS, 0, MIN_REQUESTS)
        assert not clock.after(1, 0, 10 * MIN_REQUESTS)


class TestGlances:
    """What cannot become better is not waited for."""

    @pytest.mark.parametrize(
        ("seen", "hopeless"),
        [
            ({"first": ONCE, "closed": ONCE, "answered": HARDLY}, True),
            ({"first": ONCE - 1, "closed": ONCE - 1, "answered": HARDLY}, False),
            ({"first": MIN_REQUESTS, "closed": 0, "answered": HARDLY}, False),
            ({"first": 0, "closed": MIN_REQUESTS, "answered": HARDLY}, False),
            ({"answered": HARDLY - 1}, True),
            ({"answered": HARDLY}, False),
        ],
        ids=[
            "connections with one request",
            "enough with more",
            "clients that come, and stay",
            "clients that go, and asked before",
            "hardly anything answered",
            "something answered",
        ],
    )
    def test_what_is_hopeless(self, clock: Clock, seen: dict[str, int], hopeless: bool) -> None:
        said = [clock.glance(**seen) for _ in range(GLANCES)]
        assert [bool(line) for line in said] == [False] * (GLANCES - 1) + [hopeless]
        assert clock.worth.paused == hopeless

    def test_the_line_says_why(self, clock: Clock) -> None:
        said = [clock.glance(first=9_900, closed=9_950) for _ in range(GLANCES)]
        assert said[-1] == (
            "the kernel tier answered 0 of 20000 requests in the last 10 seconds, and can answer 200 of these at best, "
            "since most connections end after one or two: new connections are left to the workers for 5 minutes "
            "(--kernel on: always taken up)"
        )

    def test_the_line_says_that_there_is_no_reason_to_hope(self, clock: Clock) -> None:
        said = [clock.glance(answered=7) for _ in range(GLANCES)]
        assert said[-1] == (
            "the kernel tier answered 14 of 20000 requests in the last 10 seconds, and nothing says that it will be "
            "more: new connections are left to the workers for 5 minutes (--kernel on: always taken up)"
        )

    def test_one_between_them_begins_anew(self, clock: Clock) -> None:
        for _ in range(10):
            for _ in range(GLANCES - 1):
                assert not clock.glance()
            assert not clock.glance(answered=HARDLY)
        assert not clock.worth.paused

    def test_one_goes_on_until_it_has_enough(self, clock: Clock) -> None:
        for _ in range(2 * GLANCES - 1):
            assert not clock.after(GLANCE_SECONDS, 0, MIN_REQUESTS // 2)
        said = clock.after(GLANCE_SECONDS, 0, MIN_REQUESTS // 2)
        assert f"0 of {GLANCES * MIN_REQUESTS} requests in the last {2 * GLANCES * GLANCE_SECONDS:.0f} seconds" in said

    def test_it_is_not_due_sooner(self, clock: Clock) -> None:
        for _ in range(100):
            assert not clock.after(GLANCE_SECONDS / 100, 0, MIN_REQUESTS)
        assert not clock.worth.paused

    def test_the_period_goes_on(self, clock: Clock) -> None:
        """Glances that find hope do not put its end off."""
        count = int(PERIOD_SECONDS / GLANCE_SECONDS)
        assert [bool(clock.glance(answered=LITTLE)) for _ in range(count)] == [False] * (count - 1) + [True]
        assert not clock.after(PAUSE_SECONDS - 1)

    def test_it_is_tried_again_soon(self, clock: Clock) -> None:
        for _ in range(GLANCES):
            clock.glance()
        assert not clock.after(SHORT_PAUSE_SECONDS - 1, 0, MIN_REQUESTS)
        assert "again" in clock.after(1, 0, MIN_REQUESTS)
        assert not clock.worth.paused
        assert [bool(clock.glance()) for _ in range(GLANCES)] == [False] * (GLANCES - 1) + [True]
