"""Conditional requests (RFC 9110 section 13) on a representation that exists."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol

from tux.http.dates import parse_date

CONDITIONS = frozenset(("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"))
"""The fields that `evaluate` reads."""


class Reader(Protocol):
    """Reads a field of a request by its lower-case name; None when it was not sent."""

    def __call__(self, name: str, /) -> str | None: ...


class Outcome(enum.Enum):
    PROCEED = enum.auto()
    NOT_MODIFIED = enum.auto()
    """304."""
    FAILED = enum.auto()
    """412."""


def evaluate(method: str, read: Reader, etag: str, modified: int, now: Callable[[], int]) -> Outcome:
    """The precedence of section 13.2.2, steps 1 to 4 (If-Range is `if_range`).

    `etag` is the representation's entity tag with its quotes, `modified` its Last-Modified; `now` as of `parse_date`.
    A date that cannot be read makes its condition be ignored (sections 13.1.3 and 13.1.4).
    """
    if (value := read("if-match")) is not None:
        if not matches(value, etag, weakly=False):
            return Outcome.FAILED
    elif (value := read("if-unmodified-since")) is not None:
        date = parse_date(value, now)
        if date is not None and modified > date:
            return Outcome.FAILED
    if (value := read("if-none-match")) is not None:
        if matches(value, etag, weakly=True):
            return Outcome.NOT_MODIFIED if method in ("GET", "HEAD") else Outcome.FAILED
    elif method in ("GET", "HEAD") and (value := read("if-modified-since")) is not None:
        date = parse_date(value, now)
        if date is not None and modified <= date:
            return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


def if_range(value: str, etag: str, modified: int, strong: Callable[[], bool], now: Callable[[], int]) -> bool:
    """Whether the Range of a request with this If-Range counts (section 13.1.5): the tag is the same by strong
    comparison, or the date is exactly Last-Modified, and that is a strong validator (`strong`, asked only then)."""
    if value[-1:] == '"':
        return value == etag and etag[:1] == '"'
    date = parse_date(value, now)
    return date is not None and date == modified and strong()


def matches(value: str, etag: str, *, weakly: bool) -> bool:
    """Whether a list of entity tags (or "*", which any representation matches) has this one (section 8.8.3.2).

    The list is read up to the first thing that is not an entity tag; a tag may contain commas.
    """
    if value == etag:  # one tag, the usual case
        return weakly or etag[:1] == '"'
    if value == "*":
        return True
    if weakly:
        etag = etag.removeprefix("W/")
    elif etag[:1] != '"':
        return False
    at, end = 0, len(value)
    while at < end:
        if value[at] in ", \t":
            at += 1
            continue
        weak = value.startswith("W/", at)
        opening = at + 2 if weak else at
        if value[opening : opening + 1] != '"':
            return False
        closing = value.find('"', opening + 1)
        if closing < 0:
            return False
        if (weakly or not weak) and value[opening : closing + 1] == etag:
            return True
        at = closing + 1
        if at < end and value[at] not in ", \t":
            return False
    return False
