"""Plain values -> structs. What errors look like is in the golden files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.test_locate import TREES
from tux.config import check, decode
from tux.config.schema import Config, Limits
from tux.errors import ConfigError, place_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("1B", 1),
        ("2kB", 2000),
        ("2KiB", 2048),
        ("2 MiB", 2 * 2**20),
        ("3MB", 3 * 10**6),
        (" 1GiB ", 2**30),
        ("1GB", 10**9),
        ("1TiB", 2**40),
        ("1TB", 10**12),
        ("", None),
        ("MiB", None),
        ("-1", None),
        ("1.5MiB", None),
        ("1 M", None),
        ("1mib", None),
        ("\u0661", None),
        ("9" * 16, None),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    assert decode.parse_size(text) == size


def test_a_size_has_the_bounds_of_its_key() -> None:
    with pytest.raises(ConfigError) as caught:
        decode.decode({"head_bytes": "1GiB"}, Limits)
    assert str(caught.value) == "head_bytes: expected at most 16384, got 1073741824"


def test_an_integer_is_a_number_of_seconds() -> None:
    assert decode.decode({"head_timeout": 3}, Limits) == Limits(head_timeout=3.0)


def test_the_message_counts_what_else_is_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        decode.decode({"server": 1, "site": 2, "x": 3}, Config)
    assert caught.value.message == "server: expected a table, got 1 (and 2 more, see `tux check`)"
    assert caught.value.exit_code == 1
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ((), ""),
        (("server", "listen", 0), "server.listen[0]"),
        (("site", 1, "headers", "*.js", "X-A"), 'site[1].headers."*.js".X-A'),
        (("a b", "", 'q"\\\n\u20ac'), '"a b"."".' + '"q\\"\\\\\\n\u20ac"'),
    ],
)
def test_places(place: tuple[str | int, ...], text: str) -> None:
    assert place_text(place) == text


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_VALUES = _SCALARS | TREES | st.lists(TREES, max_size=2)
_ROUTES = st.fixed_dictionaries({"path": st.text(max_size=4)}, optional={"deny": _VALUES, "root": _VALUES})
_SITES = st.fixed_dictionaries(
    {},
    optional={
        "hosts": st.lists(st.text(max_size=8), max_size=3) | _VALUES,
        "root": st.text(max_size=3) | _VALUES,
        "headers": st.dictionaries(st.text(max_size=3), _VALUES, max_size=3) | _VALUES,
        "cache_control": _VALUES,
        "route": st.lists(_ROUTES) | _VALUES,
    },
)


@given(st.fixed_dictionaries({}, optional={"server": _VALUES, "site": st.lists(_SITES, max_size=3) | _VALUES}))
def test_any_tree_is_a_configuration_or_a_list_of_problems(tree: dict[str, object]) -> None:
    try:
        config = decode.decode(tree, Config)
        problems = check.problems(config)
    except ConfigError as error:
        problems = list(error.problems)
    assert all(str(problem).isprintable() for problem in problems)
