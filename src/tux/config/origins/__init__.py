"""What can answer a route: one file per origin, each listed here, in the order of the documentation.

An origin is a module with
    Route    a struct derived from `tux.config.site.Route` with the keys of this origin, among them `origin`
    ORIGIN   an `Origin` (base.py): its name, its keys, and its step from a route to a rule of the planner
(redirect.py has two of each).
"""

from __future__ import annotations

from tux.config.origins import cgi, deny, redirect, static
from tux.config.origins.base import Origin
from tux.config.site import Route

ORIGINS: tuple[Origin, ...] = (static.ORIGIN, cgi.ORIGIN, redirect.REDIRECT, redirect.REWRITE, deny.ORIGIN)
DEFAULT: Origin = static.ORIGIN


def pick(table: dict[str, object]) -> Origin | None:
    """The origin of a route's table: named by `origin`, else by a key of its own, else static. None: no such origin."""
    if "origin" in table:
        return next((origin for origin in ORIGINS if origin.name == table["origin"]), None)
    return next((origin for origin in ORIGINS if origin.key in table), DEFAULT)


def of(route: Route) -> Origin:
    """The origin that a decoded route belongs to."""
    return next(origin for origin in ORIGINS if type(route) is origin.route)
