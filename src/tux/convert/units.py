"""Sizes and times as nginx writes them."""

from __future__ import annotations

import re
from typing import Final

_TIMES: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0, "M": 30 * 86400.0,
                 "y": 365 * 86400.0}  # fmt: skip
_SIZES: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_UNIT: Final = "(ms|[smhdwMy])"
_PART: Final = re.compile(rf"(\d+){_UNIT}?")
_TIME: Final = re.compile(rf"(?:\d+{_UNIT}\s*)*\d+{_UNIT}?")


class FormatError(ValueError):
    """This is no time, or no size."""


def seconds(text: str) -> float:
    """`75`, `1h 30m`, `500ms` -> seconds. FormatError."""
    if not _TIME.fullmatch(text):
        raise FormatError(f'expected a time, got "{text}"')
    return sum(int(number) * _TIMES[unit or "s"] for number, unit in _PART.findall(text))


def size_bytes(text: str) -> int:
    """`1024`, `8k`, `20m`, `1g` -> bytes. FormatError."""
    match = re.fullmatch(r"(\d+)([kmgKMG]?)", text)
    if match is None:
        raise FormatError(f'expected a size, got "{text}"')
    return int(match[1]) * _SIZES[match[2].lower()]
