"""The event loop of a process, from its beginning to its end: what ASGI and modules have in common."""

from __future__ import annotations

import asyncio
import importlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from tux.apps.turns import Turns

if TYPE_CHECKING:
    from types import TracebackType

    from tux.apps.options import AppOptions, ModuleOptions
    from tux.apps.port import Event, Port

CANCEL_SECONDS: Final = 2.0
"""How long tasks that were cancelled may take to end. Who ignores it is left behind: the process ends."""

ExcInfo: TypeAlias = "tuple[type[BaseException], BaseException, TracebackType | None]"

logger = logging.getLogger("tux.app")


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, if it is installed."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return asyncio.new_event_loop()
    return cast("asyncio.AbstractEventLoop", uvloop.new_event_loop())


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` on a loop of its own, and end the tasks that it leaves behind."""
    loop = new_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main())
    finally:
        try:
            loop.run_until_complete(_tidy_up())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _tidy_up() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
    await asyncio.wait_for(asyncio.get_running_loop().shutdown_asyncgens(), CANCEL_SECONDS)


def without(ours: str | tuple[str, ...], error: BaseException) -> ExcInfo:
    """The error for the log, its traceback without the frames of our own at the beginning, which say nothing to the
    author of the code that failed. `ours`: beginnings of file names."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(ours):
        trace = trace.tb_next
    return type(error), error, trace


class LoopServer(ABC):
    """The requests of one process, on the running loop: from the first until DRAIN came and all have ended, or their
    grace is over."""

    def __init__(self, port: Port, options: AppOptions | ModuleOptions) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_draining = False
        """No more requests come; those at work go on."""
        self.is_ending = False
        """The grace is over: what is at work is cancelled."""
        self._options = options
        self._port = port
        self._turns = Turns(port, self._on_event, self._on_failure)
        self._drained: asyncio.Future[None] = self.loop.create_future()
        self._idle: asyncio.Future[None] = self.loop.create_future()

    async def run(self) -> None:
        """Serve until all is finished after DRAIN."""
        self._turns.start()
        try:
            await self._drained
            self._check_idle()
            await asyncio.wait((self._idle,), timeout=self._options.grace)
            if not self._idle.done():
                self.is_ending = True
                left = max(self._cancel_all(), self._port.open)
                logger.warning("%s: %d requests did not end within their grace", self._options.label, left)
                await asyncio.wait((self._idle,), timeout=CANCEL_SECONDS)
            if self._idle.done():
                self._idle.result()
        finally:
            self._turns.stop()

    def _on_failure(self, error: BaseException) -> None:
        awaited = self._idle if self._drained.done() else self._drained
        if not awaited.done():
            awaited.set_exception(error)

    def _drain(self) -> None:
        """DRAIN came."""
        self.is_draining = True
        if not self._drained.done():
            self._drained.set_result(None)

    def _check_idle(self) -> None:
        """Something has ended, while the server drains."""
        if self._is_idle() and not self._port.open and not self._idle.done():
            self._idle.set_result(None)

    @abstractmethod
    def _on_event(self, event: Event) -> bool:
        """An event of the port. Whether the loop has something to do now: True is always right."""

    @abstractmethod
    def _is_idle(self) -> bool:
        """Whether nothing is at work. The port may still keep answers back, whose clients are slow."""

    @abstractmethod
    def _cancel_all(self) -> int:
        """Cancel what is at work. How many requests that is."""
