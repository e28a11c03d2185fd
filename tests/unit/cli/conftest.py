"""What tests of the command line share: a way to run it in this process, and a server that does not serve."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tux.cli.group import tux
from tux.config.schema import Config

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run() -> Run:
    """Runs `tux` with these arguments."""
    return lambda *args: CliRunner().invoke(tux, args, prog_name="tux")


class Supervisor(types.ModuleType):
    """In place of `tux.daemon.supervisor`: remembers what it was to serve."""

    def __init__(self) -> None:
        super().__init__("tux.daemon.supervisor")
        self.config: Config | None = None
        self.ready_fd: int | None = None
        self.own: Sequence[str] = ()
        self.result: int | Exception = 0

    def run(
        self,
        config: Config,
        ready_fd: int | None = None,
        *,
        own: Sequence[str] = (),
        reread: Callable[[], Config] | None = None,
    ) -> int:
        assert reread is not None
        assert reread() == config
        self.config, self.ready_fd, self.own = config, ready_fd, own
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    module = Supervisor()
    monkeypatch.setitem(sys.modules, "tux.daemon.supervisor", module)
    return module
