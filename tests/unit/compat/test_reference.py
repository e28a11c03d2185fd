# SPDX-License-Identifier: MIT
"""The reference names each action and each field of the original, and nothing else."""

from __future__ import annotations

import re

from tests.unit.test_docs import ROOT
from tux.compat.actions import Action
from tux.compat.request import LAYOUT

TEXT = (ROOT / "docs/reference/tux2.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Cells of the table below a heading, without its own head."""
    table = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"][2:]


def test_actions() -> None:
    said = {int(number): name for number, name, _ in rows("Actions")}
    assert said == {action.value: action.name for action in Action}
    assert sorted(said) == list(range(1, 24))


def test_fields() -> None:
    said = [name for cells in rows("Fields") for name in re.findall(r"`(\w+)`", cells[0])]
    assert len(said) == len(set(said))
    assert set(said) == {field.name for field in LAYOUT}
