"""What commands that work for long have in common: how far they are, and what was counted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar


def bar(length: int, label: str, *, quiet: bool) -> ProgressBar[int]:
    """A bar on standard error, when that is a terminal."""
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=quiet or not sys.stderr.isatty())


def count(number: int, one: str, many: str) -> str:
    """ "1 copy", "2,000 copies"."""
    return f"{number:,} {one if number == 1 else many}"
