"""What a site or a route tries for a request, in which order: files, modules, an application, a forwarded server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from tux.config.app import App
from tux.config.module import Module, is_spec
from tux.config.site import TRY_ORDER, StepName
from tux.config.upstream import Upstream
from tux.errors import Problem

Place = tuple[str | int, ...]

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_SERVER = re.compile(r"unix:/?[^\0]+|http://(\[[0-9A-Fa-f:.%]+\]|[^\s/:@\[\]?#]+)(:\d{1,5})?/?")


class Tries(Protocol):
    """What sites and routes with files have in common."""

    @property
    def root(self) -> str | None: ...
    @property
    def module(self) -> str | None: ...
    @property
    def app(self) -> str | None: ...
    @property
    def forward(self) -> str | None: ...
    @property
    def tries(self) -> tuple[StepName, ...]: ...
    @property
    def error_page(self) -> Mapping[str, str]: ...


class Chain(NamedTuple):
    """What is tried, in this order. `source`: the site or route that names it."""

    steps: tuple[StepName, ...]
    source: Tries


def named(source: Tries) -> tuple[StepName, ...]:
    """What a site or route names, in the usual order."""
    values = {"static": source.root, "module": source.module, "app": source.app, "forward": source.forward}
    return tuple(step for step in TRY_ORDER if values[step] is not None)


def chain_of(site: Tries, route: Tries) -> Chain:
    """A route tries what it names itself. One that names nothing tries what the site does, or what it takes of that."""
    source = route if named(route) else site
    return Chain(route.tries or source.tries or named(source), source)


def check_tries(source: Tries, place: Place, site: Tries | None = None) -> Iterator[Problem]:
    """What is wrong with `try`. site: that of a route."""
    inherits = site is not None and not named(source)
    there = named(site) if site is not None and inherits else named(source)
    for i, step in enumerate(source.tries):
        key = "root" if step == "static" else step
        if step not in there:
            where = "in the site" if inherits else "beside it"
            yield Problem((*place, "try", i), f'"{step}" needs the key "{key}" {where}')
        elif step in source.tries[:i]:
            yield Problem((*place, "try", i), f'"{step}" is listed twice')
    # A folder may be there for the pages of errors alone.
    missing = [step for step in there if step not in source.tries and not (step == "static" and source.error_page)]
    if source.tries and missing and not inherits:
        yield Problem((*place, "try"), f'"{missing[0]}" is not listed, although it is configured')


class Names(Protocol):
    """What sites and routes can name: a `tux.config.schema.Config`."""

    @property
    def module(self) -> Mapping[str, Module]: ...
    @property
    def app(self) -> Mapping[str, App]: ...
    @property
    def upstream(self) -> Mapping[str, Upstream]: ...


def check_names(source: Tries, names: Names, place: Place) -> Iterator[Problem]:
    """Whether what `module`, `app` and `forward` name is there."""
    apps, upstreams = names.app, names.upstream
    if source.module is not None and source.module not in names.module and not is_spec(source.module):
        wanted = f'expected the name of a [module.NAME], "FILE.py", or a module of Python, got "{source.module}"'
        yield Problem((*place, "module"), wanted + _near(source.module, names.module))
    if source.app is not None and source.app not in apps and not is_module(source.app):
        wanted = f'expected the name of an [app.NAME], or "MODULE:ATTRIBUTE", got "{source.app}"'
        yield Problem((*place, "app"), wanted + _near(source.app, apps))
    if source.forward is not None and source.forward not in upstreams:
        message = server_problem(source.forward)
        if message:
            wanted = f'expected the name of an [upstream.NAME], or {message}, got "{source.forward}"'
            yield Problem((*place, "forward"), wanted + _near(source.forward, upstreams))


def is_module(text: str) -> bool:
    """Whether this is MODULE:ATTRIBUTE."""
    return _MODULE.fullmatch(text) is not None


def server_problem(text: str) -> str:
    """What was expected in place of this address of a server; "" when it is one."""
    if text.startswith("https://"):
        return "http:// (TLS to the servers behind is not supported)"
    if not _SERVER.fullmatch(text):
        return '"http://HOST:PORT" or "unix:/path"'
    port = text.rpartition(":")[2].rstrip("/")
    if text.startswith("http://") and port.isdigit() and not 0 < int(port) < 65536:
        return "a port between 1 and 65535"
    return ""


def _near(name: str, known: Iterable[str]) -> str:
    import difflib  # only errors need it

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""
