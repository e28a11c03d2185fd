"""Types of the binding (_engine.pyx): the engine, its rings, files below roots, and its parsers for tests.

Text of a head is `str`, decoded as Latin-1 (one character per byte); file-system paths are `bytes`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, final

# enum tux_found_kind
ABSENT: Final[int]
FILE: Final[int]
FOLDER: Final[int]
SPECIAL: Final[int]
DENIED: Final[int]
ESCAPE: Final[int]
ERROR: Final[int]

# Flags of a reply (plan.h).
REMEMBER: Final[int]
EXACT: Final[int]
RANGE: Final[int]
CLOSE: Final[int]
NO_BODY: Final[int]
PUBLISH: Final[int]
NEXT: Final[int]

# Limits that configuration defaults are taken from (bounds.h): name without "TUX_MAX_"/"TUX_", lower case -> value.
LIMITS: Final[dict[str, int]]

# Field names with an id, in the order of the ids (index 0 is ""): "host", "connection", "range", ...
FIELD_NAMES: Final[tuple[str, ...]]
# Names that are significant whatever the rules say.
SIGNIFICANT_BY_DEFAULT: Final[frozenset[str]]

@final
class Found:
    """What a look at a path found; a check of a plan. Immutable. `fd` is closed with it unless a reply took it."""

    root: int
    path: bytes
    kind: int
    error: int  # errno behind DENIED, ESCAPE and ERROR, else 0
    size: int  # bytes
    mtime_ns: int  # since 1970
    mode: int  # st_mode
    dev: int
    ino: int
    data: bytes | None  # the whole content, when load() read it
    fd: int  # open descriptor of a larger file that load() opened, of a folder that open_folder() did, else -1
    hidden: bool  # a file or folder that nobody must have: load() and open_folder() have not read it

@final
class Roots:
    """Folders that are served, for one thread (not thread-safe). Paths are resolved by openat2(RESOLVE_BENEATH)."""

    def __init__(self, paths: Sequence[bytes] = (), hidden: Callable[[int], bool] | None = None) -> None:
        """hidden: whether nobody must have the file or folder of this descriptor; asked by load() and open_folder().
        OSError: that cannot be told, and it is an ERROR."""
    @property
    def guarded(self) -> bool:
        """Whether there is such a function."""
    def add(self, path: bytes) -> int:
        """Index of a further root. The folder need not exist yet."""
    def look(self, root: int, path: bytes) -> Found:
        """What is at `path` (relative; b"" is the root itself), without opening it."""
    def load(self, root: int, path: bytes, limit: int) -> Found:
        """Look, and open when it is a regular file: read whole if it has at most `limit` bytes (`data` is set), else
        keep the descriptor (`fd`). The content was read between two equal fstat(2) results: kind is ERROR with EAGAIN
        when the file did not hold still through three tries. Unreadable: DENIED."""
    def open_folder(self, root: int, path: bytes) -> Found:
        """Open a folder to read its entries (`fd`). What is no folder is ABSENT."""

@final
class RouteTable:
    """The compiled routes (route.h). Immutable once an engine has it."""

    def __init__(self) -> None: ...
    def add_site(self, hosts: Sequence[str]) -> int:
        """A site for these hosts ("example.org", "*.example.org", "" for the default). ValueError: a host is taken."""
    def add_route(
        self,
        site: int,
        prefix: bytes,
        route: int,
        chain: Sequence[tuple[str, int]] = (),
        *,
        root: int = -1,
        mount_len: int = 0,
        pages: int = 0,
    ) -> None:
        """`prefix` (decoded, begins with b"/") of that site is decided by Python's route number `route`; or by the
        steps of `chain`, one after the other: ("static", 0), ("app" or "module", its number), ("forward",
        number of the servers).
        `root` and `mount_len` say where the engine itself can look whether the planner has a file, `pages` which
        answers to errors it has (`Engine.canned`). ValueError."""
    def set_pages(self, site: int, pages: int) -> None:
        """Which answers to errors the site has where no route is known. ValueError: there is no such site."""
    def pages(self, host: str) -> int:
        """Those of the site of a host, 0 when there is none. "": the host is not known."""
    def match(self, host: str, path: bytes) -> int:
        """The route's number, or -1. `path` is decoded and normalised."""

