# SPDX-License-Identifier: MIT
"""One rig for all tests of the programs in a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.unit.kernel.programs.cases")

from tests.features import require  # noqa: E402  # what follows is rewritten first
from tests.unit.kernel.programs.cases import PAGES  # noqa: E402
from tests.unit.kernel.programs.rig import Rig  # noqa: E402


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    require("kernel")
    rig = Rig()
    for page in PAGES.values():
        rig.publish(page)
    yield rig
    rig.close()
