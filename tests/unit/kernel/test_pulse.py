# SPDX-License-Identifier: MIT
"""The heartbeat and the dates, as the programs read them."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kernel.layout_header import constants, layouts
from tux.http.dates import format_date
from tux.kernel.pulse import BEAT_SECONDS, SILENT_NS, Pulse, folded_sum

LAYOUTS = layouts()
CONTROL, DATE = LAYOUTS["tux_kernel_control"], LAYOUTS["tux_kernel_date"]
COUNT = constants()["TUX_KERNEL_DATES"]
NOW = 1_800_000_000


@given(st.binary(max_size=300))
def test_the_sum_is_that_of_rfc_1071(data: bytes) -> None:
    """Ones' complement addition: the sum modulo 65535, where zero is only the sum of zeros."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"={len(padded) // 2}H", padded))
    assert folded_sum(data) % 0xFFFF == total % 0xFFFF
    assert (folded_sum(data) == 0) is not any(data)
    assert folded_sum(data) <= 0xFFFF
    assert folded_sum(bytearray(data)) == folded_sum(memoryview(data)) == folded_sum(data)


class Areas:
    """Memory in place of the maps `control` and `dates`, and clocks that stand."""

    def __init__(self) -> None:
        self.control, self.dates = bytearray(CONTROL.size), bytearray(DATE.size * COUNT)
        self.boot, self.wall = 5_000, NOW * 10**9 + 7
        self.pulse = Pulse(
            LAYOUTS,
            memoryview(self.control),
            memoryview(self.dates),
            DATE.size,
            clocks=lambda: (self.boot, self.wall),
        )

    def date(self, second: int) -> dict[str, object]:
        return dict(DATE.unpack(self.dates, second % COUNT * DATE.size))


def test_a_beat() -> None:
    areas = Areas()
    areas.pulse.beat()
    assert CONTROL.read(areas.control, "heartbeat_ns") == 5_000
    assert CONTROL.read(areas.control, "wall_ns") == NOW * 10**9 + 7 - 5_000
    for second in range(NOW - 1, NOW + 5):
        text = format_date(second).encode()
        assert areas.date(second) == {"second": second, "sum": folded_sum(text), "text": text.ljust(36, b"\0")}
    assert areas.date(NOW + 5)["second"] == areas.date(NOW - 2)["second"] == 0


def test_dates_are_written_once() -> None:
    areas = Areas()
    areas.pulse.beat()
    DATE.write(areas.dates, "sum", 7, (NOW + 4) % COUNT * DATE.size)
    areas.wall += 10**9
    areas.pulse.beat()
    assert areas.date(NOW + 4)["sum"] == 7
    assert areas.date(NOW + 5)["second"] == NOW + 5


def test_a_wall_clock_before_the_machine_started() -> None:
    """A clock that was not set yet: the offset is modulo 2^64."""
    areas = Areas()
    areas.boot, areas.wall = 10 * 10**9, 3 * 10**9
    areas.pulse.beat()
    assert (areas.boot + int(CONTROL.number(areas.control, "wall_ns"))) % 2**64 == areas.wall


def test_beats_are_frequent_enough() -> None:
    """Two may be late before the programs go quiet."""
    assert constants()["TUX_KERNEL_HEARTBEAT_NS"] == SILENT_NS >= 3 * BEAT_SECONDS * 10**9