@final
class Ask:
    """A request that the engine asks about. Immutable; independent of the ring's memory."""

    id: int  # names the waiting request in a reply
    method: str
    target: str  # as sent
    path: str  # of the target, as sent, before "?"
    query: str | None  # None: no "?"
    minor: int  # HTTP/1.minor: 0 or 1
    host: str  # effective host, port included; "" when HTTP/1.0 had none
    fields: dict[str, str]  # lower-case name -> value; lines of one name joined with ", "
    listener: int  # index of the listener
    signed: bool  # has a signature: its answer may be remembered
    plain_range: bool  # Range is one plain byte range: its numbers are not in the general signature
    has_body: bool  # Content-Length over 0, or chunked
    expect_other: bool  # an expectation other than 100-continue
    peer: str  # address of the client, "unix:" for unix sockets
    root: int | None  # a backend wants a file to be sent: below the root of this number; -1: where the site says

@final
class Recipe:
    """What was decided once for all files of a route with one extension (recipe.h): the engine answers requests for
    those that it has not seen with the first `head_len` bytes of the plan's head, followed by ETag, Last-Modified and
    Content-Length as the planner writes them. Immutable."""

    def __init__(
        self,
        head_len: int,
        *,
        root: int,
        mount_len: int,
        absent: Iterable[str],
        sides: bool,
        mode_allowed: int,
        mode_forbidden: int,
        small_bytes: int,
        scope: Literal["all", "below", "beside"] = "all",
    ) -> None:
        """root, mount_len: where the files are (see `RouteTable.add_route`). absent: fields that a request must not
        have. sides: files beside which one ends in .br, .zst or .gz are not among them. mode_allowed, mode_forbidden: a
        file has one of these permission bits, and none of those. small_bytes: bodies up to here are in memory, and
        tagged by their content. scope: for which files with the extension of the one that was asked for it is: all,
        those below the first folder on the way to it, those in its own folder; of these those that have a hash in their
        name, as it has, or have none. ValueError: `absent` names a field that the engine does not know."""
    @property
    def scope(self) -> Literal["all", "below", "beside"]: ...
    @property
    def head_len(self) -> int: ...
    @property
    def root(self) -> int: ...
    @property
    def sides(self) -> bool: ...
    @property
    def absent(self) -> frozenset[str]: ...

@final
class Port:
    """The planner's end of the rings to one engine. Used by one thread."""

    def fileno(self) -> int:
        """Descriptor that is readable when asks may wait (after sleep() returned True)."""
    def take(self) -> Ask | None:
        """The next ask, or None."""
    def sleep(self) -> bool:
        """True: nothing waits, and fileno() will become readable when something does. False: take() again."""
    def awake(self) -> None:
        """After waiting on fileno()."""
    def reply(
        self,
        ask_id: int,
        status: int,
        head: bytes,
        *,
        body: bytes = b"",
        body_len: int = -1,
        file: Found | None = None,
        offset: int = 0,
        flags: int = 0,
        ttl_ms: int = -1,
        checks: Sequence[Found] = (),
        recipe: Recipe | None = None,
    ) -> bool:
        """Answer an ask. `head`: status line and fields, CRLF after each, without Date, Connection and the blank line
        (with RANGE also without Content-Range and Content-Length: the engine adds them from the asker's range).
        The body is `body`, or `body_len` bytes of `file` (whose fd is taken over) from `offset`; with RANGE it is the
        whole representation. ttl_ms: how long it may be replayed, -1 for no limit. recipe: what the engine may do for
        other files of the asked path's route and extension. Blocks while the ring is full; wakes the engine. False: the
        engine is gone."""

