"""What the compatible calls need of a request: the natural face (`tux.Request`) has it, and a test's stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Found(NamedTuple):
    """An object that was looked up."""

    status: int
    """200, or why it cannot be had: 404 and its like."""
    size: int
    fd: int
    """Open for reading, and the caller's; -1: there is none."""


class Face(Protocol):
    """One request and its answer. Every call belongs to the event loop. Those that send may raise ClientGoneError."""

    method: str
    target: bytes
    """As sent."""
    objectname: bytes
    """The decoded path, without the slash at its beginning."""
    query: bytes
    minor: int
    """HTTP/1.minor."""
    headers: Sequence[tuple[bytes, bytes]]
    """Names in lower case."""
    client: str
    """The address, "" if there is none."""
    port: int
    """Of ours that it came by, 0 if there is none."""

    @property
    def head(self) -> bytes:
        """The whole head, as the client sent it."""

    async def read_body(self) -> bytes:
        """All of it."""

    async def find(self, path: bytes) -> Found:
        """The object at this decoded path of the site."""

    def begin(self, status: int, fields: Sequence[tuple[bytes, bytes]], length: int) -> None:
        """The head of the answer; length -1: not known. ValueError: it cannot be sent."""

    async def send(self, data: bytes) -> None:
        """Bytes of the body, when there is room. ValueError: more than `length`."""

    async def send_file(self, fd: int, size: int) -> None:
        """A whole file as bytes of the body. ValueError as above."""

    async def answer_object(self, path: bytes, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """The complete answer that the site has for this path, with these fields first."""

    def answer_status(self, status: int, fields: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """A complete answer without a body of the module's."""

    def finish(self, *, close: bool) -> None:
        """The end of the answer. ValueError: fewer bytes than `length`; the connection is cut."""

    def redirect(self) -> None:
        """Give the request to the server behind this one."""

    def note(self, waiter: asyncio.Future[None]) -> None:
        """From now on this gets a ClientGoneError when the client is gone, which is raised if it is already."""

    def drop(self, waiter: asyncio.Future[None]) -> None:
        """No longer."""

    def cut(self) -> None:
        """End the connection in the middle of an answer; before one the status is 502."""
