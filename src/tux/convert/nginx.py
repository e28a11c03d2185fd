"""nginx.conf -> tux.toml. crossplane reads the file and what it includes; here each directive gets a place, or a note.

nginx's `location` takes prefixes of bytes, routes take whole segments of a path; a `server` belongs to its sockets,
a site to all of them. Where that matters, there is a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from tux.convert import blocks, targets
from tux.convert.anywhere import SEND_KEYS
from tux.convert.behind import Behind
from tux.convert.directives import HINTS, Directive, read
from tux.convert.result import Result, prefixed
from tux.convert.scope import Scope, to_routes
from tux.convert.units import FormatError

_SUFFIXES: Final = re.compile(r"\\\.(?:\((?:\?:)?([\w|?]+)\)|([\w?]+))\$")
r"""A location for names with these suffixes: `\.(css|js|jpe?g)$`."""
_SUFFIX: Final = re.compile(r"\\\.(?:\((?:\?:)?([\w|?]+)\)|(\w+))")
r"""A suffix anywhere in such an expression: `[^/]\.php(/|$)`."""
_DOTFILES: Final = re.compile(r"\(?\^?\|?/?\)?/?\\\.[^$]*")
r"""A location for hidden files: `/\.`, `/\.ht`, `(^|/)\.`."""


def convert(path: str) -> Result:
    """Convert the file and what it includes. StartError: it cannot be read, or is no configuration of nginx."""
    directives = read(path)
    result = Result()
    _Converter(result).main(directives)
    return result


class _Converter(Behind):
    """One configuration. Each method takes the directives of one kind of block."""

    def __init__(self, result: Result) -> None:
        super().__init__(result)
        self._listen: list[str] = []
        self._site_root: str | None = None
        """What a route without a root of its own takes its files from."""
        self._site_pages: dict[str, str] = {}
        self._taken: set[str] = set()
        """Names that servers have."""

    # main and http

    def main(self, directives: tuple[Directive, ...]) -> None:
        names = {directive.name for directive in directives}
        if names & {"server", "upstream", "location"} and "http" not in names:
            # A file of conf.d or sites-enabled.
            if "server" in names or "upstream" in names:
                self._http(directives)
            else:
                self._http((Directive("server", (), directives[0].where, directives),))
        else:
            for directive in directives:
                if directive.name == "http":
                    self._http(directive.block)
                elif directive.name == "events":
                    for inner in directive.block:
                        self._main_one(inner)
                else:
                    self._main_one(directive)
        self.result.server["listen"] = self._listen or ["0.0.0.0:80"]

    def _main_one(self, directive: Directive) -> None:
        result, args = self.result, directive.args
        if directive.name == "user":
            result.server["user"] = args[0]
            if len(args) > 1:
                result.changed(directive.where, f"{directive.text} (the group is the user's own)")
        elif directive.name == "worker_processes":
            result.server["workers"] = int(args[0]) if args[0].isdigit() else "auto"
        elif directive.name == "worker_connections" and args[0].isdigit():
            result.limit("connections", min(int(args[0]), 50_000))
        else:
            self._other(directive)

    def _http(self, block: tuple[Directive, ...]) -> None:
        scope = Scope()
        for directive in block:
            if directive.name == "upstream":
                self._upstreams[directive.args[0]] = directive
        for directive in block:
            if directive.name not in ("upstream", "server"):
                self._common(directive, scope)
        servers = self._without_upgrades([directive for directive in block if directive.name == "server"])
        default = next((s for s in servers if self._is_default(s)), servers[0] if servers else None)
        for server in servers:
            self._server(server, scope.inner(), is_default=server is default)
        for name, directive in self._upstreams.items():
            if name not in self.result.tree["upstream"]:
                self._lose(directive, "nothing is passed to it")

    def _without_upgrades(self, servers: list[Directive]) -> list[Directive]:
        """Without those that only lead to HTTPS, of names that have a server with TLS: Tux is that server, behind what
        ends TLS, and would lead to itself for ever."""
        secure = {name for server in servers if blocks.has_tls(server) for name in blocks.names_of(server)}
        kept = []
        for server in servers:
            names = blocks.names_of(server)
            if not blocks.has_tls(server) and names and names <= secure and blocks.leads_to_https(server):
                self._lose(server, "from HTTP to HTTPS: what ends TLS in front does that")
            else:
                kept.append(server)
        return kept

    @staticmethod
    def _is_default(server: Directive) -> bool:
        return any(d.name == "listen" and "default_server" in d.args for d in server.block)

    # server

    def _server(self, server: Directive, scope: Scope, *, is_default: bool) -> None:
        site: dict[str, Any] = {}
        names: list[str] = []
        locations: list[Directive] = []
        led: list[dict[str, Any]] = []
        """Routes that lead elsewhere."""
        for directive in server.block:
            if directive.name == "server_name":
                names += self._names(directive)
        if not is_default:
            site["hosts"] = names
            if not names:
                self._lose(server, "no name that another server has not, and another one is the default")
                return
        closed = any(map(blocks.restricts, server.block))
        for directive in server.block:
            if directive.name == "listen":
                self._add_listen(directive)
            elif directive.name == "server_name":
                continue
            elif directive.name == "location":
                locations.append(directive)
            elif directive.name == "return" and not blocks.refuses(directive):
                self._return(directive, "/", led)
            elif directive.name == "rewrite":
                self._rewrite(directive, led)
            elif not blocks.refuses(directive):
                self._common(directive, scope)
        named = {d.args[0]: d for d in locations if d.args[0].startswith("@")}
        routes = led
        is_proxied = any(map(blocks.is_proxied, locations))
        self._site_root = None if is_proxied else scope.root
        self._site_pages = dict(scope.error_page)
        for location in sorted(locations, key=lambda one: one.args != ("/",)):  # it may say where the files of all are
            if not location.args[0].startswith("@"):
                self._location(location, scope.inner(), site, routes, named)
        led_to = {word for one in blocks.all_of(server) if one.name == "try_files" for word in one.args}
        for name, location in named.items():
            if name not in led_to:
                self._lose(location, "no try_files leads to it")
        if is_proxied:
            to_routes(site, scope, routes)
            if scope.error_page and scope.root is not None and "forward" in site:
                # The pages are the only files that are sent.
                site |= {"root": scope.root, "try": ["forward"], "error_page": scope.error_page}
        else:
            self._files(site, scope)
        if site.get("root") is None and "app" not in site and "forward" not in site and not routes:
            self.result.lost(server.where, "server (nothing in it could be converted)")
            return
        if scope.error_page and site.get("root") is None:
            self.result.lost(server.where, "error_page (the site has no folder)")
            site.pop("error_page", None)
        if closed:
            self.result.changed(server.where, "server (nobody is let in, since what lets some in is not supported)")
            site, routes = {key: site[key] for key in ("hosts",) if key in site}, [{"path": "/", "deny": True}]
        # Keys of the site itself before its tables, and the hosts first.
        site = {key: site[key] for key in sorted(site, key=lambda key: (key != "hosts", key != "root", key))}
        if routes:
            site["route"] = routes
        self.result.tree["site"].append(site)

    def _add_listen(self, directive: Directive) -> None:
        address, *flags = directive.args
        if "ssl" in flags or "quic" in flags or address.endswith(":443") or address == "443":
            self._lose(directive, HINTS["ssl_certificate"])
            return
        if address.isdigit():
            address = f"0.0.0.0:{address}"
        elif address.startswith("*:"):
            address = f"0.0.0.0:{address[2:]}"
        elif not address.startswith("unix:") and not re.search(r":\d+$", address):
            address += ":80"
        if "proxy_protocol" in flags:
            self.result.server["proxy_protocol"] = True
        for flag in flags:
            if flag.partition("=")[0] not in (
                *("default_server", "reuseport", "proxy_protocol", "backlog", "deferred", "so_keepalive", "ipv6only"),
            ):
                self.result.lost(directive.where, f"{directive.text} ({flag})")
        if address not in self._listen:
            if self._listen:
                self.result.changed(directive.where, f"{directive.text} (every site answers on every address)")
            self._listen.append(address)

    def _names(self, directive: Directive) -> Iterator[str]:
        for name in directive.args:
            if name in ("_", '""', ""):
                continue
            if name.startswith("~") or name.endswith(".*"):
                self.result.lost(directive.where, f"server_name {name} (only names, and *.NAME)")
                continue
            for host in (name[1:].lower(), f"*{name.lower()}") if name.startswith(".") else (name.lower(),):
                if host in self._taken:
                    self.result.lost(directive.where, f"server_name {name} (another server has it)")
                    continue
                self._taken.add(host)
                yield host

    # location

    def _location(
        self, location: Directive, scope: Scope, site: dict[str, Any], routes: list[dict[str, Any]],
        named: Mapping[str, Directive],
    ) -> None:  # fmt: skip
        adds = scope.adds
        modifier, path = location.args if len(location.args) > 1 else ("", location.args[0])
        if modifier in ("~", "~*"):
            self._regex(location, path, site)
            return
        if modifier == "=" and path != "/" and all(one.name != "proxy_pass" for one in location.block):
            self._exact(location, path, scope, site, routes)
            return
        if modifier == "=" and path == "/" and any(map(blocks.answers, location.block)):
            self._lose(location, "a route covers all below its path")
            return
        if any(map(blocks.restricts, location.block)) and not any(map(blocks.refuses, location.block)):
            self._close(location, path, routes)
            return
        route: dict[str, Any] = {"path": path}
        target = site if path == "/" else route
        aliased = is_refused = is_lost = False
        # Whatever their order: these need to know what the others say.
        for directive in sorted(location.block, key=lambda one: one.name in ("proxy_pass", "try_files", "location")):
            match directive.name:
                case "alias":
                    try:
                        scope.root, aliased = targets.folder(directive.args[0]), True
                    except FormatError as error:
                        self._lose(directive, str(error))
                case "proxy_pass":
                    self._proxy(directive, scope, target, path)
                    is_lost = is_lost or "forward" not in target
                case "try_files":
                    self._try_files(directive, scope, target, named)
                case _ if directive.name in blocks.PASSES:
                    self._lose(directive)
                    is_lost = True
                case "internal":
                    route["internal"] = True
                case "return" | "deny" if blocks.refuses(directive):
                    is_refused = True
                case "return":
                    self._return(directive, path, routes)
                case "rewrite":
                    self._rewrite(directive, routes)
                case "location":
                    self._location(directive, scope.inner(), site, routes, named)
                case _:
                    self._common(directive, scope)
        if "forward" in target and adds:
            self.result.changed(
                location.where,
                f"{location.text} (add_header and expires: on files, not on what a server behind answers)",
            )
        if is_lost and not is_refused:
            for directive in location.block:
                if directive.name in SEND_KEYS:
                    self._lose(directive)
            self.result.changed(location.where, f"{location.text} (refused: what answers it is not supported)")
            is_refused = True
        if target is site:
            if self._site_root is not None or "forward" not in site:
                self._files(site, scope)
            else:
                self._without_files(scope)
            if is_refused:
                routes.append({"path": "/", "deny": True})
            return
        if is_refused:
            routes.append({"path": path, "deny": True})
            self._without_files(scope)
            return
        if any(other["path"] == path for other in routes):
            self._without_files(scope)
            return  # it leads elsewhere
        has_files = aliased or scope.root is not None
        if "forward" in route and "root" not in route and not aliased:
            has_files = False  # proxy_pass without try_files: no file is looked for
        if has_files:
            if aliased and scope.root is not None:
                route["root"] = scope.root
            elif scope.root is not None and (scope.root != self._site_root or "forward" in route):
                route["root"] = prefixed(scope.root, path)
            own = {status: at for status, at in scope.error_page.items() if self._site_pages.get(status) != at}
            if own and "root" in route:
                self.result.lost(location.where, f"error_page of {location.text} (a folder of its own)")
                own = {}
            self._files(route, replace(scope, root=None, error_page=own))
            if "forward" in route and "root" not in route and scope.said:
                self._without_files(scope)
        else:
            if {"clean_urls", "spa"} & route.keys():
                self.result.lost(location.where, f"try_files in {location.text} (there is no folder)")
            for key in ("clean_urls", "spa"):
                route.pop(key, None)
            self._without_files(scope)
        if not path.endswith("/"):
            self.result.changed(location.where, f"{location.text} (covers {path} and {path}/..., not {path}...)")
        if len(route) > 1:
            routes.append(route)

    def _close(self, location: Directive, path: str, routes: list[dict[str, Any]]) -> None:
        """A location that not everybody may see."""
        for inner in location.block:
            self._lose(inner)
        self.result.changed(location.where, f"{location.text} (refused: what lets some in is not supported)")
        if all(route["path"] != path for route in routes):
            routes.append({"path": path, "deny": True})

    def _without_files(self, scope: Scope) -> None:
        """The answers of this block do not come from files."""
        for directive in scope.said:
            self._lose(directive, "there are no files here")

    @staticmethod
    def _files(target: dict[str, Any], scope: Scope) -> None:
        """What a scope says about files."""
        values = {
            "root": scope.root,
            "index": scope.index,
            "precompressed": scope.precompressed,
            "cache_control": scope.cache_control,
            "headers": scope.headers or None,
            "listing": scope.listing,
            "compress": scope.compress,
            "charset": scope.charset,
            "types": scope.types or None,
            "error_page": scope.error_page or None,
        }
        for key, value in values.items():
            if value is not None:
                target.setdefault(key, value)

    def _exact(
        self, location: Directive, path: str, scope: Scope, site: dict[str, Any], routes: list[dict[str, Any]]
    ) -> None:
        """A location for one path alone: only what is so in any case, or has a key."""
        said = {directive.text for directive in location.block} - {"access_log off", "log_not_found off"}
        if path == "/favicon.ico" and said == {"return 204"}:
            site["favicon"] = True
        elif path.lstrip("/") in scope.error_page.values() and said <= {
            "internal",
            f"root {scope.root or site.get('root')}",
        }:
            self.result.needless(location.where, f"{location.text} (is a page for errors)")
        elif not said:
            self.result.needless(location.where, location.text)
        elif path == "/robots.txt" and (policy := blocks.robots_policy(location)):
            site["robots"] = policy
        elif any(map(blocks.refuses, location.block)):
            routes.append({"path": path, "deny": True})
        elif any(one.name in blocks.RESTRICTS or one.name in blocks.PASSES for one in location.block):
            self._close(location, path, routes)
        elif len(said) == 1 and (found := [one for one in location.block if one.name == "return"]):
            self._return(found[0], path, routes)
            if routes and routes[-1]["path"] == path:
                self.result.changed(location.where, f"{location.text} (and what is below {path})")
        else:
            self._lose(location, "a route covers all below its path")

    def _return(self, directive: Directive, path: str, routes: list[dict[str, Any]]) -> None:
        status, *rest = directive.args if directive.args[0].isdigit() else ("302", *directive.args)
        if status not in targets.STATUSES or not rest:
            self._lose(directive)
            return
        try:
            target = targets.redirect_target(rest[0])
        except FormatError as error:
            self._lose(directive, str(error))
            return
        self._lead(directive, {"path": path, "redirect": target, "status": int(status)}, routes)

    def _rewrite(self, directive: Directive, routes: list[dict[str, Any]]) -> None:
        pattern, replacement, *flags = directive.args
        status = 301 if "permanent" in flags else 302 if "redirect" in flags or replacement.startswith("http") else 0
        try:
            path, target = targets.rewrite_parts(pattern, replacement, absolute=status != 0)
        except FormatError as error:
            self._lose(directive, str(error))
            return
        route: dict[str, Any] = {"path": path, "redirect" if status else "rewrite": target}
        if status:
            route["status"] = status
        self._lead(directive, route, routes)

    def _lead(self, directive: Directive, route: dict[str, Any], routes: list[dict[str, Any]]) -> None:
        if any(route["path"] == other["path"] for other in routes):
            self._lose(directive, f"a second route for {route['path']}")
            return
        routes.append(route)
        if directive.name == "return" and "$" not in directive.text:
            self.result.changed(directive.where, f"{directive.text} (a query goes along)")
        elif directive.name == "rewrite" and not route["path"].endswith("/"):
            self.result.changed(directive.where, f"{directive.text} (and what is below {route['path']})")

    def _regex(self, location: Directive, pattern: str, site: dict[str, Any]) -> None:
        """Only what is a glob in disguise."""
        denies = any(d.name in ("deny", "return") and d.args[0] in ("all", "403", "404") for d in location.block)
        if denies and _DOTFILES.fullmatch(pattern):
            self.result.needless(location.where, f"{location.text} (names that begin with a dot are not served)")
            return
        match = _SUFFIXES.fullmatch(pattern)
        hides = any(
            d.name == "proxy_pass" or d.name in blocks.PASSES or blocks.restricts(d) or blocks.refuses(d)
            for d in location.block
        )
        if match is None or hides:
            self._lose(location, "regular expressions" if match is None else "names with a suffix")
            suffixes = {name for found in _SUFFIX.findall(pattern) for name in blocks.spelled(found[0] or found[1])}
            if hides and suffixes:
                redirect = site.setdefault("tux", {}).setdefault("redirect", [])
                redirect += sorted(suffixes - {*redirect})
                ends = ", ".join(f".{suffix}" for suffix in sorted(suffixes))
                self.result.changed(location.where, f"{location.text} (files that end in {ends} are not sent)")
            return
        scope = Scope()
        for directive in location.block:
            self._common(directive, scope)
        for suffix in blocks.spelled(match[1] or match[2]):
            if scope.cache_control is not None:
                table = site.setdefault("cache_control", {})
                if isinstance(table, dict):
                    table[f"*.{suffix}"] = scope.cache_control
            if scope.headers:
                site.setdefault("headers", {})[f"*.{suffix}"] = dict(scope.headers)
        for directive in scope.said:
            if directive.name not in ("add_header", "expires"):
                self._lose(directive, "for names with a suffix")
        if scope.root is not None or scope.index is not None:
            self.result.lost(location.where, f"{location.text} (a folder for names with a suffix)")

    def _try_files(
        self, directive: Directive, scope: Scope, target: dict[str, Any], named: Mapping[str, Directive]
    ) -> None:
        *tried, last = directive.args
        if last == "=404" and len(tried) > 1 and tried[-1].endswith(".html") and "$" not in tried[-1]:
            last = tried.pop()  # a page that is there
        if "$uri.html" in tried:
            target["clean_urls"] = True
        rest = [name for name in tried if name not in ("$uri", "$uri/", "$uri.html")]
        if rest:
            self._lose(directive, f"{' '.join(rest)}: only the path itself is looked for")
        if last.startswith("@") and last in named:
            for inner in sorted(named[last].block, key=lambda one: one.name == "proxy_pass"):
                if inner.name == "proxy_pass":
                    target["root"] = scope.root
                    self._proxy(inner, scope, target, "/")
                else:
                    self._common(inner, scope)
            if target.get("root") is None:
                target.pop("root", None)
        elif re.fullmatch(r"/[^$?]*\.html?(\?\$args|\$is_args\$args|\?\$query_string)?", last):
            page, path = re.split(r"[?$]", last)[0], target.get("path", "/")
            at = "/" if scope.root == self._site_root else path
            if scope.root is not None and page.startswith(at):
                target["spa"] = page[len(at) :].lstrip("/")
                self.result.changed(directive.where, f"{directive.text} (but missing files of known types stay 404)")
            else:
                self._lose(directive, f"{last} is not below {path}")
        elif last not in ("=404", "$uri", "$uri/"):
            self._lose(directive, f"{last} for all that is not there")
