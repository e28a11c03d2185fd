# SPDX-License-Identifier: MIT
"""The HTTP corpus, and attacks on a published path, through the kernel tier: what comes back is, but for the Date, what
the server without the tier sends to the same bytes."""

from __future__ import annotations

import re
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.corpus import site
from tests.corpus.cases import Case, End
from tests.corpus.test_corpus import CASES, SINGLE_BYTES, Target
from tests.kernel.lab import Lab, Net, open_lab, require_tier
from tests.kernel.traffic import Address
from tests.kernel.world import HITS, silences, tcp_address

MISS: Final = b"GET /tail.txt?miss HTTP/1.1\r\nHost: tail.example\r\n\r\n"

HOT: Final = b"GET /hello.txt HTTP/1.1\r\nHost: a.example\r\n\r\n"

_DATE: Final = re.compile(rb"(?<=\r\nDate: )[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT(?=\r\n)")
_BOUNDARY: Final = re.compile(rb"; boundary=(\w+)\r\n")


class LabTarget(Target):
    """A server in the lab."""

    def __init__(self, lab: Lab, address: Address) -> None:
        super().__init__(address)
        self._lab = lab
        self.address = address

    def connect(self) -> socket.socket:
        return self._lab.connect(self.address)

    def exchange(self, pieces: Sequence[bytes], *, ends: bool = True, hit_first: bool = False) -> bytes:
        """All that comes back to these pieces, each of a segment of its own, until the server closes; without what may
        differ. ends: we end our direction. hit_first: first of all a request that the daemon answers, and the same
        again, which the tier answers."""
        received = bytearray()
        with self.connect() as sock:
            for count in (1, 2) if hit_first else ():
                sock.sendall(HOT)
                while received.count(b"\r\n\r\nhello\n") < count:
                    received += sock.recv(1 << 16) or b"END"
                    assert not received.endswith(b"END"), received
            try:
                for piece in pieces:
                    sock.sendall(piece)
                if ends:
                    sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused and closed; what it said before counts
            try:
                while piece := sock.recv(1 << 18):
                    received += piece
            except ConnectionResetError:
                # After an answer that ends the connection it is right for what was sent too late.
                if b"\r\nConnection: close\r\n" not in received:
                    received += b"RESET"
        return plain(bytes(received))


def plain(received: bytes) -> bytes:
    """Without dates, and the boundaries that each server chooses at its start."""
    received = _DATE.sub(b"DATE", received)
    for boundary in set(_BOUNDARY.findall(received)):
        received = received.replace(boundary, b"BOUNDARY")
    return received


@dataclass
class Pair:
    """Two servers of the same folder."""

    lab: Lab
    off: LabTarget
    on: LabTarget
    pid: int

    def counters(self) -> Counter[str]:
        return Counter(self.lab.status(self.pid).counters)

    def answered(self) -> int:
        return self.counters()["answered"]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    require_tier()
    with open_lab(Net()) as lab, tempfile.TemporaryDirectory(prefix="tux-corpus-") as name:
        Path(name).chmod(0o755)
        site.make(Path(name))
        with (
            lab.serve(Path(name), tier=False) as off,
            lab.serve(Path(name), tier=True, kernel=f"hits = {HITS}") as on,
        ):
            yield Pair(lab, LabTarget(lab, tcp_address(off)), LabTarget(lab, tcp_address(on)), on.pid)


