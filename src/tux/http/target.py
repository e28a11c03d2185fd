"""The path of a request target, as the name of something below a root (RFC 3986 sections 2.1 and 5.2.4).

Paths are bytes: what a client percent-encodes is taken as it is, whatever encoding of text it may be. So an overlong
UTF-8 form of "/" or "." is just an odd name, and "\\" and ";" are bytes like any other. Decoding happens once.
"""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

_HEX = frozenset("0123456789abcdefABCDEF")
_SEGMENT_SAFE = "!$&'()*+,;=@~-._"
_QUERY_SAFE = "!$&'()*+,;=@~-._:/?%[]"


class TargetError(Exception):
    """The path names nothing that could be looked up; `status` is the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def decode_path(path: str) -> bytes:
    """The decoded, normalised path: begins with b"/", has no empty and no dot segments; ends with b"/" if a folder is
    meant ("/a/", "/a/." and "/a/b/.."). `path` is as sent, one character per byte.

    Runs of slashes count as one, as in nginx. TargetError: 400 for what is not absolute, a broken "%", NUL, and ".."
    above the root; 404 for "%2F", which cannot be part of a name (and must not be taken for a separator, RFC 3986
    section 2.2).
    """
    if path[:1] != "/":
        raise TargetError(400, "the path does not begin with a slash")
    try:
        if "%" in path:
            decoded = _unescape(path)
        else:
            decoded = path.encode("latin-1")
    except UnicodeEncodeError:
        raise TargetError(400, "the path has a character that is not a byte") from None
    if b"\0" in decoded:
        raise TargetError(400, "the path has a NUL")
    if b"//" in decoded or b"/." in decoded:
        return _normalise(decoded)
    return decoded


def _unescape(path: str) -> bytes:
    pieces = path.split("%")
    for piece in pieces[1:]:
        if len(piece) < 2 or piece[0] not in _HEX or piece[1] not in _HEX:
            raise TargetError(400, "the path has a percent sign without two hexadecimal digits")
        if piece[0] == "2" and piece[1] in "fF":
            raise TargetError(404, "the path has an encoded slash")
    return unquote_to_bytes(path.encode("latin-1"))


def _normalise(path: bytes) -> bytes:
    segments = path.split(b"/")
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            if not kept:
                raise TargetError(400, "the path leads above the root")
            kept.pop()
        elif segment not in (b"", b"."):
            kept.append(segment)
    if kept and segments[-1] in (b"", b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def encode_segment(segment: bytes) -> str:
    """One decoded segment for use as a relative reference: it has no "/", and no ":" that would make it a scheme."""
    return quote(segment, safe=_SEGMENT_SAFE)


def encode_query(query: str) -> str:
    """A query as sent, with everything escaped that a URI cannot carry; what is escaped already stays so."""
    return quote(query.encode("latin-1"), safe=_QUERY_SAFE)
