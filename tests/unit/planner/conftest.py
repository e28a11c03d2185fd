"""What tests of the planner share: a folder to serve, requests, plans. Runs with the real extension where it is built,
and with the stand-in of `tests.unit.fakes` elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

try:
    import tux._engine  # noqa: F401
except ImportError:
    from tests.unit import fakes

    sys.modules["tux._engine"] = fakes

from tests.unit.planner.world import NOW_S, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty root, served by one rule."""
    return World(tmp_path)


@pytest.fixture
def write(world: World) -> Callable[..., Path]:
    """Writes a file below the root: path, content, age in seconds at the test's time."""

    def write_file(path: str, content: bytes = b"hello\n", age_s: float = 3600) -> Path:
        file = world.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        mtime_ns = NOW_S * 1_000_000_000 - round(age_s * 1e9)
        os.utime(file, ns=(mtime_ns, mtime_ns))
        return file

    return write_file
