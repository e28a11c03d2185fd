# SPDX-License-Identifier: MIT
"""How many connections a worker can take, for the open files that its process may have (getrlimit(2), RLIMIT_NOFILE).

A worker that takes too many cannot open files any more: it would answer 503 where a look at the disk is due. One that
takes fewer leaves the rest to the queue of the kernel, and has a reserve for what it looks at.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tux._engine import LIMITS
from tux.daemon.upstreams import Group

SPARE: Final = 64
"""For files that are looked at, logs, rings, listeners: as the engine reckons by itself (TUX_SPARE_FILES)."""
PER_LINK: Final = 5
"""Descriptors of a link with a process of an application."""
KEPT_FILES: Final = 32
"""Of a process: files that it sends again and again (TUX_APP_HANDLES)."""
GENERATIONS: Final = 2
"""A process and its replacement are linked at the same time."""
MEMO_SHARE: Final = 4
"""A quarter of what can be used is for remembered files."""

IDLE_SHARE: Final = 4
"""Idle connections to servers have as much at most: they were in use before, and are closed when they are not."""

FEW: Final = 4096
"""With fewer connections a line in the log is worth it, also where the configuration asks for no number."""

logger = logging.getLogger("tux.supervisor")


def fit(limits: Mapping[str, int], groups: Sequence[Group], processes: Iterable[int]) -> dict[str, int]:
    """The limits of an engine, with as many connections as there can be. `processes`: of each application. If that is
    less than was asked for, it is logged."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return dict(limits)
    processes = list(processes)
    fixed = SPARE + (PER_LINK * GENERATIONS + KEPT_FILES) * sum(processes)
    fixed += sum(len(group.servers) for group in groups if group.health is not None)
    idle = sum(len(group.servers) * int(group.options["keepalive"]) for group in groups)
    usable = max(files - fixed - min(idle, files // IDLE_SHARE), SPARE)
    usable -= min(limits.get("memo_files", LIMITS["memo_files"]), usable // MEMO_SHARE)
    # A request that is forwarded has a connection there, too; one for an application may be answered with a file.
    most = usable // (2 if groups or processes else 1)
    wanted = limits.get("connections", LIMITS["connections"])
    if wanted <= most:
        return dict(limits)
    if "connections" in limits or most < FEW:
        text = "%d open files are allowed: each worker takes up to %d connections, not %d; see LimitNOFILE= of systemd"
        logger.info(text, files, most, wanted)
    return {**limits, "connections": most}
