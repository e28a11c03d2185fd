"""A process's end of the rings to the engines, as those who serve see it (`tux._app.Port`), or a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

REQUEST: Final = 0
"""A request came; payload: Request."""
BODY: Final = 1
"""More of a request's body; payload: (bytes, whether they are the last)."""
CREDIT: Final = 2
"""The client took response bytes, the window is larger again; payload: how many."""
GONE: Final = 3
"""The client has closed the connection; payload: whether nothing can be sent any more."""
DRAIN: Final = 4
"""No more requests will come, the ones at work are to be finished; payload: None."""
ENGINE_GONE: Final = 5
"""An engine died: all its exchanges are gone; the key is the number of its link."""

OBJECT: Final = 6
"""What `Port.lookup` has found; payload: Object."""

Event: TypeAlias = tuple[int, int, Any]
"""(kind, key, payload)."""
Fields: TypeAlias = Sequence[tuple[bytes, bytes]]


class Request(Protocol):
    """The head of a request, and what came with it. Immutable."""

    @property
    def key(self) -> int:
        """Names the exchange in every call of the port."""

    @property
    def method(self) -> str: ...
    @property
    def target(self) -> bytes:
        """As sent."""

    @property
    def path(self) -> bytes:
        """As sent, percent-encoded, without query."""

    @property
    def query(self) -> bytes:
        """Without "?"."""

    @property
    def minor(self) -> int:
        """HTTP/1.minor."""

    @property
    def scheme(self) -> str: ...
    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case, in the order of the wire."""

    @property
    def client(self) -> tuple[str, int] | None:
        """None: a unix socket. Port 0: a proxy did not say it."""

    @property
    def server(self) -> tuple[str, int | None]: ...
    @property
    def body(self) -> bytes:
        """What came with the head."""

    @property
    def complete(self) -> bool:
        """Nothing comes after `body`."""

    @property
    def length(self) -> int:
        """Content-Length; -1: chunked, or no body at all."""

    @property
    def upgrade(self) -> bool:
        """May be answered with `Port.upgrade`."""

    @property
    def head(self) -> bytes:
        """All of the head as sent, up to and with the empty line."""


class Object(Protocol):
    """A file of the site, or why there is none."""

    @property
    def status(self) -> int:
        """What the static origin would answer."""

    @property
    def size(self) -> int: ...
    @property
    def media_type(self) -> bytes: ...
    @property
    def etag(self) -> bytes: ...
    @property
    def modified(self) -> int:
        """Nanoseconds since 1970; 0: unknown."""

    @property
    def fd(self) -> int:
        """Read-only, the receiver's to close; -1: none."""


class Port(Protocol):
    """One per process. Not thread-safe. Calls do not block, but for a full ring, with the GIL released. Those that
    return a bool say False when the exchange is gone."""

    def fileno(self) -> int:
        """An epoll descriptor that is readable when events may wait (after sleep() returned True)."""

    def take(self) -> Event | None:
        """The next event, or None."""

    def sleep(self) -> bool:
        """True: nothing waits, and fileno() will become readable when something does. False: take() again."""

    def awake(self) -> None:
        """After waiting on fileno()."""

    def wait(self, timeout_ms: int) -> bool:
        """Sleep, with the GIL released, until an event may wait (True) or the time is over. -1: no limit."""

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
        remember_ms: int = 0,
        ignore_query: bool = False,
        close: bool = False,
        reason: bytes = b"",
    ) -> bool:
        """The head, and what there is of the body. `remember_ms`: the engine may repeat this answer for so long, to
        requests with the same signature (without the query). `close`: the connection is closed behind it. `reason`: the
        phrase, if it is not the usual one. ValueError: a field cannot be sent; nothing was."""

    def object(
        self,
        key: int,
        path: bytes,
        fields: Fields = (),
        status: int = 0,
        close: bool = False,  # noqa: FBT001, FBT002
    ) -> bool:
        """Answer with the file at this path of the site, `fields` before its own. status 0: the file's."""

    def lookup(self, key: int, path: bytes) -> bool:
        """Look up the file at this path of the site: event OBJECT. One at a time."""

    def data(
        self,
        key: int,
        body: bytes | bytearray | memoryview,
        end: bool = False,  # noqa: FBT001, FBT002
        close: bool = False,  # noqa: FBT001, FBT002
    ) -> bool:
        """Bytes of the body. Counts against the window. `close`, with `end`: the connection is closed behind it."""

    def file(self, key: int, fd: int, offset: int, length: int, end: bool = True) -> bool:  # noqa: FBT001, FBT002
        """Bytes of the body from a file. The descriptor stays the caller's; or it is what kept() gave."""

    def kept(self, key: int, path: bytes) -> tuple[int, int] | None:
        """Of the file at this path, if the engine has it open already: its name for file(), and its size."""

    def trailers(self, key: int, fields: Fields) -> bool:
        """The end of a body that was announced with trailers."""

    def inform(self, key: int, status: int, fields: Fields) -> bool:
        """A 1xx answer."""

    def upgrade(self, key: int, fields: Fields) -> bool:
        """Answer 101: from now on BODY and data() are raw bytes."""

    def accept(self, key: int) -> None:
        """The request's body is wanted. Before that, `next` hands all of it on."""

    def credit(self, key: int, n: int) -> None:
        """So many bytes of the request's body were consumed: as many may come."""

    def abort(self, key: int) -> None:
        """Cut the connection."""

    def next(self, key: int, forward: bool = False) -> None:  # noqa: FBT001, FBT002
        """Decline: the route's next step gets the request; or its forwarded server."""

    def window(self, key: int) -> int:
        """Response bytes that may be sent now; at 0 or less, wait for CREDIT."""

    def on_write(self, written: Callable[[], None]) -> None:
        """`written` is called when an engine was written to, for the first time since `flush`."""

    def flush(self) -> None:
        """Wake the engines that were written to."""

    @property
    def open(self) -> int:
        """Exchanges that are not over. The end of one may have been given, but wait for the window."""
