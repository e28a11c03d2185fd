"""What a configuration says about warming its server: where it listens, and which files it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

from tux._engine import RouteTable
from tux.ahead.sources import Wanted, from_folder
from tux.ahead.warm import Address
from tux.config import check, hosts, listen, origins
from tux.config.schema import Config
from tux.config.site import Route, Site
from tux.planner.hosts import name_of

MAX_HOSTS = 10_000
"""Folders of hosts that are looked through, for each root with `{host}`: some seconds of work."""

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it is asked there, not bound
"""Addresses to listen at -> those that reach this machine."""


def parse_address(text: str) -> Address:
    """`http://HOST:PORT`, `HOST:PORT`, `unix:/path`. ValueError with a message for the user."""
    if text.startswith("https://"):
        raise ValueError("expected http://: name the address that Tux itself listens at")
    bare = text.removeprefix("http://").rstrip("/")
    if "/" in bare and not bare.startswith("unix:"):
        raise ValueError("expected an address without a path")
    if text.startswith("http://") and ":" not in bare.rpartition("]")[2]:
        bare += ":80"
    return _address(listen.parse(bare))


def address_of(config: Config) -> Address:
    """The first address that the server listens at and that is known. ValueError: there is none."""
    for text in config.server.listen:
        found = listen.parse(text)
        if found.kind == "unix" or (found.kind == "tcp" and found.port):
            return _address(found)
    raise ValueError("none of its addresses is known before the start; give the URL, too")


def files_of(config: Config, skip: Callable[[str], None]) -> Iterator[Wanted]:
    """The addresses of all files of all sites. skip: is told what is left out. OSError: a folder cannot be read."""
    table = RouteTable()
    for number, site in enumerate(config.site):
        table.add_site([check.host_key(host) for host in site.hosts] or [""])
        table.add_route(number, b"/", number)
    for number, site in enumerate(config.site):
        said: set[str] = set()
        leads = partial(_leads, table, number)
        for place in _places(site):
            for host, folder in _folders(place, site, leads, said.add):
                for wanted in from_folder(
                    folder, prefix=place.prefix, host=host, index=place.indexes, clean_urls=place.clean_urls
                ):
                    if _place_of(site, wanted) is place.route:
                        yield wanted
        for text in sorted(said):
            skip(f"site {', '.join(site.hosts) or 'without hosts'}: {text}")


def _leads(table: RouteTable, site: int, host: str) -> bool:
    return table.match(host, b"/") == site


class _Place(NamedTuple):
    """Where files are, and which addresses they have."""

    route: Route | None
    """None: of the site, where no route has files of its own."""
    root: str
    prefix: str
    indexes: Sequence[str]
    clean_urls: bool


def _places(site: Site) -> Iterator[_Place]:
    if site.root is not None:
        yield _Place(None, site.root, "/", site.index, site.clean_urls)
    for route in site.route:
        if isinstance(route, origins.static.Route) and route.root is not None and not route.internal:
            index = site.index if route.index is None else route.index
            clean_urls = site.clean_urls if route.clean_urls is None else route.clean_urls
            yield _Place(route, route.root, route.path, index, clean_urls)


def _folders(
    place: _Place, site: Site, leads: Callable[[str], bool], skip: Callable[[str], None]
) -> Iterator[tuple[str, str]]:
    """The hosts of a place, and the folder of each. leads: whether requests with a Host come to the site."""
    if not hosts.has_place(place.root):
        names = [host for host in site.hosts if not host.startswith("*")]
        if site.hosts and not names:
            skip("it has only wildcards, so which names clients use is not known")
        yield from ((name, place.root) for name in (names if site.hosts else [""]))
        return
    for number, (name, folder) in enumerate(hosts.folders(place.root)):
        if number == MAX_HOSTS:
            skip(f"only the first {MAX_HOSTS:,} folders of hosts in {place.root} are asked for")
            return
        ends = (end.removeprefix("*") for end in (*site.host_strip, *site.hosts))
        tried = (name, *(name + end for end in ends if end.startswith(".") and "*" not in end))
        host = next((one for one in tried if leads(one) and name_of(one, site.host_strip) == name), None)
        if host is None:
            skip(f"no Host is known that leads to {folder}")
        else:
            yield host, folder


def _place_of(site: Site, wanted: Wanted) -> Route | None:
    """The route that an address belongs to, if that has files of its own, or is none of the site's files."""
    path = unquote(wanted.target, errors="surrogateescape")
    matching = [r for r in site.route if path == r.path or path.startswith(r.path.rstrip("/") + "/")]
    found = max(matching, key=lambda route: len(route.path), default=None)
    if isinstance(found, origins.static.Route) and found.root is None and not found.internal:
        return None
    return found


def _address(found: listen.Listen) -> Address:
    return Address(_EVERYWHERE.get(found.host, found.host), found.port, found.path)
