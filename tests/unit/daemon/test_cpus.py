"""workers = "auto"."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tux.daemon.cpus import usable_cpus


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def cpus(tmp_path: Path, path: str, quotas: dict[str, str]) -> int:
    """The result for a process in the cgroup `path`, with these texts in the cpu.max of these cgroups."""
    membership = tmp_path / "cgroup"
    membership.write_text(f"1:name=systemd:/old\n0::{path}\n")
    for group, text in quotas.items():
        folder = tmp_path / "root" / group.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(text)
    return usable_cpus(membership, tmp_path / "root")


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({}, 8),
        ({"/a/b": "max 100000\n"}, 8),
        ({"/a/b": "200000 100000\n"}, 2),
        ({"/a/b": "150000 100000\n"}, 2),
        ({"/a/b": "10000 100000\n"}, 1),
        ({"/a/b": "max 100000\n", "/a": "300000 100000\n"}, 3),
        ({"/": "400000 100000\n"}, 4),
        ({"/a/b": "1600000 100000\n"}, 8),
        ({"/c": "100000 100000\n"}, 8),
        ({"/a/b": "nonsense\n"}, 8),
        ({"/a/b": "1 0\n"}, 8),
    ],
)
def test_quota(tmp_path: Path, quotas: dict[str, str], expected: int) -> None:
    assert cpus(tmp_path, "/a/b", quotas) == expected


def test_a_cgroup_outside_of_the_namespace(tmp_path: Path) -> None:
    assert cpus(tmp_path, "/../other", {"/": "100000 100000\n"}) == 1


def test_no_cgroups(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "none", tmp_path / "nothing") == 8
