# SPDX-License-Identifier: MIT
"""What is said of the compiled modules (their .pyi) is what they are, and what the rest of tux needs of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tux import _app, _engine
from tux.apps.port import Port
from tux.daemon.worker import EngineLike
from tux.planner.loop import AskPort, Routes

MODULES = ("tux._app", "tux._cgi", "tux._engine")
ALLOWED = r"""
.*\.__(reduce|setstate)_cython__  # Cython's own
.*\.__test__
tux\._engine\.Engine\.__init__  # Cython names no parameters of one that has none by position
"""


def test_stubs_are_what_was_compiled(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text(ALLOWED)
    command = [sys.executable, "-P", "-m", "mypy.stubtest", "--concise", "--allowlist", str(allowed), *MODULES]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def conform(app: _app.Port, planner: _engine.Port, engine: _engine.Engine, routes: _engine.RouteTable) -> None:
    """Nobody calls it: mypy compares each with its protocol."""
    _protocols: tuple[Port, AskPort, EngineLike, Routes] = app, planner, engine, routes
