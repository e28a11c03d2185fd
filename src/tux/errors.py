"""Errors that end a start with one clear line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

USAGE = 2
"""Exit code: the command line itself is wrong."""

FAILED = 1
"""Exit code: the command line is fine, but the start failed (port in use, unreadable file, bad configuration, ...)."""


class StartError(Exception):
    """Tux cannot start. `message` is one line for the user, without "tux: error:"; `exit_code` is the process's."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class Problem(NamedTuple):
    """One thing that is wrong in a configuration."""

    place: tuple[str | int, ...]
    """Keys and indexes from the top: ("site", 0, "root")."""
    message: str
    """What is wrong, in words: 'expected a string, got 3'."""
    where: str = ""
    """File and line, or the option, that says so: "tux.toml:12". Empty when not known."""
    at: tuple[str | int, ...] = ()
    """What to point at in the file, when that is not the place."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, place_text(self.place), self.message) if part)


def place_text(place: Sequence[str | int]) -> str:
    """A place in the notation of the documentation: `site[0].cache_control."*.html"`."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        name = part if part and all(c.isascii() and (c.isalnum() or c in "_-") for c in part) else quoted(part)
        text += f".{name}" if text else name
    return text


def shown(value: object) -> str:
    """A value as error messages show it: as in TOML, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value if len(value) <= 60 else value[:57] + "...")
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "an array"
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a huge number"
    if isinstance(value, float) and value.is_integer():
        return str(int(value)) if abs(value) < 10**20 else "a huge number"
    return str(value)


def quoted(text: str) -> str:
    """`text` in quotes, on one line whatever it holds."""
    return '"' + "".join(_escaped(c) for c in text) + '"'


def _escaped(c: str) -> str:
    return f"\\{c}" if c in '"\\' else c if c.isprintable() else ascii(c)[1:-1]


class ConfigError(StartError):
    """A configuration is not valid. `problems` has all that were found, in the order of the file; the message names the
    first, and how many more there are."""

    def __init__(self, problems: Sequence[Problem], exit_code: int = FAILED) -> None:
        if not problems:
            raise ValueError("a ConfigError needs a problem")
        more = len(problems) - 1
        hint = f" (and {more} more{'' if exit_code == USAGE else ', see `tux check`'})" if more else ""
        super().__init__(f"{problems[0]}{hint}", exit_code)
        self.problems = tuple(problems)
