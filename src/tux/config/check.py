"""Rules that concern more than the type of one value. Pure: which folders there are is looked at by the start."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping

from tux.config import hosts, listen, module, origins, pages, policy
from tux.config.origins import chain
from tux.config.origins.static import check_shared
from tux.config.processes import Processes
from tux.config.schema import Config, Kernel, Server
from tux.config.site import Site
from tux.errors import Problem, shown

Place = tuple[str | int, ...]

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
"""netdevice(7): at most 15 bytes, no slash, no white space; a colon would be an alias."""
_HOST_VALUE = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~-]{1,249})(:[0-9]{1,5})?", re.ASCII)
"""Of Host, as the engine sends it; at most 255 bytes."""

MAX_WEIGHT = 1000
"""Of a server in an upstream: finer shares make no sense."""

MAX_TRUSTED = 1024
"""Addresses and networks, as TUX_MAX_NETWORKS of the engine."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_TARGET = re.compile(r"/[!-\"$-~]*", re.ASCII)
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*|\[[0-9a-f:.]+\]", re.ASCII)


def host_key(host: str) -> str:
    """The form of a host name in which names are compared: lower case, without the dot at its end."""
    return host.lower().removesuffix(".")


def problems(config: Config) -> list[Problem]:
    """All that is wrong in a decoded configuration, without a look at the file system."""
    return [
        *_server(config.server),
        *_kernel(config.kernel),
        *_modules(config),
        *_apps(config),
        *_environment(config.cgi.env, ("cgi", "env")),
        *_upstreams(config),
        *_sites(config),
    ]


def _server(server: Server) -> Iterator[Problem]:
    seen: set[listen.Listen] = set()
    for i, text in enumerate(server.listen):
        place = ("server", "listen", i)
        try:
            address = listen.parse(text)
        except ValueError as error:
            yield Problem(place, f"{error}, got {shown(text)}")
            continue
        if address in seen and (address.kind != "tcp" or address.port != 0):
            yield Problem(place, f"{shown(text)} is listed twice")
        seen.add(address)
    for i, text in enumerate(server.trusted):
        if text != "unix" and not _is_network(text):
            yield Problem(("server", "trusted", i), f'expected an address, a network or "unix", got {shown(text)}')
    if len(server.trusted) > MAX_TRUSTED:
        yield Problem(("server", "trusted"), f"expected at most {MAX_TRUSTED}, got {len(server.trusted)}")
    if server.proxy_protocol and not server.trusted:
        yield Problem(("server", "proxy_protocol"), 'needs "trusted": the proxies whose word is taken')
    if server.limits.target_bytes > server.limits.head_bytes:
        yield Problem(
            ("server", "limits", "target_bytes"), f"expected at most head_bytes, which is {server.limits.head_bytes}"
        )


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _hint(module: str) -> str:
    """What was perhaps meant, where it should be the name of a module."""
    name, _, attribute = module.partition(":")
    if attribute.endswith("()"):
        return f'; for a function that makes it: "{module[:-2]}", with --factory'
    if "/" in name or name.endswith(".py"):
        dotted = name.removesuffix(".py").strip("./").replace("/", ".")
        meant = f"{dotted}:{attribute}" if attribute else dotted
        return f'; perhaps "{meant}"' if chain.is_module(f"{dotted}:{attribute or 'app'}") else ""
    return ""


def _processes(group: Processes, place: Place) -> Iterator[Problem]:
    if group.max_requests_jitter and not group.max_requests:
        yield Problem((*place, "max_requests_jitter"), 'needs "max_requests"')
    yield from _environment(group.env, (*place, "env"))


def _environment(env: Mapping[str, str], place: Place) -> Iterator[Problem]:
    for key, value in env.items():
        if not key or "=" in key or "\0" in key + value:
            yield Problem((*place, key), "not possible as an environment variable")


def _modules(config: Config) -> Iterator[Problem]:
    for name, group in config.module.items():
        place: Place = ("module", name)
        yield from _name(name, place)
        if not group.modules and not group.paths:
            yield Problem(place, '"modules" or "paths" is missing')
        for i, spec in enumerate(group.modules):
            if not module.is_spec(spec):
                yield Problem((*place, "modules", i), f"expected FILE.py or MODULE, got {shown(spec)}")
            elif spec in group.modules[:i]:
                yield Problem((*place, "modules", i), f"{shown(spec)} is listed twice")
        for path, spec in group.paths.items():
            message = module.path_problem(path)
            if message:
                yield Problem((*place, "paths", path), f"{message}, got {shown(path)}")
            if ":" not in spec or not module.is_spec(spec):
                message = f"expected FILE.py:ATTRIBUTE or MODULE:ATTRIBUTE, got {shown(spec)}"
                yield Problem((*place, "paths", path), message)
        yield from _processes(group, place)


def _apps(config: Config) -> Iterator[Problem]:
    for name, app in config.app.items():
        place: Place = ("app", name)
        yield from _name(name, place)
        if not chain.is_module(app.module if ":" in app.module else f"{app.module}:app"):
            yield Problem((*place, "module"), f"expected MODULE:ATTRIBUTE, got {shown(app.module)}{_hint(app.module)}")
        yield from _processes(app, place)
        if app.root_path and (not app.root_path.startswith("/") or app.root_path.endswith("/")):
            yield Problem(
                (*place, "root_path"), f"expected /PATH without a slash at its end, got {shown(app.root_path)}"
            )


