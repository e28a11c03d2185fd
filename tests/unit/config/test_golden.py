"""Golden files: a configuration, a line of dashes, and what becomes of it: the effective configuration, or the errors.

TUX_WRITE_GOLDEN=1 writes the second halves anew; the difference is then to be read like any other change.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tux.config import emit, load
from tux.errors import ConfigError

FOLDER = Path(__file__).parent / "golden"
LINE = "\n----------\n"
CASES = sorted(FOLDER.glob("*.txt"))


def outcome(toml: str) -> str:
    """As users would see it, for a file /etc/tux.toml."""
    try:
        config = load.parse(toml.encode(), "/etc/tux.toml")
    except ConfigError as error:
        return "".join(f"{problem}\n".replace("/etc/tux.toml", "tux.toml") for problem in error.problems)
    return emit.to_toml(config)


def test_there_are_golden_files() -> None:
    assert len(CASES) >= 10


@pytest.mark.parametrize("path", CASES, ids=[path.stem for path in CASES])
def test_golden(path: Path) -> None:
    toml, line, expected = path.read_text().partition(LINE)
    actual = outcome(toml + "\n")
    if os.environ.get("TUX_WRITE_GOLDEN"):
        path.write_text(toml + LINE + actual)
        return
    assert line, "no line of dashes"
    assert actual == expected
