# SPDX-License-Identifier: MIT
"""The pure parts of forwarding: heads of responses read, heads of requests written anew, fields filtered. Compared with
models that are written another way; rows are in tests/c/test_response.c and test_forward.c."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux._engine import forward_request, forward_response, forward_trailers, scan_head, scan_response

TOKEN = st.text("abcXYZ019-_.!~", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)
FRAMING = ("content-length", "transfer-encoding", "connection")
HOP = {"connection", "keep-alive", "proxy-connection", "te", "proxy-authenticate", "upgrade", "trailer"}
NAMES = st.one_of(TOKEN, st.sampled_from(["Date", "Server", "Keep-Alive", "TE", "Trailer", "X-Sendfile", "Set-Cookie"]))
FIELDS = st.lists(st.tuples(NAMES, VALUE), max_size=8)


def lines(fields: list[tuple[str, str]]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")


def split(text: bytes) -> list[tuple[str, str]]:
    found = []
    for line in text.decode("latin-1").split("\r\n")[:-1]:
        name, value = line.split(":", 1)
        found.append((name, value.strip(" \t")))
    return found


# ---- Responses.


@given(status=st.integers(200, 599), fields=FIELDS, length=st.integers(0, 10**18 - 1), is_head=st.booleans())
def test_a_response_is_read(status: int, fields: list[tuple[str, str]], length: int, is_head: bool) -> None:
    fields = [*fields, ("Content-Length", str(length))]
    data = f"HTTP/1.1 {status} Fine\r\n".encode() + lines(fields) + b"\r\n"
    found = scan_response(data + b"body", is_head=is_head)
    assert found["outcome"] == "done"
    assert (found["length"], found["status"], found["reason"]) == (len(data), status, "Fine")
    assert found["framing"] == ("none" if is_head or status in (204, 304) else "length")
    assert found["content_length"] == length
    assert found["fields"] == [(name, value.strip(" \t")) for name, value in fields]
    for cut in range(1, len(data), 7):
        assert scan_response(data[:cut])["outcome"] == "more"
        assert scan_response(data, seen=cut, is_head=is_head) == found


@given(fields=FIELDS, connection=st.lists(TOKEN, max_size=3))
def test_what_a_response_passes_on(fields: list[tuple[str, str]], connection: list[str]) -> None:
    head = [("Content-Length", "3"), *fields, ("Connection", ", ".join(connection))]
    passed = split(forward_response(b"HTTP/1.1 200 OK\r\n" + lines(head) + b"\r\n"))
    gone = HOP | {name.lower() for name in connection} | {"content-length"}
    assert passed == [(name, value.strip(" \t")) for name, value in head if name.lower() not in gone]


@given(data=st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    assert scan_response(b"HTTP/1.1 200 OK\r\n" + data)["outcome"] in ("done", "more", "malformed")
    with pytest.raises(ValueError, match="head of a response"):
        forward_response(b"H" + data)


@given(fields=st.lists(st.tuples(TOKEN, VALUE), max_size=5))
def test_trailers(fields: list[tuple[str, str]]) -> None:
    extra = [("Content-Length", "1"), ("transfer-encoding", "chunked"), ("Host", "a"), ("Set-Cookie", "b"), ("TE", "c")]
    section = lines([*extra, *fields]) + b"\r\n"
    expected = [(name, value) for name, value in fields if name.lower() != "te"]
    assert forward_trailers(section) == lines(expected)


# ---- Requests.

METHOD = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "FROB"])
TARGET = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="#\x7f"), max_size=20)
OURS = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")


def not_framing(field: tuple[str, str]) -> bool:
    return field[0].lower() not in (*FRAMING, "host")


@given(method=METHOD, target=TARGET, fields=FIELDS.map(lambda fields: list(filter(not_framing, fields))),
       length=st.one_of(st.none(), st.integers(0, 10**18 - 1), st.just("chunked")))  # fmt: skip
def test_a_request_is_the_same(
    method: str, target: str, fields: list[tuple[str, str]], length: int | str | None
) -> None:
    framing = []
    if length is not None:
        framing = [("Transfer-Encoding", "chunked")] if length == "chunked" else [("Content-Length", str(length))]
    head = f"{method} /{target} HTTP/1.1\r\n".encode("latin-1") + lines([*fields, ("Host", "a"), *framing]) + b"\r\n"
    status, text = forward_request(head)
    assert status == 0
    found = scan_head(text)
    assert (found["outcome"], found["length"]) == ("done", len(text))
    assert (found["method"], found["target"], found["host"]) == (method, f"/{target}", "a")
    assert found["chunked"] == (length == "chunked")
    assert found["content_length"] == (length if isinstance(length, int) else None)
    received = found["fields"]
    assert isinstance(received, list)
    gone = HOP | {"proxy-authorization", "http2-settings", "proxy"}
    kept = [(name, value.strip(" \t")) for name, value in fields if name.lower() not in gone and "_" not in name]
    names = ("host", *FRAMING, *OURS, "te")
    assert [field for field in received if field[0].lower() not in names] == kept


@given(named=st.lists(TOKEN, min_size=1, max_size=5), fields=FIELDS)
def test_connection_names_fields(named: list[str], fields: list[tuple[str, str]]) -> None:
    fields = [field for field in fields if not_framing(field) and field[0].lower() != "te"]
    head = [("Host", "a"), *fields, ("Connection", ", ".join(named)), *((name, "x") for name in named)]
    status, text = forward_request(b"GET / HTTP/1.1\r\n" + lines(head) + b"\r\n", underscores=True)
    assert status == 0
    names = {name.lower() for name, _ in split(text.split(b"\r\n", 1)[1].removesuffix(b"\r\n"))}
    assert not names & ({name.lower() for name in named} - {"host", *OURS})
    assert {"host", *OURS} <= names


@given(data=st.binary(max_size=120))
def test_nothing_is_split(data: bytes) -> None:
    """Whatever stands in a value that is accepted, the upstream gets one head."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + data + b"\r\n\r\n"
    found = scan_head(head)
    if found["outcome"] == "done" and found["length"] == len(head):
        _, text = forward_request(head)
        assert text.count(b"\r\n\r\n") == 1
        assert text.endswith(b"\r\n\r\n")
        assert not re.search(rb"(?<!\r)\n|\r(?!\n)", text)


def test_misuse() -> None:
    with pytest.raises(ValueError, match="head of a request"):
        forward_request(b"GET / HTTP/1.1\r\n")
    with pytest.raises(ValueError, match="at most 255 bytes"):
        forward_request(b"GET / HTTP/1.0\r\n\r\n", host=bytes(256))
    assert forward_request(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n") == (501, b"")