def in_single_bytes(data: bytes) -> list[bytes]:
    size = 1 if len(data) <= SINGLE_BYTES else len(data) // SINGLE_BYTES + 1
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_same_bytes(pair: Pair, case: Case) -> None:
    """Whole, so often that the tier has the answer; byte by byte; with a miss behind it in the same segment, and in the
    next; and all that behind an answer of the tier on the same connection."""
    data = pair.off.bytes_of(case.request)
    ends = case.end is not End.CLOSED
    wanted = pair.off.exchange([data], ends=ends)
    assert pair.on.exchange([data], ends=ends) == wanted
    for _ in range(HITS + 4):
        assert pair.on.exchange([data], ends=ends, hit_first=True).endswith(wanted)
    ways = [in_single_bytes(data)]
    if case.end is not End.WAITS:
        ways.append([data + MISS])
    if case.end is End.KEPT:  # else what comes too late may reset the connection before all has been read
        ways.append([data, MISS])
    for pieces in ways:
        wanted = pair.off.exchange(pieces, ends=ends)
        assert pair.on.exchange(pieces, ends=ends) == wanted
        assert pair.on.exchange(pieces, ends=ends, hit_first=True).endswith(wanted)


def test_the_tier_took_part(pair: Pair) -> None:
    """Most of what looks like plain requests for files is answered by it; the rest are refused or never remembered."""
    cases = [case for case in CASES if is_plain(pair.off.bytes_of(case.request))]
    answered = 0
    for case in cases:
        data = pair.off.bytes_of(case.request)
        before = pair.answered()
        for _ in range(HITS + 4):
            pair.on.exchange([data], hit_first=True)
        answered += pair.answered() - before > HITS + 4  # those to HOT
    assert answered >= 100, f"{answered} of {len(cases)}"


def is_plain(data: bytes) -> bool:
    """One GET without a body, whose answer may be remembered."""
    return (
        data.startswith(b"GET /")
        and data.count(b"\r\n\r\n") == 1
        and data.endswith(b"\r\n\r\n")
        and re.search(rb"(?i)\n(range|expect|content-length|transfer-encoding|connection):", data) is None
        and data.count(b"\nHost: ") == 1
        and b" HTTP/1.1\r\n" in data
        and re.search(rb"[?%\\\x80-\xff]", data) is None
    )


def hot_with(
    fields: bytes = b"",
    body: bytes = b"",
    *,
    line: bytes = b"GET /hello.txt HTTP/1.1",
    host: bytes = b"Host: a.example\r\n",
) -> bytes:
    return line + b"\r\n" + host + fields + b"\r\n" + body


CHUNKS: Final = b"5\r\nGET /\r\n0\r\n\r\n"
SMUGGLED: Final = b"GET /letters.txt HTTP/1.1\r\nHost: a.example\r\n\r\n"

