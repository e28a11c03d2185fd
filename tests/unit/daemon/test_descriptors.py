# SPDX-License-Identifier: MIT
"""Connections that fit below the limit of open files."""

from __future__ import annotations

import resource

import pytest

from tux.config.upstream import Upstream
from tux.daemon import descriptors, upstreams

GROUPS = upstreams.resolve([("back", Upstream(servers=("http://127.0.0.1:1", "http://127.0.0.1:2"), keepalive=100))])


@pytest.mark.parametrize(
    ("files", "limits", "groups", "processes", "connections"),
    [
        (131_072, {}, (), [], None),
        (resource.RLIM_INFINITY, {"connections": 50_000}, GROUPS, [9], 50_000),
        (20_000, {}, (), [], 15_840),
        (1064, {}, (), [], 750),
        (1064, {"memo_files": 100}, (), [], 900),
        (1064, {"connections": 500}, (), [], 500),
        (1064, {"memo_files": 100}, GROUPS, [], 350),
        (1064, {"memo_files": 100}, (), [2, 3], 345),
        (1064, {"memo_files": 100, "connections": 20}, GROUPS, [2], 20),
        (100, {"memo_files": 0}, GROUPS, [50], 32),
    ],
)
def test_what_fits(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    files: int,
    limits: dict[str, int],
    groups: tuple[upstreams.Group, ...],
    processes: list[int],
    connections: int | None,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (files, files))
    caplog.set_level("INFO", "tux.supervisor")
    fitted = descriptors.fit(limits, groups, processes)
    assert fitted.get("connections") == connections
    assert {**fitted, "connections": 0} == {**limits, "connections": 0}
    said = f"{files} open files are allowed: each worker takes up to {connections} connections, not "
    assert (said in caplog.text) == (connections != limits.get("connections") and files < 20_000)
