# SPDX-License-Identifier: MIT
"""The engine's parsers against two independent ones: h11 (Python) and llhttp (C, of Node.js; by way of httptools).

The rule: what the engine accepts, both accept, and see the same in it. The other way round it does not hold: the engine
is stricter than both, on purpose. Where an oracle is stricter than the engine, or sees something else, there is an
exception below with its reason; nothing else is excused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import cast

import h11
import httptools
import pytest
from hypothesis import assume, event, example, given
from hypothesis import strategies as st

from tests.corpus.cases import Case, load, unescape
from tux._engine import decode_chunked, scan_head

BEHIND = b"GET /behind HTTP/1.1\r\nHost: b\r\n\r\n"
"""The next request: where an oracle sees its begin is where it sees the end of the one before."""

_LLHTTP_METHODS = """
DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND
ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK SOURCE
QUERY
"""
LLHTTP_METHODS = frozenset(_LLHTTP_METHODS.split())


@dataclass
class Seen:
    """What a parser has understood of a request."""

    method: str = ""
    target: str = ""
    minor: int = -1
    fields: list[tuple[str, str]] = field(default_factory=list)
    """Names in lower case, values without outer white space."""
    keep_alive: bool = False
    body: bytes = b""
    complete: bool = False
    behind: bytes = b""
    """What it takes for the next request."""


@dataclass
class Refusal:
    """The oracle does not accept it."""

    reason: str


def by_engine(data: bytes) -> Seen | None:
    """None: not accepted, or incomplete."""
    head = scan_head(data)
    if head["outcome"] != "done":
        return None
    length = cast(int, head["length"])
    fields = cast("list[tuple[str, str]]", head["fields"])
    seen = Seen(
        method=str(head["method"]),
        target=str(head["target"]),
        minor=cast(int, head["minor"]),
        fields=[(name.lower(), value) for name, value in fields],
        keep_alive=bool(head["keep_alive"]),
        complete=True,
        behind=data[length:],
    )
    if head["chunked"]:
        outcome, seen.body, consumed = decode_chunked(seen.behind)
        seen.behind = seen.behind[consumed:]
        if outcome == "malformed":
            return None
        seen.complete = outcome == "done"
    elif head["content_length"] is not None:
        size = cast(int, head["content_length"])
        seen.complete = size <= len(seen.behind)
        seen.body, seen.behind = seen.behind[:size], seen.behind[size:]
    return seen


def by_h11(data: bytes) -> Seen | Refusal:
    connection = h11.Connection(h11.SERVER)
    seen = Seen()
    try:
        connection.receive_data(data)
        while True:
            got = connection.next_event()
            if isinstance(got, h11.Request):
                seen.method = got.method.decode("ascii")
                seen.target = got.target.decode("ascii")
                seen.minor = int(got.http_version.split(b".")[1])
                seen.fields = [(name.decode("ascii"), value.decode("latin-1")) for name, value in got.headers]
            elif isinstance(got, h11.Data):
                seen.body += bytes(got.data)
            elif isinstance(got, h11.EndOfMessage):
                seen.complete = True
                break
            else:
                break
    except h11.RemoteProtocolError as error:
        return Refusal(str(error))
    seen.keep_alive = connection.their_state is not h11.MUST_CLOSE
    seen.behind = connection.trailing_data[0]
    return seen


class _Callbacks:
    """What httptools calls while it parses one request."""

    def __init__(self) -> None:
        self.seen = Seen()
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        assert not self.seen.complete, "a second request"
        self.seen.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.seen.complete and self.seen.minor < 0:  # else it is of the trailer
            self.seen.fields.append((name.decode("ascii").lower(), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        self.seen.method = self.parser.get_method().decode("ascii")
        self.seen.minor = int(self.parser.get_http_version().split(".")[1])
        self.seen.keep_alive = self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self.seen.body += body

    def on_message_complete(self) -> None:
        self.seen.complete = True


def by_llhttp(data: bytes) -> Seen | Refusal:
    """Without `behind`: httptools does not tell where it stopped."""
    callbacks = _Callbacks()
    try:
        callbacks.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # it stops at the end of the head: it would have to be asked how the other protocol goes on
    except httptools.HttpParserError as error:
        return Refusal(str(error))
    return callbacks.seen


# ---- Where the oracles are stricter, or see something else.


def h11_is_stricter(data: bytes, ours: Seen) -> str:
    """Why h11 may refuse what we accept; empty: it may not."""
    if any(char > "\x7f" for char in ours.target):
        return "bytes over 0x7f in a target: many clients do not escape them"
    if any(name == "transfer-encoding" for name, _ in ours.fields) and (b" ;" in data or b"\t;" in data):
        return "white space before a chunk extension: RFC 9112 section 7.1.1 says that it must be accepted"
    return ""


def llhttp_is_stricter(data: bytes, ours: Seen) -> str:
    """Why llhttp may refuse what we accept; empty: it may not."""
    version = version_of(data)
    if ours.method not in LLHTTP_METHODS:
        return "a method that it does not know"
    if version not in (b"1.0", b"1.1"):
        return "a minor version over 1: RFC 9110 section 2.5 says how to answer it"
    if any(char > "\x7f" for char in ours.target):
        return "bytes over 0x7f in a target: many clients do not escape them"
    if re.search(rb"(?i)transfer-encoding:\s*chunked[ \t]+\r\n", data):
        return "white space after a value"
    if chunked_body_reason(data):
        return chunked_body_reason(data)
    if ours.method == "CONNECT" or not ours.target.startswith(("/", "*")):
        return "characters that it does not want in an authority, such as a percent sign"
    return ""


def chunked_body_reason(data: bytes) -> str:
    """The same for what is special of chunked bodies."""
    if b";" in data.partition(b"\r\n\r\n")[2]:
        return "white space in chunk extensions, and characters of quoted strings"
    if re.search(rb"(?i)\n0+\r\n(.+\r\n)*(content-length|transfer-encoding):", data):
        return "framing in a trailer, where it has no meaning"
    return ""


def version_of(data: bytes) -> bytes:
    return data.removeprefix(b"\r\n").split(b"\r\n", 1)[0][-3:]


def compare(data: bytes) -> bool:
    """Whether the engine accepts it; if so, both oracles agree about all of it."""
    ours = by_engine(data)
    if ours is None:
        return False
    names = {name for name, _ in ours.fields}
    may_switch = ours.method == "CONNECT" or "upgrade" in names  # then both wait for what the server says
    # h11 does not skip the empty line that RFC 9112 section 2.2 wants skipped.
    theirs = by_h11(data.removeprefix(b"\r\n"))
    if isinstance(theirs, Refusal):
        assert h11_is_stricter(data, ours), theirs
    else:
        same_request(ours, theirs, version_of(data))
        if theirs.complete:
            assert theirs.behind == ours.behind
            # To h11 no HTTP/1.0 client can keep the connection.
            assert may_switch or theirs.keep_alive == (ours.keep_alive and ours.minor == 1)

    theirs = by_llhttp(data[: len(data) - len(ours.behind)])
    if isinstance(theirs, Refusal):
        assert llhttp_is_stricter(data, ours), theirs
        return True
    if not may_switch:
        same_request(ours, theirs, version_of(data))
    if ours.keep_alive != theirs.keep_alive:
        # In HTTP/1.0 it lets keep-alive win over close, and to it Proxy-Connection is the same as Connection.
        assert (ours.minor == 0 and not ours.keep_alive) or "proxy-connection" in names
    return True


def same_request(ours: Seen, theirs: Seen, version: bytes) -> None:
    assert theirs.method == ours.method
    assert theirs.target == ours.target
    assert theirs.minor == int(version[2:])
    assert min(theirs.minor, 1) == ours.minor
    assert [(name, value) for name, value in theirs.fields if name != "transfer-encoding"] == [
        (name, value) for name, value in ours.fields if name != "transfer-encoding"
    ]
    assert len(theirs.fields) == len(ours.fields)
    assert theirs.complete == ours.complete
    assert theirs.body == ours.body


# ---- Requests.

TOKENS = st.text("!#$%&'*+-.^_`|~0123456789ABCXYZabcxyz", min_size=1, max_size=12)
METHODS = st.sampled_from(["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "QUERY", "CONNECT", "get"]) | TOKENS
TARGETS = st.one_of(
    st.sampled_from(
        ["/", "*", "/a?b=c", "http://a.example/x", "https://a.example:8080", "a.example:443", "HTTP://A/%20"]
    ),
    st.text([chr(code) for code in range(0x21, 0x100)], max_size=12).map(lambda text: "/" + text),
)
VERSIONS = st.sampled_from(["HTTP/1.1"] * 6 + ["HTTP/1.0"] * 2 + ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/1.10"])
NUMBERS = st.sampled_from(["0", "5", "007", "33", "1000", "+5", "5,5", "0x5", "", "1_0", "18446744073709551621", "-1"])
VALUES = st.text([chr(code) for code in range(0x20, 0x100) if code != 0x7F] + ["\t"], max_size=16)
SPACES = st.sampled_from(["", " ", " ", " ", "\t", "  ", " \t"])
CONNECTIONS = st.lists(
    st.sampled_from(["close", "keep-alive", "Close", "KEEP-ALIVE", "upgrade", "x", "closed", "", '"close"', "TE"]),
    max_size=3,
).map(", ".join)
FIELDS = st.one_of(
    st.tuples(
        st.sampled_from(["Host", "host"]), st.sampled_from(["a", "a.example", "[::1]:80", "a:80", "a b", "a@b", ""])
    ),
    st.tuples(st.just("Content-Length"), NUMBERS),
    st.tuples(
        st.just("Transfer-Encoding"),
        st.sampled_from(["chunked", "Chunked", "gzip, chunked", "identity", "chunked,chunked"]),
    ),
    st.tuples(st.just("Connection"), CONNECTIONS),
    st.tuples(st.just("Upgrade"), st.sampled_from(["h2c", "websocket"])),
    st.tuples(st.just("Expect"), st.sampled_from(["100-continue", "x"])),
    st.tuples(TOKENS, VALUES),
)
BODIES = st.sampled_from(
    [b"", b"12345", b"0\r\n\r\n", b"5\r\n12345\r\n0\r\n\r\n", b"5;a=b\r\n12345\r\n0\r\nX: y\r\n\r\n"]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Mostly well formed."""
    fields = draw(st.lists(FIELDS, max_size=5))
    if draw(st.integers(0, 9)):
        fields.insert(draw(st.integers(0, len(fields))), ("Host", "a.example"))
    head = f"{draw(METHODS)} {draw(TARGETS)} {draw(VERSIONS)}\r\n"
    for name, value in fields:
        head += f"{name}:{draw(SPACES)}{value}{draw(SPACES)}\r\n"
    return head.encode("latin-1") + b"\r\n" + draw(BODIES) + BEHIND


