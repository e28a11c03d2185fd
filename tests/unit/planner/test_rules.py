"""Globs and fields of rules."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux.planner.globs import compile_glob
from tux.planner.rules import RESERVED_FIELDS, GlobRule, HeaderRule, check_field
from tux.planner.shape import Shapes


@pytest.mark.parametrize(
    ("pattern", "path", "match"),
    [
        # without a slash: the file's name
        ("*", "a", True),
        ("*", "a/b/c.html", True),
        ("*.css", "a.css", True),
        ("*.css", "x/y/a.css", True),
        ("*.css", "a.css/b", False),
        ("*.css", "a.css.gz", False),
        ("a.css", "x/a.css", True),
        ("a.css", "x/ba.css", False),
        ("*.min.*", "x/app.min.js", True),
        ("*a*b*", "b-a-a-b-", True),
        ("*a*b*", "b-a", False),
        ("**", "a/b", True),
        ("*.CSS", "a.css", False),
        # with one: the whole path
        ("/robots.txt", "robots.txt", True),
        ("/robots.txt", "a/robots.txt", False),
        ("a/*", "a/b", True),
        ("a/*", "a/b/c", False),
        ("a/*.css", "a/.css", True),
        ("*/b", "a/b", True),
        ("*/b", "b", False),
        ("*/b", "x/a/b", False),
        ("a/**", "a/b", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("a/", "a/b/c", True),
        ("**/b", "b", True),
        ("**/b", "x/y/b", True),
        ("**/b", "x/yb", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/xb", False),
        ("a**/b", "ax/b", True),  # two stars within a segment are one
        # all else is literal
        ("a?c", "abc", False),
        ("[ab].x", "a.x", False),
        ("[ab].x", "[ab].x", True),
        ("a.c", "abc", False),
        ("a+", "aa", False),
        ("\n*", "\nx", True),
        ("caf\u00e9*", "caf\u00e9.html", True),
    ],
)
def test_globs(pattern: str, path: str, match: bool) -> None:
    assert bool(compile_glob(pattern).fullmatch(path.encode())) is match


@pytest.mark.parametrize("pattern", ["", "/", "//"])
def test_a_glob_is_not_empty(pattern: str) -> None:
    with pytest.raises(ValueError):
        compile_glob(pattern)


def model(pattern: str, name: str) -> bool:
    """The meaning of "*" within a segment, by trying everything."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(model(pattern[1:], name[i:]) for i in range(len(name) + 1))
    return name[:1] == pattern[0] and model(pattern[1:], name[1:])


@given(st.text(st.sampled_from("ab*"), min_size=1, max_size=7), st.text(st.sampled_from("ab"), max_size=8))
def test_stars_against_a_model(pattern: str, name: str) -> None:
    assert bool(compile_glob(pattern).fullmatch(name.encode())) is model(pattern, name)


def test_many_stars_are_cheap() -> None:
    started = time.process_time()
    assert compile_glob("*a" * 20 + "b").fullmatch(b"a" * 4000) is None
    assert time.process_time() - started < 5


@pytest.mark.parametrize("name", [*sorted(RESERVED_FIELDS), "Content-Length", "ETag", "a b", "", "X:"])
def test_fields_that_a_rule_may_not_set(name: str) -> None:
    with pytest.raises(ValueError):
        check_field(name, "x")
    with pytest.raises(ValueError):
        Shapes((), (HeaderRule("*", name, "x"),))


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "\0", " a", "\u0416"])
def test_values_that_a_rule_may_not_set(value: str) -> None:
    with pytest.raises(ValueError):
        check_field("X-A", value)
    with pytest.raises(ValueError):
        Shapes((GlobRule("*", value),), ()).of(b"a")
