"""Those who wait for something that happens to a request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tux.modules.errors import ClientGoneError

if TYPE_CHECKING:
    from tux.modules.process import Process

BODY: Final = "body"
WINDOW: Final = "window"
OBJECT: Final = "object"


class Waiting:
    """What a request is under all else. Each who waits has a future of its own: who is cancelled takes nothing from
    others."""

    gone: bool = False
    """The client has closed the connection: nothing can be sent any more."""

    _process: Process
    _waiters: dict[str, list[asyncio.Future[None]]] | None = None

    async def _wait(self, what: str) -> None:
        """ClientGoneError."""
        if self.gone:
            raise ClientGoneError
        waiter: asyncio.Future[None] = self._process.loop.create_future()
        self._note(what, waiter)
        try:
            await waiter
        finally:
            self._drop(what, waiter)

    def _note(self, what: str, waiter: asyncio.Future[None]) -> None:
        if self._waiters is None:
            self._waiters = {}
        self._waiters.setdefault(what, []).append(waiter)

    def _drop(self, what: str, waiter: asyncio.Future[None]) -> None:
        if self._waiters is not None and waiter in self._waiters.get(what, ()):
            self._waiters[what].remove(waiter)

    def _is_waited_for(self, what: str) -> bool:
        return self._waiters is not None and bool(self._waiters.get(what))

    def _wake(self, what: str) -> None:
        for waiter in self._waiters.pop(what, ()) if self._waiters else ():
            wake(waiter)

    def on_gone(self) -> None:
        """The client is."""
        self.gone = True
        for waiters in (self._waiters or {}).values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(ClientGoneError())


def wake(waiter: asyncio.Future[None]) -> None:
    """What it waits for is there."""
    if not waiter.done():
        waiter.set_result(None)
