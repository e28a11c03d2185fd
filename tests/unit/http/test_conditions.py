"""Conditional requests, against a literal transcription of RFC 9110 section 13.2.2."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tux.http.conditions import Outcome, evaluate, if_range, matches
from tux.http.dates import format_date, parse_date

ETAG = '"abc"'
MODIFIED = 1_000_000_000
AT, BEFORE, AFTER = (format_date(MODIFIED + delta) for delta in (0, -1, 1))


def now() -> int:
    return MODIFIED + 1000


@pytest.mark.parametrize(
    ("value", "strongly", "weakly"),
    [
        ('"abc"', True, True),
        ('W/"abc"', False, True),
        ("*", True, True),
        ('"x", "abc"', True, True),
        ('"x","abc","y"', True, True),
        ('"x" ,\t"abc"', True, True),
        (', ,"abc",', True, True),
        ('W/"x", W/"abc"', False, True),
        ('W/"abc", "abc"', True, True),
        ('"a,b", "abc"', True, True),  # a comma within a tag
        ('"x"', False, False),
        ('"ABC"', False, False),
        ('"ab"', False, False),
        ('"abcd"', False, False),
        ("abc", False, False),
        ('w/"abc"', False, False),
        ('"x, "abc"', False, False),  # the tag `x, ` is followed by something that is none
        ('"abc', False, False),
        ('x "abc"', False, False),
        ('"x""abc"', False, False),
        ('* , "abc"', False, False),
        ("", False, False),
    ],
)
def test_lists_of_tags(value: str, strongly: bool, weakly: bool) -> None:
    assert matches(value, ETAG, weakly=False) is strongly
    assert matches(value, ETAG, weakly=True) is weakly


def test_a_weak_tag_of_ours_never_matches_strongly() -> None:
    assert not matches('W/"abc"', 'W/"abc"', weakly=False)
    assert not matches('"abc"', 'W/"abc"', weakly=False)
    assert matches('W/"abc"', 'W/"abc"', weakly=True)
    assert matches('"abc"', 'W/"abc"', weakly=True)
    assert matches('"x", "abc"', 'W/"abc"', weakly=True)


TAGS = st.one_of(st.none(), st.sampled_from(["*", '"abc"', 'W/"abc"', '"x"', '"x", "abc"', '"x", W/"abc"', "junk"]))
DATES = st.one_of(st.none(), st.sampled_from([AT, BEFORE, AFTER, "junk", "Sunday, 06-Nov-94 08:49:37 GMT"]))


def transcription(method: str, fields: dict[str, str]) -> Outcome:
    """RFC 9110 section 13.2.2, steps 1 to 4, word by word."""

    def tag_condition(name: str, *, weakly: bool) -> bool:
        """Whether the field lists our tag."""
        value = fields[name]
        if value == "*":
            return True
        tags = [tag.strip() for tag in value.split(",")]
        return any(tag == ETAG or (weakly and tag == "W/" + ETAG) for tag in tags)

    def date_of(name: str) -> int | None:
        return parse_date(fields[name], now) if name in fields else None

    # 1. When recipient is the origin server and If-Match is present, evaluate the If-Match precondition:
    if "if-match" in fields:
        # if true, continue to step 3; if false, respond 412
        if not tag_condition("if-match", weakly=False):
            return Outcome.FAILED
    # 2. ... If-Match is not present, and If-Unmodified-Since is present, evaluate it:
    elif (date := date_of("if-unmodified-since")) is not None and date < MODIFIED:
        return Outcome.FAILED
    # 3. When If-None-Match is present, evaluate it:
    if "if-none-match" in fields:
        # if true, continue to step 5; if false for GET/HEAD, respond 304; for other methods, 412
        if tag_condition("if-none-match", weakly=True):
            return Outcome.NOT_MODIFIED if method in ("GET", "HEAD") else Outcome.FAILED
    # 4. When the method is GET or HEAD, If-None-Match is not present, and If-Modified-Since is present, evaluate it:
    elif method in ("GET", "HEAD"):
        date = date_of("if-modified-since")
        if date is not None and date >= MODIFIED:
            return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


@given(st.sampled_from(["GET", "HEAD", "POST"]), TAGS, TAGS, DATES, DATES)
@example("GET", '"abc"', '"abc"', None, None)
@example("GET", None, '"x"', AT, None)  # If-None-Match stands above If-Modified-Since
@example("GET", '"abc"', None, None, BEFORE)  # If-Match stands above If-Unmodified-Since
def test_precedence(
    method: str, if_match: str | None, if_none_match: str | None, since: str | None, unmodified: str | None
) -> None:
    pairs = {
        "if-match": if_match,
        "if-none-match": if_none_match,
        "if-modified-since": since,
        "if-unmodified-since": unmodified,
    }
    fields = {name: value for name, value in pairs.items() if value is not None}
    assert evaluate(method, fields.get, ETAG, MODIFIED, now) is transcription(method, fields)


@pytest.mark.parametrize(
    ("value", "is_strong", "counts"),
    [
        ('"abc"', True, True),
        ('"x"', True, False),
        ('W/"abc"', True, False),  # strong comparison
        ('"abc", "abc"', True, False),  # no list here
        ("*", True, False),
        (AT, True, True),
        (AT, False, False),
        (BEFORE, True, False),
        (AFTER, True, False),  # exactly, not "not later"
        ("junk", True, False),
    ],
)
def test_if_range(value: str, is_strong: bool, counts: bool) -> None:
    assert if_range(value, ETAG, MODIFIED, lambda: is_strong, now) is counts


@given(st.text(st.sampled_from('"abcW/, *\t'), max_size=30))
def test_any_text_can_be_a_list_of_tags(value: str) -> None:
    if matches(value, ETAG, weakly=False):
        assert matches(value, ETAG, weakly=True)
        assert value == "*" or ETAG in value
