"""Origins `redirect` and `rewrite`: paths that lead elsewhere, and paths that stand for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal, cast
from urllib.parse import unquote

from tux.config import site as sites
from tux.config.doc import Doc
from tux.config.origins.base import Origin, Place
from tux.config.origins.static import errors_of
from tux.config.site import Site
from tux.errors import Problem
from tux.planner import template
from tux.planner.rules import RedirectRule, RewriteRule, Rule

_MATCH = """Glob for what follows `path`: `*` stands for any part of a name, `**` for any number of folders. What does
not match is answered as if this route were not there, as long as that takes no application or forwarded server; else it
is 404. `{1}` to `{9}` of the target are what the wildcards stand for."""


class Redirect(sites.Route, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another address: the request is answered with where to ask instead."""

    origin: Annotated[Literal["redirect"], Doc("Names this origin; may be left out.")] = "redirect"
    redirect: Annotated[
        str,
        Doc(
            """Where to: `/new/{rest}`, `https://www.example.org{path}`. `{path}` is the whole path, `{rest}` what
            follows `path` of the route, `{host}` the host that was asked for, without its port. A query goes along,
            unless this has one.""",
            min_length=1,
        ),
    ]
    match: Annotated[str, Doc(_MATCH, min_length=1)] = "**"
    status: Annotated[
        Literal[301, 302, 303, 307, 308],
        Doc("301 and 308 are for good, and kept by browsers; 307 and 308 keep the method."),
    ] = 301


class Rewrite(sites.Route, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another name: the request is answered with the file of another path of this site."""

    origin: Annotated[Literal["rewrite"], Doc("Names this origin; may be left out.")] = "rewrite"
    rewrite: Annotated[
        str,
        Doc(
            """The decoded path that is meant: `/pages/{rest}.html`; places as in `redirect`. It must be one of a route
            with files, and is looked up once.""",
            min_length=1,
        ),
    ]
    match: Annotated[str, Doc(_MATCH, min_length=1)] = "**"


def _problems(match: str, target: str, key: str, place: Place) -> Iterator[Problem]:
    captures = template.MAX_CAPTURES
    try:
        captures = template.compile_match(match).groups
    except ValueError as error:
        yield Problem((*place, "match"), str(error))
    try:
        template.check_target(target, captures, absolute=key == "redirect")
    except ValueError as error:
        yield Problem((*place, key), str(error))


def _check_redirect(site: Site, route: sites.Route, place: Place) -> Iterator[Problem]:
    route = cast(Redirect, route)
    wrong = [*_problems(route.match, route.redirect, "redirect", place)]
    yield from wrong
    if not wrong and _leads_to_itself(site, route):
        yield Problem((*place, "redirect"), "leads to itself, for ever")


def _leads_to_itself(site: Site, route: Redirect) -> bool:
    """Whether a redirect comes back to its route by others of the site, as far as their targets tell: those with places
    for parts of the path are not followed."""
    current = route
    for _ in site.route:
        path = current.redirect.partition("#")[0].partition("?")[0]
        if not path.startswith("/") or "{" in path:
            return False
        decoded = unquote(path, errors="surrogateescape")
        found = max(
            (other for other in site.route if _covers(other.path, decoded)), key=lambda at: len(at.path), default=None
        )
        if not isinstance(found, Redirect) or not _matches(found, decoded):
            return False
        if found is route:
            return True
        current = found
    return False


def _covers(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")


def _matches(route: Redirect, path: str) -> bool:
    try:
        match = template.compile_match(route.match)
    except ValueError:
        return False  # that is told at its own place
    rest = path[len(route.path.rstrip("/")) :].removeprefix("/")
    return match.fullmatch(rest.encode("utf-8", "surrogateescape")) is not None


def _check_rewrite(_site: Site, route: sites.Route, place: Place) -> Iterator[Problem]:
    route = cast(Rewrite, route)
    yield from _problems(route.match, route.rewrite, "rewrite", place)


def _compile_redirect(site: Site, route: sites.Route, root_index: Callable[[str], int]) -> Rule:
    route = cast(Redirect, route)
    return RedirectRule(
        prefix=route.path.encode(),
        target=route.redirect,
        match=route.match,
        status=route.status,
        errors=errors_of(site, root_index),
    )


def _compile_rewrite(site: Site, route: sites.Route, root_index: Callable[[str], int]) -> Rule:
    route = cast(Rewrite, route)
    return RewriteRule(
        prefix=route.path.encode(),
        target=route.rewrite,
        match=route.match,
        errors=errors_of(site, root_index),
    )


REDIRECT = Origin(
    name="redirect", key="redirect", route=Redirect, check=_check_redirect, paths=(), compile=_compile_redirect
)
REWRITE = Origin(name="rewrite", key="rewrite", route=Rewrite, check=_check_rewrite, paths=(), compile=_compile_rewrite)
