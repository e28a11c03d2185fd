"""What an origin brings to the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tux.config.site import Route, Site
from tux.errors import Problem
from tux.planner.rules import Rule

Place = tuple[str | int, ...]


class Origin(NamedTuple):
    """One kind of answer."""

    name: str
    """Value of the key `origin`."""
    key: str | None
    """A key that only routes of this origin have, and that names it in place of `origin`. None: there is none."""
    route: type[Route]
    """The struct of its routes."""
    check: Callable[[Site, Route, Place], Iterator[Problem]]
    """What is wrong with a route at a place, beyond the types of its values."""
    paths: tuple[str, ...]
    """Keys that are paths in the file system: made absolute when a file is loaded."""
    compile: Callable[[Site, Route, Callable[[str], int]], Rule]
    """The planner's rule for a route. The function gives the index of a served folder."""
