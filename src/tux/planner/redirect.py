"""Redirects, and paths that stand for others."""

from __future__ import annotations

from typing import TypeAlias

from tux.http.target import TargetError, decode_path, encode_query, encode_segment
from tux.planner.errors import Errors
from tux.planner.plan import Plan
from tux.planner.rules import RedirectRule, RewriteRule
from tux.planner.template import compile_match, fill
from tux.planner.view import View

Pieces: TypeAlias = dict[str, bytes]
"""What the places of a target stand for."""


class _Template:
    """The target of one route."""

    def __init__(self, rule: RedirectRule | RewriteRule) -> None:
        self.otherwise = rule.otherwise
        self._prefix = rule.prefix.rstrip(b"/")
        self._match = compile_match(rule.match)
        self.target = rule.target

    def pieces(self, path: bytes) -> Pieces | None:
        """None: the path is not one of those that are meant."""
        rest = path[len(self._prefix) :].removeprefix(b"/")
        found = self._match.fullmatch(rest)
        if found is None:
            return None
        captures = {str(number): text for number, text in enumerate(found.groups(b""), 1)}
        return {**captures, "path": path, "rest": rest}


class Redirect(_Template):
    """Answers for one route."""

    def __init__(self, rule: RedirectRule, errors: Errors) -> None:
        """ValueError: the rule cannot be compiled."""
        super().__init__(rule)
        self._status = rule.status
        self._has_query = "?" in rule.target
        self.errors = errors

    def plan(self, view: View, path: bytes, pieces: Pieces) -> Plan:
        """The answer to a request for a decoded path that is meant."""
        target = self.target
        if not view.host and "{host}" in target:
            return self.errors.plan(view, 400)
        location = fill(target, lambda name: _host(view.host) if name == "host" else _encode(pieces[name]))
        if target.startswith("/"):
            # What a wildcard stands for may be nothing; two slashes would begin with the name of another host.
            location = "/" + location.lstrip("/")
            if _path_of(location) == path:
                return self.errors.plan(view, 404)  # it would lead to itself for ever
        if not self._has_query and view.query is not None:
            before, mark, fragment = location.partition("#")
            location = before + "?" + encode_query(view.query) + mark + fragment
        return self.errors.plan(view, self._status, ("Location", location))


class Rewrite(_Template):
    """Paths of one route, and what they stand for."""

    def __init__(self, rule: RewriteRule, errors: Errors) -> None:
        """ValueError: the rule cannot be compiled."""
        super().__init__(rule)
        self.errors = errors

    def path(self, view: View, pieces: Pieces) -> bytes | None:
        """The path that a decoded path which is meant stands for; None: there can be none."""
        pieces = {**pieces, "host": _host(view.host).encode("latin-1")}
        filled = fill(self.target, lambda name: pieces[name].decode("utf-8", "surrogateescape")).encode(
            "utf-8", "surrogateescape"
        )
        segments = [segment for segment in filled.split(b"/") if segment]
        if b"." in segments or b".." in segments or b"\0" in filled:
            return None
        return b"/" + b"/".join(segments) + (b"/" if filled.endswith(b"/") and segments else b"")


def _host(host: str) -> str:
    name, colon, port = host.rpartition(":")
    is_port = colon and not port.strip("0123456789")  # it may be empty (RFC 3986 section 3.2.3)
    return name if is_port and (name.endswith("]") or ":" not in name) else host


def _path_of(location: str) -> bytes | None:
    """The decoded path of a reference that begins with a slash."""
    try:
        return decode_path(location.partition("#")[0].partition("?")[0])
    except TargetError:
        return None


def _encode(path: bytes) -> str:
    return "/".join([encode_segment(segment) for segment in path.split(b"/")])
