"""Says where a handler is that keeps the loop of its process busy: all other requests wait for it.

A thread looks now and then where the main thread is. Is it where it waits for events, all is well, and nobody is woken
up. Else the loop is asked to call back; if it does not within the time allowed, something blocks it."""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Final

from tux.apps import loop

logger = logging.getLogger("tux.app")

LOOKS: Final = 2
"""Looks within the time allowed: what blocks is found by half of it late at most."""
_OURS: Final = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


class Watchdog:
    """Watches the loop that runs in the thread which makes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, label: str, what: Callable[[], str]) -> None:
        """seconds: how long a handler may block the loop. what: which request is at work; called by another thread."""
        self._loop = loop
        self._seconds = seconds
        self._label = label
        self._what = what
        self._watched = threading.get_ident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tux-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Called by the loop's thread. Returns when the thread has ended."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._seconds / LOOKS):
            if not self._is_waiting():
                self._ask()

    def _is_waiting(self) -> bool:
        frame = sys._current_frames().get(self._watched)
        return frame is None or is_waiting(frame)

    def _ask(self) -> None:
        heard = threading.Event()
        began = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(heard.set)
        except RuntimeError:
            return  # it is closed: the process ends
        if heard.wait(self._seconds) or self._over.is_set():
            return
        frame = sys._current_frames().get(self._watched)
        what = self._what()
        if frame is None or heard.is_set():
            return
        logger.error(
            "%s: %s blocks its process, and all other requests wait, for %.1f s now. It is here:\n%s",
            self._label,
            what or "something",
            time.monotonic() - began,
            stack_of(frame),
        )
        del frame
        while not heard.wait(self._seconds) and not self._over.is_set():
            pass
        logger.error(
            "%s: %s blocked its process for %.1f s", self._label, what or "something", time.monotonic() - began
        )


def is_waiting(frame: FrameType) -> bool:
    """Whether a loop waits for events here: asyncio's in a selector, uvloop's in C, called by asyncio or by us."""
    return (
        frame.f_code.co_filename in {selectors.__file__, asyncio.runners.__file__} or frame.f_code is loop.run.__code__
    )


def stack_of(frame: FrameType) -> str:
    """Where it is, from the handler on; where no handler is at work, its last frame."""
    entries = traceback.extract_stack(frame)
    run = (loop.run.__code__.co_filename, loop.run.__name__)
    above = next((i for i, entry in enumerate(entries) if (entry.filename, entry.name) == run), -1)
    ours = (_OURS, os.path.dirname(asyncio.__file__))
    handler = (i for i in range(above + 1, len(entries)) if not entries[i].filename.startswith(ours))
    return "".join(traceback.format_list(entries[next(handler, -1) :])).rstrip()
