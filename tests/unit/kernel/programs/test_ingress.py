# SPDX-License-Identifier: MIT
"""Packets from clients: the tables, and what does not fit into one."""

from __future__ import annotations

import pytest

from tests.unit.kernel.programs import answer_cases, loss_cases, pass_cases
from tests.unit.kernel.programs.cases import Case, check
from tests.unit.kernel.programs.rig import Rig

CASES = [*answer_cases.all_cases(), *pass_cases.all_cases(), *loss_cases.all_cases()]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(rig: Rig, case: Case) -> None:
    check(rig, case)
