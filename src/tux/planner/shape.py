"""The part of a file's head that depends on its name only: rendered once per media type and set of rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from re import Pattern
from typing import NamedTuple, TypeVar

from tux.http import media
from tux.http.head import render_field, render_status
from tux.planner.globs import compile_glob, compile_type_glob
from tux.planner.looks import below_host
from tux.planner.presets import HASHED, IMMUTABLE
from tux.planner.rules import (
    AS_KNOWN,
    GlobRule,
    HeaderRule,
    MediaRules,
    check_field,
)

T = TypeVar("T")

MAX_SHAPES = 1024
"""Rendered shapes that a route keeps; a route with more combinations of rules and types starts over."""


class Shape(NamedTuple):
    """Beginnings of heads; whoever uses one adds the fields of the representation."""

    content_type: str
    compressible: bool
    attached: bool
    """It is to be saved, not shown: a field with the file's name is to be added."""
    ok: bytes
    """200, with Content-Type."""
    partial: bytes
    """206, without Content-Type: of several parts it is another one."""
    not_modified: bytes
    """304."""


class Shapes:
    """The shapes of one route."""

    def __init__(
        self,
        cache_control: Sequence[GlobRule] = (),
        headers: Sequence[HeaderRule] = (),
        *,
        immutable: bool = False,
        media: MediaRules = AS_KNOWN,
        download: Sequence[str] = (),
    ) -> None:
        """immutable: files with a hash in their name are, before all rules. ValueError: a rule has an impossible
        pattern, field name or value."""
        self._globs: list[Pattern[bytes]] = []
        self._cache_control = self._numbered([(HASHED, IMMUTABLE)] if immutable else [])
        self._cache_control += self._numbered((compile_glob(r.glob), r.value) for r in cache_control)
        self._types = self._numbered((compile_type_glob(r.glob), r.value) for r in media.types)
        self._charsets = self._numbered((compile_glob(r.glob), r.value) for r in media.charsets)
        self._download = self._numbered((compile_glob(glob), glob) for glob in download)
        self._headers = self._numbered((compile_glob(r.glob), (r.name, r.value)) for r in headers)
        for header in headers:
            check_field(header.name, header.value)
        self._known: dict[tuple[bytes, int], Shape] = {}

    def _numbered(self, rules: Iterable[tuple[Pattern[bytes], T]]) -> list[tuple[int, T]]:
        """Rules, with the bit by which `_matched` tells that one is about a path."""
        numbered = []
        for glob, value in rules:
            numbered.append((1 << len(self._globs), value))
            self._globs.append(glob)
        return numbered

    def of(self, path: bytes) -> Shape:
        """The shape of the file with this path below the root."""
        kind = media.extension(path)
        if kind not in media.TABLE:
            kind = b""
        matched = self._matched(path)
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
        for name, value in _all(self._headers, self._matched(path)):
            if name.lower() not in values:
                more += render_field(name, value)
            elif name.lower() == "content-security-policy":
                values[name.lower()] = (name, f"{values[name.lower()][1]}, {value}")  # a list: all of them hold
            elif name.lower() != "content-type":
                values[name.lower()] = (name, value)
        return b"".join([render_field(name, value) for name, value in values.values()]) + more

    def _matched(self, path: bytes) -> int:
        """The rules that are about this path, as bits."""
        if not self._globs:
            return 0
        path = below_host(path)
        return sum(1 << bit for bit, glob in enumerate(self._globs) if glob.fullmatch(path))

    def _render(self, kind: bytes, matched: int) -> Shape:
        content_type, compressible = media.TABLE.get(kind, media.DEFAULT)
        content_type = content_type.removesuffix(media.UTF_8)
        for own in _all(self._types, matched)[:1]:
            content_type, compressible = own, media.is_compressible(own)
        charset = (*_all(self._charsets, matched), "utf-8")[0]
        content_type = media.with_charset(content_type, charset)
        server, nosniff = "tux", "nosniff"
        attached = bool(_all(self._download, matched))
        fields = b""
        for value in _all(self._cache_control, matched)[:1]:
            fields += render_field("Cache-Control", value)
        for name, value in _all(self._headers, matched):
            if name.lower() == "content-type":
                content_type = value
            elif name.lower() == "server":
                server = value
            elif name.lower() == "x-content-type-options":
                nosniff = value
            else:
                fields += render_field(name, value)
                attached = attached and name.lower() != "content-disposition"
        common = render_field("Server", server)
        kept = common + fields
        common += render_field("X-Content-Type-Options", nosniff) + b"Accept-Ranges: bytes\r\n" + fields
        return Shape(
            content_type=content_type,
            compressible=compressible,
            attached=attached,
            ok=render_status(200) + render_field("Content-Type", content_type) + common,
            partial=render_status(206) + common,
            not_modified=render_status(304) + kept,
        )


def _all(rules: Sequence[tuple[int, T]], matched: int) -> list[T]:
    """The values of the rules that are about a path, in their order."""
    return [value for bit, value in rules if matched & bit]
