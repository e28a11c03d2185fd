"""One request between a module and the server: what it has, and the next step that the module asked for.

The module's turn ends with a move (an action that enters the event loop); `run` does it, and gives the module its next
turn. Turns are given by a seat: the module's function, called on the event loop, or a program in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from tux.compat.actions import HTTP_1_0, HTTP_1_1, METHODS, Action, State
from tux.compat.answer import Answer, AnswerError, Stage
from tux.compat.mimetypes import fields_for
from tux.compat.request import HEADERS, decoded, user_req_t
from tux.compat.sock import SockPair

if TYPE_CHECKING:
    from collections.abc import Callable

    from tux.compat.face import Face, Found

logger = logging.getLogger("tux.app")

WAIT_SECONDS: Final = 30.0
"""How long WAIT_PROXY_SOCKET waits: the keepalive_timeout that the original's start scripts set."""
POSTPONE_SECONDS: Final = 300.0
"""How long a postponed request may take until CONTINUE_REQ: a helper that died would otherwise keep it for ever."""

_ids = itertools.count(1)
_FIELDS: Final = tuple((name, name.replace("_", "-").encode()) for name in HEADERS)


class Move(NamedTuple):
    """What the module wants next."""

    action: Action
    data: Any = None
    """The name of GET_OBJECT, the bytes of SEND_BUFFER."""


class Seat(Protocol):
    """Whoever plays: it gives the module its turns."""

    index: int
    """module_index."""
    name: str
    blocking: bool
    """The module is in a thread of its own, where it may wait."""
    current: Live | None
    """The request that the module has in its hands now."""

    async def turn(self, live: Live) -> Move:
        """The module's turn, until it has made its move."""

    def moved(self, live: Live) -> None:
        """The module has made its move, in its turn, by tux(). Called by the module's thread."""


