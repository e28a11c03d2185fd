"""The command line: one file per command, and `group.py`, which holds them together."""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """The program `tux`; `python -m tux` is the same."""
    from tux.cli.group import tux

    tux.main(prog_name="tux")
