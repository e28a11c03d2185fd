"""One request at the application: start_response, write, the blocks of the answer, and what may go wrong with them."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from tux.apps import forked
from tux.apps.port import Request
from tux.apps.wsgi import body, files
from tux.apps.wsgi.status import parse
from tux.http.errors import page, page_fields

if TYPE_CHECKING:
    from tux.apps.wsgi.pool import Pool

SMALL_BYTES = 65536
"""A block of so many bytes goes with the head. The port keeps what is over the window, which may be small when memory
is scarce, and the thread is free for others."""

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]
Application: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_NO_BODY = frozenset((204, 304))

logger = logging.getLogger("tux.app")


class ClientGoneError(ConnectionResetError):
    """The client has closed the connection: nobody reads the answer, or sends the rest of the body."""


class Exchange:
    """What is known of a request at work. Used by the thread that works on it; `gone`, `chunks` and `complete` are
    written by whoever takes events, with the pool's lock."""

    # Most exchanges never change most of these: they stay here.
    status = 0
    """0: start_response was not called."""
    reason = b""
    """The phrase that the application gave with it; b"": the usual one."""
    fields: list[tuple[bytes, bytes]] = []  # noqa: RUF012 (replaced, never changed)
    length = -1
    """Bytes of the body that were announced; -1: none were."""
    sent = 0
    """Bytes of the body that were given to the port."""
    started = False
    """The head was given to the port."""
    ended = False
    """So was the end."""
    cut = False
    """The application gave more than it announced."""
    bare = False
    """The answer has no body, whatever the application gives."""
    gone = False
    """The client is."""
    half_closed = False
    """The client sends nothing more, but may read."""
    news = False
    """Something has come for it since this was set to False."""
    complete = True
    """No more of the request's body comes than `chunks`."""
    chunks: list[bytes]

    def __init__(self, pool: Pool, request: Request) -> None:
        self.pool = pool
        self.request = request
        self.key = request.key
        if not request.complete:
            self.complete = False
            self.chunks = [request.body] if request.body else []

    def run(self, application: Application) -> None:
        """Call the application, and do with its answer what PEP 3333 says. Whatever it raises ends here."""
        request = self.request
        if request.complete:
            stream: Any = io.BytesIO(request.body)
        else:
            stream = body.reader(self)
        result = None
        try:
            result = application(self.pool.environs.make(request, stream), self.start_response)
            if forked.here:
                forked.leave(None)
            self._send_all(result)
        except ClientGoneError:
            self._give_up()
        except BaseException as error:  # noqa: BLE001 (SystemExit among them)
            if forked.here:
                forked.leave(error)
            self._fail("the application failed", error)
        close = getattr(result, "close", None)
        if close is not None:
            try:
                close()
            except BaseException as error:  # noqa: BLE001
                self._log("close() of the answer failed", error)

    # What the application calls

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333, "The start_response() Callable"."""
        if exc_info is not None:
            try:
                if self.started:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no cycle by way of this frame
        elif self.status:
            raise AssertionError("start_response was called again, without exc_info")
        (self.status, self.reason), self.fields, self.length = parse(status, headers)
        self.bare = self.status in _NO_BODY or self.request.method == "HEAD"
        if self.status == 204:
            self.length = -1  # RFC 9110 section 8.6; many give 0
        return self.write

    def write(self, block: bytes) -> None:
        """PEP 3333, "The write() Callable": the block is on its way when this returns. ClientGoneError: it is not."""
        if block:
            self._send(block)
        elif not isinstance(block, bytes):
            raise _no_bytes(block)

    def more_body(self) -> bytes:
        """The next bytes of the request's body, b"" at its end. ClientGoneError: they will not come."""
        pool = self.pool
        with pool.lock:
            while not self.chunks:
                if self.complete:
                    return b""
                if self.gone or self.half_closed:
                    raise ClientGoneError("the client has closed the connection before the end of the body")
                pool.port.accept(self.key)
                pool.wait_for(self)
            chunk = self.chunks.pop(0)
            pool.port.credit(self.key, len(chunk))
            pool.flush()
        return chunk

    # The answer

    def _send_all(self, result: Iterable[bytes]) -> None:
        if type(result) is list and len(result) == 1:
            only = True
        elif isinstance(result, files.FileWrapper):
            if self._send_file(result):
                return
            only = False
        else:
            try:
                only = len(result) == 1  # type: ignore[arg-type] # most have none
            except TypeError:
                only = False
        for block in result:
            if block:
                self._send(block, only=only)
                if self.ended and (self.cut or self.bare):
                    return
            elif not isinstance(block, bytes):
                raise _no_bytes(block)
        if not self.ended:
            self._end()

    def _send(self, block: bytes, *, only: bool = False) -> None:
        """A block that is not empty; only: there is no other."""
        if not isinstance(block, bytes):
            raise _no_bytes(block)
        if self.ended:
            if not self.cut:
                self._surplus(self.sent + len(block))
            return
        size = len(block)
        if not self.started:
            if not self.status:
                raise AssertionError("the application gave a part of its answer before it called start_response")
            if only and self.length < 0 and self.status not in _NO_BODY:
                self.length = size
            if self.bare:
                self._start(b"", end=True)
                return
        end = False
        if self.length >= 0:
            rest = self.length - self.sent
            end = size >= rest
            if size > rest:
                self._surplus(self.sent + size)
                block = block[:rest]
                size = rest
        if self.started:
            self._data(block, end=end)
        elif size <= SMALL_BYTES:
            self._start(block, end=end)
        else:
            self._start(b"", end=False)
            self._data(block, end=end)
        self.sent += size

    def _end(self) -> None:
        """All blocks were sent."""
        if self.started:
            if self.length >= 0:
                # Were it complete, the last block would have been the end. The client must not take it for that.
                logger.error("%s gave %d bytes, after a Content-Length of %d", self._name(), self.sent, self.length)
                self._give_up()
            else:
                self._data(b"", end=True)
            return
        if not self.status:
            raise AssertionError("the application did not call start_response")
        if not self.bare:
            if self.length > 0:
                raise ValueError(f"the application gave nothing, after a Content-Length of {self.length}")
            self.length = 0
        self._start(b"", end=True)

    def _surplus(self, size: int) -> None:
        self.cut = True
        if not self.bare:
            logger.error("%s gave %d bytes or more, after a Content-Length of %d", self._name(), size, self.length)

    def _start(self, block: bytes, *, end: bool) -> None:
        pool = self.pool
        port = pool.port
        with pool.lock:
            if self.gone or not port.answer(
                self.key, self.status, self.fields, length=self.length, body=block, end=end, reason=self.reason
            ):
                raise _gone()
            if end:
                pool.flush_soon(self)
            else:
                pool.flush()
        self.started = True
        self.ended = end

    def _data(self, block: bytes, *, end: bool) -> None:
        """Bytes of the body, as the window lets them. ClientGoneError."""
        pool = self.pool
        port = pool.port
        with pool.lock:
            rest = memoryview(block)
            while True:
                if self.gone:
                    raise _gone()
                window = port.window(self.key)
                if rest and window <= 0:
                    pool.wait_for(self)
                    continue
                piece, rest = rest[:window], rest[window:]
                if not port.data(self.key, piece, end and not rest):
                    raise _gone()
                if not rest:
                    break
            pool.flush()
        self.ended = end

    def _send_file(self, wrapper: files.FileWrapper) -> bool:
        """Let the engine send it. False: it has to be read."""
        found = files.extent(wrapper.filelike)
        if found is None or self.started:
            return False
        if not self.status:
            raise AssertionError("the application did not call start_response")
        size = found.length
        if self.length < 0:
            self.length = size
        if size < self.length and not self.bare:
            raise ValueError(f"the file has {size} bytes, after a Content-Length of {self.length}")
        if self.bare or self.length == 0:
            self._start(b"", end=True)
            return True
        pool = self.pool
        port = pool.port
        with pool.lock:  # head and file together: one wake-up, and they leave together
            if self.gone or not port.answer(self.key, self.status, self.fields, length=self.length, reason=self.reason):
                raise _gone()
            self.started = True
            if not port.file(self.key, found.fd, found.offset, self.length):
                raise _gone()
            self.sent = self.length
            self.ended = True
            pool.flush_soon(self)
        return True

    # Failures

    def _fail(self, what: str, error: BaseException) -> None:
        """Log it, and tell the client: by a 500, or, when something has been sent already, by a cut."""
        self._log(what, error)
        if self.ended:
            return
        if self.started:
            self._give_up()
            return
        self.status = 500
        self.reason = b""
        self.fields = list(page_fields(500))
        text = page(500)
        self.length = len(text)
        try:
            self._start(b"" if self.request.method == "HEAD" else text, end=True)
        except ClientGoneError:
            pass

    def _give_up(self) -> None:
        if not self.ended:
            self.ended = True
            with self.pool.lock:
                if not self.gone:
                    self.pool.port.abort(self.key)
                    self.pool.flush()

    def _log(self, what: str, error: BaseException) -> None:
        if self.gone and isinstance(error, OSError):
            return  # what became of ClientGoneError on its way through the application
        if isinstance(error, SystemExit | KeyboardInterrupt):
            what = f"{what}, it tried to end the process"
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        logger.error("%s: %s", self._name(), what, exc_info=(type(error), error, trace))

    def _name(self) -> str:
        request = self.request
        return f"{self.pool.name}: {request.method} {request.target.decode('ascii', 'backslashreplace')}"


def _gone() -> ClientGoneError:
    return ClientGoneError("the client has closed the connection")


def _no_bytes(block: object) -> TypeError:
    return TypeError(f"expected bytes as a part of the answer, not {type(block).__name__}")
