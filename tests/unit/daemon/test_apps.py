"""Processes of applications as the supervisor keeps them: real processes, whose bodies are a few lines of this file."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tux.apps.options import AppOptions
from tux.config.app import App
from tux.daemon import control
from tux.daemon.apps import Apps, AppSeat, State
from tux.errors import StartError

PATIENCE = 10.0


class Stage:
    """A supervisor of a few lines."""

    def __init__(self, body: Callable[[AppSeat], int], folder: Path, **app: object) -> None:
        options = AppOptions.of("shop", App(module="a:b", **app), grace=1.0)  # type: ignore[arg-type]
        self.apps = Apps([options], body)
        self.selector = selectors.DefaultSelector()
        self.folder = folder

    def run(self, until: Callable[[], object]) -> None:
        """Turn the loop until the condition holds."""
        end = time.monotonic() + PATIENCE
        while not until():
            assert time.monotonic() < end
            due = self.apps.due()
            timeout = 0.05 if due is None else max(0.0, min(0.05, due - time.monotonic()))
            for key, _ in self.selector.select(timeout):
                key.data()
            self.apps.tick()

    def states(self) -> list[State]:
        return [process.state for process in self.apps._processes]

    def pids(self) -> set[int]:
        return {process.pid for process in self.apps._processes}

    def all_ready(self) -> bool:
        return bool(self.states()) and set(self.states()) == {State.READY}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def make(body: Callable[[AppSeat], int], **app: object) -> Stage:
        stages.append(Stage(body, tmp_path, **app))
        stages[-1].apps.start(stages[-1].selector)
        return stages[-1]

    yield make
    for one in stages:
        one.apps.kill_all()
        one.selector.close()
        assert not one.apps.alive


def serves(seat: AppSeat) -> int:
    """Ready, until it is told to leave."""
    control.send(seat.control, control.READY)
    while True:
        message, fds, _, _ = socket.recv_fds(seat.control, 64, 4)
        for fd in fds:
            os.close(fd)
        if message in (b"", control.LEAVE):
            return 0


def test_all_start_and_leave(stage: Callable[..., Stage]) -> None:
    one = stage(serves, workers=3)
    one.run(one.all_ready)
    assert len(one.pids()) == 3
    one.apps.stop(1.0)
    one.apps.workers_drain()
    assert one.states() == [State.LEAVING] * 3
    one.run(lambda: not one.apps.alive)


def test_the_first_start_must_succeed(stage: Callable[..., Stage]) -> None:
    one = stage(lambda _seat: 3)
    with pytest.raises(StartError, match="app shop could not start: its process ended with code 3"):
        one.run(lambda: False)


def test_an_exception_is_told(stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture) -> None:
    def breaks(_seat: AppSeat) -> int:
        raise RuntimeError("broken")

    one = stage(breaks)
    with pytest.raises(StartError, match="code 1"):
        one.run(lambda: False)
    assert not caplog.records  # it is the process that tells


def test_one_that_dies_is_replaced(stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture) -> None:
    one = stage(serves, workers=2)
    one.run(one.all_ready)
    before = one.pids()
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    one.run(lambda: one.all_ready() and len(one.pids()) == 2 and victim not in one.pids())
    assert len(one.pids() & before) == 1
    assert f"process {victim} was killed by SIGKILL; it is replaced" in caplog.text


def test_one_that_cannot_start_again_is_tried_later(stage: Callable[..., Stage], tmp_path: Path) -> None:
    """And later each time, until it can."""
    broken = tmp_path / "broken"

    def body(seat: AppSeat) -> int:
        return 3 if broken.exists() else serves(seat)

    one = stage(body)
    one.run(one.all_ready)
    broken.touch()
    os.kill(min(one.pids()), signal.SIGKILL)
    place = one.apps._places[0, 0]
    one.run(lambda: place.delay >= 0.4)
    broken.unlink()
    one.run(one.all_ready)


def retires(seat: AppSeat) -> int:
    control.send(seat.control, control.READY)
    control.send(seat.control, control.RETIRE)
    control.send(seat.control, control.RETIRE)
    return serves(seat)


def test_one_that_wants_to_go_stays_until_another_is_ready(stage: Callable[..., Stage], tmp_path: Path) -> None:
    first = tmp_path / "first"

    def body(seat: AppSeat) -> int:
        try:
            first.touch(exist_ok=False)
        except FileExistsError:
            return serves(seat)
        return retires(seat)

    one = stage(body)
    (old,) = one.pids()
    one.run(lambda: len(one.pids()) == 2)
    one.run(lambda: one.all_ready() and old not in one.pids())
    assert len(one.pids()) == 1


def test_a_reload_that_fails_leaves_the_old_one(
    stage: Callable[..., Stage], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"

    def body(seat: AppSeat) -> int:
        return 3 if broken.exists() else serves(seat)

    one = stage(body, workers=2)
    one.run(one.all_ready)
    before = one.pids()
    broken.touch()
    one.apps.reload()
    one.run(lambda: caplog.text.count("the old one goes on") == 2)
    assert one.pids() == before
    broken.unlink()
    one.apps.reload()
    one.run(lambda: one.all_ready() and not one.pids() & before)
    assert len(one.pids()) == 2


def test_a_reload_while_one_starts(stage: Callable[..., Stage], tmp_path: Path) -> None:
    """What hangs over the old code makes room for the new, be it the first process or a replacement."""
    hangs = tmp_path / "hangs"
    hangs.touch()

    def body(seat: AppSeat) -> int:
        if hangs.exists():
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            signal.pause()
        return serves(seat)

    one = stage(body)
    hangs.unlink()
    one.apps.reload()
    one.run(one.all_ready)
    (old,) = one.pids()
    hangs.touch()
    one.apps.reload()
    assert one.states() == [State.READY, State.STARTING]
    hangs.unlink()
    one.apps.reload()
    one.run(lambda: one.all_ready() and old not in one.pids())
    assert len(one.pids()) == 1


def test_links(stage: Callable[..., Stage]) -> None:
    """Each worker gets one with each process that is ready, whichever comes first; and is told when that is gone."""
    one = stage(serves, workers=2)
    early = control.pair()
    one.apps.worker_ready(0, early[0])
    one.run(one.all_ready)
    late = control.pair()
    one.apps.worker_ready(1, late[0])

    def links(sock: socket.socket) -> set[tuple[int, int]]:
        found = set()
        for _ in range(2):
            message, fds = control.receive_with_descriptors(sock)
            assert message.startswith(control.LINK)
            assert len(set(fds)) == control.LINK_DESCRIPTORS
            for fd in fds:
                os.close(fd)
            found.add(struct.unpack("<II", message.removeprefix(control.LINK)))
        return found

    told = links(early[1]) | links(late[1])
    assert {app for _, app in told} == {0}
    assert len({serial for serial, _ in told}) == 4
    victim = one.apps._processes[0]
    serials = {serial: link.worker for serial, link in victim.links.items()}
    os.kill(victim.pid, signal.SIGKILL)
    one.run(lambda: victim not in one.apps._processes)
    gone = {}
    for worker, sock in ((0, early[1]), (1, late[1])):
        message, _ = control.receive_with_descriptors(sock)
        assert message.startswith(control.UNLINK)
        gone[struct.unpack("<I", message.removeprefix(control.UNLINK))[0]] = worker
    assert gone == serials
    one.apps.worker_gone(1)
    one.run(lambda: one.all_ready() and len(one.pids()) == 2)
    assert all(link.worker == 0 for process in one.apps._processes for link in process.links.values())
    one.apps.worker_gone(0)
    for sock in (*early, *late):
        sock.close()


def test_what_does_not_leave_is_killed(stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture) -> None:
    def stays(seat: AppSeat) -> int:
        control.send(seat.control, control.READY)
        while True:
            signal.pause()

    one = stage(stays)
    one.run(one.all_ready)
    one.apps.stop(0.1)
    one.apps.workers_drain()
    one.run(lambda: not one.apps.alive)
    assert "did not finish in time; its processes are killed" in caplog.text


def test_one_that_is_replaced_has_its_time_to_finish(
    stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """And no more: the grace."""
    first = tmp_path / "first"

    def body(seat: AppSeat) -> int:
        try:
            first.touch(exist_ok=False)
        except FileExistsError:
            return serves(seat)
        control.send(seat.control, control.READY)
        control.send(seat.control, control.RETIRE)
        while True:
            signal.pause()

    one = stage(body)
    (old,) = one.pids()
    one.run(lambda: old not in one.pids())
    assert f"process {old} did not finish in time and is killed" in caplog.text
    assert len(one.pids()) == 1


def loses(seat: AppSeat) -> int:
    """Tells of each link that it is lost."""
    control.send(seat.control, control.READY)
    while True:
        message, fds, _, _ = socket.recv_fds(seat.control, 64, 4)
        for fd in fds:
            os.close(fd)
        if message.startswith(control.LINK):
            control.send(seat.control, control.LOST + message.removeprefix(control.LINK))
        else:
            return 0


@pytest.mark.parametrize("worker_ends", [False, True])
def test_a_link_that_is_lost(
    stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture, *, worker_ends: bool
) -> None:
    """A worker that ended the link had a reason to; one that ended has none."""
    one = stage(loses)
    sockets = control.pair()
    one.run(one.all_ready)
    (process,) = one.apps._processes
    one.apps.worker_ready(0, sockets[0])
    one.run(lambda: process.lost)
    if worker_ends:
        one.apps.worker_gone(0)
        one.run(lambda: not process.lost)
        assert one.all_ready()
    else:
        one.run(lambda: process not in one.apps._processes)
        assert "wrote nonsense to a worker and is killed" in caplog.text
    one.apps.worker_gone(0)
    for sock in sockets:
        sock.close()


def test_a_stop_does_not_wait_for_one_that_starts(stage: Callable[..., Stage]) -> None:
    def starts(_seat: AppSeat) -> int:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.pause()
        return 0

    one = stage(starts)
    begun = time.monotonic()
    one.apps.stop(100.0)
    one.apps.workers_drain()
    one.run(lambda: not one.apps.alive)
    assert time.monotonic() - begun < PATIENCE
