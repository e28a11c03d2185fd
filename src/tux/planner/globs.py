"""Globs, as expressions for paths: of files, for rules; of requests, for redirects (`tux.planner.template`)."""

from __future__ import annotations

import re

NO_FILE = b"\0"
"""In place of the path of a file, for answers without one: no file has this name."""


def is_extension(glob: str) -> bool:
    """Whether a glob for media types is about an extension, in whatever case: ".log"."""
    return glob.startswith(".") and len(glob) > 1 and not set(glob[1:]) & set("*/.")


def compile_type_glob(glob: str) -> re.Pattern[bytes]:
    """As `compile_glob`, for the rules of media types."""
    if not is_extension(glob):
        return compile_glob(glob)
    return re.compile(rb"(?:.*/)?[^/]*" + re.escape(glob.encode("utf-8", "surrogateescape")), re.DOTALL | re.IGNORECASE)


def compile_glob(pattern: str) -> re.Pattern[bytes]:
    """The pattern as an expression to `fullmatch` a file's path below its root (without a leading slash).

    A pattern without "/" is about the file's name, in whatever folder; one with "/" is about the whole path. "*" stands
    for any run of bytes within a segment, a segment "**" for any number of segments (at the end: for one or more).
    All else is literal. ValueError: the pattern is empty.
    """
    if not pattern.strip("/"):
        raise ValueError("a pattern must not be empty")
    if "/" not in pattern:
        return re.compile(rb"(?:.*/)?" + segment_of(pattern), re.DOTALL)
    segments = pattern.removeprefix("/").split("/")
    if segments[-1] == "":  # "assets/": all that is in that folder
        segments[-1] = "**"
    out = [rb"(?:[^/]+/)*" if segment == "**" else segment_of(segment) + b"/" for segment in segments[:-1]]
    out.append(rb".+" if segments[-1] == "**" else segment_of(segments[-1]))
    return re.compile(b"".join(out), re.DOTALL)


def segment_of(glob: str, *, capture: bool = False) -> bytes:
    """One segment of a glob as an expression, in which "*" is any run of bytes within a segment. capture: with a group
    for each "*"."""
    pieces = [re.escape(piece.encode("utf-8", "surrogateescape")) for piece in re.split(r"\*+", glob)]
    if len(pieces) == 1:
        return pieces[0]
    shortest, longest = (rb"([^/]*?)", rb"([^/]*)") if capture else (rb"[^/]*?", rb"[^/]*")
    # The leftmost place is the right one for every piece but the last: atomic groups keep the time linear per segment.
    middle = b"".join(rb"(?>" + shortest + piece + b")" for piece in pieces[1:-1])
    return pieces[0] + middle + longest + pieces[-1]
