# SPDX-License-Identifier: MIT
"""The files that are served and the requests that are sent, made once and kept in ``.cache/bench``.

The number before the suffix of a file's name is its size in bytes: the load generator checks lengths by it, and the
floor server answers by it. Everything random is seeded: two runs send the same requests.
"""

from __future__ import annotations

import array
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import scenarios
from bench.scenarios import GIB, KIB, MIB, Scenario

SEED: Final = 20000718
MTIME: Final = 1_700_000_000  # seconds: an old date, so that no server waits for a fresh file to settle
HOST: Final = "bench.test"

# About 450 bytes, as a browser sends them over plain HTTP.
_FIELDS: Final = (
    f"Host: {HOST}",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate",
    f"Referer: http://{HOST}/hot/index.html",
    "DNT: 1",
    "Upgrade-Insecure-Requests: 1",
)

# SPECweb99: share of each class, and the unit of its nine sizes in bytes.
MIX_CLASSES: Final = ((0.35, 102), (0.50, 1 * KIB), (0.14, 10 * KIB), (0.01, 100 * KIB))
MIX_FOLDERS: Final = 40
MIX_FILES: Final = 9
MIX_RANKS: Final = (5, 4, 6, 3, 7, 2, 8, 1, 9)  # multiples of the unit, the most frequent first
MIX_ORDER: Final = 65_536  # requests before the order repeats
MIXED_HITS: Final = 900_000  # hits in an order that mixes them with misses: more than one measurement sends
RANGE_FILE: Final = f"/big/file-{GIB}.bin"
RANGE_REQUESTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class RequestList:
    """What the load generator is given: prepared heads, the order of sending, and what each answer must be."""

    heads: Path
    order: Path | None
    statuses: tuple[int, ...]
    length: str | None  # a number of bytes; "path": the number in the path
    second: int | None = None  # heads from this one on are misses: their latencies are counted apart


def head(path: str, extra: Sequence[str] = (), *, close: bool = False) -> bytes:
    """The bytes of a browser-like GET of ``path``, with the field lines ``extra`` added."""
    connection = "Connection: close" if close else "Connection: keep-alive"
    lines = (f"GET {path} HTTP/1.1", _FIELDS[0], connection, *_FIELDS[1:], *extra)
    return "".join(f"{line}\r\n" for line in lines).encode("ascii") + b"\r\n"


