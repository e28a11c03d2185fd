"""What start_response takes."""

from __future__ import annotations

from typing import Any

import pytest

from tux.apps.wsgi.status import parse


def test_fields_are_bytes_and_the_length_is_apart() -> None:
    assert parse("404 Not Found", [("X-A", "caf\xe9"), ("content-LENGTH", "12"), ("X-A", "b")]) == (
        (404, b"Not Found"),
        [(b"X-A", b"caf\xe9"), (b"X-A", b"b")],
        12,
    )
    assert parse("299 ", []) == ((299, b""), [], -1)
    assert parse("200", [])[0] == (200, b"")
    assert parse("200 D'accord, \xe7a va", [])[0] == (200, b"D'accord, \xe7a va")


def test_equal_lengths_are_one() -> None:
    assert parse("200 OK", [("Content-Length", "3"), ("Content-length", "3")])[2] == 3


@pytest.mark.parametrize(
    "status",
    ["", "OK", "20 OK", "2000 OK", "200OK", "100 Continue", "\u0662\u0660\u0660 OK", "-20 OK", "099 X", "200 \u0662"],
)
def test_status_is_none(status: str) -> None:
    with pytest.raises(ValueError):
        parse(status, [])


@pytest.mark.parametrize(
    "name",
    ["Connection", "keep-alive", "Proxy-Authenticate", "TE", "Trailer", "Transfer-Encoding", "UPGRADE"],
)
def test_fields_of_the_connection_are_refused(name: str) -> None:
    for _ in range(2):  # the second time it is remembered
        with pytest.raises(ValueError, match=f"{name} is the server's"):
            parse("200 OK", [(name, "x")])


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", " 1", "\u0663", "9" * 19])
def test_length_is_none(value: str) -> None:
    with pytest.raises(ValueError, match="not a number of bytes"):
        parse("200 OK", [("Content-Length", value)])


def test_lengths_differ() -> None:
    with pytest.raises(ValueError, match="3 and 4"):
        parse("200 OK", [("Content-Length", "3"), ("Content-Length", "4")])


@pytest.mark.parametrize(
    "headers",
    [
        [("X-A", 3)],
        [(b"X-A", b"3")],
        [("X-A", b"3")],
        [("X-A",)],
        [("Content-Length", 3)],
        ["X-A"],
        [None],
        [(None, "x")],
        [([], "x")],
        (("X-A", "b"),),
        {"X-A": "b"},
        None,
    ],
)
def test_types_are_wrong(headers: Any) -> None:
    with pytest.raises(TypeError):
        parse("200 OK", headers)


def test_status_is_no_text() -> None:
    with pytest.raises(TypeError):
        parse(200, [])


@pytest.mark.parametrize("field", [("X-A", "\u20ac"), ("X-\u20ac", "a"), ("", "a")])
def test_characters_are_no_bytes(field: tuple[str, str]) -> None:
    with pytest.raises(ValueError):
        parse("200 OK", [field])
