"""Roots with a place for the name of the host: `/srv/www/{host}/public`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tux.config.site import Site
from tux.errors import Problem, shown
from tux.planner.hosts import MAX_HOST_BYTES, PLACE, name_of
from tux.planner.rules import HostRule

Place = tuple[str | int, ...]

MAX_TEMPLATE_BYTES = 1024
"""With the longest names filled in: a quarter of what Linux looks up (PATH_MAX), so that paths of files have room."""

_STRIP = re.compile(r"(?P<start>[^.*]+(\.[^.*]+)*)\.|(?P<end>(\.[^.*]+)+)|(\.\*)+")


class Root(NamedTuple):
    """Where the files of a site or a route are."""

    number: int
    """Of the root, which is the part of the path without places."""
    hosts: HostRule | None


def has_place(root: str | None) -> bool:
    """Whether the path of a root depends on the host."""
    return root is not None and "{host" in root


def compiled(root: str, site: Site, root_index: Callable[[str], int]) -> Root:
    """The rule of a root of a site, or of one of its routes."""
    if not has_place(root):
        return Root(root_index(root), None)
    fixed, template = _split(root)
    return Root(root_index(fixed or "/"), HostRule(template, tuple(map(str.lower, site.host_strip)), site.host_default))


def problems(root: str | None, place: Place) -> Iterator[Problem]:
    """What is wrong with the root of a site or a route."""
    if root is None or not has_place(root):
        return
    place = (*place, "root")
    _, template = _split(root)
    if re.search(r"\{host", PLACE.sub("", template)):
        yield Problem(place, f"expected {{host}}, or {{host:N}} for its first N characters, got {shown(root)}")
    elif "{host}" not in template:
        yield Problem(
            place, f"{{host}} is missing: names with the same beginning are different hosts, in {shown(root)}"
        )
    elif {"", ".", ".."} & set(template.rstrip("/").split("/")):
        yield Problem(place, f"empty or dot segments behind the first {{host}}, in {shown(root)}")
    elif len(PLACE.sub("x" * MAX_HOST_BYTES, template).encode("utf-8", "surrogateescape")) > MAX_TEMPLATE_BYTES:
        yield Problem(place, f"over {MAX_TEMPLATE_BYTES} bytes with a name of {MAX_HOST_BYTES}, in {shown(root)}")


def site_problems(site: Site, place: Place) -> Iterator[Problem]:
    """What is wrong with the keys of a site that are about such roots."""
    roots = (site.root, *(getattr(route, "root", None) for route in site.route))
    if not any(has_place(root) for root in roots):
        for key in ("host_strip", "host_default"):
            if getattr(site, key):
                yield Problem((*place, key), 'needs a "root" with {host} in it')
    for i, part in enumerate(site.host_strip):
        found = _STRIP.fullmatch(part)
        name = "" if found is None else (found["start"] or found["end"] or ".x").removeprefix(".").lower()
        if found is None or not name_of(f"{name}.x"):
            yield Problem(
                (*place, "host_strip", i),
                f'expected a beginning ("www."), an end (".example.org") or ".*", got {shown(part)}',
            )
    if site.host_default and name_of(site.host_default) != site.host_default:
        yield Problem((*place, "host_default"), f"expected a name as that of a host, got {shown(site.host_default)}")


def _split(root: str) -> tuple[str, str]:
    """The folder that all hosts have in common, and the rest of the path."""
    slash = root.rfind("/", 0, root.index("{host"))
    return root[: max(slash, 0)], root[slash + 1 :].rstrip("/")
