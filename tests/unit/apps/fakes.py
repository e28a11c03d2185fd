"""A stand-in for `tux._app.Port`: tests say what the engine sends, and look at what it gets."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from tux.apps.port import BODY, CREDIT, DRAIN, GONE, OBJECT, REQUEST, Event, Fields
from tux.http.errors import page

WINDOW_BYTES = 128 * 1024
PATIENCE_S = 20.0
"""After so long without what a test waits for, it fails."""

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"upgrade"))


@dataclass(frozen=True)
class FakeRequest:
    key: int
    method: str = "GET"
    target: bytes = b"/"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = True
    length: int = -1
    minor: int = 1
    scheme: str = "http"
    client: tuple[str, int] | None = ("192.0.2.7", 40000)
    server: tuple[str, int | None] = ("127.0.0.1", 8000)
    upgrade: bool = False

    @property
    def head(self) -> bytes:
        lines = [f"{self.method} ".encode() + self.target + f" HTTP/1.{self.minor}".encode()]
        lines += [name + b": " + value for name, value in self.headers]
        return b"".join(line + b"\r\n" for line in [*lines, b""])

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        return self.target.partition(b"?")[2]


class Answer:
    """What an exchange got, or gets yet. Read it after `done`, or by `until`."""

    def __init__(self, key: int, port: FakePort) -> None:
        self.key = key
        self._port = port
        self.status = 0
        self.reason = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.length = -1
        self.pieces: list[bytes] = []
        self.files: list[tuple[int, int]] = []
        """Offset and length."""
        self.credited = 0
        self.ended = self.aborted = self.gone = self.upgraded = False
        self.informed: list[tuple[int, Fields]] = []
        self.trailers: Fields | None = None
        self.flushed = True
        """The engine was woken after the latest call."""
        self.kept: tuple[int, bool] | None = None
        """A file that is sent when the client reads: its length, and whether it is the end."""
        self.unread = 0
        """Bytes that the client has not taken."""

    def __repr__(self) -> str:
        return f"<{self.status}, {len(self.body)} of {self.length} bytes, {self.ended=} {self.aborted=} {self.gone=}>"

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def value(self, name: str) -> str | None:
        """Of the only field with this name."""
        values = [value.decode("latin-1") for key, value in self.fields if key.decode().lower() == name.lower()]
        assert len(values) < 2
        return values[0] if values else None

    def refusal(self) -> int:
        """Wait until it is complete: the status of a page of the server's own, with all fields that go with one."""
        self.done()
        names = ("content-type", "x-content-type-options", "retry-after")
        expected = ["text/html; charset=utf-8", "nosniff", "1" if self.status == 503 else None]
        assert [self.value(name) for name in names] == expected, self.fields
        assert self.body == page(self.status)
        return self.status

    def done(self) -> Answer:
        """Wait until it is complete, or cut, and the engine was told."""
        return self.until("(self.ended or self.aborted) and self.flushed")

    def until(self, condition: str) -> Answer:
        """Wait until this expression of `self` holds."""
        code = compile(condition, "<until>", "eval")
        with self._port.changed:
            assert self._port.changed.wait_for(lambda: eval(code, {"self": self}), PATIENCE_S), (condition, self)
        return self


