# SPDX-License-Identifier: MIT
"""The reader of cases and the reader of responses: that they find what is wrong."""

from __future__ import annotations

import email.utils
import socket
import time
from collections.abc import Callable

import pytest

from tests.corpus.cases import End, FormError, parse, unescape
from tests.corpus.reader import ClosedError, Reader, Response, ViolationError, parse_date

CASE = """# Title

## A case
Text.
> GET / HTTP/1.1
> X: a\\n\\
>
< 206 to HEAD
< A: b
< B ~ c+
< no D
< parts of /letters.txt 0-1 3-4
< 404
< body "x\\x00"
= kept
"""


class TestCases:
    def test_a_whole_one(self) -> None:
        (case,) = parse("x.http", CASE)
        assert case.id == "x:A case"
        assert unescape(case.request) == b"GET / HTTP/1.1\r\nX: a\n\r\n"
        assert case.end is End.KEPT
        first, second = case.responses
        assert (first.status, first.to_head, first.fields) == (206, True, [("A", "b")])
        assert (first.patterns, first.absent) == ([("B", "c+")], ["D"])
        assert (first.is_multipart, first.body_of, first.ranges) == (True, "/letters.txt", [(0, 1), (3, 4)])
        assert (second.status, second.to_head) == (404, False)
        assert unescape(second.body or "") == b"x\0"

    @pytest.mark.parametrize(
        ("text", "data"),
        [
            (r"a\r\n\t\0\\\"", b'a\r\n\t\0\\"'),
            (r"\x00\xfF", b"\x00\xff"),
            (r"\{3 * ab}", b"ababab"),
            (r"\{2 * a\r\n}", b"a\r\na\r\n"),
            (r"\{1 * \x20}", b" "),
            ("\u00fc", b"\xc3\xbc"),
            (r"\{etag /a.txt}\{modified /b}", b"etag of /a.txtmodified of /b"),
        ],
    )
    def test_escapes(self, text: str, data: bytes) -> None:
        assert unescape(text, lambda kind, path: f"{kind} of {path}") == data

    @pytest.mark.parametrize("text", [r"\q", r"\x1", r"\{a}", r"\{1*a}", r"\{size /a}"])
    def test_what_is_no_escape(self, text: str) -> None:
        with pytest.raises(ValueError, match="not an escape"):
            unescape(text)

    @pytest.mark.parametrize(
        ("line", "bad"),
        [
            ("> GET / HTTP/1.1", "> GET / HTTP/1.1 "),
            ("> GET / HTTP/1.1", ">GET / HTTP/1.1"),
            ("> GET / HTTP/1.1", "> GET /\\q HTTP/1.1"),
            ("< 206 to HEAD", "< 206 to head"),
            ("< 206 to HEAD", "< 100"),
            ("< A: b", "< A:b"),
            ("< A: b", "< A: \\q"),
            ("< A: b", "> more"),
            ("< A: b", "text"),
            ("< parts of /letters.txt 0-1 3-4", "< parts of /letters.txt 0-"),
            ('< body "x\\x00"', "< body x"),
            ("= kept", "= keeps"),
            ("= kept", ""),
            ("= kept", "= kept\n< 200"),
            ("## A case", ""),
        ],
    )
    def test_bad_forms(self, line: str, bad: str) -> None:
        assert line in CASE
        with pytest.raises(FormError, match=r"^x.http:[0-9]+: "):
            parse("x.http", CASE.replace(line, bad, 1))


def now() -> str:
    return email.utils.formatdate(time.time(), usegmt=True)


def good(**changes: str | None) -> bytes:
    """A correct response, with fields changed (underscore for dash), added, or, if None, left out."""
    fields: dict[str, str | None] = {
        "Date": now(),
        "Content-Type": "text/plain",
        "Content-Length": "2",
        "X-Content-Type-Options": "nosniff",
    }
    fields |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}\r\n" for name, value in fields.items() if value is not None]
    return b"HTTP/1.1 200 OK\r\n" + "".join(lines).encode() + b"\r\nab"


