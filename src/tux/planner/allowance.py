"""Work that is worth its time only as long as there is some: other requests wait for the planner meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAUSE = 3
"""For each second that is spent there are so many for others, in the long run."""


class BusyError(Exception):
    """There is no time for this now."""


class Allowance:
    """How much time may be spent: it grows as time passes, up to a burst. What was begun while something was left may
    overdraw it by as much again."""

    def __init__(self, burst_ns: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """clock: nanoseconds."""
        self._burst_ns = burst_ns
        self._clock = clock
        self._at = clock()
        self._left = burst_ns

    def any_left(self) -> bool:
        now = self._clock()
        self._left = min(self._left + (now - self._at) // PAUSE, self._burst_ns)
        self._at = now
        return self._left > 0

    @contextmanager
    def work(self, clock: Callable[[], int] = time.thread_time_ns) -> Iterator[None]:
        """What is done within takes of it, by this clock. BusyError: there is nothing left."""
        if not self.any_left():
            raise BusyError
        begun_ns = clock()
        try:
            yield
        finally:
            self.spend(clock() - begun_ns)

    def spend(self, ns: int) -> None:
        self._left = max(self._left - ns, -self._burst_ns)
        self._at = self._clock()  # it grows while others have their turn
