"""One HTTP request at an ASGI application."""

from __future__ import annotations

import os
import stat
from asyncio import AbstractEventLoop, CancelledError, Future
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from tux.apps import forked
from tux.apps.asgi.scope import ClientGoneError, Message
from tux.apps.refusal import refuse

if TYPE_CHECKING:
    from tux.apps.asgi.server import Server
    from tux.apps.port import Port, Request

SMALL_BODY_BYTES: Final = 65536
"""A body up to this size is sent without waiting: mostly it fits into the window of an exchange that has sent nothing
yet; else, when memory is scarce, the port keeps the rest of it."""

_BODILESS: Final = frozenset((204, 304))
"""Answers that have no body, whatever the application sends (RFC 9110 section 6.4.1)."""
_NOBODY: Final[list[Future[None]]] = []
"""Waits: of requests of which nothing has ever waited. Nobody is added to it."""


class _Phase(IntEnum):
    """How far the answer is."""

    NOTHING = 0
    HELD = 1
    """The application has begun it. The head leaves with the first bytes of the body, or the end."""
    SENT = 2
    """The head has left."""
    COMPLETE = 3


_NOTHING: Final = _Phase.NOTHING
_HELD: Final = _Phase.HELD
_SENT: Final = _Phase.SENT
_COMPLETE: Final = _Phase.COMPLETE


