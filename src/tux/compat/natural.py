"""The natural face's request as the compatible calls need it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from tux.compat.face import Found
from tux.modules.errors import ClientGoneError
from tux.modules.registry import module

if TYPE_CHECKING:
    from tux.modules.request import Request

_WAITER: Final = "compat"
"""Waiters of ours among those of the request: they hear when the client is gone."""


class NaturalFace:
    """See `tux.compat.face.Face`."""

    def __init__(self, request: Request) -> None:
        raw = request.raw
        self._request = request
        self.method = raw.method
        self.target = raw.target
        self.objectname = request.path.encode("utf-8", "surrogateescape").removeprefix(b"/")
        self.query = raw.query
        self.minor = raw.minor
        self.headers: Sequence[tuple[bytes, bytes]] = raw.headers
        self.client = request.client or ""
        self.port = request.server[1] or 0

    @property
    def head(self) -> bytes:
        return self._request.head

    async def read_body(self) -> bytes:
        return await self._request.read()

    async def find(self, path: bytes) -> Found:
        try:
            with await self._request.get_object("/" + path.decode("utf-8", "surrogateescape")) as found:
                return Found(200, found.size, os.dup(found.fileno()))
        except ClientGoneError:
            raise
        except OSError:
            return Found(404, 0, -1)

    def begin(self, status: int, fields: Sequence[tuple[bytes, bytes]], length: int) -> None:
        self._request.start_raw(status, list(fields), length)

    async def send(self, data: bytes) -> None:
        await self._request.write(data)

    async def send_file(self, fd: int, size: int) -> None:
        await self._request.write_file(fd, 0, size)

    async def answer_object(self, path: bytes, fields: Sequence[tuple[bytes, bytes]]) -> None:
        text = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
        self._request.send_object("/" + path.decode("utf-8", "surrogateescape"), text)

    def answer_status(self, status: int, fields: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._request.answer(status, list(fields), b"")

    def finish(self, *, close: bool) -> None:
        self._request.finish(close=close)

    def redirect(self) -> None:
        self._request.redirect_to_server()

    def cut(self) -> None:
        self._request.abort()

    def note(self, waiter: asyncio.Future[None]) -> None:
        if self._request.gone:
            raise ClientGoneError
        self._request._note(_WAITER, waiter)

    def drop(self, waiter: asyncio.Future[None]) -> None:
        self._request._drop(_WAITER, waiter)


def register(path: str, handler: Callable[[Request], Any]) -> None:
    """ValueError: the path is taken."""
    module(path)(handler)
