"""What a configuration says about warming its server: where it listens, and which files it has."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from tux.ahead.sources import Wanted, from_folder
from tux.ahead.warm import Address
from tux.config import hosts, listen, origins
from tux.config.schema import Config
from tux.config.site import Route, Site

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


def files_of(config: Config) -> Iterator[Wanted]:
    """The addresses of all files of all sites. A site or a route with `{host}` in its root, and one for wildcards only,
    is left out: it has no list of names. OSError: a folder cannot be read."""
    for site in config.site:
        names = [host for host in site.hosts if not host.startswith("*")] if site.hosts else [""]
        for name in names:
            yield from _files(site, name)


def _files(site: Site, host: str) -> Iterator[Wanted]:
    if site.root is not None and not hosts.has_place(site.root):
        for wanted in from_folder(site.root, host=host, index=site.index, clean_urls=site.clean_urls):
            route = _route_of(site, wanted)
            if route is None or (_has_files(route) and getattr(route, "root", None) is None):
                yield wanted
    for route in site.route:
        if not isinstance(route, origins.static.Route) or not _has_files(route) or route.root is None:
            continue
        index = site.index if route.index is None else route.index
        clean = site.clean_urls if route.clean_urls is None else route.clean_urls
        for wanted in from_folder(route.root, prefix=route.path, host=host, index=index, clean_urls=clean):
            if _route_of(site, wanted) is route:
                yield wanted


def _has_files(route: Route) -> bool:
    return isinstance(route, origins.static.Route) and not route.internal and not hosts.has_place(route.root)


def _route_of(site: Site, wanted: Wanted) -> Route | None:
    """The route that an address belongs to."""
    path = unquote(wanted.target, errors="surrogateescape")
    matching = [r for r in site.route if path == r.path or path.startswith(r.path.rstrip("/") + "/")]
    return max(matching, key=lambda route: len(route.path), default=None)


def _address(found: listen.Listen) -> Address:
    return Address(_EVERYWHERE.get(found.host, found.host), found.port, found.path)
