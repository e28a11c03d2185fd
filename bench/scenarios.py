# SPDX-License-Identifier: MIT
"""What is measured, as data: every scenario with its requests, the servers that are compared, and its targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

FLOOR: Final = "floor"
FLOOR_AGAIN: Final = "floor-again"  # the same process, measured a second time in every round: the A/A spread
NGINX: Final = ("nginx", "nginx-nosendfile")
PEERS: Final = (*NGINX, "lighttpd", "h2o")
ALL: Final = (FLOOR, "tux", *PEERS, FLOOR_AGAIN)

Sense = Literal["at least", "at most"]
Kind = Literal["throughput", "cold", "flood", "idle", "rate"]
Metric = Literal["rate", "cpu_us", "machine_us", "p99_us", "p99_flood_us", "cpu_after_us", "memory_bytes"]
Reference = Literal["floor", "nginx", "best peer", "limit", "tux", "own p99_us", "own cpu_us"]
Requests = Literal["file", "mix", "etag", "ranges", "cold", "set"]


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


def _rate(bound: float, reference: Reference, text: str, subject: str = "tux") -> Target:
    return Target(text, "rate", "at least", bound, reference, subject)


def _cpu(bound: float, reference: Reference, text: str) -> Target:
    return Target(text, "cpu_us", "at most", bound, reference)


_CPU_BEST: Final = _cpu(1.0, "best peer", "CPU a request not above the best peer's")
_FLOOR_90: Final = _rate(0.9, "floor", "0.9 x floor")
_FLOOR_95: Final = _rate(0.95, "floor", "0.95 x floor")
_BEST: Final = _rate(1.0, "best peer", "1.0 x best peer")

COLD_FILES: Final = 100_000
COLD_SIZE: Final = 2 * KIB
SET_FILES: Final = 1000  # the hot set beside the flood: enough that its eviction would show in the CPU a request
SET_SIZE: Final = KIB
FLOOD_REQUESTS: Final = 100_000  # distinct, over all rounds
FLOOD_RATE: Final = 4000  # requests/s of the flood
FLOOD_HOT_RATE: Final = 8000  # requests/s of the hot traffic beside it
IDLE_CONNECTIONS: Final = 10_000
RANGE_SIZE: Final = 64 * KIB
OFFERED: Final = 0.4  # of nginx's maximum, in the fixed-rate row

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
        (_rate(1.0, "nginx", "1.0 x nginx"),), size=RANGE_SIZE, status=206,
    ),
    Scenario(
        "cold", "100,000 files of 2 KiB, each once after a start", "cold",
        (Target("at most 80 us of CPU a file", "cpu_us", "at most", 80.0, "limit"),), kind="cold", size=COLD_SIZE,
        servers=(FLOOR, "tux", *PEERS),
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
)  # fmt: skip


def by_name(name: str) -> Scenario:
    """The scenario of that name. Raises KeyError."""
    for scenario in SCENARIOS:
        if scenario.name == name:
            return scenario
    raise KeyError(name)
