"""What was made, and is kept as long as there is room: what was used last stays longest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Values by their keys, of bounded cost. Used by one thread."""

    def __init__(self, most: int, cost: Callable[[V], int]) -> None:
        """most: of the sum of costs; the last value stays whatever its cost is."""
        self._values: OrderedDict[K, V] = OrderedDict()
        self._most = most
        self._cost = cost
        self.total = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        before = self._values.pop(key, None)
        if before is not None:
            self.total -= self._cost(before)
        self._values[key] = value
        self.total += self._cost(value)
        while self.total > self._most and len(self._values) > 1:
            _, old = self._values.popitem(last=False)
            self.total -= self._cost(old)