def _upstreams(config: Config) -> Iterator[Problem]:
    for name, upstream in config.upstream.items():
        place: Place = ("upstream", name)
        yield from _name(name, place)
        for i, server in enumerate(upstream.servers):
            message = chain.server_problem(server)
            if message:
                yield Problem((*place, "servers", i), f"expected {message}, got {shown(server)}")
            elif server in upstream.servers[:i]:
                yield Problem((*place, "servers", i), f"{shown(server)} is listed twice; use weights")
        if upstream.weights and len(upstream.weights) != len(upstream.servers):
            yield Problem((*place, "weights"), f"expected one for each of the {len(upstream.servers)} servers, or none")
        for i, weight in enumerate(upstream.weights):
            if not 1 <= weight <= MAX_WEIGHT:
                yield Problem((*place, "weights", i), f"expected 1 to {MAX_WEIGHT}, got {weight}")
        if upstream.health_path is not None and not _TARGET.fullmatch(upstream.health_path):
            yield Problem((*place, "health_path"), f"expected /PATH as in a URL, got {shown(upstream.health_path)}")
        for i, status in enumerate(upstream.health_status):
            if not 200 <= status <= 599:
                yield Problem((*place, "health_status", i), f"expected 200 to 599, got {status}")
        if not _HOST_VALUE.fullmatch(upstream.host):
            yield Problem((*place, "host"), f"expected keep, server, or HOST[:PORT], got {shown(upstream.host)}")


def _name(name: str, place: Place) -> Iterator[Problem]:
    if not _NAME.fullmatch(name) and not chain.is_module(name) and not (place[0] == "module" and module.is_spec(name)):
        yield Problem(place, f"expected a name of letters, digits, - and _, got {shown(name)}")


def _kernel(kernel: Kernel) -> Iterator[Problem]:
    seen: set[str] = set()
    for i, name in enumerate(kernel.interface):
        place = ("kernel", "interface", i)
        if not _INTERFACE.fullmatch(name) or name in (".", ".."):
            yield Problem(place, f"expected the name of an interface, got {shown(name)}")
        elif name in seen:
            yield Problem(place, f"{shown(name)} is listed twice")
        seen.add(name)


def _sites(config: Config) -> Iterator[Problem]:
    if not config.site:
        yield Problem((), 'no site: add [[site]] with root = "FOLDER"')
    taken: dict[str, int] = {}
    default: int | None = None
    for i, site in enumerate(config.site):
        place: Place = ("site", i)
        for j, host in enumerate(site.hosts):
            key = host_key(host)
            if not _HOST.fullmatch(key) or len(key) > 253:
                yield Problem((*place, "hosts", j), _host_problem(host))
            elif key in taken:
                owner = "this site" if taken[key] == i else f"site[{taken[key]}]"
                yield Problem((*place, "hosts", j), f"{shown(host)} is taken by {owner}")
            else:
                taken[key] = i
        if not site.hosts:
            if default is not None:
                yield Problem(place, f"a second default site: without hosts, as site[{default}]")
            else:
                default = i
        yield from _site(config, site, place)


def _host_problem(host: str) -> str:
    if re.fullmatch(r".+:\d+", host) and not host.endswith("]"):
        return f"expected a host name without a port, got {shown(host)}"
    if not host.isascii():
        return f"expected the ASCII form (xn--...) of an international name, got {shown(host)}"
    return f'expected a host name, or "*." and a host name, got {shown(host)}'


def _site(config: Config, site: Site, place: Place) -> Iterator[Problem]:
    if not chain.named(site) and not site.route:
        yield Problem(place, '"root", "module", "app" or "forward" is missing')
    yield from chain.check_tries(site, place)
    yield from chain.check_names(site, config, place)
    yield from policy.problems(site.tux, (*place, "tux"))
    yield from pages.spa_problems(site.spa, chain.chain_of(site, site).steps, site, place)
    yield from pages.problems(site.error_page, site.root, place)
    yield from check_shared(site, place)
    yield from hosts.problems(site.root, place)
    yield from hosts.site_problems(site, place)
    prefixes: dict[str, int] = {}
    for i, route in enumerate(site.route):
        inner: Place = (*place, "route", i)
        message = _prefix_problem(route.path)
        if message:
            yield Problem((*inner, "path"), message)
        elif route.path in prefixes:
            yield Problem((*inner, "path"), f"{shown(route.path)} is taken by route[{prefixes[route.path]}]")
        else:
            prefixes[route.path] = i
        yield from origins.of(route).check(site, route, inner)
        if isinstance(route, origins.static.Route):
            yield from chain.check_names(route, config, inner)


def _prefix_problem(path: str) -> str:
    """Why no request path could begin with this prefix, so that the route (perhaps a deny) would never count."""
    if not path.startswith("/"):
        return f"expected a path that begins with /, got {shown(path)}"
    if any(segment in (".", "..") for segment in path.split("/")) or "//" in path:
        return f"{shown(path)} has empty or dot segments; request paths have none when routes are looked up"
    if re.search(r"%[0-9A-Fa-f]{2}", path):
        return f"{shown(path)} is percent-encoded; write it decoded"
    if "?" in path or "#" in path:
        return f"{shown(path)}: a route cannot depend on the query or fragment"
    if any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in path):
        return f"{shown(path)} has a control character"
    return ""
