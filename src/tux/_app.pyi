"""An application's process: its end of the rings to the engines. `tux.apps.port` has the words."""

from collections.abc import Callable
from socket import socket
from typing import Any, Final, final

from tux.apps.port import Event, Fields

REQUEST: Final[int]
BODY: Final[int]
CREDIT: Final[int]
GONE: Final[int]
DRAIN: Final[int]
ENGINE_GONE: Final[int]
OBJECT: Final[int]
WINDOW: Final[int]
"""Body bytes of one exchange that are under way at most, each way."""

class LengthError(ValueError):
    """The body is longer than the answer's head said, or the head says two things about its length."""

@final
class Request:
    """The head of a request, and what came with it. Immutable; made by `Port.take` only."""

    @property
    def key(self) -> int: ...
    @property
    def method(self) -> str: ...
    @property
    def target(self) -> bytes: ...
    @property
    def path(self) -> bytes: ...
    @property
    def query(self) -> bytes: ...
    @property
    def minor(self) -> int: ...
    @property
    def scheme(self) -> str: ...
    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...
    @property
    def head(self) -> bytes: ...
    @property
    def client(self) -> tuple[str, int] | None: ...
    @property
    def server(self) -> tuple[str, int | None]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def complete(self) -> bool: ...
    @property
    def length(self) -> int: ...
    @property
    def upgrade(self) -> bool: ...
    @property
    def listener(self) -> int:
        """Number of the listener that it came by."""

