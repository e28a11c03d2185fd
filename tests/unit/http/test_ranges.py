"""Byte ranges (RFC 9110 section 14), against a model that thinks in single bytes."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tux.http.ranges import MAX_RANGES, content_range, resolve, unsatisfied_range


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-999", [(500, 500)]),
        ("bytes=-500", [(9500, 500)]),
        ("bytes=9500-", [(9500, 500)]),
        ("bytes=0-0,-1", [(0, 1), (9999, 1)]),
        ("bytes=0-", [(0, 10000)]),
        ("bytes=0-99999", [(0, 10000)]),
        ("bytes=-99999", [(0, 10000)]),
        ("bytes=9999-", [(9999, 1)]),
        # the order of the request is kept while nothing overlaps
        ("bytes=500-599,0-99", [(500, 100), (0, 100)]),
        # what overlaps or touches is joined
        ("bytes=500-600,601-999", [(500, 500)]),
        ("bytes=500-700,601-999", [(500, 500)]),
        ("bytes=0-9,5-,20-29", [(0, 10000)]),
        ("bytes=50-59,10-19,15-24", [(10, 15), (50, 10)]),
        # some of several cannot be satisfied
        ("bytes=0-0,10000-", [(0, 1)]),
        ("bytes=-0,5-5", [(5, 1)]),
        # forms that a list and a unit may have
        ("BYTES=0-1", [(0, 2)]),
        ("bytes=0-1 , 4-5", [(0, 2), (4, 2)]),
        ("bytes=,0-1,,\t4-5,", [(0, 2), (4, 2)]),
        ("bytes=00000000000000000000000-0000000000000000000001", [(0, 2)]),
        ("bytes=0-18446744073709551616", [(0, 10000)]),
        ("bytes=-" + "9" * 5000, [(0, 10000)]),
        # none can be
        ("bytes=10000-", []),
        ("bytes=10000-20000", []),
        ("bytes=-0", []),
        ("bytes=18446744073709551616-", []),
        ("bytes=" + "9" * 5000 + "-", []),
        # ignored
        ("", None),
        ("bytes", None),
        ("bytes=", None),
        ("bytes=,", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1", None),
        ("bytes=2-1", None),
        ("bytes=0-1,2-1", None),
        ("bytes=" + "9" * 5000 + "-" + "8" * 5000, None),
        ("bytes=--1", None),
        ("bytes=+1-2", None),
        ("bytes=1_0-20", None),
        ("bytes=0x1-2", None),
        ("bytes=1 -2", None),
        ("bytes=\u0661-\u0662", None),
        ("bytes 0-1", None),
        ("items=0-1", None),
        ("seconds=0-1,bytes=0-1", None),
        ("bytes=0-1;2-3", None),
    ],
)
def test_of_ten_thousand_bytes(value: str, spans: list[tuple[int, int]] | None) -> None:
    assert resolve(value, 10000) == spans


def test_nothing_can_be_named_of_an_empty_representation() -> None:
    assert resolve("bytes=0-", 0) is None
    assert resolve("bytes=-5", 0) is None


def test_over_4_gib() -> None:
    assert resolve("bytes=5000000000-5000000009", 6_000_000_000) == [(5_000_000_000, 10)]
    assert resolve("bytes=-1", 1 << 40) == [((1 << 40) - 1, 1)]


def test_too_many_are_ignored() -> None:
    most = ",".join(f"{10 * i}-{10 * i}" for i in range(MAX_RANGES))
    assert len(resolve("bytes=" + most, 10000) or ()) == MAX_RANGES
    assert resolve("bytes=" + most + ",9999-", 10000) is None
    assert resolve("bytes=" + "," * 1000 + "0-1", 10000) is None


def test_a_bomb_is_cheap() -> None:
    """A megabyte of ranges costs no more than looking at it once; the bound is hundreds of times the usual time."""
    started = time.process_time()
    assert resolve("bytes=" + ",".join(f"{i}-" for i in range(100_000)), 10**9) is None
    assert resolve("bytes=" + "0" * 1_000_000 + "-" + "0" * 1_000_000, 10**9) == [(0, 1)]
    assert time.process_time() - started < 5


def model(specs: list[tuple[int | None, int | None]], size: int) -> set[int]:
    asked: set[int] = set()
    for first, last in specs:
        if first is None:
            assert last is not None
            asked |= set(range(size)[size - min(last, size) :])
        else:
            asked |= {byte for byte in range(size) if first <= byte and (last is None or byte <= last)}
    return asked


NUMBERS = st.integers(0, 60)
SPECS = st.one_of(
    st.tuples(NUMBERS, NUMBERS).map(lambda pair: (min(pair), max(pair))),
    st.tuples(NUMBERS, st.none()),
    st.tuples(st.none(), NUMBERS),
)


@given(st.lists(SPECS, min_size=1, max_size=MAX_RANGES), st.integers(1, 50))
@example([(3, 5), (0, 2)], 10)
def test_the_parts_are_the_bytes_asked_for_each_once(specs: list[tuple[int | None, int | None]], size: int) -> None:
    text = ",".join(f"{'' if first is None else first}-{'' if last is None else last}" for first, last in specs)
    spans = resolve("bytes=" + text, size)
    assert spans is not None
    sent = [byte for start, length in spans for byte in range(start, start + length)]
    assert len(sent) == len(set(sent)), "no byte twice"
    assert set(sent) == model(specs, size)
    assert all(length > 0 for _, length in spans)


@given(st.text(st.sampled_from("0123456789-, \tbytes="), max_size=40), st.integers(0, 100))
def test_parts_are_always_within(text: str, size: int) -> None:
    for start, length in resolve("bytes=" + text, size) or ():
        assert 0 <= start < start + length <= size


def test_content_range() -> None:
    assert content_range((500, 500), 1234) == "bytes 500-999/1234"
    assert unsatisfied_range(1234) == "bytes */1234"
