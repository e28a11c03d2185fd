# SPDX-License-Identifier: MIT
"""Sets of pins: found by their names, alive or not, swept until nobody needs them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.kernel.fake_maps import FakeKernel, fake_kernel
from tux.kernel import pins, sys_bpf
from tux.kernel.pins import PinnedSet, is_alive, list_sets, wait_for_end
from tux.kernel.pulse import boot_ns
from tux.kernel.sweep import Count

NOBODY = 2**22 + 1
"""No process has this number (proc(5), pid_max)."""


class TestReasons:
    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (
                PermissionError(errno.EACCES, "Permission denied", "/sys/fs/bpf/tux"),
                "/sys/fs/bpf/tux: Permission denied",
            ),
            (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
            (OSError("something"), "something"),
            (sys_bpf.BpfError(errno.EPERM, "pin it"), "cannot pin it: Operation not permitted"),
            (
                sys_bpf.VerifierError(errno.EACCES, "load the program x", "0: (b7)\n1: (95) R0 !read_ok"),
                "cannot load the program x: Permission denied",
            ),
        ],
    )
    def test_one_line(self, error: OSError, text: str) -> None:
        assert pins.reason(error) == text


class TestSets:
    def test_there_are_none(self, tmp_path: Path) -> None:
        assert list_sets(str(tmp_path)) == []
        (tmp_path / "tux").mkdir()
        assert list_sets(str(tmp_path)) == []

    def test_the_oldest_comes_first(self, tmp_path: Path) -> None:
        second, first = pins.create(str(tmp_path), 7, 2000), pins.create(str(tmp_path), 8, 999)
        assert list_sets(str(tmp_path)) == [first, second]
        assert first == PinnedSet(f"{tmp_path}/tux/8-999", 8, 999)
        assert os.stat(first.path).st_mode & 0o777 == os.stat(tmp_path / "tux").st_mode & 0o777 == 0o700

    def test_what_else_may_lie_there(self, tmp_path: Path) -> None:
        for name in ("other", "0-1", "7-", "-7", "7-8-9", "x7-8", "7-8x", "12345678901-1"):
            (tmp_path / "tux" / name).mkdir(parents=True)
        assert list_sets(str(tmp_path)) == []

    def test_one_start_has_one_set(self, tmp_path: Path) -> None:
        pins.create(str(tmp_path), 7, 1)
        with pytest.raises(FileExistsError):
            pins.create(str(tmp_path), 7, 1)

    def test_its_attachments(self, tmp_path: Path) -> None:
        found = pins.create(str(tmp_path), 7, 1)
        wanted = [(2, "egress"), (2, "ingress"), (11, "ingress")]
        for index, direction in wanted:
            Path(found.attachment_path(index, direction)).touch()
        for name in ("control", "ingress-0", "sideways-3", "egress-x"):
            Path(found.path, name).touch()
        assert [one[:2] for one in found.attachments()] == wanted

    def test_a_removal_by_two_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def gone(path: str, _ifindex: int, _direction: str) -> None:
            os.unlink(path)
            raise sys_bpf.BpfError(errno.ENOENT, f"open {path}")

        monkeypatch.setattr(pins, "remove_pinned", gone)
        found = pins.create(str(tmp_path), 7, 1)
        for direction in ("ingress", "egress"):
            Path(found.attachment_path(3, direction)).touch()
        found.remove()
        assert not found.exists

    def test_removal(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with fake_kernel(tmp_path, monkeypatch) as kernel:
            first, second = pins.create(str(tmp_path), 7, 1), pins.create(str(tmp_path), 8, 2)
            attach(kernel, first, 3)
            attach(kernel, second, 4)
            Path(first.path, "control").touch()
            first.remove()
            assert not first.exists
            assert list_sets(str(tmp_path)) == [second]
            assert kernel.attached == [(4, 4, "egress")]
            second.remove()
            assert list(tmp_path.iterdir()) == []
            second.remove()  # somebody else was faster


def attach(kernel: FakeKernel, found: PinnedSet, index: int) -> None:
    kernel.attach(index, index, "egress").pin(found.attachment_path(index, "egress"))


class TestAlive:
    def test_its_heart_beats(self) -> None:
        now = boot_ns()
        assert is_alive(PinnedSet("", NOBODY, 1), now - pins.QUIET_NS + 1, now)
        assert not is_alive(PinnedSet("", NOBODY, 1), now - pins.QUIET_NS, now)

    def test_its_process_runs(self) -> None:
        """A supervisor that hangs, or that was detached, is still the one to look after it."""
        assert is_alive(PinnedSet("", os.getpid(), boot_ns()), 0, boot_ns())

    def test_another_process_has_its_number(self) -> None:
        before = boot_ns() - 10**9  # before this process, whose start is known to 10 ms
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            assert not is_alive(PinnedSet("", process.pid, before), 0, boot_ns())
            assert is_alive(PinnedSet("", process.pid, boot_ns()), 0, boot_ns())


class TestWaiting:
    def test_until_nobody_needs_it(self) -> None:
        counts = iter([Count(5, 2), Count(3, 0), Count(3, 1), Count(3, 0), Count(2, 0)])
        assert wait_for_end(lambda: next(counts), 60, pause=0.001) == Count(2, 0)

    def test_until_the_time_is_over(self) -> None:
        begun = time.monotonic()
        assert wait_for_end(lambda: Count(1, 1), 0.05, pause=0.01) == Count(1, 1)
        assert 0.05 <= time.monotonic() - begun < 5

    def test_it_looks_at_least_once(self) -> None:
        assert wait_for_end(lambda: Count(0, 0), 0) == Count(0, 0)