@final
class Object:
    """What a lookup found. Immutable; made by `Port.take` only."""

    @property
    def status(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def media_type(self) -> bytes: ...
    @property
    def etag(self) -> bytes: ...
    @property
    def modified(self) -> int: ...
    @property
    def fd(self) -> int:
        """Its receiver's, who closes it."""

@final
class Port:
    """The end of all links of this process to engines. Not thread-safe: callers hold a lock, except around `wait`,
    and for `drain`. Nothing is lost on the way and nothing overtakes: calls write a record into a ring, and wait only
    while that is full, with the GIL released.

    A key of an exchange that is over is no error: such calls return False, or do nothing."""

    def __init__(self, epoll_fd: int, control: socket | None = None) -> None:
        """epoll_fd: of `wake_pair`. control: where the supervisor hands over links (b"LINK", the serial number as "<I",
        and the four descriptors of `attach`) and asks to leave (b"DRAIN", or its end); it is told
        of links that end (b"LOST" and the number). Both are the port's from here
        on."""

    def attach(self, serial: int, requests_fd: int, answers_fd: int, wake_fd: int, side_fd: int) -> None:
        """A new link. The descriptors are the port's from here on. OSError: they are not what they should be."""

    def forget(self) -> None:
        """In a child that the application forked: all links are its parent's alone, and every exchange is over."""

    def fileno(self) -> int:
        """An epoll descriptor that is readable when events may wait (after sleep() returned True)."""

    def take(self) -> Event | None:
        """The next event, or None."""

    def sleep(self) -> bool:
        """True: nothing waits, and fileno() will become readable when something does. False: take() again. Does what
        flush() does."""

    def awake(self) -> None:
        """After waiting on fileno()."""

    def wait(self, timeout_ms: int = -1) -> bool:
        """Sleep, with the GIL released, until an event may wait (True), the time is over or a signal came (False)."""

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
        close: bool = False,
        remember_ms: int = 0,
        ignore_query: bool = False,
        reason: bytes = b"",
    ) -> bool:
        """The head, once, and what there is of the body. Content-Length may be among the fields, or `length`; with
        `end` neither is needed. Fields about the connection (Connection, Transfer-Encoding and their like) are the
        engine's and left out. `close`: the connection ends with the answer. `reason`: the phrase behind the status, if
        it is not the usual one. ValueError: a field or the reason cannot be sent; LengthError; nothing was sent then.

        remember_ms, with `end`: for so long the engine may give the same answer again without a question, to requests
        with the same signature, perhaps by the kernel tier: method, path, host, version, listener, and the fields that
        the configuration makes significant (conditions, Range, Accept, Accept-Encoding and Authorization always are).
        The query is covered, too, but with `ignore_query`. So the answer must depend on nothing else: no client's
        address, no cookies. It is forgotten earlier when memory is short, with the configuration, and when a process
        of the application leaves. Not remembered: the answer to a request with a body, one with Set-Cookie, with
        no-store, no-cache or private in Cache-Control, with a Vary that names what the signature does not cover, and
        one with a body over 64 KiB."""

    def object(self, key: int, path: bytes, fields: Fields = (), status: int = 0, close: bool = False) -> bool:
        """Answer with the file that the site has at `path` (decoded, "/" in front), as GET of it would be: from the
        engine's memo or by its planner, ranges and conditions of the request included, and files of internal routes,
        too. `fields` count before those of the file, but for those that describe its bytes. `status`: in place of 200.
        What the site does not have is answered with 404. The exchange is over. ValueError: path, field or status cannot
        be."""

    def lookup(self, key: int, path: bytes) -> bool:
        """Find the file that the site has at `path`, without answering: OBJECT will say what it is. One at a time
        (RuntimeError), before the answer. ValueError: no such path can be."""

    def data(self, key: int, body: bytes | bytearray | memoryview, end: bool = False, close: bool = False) -> bool:
        """Bytes of the body. What is over the window is kept here until it fits; the buffer may be used again at once.
        `close`, with `end`: the connection ends with the answer. LengthError: more than `length`; nothing was sent."""

    def file(self, key: int, fd: int, offset: int, length: int, end: bool = True) -> bool:
        """Bytes of the body from a regular file, which must not become shorter. The descriptor stays the caller's; or
        it is what kept() gave."""

    def kept(self, key: int, path: bytes) -> tuple[int, int] | None:
        """Whether the engine keeps the very file open that open(2) would open at this path: then its name for file(),
        to be used before take() is called again, and its size."""

    def trailers(self, key: int, fields: Fields) -> bool:
        """The end of an answer that was announced with `trailers`."""

    def inform(self, key: int, status: int, fields: Fields) -> bool:
        """A 1xx answer but 100 and 101; clients of HTTP/1.0 do not get it."""

    def upgrade(self, key: int, fields: Fields) -> bool:
        """Answer 101, with Upgrade among the fields: from now on BODY and data() are raw bytes."""

    def accept(self, key: int) -> None:
        """The request's body is wanted: where others may have to answer in place of a module or a script, it comes only
        then. Until then next() hands all of it on. Does nothing the second time, and where it comes anyway."""

    def credit(self, key: int, n: int) -> None:
        """So many bytes of the request's body, or of the tunnel, were consumed: as many may come."""

    def abort(self, key: int) -> None:
        """Cut the connection; before the head the answer is 502."""

    def next(self, key: int, forward: bool = False) -> None:
        """Decline before the head: the route's next step gets the request, or the answer is 404. forward: the server
        that the route forwards to gets it, or the answer is 502. So it is when bytes of its body were read."""

    def window(self, key: int) -> int:
        """Response bytes that may be sent now; at 0 or less, wait for CREDIT. 0 when the exchange is over."""

    def on_write(self, written: Callable[[], None]) -> None:
        """`written` is called when an engine was written to, for the first time since `flush`."""

    def flush(self) -> None:
        """Wake the engines that were written to."""

    def drain(self) -> None:
        """Ask the engines for no more requests; DRAIN is the event when the last one has come. From any thread, or a
        signal handler."""

    def limits(self, max_requests: int, max_memory: int, retire: Callable[[], Any]) -> None:
        """Call `retire`, once, when so many exchanges have ended, or the process is larger than so many bytes then;
        0: never."""

    @property
    def open(self) -> int:
        """Exchanges that are open."""

    @property
    def finished(self) -> int:
        """Exchanges that have ended."""

    @property
    def links(self) -> int:
        """Links to engines."""

def wake_pair() -> tuple[int, int]:
    """For the supervisor: (eventfd, which engines write to wake a process, epoll descriptor of that process, which
    cannot reach the eventfd)."""

def make_rings() -> tuple[int, int]:
    """For the supervisor: the memory of one link's two rings, (requests, answers). OSError."""

def unmask(key: bytes, payload: bytes) -> bytes:
    """The payload of a WebSocket's frame, unmasked (RFC 6455 section 5.3). ValueError: the key has not 4 bytes."""
