"""A stand-in for the natural face's request, and how a test plays one request with a module."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tux.compat.adopt import ModuleSeat
from tux.compat.face import Found
from tux.compat.live import Live
from tux.compat.request import user_req_t

PATIENCE_S = 20.0


@dataclass
class FakeFace:
    """Notes what is sent. `files`: what can be found."""

    method: str = "GET"
    target: bytes = b"/demo.tux"
    objectname: bytes = b"demo.tux"
    query: bytes = b""
    minor: int = 1
    headers: Sequence[tuple[bytes, bytes]] = ()
    client: str = "192.0.2.7"
    port: int = 8080
    body: bytes = b""
    files: dict[bytes, bytes] = field(default_factory=dict)

    status: int = 0
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    length: int = -1
    sent: bytearray = field(default_factory=bytearray)
    end: str = ""
    """How it ended: "keep", "close", "cut", "redirect", "object NAME"."""

    @property
    def head(self) -> bytes:
        line = self.method.encode() + b" " + self.target + b" HTTP/1.%d\r\n" % self.minor
        return line + b"".join(b"%b: %b\r\n" % pair for pair in self.headers) + b"\r\n"

    def note(self, waiter: asyncio.Future[None]) -> None:
        pass

    def drop(self, waiter: asyncio.Future[None]) -> None:
        pass

    async def read_body(self) -> bytes:
        return self.body

    async def find(self, path: bytes) -> Found:
        await asyncio.sleep(0)
        data = self.files.get(path)
        if data is None:
            return Found(404, 0, -1)
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            return Found(200, len(data), os.dup(file.fileno()))

    def begin(self, status: int, fields: Sequence[tuple[bytes, bytes]], length: int) -> None:
        assert not self.status, "a second head"
        self.status, self.fields, self.length = status, list(fields), length

    async def send(self, data: bytes) -> None:
        assert self.status
        assert not self.end
        if 0 <= self.length < len(self.sent) + len(data):
            raise ValueError(f"{len(self.sent) + len(data)} bytes")
        await asyncio.sleep(0)
        self.sent += data

    async def send_file(self, fd: int, size: int) -> None:
        await self.send(os.pread(fd, size, 0))

    async def answer_object(self, path: bytes, fields: Sequence[tuple[bytes, bytes]]) -> None:
        assert not self.status
        self.status, self.fields = 200, list(fields)
        self.sent += self.files[path]
        self.end = f"object {path.decode()}"

    def answer_status(self, status: int, fields: Sequence[tuple[bytes, bytes]] = ()) -> None:
        assert not self.status
        self.status, self.fields, self.end = status, list(fields), "keep"

    def finish(self, *, close: bool) -> None:
        assert not self.end
        if self.length >= 0 and len(self.sent) < self.length and self.method != "HEAD":
            raise ValueError(f"{len(self.sent)} bytes")
        self.end = "close" if close else "keep"

    def redirect(self) -> None:
        assert not self.status
        self.end = "redirect"

    def cut(self) -> None:
        self.end = "cut"


Handler = Callable[[user_req_t], Any]


def play(handle_events: Handler, face: FakeFace | None = None, **attributes: Any) -> FakeFace:
    """One request, from its beginning to its end."""
    face = face or FakeFace(**attributes)

    async def run() -> None:
        await Live(face, ModuleSeat("demo.tux", 1, handle_events)).run()

    finish(run())
    return face


def finish(work: Awaitable[None]) -> None:
    """Run it on a loop of its own, not for ever."""

    async def bounded() -> None:
        await asyncio.wait_for(work, PATIENCE_S)

    asyncio.run(bounded())
