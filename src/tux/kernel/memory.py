# SPDX-License-Identifier: MIT
"""Which chunks of the answers' memory are taken. Pure: the memory itself is a map of the kernel (tier.py)."""

from __future__ import annotations

from bisect import bisect_left


class Chunks:
    """Rows of chunks, given out where they fit first. Free rows that touch are one row again."""

    def __init__(self, count: int) -> None:
        """All of `count` chunks are free."""
        self.count = count
        self._free: list[tuple[int, int]] = [(0, count)] if count > 0 else []
        """First chunk and number of chunks of each free row, in order, never touching."""
        self._taken: dict[int, int] = {}

    @property
    def used(self) -> int:
        """Chunks that are taken."""
        return sum(self._taken.values())

    def take(self, length: int) -> int | None:
        """The first of `length` chunks in a row; None when there is no such row. ValueError: less than one."""
        if length < 1:
            raise ValueError(f"a row of {length} chunks")
        for index, (first, free) in enumerate(self._free):
            if free < length:
                continue
            if free == length:
                del self._free[index]
            else:
                self._free[index] = (first + length, free - length)
            self._taken[first] = length
            return first
        return None

    def give(self, first: int) -> None:
        """The row that begins there is free again. KeyError: none that was taken does."""
        length = self._taken.pop(first)
        index = bisect_left(self._free, (first, 0))
        if index < len(self._free) and self._free[index][0] == first + length:
            length += self._free.pop(index)[1]
        if index > 0 and sum(self._free[index - 1]) == first:
            first, before = self._free.pop(index - 1)
            length += before
            index -= 1
        self._free.insert(index, (first, length))
