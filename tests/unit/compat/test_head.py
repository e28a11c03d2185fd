"""Heads of answers as modules write them."""

from __future__ import annotations

import pytest

from tux.compat.head import HEAD_BYTES, HeadError, find_end, parse


@pytest.mark.parametrize(
    ("data", "status", "fields", "length", "closes"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 200, [], -1, False),
        (b"HTTP/1.0 404\r\n\r\n", 404, [], -1, False),
        (b"HTTP/1.1 503 \r\n\r\n", 503, [], -1, False),
        (b"HTTP/1.1 200 All is w\xe9ll\r\nX: \t a b \t\r\nY:\r\n\r\n", 200, [(b"X", b"a b"), (b"Y", b"")], -1, False),
        (b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 007\r\nContent-Length: 7\r\n\r\n", 200, [], 7, False),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nKeep-Alive: 5\r\n\r\n", 200, [], -1, True),
        (b"HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\n\r\n", 200, [], -1, False),
    ],
)
def test_heads(data: bytes, status: int, fields: list[tuple[bytes, bytes]], length: int, closes: bool) -> None:
    assert find_end(data + b"body") == len(data)
    assert parse(data) == (status, fields, length, closes)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"HTTP/1.1 99 Low\r\n", "does not begin with a status line, as in HTTP/1.1 200 OK"),
        (b"HTTP/1.2 200 OK\r\n", "does not begin with a status line, as in HTTP/1.1 200 OK"),
        (b"HTTP/1.1  200 OK\r\n", "does not begin with a status line, as in HTTP/1.1 200 OK"),
        (b"HTTP/1.1 200 O\0K\r\n", "does not begin with a status line, as in HTTP/1.1 200 OK"),
        (b"HTTP/1.1 100 Continue\r\n", "has the status 100; expected 200 to 599"),
        (b"HTTP/1.1 600 No\r\n", "has the status 600; expected 200 to 599"),
        (b"HTTP/1.1 200 OK\r\nX : 1\r\n", "has a line in its head that is no field: b'X : 1'"),
        (b"HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\n", "has a line in its head that is no field: b' folded'"),
        (b"HTTP/1.1 200 OK\r\nX: 1\nY: 2\r\n", "has a line in its head that is no field: b'X: 1\\nY: 2'"),
        (b"HTTP/1.1 200 OK\r\nX: 1\r\r\n", "has a line in its head that is no field: b'X: 1\\r'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n", "has Content-Length: '+1'; expected a number"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n", "has two different Content-Lengths"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
            "has Transfer-Encoding, which is the server's: leave it out, and the body as it is",
        ),
    ],
)
def test_what_is_no_head(lines: bytes, message: str) -> None:
    with pytest.raises(HeadError) as raised:
        parse(lines + b"\r\n")
    assert str(raised.value) == message


@pytest.mark.parametrize("data", [b"", b"H", b"HTTP/1.", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n\r"])
def test_not_yet(data: bytes) -> None:
    assert find_end(data) == -1


@pytest.mark.parametrize("data", [b"X", b"<html>", b"HTTP/2 200\r\n", b"\r\n\r"])
def test_never(data: bytes) -> None:
    with pytest.raises(HeadError, match="does not begin with a status line"):
        find_end(data)


def test_a_head_is_bounded() -> None:
    data = b"HTTP/1.1 200 OK\r\nX: " + bytes([120]) * HEAD_BYTES
    with pytest.raises(HeadError, match=f"has more than {HEAD_BYTES} bytes without the empty line"):
        find_end(data)
    with pytest.raises(HeadError, match=f"has a head of more than {HEAD_BYTES} bytes"):
        parse(data + b"\r\n\r\n")


def test_the_end_may_come_in_pieces() -> None:
    data = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
    for seen in range(len(data)):
        assert find_end(data, seen) == len(data)
