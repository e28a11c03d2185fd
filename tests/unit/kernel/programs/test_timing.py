# SPDX-License-Identifier: MIT
"""The table of times can be made, and nothing in it is out of all proportion. (The bounds hold on a busy machine too;
what the programs really take is in the table.)"""

from __future__ import annotations

from tests.unit.kernel.programs import timing
from tests.unit.kernel.programs.rig import Rig


def test_nothing_takes_far_too_long(rig: Rig) -> None:
    rows = {row.name: row.ns for row in timing.measure(rig, repeat=100_000, single=50)}
    assert list(rows) == [*timing.NOTHING, *timing.UNTOUCHED, *timing.ALTERED]
    # The aim is 50 ns for both programs together.
    assert 0 < rows[timing.FOREIGN] < 500
    assert all(0 < rows[name] < 5_000 for name in timing.UNTOUCHED)
    assert all(0 < rows[name] < 100_000 for name in timing.ALTERED)