def read(data: bytes, method: str = "GET") -> Response:
    """Read one response and the end of the connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        reader = Reader(ours)
        response = reader.response(method)
        reader.expect_end()
        return response


class TestReader:
    def test_a_correct_response(self) -> None:
        response = read(good(Connection="close"))
        assert (response.status, response.body, response.closes) == (200, b"ab", True)
        assert response["CONTENT-type"] == "text/plain"
        assert b"Date" not in response.stable_head
        assert response.stable_head.endswith(b"\r\nConnection: close")

    def test_a_correct_response_to_head(self) -> None:
        assert read(good()[:-2], "HEAD").body == b""

    def test_304(self) -> None:
        raw = good(Content_Length=None, Content_Type=None)[:-2].replace(b"200 OK", b"304 Not Modified")
        assert read(raw).status == 304

    @pytest.mark.parametrize(
        "data",
        [
            lambda: good() + b"x",
            lambda: good().replace(b"HTTP/1.1", b"HTTP/1.0"),
            lambda: good().replace(b"HTTP/1.1 200 OK", b"HTTP/1.1  200 OK"),
            lambda: good().replace(b"200", b"100"),
            lambda: good().replace(b"\r\nDate", b"\nDate"),
            lambda: good().replace(b"Date: ", b"Date:"),
            lambda: good().replace(b"Date", b"Da te"),
            lambda: good(Date=None),
            lambda: good(Date="Tue, 02 Jan 2024 03:04:05 GMT"),
            lambda: good(Date="Mon, 02 Jan 2024 03:04:05 GMT"),
            lambda: good(Date="Tuesday, 02-Jan-24 03:04:05 GMT"),
            lambda: good(Date=email.utils.formatdate(time.time() + 60, usegmt=True)),
            lambda: good(Content_Length=None),
            lambda: good(Content_Length="1"),
            lambda: good(Content_Length="02"),
            lambda: good(Content_Length="2,2"),
            lambda: good(Content_Type=None),
            lambda: good(X_Content_Type_Options=None),
            lambda: good(Transfer_Encoding="chunked"),
            lambda: good(Connection="Close"),
            lambda: good(Last_Modified="Fri, 31 Dec 9999 23:59:59 GMT"),
            lambda: good(Last_Modified="x"),
            lambda: good(A="a ", B="b"),
            lambda: good(A="a\rb"),
            lambda: good(A="a\x7fb"),
            lambda: good(date=now()),
            lambda: good().replace(b"200 OK", b"304 Not Modified"),
            lambda: good().replace(b"200 OK", b"206 Partial Content").replace(b"Content-Type", b"X-Type"),
            lambda: good().replace(b"200 OK", b"301 Moved Permanently"),
            lambda: good().replace(b"200 OK", b"405 Method Not Allowed"),
            lambda: good().replace(b"200 OK", b"416 Range Not Satisfiable"),
            lambda: good().replace(b"200 OK", b"503 Service Unavailable"),
        ],
    )
    def test_violations(self, data: Callable[[], bytes]) -> None:
        with pytest.raises(ViolationError):
            read(data())

    def test_an_answer_that_is_cut_off(self) -> None:
        with pytest.raises(ClosedError) as caught:
            read(good()[:-1])
        assert caught.value.received == good()[:-1]

    def test_a_reset(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as ours,
        ):
            theirs, _ = listener.accept()
            ours.sendall(b"never read")
            theirs.recv(1)  # some of it is: closing with the rest unread resets the connection
            theirs.close()
            with pytest.raises(ViolationError, match="reset"):
                Reader(ours).rest()

    def test_dates(self) -> None:
        assert parse_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777
        for text in ("Mon, 06 Nov 1994 08:49:37 GMT", "Sun, 6 Nov 1994 08:49:37 GMT", "Wed, 31 Feb 1994 08:49:37 GMT"):
            with pytest.raises(ViolationError):
                parse_date(text)
