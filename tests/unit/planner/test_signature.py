"""The rule of the memo, for static files: a plan that is remembered is the plan of every request that it is found by.

A model of the engine's signatures tells which requests these are. The engine itself looks at the numbers of a plain
range before it uses a template, so pairs with a template are compared when both ranges can be satisfied.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.planner.world import NOW_NS, Ask, World
from tux._engine import EXACT, PUBLISH, RANGE, REMEMBER, SIGNIFICANT_BY_DEFAULT
from tux.http.dates import format_date
from tux.planner.plan import Plan

OLD_S, SIZE = NOW_NS // 10**9 - 1000, 40
DATE = format_date(OLD_S)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("site")
    for name in ("a.css", "a.css.gz", "b.bin", "docs/index.html", "fresh.bin"):
        file = root / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(name.encode().ljust(SIZE, b"."))
        seconds = OLD_S if name != "fresh.bin" else NOW_NS // 10**9
        os.utime(file, (seconds, seconds))
    return World(Path(root))


TAG = '"AAAA"'
PLAIN = st.sampled_from(["bytes=0-9", "bytes=5-", "bytes=-7", "bytes=39-39", "bytes=40-", "bytes=1000-2000"])
COVERED = st.fixed_dictionaries(
    {},
    optional={
        "range": st.one_of(PLAIN, st.sampled_from(["bytes=0-1,4-5", "bytes=90-", "lines=1-2"])),
        "if-range": st.sampled_from([TAG, DATE]),
        "if-none-match": st.sampled_from([TAG, "*"]),
        "if-match": st.sampled_from([TAG, "*"]),
        "if-modified-since": st.sampled_from([DATE, "Friday, 15-Jan-27 07:00:00 GMT"]),
        "accept-encoding": st.sampled_from(["gzip", "br, gzip;q=0.5", "identity"]),
    },
)
UNCOVERED = st.fixed_dictionaries(
    {},
    optional={"user-agent": st.sampled_from(["x", "y"]), "cookie": st.just("c"), "accept-language": st.just("de")},
)
PATHS = st.sampled_from(["/a.css", "/b.bin", "/docs", "/docs/", "/missing", "/fresh.bin", "/.env", "/a.css/"])
QUERIES = st.sampled_from(["", "?", "?a", "?b=1"])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Ask, Ask]:
    """Two requests with the same general signature."""
    path, covered = draw(PATHS), draw(COVERED)
    one = Ask(
        method=draw(st.sampled_from(["GET", "GET", "HEAD", "OPTIONS", "DELETE", "FOO"])),
        target=path + draw(QUERIES),
        fields={**covered, **draw(UNCOVERED)},
        minor=draw(st.sampled_from([0, 1])),
        expect_other=draw(st.sampled_from([False, False, True])),
    )
    fields = {**covered, **draw(UNCOVERED)}
    if one.plain_range:
        fields["range"] = draw(PLAIN)
    other = replace(one, target=path + draw(QUERIES), fields=fields, peer="198.51.100.7", id=2)
    assert general(one) == general(other)
    return one, other


def general(ask: Ask) -> Hashable:
    covered = {name: value for name, value in ask.fields.items() if name in SIGNIFICANT_BY_DEFAULT}
    if ask.plain_range:
        covered["range"] = "plain"
    return (ask.method, ask.path, ask.minor, ask.host, ask.listener, tuple(sorted(covered.items())))


def said(plan: Plan) -> Hashable:
    """What a client sees of a plan, and what the engine keeps of it."""
    checks = tuple((check.path, check.kind, check.ino, check.size, check.mtime_ns) for check in plan.checks)
    return (plan.status, plan.head, plan.body, plan.offset, plan.length, plan.flags & ~EXACT, plan.ttl_ms, checks)


def satisfiable(ask: Ask) -> bool:
    first = ask.fields["range"].removeprefix("bytes=").partition("-")[0]
    return not first or int(first) < SIZE


@settings(max_examples=400)
@given(pairs(), st.integers(0, 10**18))
def test_equal_signature_implies_equal_answer(site: World, pair: tuple[Ask, Ask], later_ns: int) -> None:
    one, other = pair
    site.now_ns = NOW_NS
    plan = site.answer(one).plan
    if not one.signed:
        assert not plan.flags & REMEMBER
    if not plan.flags & REMEMBER:
        return
    if plan.flags & EXACT and (one.query, one.fields.get("range")) != (other.query, other.fields.get("range")):
        return
    if plan.flags & RANGE and not satisfiable(other):
        return
    if plan.ttl_ms < 0:
        site.now_ns += later_ns  # "as long as its checks hold": whatever the clock says
    assert said(site.answer(other).plan) == said(plan)


def test_static_files_are_found_whatever_the_query(site: World) -> None:
    """The property above would also hold if nothing were ever remembered; these must be, under the path alone."""
    for target in ("/a.css?x", "/b.bin?y", "/docs/?z", "/missing?q=random"):
        assert site.ask(target).flags == REMEMBER | PUBLISH
