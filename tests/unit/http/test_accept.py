"""Accept: HTML or JSON."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux.http.accept import prefers_json

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, False),
        ("", False),
        (BROWSER, False),
        ("*/*", False),
        ("text/html", False),
        ("application/json", True),
        ("APPLICATION/JSON", True),
        ("application/json; charset=utf-8", True),
        ("application/json, text/plain, */*", True),  # as programs in browsers say it
        ("application/*", True),
        ("application/*, text/*", False),
        ("text/html, application/json", False),
        ("application/json, text/html", False),
        ("text/html;q=0.5, application/json", True),
        ("text/html, application/json;q=0.9", False),
        ("application/json;q=0", False),
        ("application/json;q=0, */*", False),
        ("application/json ; Q=0.5 , text/html;q=0.4", True),
        ("application/json;q=x", False),
        ("application/json;q=nan", False),
        ("*/*;q=0.1, application/json;q=0.1", True),
        ("image/png", False),
        (",,;q=1", False),
    ],
)
def test_cases(value: str | None, expected: bool) -> None:
    assert prefers_json(value) is expected


@given(st.text(alphabet="aptexhmljson/*;q=0.1, ", max_size=60))
def test_anything_is_read(value: str) -> None:
    assert prefers_json(value) in (True, False)
