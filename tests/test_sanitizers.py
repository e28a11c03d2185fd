# SPDX-License-Identifier: MIT
"""The extension under ASan and UBSan serves: a part of ``make sanitize`` in every run of the tests.

The engine's own tests under the sanitizers are in test_c.py.
"""

from __future__ import annotations

import pytest

from tests import features
from tools import sanitize

SUBSET = ("tests/unit/planner/test_planner_loop.py", "tests/e2e/test_process.py")
"""The binding by itself, and servers with all their processes."""


@pytest.mark.slow
@pytest.mark.timeout(600)  # seconds; builds the extension
def test_the_extension_is_clean() -> None:
    features.require("sanitizers")
    assert sanitize.extension(["--quiet", *SUBSET]) == []
