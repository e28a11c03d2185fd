"""Reading responses: framing, several on one connection, and what is no response."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux.http.response import MAX_HEAD_BYTES, Response, Responses

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nA: b\r\n\r\n"
EMPTY = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n"
CONTINUE = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"


def read(data: bytes, *, max_body: int = 100, ended: bool = False) -> list[Response]:
    responses = Responses(max_body=max_body, keep=True)
    responses.feed(data)
    found = []
    while response := responses.take():
        found.append(response)
        if not response.whole:
            return found
    last = responses.end() if ended else None
    return [*found, last] if last else found


def test_one_after_the_other() -> None:
    hello = Response(200, b"hello", closes=False)
    assert read(LENGTH + CHUNKED + CONTINUE + EMPTY + LENGTH) == [
        *(hello, hello, Response(304, b"", closes=False), hello)
    ]


@given(st.lists(st.sampled_from([LENGTH, CHUNKED, EMPTY, CONTINUE + LENGTH]), max_size=4), st.data())
def test_pieces_do_not_matter(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    responses = Responses(max_body=100, keep=True)
    found = []
    at = 0
    while at < len(stream):
        n = data.draw(st.integers(1, len(stream) - at))
        responses.feed(stream[at : at + n])
        at += n
        while response := responses.take():
            found.append(response)
    assert found == read(stream)
    assert responses.end() is None


def test_until_the_end_of_the_connection() -> None:
    assert read(b"HTTP/1.0 200 OK\r\n\r\nhello", ended=True) == [Response(200, b"hello", closes=True)]
    assert read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", ended=True) == [
        Response(200, b"x", closes=True)
    ]


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"HTTP/1.1 204 No Content\r\n", False),
        (b"HTTP/1.1 204 No Content\r\nConnection: Close\r\n", True),
        (b"HTTP/1.0 204 No Content\r\n", True),
        (b"HTTP/1.0 204\r\nConnection: keep-alive\r\n", False),
    ],
)
def test_whether_another_one_follows(head: bytes, closes: bool) -> None:
    assert read(head + b"\r\n") == [Response(204, b"", closes=closes)]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n" + b"x" * 64 + b"\r\n40\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101,
    ],
)
def test_large_ones_are_not_read(data: bytes) -> None:
    assert read(data) == [Response(200, b"", closes=True, whole=False)]


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        b"x" * MAX_HEAD_BYTES,
    ],
)
def test_what_is_no_response(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(data)


@pytest.mark.parametrize("data", [b"HTTP/1.1 2", LENGTH[:-1], CHUNKED[:-1], CHUNKED[:-20]])
def test_cut_short(data: bytes) -> None:
    with pytest.raises(ValueError, match="in the middle"):
        read(data, ended=True)


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(data: bytes) -> None:
    for beginning in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        try:
            read(beginning + data, ended=True)
        except ValueError:
            pass
