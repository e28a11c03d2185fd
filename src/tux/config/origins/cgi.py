"""Origin `cgi`: programs in a folder, one of which is started for each request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal, cast

from tux.config import hosts
from tux.config import site as sites
from tux.config.doc import Doc
from tux.config.origins.base import Origin, Place
from tux.config.origins.static import errors_of
from tux.config.site import Site
from tux.errors import Problem
from tux.planner.rules import CgiRule, Rule


class Route(sites.Route, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Programs: what follows `path` names an executable file in a folder, which is run for the request (CGI/1.1,
    RFC 3875). `[cgi]` has the bounds."""

    origin: Annotated[Literal["cgi"], Doc("Names this origin; may be left out.")] = "cgi"
    cgi: Annotated[
        str,
        Doc(
            """The folder with the programs: with `path = "/cgi-bin/"` and `cgi = "./cgi-bin"`, `/cgi-bin/report/2026`
            is `./cgi-bin/report` with the PATH_INFO `/2026`. Nothing in this folder is ever sent as a file, whatever
            route it is reached by.""",
            min_length=1,
        ),
    ]


def _check(_site: Site, _route: sites.Route, _place: Place) -> Iterator[Problem]:
    yield from ()


def _compile(site: Site, route: sites.Route, root_index: Callable[[str], int]) -> Rule:
    route = cast(Route, route)
    errors = errors_of(site, root_index)
    documents = hosts.Root(-1, None) if site.root is None else hosts.compiled(site.root, site, root_index)
    return CgiRule(
        errors=errors,
        root=root_index(route.cgi),
        mount=route.path.encode().rstrip(b"/"),
        document_root=documents.number,
        hosts=documents.hosts,
    )


ORIGIN = Origin(name="cgi", key="cgi", route=Route, check=_check, paths=("cgi",), compile=_compile)
