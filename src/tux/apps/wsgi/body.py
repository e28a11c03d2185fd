"""wsgi.input of a body that is still on its way."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tux.apps.wsgi.exchange import Exchange

BUFFER_BYTES = 65536
"""What lines are looked for in. A read of more goes past it."""


class Body(io.RawIOBase):
    """The bytes of a body in the order they come, until its end, however it was framed."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # it gets nothing else
        """0: the end. ClientGoneError: it will not come."""
        rest = self._rest or memoryview(self._exchange.more_body())
        count = min(len(buffer), len(rest))
        buffer[:count] = rest[:count]
        self._rest = rest[count:]
        return count

    def readall(self) -> bytes:
        pieces = [bytes(self._rest)]
        self._rest = memoryview(b"")
        while piece := self._exchange.more_body():
            pieces.append(piece)
        return b"".join(pieces)


def reader(exchange: Exchange) -> io.BufferedReader:
    """A file object with all of read, readline, readlines and iteration."""
    return io.BufferedReader(Body(exchange), BUFFER_BYTES)