ATTACKS: Final[dict[str, bytes]] = {
    "none": HOT,
    # Framing: CL.TE, TE.CL, lengths that others read differently.
    "content-length": hot_with(b"Content-Length: 5\r\n", b"GET /"),
    "content-length-0": hot_with(b"Content-Length: 0\r\n"),
    "content-length-hides-a-request": hot_with(b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED),
    "content-length-plus": hot_with(b"Content-Length: +5\r\n", b"GET /"),
    "content-length-hex": hot_with(b"Content-Length: 0x5\r\n", b"GET /"),
    "content-length-octal": hot_with(b"Content-Length: 010\r\n", b"GET /123"),
    "content-length-underscore": hot_with(b"Content-Length: 1_0\r\n", b"GET /12345"),
    "content-length-list": hot_with(b"Content-Length: 5, 5\r\n", b"GET /"),
    "content-length-twice": hot_with(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"GET /"),
    "content-length-empty": hot_with(b"Content-Length: \r\n"),
    "content-length-negative": hot_with(b"Content-Length: -1\r\n"),
    "content-length-wraps": hot_with(b"Content-Length: 18446744073709551616\r\n"),
    "chunked": hot_with(b"Transfer-Encoding: chunked\r\n", CHUNKS),
    "chunked-and-length": hot_with(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", CHUNKS + SMUGGLED),
    "length-and-chunked": hot_with(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", CHUNKS),
    "chunked-vertical-tab": hot_with(b"Transfer-Encoding: \x0bchunked\r\n", CHUNKS),
    "chunked-twice": hot_with(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CHUNKS),
    "chunked-identity": hot_with(b"Transfer-Encoding: chunked, identity\r\n", CHUNKS),
    "chunked-unknown": hot_with(b"Transfer-Encoding: xchunked\r\n", CHUNKS),
    "chunked-space": hot_with(b"Transfer-Encoding : chunked\r\n", CHUNKS),
    "chunked-in-1.0": hot_with(b"Transfer-Encoding: chunked\r\n", CHUNKS, line=b"GET /hello.txt HTTP/1.0"),
    "chunk-extension-lf": hot_with(b"Transfer-Encoding: chunked\r\n", b"5;\nGET /\r\n0\r\n\r\n"),
    "trailers": hot_with(b"Transfer-Encoding: chunked\r\n", b"0\r\nContent-Length: 5\r\n\r\n"),
    # Expectations and upgrades.
    "expect-continue": hot_with(b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"GET /"),
    "expect-without-body": hot_with(b"Expect: 100-continue\r\n"),
    "expect-other": hot_with(b"Expect: 200-ok\r\n"),
    "h2c": hot_with(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n"),
    "h2c-with-length": hot_with(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n", b"GET /"),
    "websocket": hot_with(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
    "h2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    # Hosts.
    "no-host": hot_with(host=b""),
    "host-twice": hot_with(b"Host: b.example\r\n"),
    "host-empty": hot_with(host=b"Host:\r\n"),
    "host-user": hot_with(host=b"Host: a@a.example\r\n"),
    "host-comma": hot_with(host=b"Host: a.example, b.example\r\n"),
    "host-port-junk": hot_with(host=b"Host: a.example:80x\r\n"),
    "host-underscore": hot_with(host=b"Host: a_b.example\r\n"),
    "absolute-form": hot_with(line=b"GET http://b.example/hello.txt HTTP/1.1"),
    "absolute-form-unix": hot_with(line=b"GET unix:/run/x.sock|http://b.example/hello.txt HTTP/1.1"),
    "absolute-form-user": hot_with(line=b"GET http://a@b.example/hello.txt HTTP/1.1"),
    "authority-form": hot_with(line=b"CONNECT a.example:80 HTTP/1.1"),
    # Lines and fields.
    "bare-lf": HOT.replace(b"\r\n", b"\n"),
    "bare-lf-at-the-end": HOT[:-2] + b"\n",
    "bare-cr": HOT[:-2] + b"X: a\rb\r\n\r\n",
    "cr-cr-lf": HOT[:-2] + b"\r\r\n",
    "nul": hot_with(b"X: a\0b\r\n"),
    "fold": hot_with(b"X: a\r\n b\r\n"),
    "space-before-colon": hot_with(b"X : a\r\n"),
    "empty-name": hot_with(b": a\r\n"),
    "space-first": HOT.replace(b"Host", b" Host"),
    "empty-line-first": b"\r\n" + HOT,
    "junk-behind": HOT + b"X",
    "pipelined": HOT * 20,
    "proxy": hot_with(b"Proxy: http://evil.example/\r\n"),
    "underscores": hot_with(b"Content_Length: 5\r\nTransfer_Encoding: chunked\r\n"),
    "forwarded": hot_with(b"X-Forwarded-For: 127.0.0.1\r\nConnection: X-Forwarded-For\r\n"),
    "close": hot_with(b"Connection: close\r\n"),
    "close-in-a-list": hot_with(b"Connection: keep-alive, close\r\n"),
    "other-case": HOT.replace(b"Host", b"hOST"),
    "many-fields": hot_with(b"X: y\r\n" * 101),
    "long-field": hot_with(b"Cookie: " + b"c" * 3000 + b"\r\n"),
    # Request lines and paths.
    "lower-case": HOT.replace(b"GET", b"get"),
    "no-version": HOT.replace(b" HTTP/1.1", b""),
    "version-1.2": HOT.replace(b"HTTP/1.1", b"HTTP/1.2"),
    "version-0.9": HOT.replace(b"HTTP/1.1", b"HTTP/0.9"),
    "two-spaces": HOT.replace(b"GET ", b"GET  "),
    "tab": HOT.replace(b"GET ", b"GET\t"),
    "dots": HOT.replace(b"/hello", b"/a/%2e%2e/hello"),
    "above": HOT.replace(b"/hello.txt", b"/../../etc/passwd"),
    "double-encoded": HOT.replace(b"/hello", b"/%252e%252e/hello"),
    "percent-nul": HOT.replace(b"/hello.txt", b"/hello.txt%00"),
    "percent-crlf": HOT.replace(b"/hello.txt", b"/hello.txt%0d%0aSet-Cookie:a"),
    "backslash": HOT.replace(b"/hello", b"/a\\..\\hello"),
    "two-slashes": HOT.replace(b"/hello", b"//hello"),
    "another-authority": HOT.replace(b"/hello.txt", b"//evil.example/%2e%2e"),
    "encoded-slash": HOT.replace(b"/hello", b"/..%2fhello"),
    "overlong": HOT.replace(b"/hello", b"/%c0%ae%c0%ae/hello"),
    "trailing-dot": HOT.replace(b".txt", b".txt."),
    "trailing-space": HOT.replace(b".txt", b".txt%20"),
    "bare-space": HOT.replace(b".txt ", b".txt \0.php "),
    "semicolon": HOT.replace(b".txt", b".txt;a"),
    "path-info": HOT.replace(b".txt", b".txt/x.php"),
    "fragment": HOT.replace(b".txt", b".txt#a"),
    "query": HOT.replace(b".txt", b".txt?-s"),
    # Ranges and conditions.
    "range": hot_with(b"Range: bytes=0-1\r\n"),
    "range-bomb": hot_with(b"Range: bytes=" + b",".join(b"0-%d" % i for i in range(60)) + b"\r\n"),
    "range-huge": hot_with(b"Range: bytes=0-18446744073709551615\r\n"),
    "if-none-match": hot_with(b"If-None-Match: *\r\n"),
    "if-modified-since": hot_with(b"If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n"),
    "log-escape": hot_with(b"User-Agent: \x1b[2J\r\n"),
}
"""Variants of the published request, each of which somebody's server got wrong."""

OFFSETS: Final = 1000
"""At most so many cuts of one attack: all that there are, but for the one whose head is too long."""


def cuts(data: bytes) -> list[int]:
    return list(range(1, len(data), -(-len(data) // OFFSETS)))


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_on_a_published_path(pair: Pair, name: str) -> None:
    """Cut at every offset into two packets, with a miss behind, on a connection that the tier has just answered."""
    data = ATTACKS[name]
    for _ in range(HITS + 2):
        pair.on.exchange([], hit_first=True)
    wanted = pair.off.exchange([data + MISS], hit_first=True)
    for _ in range(HITS + 2):
        assert pair.on.exchange([data], hit_first=True) == pair.off.exchange([data], hit_first=True)
    before = pair.counters()
    for at in cuts(data):
        got = pair.on.exchange([data[:at], data[at:] + MISS], hit_first=True)
        assert got == wanted, f"cut at {at}"
        got = pair.on.exchange([data[:at], data[at:], MISS], hit_first=True)
        assert got == wanted, f"cut at {at}, and before the miss"
    now = pair.counters() - before
    assert now["answered"] + silences(now) >= 1.8 * len(cuts(data)), f"the tier had answered before: {now}"


def test_the_smuggled_request_is_not_answered(pair: Pair) -> None:
    for name in ("content-length-hides-a-request", "chunked-and-length"):
        assert b"abcdefghijklmnopqrstuvwxyz" not in pair.on.exchange([ATTACKS[name]], hit_first=True)
