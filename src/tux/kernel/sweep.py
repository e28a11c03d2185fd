# SPDX-License-Identifier: MIT
"""Looks through the connections that the programs know: counts them, and has those freed that are gone.

Only a program may free one: it decides under the connection's lock. So what looks gone here is handed to `tux_reap`
(bpf/reap.h), which looks again, also for a socket of the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from tux.kernel.pulse import Structs

CLIENT_FIN: Final = 2
SERVER_FIN: Final = 4
RESET: Final = 16
"""Of enum tux_kernel_state in bpf/conn.h; a test compares."""

ENDED_NS: Final = 10**9
"""A connection whose end was seen is freed so long after its last packet ..."""
IDLE_NS: Final = 120 * 10**9
"""... and one whose end nobody saw, so long."""

REAP_KEYS: Final = 32
"""Connections that one run of `tux_reap` looks at."""
REAP_HEADER: Final = bytes(14)
"""A test run wants an Ethernet header before them."""

PORTION: Final = 512
"""Connections that are looked at in one go: 2 ms."""

Pair = tuple[bytes, bytes]
"""struct tux_kernel_tuple and struct tux_kernel_conn."""


class Count(NamedTuple):
    """Connections that the programs know."""

    total: int
    translated: int
    """Those that need the programs: their numbers differ at both ends, and they have not ended yet."""


class Sweep:
    """One look at all of them, portion by portion."""

    def __init__(
        self,
        portions: Iterable[list[Pair]],
        reap: Callable[[bytes], object],
        layouts: Structs,
        now_ns: int,
        *,
        paused: bool = False,
    ) -> None:
        """portions: what is in the map `conns`. reap: runs `tux_reap` with this packet. now_ns: CLOCK_BOOTTIME. paused:
        what was never answered goes, too."""
        self._portions: Iterator[list[Pair]] = iter(portions)
        self._reap = reap
        self._conn = layouts["tux_kernel_conn"]
        self._now = now_ns
        self._paused = paused
        self._total = self._translated = 0
        self.count: Count | None = None
        """Set when it is complete."""

    def step(self) -> bool:
        """One portion; True: that was the last. OSError: the kernel refuses."""
        portion = next(self._portions, None)
        if portion is None:
            self.count = Count(self._total, self._translated)
            return True
        gone = [key for key, value in portion if self._look(value)]
        for start in range(0, len(gone), REAP_KEYS):
            self._reap(REAP_HEADER + b"".join(gone[start : start + REAP_KEYS]))
        return False

    def run(self) -> Count:
        """All that is left of it."""
        while not self.step():
            pass
        assert self.count is not None
        return self.count

    def _look(self, value: bytes) -> bool:
        """Count it. True: it may be gone, or nobody needs it."""
        number = self._conn.number
        state, last = number(value, "state"), number(value, "last_ns")
        closed = state & (CLIENT_FIN | SERVER_FIN) == CLIENT_FIN | SERVER_FIN
        idle = max(0, self._now - last)
        self._total += 1
        # After a reset it may live on: anybody can send one that the stack does not believe.
        answered = bool(number(value, "d_in") or number(value, "d_out"))
        if answered and not (closed and idle >= ENDED_NS):
            self._translated += 1
        if self._paused and not answered:
            return True
        return idle >= (ENDED_NS if closed or state & RESET else IDLE_NS)
