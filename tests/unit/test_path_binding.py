"""The engine's decoder of paths (path.c) against the planner's (`tux.http.target.decode_path`): the same always."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux._engine import decode_path as in_c
from tux.http.target import TargetError, decode_path

ODD = (
    "/",
    "//",
    ".",
    "..",
    "/.",
    "/..",
    "/../",
    "/./",
    "%2e",
    "%2E%2e",
    "%2f",
    "%2F",
    "%00",
    "%",
    "%g0",
    "%4",
    "?",
    ";",
)
PIECES = st.sampled_from((*ODD, "a", "b.c", "%41", "%25", "%252f", "%ff", "\xff", "\\", "%5c", "..a", "a..", "..."))


def in_python(path: bytes) -> bytes | int:
    try:
        return decode_path(path.decode("latin-1"))
    except TargetError as error:
        return error.status


@given(st.lists(PIECES, max_size=12).map(lambda pieces: "".join(pieces).encode("latin-1")) | st.binary(max_size=40))
def test_both_decode_alike(path: bytes) -> None:
    assert in_c(path) == in_python(path)
    assert in_c(b"/" + path) == in_python(b"/" + path)


EXAMPLES = {
    b"/a/../b": b"/b",
    b"/a/..": b"/",
    b"/a/b/..": b"/a/",
    b"/%2e%2e/a": 400,
    b"/a%2Fb": 404,
    b"": 400,
    b"a": 400,
}


@pytest.mark.parametrize(("path", "decoded"), EXAMPLES.items())
def test_examples(path: bytes, decoded: bytes | int) -> None:
    assert in_c(path) == decoded == in_python(path)
