"""What the schema says about a key beside its type."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

Unit: TypeAlias = Literal["seconds", "bytes"]
"""bytes: also strings like "64MiB" are accepted."""

MAX_SECONDS = 86400.0
"""Longest time that can be configured: a day. More is a mistake in the unit."""


class Doc(Struct, frozen=True):
    """What the reference says about a key, and the bounds of its value. In an Annotated type."""

    text: str
    ge: float | None = None
    le: float | None = None
    min_length: int | None = None
    unit: Unit | None = None
