"""Targets of redirects and rewrites: texts with places for what a request's path has.

    {path}      the whole path, from its slash on
    {rest}      what follows the path of the route, without a slash before it
    {1} to {9}  what the wildcards of `match` stand for
    {host}      the host that was asked for, without its port

`match` is a glob for what {rest} is: "*" stands for any run of bytes within a segment, a segment "**" for any number of
segments, all else for itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tux.planner.globs import segment_of

_PLACE = re.compile(r"\{([^{}]*)\}")
_NAMES = frozenset(("path", "rest", "host"))
_LITERAL = re.compile(r"[!#-;=?-\[\]_a-z~%]*", re.ASCII)
"""What a reference can carry as it is (RFC 3986 appendix A); percent signs are the author's own."""
_AUTHORITY = re.compile(r"https?://(?:[^/?#{}]|\{host\})+(?:[/?#]|\{path\}|$)")
"""A scheme and a host that no part of a path has a say in; {path} begins with a slash."""
MAX_CAPTURES = 9
EVERYTHING = "**"
"""What matches whatever there is."""


def compile_match(pattern: str) -> re.Pattern[bytes]:
    """The pattern as an expression to `fullmatch`, with a group for each wildcard. ValueError: a text for the user."""
    segments = pattern.split("/")
    if not pattern or "" in segments[:-1]:
        raise ValueError("expected a glob without empty segments")
    if segments.count("**") > 1:  # two of them would have to try every division of a path between them
        raise ValueError('expected "**" at most once')
    out = [
        rb"((?:[^/]+/)*)" if segment == "**" else segment_of(segment, capture=True) + b"/" for segment in segments[:-1]
    ]
    out.append(rb"(.*)" if segments[-1] == "**" else segment_of(segments[-1], capture=True))
    found = re.compile(b"".join(out), re.DOTALL)
    if found.groups > MAX_CAPTURES:
        raise ValueError(f"expected at most {MAX_CAPTURES} wildcards, got {found.groups}")
    return found


def check_target(target: str, captures: int, *, absolute: bool) -> None:
    """ValueError, with a text for the user, when this is no target with so many captures. absolute: it may name a
    scheme and a host, and have a query."""
    if absolute and not target.startswith("/"):
        if not _AUTHORITY.match(target):
            raise ValueError(
                "expected /PATH, http://HOST/PATH or https://HOST/PATH; of places, HOST can have {host} only"
            )
    elif not target.startswith("/") or target.startswith("//"):
        raise ValueError("expected /PATH")
    for name in _PLACE.findall(target):
        if name not in _NAMES and not (name.isascii() and name.isdigit() and 1 <= int(name[:2]) <= captures):
            known = ["{path}", "{rest}", "{host}", *(f"{{{number}}}" for number in range(1, captures + 1))]
            raise ValueError(f"{{{name}}} is not one of {', '.join(known)}")
    literal = _PLACE.sub("", target)
    if absolute and not _LITERAL.fullmatch(literal):
        raise ValueError("expected only characters that a URL can carry; write others percent-encoded")
    if "{" in literal or "}" in literal:
        raise ValueError("expected { and } around names only")


def fill(target: str, values: Callable[[str], str]) -> str:
    """The target with what its places stand for."""
    return _PLACE.sub(lambda place: values(place[1]), target)
