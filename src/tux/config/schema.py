"""What can be configured: the structs that a `tux.toml` is decoded into, with the documentation of every key.

The texts here are those of docs/reference/configuration.md (`python -m tux.config.reference`). Every value has its
default here, in the units of the file; a test compares the limits with src/tux/engine/bounds.h.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Struct, field

from tux.config.app import App
from tux.config.cgi import Cgi
from tux.config.doc import MAX_SECONDS, Doc
from tux.config.module import Module
from tux.config.site import Site
from tux.config.upstream import Upstream

LogFormat: TypeAlias = Literal["common", "combined", "json"]
KernelMode: TypeAlias = Literal["auto", "on", "off"]


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one client, and all of them together, can make a worker spend. The defaults suit the open internet."""

    head_timeout: Annotated[
        float,
        Doc("From the first byte of a request's head to its last.", ge=0.001, le=MAX_SECONDS, unit="seconds"),
    ] = 10.0
    idle_timeout: Annotated[
        float,
        Doc(
            """How long a connection may wait between two requests. Longer than the 60 seconds of common load balancers,
            so that it is they who close.""",
            ge=0.001,
            le=MAX_SECONDS,
            unit="seconds",
        ),
    ] = 65.0
    stall_timeout: Annotated[
        float,
        Doc(
            "How long an answer that is under way may stand still because the client takes no byte of it.",
            ge=0.001,
            le=MAX_SECONDS,
            unit="seconds",
        ),
    ] = 60.0
    connections: Annotated[
        int,
        Doc(
            """Connections per worker. Together with `memo_files`, connections to servers behind and links with
            applications they are kept below the limit of open files (`RLIMIT_NOFILE`); a line in the log says when that
            means fewer than is said here, or than 4096.""",
            ge=1,
            le=50_000,
        ),
    ] = 50_000
    pipelined: Annotated[
        int, Doc("Pipelined requests of one connection whose answers are sent in one go.", ge=1, le=64)
    ] = 64
    memo_bytes: Annotated[
        int,
        Doc("Memory per worker for remembered answers. What is used least makes room.", ge=0, le=2**40, unit="bytes"),
    ] = 64 * 1024 * 1024
    memo_files: Annotated[
        int,
        Doc("Open files per worker for remembered answers that are too large to be held in memory.", ge=0, le=50_000),
    ] = 4096
    held_bytes: Annotated[
        int,
        Doc(
            """Memory per worker for what all connections have sent but not been answered yet, and for answers that wait
            to be sent; over it the answer is 503.""",
            ge=65536,
            le=2**40,
            unit="bytes",
        ),
    ] = 256 * 1024 * 1024
    target_bytes: Annotated[
        int,
        Doc(
            "The longest request target (path and query); over it the answer is 414. Not over `head_bytes`.",
            ge=64,
            le=16384,
            unit="bytes",
        ),
    ] = 8192
    head_bytes: Annotated[
        int, Doc("The longest request head; over it the answer is 431.", ge=256, le=16384, unit="bytes")
    ] = 16384
    fields: Annotated[int, Doc("The most header lines of a request; over it the answer is 431.", ge=1, le=100)] = 100
    body_bytes: Annotated[
        int,
        Doc(
            """The largest request body that is passed to an application or a forwarded server; over it the answer is
            413.""",
            ge=0,
            le=2**50,
            unit="bytes",
        ),
    ] = 1024 * 1024 * 1024
    drain_bytes: Annotated[
        int,
        Doc(
            """How much of a request body that nobody wants is read, so that the connection can be kept; over it the
            connection is closed.""",
            ge=0,
            le=2**30,
            unit="bytes",
        ),
    ] = 256 * 1024


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What concerns the whole server."""

    listen: Annotated[
        tuple[str, ...],
        Doc(
            """Where to accept connections: `HOST:PORT`, `[IPv6]:PORT` or `unix:/path`. Port 0 takes a free one; the
            ready line names it. `fd:3` or `fd:NAME`: a socket that listens already, by the number of its descriptor, or
            by the name that a systemd socket unit has for it.""",
            min_length=1,
        ),
    ] = ("127.0.0.1:8080",)
    workers: Annotated[
        int | Literal["auto"],
        Doc("Number of worker processes; `auto` is one for each CPU that Tux may use.", ge=1, le=1024),
    ] = "auto"
    user: Annotated[
        str | None,
        Doc(
            """The user that workers run as. Only root can change the user; when root starts Tux and this is not set,
            workers run as `nobody`.""",
            min_length=1,
        ),
    ] = None
    grace: Annotated[
        float,
        Doc("How long a stop (SIGTERM) waits for answers that are under way.", ge=0, le=MAX_SECONDS, unit="seconds"),
    ] = 30.0
    access_log: Annotated[
        str | None,
        Doc(
            """File that requests are logged to; `-` is standard output, `off` no log. Not set: standard error when it
            is a terminal, else no log.""",
            min_length=1,
        ),
    ] = None
    log_format: Annotated[
        LogFormat, Doc("`common` and `combined` are the formats of Apache; `json` is one object a line.")
    ] = "common"
    reload: Annotated[
        bool,
        Doc(
            """For development: start the processes of an application, or of modules, anew when their code changes: in
            `dir`, beside `FILE.py`, or where the package lies that is imported. Needs
            `pip install "tux-server[reload]"`."""
        ),
    ] = False
    trusted: Annotated[
        tuple[str, ...],
        Doc(
            """Addresses and networks (`10.0.0.0/8`, `::1`; `unix` is all unix sockets) of proxies in front whose
            `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host` and `Forwarded` are believed: in the log, by
            applications, and by servers that requests are forwarded to. What others send in them is replaced.
            `Forwarded` counts only without `X-Forwarded-For`: a proxy that writes the former must remove the latter."""
        ),
    ] = ()
    proxy_protocol: Annotated[
        bool,
        Doc(
            """Connections from `trusted` begin with a PROXY protocol header (version 1 or 2), which says who the client
            is; others must not have one. The kernel tier is off then."""
        ),
    ] = False
    limits: Annotated[Limits, Doc("Bounds on time and memory.")] = Limits()


class Kernel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The kernel tier: requests that were asked before are answered by eBPF programs on the interface, without a
    process. It needs root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; workers need none of them."""

    mode: Annotated[
        KernelMode,
        Doc(
            """`on`: refuse to start without it. `auto`: use it where the process may load eBPF, `bpffs` is mounted, and
            the listen addresses are those of the loopback interface or of a veth, and leave new connections alone while
            it answers too little to pay. `off`: never."""
        ),
    ] = "auto"
    interface: Annotated[
        tuple[str, ...],
        Doc(
            """Interfaces to attach to: `["lo", "eth0"]`. Empty: those that carry the listen addresses; with `auto`,
            ethernet interfaces are not among them."""
        ),
    ] = ()
    bpffs: Annotated[
        str,
        Doc("Where the file system for eBPF objects is mounted; Tux makes a folder `tux` in it.", min_length=1),
    ] = "/sys/fs/bpf"
    memory: Annotated[
        int,
        Doc("Memory for answers. What is used least makes room.", ge=64 * 1024, le=16 * 1024 * 1024, unit="bytes"),
    ] = 16 * 1024 * 1024
    hits: Annotated[
        int,
        Doc("How often a worker must have answered exactly the same request before the kernel does.", ge=1, le=10**6),
    ] = 16
    connections: Annotated[
        int,
        Doc("Connections that can be answered for at the same time; all others are served as usual.", ge=64, le=2**20),
    ] = 65536
    max_answer: Annotated[
        int | None,
        Doc(
            """The largest answer, head included, that is given from the kernel. Not set: what fits one packet of the
            interface, and at most the largest that can be set.""",
            ge=1,
            le=15872,
            unit="bytes",
        ),
    ] = None
    liveness: Annotated[
        float,
        Doc(
            """Each connection lets one request through to its worker at least this often, so that the worker sees that
            it is in use. Never longer than half of `idle_timeout`.""",
            ge=0.1,
            le=MAX_SECONDS,
            unit="seconds",
        ),
    ] = 10.0


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole configuration. Its paths are absolute once `tux.config.load` or `tux.config.options` made it."""

    server: Annotated[Server, Doc("What concerns the whole server.")] = Server()
    kernel: Annotated[Kernel, Doc("The kernel tier.")] = Kernel()
    module: Annotated[dict[str, Module], Doc("The modules, by name.")] = field(default_factory=dict)
    app: Annotated[dict[str, App], Doc("The applications, by name.")] = field(default_factory=dict)
    cgi: Annotated[Cgi, Doc("How scripts are run.")] = Cgi()
    upstream: Annotated[dict[str, Upstream], Doc("The servers that are forwarded to, by name.")] = field(
        default_factory=dict
    )
    site: Annotated[tuple[Site, ...], Doc("The sites, in any order.")] = ()
