"""How many CPUs this process may use: `workers = "auto"`."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath

_CGROUP_FILE = Path("/proc/self/cgroup")
_CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cpus(cgroup_file: Path = _CGROUP_FILE, cgroup_root: Path = _CGROUP_ROOT) -> int:
    """CPUs of the affinity mask (sched_getaffinity(2)), or fewer when a CPU quota of cgroup v2 allows less time than
    that (rounded up, so that the quota can be used); at least 1."""
    cpus = len(os.sched_getaffinity(0))
    quota = _cgroup_cpus(cgroup_file, cgroup_root)
    return max(1, math.ceil(min(cpus, quota)))


def _cgroup_cpus(cgroup_file: Path, cgroup_root: Path) -> float:
    """The tightest quota of our cgroup and those above it, in CPUs; infinity when there is none."""
    try:
        lines = cgroup_file.read_text().splitlines()
    except OSError:
        return math.inf
    path = next((line[3:] for line in lines if line.startswith("0::")), "/")
    group = PurePosixPath("/", path)
    if ".." in group.parts:  # outside of what this cgroup namespace shows
        group = PurePosixPath("/")
    folders = (group, *group.parents)
    return min(_quota(cgroup_root / folder.relative_to("/") / "cpu.max") for folder in folders)


def _quota(file: Path) -> float:
    """`cpu.max` holds "max 100000" or "QUOTA PERIOD" in microseconds (Linux, cgroup-v2.rst)."""
    try:
        quota, period = file.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
