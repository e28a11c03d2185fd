"""The rule of the memo, from the bytes: what the engine's scanner gives one signature, the planner gives one answer.

`test_signature.py` models the signature; here it is the engine's own. A head is edited at random, in ways that must not
matter and in ways that may; whenever the signatures are equal all the same, the plans must be.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.planner.world import NOW_NS, World
from tux._engine import EXACT, RANGE, REMEMBER
from tux.http.dates import format_date

try:
    from tux._engine import scan_head
except ImportError:
    pytest.skip("the stand-in of the engine has no scanner", allow_module_level=True)

OLD_S, SIZE = NOW_NS // 10**9 - 1000, 40
KEY = bytes(range(16))

Field = tuple[str, str]


@dataclass(frozen=True)
class Raw:
    """A head before it is written down."""

    method: str
    target: str
    version: str
    fields: tuple[Field, ...]

    def bytes(self) -> bytes:
        lines = [f"{self.method} {self.target} {self.version}", *(f"{name}:{value}" for name, value in self.fields)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Scanned:
    """A request as the engine hands it over, made from what its scanner found."""

    id = 1
    listener = 0
    has_body = False
    peer = "192.0.2.1"

    def __init__(self, found: dict[str, Any]) -> None:
        self.method: str = found["method"]
        self.target: str = found["target"]
        self.path: str = found["path"]
        self.query: str | None = found["query"]
        self.minor: int = found["minor"]
        self.host: str = found["host"]
        self.signed: bool = found["signed"]
        self.plain_range: bool = found["plain_range"]
        self.expect_other: bool = found["expect_other"]
        self.fields: dict[str, str] = {}
        for sent, value in found["fields"]:
            name = sent.lower()
            self.fields[name] = f"{self.fields[name]}, {value}" if name in self.fields else value


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("site")
    for name in ("a.css", "a.css.gz", "b.bin", "docs/index.html"):
        file = root / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(name.encode().ljust(SIZE, b"."))
        os.utime(file, (OLD_S, OLD_S))
    return World(Path(root))


DATE = format_date(OLD_S)
VALUES = {
    "Host": ["example.org", "EXAMPLE.org", "other.example"],
    "Range": ["bytes=0-9", "bytes=5-", "bytes=-7", "bytes=0-1,4-5", "bytes=90-", "BYTES=0-9"],
    "If-Range": ['"AAAA"', DATE],
    "If-None-Match": ['"AAAA"', "*", 'W/"AAAA"'],
    "If-Modified-Since": [DATE],
    "Accept": ["*/*", "text/css"],
    "Accept-Encoding": ["gzip", "br, gzip;q=0.5", "identity", "gzip;q=0"],
    "User-Agent": ["one", "two"],
    "Cookie": ["a=1", "b=2"],
    "Connection": ["close", "keep-alive"],
}
TARGETS = [
    "/a.css",
    "/b.bin",
    "/docs",
    "/docs/",
    "/missing",
    "/%61.css",
    "/a.css?x",
    "/docs?x",
    "http://example.org/a.css",
]


def edits(rng: random.Random) -> list[Callable[[Raw], Raw]]:
    """Ways to change a head; the first half of them never matter to an answer."""

    def at(raw: Raw, change: Callable[[Field], Field]) -> Raw:
        i = rng.randrange(len(raw.fields))
        return Raw(raw.method, raw.target, raw.version, (*raw.fields[:i], change(raw.fields[i]), *raw.fields[i + 1 :]))

    def shuffled(raw: Raw) -> Raw:
        names = [name.lower() for name, _ in raw.fields]
        if len(set(names)) < len(names):
            return raw  # the order of repeated lines does matter
        return Raw(raw.method, raw.target, raw.version, tuple(rng.sample(raw.fields, len(raw.fields))))

    def other_value(field: Field) -> Field:
        name = field[0]
        known = next((key for key in VALUES if key.lower() == name.lower()), None)
        return field if known is None else (name, rng.choice(VALUES[known]))

    def more(raw: Raw) -> Raw:
        name = rng.choice(list(VALUES))
        return Raw(raw.method, raw.target, raw.version, (*raw.fields, (name, rng.choice(VALUES[name]))))

    return [
        shuffled,
        lambda raw: at(raw, lambda field: (field[0].swapcase(), field[1])),
        lambda raw: at(raw, lambda field: (field[0], f" \t{field[1].strip()} ")),
        lambda raw: Raw(raw.method, raw.target, raw.version, (*raw.fields, ("X-Nothing", str(rng.random())))),
        lambda raw: at(raw, other_value),
        more,
        lambda raw: Raw(raw.method, rng.choice(TARGETS), raw.version, raw.fields),
        lambda raw: Raw(rng.choice(["GET", "HEAD", "OPTIONS"]), raw.target, raw.version, raw.fields),
        lambda raw: Raw(raw.method, raw.target, rng.choice(["HTTP/1.1", "HTTP/1.0"]), raw.fields),
        lambda raw: Raw(raw.method, raw.target, raw.version, raw.fields[1:] if len(raw.fields) > 1 else raw.fields),
    ]


def draw_pair(seed: int) -> tuple[Raw, Raw]:
    rng = random.Random(seed)
    names = ["Host", *rng.sample([name for name in VALUES if name != "Host"], rng.randrange(6))]
    one = Raw("GET", rng.choice(TARGETS), "HTTP/1.1", tuple((name, rng.choice(VALUES[name])) for name in names))
    other = one
    for _ in range(rng.randrange(1, 4)):
        other = rng.choice(edits(rng))(other)
    return one, other


def scan(raw: Raw) -> dict[str, Any]:
    found: dict[str, Any] = scan_head(raw.bytes(), key=KEY)
    return found


SEEN: Counter[str] = Counter()


@settings(max_examples=1500)
@given(st.integers(0, 2**63))
def test_equal_signature_implies_equal_answer(site: World, seed: int) -> None:
    one, other = (scan(raw) for raw in draw_pair(seed))
    if one["outcome"] != "done" or other["outcome"] != "done" or not one["signed"] or not other["signed"]:
        return
    first, second = site.answer(Scanned(one)), site.answer(Scanned(other))  # type: ignore[arg-type]
    assert first.flags & REMEMBER
    same = (first.status, first.plan.head, first.body) == (second.status, second.plan.head, second.body)
    if first.flags & EXACT or second.flags & EXACT:
        if one["exact"] == other["exact"]:
            SEEN["exact"] += 1
            assert same
        return
    if one["general"] == other["general"]:
        if (first.flags ^ second.flags) & RANGE:
            return  # one of the two ranges cannot be satisfied: the engine asks about it
        SEEN["template" if first.flags & RANGE else "general"] += 1
        assert same
    elif not same:
        SEEN["different"] += 1


def test_the_property_was_about_something(site: World) -> None:
    """Each of its branches was taken, by pairs that hypothesis or this test drew."""
    for seed in range(1500):
        test_equal_signature_implies_equal_answer.hypothesis.inner_test(site, seed)  # type: ignore[attr-defined]
    assert min(SEEN[branch] for branch in ("exact", "general", "template", "different")) > 10, SEEN


@pytest.mark.parametrize(
    ("head", "changed"),
    [
        (b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /a HTTP/1.0\r\nHost: a\r\n\r\n"),
        (b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n"),
        *(
            (
                b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
                f"GET /a HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n\r\n".encode(),
            )
            for name, value in [
                ("Range", "bytes=0-1"),
                ("If-Match", "*"),
                ("If-None-Match", "*"),
                ("If-Modified-Since", DATE),
                ("If-Unmodified-Since", DATE),
                ("If-Range", DATE),
                ("Accept", "*/*"),
                ("Accept-Encoding", "gzip"),
                ("Authorization", "Basic QQ=="),
            ]
        ),
    ],
)
def test_what_changes_an_answer_changes_the_signature(head: bytes, changed: bytes) -> None:
    assert scan_head(head, key=KEY)["general"] != scan_head(changed, key=KEY)["general"]
    assert scan_head(head, key=KEY, context=1)["general"] != scan_head(head, key=KEY, context=2)["general"]
    assert scan_head(head, key=KEY)["general"] != scan_head(head, key=bytes(16))["general"]