class Live:
    """A request that a module works on."""

    def __init__(self, face: Face, seat: Seat) -> None:
        self.face = face
        self.seat = seat
        self.structure = user_req_t()
        """For seats that have one for each request."""
        self.id = next(_ids)
        self.state = State.WAITING
        """As the module's calls have left it."""
        self.is_over = False
        """Set by the event loop: the request is gone, whatever the module still believes."""
        self.event = 0
        self.priv: Any = 0
        self.http_status = 0
        self.error = 0
        self.object: Found | None = None
        self.objectname = face.objectname
        self.body = b""
        self.move: Move | None = None
        self.answer = Answer(face)
        self.watched: socket.socket | None = None
        """A copy of the module's back-end socket."""
        self._pair: SockPair | None = None
        self._pair_lock = threading.Lock()
        """A program's thread may ask for the descriptor while the request ends."""
        self._is_continued = False
        self._loop = asyncio.get_running_loop()
        self._stirred: asyncio.Future[None] | None = None

    # What the module sees

    def present(self, req: user_req_t) -> None:
        """Fill in the structure, at the beginning of a turn."""
        if req._live is not self:
            self._present_request(req)
        req.event, req.priv, req.http_status = self.event, self.priv, self.http_status
        req.error, self.error = self.error, 0
        req.bytes_sent = self.answer.sent
        req.objectname = decoded(self.objectname)
        req.objectlen = self.object.size if self.object is not None else len(self.body)
        req.object_addr = None
        self.state = self._held_state()

    def _held_state(self) -> State:
        stage = self.answer.stage
        if stage is Stage.NOTHING:
            return State.CURRENT
        return State.ANSWERED if stage is Stage.COMPLETE else State.SENDING

    def _present_request(self, req: user_req_t) -> None:
        face = self.face
        fields: dict[bytes, bytes] = {}
        for name, value in face.headers:
            between = b"; " if name == b"cookie" else b", "
            fields[name] = fields[name] + between + value if name in fields else value
        req._live = self
        req.id = self.id
        req.http_version = HTTP_1_1 if face.minor else HTTP_1_0
        req.http_method = METHODS.get(face.method, 0)
        options = fields.get(b"connection", b"").lower()
        req.keep_alive = int(b"close" not in options if face.minor else b"keep-alive" in options)
        req.client_host = _ipv4(face.client)
        req.module_index = self.seat.index
        req.query = decoded(face.query)
        req.cookies = decoded(fields.get(b"cookie", b""))
        req.cookies_len = len(fields.get(b"cookie", b""))
        for attribute, name in _FIELDS:
            setattr(req, attribute, decoded(fields.get(name, b"")))

    def take(self, req: user_req_t) -> None:
        """What the module may have changed, at each of its calls."""
        self.event, self.priv, self.http_status = req.event, req.priv, req.http_status

    def descriptor(self) -> int:
        """For `req.sock`; -1: the request is over."""
        with self._pair_lock:
            if self.is_over:
                return -1
            if self._pair is None:
                self._pair = SockPair(blocking=self.seat.blocking or self.state is State.POSTPONED)
                self.stir()
            return self._pair.theirs.fileno()

    def postpone(self) -> None:
        """Make the descriptor one for whoever continues the request."""
        self.state = State.POSTPONED
        self._is_continued = False
        self.descriptor()
        assert self._pair is not None
        self._pair.set_blocking(blocking=True)

    def stir(self) -> None:
        """Something changed that the event loop waits for. From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(self._stir)

    def _stir(self) -> None:
        if self._stirred is not None and not self._stirred.done():
            self._stirred.set_result(None)

    # What the server does

    async def run(self) -> None:
        """Turns and moves, until the request is over. AnswerError: the module's answer is wrong. Whatever the module
        raises in its turn comes out, too."""
        try:
            self.body = await self.face.read_body()
            while True:
                move = await self.seat.turn(self)
                await self._drain()
                if await self._do(move):
                    return
        except AnswerError as error:
            self.complain(f"the answer {error}")
            self._give_up()
        finally:
            self._close()

    def complain(self, what: str) -> None:
        """A line in the error log: the module is at fault."""
        target = self.face.target.decode("ascii", "backslashreplace")
        logger.error("module %s: %s %s: %s (event %d)", self.seat.name, self.face.method, target, what, self.event)

    async def _do(self, move: Move) -> bool:
        """Whether the request is over."""
        action = move.action
        if action is Action.GET_OBJECT:
            await self._get_object(move.data)
        elif action is Action.SEND_BUFFER:
            await self.answer.feed(move.data)
        elif action is Action.SEND_OBJECT:
            await self._send_object()
        elif action is Action.WAIT_PROXY_SOCKET:
            await self._wait_for_watched()
        elif action is Action.POSTPONE_REQ:
            await self._wait_for_continue()
        elif action is Action.REDIRECT_REQ:
            self.face.redirect()
            return True
        elif action in {Action.FINISH_REQ, Action.FINISH_CLOSE_REQ}:
            self.answer.finish(self.http_status, close=action is Action.FINISH_CLOSE_REQ)
            return True
        else:  # EVENTLOOP, STOPTHREAD: the request is dropped
            self._give_up()
            return True
        return False

    async def _get_object(self, name: bytes) -> None:
        self._forget_object()
        self.objectname = name
        found = await self.face.find(name)
        if found.fd < 0:
            self.error = -errno.ENOENT
        else:
            self.object = found

    async def _send_object(self) -> None:
        assert self.object is not None, "tux() has looked"
        if self.answer.stage is Stage.NOTHING:
            await self.answer.object(self.objectname, fields_for(self.objectname))
        else:
            await self.answer.file(self.object.fd, self.object.size)

    async def _wait_for_watched(self) -> None:
        assert self.watched is not None, "tux() has looked"
        if not await self._readable(self.watched, WAIT_SECONDS):
            self.error = -errno.ETIMEDOUT

    async def _wait_for_continue(self) -> None:
        try:
            async with asyncio.timeout(POSTPONE_SECONDS):
                await self._carry(until=lambda: self._is_continued or self._pair is None)
        except TimeoutError:
            self.complain(f"nobody has called CONTINUE_REQ within {POSTPONE_SECONDS:.0f} s")
            self.error = -errno.ETIMEDOUT
        if self._pair is None:
            self.complain("the descriptor is closed, nobody can call CONTINUE_REQ")
            self.error = -errno.EBADF
        elif not self.seat.blocking:
            self._pair.set_blocking(blocking=False)

    async def until_moved(self) -> Move:
        """For seats in threads: what is written to the descriptor is carried to the client meanwhile."""
        await self._carry(until=lambda: self.move is not None)
        assert self.move is not None
        move, self.move = self.move, None
        return move

    # The descriptor

    async def _carry(self, until: Callable[[], bool]) -> None:
        """Send what comes by the descriptor until the condition holds, which is looked at when something stirs."""
        while not until():
            self._stirred = self._loop.create_future()
            if until():  # the other thread was faster than the line before
                return
            if self._pair is None:
                self.face.note(self._stirred)
                try:
                    await self._stirred
                finally:
                    self.face.drop(self._stirred)
            else:
                await self._readable(self._pair.ours, None, self._stirred)
            await self._drain()

    async def _drain(self) -> None:
        """Send what has come by the descriptor."""
        while self._pair is not None:
            piece = self._pair.read()
            if piece is None:
                return
            if piece.data:
                await self.answer.feed(piece.data)
            if piece.continues:
                self._is_continued = True
                return
            if piece.ended:
                self._pair.close()
                self._pair = None

    async def _readable(
        self, sock: socket.socket, seconds: float | None, waiter: asyncio.Future[None] | None = None
    ) -> bool:
        """Whether the socket has become readable, which an error is, too, or the waiter is done, within the time."""
        waiter = waiter or self._loop.create_future()

        def on_readable() -> None:
            if not waiter.done():
                waiter.set_result(None)

        self.face.note(waiter)
        self._loop.add_reader(sock.fileno(), on_readable)
        try:
            await asyncio.wait_for(waiter, seconds)
        except TimeoutError:
            return False
        finally:
            self._loop.remove_reader(sock.fileno())
            self.face.drop(waiter)
        return True

    # The end

    def watch(self, fd: int) -> None:
        """OSError: it is no socket."""
        copy = socket.socket(fileno=os.dup(fd))
        if self.watched is not None:
            self.watched.close()
        self.watched = copy

    def _give_up(self) -> None:
        """An answer that has not begun is a 500; one that has is cut."""
        if self.answer.stage in {Stage.NOTHING, Stage.HEAD}:
            self.face.answer_status(500)
        else:
            self.face.cut()

    def _forget_object(self) -> None:
        if self.object is not None:
            os.close(self.object.fd)
            self.object = None

    def _close(self) -> None:
        with self._pair_lock:
            self.is_over = True
            if self._pair is not None:
                self._pair.close()
        self._forget_object()
        if self.watched is not None:
            self.watched.close()


def _ipv4(address: str) -> int:
    """As a number in network order, which is what `inet_ntoa` got; 0: it is none."""
    try:
        (number,) = struct.unpack("=I", socket.inet_aton(address))
    except OSError:
        return 0
    return int(number)
