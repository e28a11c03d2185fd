# SPDX-License-Identifier: MIT
"""One check of a server: which answers are good, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.backend import Backend, Peer
from tux._engine import parse_proxy
from tux.daemon.health import check
from tux.daemon.upstreams import Health

FAST = Health("/health?x", 1.0, 0.3)


def script(answer: bytes, then: str = "") -> Backend:
    def play(peer: Peer) -> None:
        request = peer.head()
        assert request is not None
        assert request.line == "GET /health?x HTTP/1.1"
        assert request.fields["host"] == "name:81"
        peer.send(answer)
        if then == "wait":
            assert peer.ended()

    return Backend(play)


@pytest.mark.parametrize(
    ("answer", "statuses", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", (), ""),
        (b"HTTP/1.0 204\r\n\r\n", (), ""),
        (b"HTTP/1.1 302 Found\r\n", (), ""),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", (), "the check was answered with 404"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", (404,), ""),
        (b"HTTP/1.1 200 OK\r\n\r\n", (204,), "the check was answered with 200"),
        (b"HTTP/2 200\r\n\r\n", (), "the check got an answer that is not HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", (), "the check got an answer that is not HTTP"),
        (b"x" * 5000, (), "the check got an answer that is not HTTP"),
        (b"HTTP/1.1 200", (), "the check got no answer"),
        (b"", (), "the check got no answer"),
    ],
)
def test_answers(answer: bytes, statuses: tuple[int, ...], problem: str) -> None:
    with script(answer) as backend:
        found = check(backend.authority, "name:81", Health("/health?x", 1.0, 5.0, statuses))
        assert found == problem or (found.startswith("the check failed: Connection reset") and problem != "")


def test_silence() -> None:
    with script(b"HTTP/1.1 ", "wait") as backend:
        assert check(backend.authority, "name:81", FAST) == "the check got no answer within 0.3 s"


def test_nobody_there(tmp_path: Path) -> None:
    with Backend() as backend:
        address = backend.authority
    assert check(address, "a", FAST) == "the check failed: Connection refused"
    assert check(f"unix:{tmp_path}/none", "a", FAST) == "the check failed: No such file or directory"


@pytest.mark.parametrize("version", [1, 2])
def test_the_proxy_protocol(version: int, tmp_path: Path) -> None:
    def play(peer: Peer) -> None:
        header = peer.take(15 if version == 1 else 16)
        assert parse_proxy(header)["address"] is None
        assert peer.head() is not None
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")

    with Backend(play, str(tmp_path / "socket")) as backend:
        assert check(backend.url, "a", Health("/", 1.0, 5.0, (), version)) == ""
