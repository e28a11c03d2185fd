"""One WebSocket at an ASGI application."""

from __future__ import annotations

import os
from asyncio import CancelledError, Future, TimerHandle
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from tux.apps import forked
from tux.apps.asgi import frames as ws_frames
from tux.apps.asgi.frames import Closed, Frames, WebSocketError
from tux.apps.asgi.handshake import Offer, agree_on_deflate
from tux.apps.asgi.http import is_about_client, wait, wake
from tux.apps.asgi.scope import ClientGoneError, Message
from tux.apps.refusal import refuse

if TYPE_CHECKING:
    from tux.apps.asgi.server import Server
    from tux.apps.port import Port, Request

BACKLOG_BYTES: Final = 65536
"""Messages that wait for the application: with more, no further ones are read, and the client's window closes."""
CLOSE_SECONDS: Final = 5.0
"""How long a client may take to answer our close frame."""

_RESERVED: Final = frozenset(
    (b"sec-websocket-accept", b"sec-websocket-extensions", b"sec-websocket-protocol", b"sec-websocket-version")
)
"""Fields of the answer to a handshake that are ours."""


_NO_PONG: Final = "the ping was not answered"


class _State(Enum):
    CONNECTING = 1
    """The application has not answered the handshake."""
    DENYING = 2
    """It answers with an HTTP response."""
    OPEN = 3
    CLOSING = 4
    """Our close frame is on its way, the client's is awaited."""
    CLOSED = 5


