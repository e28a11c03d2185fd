# SPDX-License-Identifier: MIT
"""Packets of the stack."""

from __future__ import annotations

import pytest

from tests.unit.kernel.programs import egress_cases
from tests.unit.kernel.programs.cases import Case, at_rest, check
from tests.unit.kernel.programs.rig import Rig

CASES = list(egress_cases.all_cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(rig: Rig, case: Case) -> None:
    check(rig, case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_at_rest(rig: Rig, case: Case) -> None:
    check(rig, at_rest(case))
