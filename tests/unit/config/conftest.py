"""What tests of the configuration share: the route table and the limits of the engine, real or a stand-in."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

try:
    import tux._engine  # noqa: F401
except ImportError:
    from tests.unit import fakes

    sys.modules["tux._engine"] = fakes

HEADER = Path(__file__).parents[3] / "src/tux/engine/bounds.h"


def limits_of_header() -> dict[str, int]:
    """The limits in bounds.h, by the names of `tux._engine.LIMITS`."""
    found = re.findall(r"^#define TUX_(?:MAX_)?([A-Z_]+) +(\([^)]*\)|\w+)", HEADER.read_text(), re.MULTILINE)
    return {name.lower(): _number(text) for name, text in found}


def _number(text: str) -> int:
    """The value of "8192u" or "(64u * 1024u)"."""
    product = 1
    for factor in re.findall(r"(\d+)u", text):
        product *= int(ast.literal_eval(factor))
    return product


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The engine's limits; where it is not built, those of its header."""
    from tux._engine import LIMITS

    limits = LIMITS if "head_bytes" in LIMITS else limits_of_header()
    monkeypatch.setattr("tux.config.compile.LIMITS", limits)
    return limits