@final
class Engine:
    """One event loop. run() is called from a thread of its own and never takes the GIL; the other methods may be called
    from any thread, configuration only before run()."""

    port: Port

    def __init__(
        self,
        *,
        key: bytes,
        generation: int = 0,
        significant: Sequence[str] = (),
        roots: Sequence[bytes] = (),
        routes: RouteTable | None = None,
        limits: dict[str, int] | None = None,
        log_fd: int = -1,
        log_format: str = "common",
    ) -> None:
        """key: 16 random bytes of this start. significant: field names beyond the default ones that rules look at
        (must be in FIELD_NAMES). routes: needed when some route has a chain. limits: overrides of LIMITS; unknown names
        are a ValueError. log_fd -1: no log."""
    def listen(self, fd: int, *, listener: int, shared: bool = False) -> None:
        """Accept from a listening socket (the caller keeps it open). shared: other processes accept from it, too."""
    def canned(self, status: int, head: bytes, body: bytes, pages: int = 0) -> None:
        """The answer for an error that the engine itself finds (400, 404, 408, 413, 414, 417, 431, 500 to 505): `head`
        as in Port.reply. pages: see `RouteTable`; what is not said of one number is as in 0."""
    def own(self, dev: int, ino: int) -> None:
        """A file of Tux itself: no recipe sends it. At any time, by one thread after the other."""
    def trust(self, networks: Sequence[str], proxy_protocol: bool = False) -> None:
        """Peers whose word about the client is believed (trust.h): "10.0.0.0/8", "::1", "unix"; with proxy_protocol
        their connections begin with a header of that protocol. Before run(). ValueError: one of them is none of these,
        or there are too many."""

    def app(
        self,
        *,
        queue: int,
        queue_timeout_ms: int,
        accel: bool = True,
        sendfile_root: int = -1,
        hands_on_404: bool = False,
    ) -> int:
        """Before run: an application, of which `queue` requests wait at most `queue_timeout_ms` while no process is
        ready; its number. accel: X-Accel-Redirect in its answers is honoured; so is X-Sendfile below the root of the
        number sendfile_root (-1: it is not). hands_on_404: what comes next in the route's chain is asked when it
        answers with 404 and has not asked for the body."""

    def link_app(self, app: int, serial: int, *descriptors: int) -> None:
        """From any thread: a process of an application, see engine/app.h. The descriptors (requests, answers, the
        process's eventfd, the engine's, the socket beside) are the engine's from here on, whatever happens. OSError:
        there is no such application."""

    def unlink_app(self, serial: int) -> None:
        """From any thread: the process at the other end of this link is gone."""

    def upstream(
        self,
        servers: Sequence[tuple[str, str, int]],
        *,
        balance: str = "round-robin",
        host: str = "keep",
        underscores: bool = False,
        upgrade: bool = True,
        forwarded: bool = False,
        proxy_protocol: int = 0,
        accel: bool = True,
        sendfile_root: int = -1,
        keepalive: int = 64,
        connections: int = 0,
        queue: int = 1024,
        retries: int = 1,
        max_fails: int = 1,
        fail_timeout_ms: int = 10_000,
        keepalive_timeout_ms: int = 4_000,
        queue_timeout_ms: int = 30_000,
        connect_timeout_ms: int = 5_000,
        send_timeout_ms: int = 60_000,
        first_byte_timeout_ms: int = 60_000,
        idle_timeout_ms: int = 60_000,
    ) -> int:
        """A group of servers that requests can be forwarded to (upstream.h); its index. servers: address ("1.2.3.4:80",
        "[::1]:80", "unix:/path"), name for Host ("example.org:80"), weight. balance: "round-robin" or
        "least-connections". host: value of Host; "keep" for the client's, "server" for the server's name. The numbers
        are those of config/upstream.py. ValueError: something is out of bounds or unknown."""
    def upstream_failures(self, group: int, server: int) -> tuple[dict[str, int], int]:
        """How often a server of a group failed since the start, by reason (TUX_UPSTREAM_FAILURES), and the errno of the
        last failure "connect". The numbers must be those of a server that was added."""
    def upstream_health(self, group: int, server: int, /, *, healthy: bool) -> None:
        """From any thread: what a check of the server has found. One that is not healthy gets no requests. The numbers
        must be those of a server that was added."""
    def kernel(
        self,
        *,
        slots_fd: int,
        cells_fd: int,
        message_fd: int,
        secret: bytes,
        listeners: Sequence[int],
        hits: int,
        max_answer_bytes: int,
    ) -> None:
        """Work with the kernel tier; after listen(), once. The three descriptors are the engine's from here on, also
        after an OSError: this worker's two maps, which are cleared, and a SOCK_SEQPACKET socket to the supervisor.
        secret: 16 bytes, the key of the hash over heads. listeners: the indices of those whose connections the programs
        see (OSError ENOENT: not there, or not TCP). hits: of one head, from memory, until it is published (at least 1).
        max_answer_bytes: larger answers are not published."""
    def run(self) -> None:
        """Serve until stopped and drained. OSError when the loop cannot be set up."""
    def drain(self, grace_ms: int) -> None:
        """Stop accepting, close idle connections, finish what is in flight, end run() when nothing is left or the grace
        is over."""
    def leaving_fd(self) -> int:
        """The engine's own descriptor, only to be watched: readable from the moment when a drain has begun and no
        connection is accepted any more."""
    def reopen_log(self, fd: int) -> None: ...
    def end_log(self) -> None:
        """After run() returned: write what is left of the access log, for at most 2 s. `log_lost` and `log_error`
        (errno) of stats() are final then."""
    def stats(self) -> dict[str, int]:
        """Counters by name: accepted, requests, hits, asks, connections, plans, memo_entries, published, ..."""
    def close(self) -> dict[str, int]:
        """Free everything after run() returned; the leak counters by name, all 0 when nothing leaked."""

# -- the supervisor's part of the kernel tier ----------------------------------------------------------------------

