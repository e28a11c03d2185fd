"""Turns of an event loop between a port and whoever works on its events, for applications on one event loop.

A turn: all events that wait are taken, which begins tasks; the tasks run, up to where they wait. Waking an engine that
sleeps costs both of us some us, so it is done once for all that was written: when nothing more has come meanwhile, or
when a moment has passed (FLUSH_SECONDS). Only then the port goes to sleep, until its descriptor is readable: under load
nobody makes a system call to wake anybody.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from time import monotonic
from typing import Final

from tux.apps.port import Event, Port

EVENTS_PER_TURN: Final = 256
"""Events that are taken before the tasks get their turn; the rest follows after them."""
TURN_SECONDS: Final = 0.005
"""How long events are worked on before that: what is done at once for each may take long."""
FLUSH_SECONDS: Final = 0.0002
"""How long what was written may stay unnoticed by an engine that sleeps while there is more to do, as in WSGI."""


class Turns:
    """Takes the events of `port` on the running loop, and gives each to `event`, which says whether it left something
    to the loop to do: where it did not, the port sleeps at once. `failed` hears of what went wrong there: the loop
    would log it and go on, deaf."""

    def __init__(self, port: Port, event: Callable[[Event], bool], failed: Callable[[BaseException], None]) -> None:
        self._port = port
        self._event = event
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        """Of all turns, and so of all requests at their beginning: none begins with what another one has set."""
        self._is_asleep = False
        """The port will make its descriptor readable."""
        self._is_settling = False
        """The end of the turn is scheduled, or at work."""
        self._is_unflushed = False
        """Something was written ..."""
        self._flush_due = 0.0
        """... which the engines learn of at the end of a turn after this time, if not before."""

    def start(self) -> None:
        self._port.on_write(self._on_write)
        self._loop.add_reader(self._port.fileno(), self._on_readable)
        self._settle_soon()

    def stop(self) -> None:
        self._loop.remove_reader(self._port.fileno())
        self._port.flush()

    def _on_write(self) -> None:
        """The engines are told soon."""
        if not self._is_unflushed:
            self._is_unflushed = True
            self._flush_due = monotonic() + FLUSH_SECONDS
        self._settle_soon()

    def _on_readable(self) -> None:
        self._port.awake()
        self._is_asleep = False
        self._settle()

    def _settle_soon(self) -> None:
        if not self._is_settling:
            self._is_settling = True
            # Without the context it would be that of the task that wrote, and the next requests would begin with it.
            self._loop.call_soon(self._settle, context=self._context)

    def _flush(self) -> None:
        self._is_unflushed = False
        self._port.flush()

    def _settle(self) -> None:
        """The end of a turn, and the beginning of the next if there is one."""
        self._is_settling = True
        try:
            goes_on = self._turn()
        except BaseException as error:  # noqa: BLE001 (see `failed`)
            self._failed(error)
            return
        self._is_settling = False
        if goes_on:
            self._settle_soon()

    def _turn(self) -> bool:
        """Whether there is another one before the port sleeps."""
        if self._is_asleep:
            self._flush()
            return False
        if self._is_unflushed and monotonic() > self._flush_due:
            self._flush()
        if self._take_events():
            return True
        if self._is_unflushed:
            self._flush()
        self._is_asleep = self._port.sleep()
        return not self._is_asleep

    def _take_events(self) -> bool:
        """Whether the loop gets its turn before there are more: tasks have something to do, or have waited for long."""
        take, event = self._port.take, self._event
        is_busy = False
        end = monotonic() + TURN_SECONDS
        for _ in range(EVENTS_PER_TURN):
            taken = take()
            if taken is None:
                return is_busy
            leaves_work = event(taken)
            now = monotonic()
            if now > end:
                return True
            if leaves_work:
                is_busy = True
            elif self._is_unflushed and now > self._flush_due:
                self._flush()  # what was done at once may have taken long
        return True
