"""Which program a request is for: the route that the engine has found, and the walk from its folder to a file."""

from __future__ import annotations

from typing import Protocol

from tux._engine import DENIED, ERROR, FILE, FOLDER, Found
from tux.apps.cgi.environ import Script
from tux.apps.port import Request
from tux.http.target import TargetError, decode_path
from tux.planner.hosts import Hosts
from tux.planner.rules import CgiRule, Routes, Rule, StaticRule

_EXECUTABLE = 0o111


class Roots(Protocol):
    """The folders (`tux._engine.Roots`)."""

    def look(self, root: int, path: bytes, /) -> Found: ...


class NotFoundError(Exception):
    """There is no program to be run; `status` is the answer. The text, if there is one, is for the error log."""

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(reason)
        self.status = status


class Finder:
    """Finds programs."""

    def __init__(self, routes: Routes, roots: Roots) -> None:
        self._routes = routes
        self._roots = roots

    def route(self, request: Request) -> tuple[int, Rule | None, bytes]:
        """Number and rule of the request's route, and its decoded path. NotFoundError: it is no path."""
        try:
            path = decode_path(request.path.decode("latin-1"))
        except TargetError as error:
            raise NotFoundError(error.status) from None
        number = self._routes.table.match(_host_of(request), path)
        return number, None if number < 0 else self._routes.rules[number], path

    def has_only_files(self, number: int, rule: Rule | None) -> bool:
        """Whether nothing but files can answer the requests of this route."""
        return isinstance(rule, StaticRule) and number not in self._routes.shared

    def find(self, request: Request) -> Script:
        """The program for a request. NotFoundError."""
        _, rule, path = self.route(request)
        if not isinstance(rule, CgiRule):
            raise NotFoundError(404)
        return self.walk(rule, path, _host_of(request))

    def walk(self, rule: CgiRule, path: bytes, host: str) -> Script:
        """The program that a decoded path names: its first segments that lead to a file. NotFoundError."""
        relative = path[len(rule.mount) :]
        if not path.startswith(rule.mount) or relative[:1] != b"/":
            raise NotFoundError(404)
        look = self._roots.look
        end = 0
        while True:  # ends: each round goes one segment on
            start = end + 1
            end = relative.find(b"/", start)
            if end < 0:
                end = len(relative)
            if relative[start : start + 1] in {b"", b"."}:  # a folder; a hidden name
                raise NotFoundError(404)
            found = look(rule.root, relative[1:end])
            if found.kind == FILE:
                break
            if found.kind != FOLDER or end == len(relative):
                if found.kind == ERROR:
                    raise NotFoundError(503, f"cannot look at {found.path!a}: errno {found.error}")
                raise NotFoundError(403 if found.kind == DENIED else 404)
        full = self._routes.roots[rule.root].rstrip(b"/") + relative[:end]
        if not found.mode & _EXECUTABLE:
            raise NotFoundError(403, f"{full.decode('utf-8', 'backslashreplace')!a} is not executable")
        return Script(
            path=full,
            folder=full.rpartition(b"/")[0],
            name=rule.mount + relative[:end],
            info=relative[end:],
            document_root=self._document_root(rule, host),
        )

    def _document_root(self, rule: CgiRule, host: str) -> bytes:
        """The folder of the site, or of this host in it; b"": there is none."""
        number = rule.document_root
        if number < 0:
            return b""
        root = self._routes.roots[number].rstrip(b"/")
        if rule.hosts is None:
            return root
        folder = Hosts(rule.hosts).folder(host, lambda path: self._roots.look(number, path))
        is_there = folder and self._roots.look(number, folder).kind == FOLDER
        return root + b"/" + folder if is_there else b""


def _host_of(request: Request) -> str:
    """The Host of a request, in lower case. The first is that of the target, if the target has one."""
    return next((value for name, value in request.headers if name == b"host"), b"").decode("latin-1").lower()
