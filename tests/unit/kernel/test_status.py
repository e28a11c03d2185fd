# SPDX-License-Identifier: MIT
"""What `tux kernel status` and `tux kernel detach` say and do. On real pins: tests/kernel/test_supervision.py."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from tests.unit.kernel.fake_maps import LAYOUTS, FakeKernel, fake_kernel
from tests.unit.kernel.layout_header import layouts
from tests.unit.kernel.test_tier import NOBODY, translated
from tux.errors import StartError
from tux.kernel import host, load, pins, status, sys_bpf
from tux.kernel.pins import PinnedSet
from tux.kernel.pulse import boot_ns
from tux.kernel.status import REASONS, Status
from tux.kernel.sweep import Sweep

ONE = Status(
    pid=7,
    orphan=False,
    answering=True,
    interfaces=("lo", "veth0"),
    entries=3,
    counters={"answered": 10, "answered_bytes": 2000, "pass_unknown": 4, "pass_live": 5, "pass_size": 0, "pass_new": 1},
    connections=5,
    translated=2,
    connections_limit=64,
    memory=8192,
    memory_limit=65536,
)


class TestStatus:
    def test_as_text(self) -> None:
        assert ONE.as_text() == (
            "process 7: answering, on lo, veth0\n"
            "  answers       3 published, 8192 of 65536 bytes\n"
            "  answered      10 requests, 2000 bytes\n"
            "  connections   5 of 64, 2 open ones were answered\n"
            "  passed on     5: so that the worker sees the connection alive\n"
            "                4: not a published request\n"
            "                1: pass_new\n"
        )

    def test_as_json(self) -> None:
        assert ONE.as_json() == {
            "pid": 7,
            "state": "answering",
            "paused": False,
            "interfaces": ["lo", "veth0"],
            "entries": 3,
            "answered": 10,
            "answered_bytes": 2000,
            "counters": ONE.counters,
            "connections": {"total": 5, "translated": 2, "limit": 64},
            "memory": {"used": 8192, "limit": 65536},
        }

    def test_states(self) -> None:
        assert replace(ONE, answering=False).state == "detached"
        assert replace(ONE, orphan=True).state == replace(ONE, orphan=True, answering=False).state == "orphan"

    def test_a_server_that_does_not_beat(self) -> None:
        """Its programs answer nothing, though it did not say so: it hangs, or was killed a moment ago."""
        silent = replace(ONE, silent=True)
        assert silent.state == "silent"
        assert replace(silent, answering=False).state == "detached"
        assert replace(silent, orphan=True).state == "orphan"

    def test_a_pause(self) -> None:
        paused = replace(ONE, paused=True)
        assert paused.as_text().startswith("process 7: answering, paused for new connections, on lo, veth0\n")
        assert paused.as_json()["paused"] is True
        assert replace(paused, orphan=True).as_text().startswith("process 7: orphan, on lo, veth0\n")

    def test_at_rest(self) -> None:
        resting = replace(ONE, paused=True, resting=True)
        assert resting.as_text().startswith("process 7: resting, on lo, veth0\n")
        assert (resting.as_json()["state"], resting.as_json()["paused"]) == ("resting", True)
        assert replace(resting, silent=True).state == "silent"
        assert replace(resting, answering=False).state == "detached"
        assert replace(resting, orphan=True).state == "orphan"

    def test_nothing_is_attached(self) -> None:
        assert replace(ONE, interfaces=()).as_text().startswith("process 7: answering, on no interface\n")

    def test_every_reason_of_the_programs_has_a_text(self) -> None:
        names = {name for name in layouts()["tux_kernel_counters"].fields if name.startswith(("pass_", "open_"))}
        assert names == REASONS.keys()


class FakeCaretaker:
    """Of a set with some connections that need it; `ends` of them end with each look."""

    left: ClassVar[dict[int, int]] = {}
    ends = 0
    quieted: ClassVar[list[int]] = []

    def __init__(self, found: PinnedSet, _layouts: object) -> None:
        self.pinned = found
        if found.pid not in type(self).left:
            raise sys_bpf.BpfError(errno.ENOENT, f"open {found.path}/control")

    def quiet(self) -> None:
        type(self).quieted.append(self.pinned.pid)

    def new_sweep(self) -> Sweep:
        cls, pid = type(self), self.pinned.pid
        pairs = [translated() for _ in range(cls.left[pid])]
        cls.left[pid] = max(0, cls.left[pid] - cls.ends)
        return Sweep([pairs], lambda packet: None, LAYOUTS, boot_ns())

    def close(self) -> None:
        pass


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    with fake_kernel(tmp_path, monkeypatch) as kernel:
        monkeypatch.setattr(host, "is_bpffs", lambda path: True)
        monkeypatch.setattr(load, "missing_capabilities", list)
        monkeypatch.setattr(status, "_layouts", lambda: LAYOUTS)
        yield kernel


@pytest.fixture
def caretaker(monkeypatch: pytest.MonkeyPatch) -> type[FakeCaretaker]:
    class Fresh(FakeCaretaker):
        left: ClassVar[dict[int, int]] = {}
        quieted: ClassVar[list[int]] = []

    monkeypatch.setattr(status, "Caretaker", Fresh)
    return Fresh


def detach(kernel: FakeKernel, timeout: float = 0.0, *, force: bool = False) -> tuple[int, list[str]]:
    said: list[str] = []
    left = status.detach_all(str(kernel.bpffs), timeout=timeout, force=force, say=said.append, pause=0.001)
    return left, said


class TestDetach:
    def test_there_is_nothing(self, kernel: FakeKernel) -> None:
        assert detach(kernel) == (0, [])

    def test_what_nobody_needs_is_removed(self, kernel: FakeKernel, caretaker: type[FakeCaretaker]) -> None:
        for pid in (NOBODY, NOBODY + 1):
            pins.create(str(kernel.bpffs), pid, pid)
            caretaker.left[pid] = 0
        assert detach(kernel) == (
            0,
            [f"process {pid}: removed, no connection needs it" for pid in (NOBODY, NOBODY + 1)],
        )
        assert caretaker.quieted == [NOBODY, NOBODY + 1]
        assert kernel.sets == []

    def test_it_waits(self, kernel: FakeKernel, caretaker: type[FakeCaretaker]) -> None:
        pins.create(str(kernel.bpffs), NOBODY, 1)
        caretaker.left[NOBODY], caretaker.ends = 5, 1
        assert detach(kernel, timeout=60) == (0, [f"process {NOBODY}: removed, no connection needs it"])
        assert caretaker.left[NOBODY] == 0

    def test_one_look_is_not_believed(
        self, kernel: FakeKernel, caretaker: type[FakeCaretaker], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program that had begun before may have answered meanwhile."""
        pins.create(str(kernel.bpffs), NOBODY, 1)
        caretaker.left[NOBODY] = 0
        looks = iter([0, 1, 0, 0])

        def new_sweep(_: FakeCaretaker) -> Sweep:
            return Sweep([[translated() for _ in range(next(looks))]], lambda packet: None, LAYOUTS, boot_ns())

        monkeypatch.setattr(caretaker, "new_sweep", new_sweep)
        assert detach(kernel, timeout=60) == (0, [f"process {NOBODY}: removed, no connection needs it"])
        assert next(looks, None) is None

    def test_what_is_needed_stays(self, kernel: FakeKernel, caretaker: type[FakeCaretaker]) -> None:
        for pid, left in ((NOBODY, 2), (NOBODY + 1, 0)):
            pins.create(str(kernel.bpffs), pid, pid)
            caretaker.left[pid] = left
        left, said = detach(kernel)
        assert left == 2
        assert said[0].startswith(f"process {NOBODY}: answers nothing any more, but 2 connections that it answered are")
        assert said[1:] == [f"process {NOBODY + 1}: removed, no connection needs it"]
        assert [path.name for path in kernel.sets] == [f"{NOBODY}-{NOBODY}"]

    def test_force(self, kernel: FakeKernel, caretaker: type[FakeCaretaker]) -> None:
        pins.create(str(kernel.bpffs), NOBODY, 1)
        caretaker.left[NOBODY] = 2
        assert detach(kernel, force=True) == (
            0,
            [f"process {NOBODY}: removed, 2 connections that it answered break"],
        )
        assert kernel.sets == []

    def test_a_set_that_is_not_complete(self, kernel: FakeKernel, caretaker: type[FakeCaretaker]) -> None:
        pins.create(str(kernel.bpffs), NOBODY, 1)
        made = pins.create(str(kernel.bpffs), os.getpid(), boot_ns())
        assert detach(kernel) == (0, [f"process {NOBODY}: removed, it was not complete"])
        assert [str(path) for path in kernel.sets] == [made.path]


