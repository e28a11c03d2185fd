# SPDX-License-Identifier: MIT
"""Whether the tier is worth what it costs: `--kernel auto` leaves new connections alone while it answers too little.

Each connection that is taken up costs a little, and so does each request on it that is passed on. Where next to nothing
is answered, that is all there is. What counts is what was answered of all that arrived on connections that were taken
up; docs/decisions/011-kernel-tier.md has the figures behind the share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PERIOD_SECONDS: Final = 300.0
"""What is judged at once: long enough for all that is hot to be published, and for bursts not to count."""

MIN_REQUESTS: Final = 10_000
"""... with fewer requests nothing is said: what so few cost does not matter (33 a second)."""

MIN_SHARE: Final = 0.4
"""Of the requests. The tier is even somewhere between 50 and 75 % answered (bench/RESULTS.md, by share of misses)."""

PAUSE_SECONDS: Final = 1800.0
"""After this long it is tried again, for a period: what is asked for may be different then."""


@dataclass(frozen=True)
class Seen:
    """What arrived on connections that were taken up: since the start of the server, or between two moments."""

    answered: int
    passed: int

    @property
    def requests(self) -> int:
        return self.answered + self.passed

    def since(self, before: Seen) -> Seen:
        return Seen(self.answered - before.answered, self.passed - before.passed)

    @property
    def is_too_little(self) -> bool:
        """There is enough to judge, and it does not pay."""
        return self.requests >= MIN_REQUESTS and self.answered < MIN_SHARE * self.requests


class Worth:
    """Looked at now and then, with a clock in seconds."""

    def __init__(self, now: float) -> None:
        self.paused = False
        self._before = Seen(0, 0)
        self._until = now + PERIOD_SECONDS

    def is_due(self, now: float) -> bool:
        """A period, or a pause, is over: `look`."""
        return now >= self._until

    def look(self, now: float, seen: Seen) -> str:
        """Judge what is over, and set `paused`. Returns a line for the log where that changed, else ""."""
        period, self._before, self._until = seen.since(self._before), seen, now + PERIOD_SECONDS
        if self.paused:
            self.paused = False
            return "the kernel tier takes up new connections again, to see whether it pays now"
        if not period.is_too_little:
            return ""
        self.paused = True
        self._until = now + PAUSE_SECONDS
        return (
            f"the kernel tier answered {period.answered} of {period.requests} requests in the last "
            f"{PERIOD_SECONDS / 60:.0f} minutes, and costs more than it gives with less than {MIN_SHARE:.0%}: new "
            f"connections are left to the workers for {PAUSE_SECONDS / 60:.0f} minutes (--kernel on: always taken up)"
        )
