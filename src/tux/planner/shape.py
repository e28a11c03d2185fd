"""The part of a file's head that depends on its name only: rendered once per media type and set of rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from re import Pattern
from typing import NamedTuple, TypeAlias

from tux.http import media
from tux.http.head import render_field, render_status
from tux.planner.presets import HASHED, IMMUTABLE
from tux.planner.rules import CacheRule, HeaderRule, check_field, compile_glob

MAX_SHAPES = 1024
"""Rendered shapes that a route keeps; a route with more combinations of rules and types starts over."""


_Header: TypeAlias = tuple[Pattern[bytes], str, str]
"""Of a rule: which paths, name, value."""


class Shape(NamedTuple):
    """Beginnings of heads; whoever uses one adds the fields of the representation."""

    content_type: str
    compressible: bool
    ok: bytes
    """200, with Content-Type."""
    partial: bytes
    """206, without Content-Type: of several parts it is another one."""
    not_modified: bytes
    """304."""


class Shapes:
    """The shapes of one route."""

    def __init__(
        self, cache_control: Sequence[CacheRule], headers: Sequence[HeaderRule], *, immutable: bool = False
    ) -> None:
        """immutable: files with a hash in their name are, before all rules. ValueError: a rule has an impossible
        pattern, field name or value."""
        self._cache_control = [(compile_glob(r.glob), r.value) for r in cache_control]
        if immutable:
            self._cache_control.insert(0, (HASHED, IMMUTABLE))
        self._headers = [(compile_glob(r.glob), r.name, r.value) for r in headers]
        self._globs = [*(glob for glob, _ in self._cache_control), *(glob for glob, _, _ in self._headers)]
        for header in headers:
            check_field(header.name, header.value)
        self._known: dict[tuple[bytes, int], Shape] = {}

    def of(self, path: bytes) -> Shape:
        """The shape of the file with this path below the root."""
        kind = media.extension(path)
        if kind not in media.TABLE:
            kind = b""
        matched = self._matched(path) if self._globs else 0
        shape = self._known.get((kind, matched))
        if shape is None:
            if len(self._known) >= MAX_SHAPES:
                self._known.clear()
            shape = self._known[kind, matched] = self._render(kind, matched)
        return shape

    def fields(self, path: bytes, own: Iterable[tuple[str, str]]) -> bytes:
        """The fields of an answer that is no file, as if it were at this path: those that Tux sends anyway, `own`, and
        what header rules say. A rule replaces one of these, but for Content-Type, which is the answer's own."""
        values = {"server": ("Server", "tux"), "x-content-type-options": ("X-Content-Type-Options", "nosniff")}
        values |= {name.lower(): (name, value) for name, value in own}
        more = b""
        for _, name, value in self._matching(self._matched(path)):
            if name.lower() not in values:
                more += render_field(name, value)
            elif name.lower() == "content-security-policy":
                values[name.lower()] = (name, f"{values[name.lower()][1]}, {value}")  # a list: all of them hold
            elif name.lower() != "content-type":
                values[name.lower()] = (name, value)
        return b"".join([render_field(name, value) for name, value in values.values()]) + more

    def _matched(self, path: bytes) -> int:
        """The rules that are about this path, as bits."""
        return sum(1 << bit for bit, glob in enumerate(self._globs) if glob.fullmatch(path))

    def _matching(self, matched: int) -> list[_Header]:
        first = len(self._cache_control)
        return [header for bit, header in enumerate(self._headers, first) if matched >> bit & 1]

    def _render(self, kind: bytes, matched: int) -> Shape:
        content_type, compressible = media.TABLE.get(kind, media.DEFAULT)
        server, nosniff = "tux", "nosniff"
        fields = b""
        for bit, (_, value) in enumerate(self._cache_control):
            if matched >> bit & 1:
                fields += render_field("Cache-Control", value)
                break
        for _, name, value in self._matching(matched):
            if name.lower() == "content-type":
                content_type = value
            elif name.lower() == "server":
                server = value
            elif name.lower() == "x-content-type-options":
                nosniff = value
            else:
                fields += render_field(name, value)
        common = render_field("Server", server)
        kept = common + fields
        common += render_field("X-Content-Type-Options", nosniff) + b"Accept-Ranges: bytes\r\n" + fields
        return Shape(
            content_type=content_type,
            compressible=compressible,
            ok=render_status(200) + render_field("Content-Type", content_type) + common,
            partial=render_status(206) + common,
            not_modified=render_status(304) + kept,
        )
