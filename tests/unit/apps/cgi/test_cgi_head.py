# SPDX-License-Identifier: MIT
"""The heads of responses of scripts: RFC 3875 section 6, with every way to split them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux.apps.cgi.head import MAX_FIELDS, MAX_HEAD_BYTES, Head, HeadError, Parser


def parse(data: bytes, *, nph: bool = False) -> Head | None:
    return Parser(nph=nph).feed(data)


@pytest.mark.parametrize(
    ("data", "head"),
    [
        (b"Content-Type: a/b\n\n", Head(200, ((b"Content-Type", b"a/b"),))),
        (b"content-type:a/b\r\n\r\n", Head(200, ((b"content-type", b"a/b"),))),
        (b"Content-Type: a/b\n\r\n", Head(200, ((b"Content-Type", b"a/b"),))),
        (b"Status: 404 Not Found\nContent-Type: a/b\n\n", Head(404, ((b"Content-Type", b"a/b"),))),
        (b"Status: 201\n\n", Head(201, (), typed=False)),
        (b"Status: 204 x\nContent-Length: 0\n\n", Head(204, ())),
        (b"Status: 304\nETag: \"x\"\n\n", Head(304, ((b"ETag", b'"x"'),))),
        (b"Content-Type: a/b\nContent-Length: 12\nX: \t y z \t\n\n",
         Head(200, ((b"Content-Type", b"a/b"), (b"X", b"y z")), 12)),
        (b"Location: http://a/b#c\n\n", Head(302, ((b"Location", b"http://a/b#c"),), typed=False)),
        (b"Location: mailto:a@b\nStatus: 303 x\n\n", Head(303, ((b"Location", b"mailto:a@b"),), typed=False)),
        (b"Location: ../c\nStatus: 302 x\n\n", Head(302, ((b"Location", b"../c"),), typed=False)),
        (b"Location: /a?b=c\n\n", Head(200, (), typed=False, local=b"/a?b=c")),
        (b"Content-Type: a/b\nLocation: /a%20b\n\n", Head(200, (), typed=False, local=b"/a%20b")),
    ],
)  # fmt: skip
def test_heads(data: bytes, head: Head) -> None:
    assert parse(data) == head
    assert parse(data + b"body\n\nmore") == head


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"\r\n",
        b"X: y\n\n",
        b"no colon\n\n",
        b"Content-Type : a/b\n\n",
        b" Content-Type: a/b\n\n",
        b"Content-Type: a/b\n folded\n\n",
        b": a\n\n",
        b"Content-Type: a\rb\n\n",
        b"Content-Type: a\0b\n\n",
        b"Content-Type: a\nContent-Type: b\n\n",
        b"Status: 200 OK\nStatus: 200 OK\n\n",
        b"Status: 2000\n\n",
        b"Status: 100 Continue\n\n",
        b"Status: OK\n\n",
        b"Status: 200OK\n\n",
        b"Content-Type: a\nContent-Length: 5\nContent-Length: 5\n\n",
        b"Content-Type: a\nContent-Length: +5\n\n",
        b"Content-Type: a\nContent-Length: 5,5\n\n",
        b"Content-Type: a\nContent-Length: \n\n",
        b"Content-Type: a\nContent-Length: 9999999999999999999\n\n",
        b"Content-Type: a\nTransfer-Encoding: chunked\n\n",
        b"Location: relative\n\n",
        b"Location: //evil.example/\n\n",
        b"Location: \n\n",
        b"Location: /a b\n\n",
        b"Location: /a#b\n\n",
        b"Location: /a%zz\n\n",
        b"Location: /a\nX: y\n\n",
        b"Location: /a\nContent-Length: 5\n\n",
        b"Location: /a\nLocation: /b\n\n",
        b"HTTP/1.1 200 OK\nContent-Type: a/b\n\n",
        b"Content-Type: a\n" + b"X: y\n" * MAX_FIELDS + b"\n",
        b"Content-Type: a\nX: " + b"y" * MAX_HEAD_BYTES + b"\n\n",
        b"y" * (MAX_HEAD_BYTES + 1),
    ],
)  # fmt: skip
def test_what_is_no_head(data: bytes) -> None:
    with pytest.raises(HeadError):
        parse(data)


def test_whole_responses() -> None:
    assert parse(b"HTTP/1.0 299 Own\r\nX: y\r\nContent-Length: 3\r\n\r\n", nph=True) == Head(299, ((b"X", b"y"),), 3)
    assert parse(b"HTTP/1.1 204 x\n\n", nph=True) == Head(204, ())
    for bad in (
        b"Content-Type: a/b\n\n", b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", b"HTTP/1.1 100 Continue\n\n",
        b"HTTP/1.1  200 OK\n\n", b"\n", b"HTTP/1.1 200 OK\n X: y\n\n",
    ):  # fmt: skip
        with pytest.raises(HeadError):
            parse(bad, nph=True)


def test_what_ended_too_early_is_told() -> None:
    parser = Parser()
    assert str(parser.end()) == "it wrote nothing"
    assert parser.feed(b"Content-Type: a/b\n") is None
    assert "18 bytes" in str(parser.end())


def test_remembered_heads_are_the_same() -> None:
    known: dict[bytes, Head] = {}
    for _ in range(2):
        parser = Parser(known=known)
        assert parser.feed(b"Content-Type: a/b\n\nbody") == Head(200, ((b"Content-Type", b"a/b"),))
        assert parser.rest == b"body"
    assert len(known) == 1


NAMES = st.sampled_from([b"Content-Type", b"Status", b"Location", b"Content-Length", b"X-A", b"bad name", b""])
VALUES = st.sampled_from([b"a/b", b"200 OK", b"/path", b"http://a/", b"5", b"\x01", b"", b" x "])
LINES = st.tuples(NAMES, st.sampled_from([b":", b": ", b" "]), VALUES, st.sampled_from([b"\n", b"\r\n"]))
HEADS = st.lists(LINES, max_size=5).map(lambda lines: b"".join(b"".join(line) for line in lines))
ANYTHING = st.binary(max_size=200) | st.tuples(HEADS, st.sampled_from([b"\n", b"\r\n", b""]), st.binary()).map(b"".join)


@given(ANYTHING, st.lists(st.integers(0, 200), max_size=5), st.booleans())
def test_pieces_do_not_matter(data: bytes, cuts: list[int], nph: bool) -> None:
    def outcome(pieces: list[bytes]) -> object:
        parser = Parser(nph=nph)
        for number, piece in enumerate(pieces):
            try:
                head = parser.feed(piece)
            except HeadError as error:
                return str(error)
            if head is not None:
                return head, parser.rest + b"".join(pieces[number + 1 :])
        return str(parser.end())

    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    assert outcome(pieces) == outcome([data] if data else [])


@given(ANYTHING)
def test_a_head_is_safe(data: bytes) -> None:
    try:
        head = parse(data)
    except HeadError:
        return
    if head is not None:
        assert 200 <= head.status <= 999
        assert all(not set(name + value) & set(b"\r\n\0") and name for name, value in head.fields)
        assert head.local == b"" or (head.local[:1] == b"/" and head.local[1:2] != b"/" and not head.fields)
