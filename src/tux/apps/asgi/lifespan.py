"""ASGI's lifespan: the application is told of the start and the end of its process."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any, Final

from tux.apps.asgi.scope import LIFESPAN_VERSION, VERSION, Application, Message
from tux.apps.load import LoadError
from tux.config.app import Lifespan as Mode

logger = logging.getLogger("tux.app")

_STARTUP: Final = "lifespan.startup"
_SHUTDOWN: Final = "lifespan.shutdown"


class Lifespan:
    """One call of the application, which lasts as long as the process serves."""

    def __init__(self, application: Application, name: str, mode: Mode) -> None:
        self.state: dict[str, Any] = {}
        """What the application puts there is copied into the scope of each request."""
        self._application = application
        self._name = name
        self._mode = mode
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[str] = asyncio.Queue()
        self._asked = ""
        """The last event it was told of."""
        self._answer: asyncio.Future[Message] | None = None

    async def startup(self) -> None:
        """Return when requests may come. LoadError: the application says that it cannot start, or fails."""
        if self._mode == "off":
            return
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(_look_at)
        try:
            answer = await self._ask(_STARTUP)
        except Exception as error:
            self._task = None
            if self._mode == "auto" and not isinstance(error, LifespanError):
                logger.debug("app %s: it knows no lifespan: %r", self._name, error)
                return
            raise self._failed(error) from error
        if answer is None:  # it returned without a word
            self._task = None
            if self._mode == "on":
                raise LoadError("its lifespan ended before its start was complete")

    async def shutdown(self) -> None:
        """Tell the application that all requests have ended, and wait until it has tidied up. Errors go to the log."""
        if self._task is None or self._task.done():
            return
        try:
            await self._ask(_SHUTDOWN)
            await self._task
        except Exception as error:
            if isinstance(error, LifespanError):
                logger.error("app %s: its shutdown failed: %s", self._name, error)
            else:
                logger.exception("app %s: its shutdown failed", self._name)

    async def _ask(self, event: str) -> Message | None:
        """Its answer; None: it returned without one. Whatever it raises instead is raised here."""
        assert self._task is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait(event)
        await asyncio.wait((self._task, self._answer), return_when=asyncio.FIRST_COMPLETED)
        if self._answer.done():
            return self._answer.result()
        self._task.result()
        return None

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": VERSION, "spec_version": LIFESPAN_VERSION},
            "state": self.state,
        }
        try:
            await self._application(scope, self._receive, self._send)
        except (KeyboardInterrupt, SystemExit) as error:  # would end the loop: like any other error
            raise RuntimeError(f"the application left by {error!r}") from error

    async def _receive(self) -> Message:
        self._asked = await self._events.get()
        return {"type": self._asked}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        expected = (f"{self._asked}.complete", f"{self._asked}.failed")
        if not self._asked or self._answer is None or self._answer.done() or kind not in expected:
            raise RuntimeError(f"Unexpected ASGI message '{kind}' during lifespan.")
        if kind.endswith(".failed"):
            self._answer.set_exception(LifespanError(str(message.get("message", ""))))
        else:
            self._answer.set_result(message)

    def _failed(self, error: Exception) -> LoadError:
        what = "its start failed"
        if isinstance(error, LifespanError):
            text = str(error).strip()
            last = text.rpartition("\n")[2]
            return LoadError(f"{what}: {last}" if last else what, f"{text}\n" if last != text else "")
        trace = "".join(traceback.format_exception(error))
        return LoadError(f"{what}: {traceback.format_exception_only(error)[-1].strip()}", trace)


def _look_at(task: asyncio.Task[None]) -> None:
    """What it raises after it has said that it failed is no news, and asyncio would log it."""
    if not task.cancelled():
        task.exception()


class LifespanError(Exception):
    """The application said so. The text is its own, and may be a whole traceback."""
