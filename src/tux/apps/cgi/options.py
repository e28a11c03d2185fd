"""What the process that starts scripts needs to know."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from tux.config.cgi import Cgi
from tux.planner.rules import Routes

CPUS_PER_WORKER = 2
MAX_WORKERS = 4
"""Processes of `workers = "auto"`: each keeps at least two CPUs busy with what it starts, however small."""


class CgiOptions(Cgi, frozen=True, kw_only=True):
    """`[cgi]`, and what the server says for all processes of applications."""

    routes: Any
    """`tux.planner.rules.Routes`; msgspec knows no protocols."""
    name: str = "cgi"
    """For the log."""
    grace: float = 30.0
    """How long scripts may go on after a stop was asked for, in seconds."""
    stall_timeout: float = 0.0
    software: str = "tux"

    @classmethod
    def of(cls, name: str, cgi: Cgi, routes: Routes, *, cpus: int, grace: float) -> CgiOptions:
        """The options of `[cgi]`, on so many CPUs."""
        workers = min(max(cpus // CPUS_PER_WORKER, 1), MAX_WORKERS) if cgi.workers == "auto" else cgi.workers
        return cls(name=name, routes=routes, grace=grace, **{**structs.asdict(cgi), "workers": workers})

    @property
    def label(self) -> str:
        """What the log calls it."""
        return self.name

    @property
    def share(self) -> int:
        """Scripts that one of the processes runs at the same time."""
        assert isinstance(self.workers, int)
        return -(-self.running // self.workers)

    @property
    def queue_share(self) -> int:
        """Requests that wait in one of the processes."""
        assert isinstance(self.workers, int)
        return -(-self.queue // self.workers)