UPGRADE: Final = (
    f"GET /echo HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
"""Asks for a WebSocket, without compression."""


def hot_path(size: int) -> str:
    """Path of the hot file of ``size`` bytes."""
    return f"/hot/page-{size}.html"


def cold_path(number: int) -> str:
    """Path of cold file ``number``: 1,000 of them in a folder."""
    return f"/cold/{number // 1000:03d}/{number % 1000:03d}-{scenarios.COLD_SIZE}.html"


def set_path(number: int) -> str:
    """Path of file ``number`` of the hot set."""
    return f"/set/{number:03d}-{scenarios.SET_SIZE}.html"


def mix_path(folder: int, unit: int, rank: int) -> str:
    """Path of a file of the mix: ``rank`` (1 to 9) times ``unit`` bytes."""
    return f"/mix/dir{folder:02d}/class{unit}-{unit * rank}.html"


def zipf(count: int) -> list[float]:
    """Weights of ``count`` ranks after Zipf: 1/1, 1/2, 1/3, ..."""
    return [1.0 / rank for rank in range(1, count + 1)]


def mix_order(count: int) -> list[int]:
    """Indices of ``count`` requests of the mix into mix_paths()."""
    source = random.Random(SEED)
    folders = source.choices(range(MIX_FOLDERS), weights=zipf(MIX_FOLDERS), k=count)
    classes = source.choices(range(len(MIX_CLASSES)), weights=[share for share, _ in MIX_CLASSES], k=count)
    ranks = source.choices(MIX_RANKS, weights=zipf(MIX_FILES), k=count)
    per_folder = len(MIX_CLASSES) * MIX_FILES
    return [
        folder * per_folder + kind * MIX_FILES + rank - 1
        for folder, kind, rank in zip(folders, classes, ranks, strict=True)
    ]


def mix_paths() -> list[str]:
    """Every path of the mix: folder by folder, class by class, smallest first."""
    return [
        mix_path(folder, unit, rank)
        for folder in range(MIX_FOLDERS)
        for _, unit in MIX_CLASSES
        for rank in range(1, MIX_FILES + 1)
    ]


def mixed_order(percent: int) -> list[int]:
    """Indices of requests: 0 is the hit, and each of 1 to MISSES is a miss that comes once; shuffled."""
    if percent == 0:
        return [0]
    hits = min(scenarios.MISSES * (100 - percent) // percent, MIXED_HITS)
    order = [0] * hits + list(range(1, min(scenarios.MISSES, hits * percent // (100 - percent)) + 1))
    random.Random(SEED).shuffle(order)
    return order


def size_of(path: str) -> int:
    """The size in bytes that a path's name states."""
    return int(path.rpartition("-")[2].partition(".")[0])


class Content:
    """The folder that is served (``www``) and the request files beside it, made when they are first asked for."""

    def __init__(self, cache: Path) -> None:
        self.www = cache / "www"
        self._requests = cache / "requests"
        self._made: dict[str, RequestList] = {}
        self._orders: set[int] = set()  # percentages of misses whose order is written
        self._requests.mkdir(parents=True, exist_ok=True)
        self.www.mkdir(parents=True, exist_ok=True)

    def make_files(self, scenario: Scenario) -> None:
        """Write what the scenario serves, where it is not there yet."""
        for path in self._paths(scenario):
            self._write(path)

    def warm(self, scenario: Scenario) -> None:
        """Read every file of the scenario, so that none comes from the disk while a server is measured."""
        block = bytearray(MIB)
        for path in self._paths(scenario):
            with (self.www / path[1:]).open("rb", buffering=0) as file:
                while file.readinto(block):
                    pass

    def first_path(self, scenario: Scenario) -> str:
        """A path of the scenario, to check a server with."""
        return next(self._paths(scenario))

    def bytes_of(self, path: str, start: int = 0, size: int = -1) -> bytes:
        """What the file holds: ``size`` bytes from ``start`` on, by default all."""
        with (self.www / path[1:]).open("rb") as file:
            file.seek(start)
            return file.read(size)

    def requests(self, scenario: Scenario, server: str, etag: str) -> RequestList:
        """The request list for ``scenario``; ``etag`` is what this server called the scenario's file."""
        known = self._made.get(scenario.name)
        if known is not None:
            return known
        order: Path | None = None
        heads: list[bytes] = []
        name = scenario.name
        match scenario.requests:
            case "upgrade":
                heads = [UPGRADE]
            case "hello":
                heads = [head("/hello")]
            case "file":
                heads = [head(self.first_path(scenario), close=scenario.close)]
            case "etag":
                name = f"{scenario.name}.{server}"
                heads = [head(self.first_path(scenario), (f"If-None-Match: {etag}",))]
            case "mix":
                heads = [head(path) for path in mix_paths()]
                order = self._requests / "mix.order"
                order.write_bytes(array.array("I", mix_order(MIX_ORDER)).tobytes())
            case "ranges":
                heads = [head(RANGE_FILE, (f"Range: bytes={start}-{start + scenarios.RANGE_SIZE - 1}",))
                         for start in _range_starts()]  # fmt: skip
            case "cold" | "set":
                heads = [head(path) for path in self._paths(scenario)]
            case "misses":
                return self.hot(scenario.size or KIB)
        file = self._requests / f"{name}.heads"
        file.write_bytes(b"".join(heads))
        length = "path" if scenario.size is None else str(scenario.size)
        made = RequestList(file, order, (scenario.status,), None if scenario.status == 304 else length)
        if scenario.requests != "etag":  # those differ from server to server
            self._made[scenario.name] = made
        return made

    def flood(self, count: int) -> RequestList:
        """``count`` distinct requests: missing paths and random queries of a hot file, in turn."""
        source = random.Random(SEED)
        hot = set_path(0)
        heads = [
            head(f"/missing/{source.getrandbits(64):016x}.html" if number % 2 else f"{hot}?{source.getrandbits(64):x}")
            for number in range(count)
        ]
        file = self._requests / "flood.heads"
        file.write_bytes(b"".join(heads))
        return RequestList(file, None, (404, 200), None)

    def plain(self, path: str) -> RequestList:
        """``path``, again and again, whatever comes back with 200."""
        file = self._requests / f"plain{path.replace('/', '-')}.heads"
        file.write_bytes(head(path))
        return RequestList(file, None, (200,), None)

    def hot(self, size: int) -> RequestList:
        """The hot file of ``size`` bytes, again and again."""
        file = self._requests / f"hot-{size}.heads"
        file.write_bytes(head(hot_path(size)))
        return RequestList(file, None, (200,), str(size))

    def mixed(self, percent: int, part: int, *, status: int = 404) -> RequestList:
        """Hits of the hot file of 1 KiB, and among them ``percent`` of misses: paths without a file, all different, and
        others in each ``part``, answered with ``status``. A list is good until the next one is asked for."""
        source = random.Random(SEED + part)
        file, order = self._requests / "misses.heads", self._requests / f"misses-{percent}.order"
        file.write_bytes(
            head(hot_path(KIB))
            + b"".join(head(f"/missing/{source.getrandbits(64):016x}") for _ in range(scenarios.MISSES))
        )
        if percent not in self._orders:
            order.write_bytes(array.array("I", mixed_order(percent)).tobytes())
            self._orders.add(percent)
        return RequestList(file, order, tuple(dict.fromkeys((200, status))), "path", second=1)

    def _paths(self, scenario: Scenario) -> Iterator[str]:
        match scenario.requests:
            case "file" if scenario.kind == "sizes":
                yield from dict.fromkeys(hot_path(case.size) for case in scenarios.SIZES)
            case "file" | "etag" | "misses":
                assert scenario.size is not None
                yield hot_path(scenario.size)
            case "hello" | "upgrade":
                pass
            case "mix":
                yield from mix_paths()
            case "ranges":
                yield RANGE_FILE
            case "cold":
                yield from (cold_path(number) for number in range(scenarios.COLD_FILES))
            case "set":
                yield from (set_path(number) for number in range(scenarios.SET_FILES))

    def _write(self, path: str) -> None:
        file = self.www / path[1:]
        size = size_of(path)
        if file.exists() and file.stat().st_size == size:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        unit = random.Random(path).randbytes(min(size, MIB) // 2 + 1).hex().encode()
        with file.open("wb") as out:  # real bytes: a sparse file would not cost what a file costs
            left = size
            while left > 0:
                left -= out.write(unit[: min(left, MIB)])
        os.utime(file, (MTIME, MTIME))


def _range_starts() -> list[int]:
    source = random.Random(SEED)
    return [source.randrange(GIB - scenarios.RANGE_SIZE) for _ in range(RANGE_REQUESTS)]
