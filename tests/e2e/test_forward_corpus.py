# SPDX-License-Identifier: MIT
"""The corpus of requests through the forwarder: what the front accepts is what the server behind it gets, no request
more, no byte less; and what the front refuses never gets there."""

from __future__ import annotations

import contextlib
import re
import socket
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tux
from tests import features
from tests.corpus.cases import Case, load, unescape
from tests.corpus.reader import PATIENCE
from tests.e2e.backend import Backend, Peer, config_of
from tests.e2e.client import address_of, stop
from tests.e2e.servers import running
from tools.fetch_peers import FetchError
from tux._engine import decode_chunked, decode_path, scan_head, scan_response

CASES = load()
NO_HOST = "server.example"
"""What a server gets for a client of HTTP/1.0 that sent none: its own name."""


@dataclass(frozen=True)
class Message:
    """What must be the same on both sides."""

    method: str
    target: str
    host: str
    body: bytes
    fields: dict[str, str]
    """Those that are for the server behind as they are: by their names in lower case, values joined with ", "."""


_NOT_PASSED_ON = """
    connection content-length expect forwarded host http2-settings keep-alive proxy proxy-authenticate
    proxy-authorization proxy-connection te trailer transfer-encoding upgrade x-forwarded-for x-forwarded-host
    x-forwarded-proto
"""
NOT_PASSED_ON = frozenset(_NOT_PASSED_ON.split())
"""Fields for one hop, and those that are written anew."""


def passed_on(fields: list[tuple[str, str]]) -> dict[str, str]:
    """What must arrive of these: not what Connection names, and no names with an underscore."""
    named = {
        option.strip().lower() for name, value in fields if name.lower() == "connection" for option in value.split(",")
    }
    joined: dict[str, list[str]] = {}
    for name, value in fields:
        if name.lower() not in NOT_PASSED_ON | named and "_" not in name:
            joined.setdefault(name.lower(), []).append(value)
    return {name: ", ".join(values) for name, values in joined.items()}


def validator(kind: str, path: str) -> str:
    """In place of what the static server would have said."""
    return '"etag"' if kind == "etag" else "Sun, 06 Nov 1994 08:49:37 GMT"


def origin_form(head: dict[str, Any]) -> str:
    """The target as a server gets it."""
    if head["target"][0] in "/*":
        return str(head["target"])
    if head["method"] == "OPTIONS" and head["target"].partition("://")[2] == head["host"]:
        return "*"
    return str(head["path"] if head["query"] is None else f"{head['path']}?{head['query']}")


def is_forwarded(head: dict[str, Any]) -> bool:
    """Whether a sound request is for the server behind: not the methods of proxies, not what is about us ("*"), and no
    path that has no meaning, or leads above the root."""
    if head["method"] in ("CONNECT", "TRACE") or head["expect_other"] or origin_form(head) == "*":
        return False
    # Escaped slashes are the server's business, as long as they lead above no root.
    path = re.sub("%2f", "/", head["path"], flags=re.IGNORECASE).encode("latin-1")
    return decode_path(path) != 400


def complete(data: bytes, *, begun: bool = False) -> list[Message]:
    """The requests that a strict reader finds in the bytes of a client, as far as they are whole and are passed on.
    `begun`: also the last one, if only its head is sound; a server may answer before it has read a body."""
    found = []
    while data:
        head: dict[str, Any] = scan_head(data)
        if head["outcome"] != "done":
            break
        rest = data[head["length"] :]
        if head["chunked"]:
            outcome, body, used = decode_chunked(rest)
            whole = outcome == "done"
        else:
            used = head["content_length"] or 0
            body = rest[:used]
            whole = len(body) == used
        if not whole and not (begun and is_forwarded(head)):
            break
        if not is_forwarded(head):
            if used or head["chunked"] or head["method"] == "CONNECT":
                break  # refused before what follows was read: the connection ends
        else:
            host = head["host"] or NO_HOST
            found.append(Message(head["method"], origin_form(head), host, body, passed_on(head["fields"])))
        if not whole or not head["keep_alive"]:
            break
        data = rest[used:]
    return found


@dataclass
class Front:
    server: tux.Server
    backend: Backend
    seen: list[Message]

    def send(self, data: bytes, piece: int = 0) -> bytes:
        """All that comes back until the connection ends."""
        self.seen.clear()
        with socket.create_connection(address_of(self.server), PATIENCE) as sock:  # type: ignore[arg-type]  # it is TCP
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            received = b""
            with contextlib.suppress(ConnectionError):
                for i in range(0, len(data), piece or len(data)):
                    sock.sendall(data[i : i + (piece or len(data))])
                sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while more := sock.recv(1 << 18):
                    received += more
            return received


