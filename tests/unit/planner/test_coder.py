"""Files that are compressed when they are first asked for."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.planner.world import NOW_NS, Ask, World
from tux._engine import NO_BODY, PUBLISH, RANGE, REMEMBER
from tux.planner import coder
from tux.planner.allowance import Allowance
from tux.planner.coder import Coder
from tux.planner.rules import StaticRule
from tux.planner.static import StaticPlanner

Write = Callable[..., Path]
TEXT = b"many words, many words, " * 100


class Counting:
    """A compressor that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, data: bytes) -> bytes:
        self.calls += 1
        return gzip.compress(data, mtime=0)


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture(autouse=True)
def compressing(world: World, counting: Counting) -> None:
    rule = StaticRule(root=0, compress=True)
    world.static = StaticPlanner(rule, world.roots, coder=Coder({"gzip": counting}))


def test_a_text(world: World, write: Write) -> None:
    write("a.txt", TEXT)
    plain, small = world.ask("/a.txt"), world.ask("/a.txt", accept_encoding="br, gzip")
    assert gzip.decompress(small.body) == TEXT == plain.body
    assert small.fields["content-encoding"] == "gzip"
    assert small.fields["content-type"] == plain.fields["content-type"]
    assert small.fields["last-modified"] == plain.fields["last-modified"]
    assert small.fields["etag"] != plain.fields["etag"]
    assert small.flags == REMEMBER | PUBLISH
    for answer in (plain, small, world.ask("/a.txt", accept_encoding="br")):
        assert answer.fields["vary"] == "Accept-Encoding"
    assert "content-encoding" not in plain.fields


@pytest.mark.parametrize(
    ("accepted", "coded"),
    [("gzip", True), ("*", True), ("gzip;q=0", False), ("identity, gzip;q=0.5", False), ("br", False), ("", False)],
)
def test_weights(world: World, write: Write, accepted: str, coded: bool) -> None:
    write("a.txt", TEXT)
    assert ("content-encoding" in world.ask("/a.txt", accept_encoding=accepted).fields) is coded


@pytest.mark.parametrize(
    ("name", "size"), [("a.png", 2400), ("a", 2400), ("a.txt", coder.MIN_BYTES - 1), ("a.txt", coder.MAX_BYTES + 1)]
)
def test_what_is_not_compressed(world: World, write: Write, counting: Counting, name: str, size: int) -> None:
    write(name, b"x" * size)
    fields = world.ask("/" + name, accept_encoding="gzip").fields
    assert {"content-encoding", "vary"}.isdisjoint(fields)
    assert counting.calls == 0


def test_what_would_not_be_smaller(world: World, write: Write, counting: Counting) -> None:
    write("a.txt", gzip.compress(bytes(range(256)) * 2)[:300])
    for _ in range(3):
        answer = world.ask("/a.txt", accept_encoding="gzip")
        assert "content-encoding" not in answer.fields
        assert answer.fields["vary"] == "Accept-Encoding"
    assert counting.calls == 1


def test_conditions_and_head(world: World, write: Write) -> None:
    write("a.txt", TEXT)
    small = world.ask("/a.txt", accept_encoding="gzip")
    again = world.ask("/a.txt", accept_encoding="gzip", if_none_match=small.fields["etag"])
    assert (again.status, again.fields["vary"]) == (304, "Accept-Encoding")
    assert world.ask("/a.txt", if_none_match=small.fields["etag"]).status == 200, "it is another representation"
    head = world.ask("/a.txt", "HEAD", accept_encoding="gzip")
    assert head.plan.head == small.plan.head
    assert head.flags & NO_BODY


def test_ranges_are_of_what_is_sent(world: World, write: Write) -> None:
    write("a.txt", TEXT)
    whole = world.ask("/a.txt", accept_encoding="gzip").body
    answer = world.ask("/a.txt", accept_encoding="gzip", range="bytes=3-9")
    assert (answer.status, answer.flags & RANGE, answer.body) == (206, RANGE, whole)
    assert answer.fields["content-encoding"] == "gzip"
    several = world.ask("/a.txt", accept_encoding="gzip", range="bytes=0-1, 5-6")
    assert whole[:2] in several.body
    assert f"Content-Range: bytes 5-6/{len(whole)}".encode() in several.body


def test_made_once_for_all_forms_of_a_request(world: World, write: Write, counting: Counting) -> None:
    file = write("a.txt", TEXT)
    for accept in ("a/b", "c/d"):
        world.ask("/a.txt", accept_encoding="gzip", accept=accept)
        world.ask("/a.txt", accept_encoding="gzip", range="bytes=0-1", accept=accept)
    assert counting.calls == 1
    file.unlink()
    write("a.txt", TEXT + b"!", age_s=50)
    assert gzip.decompress(world.ask("/a.txt", accept_encoding="gzip").body) == TEXT + b"!"
    assert counting.calls == 2