def head_key(secret: bytes, head: bytes, listener: int) -> tuple[int, int, int]:
    """The key of a head in the kernel tier: (lo, hi, length). secret: 16 bytes. ValueError: no head is that long."""

@final
class KernelLog:
    """The access log of the kernel tier (kernellog.h). Not thread-safe."""

    def __init__(self, ring_fd: int, ring_bytes: int, out_fd: int, log_format: str) -> None:
        """ring_fd: the BPF ring buffer of `ring_bytes` bytes; out_fd: the log. Both stay the caller's, and may be
        closed at once. OSError: the ring cannot be mapped."""
    def add(self, answer_id: int, first_chunk: int, head: bytes, status: int, body_bytes: int) -> None:
        """An answer that is about to be given: before the programs can find it. ValueError: out of bounds."""
    def remove(self, first_chunk: int, answer_id: int) -> None:
        """No further record of it will be written; those in the ring still get their lines."""
    def drain(self, wall_offset_ns: int, max_records: int = 65536) -> int:
        """Write a line for each record that waits; their number. wall_offset_ns: CLOCK_REALTIME - CLOCK_BOOTTIME.
        OSError: the log cannot be written now (BlockingIOError: a pipe is full), or with EIO for good: the ring makes
        no sense. Nothing that was taken is lost: call again."""
    def reopen(self, fd: int) -> None:
        """Later lines, and what could not be written, go to `fd`, which stays the caller's."""
    def counts(self) -> dict[str, int]:
        """`lines` so far, and `unknown`: records of answers that were not added, which have no line."""
    def close(self) -> None:
        """Free everything. What is not drained has no line."""

# -- the parsers, for tests and tools ------------------------------------------------------------------------------

def scan_head(data: bytes, *, seen: int = 0, key: bytes = ..., context: int = 0) -> dict[str, object]:
    """One scan: {"outcome": "done" | "more" | "malformed", ...}: fields of struct tux_head by name; spans as str."""

def is_hashed(path: bytes) -> bool:
    """Whether the engine takes the name of a file for one with a hash in it (`tux.planner.presets.HASHED`)."""

def http_date(seconds: int) -> str:
    """As `tux.http.dates.format_date`."""

def content_tag(body: bytes) -> str:
    """The opaque part of the entity tag of a representation in memory."""

def state_tag(size: int, mtime_ns: int) -> str:
    """... of one on the disk."""

def decode_path(path: bytes) -> bytes | int:
    """The decoded and normalised path, or the status of the error: as `tux.http.target.decode_path`."""

def decode_chunked(data: bytes, piece: int = 0) -> tuple[str, bytes, int]:
    """(outcome, body so far, bytes consumed), fed in pieces of `piece` bytes (0: whole)."""

def parse_range(value: bytes) -> tuple[str, int, int]:
    """("none" | "closed" | "open" | "suffix", first, last)."""

def parse_proxy(data: bytes) -> dict[str, object]:
    """The header of the PROXY protocol at the begin of `data`: {"outcome": "done" | "more" | "malformed", ...}: fields
    of struct tux_proxy by name; "address" is None when it names nobody."""

def build_proxy(version: int, source: bytes, destination: bytes) -> bytes:
    """A header of the PROXY protocol. Addresses as in `trust_client`."""

def scan_response(data: bytes, *, seen: int = 0, is_head: bool = False) -> dict[str, object]:
    """One scan: {"outcome": "done" | "more" | "malformed", ...}: fields of struct tux_response by name; spans as str,
    "framing" as "none" | "length" | "chunked" | "close"."""

def forward_request(
    data: bytes,
    *,
    host: bytes = b"",
    underscores: bool = False,
    upgrade: bool = True,
    peer: bytes = b"192.0.2.1",
    trusted: Sequence[str] = (),
    forwarded: bool = False,
    server: bytes = b"upstream",
    close: bool = False,
) -> tuple[int, bytes]:
    """(0, the head for the upstream), or (status to refuse it with, b""). ValueError: `data` is no whole head."""

def trust_client(data: bytes, *, trusted: Sequence[str] = (), peer: bytes = b"192.0.2.1") -> dict[str, object]:
    """Who sent the request whose head `data` is: fields of struct tux_client by name, "address" and "host" as str.
    peer: of the connection, with or without a port, or b"unix:". ValueError: `data` is no whole head; no addresses."""

def forward_response(data: bytes, *, is_head: bool = False) -> bytes:
    """The field lines of a response head that are passed on. ValueError: `data` is no whole head."""

def forward_trailers(section: bytes) -> bytes:
    """The lines of a trailer section (with its blank line) that are passed on."""