@pytest.fixture(scope="module")
def front(site: Path) -> Iterator[Front]:
    seen: list[Message] = []

    def record(peer: Peer) -> None:
        while (head := peer.head()) is not None:
            if "expect" in head.fields:
                peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            try:
                body = peer.body_of(head)
            except (AssertionError, ValueError, OSError):
                return  # the client ended in it
            method, target, version = head.line.split(" ")
            assert version == "HTTP/1.1"
            host = head.fields["host"]
            host = NO_HOST if host == backend.authority else host
            seen.append(Message(method, target, host, body, passed_on(list(head.fields.items()))))
            peer.send(b"HTTP/1.1 204 No Content\r\nX-Number: %d\r\n\r\n" % len(seen))

    with Backend(record) as backend:
        config = config_of(site / "corpus.toml", backend.url)
        with tux.Server(config=config) as server:
            yield Front(server, backend, seen)
            stop(server)


def test_the_model() -> None:
    """The comparison is worth something: requests of many kinds are accepted."""
    accepted = [message for case in CASES for message in complete(unescape(case.request, validator))]
    assert len(accepted) > 200
    assert {message.method for message in accepted} >= {"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE"}
    assert sum(bool(message.body) for message in accepted) > 20
    assert sum(bool(message.fields) for message in accepted) > 50


def finals(data: bytes) -> list[dict[str, Any]]:
    """The final responses in these bytes, as far as they are whole."""
    found = []
    while (head := scan_response(data))["outcome"] == "done":
        assert isinstance(head["length"], int)
        data = data[head["length"] :]
        if head["framing"] == "length":
            data = data[int(str(head["content_length"])) :]
        elif head["framing"] == "chunked":
            data = data[decode_chunked(data)[2] :]
        elif head["framing"] == "close":
            data = b""
        if int(str(head["status"])) >= 200:
            found.append(head)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_same_requests(front: Front, case: Case) -> None:
    data = unescape(case.request, validator)
    expected = complete(data)
    for piece in (0, 1) if len(data) <= 300 else (0, 997):
        received = front.send(data, piece)
        assert front.seen == expected
        for number in range(1, len(expected) + 1):
            assert received.count(b"\r\nX-Number: %d\r\n" % number) == 1


# ---- Servers of others.


@pytest.mark.timeout(300)  # seconds: some hundred connections, and one or two servers are slow starters
@pytest.mark.parametrize("name", ["nginx", "apache", "gunicorn", "uvicorn", "node"])
def test_others_see_the_same(name: str, tmp_path_factory: pytest.TempPathFactory, site: Path) -> None:
    """What they say they saw is what was accepted; or they refuse it themselves, and then nothing else is mixed up."""
    features.require("peers")
    folder = site / f"corpus-{name}"
    folder.mkdir()
    folder.chmod(0o777)
    try:
        stack = contextlib.ExitStack()
        url = stack.enter_context(running(name, folder))
    except FetchError as error:
        pytest.skip(str(error))
    with stack, tux.Server(config=config_of(folder / "tux.toml", url)) as server:
        wrong = [problem for case in CASES if (problem := _difference(server, url, case))]
        stop(server)
    assert wrong == []


def _difference(server: tux.Server, url: str, case: Case) -> str:
    data = unescape(case.request, validator)
    expected = complete(data, begun=True)
    if any(message.method == "HEAD" for message in expected):
        return ""  # its responses cannot be told from those with a body
    wanted = [
        [message.method, message.target, message.host, str(len(message.body)), str(zlib.crc32(message.body))]
        for message in expected
    ]
    seen = []
    for response in finals(_send(server, data)):
        text = {name.lower(): value for name, value in response["fields"]}.get("x-seen")
        if text is not None and int(response["status"]) < 400:
            line = text.replace(url.removeprefix("http://"), NO_HOST).replace(" HTTP/1.1 ", " ").split(" ")
            # An application cannot tell an empty query from none.
            seen.append([part.removesuffix("?") for part in line])
    rest = iter([[part.removesuffix("?") for part in line] for line in wanted])
    same = all(
        any(line == candidate[: len(line)] for candidate in rest) for line in seen
    )  # in their order, some left out
    return "" if same else f"{case.id}: {seen} is not of {wanted}"


def _send(server: tux.Server, data: bytes) -> bytes:
    with socket.create_connection(address_of(server), PATIENCE) as sock:  # type: ignore[arg-type]  # it is TCP
        received = b""
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while more := sock.recv(1 << 18):
                received += more
        return received