class WebSocketExchange:
    """The application gets `receive` and `send`; the server calls `on_...`."""

    def __init__(self, server: Server, request: Request, offer: Offer) -> None:
        self.key = request.key
        self.task: Any = None
        """The server's: the task that runs `run`."""
        self._server = server
        self._port: Port = server.port
        self._request = request
        self._offer = offer
        self._scope = server.scopes.websocket(request, offer.subprotocols)
        self._state = _State.CONNECTING
        self._frames: Frames | None = None
        # To the application.
        self._messages: deque[Message] = deque([{"type": "websocket.connect"}])
        self._backlog = 0
        """Bytes of them."""
        self._is_paused = False
        """There may be more frames to be read, when the application has taken messages."""
        self._uncredited = 0
        """Bytes from the client that it does not know to be taken."""
        self._end: Message | None = None
        """websocket.disconnect: comes after all messages, and again at each call."""
        self._readers: list[Future[None]] = []
        # To the client.
        self._pong: bytes | None = None
        """Payload of a pong that waits for room: the last one will do (RFC 6455 section 5.5.3)."""
        self._writers: list[Future[None]] = []
        self._gone = False
        self._eof = False
        """The client sends nothing more."""
        self._is_closed_by_application = False
        # Denial.
        self._denial: Message | None = None
        """Its start, until the head leaves."""
        self._denial_left = False
        # Time.
        self._ping_timer: TimerHandle | None = None
        self._close_timer: TimerHandle | None = None
        self._ping: bytes | None = None
        """Payload of the ping that is not answered."""

    # The application's side

    async def run(self) -> None:
        """Call the application, and end what it has not ended."""
        try:
            await self._call()
            # The task lasts until the client has answered the close frame, so that a drain waits for it.
            while self._state is _State.CLOSING:
                await wait(self._server.loop, self._readers)
        finally:
            self._cancel_timers()
            self._server.ended(self)

    async def _call(self) -> None:
        try:
            result = await self._server.application(self._scope, self.receive, self.send)
        except BaseException as error:  # noqa: BLE001 (whatever it is, the client gets an end and the log a line)
            if forked.here:
                forked.leave(error)
            self._fail(error)
        else:
            if forked.here:
                forked.leave(None)
            if result is not None:
                self._server.complain(self._request, f"returned {type(result).__name__}; expected None")
            self._abandon()

    async def receive(self) -> Message:
        while True:
            if self._messages:
                message = self._messages.popleft()
                if message["type"] == "websocket.receive":
                    self._backlog -= _size(message)
                    if self._is_paused and self._backlog < BACKLOG_BYTES:
                        self._pump()
                return message
            if self._end is not None:
                return self._end
            await wait(self._server.loop, self._readers)

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if self._gone:
            raise ClientGoneError
        if self._state is _State.OPEN:
            if kind == "websocket.send":
                await self._send_message(message)
            elif kind == "websocket.close":
                self._close_for_application(message.get("code", ws_frames.NORMAL), message.get("reason") or "")
            else:
                raise RuntimeError(f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'.")
        elif self._state is _State.CONNECTING:
            self._answer_handshake(kind, message)
        elif self._state is _State.DENYING:
            await self._deny(kind, message)
        elif self._is_closed_by_application:
            raise RuntimeError(f"Unexpected ASGI message '{kind}', after sending 'websocket.close'.")
        else:
            raise ClientGoneError

    async def _send_message(self, message: Message) -> None:
        data = message.get("bytes")
        payload = message.get("text") if data is None else data
        if payload is None:
            raise RuntimeError("ASGI message 'websocket.send' needs 'bytes' or 'text'.")
        assert self._frames is not None
        self._write(self._frames.message(payload if isinstance(payload, (str, bytes)) else bytes(payload)))
        if self._port.window(self.key) <= 0:
            await self._writable()

    async def _writable(self) -> None:
        while not self._gone and self._port.window(self.key) <= 0:
            await wait(self._server.loop, self._writers)
        if self._gone:
            raise ClientGoneError

    # The handshake

    def _answer_handshake(self, kind: str, message: Message) -> None:
        if kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._is_closed_by_application = True
            self._refuse(403)
        elif kind == "websocket.http.response.start":
            self._denial = message
            self._state = _State.DENYING
        else:
            raise RuntimeError(
                "Expected ASGI message 'websocket.accept', 'websocket.close' or 'websocket.http.response.start', "
                f"but got '{kind}'."
            )

    def _accept(self, message: Message) -> None:
        fields = [
            (b"upgrade", b"websocket"),
            (b"sec-websocket-accept", self._offer.accept),
        ]
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            if subprotocol not in self._offer.subprotocols:
                raise RuntimeError(f"The client did not offer the subprotocol {subprotocol!r}.")
            fields.append((b"sec-websocket-protocol", subprotocol.encode()))
        options = self._server.options
        deflate = None
        if options.ws_compression:
            agreed = agree_on_deflate(self._offer.extensions, options.ws_max_size)
            if agreed is not None:
                deflate, answer = agreed
                fields.append((b"sec-websocket-extensions", answer.encode()))
        for name, value in message.get("headers") or ():
            if name.lower() in _RESERVED:
                raise RuntimeError(f"The field {name.decode('latin-1')!r} of 'websocket.accept' is the server's.")
            fields.append((name, value))
        sent = self._port.upgrade(self.key, fields)
        if not sent:
            self._gone = True
            raise ClientGoneError
        self._state = _State.OPEN
        self._frames = Frames(options.ws_max_size, deflate)
        if self._request.body:
            self.on_body(self._request.body, end=False)
        if options.ws_ping_interval:
            self._set_ping_timer(options.ws_ping_interval)
        if self._eof:  # since before it was accepted
            self._pump()
        if self._server.is_draining:
            self.on_drain()

    async def _deny(self, kind: str, message: Message) -> None:
        """The extension websocket.http.response."""
        if kind != "websocket.http.response.body":
            raise RuntimeError(f"Expected ASGI message 'websocket.http.response.body', but got '{kind}'.")
        body = message.get("body", b"")
        end = not message.get("more_body", False)
        start, self._denial = self._denial, None
        if start is not None:
            sent = self._port.answer(self.key, start["status"], list(start.get("headers", ())), body=body, end=end)
            self._denial_left = True
        else:
            sent = self._port.data(self.key, body, end)
        if not sent:
            self._gone = True
            raise ClientGoneError
        if end:
            self._is_closed_by_application = True
            self._finish(ws_frames.ABNORMAL, "")
        elif self._port.window(self.key) <= 0:
            await self._writable()

    def _refuse(self, status: int) -> None:
        """An HTTP answer instead of a WebSocket."""
        self._finish(ws_frames.ABNORMAL, "")
        refuse(self._port, self.key, status)

    # The end

    def _close_for_application(self, code: int, reason: str) -> None:
        if not ws_frames.is_close_code(code):
            raise RuntimeError(f"{code} is no code that a WebSocket can be closed with.")
        self._is_closed_by_application = True
        self._close(code, reason)

    def _close(self, code: int, reason: str) -> None:
        """Send a close frame, and wait for the client's."""
        self._state = _State.CLOSING
        self._set_end(code, reason)
        self._write(ws_frames.close(code, reason))
        self._close_timer = self._server.loop.call_later(CLOSE_SECONDS, self._on_close_timer)
        # What waits for the application would keep the client's close frame from being read.
        self._messages.clear()
        self._backlog = 0
        self._pump()

    def _break(self, error: WebSocketError) -> None:
        """The client broke the protocol: nothing of what follows can be read."""
        self._write(ws_frames.close(error.code, error.reason), end=True)
        self._finish(error.code, error.reason)

    def _finish(self, code: int, reason: str) -> None:
        self._state = _State.CLOSED
        self._cancel_timers()
        self._set_end(code, reason)

    def _set_end(self, code: int, reason: str) -> None:
        if self._end is None:
            self._end = {"type": "websocket.disconnect", "code": code, "reason": reason}
        wake(self._readers)

    def _fail(self, error: BaseException) -> None:
        is_ending = isinstance(error, CancelledError) and self._server.is_ending
        if not is_ending and not (self._end is not None and is_about_client(error)):
            self._server.report(self._request, error)
        if self._gone:
            return
        if self._state is _State.OPEN:
            self._close(ws_frames.SERVICE_RESTART if is_ending else ws_frames.INTERNAL_ERROR, "")
        elif is_ending:
            self._abort_or_refuse(503)
        else:
            self._abort_or_refuse(500)

    def _abandon(self) -> None:
        """The application has returned."""
        if self._gone:
            return
        if self._state is _State.OPEN:
            self._close(ws_frames.NORMAL, "")
        elif self._state is _State.CONNECTING or self._state is _State.DENYING:
            self._server.complain(self._request, "returned without an answer to the handshake")
            self._abort_or_refuse(500)

    def _abort_or_refuse(self, status: int) -> None:
        if self._state is _State.CONNECTING or (self._state is _State.DENYING and not self._denial_left):
            self._refuse(status)
        elif self._state is _State.DENYING:
            self._finish(ws_frames.ABNORMAL, "")
            self._port.abort(self.key)

    # From the client

    def on_body(self, data: bytes, *, end: bool) -> None:
        if self._frames is None or self._state is _State.CLOSED:
            return
        self._uncredited += len(data)
        self._frames.feed(data)
        self._pump()
        if end:
            self.on_gone(hard=False)

    def _pump(self) -> None:
        """Read frames, until the application has enough to do."""
        frames = self._frames
        if frames is None:
            return
        before = len(self._messages)
        try:
            while self._state is _State.OPEN or self._state is _State.CLOSING:
                self._is_paused = self._backlog >= BACKLOG_BYTES
                if self._is_paused:
                    break
                received = frames.take()
                if received is None:
                    self._credit()
                    if self._eof:
                        self._lose()
                    break
                kind, payload = received
                if kind == ws_frames.TEXT:
                    self._deliver({"type": "websocket.receive", "text": payload})
                elif kind == ws_frames.BINARY:
                    self._deliver({"type": "websocket.receive", "bytes": payload})
                else:
                    self._control(kind, payload)
        except WebSocketError as error:
            self._break(error)
        if len(self._messages) > before:
            wake(self._readers)

    def _deliver(self, message: Message) -> None:
        if self._state is _State.OPEN:
            self._messages.append(message)
            self._backlog += _size(message)

    def _control(self, kind: int, payload: object) -> None:
        if isinstance(payload, Closed):
            self._on_close(payload)
        elif kind == ws_frames.PING:
            assert isinstance(payload, bytes)
            self._pong = payload
            self._send_pong()
        elif kind == ws_frames.PONG and self._ping is not None and payload == self._ping:
            self._ping = None
            self._set_ping_timer(self._server.options.ws_ping_interval)

    def _on_close(self, closed: Closed) -> None:
        is_answer = self._state is _State.CLOSING
        self._write(b"" if is_answer else ws_frames.close(closed.code), end=True)
        self._finish(closed.code, closed.reason)

    def _credit(self) -> None:
        n = self._uncredited
        if n:
            self._uncredited = 0
            self._port.credit(self.key, n)

    def on_gone(self, *, hard: bool) -> None:
        if not hard:
            # Before the handshake is complete it may still want the answer. Afterwards half a WebSocket is none, but
            # what it sent before is read first.
            self._eof = True
            self._pump()
            return
        self._vanish()

    def _lose(self) -> None:
        """The client has ended without a close frame."""
        self._write(b"", end=True)
        self._finish(ws_frames.ABNORMAL, "")

    def _vanish(self) -> None:
        self._gone = True
        self._finish(ws_frames.ABNORMAL, "")
        wake(self._writers)

    def on_drain(self) -> None:
        """A client that is told so connects again, to another process."""
        if self._state is _State.OPEN:
            self._close(ws_frames.SERVICE_RESTART, "")

    # To the client

    def _write(self, data: bytes, *, end: bool = False) -> None:
        """The port keeps what is over the window; who writes much waits until there is room again."""
        if self._gone:
            return
        sent = self._port.data(self.key, data, end)
        if not sent:
            self._vanish()

    def on_credit(self) -> None:
        if self._state is _State.CLOSED or self._port.window(self.key) <= 0:
            return
        if self._pong is not None:
            self._send_pong()
        if self._writers:
            wake(self._writers)

    def _send_pong(self) -> None:
        """Not to a client that asks without end, and takes nothing: the last one will do."""
        assert self._pong is not None
        if self._state is _State.OPEN and self._port.window(self.key) > 0:
            pong, self._pong = self._pong, None
            self._write(ws_frames.pong(pong))

    # Time

    def _on_ping_timer(self) -> None:
        options = self._server.options
        is_stuck = self._port.window(self.key) <= 0
        if self._ping is None and not is_stuck:
            self._ping = os.urandom(4)
            self._write(ws_frames.ping(self._ping))
            delay = options.ws_ping_timeout
        elif is_stuck or self._backlog >= BACKLOG_BYTES:
            # Our ping waits behind what the client does not take, or its pong behind what the application does not.
            # Connections that take nothing are the engine's to end.
            self._ping = None
            delay = options.ws_ping_interval
        else:
            self._write(ws_frames.close(ws_frames.INTERNAL_ERROR, _NO_PONG), end=True)
            self._finish(ws_frames.ABNORMAL, _NO_PONG)
            return
        self._set_ping_timer(delay)

    def _set_ping_timer(self, delay: float) -> None:
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        self._ping_timer = self._server.loop.call_later(delay, self._on_ping_timer)

    def _on_close_timer(self) -> None:
        if self._port.window(self.key) > 0:
            self._write(b"", end=True)
        else:
            self._port.abort(self.key)
        self._finish(ws_frames.ABNORMAL, "")

    def _cancel_timers(self) -> None:
        for timer in (self._ping_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        self._ping_timer = self._close_timer = None


def _size(message: Message) -> int:
    """For the backlog; a text counts its characters, and any message a little more than its content."""
    payload = message.get("text")
    return len(message["bytes"] if payload is None else payload) + 64
