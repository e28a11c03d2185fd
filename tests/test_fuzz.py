# SPDX-License-Identifier: MIT
"""A short run of each fuzz target over its corpus: the targets still work, and no known input breaks them.

``make fuzz`` runs them for longer.
"""

from __future__ import annotations

import pytest

from tests import features
from tools import fuzz

SECONDS = 3


@pytest.mark.slow
@pytest.mark.timeout(600)  # seconds; the first builds the C targets
@pytest.mark.parametrize("target", fuzz.c_targets() + fuzz.python_targets())
def test_target(target: str) -> None:
    features.require("fuzz")
    done = fuzz.run(target, SECONDS)
    assert done.returncode == 0, done.stdout
    assert fuzz.executions(done.stdout) > 100, done.stdout


@pytest.mark.parametrize("target", fuzz.c_targets() + fuzz.python_targets())
def test_corpus(target: str) -> None:
    seeds = fuzz.FOLDER / "corpus" / target
    assert any(seeds.iterdir()), f"{seeds} has no seeds"