ODD = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"\0",
        b"\t",
        b" ",
        b":",
        b",",
        b"\x0b",
        b"\x0c",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"#",
        b'"',
        b"0",
        b";",
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A request with some bytes inserted, removed, replaced, or doubled."""
    data = draw(requests())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 3))
        what = draw(st.integers(0, 2))
        if what == 0:
            data = data[:at] + draw(ODD) + data[at + length :]
        elif what == 1:
            data = data[:at] + data[at + length :]
        else:
            data = data[:at] + data[at : at + length] + data[at:]
    return data


@given(requests())
@example(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n" + BEHIND)
@example(b"GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n")
def test_what_we_accept_they_accept(data: bytes) -> None:
    event("accepted" if compare(data) else "refused")


@given(mutated())
def test_what_we_accept_they_accept_of_mutations(data: bytes) -> None:
    event("accepted" if compare(data) else "refused")


@given(requests())
def test_most_of_what_is_generated_is_well_formed(data: bytes) -> None:
    """Without this the tests above could be about refusals alone."""
    assume(compare(data))


HEADS = [case for case in load() if "etag" not in case.request and "modified" not in case.request]


@pytest.mark.parametrize("case", HEADS, ids=lambda case: case.id)
def test_the_corpus(case: Case) -> None:
    """The first request of every case, with another behind it."""
    data = unescape(case.request)
    compare(data + BEHIND)


# ---- Chunked bodies.

CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
EXTENSIONS = st.sampled_from(
    [
        b"",
        b"",
        b"",
        b";a",
        b";a=b",
        b';a="b c"',
        b";a=b;c",
        b' ; a = "x\\"y"',
        b";",
        b' ;a="',
        b";a=\n",
        b"\t",
        b";\x80",
    ]
)
SIZES = st.sampled_from(
    [b"%x", b"%x", b"%X", b"%04x", b"0x%x", b"+%x", b" %x", b"%x ", b"000000000000000000%x", b"1%016x"]
)
ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"", b"\r\r\n"])
TRAILERS = st.sampled_from(
    [
        b"",
        b"",
        b"X: y\r\n",
        b"Content-Length: 5\r\nX:\r\n",
        b"X : y\r\n",
        b"X\r\n",
        b" X: y\r\n",
        b"X: y\n",
        b": y\r\n",
        b"X: \0\r\n",
    ]
)


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    out = b""
    for data in draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4)):
        out += draw(SIZES) % len(data) + draw(EXTENSIONS) + draw(ENDS) + data + draw(ENDS)
    return out + b"0" + draw(EXTENSIONS) + draw(ENDS) + draw(TRAILERS) + draw(ENDS)


@given(chunked(), st.integers(0, 3))
@example(b"5\r\n12345\r\n0\r\n\r\n", 1)
def test_chunked_bodies(body: bytes, piece: int) -> None:
    """What is decoded completely, both oracles decode to the same; and it does not matter how it is cut."""
    outcome, decoded, consumed = decode_chunked(body, piece)
    assert decode_chunked(body) == (outcome, decoded, consumed)
    event(outcome)
    if outcome != "done":
        return
    data = CHUNKED_HEAD + body[:consumed]
    ours = Seen("POST", "/", 1, [("host", "a"), ("transfer-encoding", "chunked")], True, decoded, True)
    theirs = by_h11(data + BEHIND)
    if isinstance(theirs, Refusal):
        assert h11_is_stricter(data, ours), theirs
    else:
        assert (theirs.body, theirs.complete, theirs.behind) == (decoded, True, BEHIND)
    theirs = by_llhttp(data)
    if isinstance(theirs, Refusal):
        assert chunked_body_reason(data), theirs
    else:
        assert (theirs.body, theirs.complete) == (decoded, True)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.integers(0, 7))
def test_chunked_bodies_that_are_plain(chunks: list[bytes], piece: int) -> None:
    body = b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in chunks) + b"0\r\n\r\n"
    assert decode_chunked(body + BEHIND, piece) == ("done", b"".join(chunks), len(body))
