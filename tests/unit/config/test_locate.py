"""Line numbers for places in TOML text."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tux.config import emit, locate

TEXT = '''\
# a comment with [brackets] and a = "quote
top = 1
[server]   # a header
listen = [
    "a",   # not "]"
    # alone
    "b]", 'c', [1,
    2]
]
limits.fields = 3
"quoted \\u0041 key" = { inner = 1, "other.key" = [ { deep = true } ] }
text = """
[site] = not a header
\\""" still text """"
raw = \'\'\'
[[site]] \'\' \'\'\'
[[site]]
root = "a"
date = 1979-05-27 07:32:00
[site.headers."*.js"]
X = "1"
[[site.route]]
path = '/'
[[site]]
[[site.route]]
[[site.route]]
a.b.c = 1
[ 'server' . limits . x ]
y = 1'''


def test_places() -> None:
    tomllib.loads(TEXT)
    found = locate.lines(TEXT)
    assert found == {
        ("top",): 2,
        ("server",): 3,
        ("server", "listen"): 4,
        ("server", "listen", 0): 5,
        ("server", "listen", 1): 7,
        ("server", "listen", 2): 7,
        ("server", "listen", 3): 7,
        ("server", "listen", 3, 0): 7,
        ("server", "listen", 3, 1): 8,
        ("server", "limits"): 10,
        ("server", "limits", "fields"): 10,
        ("server", "quoted A key"): 11,
        ("server", "quoted A key", "inner"): 11,
        ("server", "quoted A key", "other.key"): 11,
        ("server", "quoted A key", "other.key", 0): 11,
        ("server", "quoted A key", "other.key", 0, "deep"): 11,
        ("server", "text"): 12,
        ("server", "raw"): 15,
        ("site",): 17,
        ("site", 0): 17,
        ("site", 0, "root"): 18,
        ("site", 0, "date"): 19,
        ("site", 0, "headers", "*.js"): 20,
        ("site", 0, "headers", "*.js", "X"): 21,
        ("site", 0, "route"): 22,
        ("site", 0, "route", 0): 22,
        ("site", 0, "route", 0, "path"): 23,
        ("site", 1): 24,
        ("site", 1, "route"): 25,
        ("site", 1, "route", 0): 25,
        ("site", 1, "route", 1): 26,
        ("site", 1, "route", 1, "a"): 27,
        ("site", 1, "route", 1, "a", "b"): 27,
        ("site", 1, "route", 1, "a", "b", "c"): 27,
        ("server", "limits", "x"): 28,
        ("server", "limits", "x", "y"): 29,
    }


def test_a_place_without_a_line_has_that_of_what_is_around_it() -> None:
    found = locate.lines("[[site]]\n\n[site.headers]\nA = 'b'\n")
    assert locate.line_of(found, ("site", 0, "headers", "A", "more", 3)) == 4
    assert locate.line_of(found, ("site", 0, "root")) == 1
    assert locate.line_of(found, ("server",)) is None
    assert locate.line_of(found, ()) is None


_KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=5)
_SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | _KEYS
TREES: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    _KEYS,
    st.recursive(
        _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=9
    ),
    max_size=4,
)


@given(TREES)
def test_every_key_of_any_document_is_found_on_a_line_that_has_it(tree: dict[str, Any]) -> None:
    text = emit.dumps(tree)
    lines = text.split("\n")
    found = locate.lines(text)

    def visit(node: object, place: locate.Place) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                inner = (*place, key)
                if inner in found:
                    assert emit.key_text(key) in lines[found[inner] - 1]
                else:  # a table that has nothing but tables is written without a header of its own
                    assert value
                    assert isinstance(value, dict)
                visit(value, inner)
        elif isinstance(node, list):
            for i, value in enumerate(node):
                assert (*place, i) in found
                visit(value, (*place, i))

    visit(tree, ())


@example('"\\0"')
@example('"\x08"')
@given(st.text(max_size=60) | st.text("[]{}=,.\"'#\n\\ a", max_size=60))
def test_any_text_ends(text: str) -> None:
    locate.lines(text)
