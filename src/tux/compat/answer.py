"""An answer that a module sends byte by byte: the head is read and becomes ours, the body follows as it comes."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from tux.compat import head

if TYPE_CHECKING:
    from tux.compat.face import Face

_WITHOUT_BODY: Final = frozenset((204, 304))


class Stage(enum.Enum):
    """How far the answer is."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    """Bytes came, but not the empty line."""
    BODY = enum.auto()
    COMPLETE = enum.auto()
    """Nothing can be sent any more, the module has not finished yet."""


class AnswerError(ValueError):
    """The module's answer is wrong; the message goes on after "the answer"."""


class Answer:
    """The answer to one request. AnswerError, ClientGoneError: nothing more can be sent."""

    def __init__(self, face: Face) -> None:
        self.stage = Stage.NOTHING
        self.sent = 0
        """Bytes of the body."""
        self._face = face
        self._head = bytearray()
        self._no_body = face.method == "HEAD"
        self._closes = False

    async def feed(self, data: bytes) -> None:
        """What the module sends next."""
        if not data:
            return
        if self.stage in {Stage.NOTHING, Stage.HEAD}:
            data = self._read_head(data)
        await self._body(data)

    async def file(self, fd: int, size: int) -> None:
        """A file as the next bytes of the body."""
        if self.stage is not Stage.BODY:
            raise AnswerError("has an object before the empty line that ends its head")
        self.sent += size
        if self._no_body or not size:
            return
        try:
            await self._face.send_file(fd, size)
        except ValueError as error:
            raise AnswerError(f"is longer than its Content-Length: {error}") from None

    async def object(self, path: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        """The site's own answer for this path, complete."""
        await self._face.answer_object(path, fields)
        self.stage = Stage.COMPLETE

    def finish(self, status: int, *, close: bool) -> None:
        """The end. `status` is that of an answer of which nothing was sent."""
        if self.stage is Stage.NOTHING:
            if not 200 <= status <= 599:
                raise AnswerError(f"is finished without a byte of it sent, and http_status is {status}")
            self._face.answer_status(status)
        elif self.stage is Stage.HEAD:
            raise AnswerError("is finished within its head: the empty line is missing")
        elif self.stage is Stage.BODY:
            try:
                self._face.finish(close=close or self._closes)
            except ValueError as error:
                raise AnswerError(f"is shorter than its Content-Length: {error}") from None
        self.stage = Stage.COMPLETE

    def _read_head(self, data: bytes) -> bytes:
        """What follows the head."""
        seen = len(self._head)
        self._head += data
        try:
            end = head.find_end(self._head, seen)
            if end < 0:
                self.stage = Stage.HEAD
                return b""
            read = head.parse(self._head[:end])
        except head.HeadError as error:
            raise AnswerError(str(error)) from None
        rest = bytes(self._head[end:])
        self._head.clear()
        self._no_body = self._no_body or read.status in _WITHOUT_BODY
        self._closes = read.closes
        try:
            self._face.begin(read.status, read.fields, read.length)
        except ValueError as error:
            raise AnswerError(f"has a head that cannot be sent: {error}") from None
        self.stage = Stage.BODY
        return rest

    async def _body(self, data: bytes) -> None:
        if not data:
            return
        if self.stage is Stage.COMPLETE:
            raise AnswerError("is complete already, and more bytes came")
        self.sent += len(data)
        if self._no_body:
            return
        try:
            await self._face.send(data)
        except ValueError as error:
            raise AnswerError(f"is longer than its Content-Length: {error}") from None
