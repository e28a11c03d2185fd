# SPDX-License-Identifier: MIT
"""What all tests share: the header of a run, and how Hypothesis searches."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import database

import tux
from tests import features
from tux import _version

# A busy machine must not fail a test, so examples have no deadline. In CI the examples are the same in every run: a
# change is judged by what it changes. Everywhere else they are new each time, and failures are kept.
hypothesis.settings.register_profile(
    "tux",
    deadline=None,
    database=database.DirectoryBasedExampleDatabase(Path(".cache") / "hypothesis"),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("ci", hypothesis.settings.get_profile("tux"), derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "tux")


def pytest_report_header() -> list[str]:
    """Which package is tested, and what must not be skipped."""
    python = ".".join(map(str, sys.version_info[:3]))
    expected = " ".join(sorted(features.expected())) or "none"
    return [
        f"tux {_version.__version__} from {Path(tux.__file__).parent}, Python {python}; features expected: {expected}"
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what exercises the extension: everything in these folders, unless it is marked ``slow``."""
    folders = [Path(__file__).parent / name for name in ("corpus", "e2e", "unit/apps", "unit/planner", "unit/daemon")]
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in folders) and not item.get_closest_marker("slow"):
            item.add_marker("sanitize")


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """A folder to be served, for all tests of a module: pytest's own are closed to the user that workers run as. Tests
    use names of their own in it."""
    with tempfile.TemporaryDirectory(prefix="tux-site-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[tux.Server]:
    """A server of `site` with one worker, for all tests of a module. At the end it must stop without having leaked."""
    with tux.Server(site, workers=1, access_log="off") as server:
        yield server
        assert server.stop() == 0, server.stderr_text()
        assert "Traceback" not in server.stderr_text()
