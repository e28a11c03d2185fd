"""What a request needs of the process that it is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio

    from tux.apps import port
    from tux.modules.request import Request


class Process(Protocol):
    """See `tux.apps.module.server.ModuleServer`."""

    port: port.Port
    max_body: int
    covered: frozenset[str]
    """Fields that the signature covers."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    def keep(self, request: Request) -> None:
        """Events may come for it."""

    def finished(self, request: Request) -> None:
        """None will."""

    def not_remembered(self, request: Request) -> None:
        """Its handler declares it cacheable, but looks at what must not matter then."""

    def token_of(self, request: Request) -> str: ...
    def resumed(self, request: Request, value: Any, then: Callable[[Request, Any], Any] | None) -> None:
        """Go on with a request that a plain function postponed."""
