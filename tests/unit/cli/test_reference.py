"""docs/reference/command-line.md says what the commands say."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from tux.cli import reference
from tux.cli.group import COMMANDS, tux

PROJECT = Path(__file__).parents[3]
PAGE = PROJECT / "docs/reference/command-line.md"


def test_the_reference_is_what_the_commands_say() -> None:
    assert PAGE.read_text() == reference.markdown(), "run: python -m tux.cli.reference > docs/reference/command-line.md"


def _leaves(command: click.Command) -> list[click.Command]:
    if isinstance(command, click.Group):
        return [leaf for inner in command.commands.values() for leaf in _leaves(inner)]
    return [command]


def _options() -> list[str]:
    commands = [tux.get_command(click.Context(tux), name) for name in COMMANDS]
    parameters = [p for command in commands if command for leaf in _leaves(command) for p in leaf.params]
    return sorted({name for p in parameters if isinstance(p, click.Option) for name in (*p.opts, *p.secondary_opts)})


@pytest.mark.parametrize("option", _options())
def test_every_option_is_in_the_reference_and_in_a_test(option: str) -> None:
    names = ("test_serve.py", "test_check.py", "test_compress.py", "test_warm.py", "test_convert.py", "test_kernel.py")
    assert any(f'"{option}"' in (Path(__file__).parent / name).read_text() for name in names)
    assert option in PAGE.read_text()
