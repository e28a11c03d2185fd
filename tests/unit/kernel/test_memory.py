# SPDX-License-Identifier: MIT
"""Rows of chunks: none is given out twice, none is lost, and what is free is found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux.kernel.memory import Chunks


def test_the_first_row_that_fits() -> None:
    chunks = Chunks(10)
    assert [chunks.take(3), chunks.take(2), chunks.take(5)] == [0, 3, 5]
    assert chunks.take(1) is None
    chunks.give(0)
    chunks.give(5)
    assert (chunks.take(4), chunks.take(2), chunks.used) == (5, 0, 8)


def test_rows_that_touch_are_one() -> None:
    chunks = Chunks(9)
    for first in (0, 3, 6):
        assert chunks.take(3) == first
    for first in (0, 6, 3):
        chunks.give(first)
    assert chunks.take(9) == 0


def test_what_makes_no_sense() -> None:
    chunks = Chunks(2)
    with pytest.raises(ValueError, match="a row of 0 chunks"):
        chunks.take(0)
    with pytest.raises(KeyError):
        chunks.give(0)
    chunks.take(2)
    with pytest.raises(KeyError):
        chunks.give(1)
    assert Chunks(0).take(1) is None


@given(st.integers(1, 40), st.lists(st.one_of(st.integers(1, 16), st.just(None)), max_size=80))
def test_against_a_map_of_all_chunks(count: int, steps: list[int | None]) -> None:
    """A number takes a row of so many; None gives one back."""
    chunks, owner = Chunks(count), [0] * count
    taken: dict[int, int] = {}
    for step in steps:
        if step is None:
            if taken:
                first = sorted(taken)[len(taken) // 2]
                owner[first : first + taken[first]] = [0] * taken[first]
                del taken[first]
                chunks.give(first)
        else:
            fits = next((i for i in range(count - step + 1) if not any(owner[i : i + step])), None)
            assert chunks.take(step) == fits
            if fits is not None:
                owner[fits : fits + step] = [1] * step
                taken[fits] = step
        assert chunks.used == sum(owner)
    for first in list(taken):
        chunks.give(first)
    assert chunks.take(count) == 0