class HttpExchange:
    """A request and its answer. The application gets `receive` and `send`; the server calls `on_...`."""

    __slots__ = (
        "_bodiless",
        "_body",
        "_gone",
        "_half_closed",
        "_headers",
        "_left",
        "_length",
        "_more",
        "_phase",
        "_port",
        "_readers",
        "_request",
        "_scope",
        "_server",
        "_status",
        "_taken",
        "_trailers",
        "_writers",
        "key",
        "task",
    )

    def __init__(self, server: Server, request: Request) -> None:
        self.key = request.key
        self.task: Any = None
        """The server's: the task that runs `run`."""
        self._server = server
        self._port: Port = server.port
        self._request = request
        self._scope = server.scopes.http(request)
        # The request's body.
        self._body: bytes | bytearray = request.body
        """What has arrived, and was not taken."""
        self._more = not request.complete
        self._taken = False
        """The application has got the last of it."""
        # The answer.
        self._phase = _NOTHING
        self._bodiless = False
        self._trailers: list[tuple[bytes, bytes]] | None = None
        """They are awaited."""
        # The client.
        self._half_closed = False
        self._gone = False
        self._readers: list[Future[None]] = _NOBODY
        self._writers: list[Future[None]] = _NOBODY

    # The application's side

    async def run(self) -> None:
        """Call the application, and end what it has not ended."""
        server = self._server
        try:
            result = await server.application(self._scope, self.receive, self.send)
        except BaseException as error:  # noqa: BLE001 (whatever it is, the client gets an answer and the log a line)
            if forked.here:
                forked.leave(error)
            self._fail(error)
        else:
            if forked.here:
                forked.leave(None)
            if result is not None:
                server.complain(self._request, f"returned {type(result).__name__}; expected None")
            if self._phase is not _COMPLETE and not self._gone:
                self._abandon()
        finally:
            server.ended(self)

    async def receive(self) -> Message:
        while True:
            if self._phase is _COMPLETE or self._gone:
                return {"type": "http.disconnect"}
            if not self._taken and (self._body or not self._more):
                body = self._body
                self._body = b""
                if self._more:
                    self._port.credit(self.key, len(body))
                else:
                    self._taken = True
                return {
                    "type": "http.request",
                    "body": body if type(body) is bytes else bytes(body),
                    "more_body": self._more,
                }
            if self._half_closed:
                return {"type": "http.disconnect"}
            if self._readers is _NOBODY:
                self._readers = []
            self._port.accept(self.key)
            await wait(self._server.loop, self._readers)

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if self._gone:
            raise ClientGoneError
        phase = self._phase
        if phase is _NOTHING:
            if kind == "http.response.start":
                self._begin(message)
            elif kind == "http.response.early_hint":
                self._hint(message)
            else:
                raise RuntimeError(f"Expected ASGI message 'http.response.start', but got '{kind}'.")
        elif phase is _COMPLETE:
            raise RuntimeError(f"Unexpected ASGI message '{kind}' sent, after response already completed.")
        elif kind != "http.response.body":
            await self._send_special(kind, message)
        elif phase is _SENT or message.get("more_body", False) or self._trailers is not None:
            await self._send_piece(message.get("body", b""), last=not message.get("more_body", False))
        else:
            body = message.get("body", b"")
            if len(body) <= SMALL_BODY_BYTES:
                self._send_whole(body)
            else:
                await self._send_piece(body, last=True)

    def _begin(self, message: Message) -> None:
        status = self._status = message["status"]
        headers = message.get("headers", ())
        self._headers = headers if type(headers) is list else list(headers)
        self._bodiless = status in _BODILESS
        if message.get("trailers", False):
            self._trailers = []
        self._phase = _HELD

    def _send_whole(self, body: bytes | bytearray | memoryview) -> None:
        """Head and body at once: most answers."""
        # ValueError: a field cannot be sent, or Content-Length is another. Nothing was then, and the phase stays.
        length = -1
        if self._request.method == "HEAD" and content_length(self._headers) < 0:
            length = len(body)
        sent = self._port.answer(self.key, self._status, self._headers, length=length, body=body, end=True)
        self._complete()
        self._check(sent)

    async def _send_piece(self, body: bytes | bytearray | memoryview, *, last: bool) -> None:
        """Send a piece of the body, with the head if that is still here; return when the window has room again."""
        n = len(body)
        self._send_head(n, last=last)
        end = last and self._trailers is None
        if self._bodiless:
            body = b""
        elif n > self._port.window(self.key):
            # The port keeps what is over the window. The end only follows when that has left: it must not be kept, too,
            # when the process ends.
            self._check(self._port.data(self.key, body))
            body = b""
            await self._writable()
        if end:
            sent = self._port.data(self.key, body, end=True)
            self._complete()
            self._check(sent)
        else:
            if body:
                self._check(self._port.data(self.key, body))
            if self._port.window(self.key) <= 0:
                await self._writable()

    def _send_head(self, n: int, *, last: bool) -> None:
        """The head, if it is still here, before `n` bytes of the body. RuntimeError: these, or all, are not as many as
        Content-Length says; nothing was sent."""
        if self._phase is _HELD:
            self._left = self._length = -1
            if not self._bodiless and self._request.method != "HEAD":
                self._left = self._length = content_length(self._headers)
        if self._length >= 0:
            self._left -= n
            if self._left < 0 or (last and self._left):
                raise RuntimeError(
                    f"Response content {'longer' if self._left < 0 else 'shorter'} than Content-Length: "
                    f"{self._length - self._left} bytes, not {self._length}"
                )
        if self._phase is _HELD:
            length = n if last and self._trailers is None and not self._bodiless else -1
            sent = self._port.answer(
                self.key, self._status, self._headers, length=length, trailers=self._sends_trailers()
            )
            self._phase = _SENT
            self._check(sent)

    def _check(self, sent: bool) -> None:  # noqa: FBT001 (what the port's calls return)
        if not sent:
            self._gone = True
            raise ClientGoneError

    def _complete(self) -> None:
        self._phase = _COMPLETE
        if self._readers:
            wake(self._readers)

    # The application's side: extensions

    async def _send_special(self, kind: str, message: Message) -> None:
        if kind == "http.response.pathsend":
            self._send_path(message["path"])
        elif kind == "http.response.zerocopysend":
            self._send_file(message)
            if self._phase is _SENT and self._port.window(self.key) <= 0:
                await self._writable()
        elif kind == "http.response.early_hint":
            self._hint(message)
        elif kind == "http.response.trailers":
            self._send_trailers(message)
        else:
            raise RuntimeError(f"Expected ASGI message 'http.response.body', but got '{kind}'.")

    def _hint(self, message: Message) -> None:
        """Too late, when the head has left; and HTTP/1.0 knows nothing of it."""
        if self._request.minor and self._phase is not _SENT:
            self._check(self._port.inform(self.key, 103, [(b"link", bytes(link)) for link in message["links"]]))

    def _send_path(self, path: str) -> None:
        """The whole body is a file. Is it longer than Content-Length, as logs may be by now, it is cut there."""
        if self._phase is not _HELD:
            raise RuntimeError("Unexpected ASGI message 'http.response.pathsend', after the body has begun.")
        kept = self._port.kept(self.key, os.fsencode(path))
        if kept is not None:
            self._send_whole_file(*kept)
            return
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            self._send_whole_file(fd, _file_size(fd))
        finally:
            os.close(fd)

    def _send_whole_file(self, fd: int, size: int) -> None:
        length = content_length(self._headers)
        self._send_slice(fd, 0, size if length < 0 else min(size, length), last=True)

    def _send_file(self, message: Message) -> None:
        file = message["file"]
        fd = file if isinstance(file, int) else file.fileno()
        size = _file_size(fd)
        offset = message.get("offset")
        start = os.lseek(fd, 0, os.SEEK_CUR) if offset is None else offset
        count = message.get("count")
        available = max(size - start, 0)
        count = available if count is None else min(count, available)
        self._send_slice(fd, start, count, last=not message.get("more_body", False))
        if offset is None:  # as sendfile(2) does it
            os.lseek(fd, start + count, os.SEEK_SET)

    def _send_slice(self, fd: int, offset: int, n: int, *, last: bool) -> None:
        self._send_head(n, last=last)
        end = last and self._trailers is None
        if n and not self._bodiless:
            sent = self._port.file(self.key, fd, offset, n, end)
        else:
            sent = self._port.data(self.key, b"", end)
        if end:
            self._complete()
        self._check(sent)

    def _sends_trailers(self) -> bool:
        """Only to clients that asked for them."""
        return (
            self._trailers is not None
            and self._request.minor == 1
            and any(
                name == b"te" and b"trailers" in [token.strip().lower() for token in value.split(b",")]
                for name, value in self._request.headers
            )
        )

    def _send_trailers(self, message: Message) -> None:
        if self._trailers is None:
            raise RuntimeError("Unexpected ASGI message 'http.response.trailers': 'trailers' was not set at the start.")
        self._send_head(0, last=True)
        self._trailers += [(name, value) for name, value in message.get("headers", ())]
        if message.get("more_trailers", False):
            return
        if self._sends_trailers():
            sent = self._port.trailers(self.key, self._trailers)
        else:
            sent = self._port.data(self.key, b"", end=True)
        self._complete()
        self._check(sent)

    # The end of the application

    def _fail(self, error: BaseException) -> None:
        is_ending = isinstance(error, CancelledError) and self._server.is_ending
        if not is_ending and not (self._gone and is_about_client(error)):
            self._server.report(self._request, error)
        if self._phase is not _COMPLETE and not self._gone:
            self._refuse(503 if is_ending else 500)

    def _abandon(self) -> None:
        what = "completing the answer" if self._phase else "an answer"
        self._server.complain(self._request, f"returned without {what}")
        self._refuse(500)

    def _refuse(self, status: int) -> None:
        """This answer if none has begun to leave, else cut the connection: the client must not believe it whole."""
        if self._phase is _SENT:
            self._port.abort(self.key)
        else:
            refuse(self._port, self.key, status)
        self._complete()

    # The server's side

    def on_body(self, data: bytes, *, end: bool) -> None:
        body = self._body
        if not body:
            self._body = data
        elif type(body) is bytearray:
            body += data
        else:
            self._body = bytearray(body)
            self._body += data
        self._more = not end
        if self._readers:
            wake(self._readers)

    def on_credit(self) -> None:
        if self._writers and self._port.window(self.key) > 0:
            wake(self._writers)

    def on_gone(self, *, hard: bool) -> None:
        self._half_closed = True
        self._gone = self._gone or hard
        if self._readers:
            wake(self._readers)
        if hard and self._writers:
            wake(self._writers)

    def on_drain(self) -> None:
        """Running requests are finished."""

    async def _writable(self) -> None:
        while not self._gone and self._port.window(self.key) <= 0:
            if self._writers is _NOBODY:
                self._writers = []
            await wait(self._server.loop, self._writers)
        if self._gone:
            raise ClientGoneError


async def wait(loop: AbstractEventLoop, waiters: list[Future[None]]) -> None:
    """Until `wake`. Each waiter has a future of its own: who is cancelled takes nothing away from others."""
    waiter = loop.create_future()
    waiters.append(waiter)
    try:
        await waiter
    finally:
        if waiter in waiters:
            waiters.remove(waiter)


def wake(waiters: list[Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()


def content_length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """What they say about the body; -1: nothing. ValueError: what is no length, which no port would send."""
    for name, value in headers:
        if name.lower() == b"content-length":
            if not value.strip().isdigit():
                raise ValueError(f"{value!r} is no Content-Length")
            return int(value)
    return -1


def _file_size(fd: int) -> int:
    """RuntimeError: it is not a regular file, which alone can be sent like this."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise RuntimeError("only regular files can be sent by path or descriptor")
    return found.st_size


def is_about_client(error: BaseException | None) -> bool:
    """Whether it comes of ClientGoneError, perhaps by way of a framework's own exception."""
    for _ in range(8):
        if error is None or isinstance(error, ClientGoneError):
            return error is not None
        if isinstance(error, BaseExceptionGroup):
            return all(is_about_client(one) for one in error.exceptions)
        error = error.__cause__ or error.__context__
    return False
