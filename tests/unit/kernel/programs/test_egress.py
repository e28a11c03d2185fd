# SPDX-License-Identifier: MIT
"""Packets of the stack."""

from __future__ import annotations

import pytest

from tests.unit.kernel.programs import egress_cases
from tests.unit.kernel.programs.cases import Case, check
from tests.unit.kernel.programs.rig import Rig


@pytest.mark.parametrize("case", list(egress_cases.all_cases()), ids=str)
def test_case(rig: Rig, case: Case) -> None:
    check(rig, case)