class TestReading:
    def test_a_set_that_goes_while_it_is_read(self, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
        for pid in (NOBODY, NOBODY + 1):
            pins.create(str(kernel.bpffs), pid, pid)

        def read(found: PinnedSet, _layouts: object) -> Status:
            if found.pid == NOBODY:
                raise sys_bpf.BpfError(errno.ENOENT, f"open {found.path}/control")
            return ONE

        monkeypatch.setattr(status, "read", read)
        assert status.read_all(str(kernel.bpffs)) == [ONE]

    def test_one_that_may_not_be_read(self, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
        found = pins.create(str(kernel.bpffs), NOBODY, 1)

        def read(found: PinnedSet, _layouts: object) -> Status:
            raise sys_bpf.BpfError(errno.EACCES, "open it")

        monkeypatch.setattr(status, "read", read)
        with pytest.raises(StartError) as caught:
            status.read_all(str(kernel.bpffs))
        assert caught.value.message == f"cannot read {found.path}: cannot open it: Permission denied"


class TestWhatIsMissing:
    def test_a_mounted_bpffs(self, tmp_path: Path) -> None:
        with pytest.raises(StartError) as caught:
            status.read_all(str(tmp_path))
        assert caught.value.message == f"{tmp_path} is not a mounted bpffs; mount -t bpf bpf {tmp_path}"

    def test_rights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(host, "is_bpffs", lambda path: True)
        monkeypatch.setattr(load, "missing_capabilities", lambda: ["CAP_BPF", "CAP_PERFMON"])
        with pytest.raises(StartError, match=r"^this needs CAP_BPF, CAP_PERFMON$"):
            status.read_all(str(tmp_path))

    def test_the_programs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing() -> None:
            raise FileNotFoundError

        monkeypatch.setattr(host, "is_bpffs", lambda path: True)
        monkeypatch.setattr(load, "missing_capabilities", list)
        monkeypatch.setattr(load, "read_object", missing)
        with pytest.raises(StartError, match=r"^this installation of Tux has no kernel tier$"):
            status.read_all(str(tmp_path))
