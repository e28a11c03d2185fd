# SPDX-License-Identifier: MIT
"""Whether the tier is worth what it costs: `--kernel auto` leaves new connections alone while it answers too little.

Each connection that is taken up costs a little, and so does each request on it that is passed on. Where next to nothing
is answered, that is all there is. What counts is what was answered of all that arrived on connections that were taken
up; docs/decisions/011-kernel-tier.md has the figures behind the share.

It is judged in two ways: soon, where it cannot become better, and after a period of all that is hot being published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TAKING: Final = 0
PAUSED: Final = 1
RESTING: Final = 2
"""Of enum tux_kernel_pause in bpf/layout.h; a test compares."""

PERIOD_SECONDS: Final = 300.0
"""What is judged at once: long enough for all that is hot to be published, and for bursts not to count."""

MIN_REQUESTS: Final = 10_000
"""... with fewer requests nothing is said: what so few cost does not matter (33 a second)."""

MIN_SHARE: Final = 0.6
"""Of the requests. With half of them answered the tier costs a seventh more than it gives, with three quarters it pays
(bench/RESULTS.md, by share of misses): it is even at some 65 %."""

PAUSE_SECONDS: Final = 1800.0
"""After this long it is tried again, for a period: what is asked for may be different then."""

GLANCE_SECONDS: Final = 5.0
"""Between two looks for what cannot become better; each has MIN_REQUESTS, too."""

GLANCES: Final = 2
"""So many in a row must say so: all clients that come back at once after a restart are no reason."""

HOPELESS_SHARE: Final = 0.01
"""Of the requests. After the first glance everything that is asked for often is published: if less than this is
answered in the second, next to nothing of it fits."""

SHORT_PAUSE_SECONDS: Final = 300.0
"""After a judgement of some 10 s it is tried again so soon: it costs a thirtieth of the time."""


@dataclass(frozen=True)
class Seen:
    """What arrived on connections that were taken up: since the start of the server, or between two moments."""

    answered: int
    passed: int
    first: int = 0
    """Of those that were passed: the first of its connection, which always is."""
    closed: int = 0
    """Connections that have ended."""

    @property
    def requests(self) -> int:
        return self.answered + self.passed

    def since(self, before: Seen) -> Seen:
        return Seen(
            self.answered - before.answered,
            self.passed - before.passed,
            self.first - before.first,
            self.closed - before.closed,
        )

    @property
    def is_enough(self) -> bool:
        """To judge."""
        return self.requests >= MIN_REQUESTS

    @property
    def is_too_little(self) -> bool:
        """There is enough to judge, and it does not pay."""
        return self.is_enough and self.answered < MIN_SHARE * self.requests

    @property
    def at_best(self) -> int:
        """Requests that could have been answered, were everything published. First requests count as lost only where a
        connection has ended: those of clients that have just come, and stay, say nothing about what follows."""
        return self.requests - min(self.first, self.closed)

    @property
    def is_hopeless(self) -> bool:
        """There is enough to judge, and it cannot pay, or looks as if it never would."""
        return self.is_enough and (
            self.at_best < MIN_SHARE * self.requests or self.answered < HOPELESS_SHARE * self.requests
        )


class Worth:
    """Looked at now and then, with a clock in seconds."""

    def __init__(self, now: float) -> None:
        self.paused = False
        self._start(now, Seen(0, 0))

    def _start(self, now: float, seen: Seen) -> None:
        """A period begins."""
        self._period_end = now + PERIOD_SECONDS
        self._before = self._before_glance = seen
        self._begin_row(now, seen)
        self._until = now + GLANCE_SECONDS

    def _begin_row(self, now: float, seen: Seen) -> None:
        """What comes may be the first of glances without hope."""
        self._hopeless, self._row_begin, self._before_row = 0, now, seen

    def is_due(self, now: float) -> bool:
        """It is time to `look`."""
        return now >= self._until

    def look(self, now: float, seen: Seen) -> str:
        """Judge what is over, and set `paused`. Returns a line for the log where that changed, else ""."""
        if self.paused:
            self.paused = False
            self._start(now, seen)
            return "the kernel tier takes up new connections again, to see whether it pays now"
        return self._judge_period(now, seen) if now >= self._period_end else self._glance(now, seen)

    def _judge_period(self, now: float, seen: Seen) -> str:
        period = seen.since(self._before)
        self._start(now, seen)
        if not period.is_too_little:
            return ""
        why = f"and costs more than it gives with less than {MIN_SHARE:.0%}"
        return self._pause(now, period, f"{PERIOD_SECONDS / 60:.0f} minutes", why, PAUSE_SECONDS)

    def _glance(self, now: float, seen: Seen) -> str:
        self._until = min(now + GLANCE_SECONDS, self._period_end)
        glance = seen.since(self._before_glance)
        if not glance.is_enough:
            return ""  # it goes on
        self._before_glance = seen
        if not glance.is_hopeless:
            self._begin_row(now, seen)
            return ""
        self._hopeless += 1
        if self._hopeless < GLANCES:
            return ""
        row, seconds = seen.since(self._before_row), now - self._row_begin
        why = "and nothing says that it will be more"
        if row.at_best < MIN_SHARE * row.requests:
            why = f"and can answer {row.at_best} of these at best, since most connections end after one or two"
        return self._pause(now, row, f"{seconds:.0f} seconds", why, SHORT_PAUSE_SECONDS)

    def _pause(self, now: float, seen: Seen, time: str, why: str, seconds: float) -> str:
        self.paused = True
        self._until = now + seconds
        return (
            f"the kernel tier answered {seen.answered} of {seen.requests} requests in the last {time}, {why}: new "
            f"connections are left to the workers for {seconds / 60:.0f} minutes (--kernel on: always taken up)"
        )
