"""`tux kernel`: what it prints, and its exit codes. What it reads is tested in tests/unit/kernel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run
from tux.errors import StartError
from tux.kernel import status


def test_nothing_is_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "read_all", lambda bpffs: [])
    result = run("kernel", "status")
    assert (result.exit_code, result.stdout) == (0, "no kernel tier below /sys/fs/bpf\n")
    result = run("kernel", "status", "--json", "--bpffs", "/b")
    assert (result.exit_code, result.stdout) == (0, "")


def test_a_folder_that_is_no_bpffs(run: Run, folder: Path) -> None:
    message = f"tux: error: {folder} is not a mounted bpffs; mount -t bpf bpf {folder}\n"
    for command in ("status", "detach"):
        result = run("kernel", command, "--bpffs", str(folder))
        assert (result.exit_code, result.stdout, result.stderr) == (1, "", message)


def test_status(run: Run, monkeypatch: pytest.MonkeyPatch, one: status.Status) -> None:
    monkeypatch.setattr(status, "read_all", lambda bpffs: [one, one])
    assert run("kernel", "status").stdout == one.as_text() * 2
    lines = run("kernel", "status", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [one.as_json()] * 2


@pytest.mark.parametrize(
    ("options", "timeout", "force"),
    [([], 30.0, False), (["--timeout", "1.5"], 1.5, False), (["--force", "--timeout", "7"], 0.0, True)],
)
@pytest.mark.parametrize(("left", "code"), [(0, 0), (3, 1)])
def test_detach(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: list[str], timeout: float, force: bool, left: int, code: int
) -> None:
    def detach_all(bpffs: str, *, timeout: float, force: bool, say: Callable[[str], None]) -> int:
        say(f"{bpffs} {timeout} {force}")
        return left

    monkeypatch.setattr(status, "detach_all", detach_all)
    result = run("kernel", "detach", *options)
    assert (result.exit_code, result.stdout) == (code, f"/sys/fs/bpf {timeout} {force}\n")


def test_what_is_missing_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_all(bpffs: str) -> list[status.Status]:
        raise StartError("the kernel tier needs CAP_BPF")

    monkeypatch.setattr(status, "read_all", read_all)
    result = run("kernel", "status")
    assert (result.exit_code, result.stderr) == (1, "tux: error: the kernel tier needs CAP_BPF\n")


@pytest.fixture
def one() -> status.Status:
    return status.Status(
        pid=7,
        orphan=False,
        answering=True,
        interfaces=("lo",),
        entries=3,
        counters={"answered": 10, "answered_bytes": 2000, "pass_unknown": 4},
        connections=5,
        translated=2,
        connections_limit=64,
        memory=8192,
        memory_limit=65536,
    )
