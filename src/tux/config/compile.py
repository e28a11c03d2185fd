"""`Config` -> what a worker runs by: the routing table of the engine, the rules of the planner, limits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from tux._engine import LIMITS, RouteTable
from tux.config import check, origins
from tux.config.app import App
from tux.config.cgi import Cgi
from tux.config.module import Module
from tux.config.origins import chain
from tux.config.schema import Config, Limits
from tux.config.site import Route, Site, StepName
from tux.config.upstream import Upstream
from tux.planner.rules import ErrorRules, RedirectRule, RewriteRule, Routes, Rule, StaticRule
from tux.planner.template import EVERYTHING


class Step(NamedTuple):
    """One step of a route's chain."""

    kind: StepName
    number: int
    """Of the rule, of the application, of the upstream."""


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """Compiled once per start or reload; immutable."""

    roots: tuple[bytes, ...]
    """Served folders, absolute; the index is what rules call `root`."""
    table: RouteTable
    """Host and path -> index in `rules`."""
    rules: tuple[Rule, ...]
    apps: tuple[tuple[str, App | Module | Cgi], ...]
    """Applications and modules that some route names, with their names, and what runs scripts: to the engine they are
    the same."""
    upstreams: tuple[tuple[str, Upstream], ...]
    trusted: tuple[str, ...]
    """Peers whose word about the client is believed."""
    proxy_protocol: bool
    """They begin their connections with a header of that protocol."""
    shared: frozenset[int]
    """Rules beside which their route tries something else."""
    significant: tuple[str, ...]
    """Fields that rules look at beyond `tux._engine.SIGNIFICANT_BY_DEFAULT`."""
    pages: tuple[ErrorRules, ...]
    """How errors are answered that the engine finds by itself, and the planner without a rule: by the numbers that
    `table` gives for sites, and knows of routes. The first is for where no site is known."""
    limits: dict[str, int]
    """Limits that differ from `tux._engine.LIMITS`, by the names of the engine."""

    @property
    def routes(self) -> Routes:
        """What the process that starts scripts finds them by."""
        return Routes(self.table, self.rules, self.roots, self.shared)


def compile_config(config: Config) -> Compiled:
    """Compile a checked configuration. Pure: no look at the file system."""
    table = RouteTable()
    roots: list[bytes] = []
    rules: list[Rule] = []
    apps: list[tuple[str, App | Module | Cgi]] = []
    upstreams: list[tuple[str, Upstream]] = []
    shared: set[int] = set()
    pages = {ErrorRules(): 0}

    def pages_index(errors: ErrorRules) -> int:
        return pages.setdefault(errors, len(pages))

    def app_index(name: str, table: Mapping[str, App | Module | Cgi]) -> int:
        entry = (name, table[name])
        if entry not in apps:
            apps.append(entry)
        return apps.index(entry)

    def scripts() -> Step:
        """The process that runs scripts."""
        return Step("app", app_index("cgi", {"cgi": config.cgi}))

    def upstream_index(name: str) -> int:
        entry = (name, config.upstream[name] if name in config.upstream else Upstream(servers=(name,)))
        if entry not in upstreams:
            upstreams.append(entry)
        return upstreams.index(entry)

    def chain_of(site: Site, route: Route) -> tuple[Step, ...]:
        if isinstance(route, origins.cgi.Route):
            return (scripts(),)
        if not isinstance(route, origins.static.Route):
            return ()
        steps, source = chain.chain_of(site, route)
        programs = "static" in steps and bool(site.tux.cgi)
        if steps == ("static",) and not programs:
            return ()
        indices = {
            "static": lambda: len(rules),
            "module": lambda: app_index(source.module or "", config.module),
            "app": lambda: app_index(source.app or "", config.app),
            "forward": lambda: upstream_index(source.forward or ""),
        }
        compiled = [Step(step, indices[step]()) for step in steps]
        if programs:
            compiled.insert(steps.index("static") + 1, scripts())
        return tuple(compiled)

    def root_index(path: str) -> int:
        root = os.fsencode(path)
        if root not in roots:
            roots.append(root)
        return roots.index(root)

    def rule_of(site: Site, route: Route) -> Rule:
        """The rule of a route. What a redirect does not match is what there is without it, if the planner says so."""
        rule = origins.of(route).compile(site, route, root_index)
        if isinstance(rule, RedirectRule | RewriteRule) and rule.match != EVERYTHING:
            other = covering(with_default_route(site, route).route, route)
            if other is not None and not chain_of(site, other):
                otherwise = rule_of(site, other)  # ends: its path is shorter
                rules.append(otherwise)
                rule = msgspec.structs.replace(rule, otherwise=len(rules) - 1)
        return rule

    for site in config.site:
        number = table.add_site([check.host_key(host) for host in site.hosts] or [""])
        table.set_pages(number, pages_index(origins.static.errors_of(site, root_index)))
        for route in with_default_route(site).route:
            steps = chain_of(site, route)
            rule = rule_of(site, route)
            files = rule if isinstance(rule, StaticRule) else None
            table.add_route(
                number,
                os.fsencode(route.path),
                len(rules),
                steps,
                # The engine looks for the file of a path, and knows of no other names for it, and of no hosts.
                root=-1 if files is None or files.clean_urls or files.hosts else files.root,
                mount_len=0 if files is None else len(files.mount),
                pages=pages_index(rule.errors),
            )
            if steps:
                shared.add(len(rules))
            rules.append(rule)
    for folder in (*(app.sendfile_root for _, app in apps), *(upstream.sendfile_root for _, upstream in upstreams)):
        if folder is not None:
            root_index(folder)
    return Compiled(
        roots=tuple(roots),
        table=table,
        rules=tuple(rules),
        apps=tuple(apps),
        upstreams=tuple(upstreams),
        trusted=config.server.trusted,
        proxy_protocol=config.server.proxy_protocol,
        shared=frozenset(shared),
        significant=(),
        pages=tuple(pages),
        limits=engine_limits(config.server.limits),
    )


def covering(routes: Sequence[Route], route: Route) -> Route | None:
    """The route that would be that of a route's path without it."""
    others = [
        other
        for other in routes
        if other is not route and (other.path == route.path or route.path.startswith(other.path.rstrip("/") + "/"))
    ]
    return max(others, key=lambda other: len(other.path), default=None)


def with_default_route(site: Site, but: Route | None = None) -> Site:
    """The site with the route that it has unsaid: all that it tries, unless a route for "/" says otherwise.
    but: a route that does not count."""
    if not chain.named(site) or any(route.path == "/" and route is not but for route in site.route):
        return site
    return msgspec.structs.replace(site, route=(*site.route, origins.static.Route(path="/")))


def engine_limits(limits: Limits) -> dict[str, int]:
    """The limits in the units and names of the engine: "head_timeout" in seconds is "head_timeout_ms". Only those that
    differ from the engine's own."""
    values: dict[str, int] = {}
    for name, value in msgspec.structs.asdict(limits).items():
        if name.endswith("_timeout"):
            values[f"{name}_ms"] = round(value * 1000)
        else:
            values[name] = int(value)
    return {name: value for name, value in values.items() if LIMITS[name] != value}
