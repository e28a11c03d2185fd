"""The recording view: what was read decides whether, and under which signature, a plan is remembered."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.planner.world import NOW_NS, NOW_S, Ask
from tux._engine import CLOSE, EXACT, NO_BODY, PUBLISH, RANGE, REMEMBER, SIGNIFICANT_BY_DEFAULT
from tux.planner.view import CLOCK_TTL_MS, View


def view_of(ask: Ask, extra: frozenset[str] = frozenset(), now_ns: int = NOW_NS) -> View:
    return View(ask, SIGNIFICANT_BY_DEFAULT | extra, lambda: now_ns)


PLAIN = Ask(target="/a?q=1", fields={"range": "bytes=0-9", "cookie": "c", "accept": "*/*"})
ODD = replace(PLAIN, fields={"range": "bytes=0-9,20-29"})


@pytest.mark.parametrize(
    ("ask", "read", "flags"),
    [
        (PLAIN, lambda view: None, REMEMBER),
        (PLAIN, lambda view: (view.method, view.path, view.minor, view.host, view.listener), REMEMBER),
        (PLAIN, lambda view: (view.has_range, view.plain_range), REMEMBER),
        (PLAIN, lambda view: view.field("accept"), REMEMBER),
        (PLAIN, lambda view: view.field("if-match"), REMEMBER),
        (PLAIN, lambda view: view.has_any(frozenset(("accept", "if-match"))), REMEMBER),
        # the query, and the numbers of a plain range
        (PLAIN, lambda view: view.query, REMEMBER | EXACT),
        (PLAIN, lambda view: view.target, REMEMBER | EXACT),
        (PLAIN, lambda view: view.field("range"), REMEMBER | EXACT),
        (ODD, lambda view: view.field("range"), REMEMBER),
        # what no signature covers
        (PLAIN, lambda view: view.field("cookie"), 0),
        (PLAIN, lambda view: view.field("user-agent"), 0),
        (PLAIN, lambda view: view.field("connection"), 0),
        (PLAIN, lambda view: view.has_any(frozenset(("accept", "cookie"))), 0),
        (PLAIN, lambda view: view.peer, 0),
        (PLAIN, lambda view: view.forget(), 0),
        (PLAIN, lambda view: (view.query, view.peer), 0),
        # no signature at all
        (replace(PLAIN, has_body=True), lambda view: None, 0),
        (replace(PLAIN, expect_other=True), lambda view: view.expect_other, 0),
    ],
)
def test_what_reading_does(ask: Ask, read: Callable[[View], object], flags: int) -> None:
    view = view_of(ask)
    read(view)
    assert view.flags() == flags
    assert view.flags(NO_BODY | CLOSE) == flags | NO_BODY | CLOSE
    assert view.ttl_ms == -1


def test_the_host_is_seen_as_the_signature_covers_it() -> None:
    view = view_of(replace(PLAIN, host="Example.ORG:80", fields={"host": "Example.ORG:80"}))
    assert view.host == "example.org:80"
    assert view.field("host") == "example.org:80"


def test_a_range_template_does_not_depend_on_the_numbers() -> None:
    view = view_of(PLAIN)
    view.field("range")
    assert view.flags(RANGE) == RANGE | REMEMBER
    assert view.query == "q=1"
    assert view.flags(RANGE) == RANGE | REMEMBER | EXACT


def test_rules_may_make_a_field_significant() -> None:
    view = view_of(PLAIN, frozenset(("cookie",)))
    assert view.field("cookie") == "c"
    assert view.flags() == REMEMBER


def test_only_what_is_remembered_can_be_published() -> None:
    view = view_of(PLAIN)
    view.publish = True
    assert view.flags() == REMEMBER | PUBLISH
    view.forget()
    assert view.flags() == 0


def test_reading_the_time_limits_the_life_of_a_plan() -> None:
    view = view_of(PLAIN)
    assert view.now() == NOW_S
    assert view.flags() == REMEMBER
    assert view.ttl_ms == CLOCK_TTL_MS


@pytest.mark.parametrize(
    ("age_ns", "settled"),
    [(2_000_000_000, True), (10**18, True), (1_999_999_999, False), (0, False), (-(10**10), False)],
)
def test_a_file_settles(age_ns: int, settled: bool) -> None:
    """Settled stays settled: that answer does not age. Not yet settled does."""
    view = view_of(PLAIN)
    assert view.settled(NOW_NS - age_ns) is settled
    assert view.ttl_ms == (-1 if settled else CLOCK_TTL_MS)


READS: dict[str, Callable[[View], Hashable]] = {
    "method": lambda view: view.method,
    "path": lambda view: view.path,
    "minor": lambda view: view.minor,
    "host": lambda view: view.host,
    "listener": lambda view: view.listener,
    "expect_other": lambda view: view.expect_other,
    "plain_range": lambda view: view.plain_range,
    "has_range": lambda view: view.has_range,
    "query": lambda view: view.query,
    "target": lambda view: view.target,
    "peer": lambda view: view.peer,
    "range": lambda view: view.field("range"),
    "accept": lambda view: view.field("accept"),
    "cookie": lambda view: view.field("cookie"),
    "has_any": lambda view: view.has_any(frozenset(("accept", "cookie"))),
    "settled": lambda view: view.settled(NOW_NS - 1_500_000_000),
    "now": lambda view: view.now(),
}

FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "range": st.sampled_from(["bytes=0-9", "bytes=5-", "bytes=0-1,4-5", "lines=1-2"]),
        "accept": st.sampled_from(["*/*", "text/html"]),
        "cookie": st.sampled_from(["a", "b"]),
    },
)
ASKS = st.builds(
    Ask,
    method=st.sampled_from(["GET", "HEAD"]),
    target=st.sampled_from(["/", "/a", "/a?", "/a?b"]),
    fields=FIELDS,
    minor=st.sampled_from([0, 1]),
    host=st.sampled_from(["a", "b"]),
    listener=st.sampled_from([0, 1]),
    expect_other=st.booleans(),
    peer=st.sampled_from(["192.0.2.1", "192.0.2.2"]),
)


def general(ask: Ask) -> Hashable:
    """A model of the engine's general signature."""
    covered = {name: value for name, value in ask.fields.items() if name in SIGNIFICANT_BY_DEFAULT}
    if ask.plain_range:
        covered["range"] = "plain"
    return (ask.method, ask.path, ask.minor, ask.host, ask.listener, tuple(sorted(covered.items())))