class FakePort:
    """The port, and the engine and the clients behind it. `reads`: clients take what they get at once."""

    def __init__(self, *, reads: bool = True) -> None:
        self.reads = reads
        self.changed = threading.Condition(threading.RLock())
        self.answers: dict[int, Answer] = {}
        self.unended: set[int] = set()
        self.flushes = 0
        self.waits = 0
        """Threads that wait in the port."""
        self.errors: list[str] = []
        """Calls that no port would allow."""
        self.pool: Any = None
        """Of the threads that use it, where there is one."""
        self.said: dict[int, dict[str, Any]] = {}
        """What `answer` was told beyond the answer."""
        self.closed: set[int] = set()
        self.accepted: set[int] = set()
        """Whose body is wanted."""
        self.objects: dict[int, tuple[bytes, Fields, int]] = {}
        self.given: dict[int, str] = {}
        """Declined: "next" or "forward"."""
        self.lookups: list[tuple[int, bytes]] = []
        self._events: deque[Event] = deque()
        self._unflushed: list[Answer] = []
        self._caller = threading.Lock()
        self._written: Callable[[], None] = lambda: None
        self._key = 0

    # What tests do

    def request(self, method: str = "GET", target: str = "/", **attributes: object) -> Answer:
        """A request comes. `attributes` are those of FakeRequest; headers may be a dict."""
        headers = attributes.pop("headers", [])
        if isinstance(headers, dict):
            headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        with self.changed:
            self._key += 1
            answer = self.answers[self._key] = Answer(self._key, self)
            self.unended.add(self._key)
            request = FakeRequest(
                self._key,
                method,
                target.encode("latin-1"),
                headers,  # type: ignore[arg-type] # list or dict, see above
                **attributes,  # type: ignore[arg-type]
            )
            self._put((REQUEST, self._key, request))
        return answer

    def send_body(self, answer: Answer, data: bytes, *, end: bool = False) -> None:
        """More of the request's body."""
        self._put((BODY, answer.key, (data, end)))

    def read(self, answer: Answer, count: int) -> None:
        """The client takes bytes of the answer."""
        with self.changed:
            if answer.kept:
                _, end = answer.kept
                answer.kept = None
                self._end(answer, end)
            count = min(count, answer.unread)
            answer.unread -= count
            self._put((CREDIT, answer.key, count))

    def hang_up(self, answer: Answer, *, hard: bool = True) -> None:
        """The client closes the connection."""
        with self.changed:
            if hard:
                answer.gone = True
                self.unended.discard(answer.key)
            self._put((GONE, answer.key, hard))

    def found(self, fd: int = -1, status: int = 200, size: int = 0) -> bytes:
        """Answer the next lookup: its path."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.lookups, PATIENCE_S)
            key, path = self.lookups.pop(0)
        found = SimpleNamespace(status=status, size=size, media_type=b"text/plain", etag=b'"e"', modified=10**9, fd=fd)
        self._put((OBJECT, key, found))
        return path

    def drain(self) -> None:
        self._put((DRAIN, 0, None))

    def _put(self, event: Event) -> None:
        with self.changed:
            self._events.append(event)
            self.changed.notify_all()

    # What the port does

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        if not self._caller.acquire(blocking=False):
            self.errors.append("two threads called the port at the same time")
            raise AssertionError(self.errors[-1])
        try:
            with self.changed:
                yield
                self.changed.notify_all()
        finally:
            self._caller.release()

    def _open(self, key: int) -> Answer | None:
        answer = self.answers[key]
        if answer.ended or answer.aborted:
            self.errors.append(f"a call for {key}, which has ended")
            raise AssertionError(self.errors[-1])
        answer.flushed = False
        self._unflushed.append(answer)
        self._written()
        return None if answer.gone else answer

    @property
    def open(self) -> int:
        return len(self.unended)

    def fileno(self) -> int:
        raise NotImplementedError

    def take(self) -> Event | None:
        with self._call():
            if self.waits:
                self.errors.append("take() while another thread is in wait()")
            return self._events.popleft() if self._events else None

    def sleep(self) -> bool:
        return not self._events

    def awake(self) -> None:
        pass

    def wait(self, timeout_ms: int) -> bool:
        with self.changed:
            if self.waits:
                self.errors.append("two threads in wait()")
            self.waits += 1
            self.changed.notify_all()
            found = self.changed.wait_for(lambda: self._events, PATIENCE_S if timeout_ms < 0 else timeout_ms / 1000)
            self.waits -= 1
            if not found and timeout_ms < 0:
                self.errors.append("nothing came for long")
                self._events.append((DRAIN, 0, None))
            return bool(found)

    def answer(
        self,
        key: int,
        status: int,
        fields: Fields,
        *,
        length: int = -1,
        body: bytes | bytearray | memoryview = b"",
        end: bool = False,
        trailers: bool = False,
        reason: bytes = b"",
        **said: Any,
    ) -> bool:
        with self._call():
            check(fields)
            answer = self._open(key)
            if answer is None:
                return False
            assert not answer.status, "answered twice"
            answer.status, answer.fields, answer.length = status, list(fields), length
            answer.reason = reason
            sent = self._take(answer, bytes(body), end)
            self.said[key] = said
            self._note_close(key, said.get("close", False))
            return sent

    def _note_close(self, key: int, close: bool) -> None:
        if close:
            self.closed.add(key)

    def object(self, key: int, path: bytes, fields: Fields = (), status: int = 0, close: bool = False) -> bool:
        self.objects[key] = (path, fields, status)
        self._note_close(key, close)
        return FakePort.answer(self, key, status or 200, fields, body=b"object", end=True)

    def lookup(self, key: int, path: bytes) -> bool:
        with self.changed:
            self.lookups.append((key, path))
            self.changed.notify_all()
        return True

    def data(self, key: int, body: bytes | bytearray | memoryview, end: bool = False, close: bool = False) -> bool:
        self._note_close(key, close)
        with self._call():
            answer = self._open(key)
            if answer is None:
                return False
            assert answer.status or answer.upgraded, "data before the head"
            return self._take(answer, bytes(body), end)

    def _take(self, answer: Answer, body: bytes, end: bool) -> bool:
        if body:
            answer.pieces.append(body)
            answer.unread += len(body)
            if answer.unread > WINDOW_BYTES:
                self.errors.append(f"{answer.unread} bytes, more than the window")
            if self.reads:
                self.read(answer, len(body))
        self._end(answer, end)
        return True

    def _end(self, answer: Answer, end: bool) -> None:
        if end:
            answer.ended = True
            self.unended.discard(answer.key)

    def file(self, key: int, fd: int, offset: int, length: int, end: bool = True) -> bool:
        with self._call():
            answer = self._open(key)
            if answer is None:
                return False
            answer.files.append((offset, length))
            answer.pieces.append(os.pread(fd, length, offset))
            if self.reads:
                self._end(answer, end)
            else:
                answer.kept = (length, end)
            return True

    def kept(self, key: int, path: bytes) -> tuple[int, int] | None:
        return None

    def trailers(self, key: int, fields: Fields) -> bool:
        with self._call():
            check(fields)
            answer = self._open(key)
            if answer is None:
                return False
            answer.trailers = fields
            self._end(answer, True)
            return True

    def inform(self, key: int, status: int, fields: Fields) -> bool:
        with self._call():
            check(fields)
            answer = self._open(key)
            if answer is None:
                return False
            answer.informed.append((status, fields))
            return True

    def upgrade(self, key: int, fields: Fields) -> bool:
        with self._call():
            check(fields)
            answer = self._open(key)
            if answer is None:
                return False
            answer.status, answer.upgraded, answer.fields = 101, True, list(fields)
            return True

    def accept(self, key: int) -> None:
        with self._call():
            self.accepted.add(key)
            self._written()

    def credit(self, key: int, n: int) -> None:
        with self._call():
            self.answers[key].credited += n
            self._written()

    def abort(self, key: int) -> None:
        with self._call():
            answer = self._open(key)
            if answer is not None:
                answer.aborted = True
                self.unended.discard(key)

    def next(self, key: int, forward: bool = False) -> None:
        self.given[key] = "forward" if forward else "next"
        self.abort(key)

    def window(self, key: int) -> int:
        with self._call():
            answer = self._open(key)
            return WINDOW_BYTES if answer is None else WINDOW_BYTES - answer.unread

    def on_write(self, written: Callable[[], None]) -> None:
        self._written = written

    def flush(self) -> None:
        with self._call():
            self.flushes += 1
            for answer in self._unflushed:
                answer.flushed = True
            self._unflushed.clear()


class LoopPort(FakePort):
    """With a descriptor, and as patient with bodies and fields as the real one."""

    def __init__(self, *, reads: bool = True) -> None:
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.methods: dict[int, str] = {}
        super().__init__(reads=reads)

    def close(self) -> None:
        os.close(self._event_fd)

    def fileno(self) -> int:
        return self._event_fd

    def _put(self, event: Event) -> None:
        super()._put(event)
        os.eventfd_write(self._event_fd, 1)

    def awake(self) -> None:
        try:
            os.eventfd_read(self._event_fd)
        except BlockingIOError:
            pass

    def answer(self, key: int, status: int, fields: Any, **options: Any) -> bool:
        """Content-Length may be among the fields; those of the connection are left out."""
        lengths = [int(value) for name, value in fields if name.lower() == b"content-length"]
        plain = [(name, value) for name, value in fields if name.lower() not in {b"content-length", b"connection"}]
        body = bytes(options.pop("body", b""))
        length = options.pop("length", -1)
        if lengths:
            if length not in {-1, lengths[0]}:
                raise ValueError("two lengths")
            length = lengths[0]
        method = self.methods.get(key, "GET")
        if method == "HEAD" or status in {204, 304}:
            kept = b""
        else:
            kept = body
            if options.get("end") and not options.get("trailers"):
                length = len(body) if length < 0 else length
                if length != len(body):
                    raise ValueError(f"{len(body)} bytes of a body of {length}")
        return super().answer(key, status, plain, length=length, body=kept, **options)

    def upgrade(self, key: int, fields: Fields) -> bool:
        """With Upgrade among the fields."""
        assert (b"upgrade", b"websocket") in fields
        sent = super().upgrade(key, [field for field in fields if field[0] != b"upgrade"])
        self.answers[key].fields = list(fields)
        return sent

    def request(self, method: str = "GET", target: str = "/", **attributes: object) -> Answer:
        with self.changed:
            self.methods[self._key + 1] = method
            return super().request(method, target, **attributes)

    def _take(self, answer: Answer, body: bytes, end: bool) -> bool:
        """More than the window is kept, not refused."""
        if body and self.methods.get(answer.key) != "HEAD":
            answer.pieces.append(body)
            answer.unread += len(body)
            if self.reads:
                self.read(answer, len(body))
        self._end(answer, end)
        return True

    def window(self, key: int) -> int:
        with self._call():
            answer = self._open(key)
            return 0 if answer is None else WINDOW_BYTES - answer.unread


def check(fields: Sequence[tuple[bytes, bytes]]) -> None:
    """ValueError as from the port."""
    for name, value in fields:
        if not name or not _TOKEN.issuperset(name) or name.lower() in _FRAMING:
            raise ValueError(f"the field name {name!r} is not valid")
        if any((c < 32 and c != 9) or c == 127 for c in value):
            raise ValueError(f"the value of {name!r} is not valid")
