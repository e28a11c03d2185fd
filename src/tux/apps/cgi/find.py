"""Which program a request is for: the route that the engine has found, and the walk from its folder to a file."""

from __future__ import annotations

from typing import Protocol

from tux._engine import DENIED, ERROR, FILE, FOLDER, Found
from tux.apps.cgi.environ import Script
from tux.apps.port import Request
from tux.http import media
from tux.http.target import TargetError, decode_path
from tux.planner.hosts import Hosts
from tux.planner.looks import MARK
from tux.planner.rules import CgiRule, HostRule, Routes, Rule, StaticRule

_EXECUTABLE = 0o111


class Roots(Protocol):
    """The folders (`tux._engine.Roots`)."""

    def look(self, root: int, path: bytes, /) -> Found: ...


class NotFoundError(Exception):
    """There is no program to be run; `status` is the answer. The text, if there is one, is for the error log."""

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(reason)
        self.status = status


class DeclinedError(Exception):
    """There is no program among the files of a site: what the site tries next has its turn."""


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
        """The program for a request. NotFoundError, DeclinedError."""
        _, rule, path = self.route(request)
        if isinstance(rule, CgiRule):
            documents = self._folder(rule.document_root, rule.hosts, _host_of(request))
            return self._walk(rule.root, b"", rule.mount, path, self._path_of(rule.document_root, documents))
        if not isinstance(rule, StaticRule) or not rule.programs:
            raise NotFoundError(404)
        below = self._folder(rule.root, rule.hosts, _host_of(request))
        if below is None:
            raise DeclinedError
        try:
            script = self._walk(rule.root, below, rule.mount, path, self._path_of(rule.root, below), rule.programs)
        except NotFoundError as error:
            if error.status == 404 or (error.status == 403 and rule.refused_next):
                raise DeclinedError from None
            raise
        return script

    def _walk(
        self,
        root: int,
        below: bytes,
        mount: bytes,
        path: bytes,
        document_root: bytes,
        extensions: frozenset[bytes] | None = None,
    ) -> Script:
        """The program that a decoded path names below a folder in a root: its first segments that lead to a file, which
        must have one of these extensions. NotFoundError."""
        relative = path[len(mount) :]
        if not path.startswith(mount) or relative[:1] != b"/":
            raise NotFoundError(404)
        look = self._roots.look
        before = below + MARK if below else b""
        end = 0
        while True:  # ends: each round goes one segment on
            start = end + 1
            end = relative.find(b"/", start)
            if end < 0:
                end = len(relative)
            if relative[start : start + 1] in {b"", b"."}:  # a folder; a hidden name
                raise NotFoundError(404)
            found = look(root, before + relative[1:end])
            if found.kind == FILE:
                break
            if found.kind != FOLDER or end == len(relative):
                if found.kind == ERROR:
                    raise NotFoundError(503, f"cannot look at {found.path!a}: errno {found.error}")
                raise NotFoundError(403 if found.kind == DENIED else 404)
        if extensions is not None and media.extension(relative[:end]) not in extensions:
            raise NotFoundError(404)
        full = self._path_of(root, below) + relative[:end]
        if not found.mode & _EXECUTABLE:
            raise NotFoundError(403, f"{full.decode('utf-8', 'backslashreplace')!a} is not executable")
        return Script(
            path=full,
            folder=full.rpartition(b"/")[0],
            name=mount + relative[:end],
            info=relative[end:],
            document_root=document_root,
        )

    def _folder(self, root: int, hosts: HostRule | None, host: str) -> bytes | None:
        """The folder of this host, below the root: b"" where all have the same one. None: there is none."""
        if root < 0 or hosts is None:
            return None if root < 0 else b""
        folder = Hosts(hosts).folder(host, lambda path: self._roots.look(root, path))
        return folder if folder and self._roots.look(root, folder).kind == FOLDER else None

    def _path_of(self, root: int, folder: bytes | None) -> bytes:
        """Its path, without a slash at the end; b"": there is none."""
        if folder is None:
            return b""
        return self._routes.roots[root].rstrip(b"/") + (b"/" + folder if folder else b"")


def _host_of(request: Request) -> str:
    """The Host of a request, in lower case. The first is that of the target, if the target has one."""
    return next((value for name, value in request.headers if name == b"host"), b"").decode("latin-1").lower()
