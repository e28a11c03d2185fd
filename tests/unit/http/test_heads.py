"""Rendering of heads: nothing that is rendered can break out of its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux.http.errors import error_head, page
from tux.http.head import REASONS, is_token, is_value, render, render_field, render_status


def test_a_head() -> None:
    assert render(404, [("Server", "tux"), ("X-A", "b c")]) == b"HTTP/1.1 404 Not Found\r\nServer: tux\r\nX-A: b c\r\n"


@pytest.mark.parametrize(
    "value",
    ["a\r\nX: y", "a\n", "\r", "a\0b", "\x01", "\x7f", " a", "a ", "\ta", "\u2028", "\u0100", "a\x0bb", "a\x1fb"],
)
def test_values_that_are_refused(value: str) -> None:
    assert not is_value(value)
    with pytest.raises(ValueError):
        render_field("X-A", value)


@pytest.mark.parametrize("name", ["", "a b", "a:", ":a", "a\r", "a\n", "\xe9", "a\0", "(a)", "a\t"])
def test_names_that_are_refused(name: str) -> None:
    assert not is_token(name)
    with pytest.raises(ValueError):
        render_field(name, "x")


@pytest.mark.parametrize("status", [0, 99, 600, -1])
def test_statuses_that_are_refused(status: int) -> None:
    with pytest.raises(ValueError):
        render_status(status)


def test_a_status_without_a_reason_keeps_the_space() -> None:
    assert render_status(299) == b"HTTP/1.1 299 \r\n"


@given(st.text(), st.text())
def test_a_field_is_one_line(name: str, value: str) -> None:
    try:
        line = render_field(name, value)
    except ValueError:
        return
    assert line.endswith(b"\r\n")
    assert not {b"\r", b"\n", b"\0"}.intersection(line[i : i + 1] for i in range(len(line) - 2))
    assert line[:-2].partition(b": ")[::2] == (name.encode("ascii"), value.encode("latin-1"))


@pytest.mark.parametrize("status", sorted(REASONS))
def test_pages_of_errors(status: int) -> None:
    head = error_head(status, ("Allow", "GET")).decode("ascii")
    assert head.startswith(f"HTTP/1.1 {status} {REASONS[status]}\r\n")
    assert f"\r\nContent-Length: {len(page(status))}\r\n" in head
    assert "\r\nAllow: GET\r\n" in head
    assert ("\r\nRetry-After: " in head) is (status in {502, 503, 504})
    assert f"<h1>{status} {REASONS[status]}</h1>".encode("ascii") in page(status)
