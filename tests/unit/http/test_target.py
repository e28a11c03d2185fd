"""Paths of request targets: decoded once, normalised, never above the root."""

from __future__ import annotations

from urllib.parse import quote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux.http.target import TargetError, decode_path, encode_query, encode_segment


@pytest.mark.parametrize(
    ("sent", "decoded"),
    [
        ("/", b"/"),
        ("/a/b.css", b"/a/b.css"),
        ("/a/b/", b"/a/b/"),
        # empty segments: runs of slashes are one slash
        ("//", b"/"),
        ("//evil.example/..", b"/"),
        ("/a//b///c", b"/a/b/c"),
        ("/a//", b"/a/"),
        # dot segments, plain and encoded
        ("/.", b"/"),
        ("/./a", b"/a"),
        ("/a/.", b"/a/"),
        ("/a/./b", b"/a/b"),
        ("/a/..", b"/"),
        ("/a/b/..", b"/a/"),
        ("/a/b/../c", b"/a/c"),
        ("/a/b/../../c/", b"/c/"),
        ("/a/%2e%2e/b", b"/b"),
        ("/a/.%2E/b", b"/b"),
        ("/a/%2e/b", b"/a/b"),
        # names that only look like dot segments
        ("/...", b"/..."),
        ("/..a/a..", b"/..a/a.."),
        ("/.git/config", b"/.git/config"),
        # decoded once
        ("/%252e%252e/a", b"/%2e%2e/a"),
        ("/a%20b", b"/a b"),
        ("/%41%7a", b"/Az"),
        ("/a+b", b"/a+b"),
        # bytes that mean nothing here
        ("/a\\..\\b", b"/a\\..\\b"),
        ("/a%5c..%5Cb", b"/a\\..\\b"),
        ("/a;v=1/b", b"/a;v=1/b"),
        ("/a.txt.", b"/a.txt."),
        ("/a.txt%20", b"/a.txt "),
        ("/%0d%0aX: y", b"/\r\nX: y"),
        ("/%c0%ae%c0%ae/a", b"/\xc0\xae\xc0\xae/a"),  # overlong UTF-8 for ".."
        ("/%c0%af", b"/\xc0\xaf"),  # overlong UTF-8 for "/"
        ("/caf%C3%A9", "/café".encode()),
        ("/caf\xe9", b"/caf\xe9"),
    ],
)
def test_decoded(sent: str, decoded: bytes) -> None:
    assert decode_path(sent) == decoded


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("", 400),
        ("*", 400),
        ("a", 400),
        ("http://example.org/", 400),
        # above the root
        ("/..", 400),
        ("/../", 400),
        ("/../etc/passwd", 400),
        ("/a/../../b", 400),
        ("/%2e%2e/b", 400),
        ("/.%2e/b", 400),
        ("//..", 400),
        ("/a//../../b", 400),  # the empty segment is no folder that ".." could leave
        # NUL, broken escapes
        ("/a%00.txt", 400),
        ("/%", 400),
        ("/%4", 400),
        ("/%4g", 400),
        ("/%g4", 400),
        ("/%+1", 400),
        ("/% 1", 400),
        ("/%%34%31", 400),
        ("/%u002e", 400),
        ("/\u0661", 400),
        # a slash within a name
        ("/a%2fb", 404),
        ("/a%2Fb", 404),
        ("/..%2f..%2fetc/passwd", 404),
    ],
)
def test_refused(sent: str, status: int) -> None:
    with pytest.raises(TargetError) as refused:
        decode_path(sent)
    assert refused.value.status == status


NASTY = st.text(st.sampled_from("/.%2eEfF5cC0\\ab;"), max_size=30)


@given(st.one_of(NASTY, st.text(st.characters(max_codepoint=255), max_size=40)))
def test_never_escapes(tail: str) -> None:
    try:
        path = decode_path("/" + tail)
    except TargetError:
        return
    assert path[:1] == b"/"
    segments = path[1:].removesuffix(b"/").split(b"/") if path != b"/" else []
    assert not {b"", b".", b".."}.intersection(segments)
    assert b"\0" not in path


@given(st.lists(st.binary(min_size=1, max_size=8).filter(lambda s: not {0, 0x2F}.intersection(s)), min_size=1))
def test_every_name_can_be_asked_for(names: list[bytes]) -> None:
    """What a name of a file can be, a request can say."""
    names = [name for name in names if name not in (b".", b"..")]
    assert decode_path("/" + "/".join(quote(name, safe="") for name in names)) == b"/" + b"/".join(names)


@given(st.lists(st.sampled_from(["a", "b", ".", "..", "%2e", ".%2E"]), min_size=1, max_size=8), st.booleans())
def test_dot_segments_as_rfc_3986_removes_them(segments: list[str], slash: bool) -> None:
    path = "/" + "/".join(segments) + ("/" if slash else "")
    depth = 0
    for segment in segments:
        dots = segment.lower().replace("%2e", ".")
        depth += {".": 0, "..": -1}.get(dots, 1)
        if depth < 0:
            with pytest.raises(TargetError):
                decode_path(path)
            return
    expected = urljoin("http://h/", path.lower().replace("%2e", ".").removesuffix("/") + "/x")
    assert decode_path(path.removesuffix("/") + "/x").decode() == urlsplit(expected).path


@given(st.binary(min_size=1).filter(lambda s: b"/" not in s and b"\0" not in s and s not in (b".", b"..")))
def test_a_segment_is_a_harmless_relative_reference(segment: bytes) -> None:
    """It stays on the same host and scheme, carries no control characters, and names the same segment again."""
    reference = encode_segment(segment) + "/"
    assert reference.isascii()
    assert reference.isprintable()
    assert not {" ", ":", "?", "#", "\\", "\r", "\n"}.intersection(reference)
    assert reference[0] != "/"
    assert urljoin("http://example.org/a/b", reference) == "http://example.org/a/" + reference
    assert decode_path("/" + reference) == b"/" + segment + b"/"


@given(st.text(st.characters(max_codepoint=255)))
def test_a_query_is_made_harmless(query: str) -> None:
    encoded = encode_query(query)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert not {" ", '"', "<", ">", "\\", "#"}.intersection(encoded)
    assert encode_query(encoded) == encoded


def test_a_usual_query_stays_as_it_is() -> None:
    assert encode_query("q=a%20b+c&n=1;x=[1]/?:@,!$'()*~") == "q=a%20b+c&n=1;x=[1]/?:@,!$'()*~"
