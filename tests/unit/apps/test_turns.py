"""When events are taken from the port, and when the engines are woken."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest

from tux.apps import turns as module
from tux.apps.port import CREDIT, Event, Port
from tux.apps.turns import EVENTS_PER_TURN, TURN_SECONDS, Turns

EVENT: Event = (CREDIT, 1, 1)


class Script:
    """A port whose events are those of a list, and which notes what is asked of it."""

    def __init__(self, n: int = 0) -> None:
        self.events = deque([EVENT] * n)
        self.calls: list[str] = []
        self.slept = asyncio.Event()
        self.write: Callable[[], None] = lambda: None
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._fd

    def on_write(self, written: Callable[[], None]) -> None:
        self.write = written

    def take(self) -> Event | None:
        return self.events.popleft() if self.events else None

    def sleep(self) -> bool:
        if self.events:
            return False
        self.calls.append("sleep")
        self.slept.set()
        return True

    def awake(self) -> None:
        os.eventfd_read(self._fd)
        self.calls.append("awake")

    def flush(self) -> None:
        self.calls.append("flush")

    def wake(self) -> None:
        self.slept.clear()
        os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        os.close(self._fd)


def run(n: int, on_event: Callable[[Script], bool], then: Callable[[Script], Any] | None = None) -> Script:
    """Serve `n` events until the port sleeps."""

    async def main() -> Script:
        port = Script(n)
        failed = asyncio.get_running_loop().create_future()
        turns = Turns(cast("Port", port), lambda _event: on_event(port), failed.set_exception)
        turns.start()
        waits = asyncio.create_task(port.slept.wait())
        await asyncio.wait((waits, failed), return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
        if failed.done():
            port.close()
            failed.result()
        if then is not None:
            await then(port)
        turns.stop()
        port.close()
        return port

    return asyncio.run(main())


def write(port: Script) -> bool:
    """An event that is answered at once."""
    port.write()
    return False


def test_a_turn_is_flushed_once_before_sleep() -> None:
    port = run(3, write)
    assert port.calls == ["flush", "sleep", "flush"]  # the last is stop()'s


def test_what_is_written_while_there_is_more_to_do_is_not_held_back_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(module, "monotonic", lambda: float(next(now)))
    port = run(30, write)
    assert port.calls.count("flush") >= 10


def test_many_events_let_the_tasks_run_between() -> None:
    order = []

    def on_event(_port: Script) -> bool:
        order.append("event")
        asyncio.get_running_loop().call_soon(order.append, "task")
        return True

    run(EVENTS_PER_TURN + 1, on_event)
    assert order.index("task") == EVENTS_PER_TURN


@pytest.mark.parametrize("leaves_work", [True, False])
def test_events_that_take_long_let_the_tasks_run_between(leaves_work: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    order = []

    def on_event(_port: Script) -> bool:
        now[0] += TURN_SECONDS / 3
        order.append("event")
        asyncio.get_running_loop().call_soon(order.append, "task")
        return leaves_work

    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    run(10, on_event)
    assert order.index("task") in {3, 4}


@pytest.mark.parametrize("leaves_work", [True, False])
def test_the_loop_has_its_turn_before_sleep_where_something_was_left_to_it(leaves_work: bool) -> None:
    order = []

    def on_event(port: Script) -> bool:
        asyncio.get_running_loop().call_soon(lambda: order.append(list(port.calls)))
        return leaves_work

    run(1, on_event)
    assert order == [[] if leaves_work else ["sleep"]]


def test_what_a_task_writes_while_the_port_sleeps_leaves_at_once() -> None:
    async def then(port: Script) -> None:
        port.write()
        port.write()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert port.calls == ["sleep", "flush"]
        port.events.append(EVENT)
        port.wake()
        await port.slept.wait()
        assert port.calls == ["sleep", "flush", "awake", "sleep"]

    run(0, lambda _port: False, then)


def test_what_goes_wrong_is_told() -> None:
    def on_event(_port: Script) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(1, on_event)