def exact(ask: Ask) -> Hashable:
    return (general(ask), ask.query, ask.fields.get("range"))


def check_pair(one: Ask, other: Ask, reads: list[str], later_ns: int) -> None:
    """An answer made of these reads for `one` may be given to `other` if the signature says so, also later."""
    view = view_of(one)
    answer = [READS[name](view) for name in reads]
    flags = view.flags()
    if not flags & REMEMBER or not other.signed:
        return
    if exact(one) != exact(other) if flags & EXACT else general(one) != general(other):
        return
    second = view_of(other, now_ns=NOW_NS + (later_ns if view.ttl_ms < 0 else 0))
    assert [READS[name](second) for name in reads] == answer


SOME_READS = st.lists(st.sampled_from(sorted(READS)), max_size=4)
LATER_NS = st.integers(0, 3_000_000_000)


@given(ASKS, ASKS, SOME_READS, LATER_NS)
def test_equal_signature_implies_equal_answer(one: Ask, other: Ask, reads: list[str], later_ns: int) -> None:
    """For any answer that is made of anything that a view can tell, not only for those of our planners."""
    check_pair(one, other, reads, later_ns)


@given(ASKS, SOME_READS, LATER_NS, st.data())
def test_equal_signature_implies_equal_answer_for_near_requests(
    one: Ask, reads: list[str], later_ns: int, data: st.DataObject
) -> None:
    """The same for pairs that differ in what is uncovered only, which random pairs seldom are."""
    fields = {name: value for name, value in one.fields.items() if name != "cookie"}
    if one.plain_range:
        fields["range"] = data.draw(st.sampled_from(["bytes=0-9", "bytes=5-"]))
    if data.draw(st.booleans()):
        fields["cookie"] = data.draw(st.sampled_from(["a", "b"]))
    target = one.path + data.draw(st.sampled_from(["", "?", "?c"]))
    other = replace(one, fields=fields, target=target, peer=data.draw(st.sampled_from(["192.0.2.1", "192.0.2.9"])))
    assert general(one) == general(other)
    check_pair(one, other, reads, later_ns)
