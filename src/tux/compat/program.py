"""A program: a function with a loop of its own around tux(TUX_ACTION_EVENTLOOP, req), in a thread of the process."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from tux.compat.actions import TUX_RETURN_EXIT, TUX_RETURN_USERSPACE_REQUEST, Action
from tux.compat.call import here
from tux.compat.live import Live, Move

if TYPE_CHECKING:
    from tux.compat.request import user_req_t

logger = logging.getLogger("tux.app")


class Program:
    """The seat of a program. It starts with its first request, and again with the next one after it has ended."""

    blocking = True

    def __init__(self, name: str, index: int, main: Callable[[], object]) -> None:
        self.name = name
        self.index = index
        self.current: Live | None = None
        self._main = main
        self._events: queue.SimpleQueue[Live | None] = queue.SimpleQueue()
        """Requests that have an event for the program; None: there will be no more."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_leaving = False
        self._has_taken = False
        """The thread has taken a request since it has started."""

    async def turn(self, live: Live) -> Move:
        """The program's, when it comes to it."""
        live.move = None
        with self._lock:
            self._events.put(live)
            self._start()
        return await live.until_moved()

    def moved(self, live: Live) -> None:
        live.stir()

    def next_event(self, req: user_req_t) -> int:
        """EVENTLOOP: wait for a request and fill in the structure."""
        while True:
            live = None if self._is_leaving else self._events.get()
            if live is None:
                req._live = None
                self._is_leaving = True
                return TUX_RETURN_EXIT
            self._has_taken = True
            if not live.is_over:
                self.current = live
                live.present(req)
                return TUX_RETURN_USERSPACE_REQUEST

    def leave(self) -> None:
        """STOPTHREAD: the thread gets no more; the next request starts another one."""
        self._is_leaving = True

    def stop(self) -> None:
        """Ask the thread to leave, when it has done what is there."""
        self._events.put(None)

    def _start(self) -> None:
        if self._thread is None:
            self._is_leaving = self._has_taken = False
            self._thread = threading.Thread(target=self._run, name=f"tux program {self.name}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        here.seat = self
        try:
            self._main()
            if not self._is_leaving:
                logger.error("module %s: the program has returned; it starts again with the next request", self.name)
        except BaseException:
            logger.exception("module %s: the program failed; it starts again with the next request", self.name)
        with self._lock:
            self._thread = None
            if self.current is not None:
                self._drop(self.current)
                self.current = None
            if not self._has_taken:  # it would fail for ever
                while (live := self._take()) is not None:
                    self._drop(live)
            elif not self._events.empty():
                self._start()

    def _take(self) -> Live | None:
        try:
            return self._events.get_nowait()
        except queue.Empty:
            return None

    def _drop(self, live: Live) -> None:
        live.move = Move(Action.EVENTLOOP)
        self.moved(live)
