"""Origin `deny`: every request is refused with 403."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from tux.config import site as sites
from tux.config.doc import Doc
from tux.config.origins.base import Origin, Place
from tux.config.origins.static import errors_of
from tux.config.site import Site
from tux.errors import Problem
from tux.planner.rules import DenyRule, Rule


class Route(sites.Route, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing: every request is refused with 403."""

    origin: Annotated[Literal["deny"], Doc("Names this origin; `deny = true` does the same.")] = "deny"
    deny: Annotated[Literal[True], Doc("Names this origin.")] = True


def _check(_site: Site, _route: sites.Route, _place: Place) -> Iterator[Problem]:
    yield from ()


def _compile(site: Site, _route: sites.Route, root_index: Callable[[str], int]) -> Rule:
    return DenyRule(errors=errors_of(site, root_index))


ORIGIN = Origin(name="deny", key="deny", route=Route, check=_check, paths=(), compile=_compile)