def test_a_copy_on_the_disk_comes_first(world: World, write: Write, counting: Counting) -> None:
    write("a.txt", TEXT)
    write("a.txt.br", b"brotli")
    answer = world.ask("/a.txt", accept_encoding="gzip, br;q=0.5")
    assert (answer.fields["content-encoding"], answer.body) == ("br", b"brotli")
    assert world.ask("/a.txt", accept_encoding="gzip").fields["content-encoding"] == "gzip"


def test_a_file_that_is_not_held_in_memory(world: World, write: Write, counting: Counting) -> None:
    rule = StaticRule(root=0, compress=True)
    world.static = StaticPlanner(rule, world.roots, coder=Coder({"gzip": counting}), small_body_bytes=100)
    write("a.txt", TEXT)
    small = world.ask("/a.txt", accept_encoding="gzip")
    assert small.plan.file is None
    assert gzip.decompress(small.body) == TEXT
    assert world.ask("/a.txt").plan.file is not None


def test_equal_size_and_time_are_not_equal_content(world: World, write: Write, counting: Counting) -> None:
    """A file is written twice within one tick of the file system's clock."""
    for small_body_bytes in (65536, 100):
        rule = StaticRule(root=0, compress=True, precompressed=False)
        world.static = StaticPlanner(
            rule, world.roots, coder=Coder({"gzip": counting}), small_body_bytes=small_body_bytes
        )
        file = write("a.txt", TEXT, age_s=0.1)
        assert gzip.decompress(world.ask("/a.txt", accept_encoding="gzip").body) == TEXT
        file.write_bytes(TEXT[::-1])
        os.utime(file, ns=(NOW_NS - 10**8, NOW_NS - 10**8))
        assert gzip.decompress(world.ask("/a.txt", accept_encoding="gzip").body) == TEXT[::-1]


class Slow:
    """A compressor that takes its time, by a clock of its own."""

    def __init__(self, takes_ns: int) -> None:
        self.calls, self.now_ns, self._takes_ns = 0, 0, takes_ns

    def clock(self) -> int:
        return self.now_ns

    def __call__(self, data: bytes) -> bytes:
        self.calls += 1
        self.now_ns += self._takes_ns
        return b"small"


def _slowly(slow: Slow) -> Coder:
    return Coder({"gzip": slow}, allowance=Allowance(coder.BURST_NS, slow.clock), clock=slow.clock)


def test_the_time_is_bounded(world: World, write: Write) -> None:
    slow = Slow(coder.BURST_NS // 5)
    rule = StaticRule(root=0, compress=True)
    world.static = StaticPlanner(rule, world.roots, coder=_slowly(slow))
    answers = []
    for number in range(20):
        write(f"{number}.txt", TEXT + b"%d" % number)
        answers.append(world.ask(f"/{number}.txt", accept_encoding="gzip"))
    coded = ["content-encoding" in answer.fields for answer in answers]
    assert slow.calls == sum(coded) == coded.index(False) < 9, "some more than five: time passes while it works"
    late = answers[-1]
    assert late.body == TEXT + b"19"
    assert late.fields["vary"] == "Accept-Encoding", "there will be another one"
    assert (late.flags & REMEMBER, late.plan.ttl_ms) == (REMEMBER, coder.RETRY_NS // 1_000_000)
    assert world.ask("/0.txt", accept_encoding="gzip").body == b"small", "what is made is there"
    slow.now_ns += coder.RETRY_NS
    answer = world.ask("/19.txt", accept_encoding="gzip")
    assert (answer.body, answer.plan.ttl_ms) == (b"small", -1)


def test_what_is_kept_is_bounded(world: World, write: Write, counting: Counting) -> None:
    kept = Coder({"gzip": counting}, kept_bytes=3 * (coder.MIN_BYTES + 100))
    for number in range(10):
        write(f"{number}.txt", TEXT + b"%d" % number)
        assert kept.code(world.view(Ask()), world.roots.load(0, b"%d.txt" % number, 65536), ["gzip"]) is not None
    assert len(kept.kept) <= 3
    assert kept.kept.total <= 3 * (coder.MIN_BYTES + 100)
    assert kept.code(world.view(Ask()), world.roots.load(0, b"9.txt", 65536), ["gzip"]) is not None
    assert counting.calls == 10
