# SPDX-License-Identifier: MIT
"""The signs of life that the programs ask for: a heartbeat, the offset of the wall clock, dates of the next seconds.

Without a beat for TUX_KERNEL_HEARTBEAT_NS (750 ms) the programs answer nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from tux.http.dates import format_date
from tux.kernel.btf import Layout

BEAT_SECONDS: Final = 0.25
"""Time between two beats."""

SILENT_NS: Final = 750_000_000
"""TUX_KERNEL_HEARTBEAT_NS."""

SECONDS_BEHIND: Final = 1
SECONDS_AHEAD: Final = 4
"""Dates are at hand for so many seconds around now: more than the programs go on without a beat."""

_NS: Final = 1_000_000_000


class Structs(Protocol):
    """The shared structs by name: `tux.kernel.btf.Layouts`."""

    def __getitem__(self, name: str, /) -> Layout: ...


def folded_sum(data: bytes | bytearray | memoryview) -> int:
    """The sum of RFC 1071 over the 16-bit words of `data` in the machine's order, a zero behind an odd end, folded to
    16 bits and not complemented."""
    whole = len(data) & ~1
    total = sum(memoryview(data)[:whole].cast("H"))
    if len(data) & 1:
        total += int.from_bytes(bytes((data[-1], 0)), "little" if _LITTLE else "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


_LITTLE: Final = memoryview(b"\1\0").cast("H")[0] == 1


def boot_ns() -> int:
    """CLOCK_BOOTTIME: the clock of everything that programs, engine and supervisor share."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def clocks() -> tuple[int, int]:
    """CLOCK_BOOTTIME and CLOCK_REALTIME, in ns. The second is read first: should this process lose the CPU between the
    two, then a Date is late by that, and never in the future."""
    wall = time.time_ns()
    return boot_ns(), wall


class Pulse:
    """Writes to the mapped areas of `control` and `dates`."""

    def __init__(
        self,
        layouts: Structs,
        control: memoryview,
        dates: memoryview,
        stride: int,
        *,
        clocks: Callable[[], tuple[int, int]] = clocks,
    ) -> None:
        """stride: bytes from one element of `dates` to the next. clocks: CLOCK_BOOTTIME and CLOCK_REALTIME, in ns."""
        self._control, self._dates, self._stride = control, dates, stride
        self._head, self._date = layouts["tux_kernel_control"], layouts["tux_kernel_date"]
        self._count = len(dates) // stride
        self._clocks = clocks

    def beat(self) -> None:
        """Once more, from now on."""
        boot, wall = self._clocks()
        for second in range(wall // _NS - SECONDS_BEHIND, wall // _NS + SECONDS_AHEAD + 1):
            self._set_date(second)
        self._head.write(self._control, "wall_ns", (wall - boot) & 0xFFFF_FFFF_FFFF_FFFF)
        self._head.write(self._control, "heartbeat_ns", boot)

    def _set_date(self, second: int) -> None:
        at = (second % self._count) * self._stride
        if self._date.read(self._dates, "second", at) == second:
            return
        text = format_date(second).encode()
        self._date.write(self._dates, "second", 0, at)
        self._date.write(self._dates, "text", text, at)
        self._date.write(self._dates, "sum", folded_sum(text), at)
        self._date.write(self._dates, "second", second, at)  # last: from here on it counts
