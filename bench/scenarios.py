# SPDX-License-Identifier: MIT
"""What is measured, as data: every scenario with its requests, the servers that are compared, and its targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

FLOOR: Final = "floor"
FLOOR_AGAIN: Final = "floor-again"  # the floor, measured a second time in every round: the A/A spread
TIER: Final = "tux-kernel"  # with the kernel tier and an access log; "tux-log" is the same without the tier
AUTO: Final = "tux-auto"  # the same in the default mode, measured when that has judged
NGINX: Final = ("nginx", "nginx-nosendfile", "nginx-log", "nginx-nosendfile-log")
PEERS: Final = ("nginx", "nginx-nosendfile", "lighttpd", "h2o")
ALL: Final = (FLOOR, "tux", *PEERS, FLOOR_AGAIN)
LOGGED: Final = (FLOOR, "tux-log", TIER, "nginx-log", "nginx-nosendfile-log", FLOOR_AGAIN)
JUDGED: Final = (FLOOR, "tux-log", AUTO, TIER, "nginx-log", "nginx-nosendfile-log", FLOOR_AGAIN)

Sense = Literal["at least", "at most"]
Kind = Literal[
    "throughput", "cold", "flood", "idle", "rate", "cpu", "misses", "sizes", "miss-ratio", "foreign", "beside", "echo",
]  # fmt: skip
Metric = Literal[
    "rate", "cpu_us", "machine_us", "soaked_us", "p99_us", "p99_flood_us", "cpu_after_us", "memory_bytes",
    "p99_mixed_us", "p99_beside_us", "p50_miss_us", "foreign_ns",
]  # fmt: skip
Reference = Literal["floor", "nginx", "best peer", "limit", "tux", "tux-log", "own p99_us", "own cpu_us"]
FORWARDERS: Final = ("nginx-forward", "h2o-forward", "lighttpd-forward")
Requests = Literal["file", "hello", "upgrade", "mix", "etag", "ranges", "cold", "set", "misses"]
Link = Literal["lo", "lo-65536", "veth"]  # netns.py: a loopback of MTU 1500, one of MTU 65536, a pair of MTU 1500


@dataclass(frozen=True, slots=True)
class Target:
    """What ``subject`` must reach: ``metric`` at least, or at most, ``bound`` times that of the reference.

    ``limit`` as reference: the bound is absolute, in the unit of the metric. ``nginx`` is the better of its two
    configurations, ``best peer`` the best of PEERS, and ``own X`` another metric of the subject itself.
    """

    text: str
    metric: Metric
    sense: Sense
    bound: float
    reference: Reference
    subject: str = "tux"
    peers: tuple[str, ...] = PEERS  # of whom the best counts, with "best peer"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row. ``requests`` says which request heads are sent; see content.py for each kind."""

    name: str
    title: str
    requests: Requests
    targets: tuple[Target, ...]
    kind: Kind = "throughput"
    servers: tuple[str, ...] = ALL
    size: int | None = None  # bytes of every body; None: the sizes vary, and are in the paths
    status: int = 200
    connections: int = 64
    pipeline: int = 1
    threads: int = 1  # of the load generator: 2 where one would be the bottleneck
    close: bool = False  # one request per connection
    tick_us: int | None = None  # microseconds between two bursts of a fixed rate; None: each request has its own timer
    link: Link = "lo"
    needs_tier: bool = False  # skipped, with the reason, where the kernel tier cannot be used


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a row that is a table of its own (sizes, miss-ratio)."""

    name: str
    link: Link
    size: int  # bytes
    misses: int = 0  # percent of the requests


def _rate(bound: float, reference: Reference, text: str, subject: str = "tux") -> Target:
    return Target(text, "rate", "at least", bound, reference, subject)


def _cpu(bound: float, reference: Reference, text: str) -> Target:
    return Target(text, "cpu_us", "at most", bound, reference)


def _kernel(
    name: str, title: str, size: int, link: Link, nginx: float | None = None, floor: float | None = None
) -> Scenario:
    """A row of a hot file with the tier. Without bounds: the tier must at least do no harm."""
    targets: tuple[Target, ...] = (_no_harm(TIER),)
    if nginx is not None and floor is not None:
        targets = (_rate(nginx, "nginx", f"{nginx} x nginx", TIER), _rate(floor, "floor", f"{floor} x floor", TIER))
    return Scenario(name, title, "file", targets, servers=LOGGED, size=size, threads=2, link=link, needs_tier=True)


def _no_harm(subject: str) -> Target:
    return _rate(1.0, "tux-log", "not slower than without the tier", subject)


def _judged(name: str, title: str, size: int, link: Link, *, close: bool = False) -> Scenario:
    """A row in which the tier can answer nothing: its default mode has noticed that, and must do no harm."""
    return Scenario(
        name, f"{title}; `auto` when it has judged (tux-auto), beside `on`", "file", (_no_harm(AUTO),), servers=JUDGED,
        size=size, close=close, threads=2, link=link, needs_tier=True,
    )  # fmt: skip


def _forward(name: str, title: str, size: int, bound: float, connections: int = 64) -> Scenario:
    """A row in which the server hands all requests to the floor server."""
    subject = "tux-forward"
    text = f"{bound} x the best that forwards to the same"
    targets: tuple[Target, ...] = (Target(text, "rate", "at least", bound, "best peer", subject, FORWARDERS),)
    if size <= KIB:
        cpu = "CPU a request not above the best's"
        targets += (Target(cpu, "cpu_us", "at most", 1.0, "best peer", subject, FORWARDERS),)
    servers = (FLOOR, subject, *FORWARDERS, FLOOR_AGAIN)
    return Scenario(name, title, "file", targets, servers=servers, size=size, connections=connections)


def _hello(kind: str, title: str, judges: tuple[str, ...], others: tuple[str, ...] = ()) -> Scenario:
    """A row in which an application answers; two processes each."""
    subject = f"tux-{kind}"
    rivals = tuple(f"{name}-{kind}" for name in judges)
    text = f"1.0 x {' and '.join(judges)}"
    target = Target(text, "rate", "at least", 1.0, "best peer", subject, rivals)
    servers = (FLOOR, subject, *rivals, *(f"{name}-{kind}" for name in others), FLOOR_AGAIN)
    return Scenario(f"{kind}-hello", title, "hello", (target,), servers=servers, size=HELLO_SIZE)


def _echo() -> Scenario:
    """A row of WebSocket connections that send a text and wait for its echo."""
    target = Target("1.0 x uvicorn", "rate", "at least", 1.0, "best peer", "tux-ws", ("uvicorn-ws",))
    servers = ("tux-ws", "uvicorn-ws", "granian-ws")
    title = "WebSocket echo, 64 connections"
    return Scenario("websocket-echo", title, "upgrade", (target,), kind="echo", servers=servers)


def _from_app(kind: str, title: str) -> Scenario:
    """A file of 100 KB that an application names, and the server sends."""
    target = Target("0.9 x the same file served statically", "rate", "at least", 0.9, "tux", f"tux-{kind}")
    return Scenario(kind, title, "file", (target,), servers=(FLOOR, "tux", f"tux-{kind}", FLOOR_AGAIN), size=100 * KIB)


def _module(kind: str, title: str, size: int, bound: float, text: str) -> Scenario:
    """A row in which a module answers with what a static hit would be."""
    target = Target(text, "rate", "at least", bound, "tux", f"tux-module-{kind}")
    servers = (FLOOR, "tux", f"tux-module-{kind}", FLOOR_AGAIN)
    return Scenario(f"module-{kind}", title, "file", (target,), servers=servers, size=size)


def _module_hello() -> Scenario:
    """The least module and the least WSGI application, in two processes each."""
    target = Target("1.2 x our own WSGI hello", "rate", "at least", 1.2, "best peer", "tux-module", ("tux-wsgi",))
    servers = (FLOOR, "tux-module", "tux-wsgi", FLOOR_AGAIN)
    return Scenario("module-hello", "module hello, 2 processes", "hello", (target,), servers=servers, size=HELLO_SIZE)


def _cgi() -> Scenario:
    """A row in which each request starts a program in C, linked statically: the least that a script can be."""
    targets = tuple(
        Target(f"{bound} x {text}", "rate", "at least", bound, "best peer", "tux-cgi", (peer,))
        for bound, text, peer in (
            (1.0, "lighttpd's mod_cgi", "lighttpd-cgi"),
            (1.5, "Apache's mod_cgid", "apache2-cgi"),
        )
    )
    servers = (FLOOR, "tux-cgi", "lighttpd-cgi", "apache2-cgi", FLOOR_AGAIN)
    return Scenario("cgi", "CGI, a static C program", "hello", targets, servers=servers, size=HELLO_SIZE)


def _beside(name: str, title: str, text: str) -> Scenario:
    """A row of static hits while an application keeps its process busy in one way."""
    target = Target(text, "p99_beside_us", "at most", 1.25, "own p99_us", "tux-hog")
    return Scenario(name, title, "file", (target,), kind="beside", servers=("tux-hog",), size=KIB, connections=32)


_CPU_BEST: Final = _cpu(1.0, "best peer", "CPU a request not above the best peer's")
_FLOOR_90: Final = _rate(0.9, "floor", "0.9 x floor")
_FLOOR_95: Final = _rate(0.95, "floor", "0.95 x floor")
_BEST: Final = _rate(1.0, "best peer", "1.0 x best peer")

HELLO_SIZE: Final = 13  # "Hello, World!"
COLD_FILES: Final = 100_000
COLD_SIZE: Final = 2 * KIB
SET_FILES: Final = 1000  # the hot set beside the flood: enough that its eviction would show in the CPU a request
SET_SIZE: Final = KIB
FLOOD_REQUESTS: Final = 100_000  # distinct, over all rounds
FLOOD_RATE: Final = 4000  # requests/s of the flood
FLOOD_HOT_RATE: Final = 8000  # requests/s of the hot traffic beside it
IDLE_CONNECTIONS: Final = 10_000
RANGE_SIZE: Final = 64 * KIB
OFFERED: Final = 0.4  # of nginx's maximum, in the fixed-rate rows
MISSES: Final = 100_000  # distinct requests that no cache can know, in the rows that mix them with hits
MISS_RATE: Final = 1000  # hits/s, and as many misses/s to an application that takes SLOW_S: 20 of them at once
SIZES: Final = (
    *(Case(f"lo, {size:,} B", "lo-65536", size) for size in (100, KIB, 4 * KIB, 10 * KIB, 15 * 1000)),
    *(Case(f"veth, {size:,} B", "veth", size) for size in (100, KIB)),
)
MISS_RATIOS: Final = tuple(Case(f"{share} %", "lo-65536", KIB, share) for share in (0, 10, 25, 50, 75, 90))

SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario("hot-100", "hot file of 100 B", "file", (_FLOOR_90, _CPU_BEST), size=100),
    Scenario(
        "hot-1k", "hot file of 1 KiB", "file",
        (_FLOOR_90, _CPU_BEST, _cpu(0.6, "nginx", "CPU a request at most 0.6 x nginx's")), size=KIB,
    ),
    Scenario("hot-10k", "hot file of 10 KiB", "file", (_FLOOR_90, _CPU_BEST), size=10 * KIB),
    Scenario("hot-100k", "hot file of 100 KiB", "file", (_FLOOR_95, _BEST), size=100 * KIB),
    Scenario("hot-10m", "hot file of 10 MiB", "file", (_FLOOR_95, _BEST), size=10 * MIB, connections=16),
    Scenario("mix", "mix of sizes after SPECweb99", "mix", (_FLOOR_90, _rate(1.1, "best peer", "1.1 x best peer"))),
    Scenario("not-modified", "If-None-Match, answered 304", "etag", (_FLOOR_90,), size=KIB, status=304),
    Scenario(
        "new-connections", "one request per connection, 1 KiB", "file",
        (_rate(1.0, "best peer", "not slower than the best peer"),), size=KIB, close=True, threads=2,
    ),
    Scenario(
        "pipelined", "pipelined, depth 16, 1 KiB", "file",
        (_cpu(0.25, "nginx", "CPU a request at most 0.25 x nginx's"),), size=KIB, pipeline=16,
    ),
    Scenario(
        "ranges", "random ranges of 64 KiB in a file of 1 GiB", "ranges",
        (_BEST,), size=RANGE_SIZE, status=206,
    ),
    Scenario(
        "cold", "100,000 files of 2 KiB, each once after a start", "cold", (_BEST,), kind="cold", size=COLD_SIZE,
    ),
    Scenario(
        "flood", "hits beside 100,000 distinct missing paths and random queries", "set",
        (
            Target("hits' p99 within 1.5 x of that without the flood", "p99_flood_us", "at most", 1.5, "own p99_us"),
            Target("nothing hot evicted: CPU a hit after within 1.25 x", "cpu_after_us", "at most", 1.25, "own cpu_us"),
        ),
        kind="flood", servers=("tux", "nginx", "lighttpd", "h2o"), size=SET_SIZE, connections=32,
    ),
    Scenario(
        "idle", "10,000 idle connections after a request each", "file",
        (Target("under 1 KiB of user memory each", "memory_bytes", "at most", 1024.0, "limit"),), kind="idle",
        servers=(FLOOR, "tux", "nginx", "lighttpd", "h2o"), size=KIB, connections=IDLE_CONNECTIONS,
    ),
    Scenario(
        "fixed-rate", "40 % of nginx's maximum offered, 1 KiB", "file",
        (Target("p99 not above the best peer's", "p99_us", "at most", 1.0, "best peer"),), kind="rate", size=KIB,
    ),
    Scenario(
        "access-log", "access log on, 1 KiB", "file",
        (_rate(0.95, "tux", "under 5 % slower than off", subject="tux-log"),), size=KIB,
        servers=(FLOOR, "tux", "tux-log", "nginx", "nginx-log", FLOOR_AGAIN),
    ),
    # What is behind: forwarded to the floor server, and applications.
    _forward("forward-1k", "forwarded, keep-alive, 1 KiB", KIB, 1.1),
    _forward("forward-100k", "forwarded, keep-alive, 100 KiB", 100 * KIB, 1.0),
    _forward("forward-10m", "forwarded, keep-alive, 10 MiB", 10 * MIB, 1.0, 16),
    _hello("wsgi", "WSGI hello, 2 processes", ("granian",), ("fastpysgi", "gunicorn")),
    _hello("flask", "Flask hello, 2 processes", ("granian",), ("fastpysgi", "gunicorn")),
    _hello("asgi", "ASGI hello, 2 processes", ("granian", "uvicorn")),
    _hello("starlette", "Starlette hello, 2 processes", ("granian", "uvicorn")),
    _echo(),
    _from_app("file-wrapper", "100 KiB by wsgi.file_wrapper"),
    _from_app("pathsend", "100 KiB by http.response.pathsend"),
    _from_app("sendfile", "100 KiB by X-Sendfile"),
    _from_app("accel", "100 KiB by X-Accel-Redirect"),
    _cgi(),
    _module_hello(),
    _module("cached", "1 KiB by a module that declares it cacheable", KIB, 1.0, "as fast as a static hit"),
    _module("object", "100 KiB by a module's send_object", 100 * KIB, 0.9, "0.9 x the same file served statically"),
    _beside("beside-sleep", "hits beside an application that sleeps", "p99 within 1.25 x of that without"),
    _beside(
        "beside-burn", "hits beside an application that burns CPU",
        "p99 within 1.25 x of that beside an unrelated process that burns the same",
    ),
    # The kernel tier. Every server but the floor writes an access log. Answers of the tier are made on the processor of
    # the client that asks: with one thread of the load generator, one of two processors would have nothing to do.
    _kernel("kernel-hot-1k-lo", "kernel tier: hot file of 1 KiB, lo", KIB, "lo-65536", 2.0, 1.5),
    _kernel("kernel-hot-1k-lo-1500", "kernel tier: hot file of 1 KiB, lo of MTU 1500", KIB, "lo"),
    _kernel("kernel-hot-10k-lo", "kernel tier: hot file of 10 KiB, lo", 10 * KIB, "lo-65536", 1.8, 1.3),
    _judged("kernel-hot-10k-lo-1500", "kernel tier: hot file of 10 KiB, lo of MTU 1500", 10 * KIB, "lo"),
    _kernel("kernel-hot-1k-veth", "kernel tier: hot file of 1 KiB, veth", KIB, "veth", 1.5, 1.1),
    Scenario(
        "kernel-cpu-1k", "kernel tier: 40 % of nginx's maximum offered, 1 KiB, lo", "file",
        (Target("the machine's CPU a request under 0.5 x nginx's", "soaked_us", "at most", 0.5, "nginx", TIER),),
        kind="cpu", servers=LOGGED, size=KIB, tick_us=250, link="lo-65536", needs_tier=True,
    ),
    Scenario(
        "kernel-misses", "kernel tier: 50 % misses to a slow application, hits at a fixed rate, 1 KiB, lo", "misses",
        (
            Target("hits' p99 within 1.25 x of that without misses", "p99_mixed_us", "at most", 1.25, "own p99_us",
                   TIER),
            Target("misses not slower than without the tier", "p50_miss_us", "at most", 1.0, "tux-log", TIER),
        ),
        kind="misses", servers=(FLOOR, "tux-log", TIER, FLOOR_AGAIN), size=KIB, connections=128, link="lo-65536",
        needs_tier=True,
    ),
    _judged("kernel-close-1k", "kernel tier: one request per connection, 1 KiB, lo", KIB, "lo-65536", close=True),
    Scenario(
        "kernel-foreign", "kernel tier: packets of other ports", "file",
        (Target("under 50 ns, the test run taken off", "foreign_ns", "at most", 50.0, "limit", TIER),), kind="foreign",
        servers=(TIER,), size=KIB, needs_tier=True,
    ),
    Scenario(
        "kernel-sizes", "kernel tier: by size", "file", (), kind="sizes",
        servers=(FLOOR, "tux-log", TIER, "nginx-log"), threads=2, needs_tier=True,
    ),
    Scenario(
        "kernel-miss-ratio", "kernel tier: by share of misses, 1 KiB, lo", "misses", (), kind="miss-ratio",
        servers=("tux-log", TIER), size=KIB, threads=2, link="lo-65536", needs_tier=True,
    ),
)  # fmt: skip


def by_name(name: str) -> Scenario:
    """The scenario of that name. Raises KeyError."""
    for scenario in SCENARIOS:
        if scenario.name == name:
            return scenario
    raise KeyError(name)
