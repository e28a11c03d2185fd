"""Roots with a place for the name of the host: `/srv/www/{host}/public`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tux.config.site import Site
from tux.errors import Problem, shown
from tux.planner.hosts import MAX_HOST_BYTES, PLACE, folder_of, name_of
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


def folders(root: str) -> Iterator[tuple[str, str]]:
    """The folders that there are: the name that `{host}` stands for, and the path. OSError: one cannot be read."""
    fixed, template = _split(root)
    for path, name in _below(fixed or "/", template.split("/")):
        at = os.path.join(fixed or "/", path)
        if name_of(name) == name and os.fsdecode(folder_of(template, name)) == path and os.path.isdir(at):
            yield name, at


def _below(at: str, segments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Paths below a folder that are as the segments of a template; what {host} is in them, "" when it is not."""
    first, rest = segments[0], segments[1:]
    names = [first]
    if has_place(first):
        with os.scandir(at) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    pattern = _pattern(first)
    for entry in names:
        found = pattern.fullmatch(entry)
        if found is None or not os.path.isdir(os.path.join(at, entry)):
            continue
        name = found.groupdict().get("host", "")
        for path, further in _below(os.path.join(at, entry), rest) if rest else [("", "")]:
            yield os.path.join(entry, path) if path else entry, name or further


def _pattern(segment: str) -> re.Pattern[str]:
    """What matches a segment of a template, with the first whole name as a group."""
    out, end, whole = "", 0, False
    for place in PLACE.finditer(segment):
        out += re.escape(segment[end : place.start()])
        out += "(?P<host>.+)" if not place[1] and not whole else ".+"
        whole = whole or not place[1]
        end = place.end()
    return re.compile(out + re.escape(segment[end:]), re.DOTALL)


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
