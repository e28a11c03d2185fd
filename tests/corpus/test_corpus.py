# SPDX-License-Identifier: MIT
"""Every case of the corpus against a real server, in every way of sending it."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import tux
from tests.corpus import site
from tests.corpus.cases import FOLDER, Case, End, Expected, load, unescape
from tests.corpus.reader import PATIENCE, Reader, Response, ViolationError

CASES = load()

MANY = 250
"""The corpus does not shrink by accident."""

SINGLE_BYTES = 1500
"""Requests up to this size are sent byte by byte; larger ones in pieces, so that it takes no longer."""

TAIL = b"GET /tail.txt HTTP/1.1\r\nHost: tail.example\r\n\r\n"
TAIL_BODY = b"tail\n"


class Target:
    """A running server that serves the folder of `site`."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._validators: dict[str, Response] = {}

    def connect(self) -> socket.socket:
        sock = socket.create_connection(self._address, timeout=PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def validator(self, kind: str, path: str) -> str:
        """ETag or Last-Modified of a path, for placeholders."""
        if path not in self._validators:
            with self.connect() as sock:
                sock.sendall(f"HEAD {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n".encode())
                self._validators[path] = Reader(sock).response("HEAD")
        return self._validators[path]["ETag" if kind == "etag" else "Last-Modified"]

    def bytes_of(self, text: str) -> bytes:
        return unescape(text, self.validator)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with tempfile.TemporaryDirectory(prefix="tux-corpus-") as name:
        Path(name).chmod(0o755)
        site.make(Path(name))
        with tux.Server(name, workers=1, access_log="off") as server:
            host, _, port = server.url.removeprefix("http://").rpartition(":")
            yield Target((host, int(port)))
            assert server.stop() == 0, server.stderr_text()
            assert "Traceback" not in server.stderr_text()


def send_whole(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)


def send_in_pieces(sock: socket.socket, data: bytes) -> None:
    """One byte per segment. A server that has refused and closed need not be told the rest."""
    size = 1 if len(data) <= SINGLE_BYTES else len(data) // SINGLE_BYTES + 1
    try:
        for start in range(0, len(data), size):
            sock.sendall(data[start : start + size])
    except (BrokenPipeError, ConnectionResetError):
        pass


def check(case: Case, target: Target, reader: Reader) -> None:
    """All responses of the case, as expected."""
    for number, expected in enumerate(case.responses, 1):
        response = reader.response("HEAD" if expected.to_head else "GET")
        check_response(expected, response, target)
        last = number == len(case.responses)
        assert response.closes == (last and case.end is End.CLOSED), f"Connection: {response.get('Connection')}"


def check_response(expected: Expected, response: Response, target: Target) -> None:
    assert response.status == expected.status, response
    for name, text in expected.fields:
        assert response.get(name) == target.bytes_of(text).decode("latin-1"), f"{name} of {response}"
    for name, pattern in expected.patterns:
        value = response.get(name)
        assert value is not None, f"no {name} in {response}"
        assert re.fullmatch(pattern, value), f"{name} of {response}"
    for name in expected.absent:
        assert name not in response, f"{name} of {response}"
    if expected.body is not None:
        assert response.body == target.bytes_of(expected.body)
    if expected.body_of is not None:
        content = site.FILES[expected.body_of.removeprefix("/").encode()]
        spans = expected.ranges or [(0, len(content) - 1)]
        if expected.is_multipart:
            check_multipart(response, content, spans)
        else:
            assert response.body == b"".join(content[first : last + 1] for first, last in spans)


def check_multipart(response: Response, content: bytes, spans: list[tuple[int, int]]) -> None:
    """RFC 9110 section 14.6, RFC 2046 section 5.1.1: to the byte."""
    kind, _, boundary = response["Content-Type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    expected = b""
    for first, last in spans:
        assert boundary.encode() not in content[first : last + 1]
        head = f"\r\n--{boundary}\r\nContent-Type: TYPE\r\nContent-Range: bytes {first}-{last}/{len(content)}\r\n\r\n"
        expected += head.encode() + content[first : last + 1]
    expected += f"\r\n--{boundary}--\r\n".encode()
    assert re.sub(rb"(?m)^Content-Type: [\w/;= .-]+", b"Content-Type: TYPE", response.body) == expected


def expect_end_of(case: Case, sock: socket.socket, reader: Reader) -> None:
    """After all responses: the connection is kept, closed, or waits for the rest of a request."""
    if case.end is End.KEPT:
        sock.sendall(TAIL)
        expect_tail(reader)
    if case.end is not End.CLOSED:
        sock.shutdown(socket.SHUT_WR)
    reader.expect_end()


def expect_tail(reader: Reader) -> None:
    tail = reader.response()
    assert (tail.status, tail.body, tail.closes) == (200, TAIL_BODY, False), tail


def by_id(case: Case) -> str:
    return case.id


@pytest.mark.parametrize("case", CASES, ids=by_id)
def test_whole_and_again(case: Case, target: Target) -> None:
    """Three times: the engine remembers an answer at its second ask, and replays it at its third."""
    for _ in range(3):
        with target.connect() as sock:
            reader = Reader(sock)
            send_whole(sock, target.bytes_of(case.request))
            check(case, target, reader)
            expect_end_of(case, sock, reader)


@pytest.mark.parametrize("case", CASES, ids=by_id)
def test_byte_by_byte(case: Case, target: Target) -> None:
    with target.connect() as sock:
        reader = Reader(sock)
        send_in_pieces(sock, target.bytes_of(case.request))
        check(case, target, reader)
        expect_end_of(case, sock, reader)


@pytest.mark.parametrize("case", [case for case in CASES if case.end is not End.WAITS], ids=by_id)
def test_with_a_request_behind_it(case: Case, target: Target) -> None:
    with target.connect() as sock:
        reader = Reader(sock)
        send_whole(sock, target.bytes_of(case.request) + TAIL)
        check(case, target, reader)
        if case.end is End.KEPT:
            expect_tail(reader)
            sock.shutdown(socket.SHUT_WR)
        reader.expect_end()


def test_there_are_many_and_each_has_its_own_name() -> None:
    assert len(CASES) >= MANY
    ids = [case.id for case in CASES]
    assert len(set(ids)) == len(ids)


def test_no_answer_is_what_a_smuggled_request_would_get() -> None:
    """Cases that hide a request ask for a file that no honest part of them asks for, so that surplus answers show."""
    hidden = [case for case in CASES if "Host: a.example\\r\\nX: yz" in case.request]
    assert len(hidden) >= 5
    for case in hidden:
        assert all(expected.body_of != "/letters.txt" for expected in case.responses)


def test_every_family_has_a_title_and_a_text() -> None:
    for path in FOLDER.glob("*.http"):
        lines = path.read_text().split("\n")
        assert lines[0].startswith("# "), path.name
        assert lines[1] == "", path.name
        assert lines[2], path.name


def test_a_violation_is_an_assertion() -> None:
    """So that pytest shows it as a failure, not as an error."""
    assert issubclass(ViolationError, AssertionError)
