"""NGINX Unit's configuration (the JSON of its control API) -> tux.toml.

Unit tries the steps of `routes` in their order, Tux takes the route with the longest path. For prefixes that is the
same as long as the longer ones come first; where they do not, there is a note.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tux.convert import targets
from tux.convert.result import Result, prefixed
from tux.convert.units import FormatError
from tux.errors import StartError
from tux.planner.globs import is_extension

_LIMITS: Final[Mapping[str, str]] = {
    "header_read_timeout": "head_timeout",
    "idle_timeout": "idle_timeout",
    "send_timeout": "stall_timeout",
    "max_body_size": "body_bytes",
}
_APP_KEYS: Final[Mapping[str, str]] = {
    "threads": "threads",
    "factory": "factory",
    "environment": "env",
    "prefix": "root_path",
}
_OF_SUFFIX: Final = re.compile(r"[^!~]*\*\.(\w+)(?:/\*)?")
"""A pattern for paths of programs: `*.php`, `*.php/*`."""
_ACTIONS: Final = ("pass", "share", "proxy", "return")


def convert(path: str) -> Result:
    """Convert the file. StartError: it cannot be read, or is no configuration of Unit."""
    try:
        with open(path, "rb") as file:
            tree = json.loads(file.read())
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise StartError(f"{path}: not JSON: {error}") from None
    if isinstance(tree, dict) and isinstance(tree.get("config"), dict):
        tree = tree["config"]  # what GET / of the control API shows, certificates beside it
    if not isinstance(tree, dict) or not isinstance(tree.get("listeners"), dict):
        raise StartError(f'{path}: not a configuration of Unit: expected an object with "listeners"')
    result = Result()
    _Converter(result, tree).convert()
    return result


class _Converter:
    """One configuration. `where` is a path of keys in it."""

    def __init__(self, result: Result, tree: Mapping[str, Any]) -> None:
        self.result = result
        self.tree = tree

    def convert(self) -> None:
        targets: dict[str, str] = {}
        for address, listener in self.tree["listeners"].items():
            where = f"listeners.{address}"
            self._listener(address, listener, where)
            targets.setdefault(str(listener.get("pass", "")), where)
        for name, table in self._table("applications").items():
            self._app(str(name), table, f"applications.{name}")
        for name, table in self._table("upstreams").items():
            self._upstream(str(name), table, f"upstreams.{name}")
        for n, (target, where) in enumerate(targets.items()):
            if n:
                self.result.lost(where, f"pass {target} (every site answers on every address)")
            else:
                self._listener_pass(target, where)
        self._settings(self._table("settings"))
        log = self.tree.get("access_log")
        if isinstance(log, str):
            self.result.server.update(access_log=log, log_format="combined")
        elif isinstance(log, dict):
            self.result.server.update(access_log=str(log.get("path", "-")), log_format="combined")
            if "format" in log:
                self.result.changed("access_log.format", "the format is combined; common and json are there, too")
        for key in self.tree:
            if key not in ("listeners", "applications", "upstreams", "routes", "settings", "access_log"):
                self.result.lost(key, "the whole table")

    def _table(self, key: str) -> Mapping[str, Any]:
        value = self.tree.get(key, {})
        return value if isinstance(value, dict) else {}

    # listeners and settings

    def _listener(self, address: str, listener: Mapping[str, Any], where: str) -> None:
        if address.startswith("*:"):
            address = f"0.0.0.0:{address[2:]}"
        if "tls" not in listener:
            self.result.server.setdefault("listen", []).append(address)
        forwarded = listener.get("forwarded")
        if isinstance(forwarded, dict):
            source = forwarded.get("source", [])
            trusted = self.result.server.setdefault("trusted", [])
            trusted += [source] if isinstance(source, str) else source
            if str(forwarded.get("client_ip", "X-Forwarded-For")).lower() != "x-forwarded-for":
                self.result.lost(f"{where}.forwarded.client_ip", "X-Forwarded-For and Forwarded are understood")
        for key in listener:
            if key == "tls":
                self.result.lost(f"{where}.tls", "TLS ends in front: docs/how-to/replace-nginx-and-gunicorn.md")
            elif key not in ("pass", "forwarded"):
                self.result.lost(f"{where}.{key}", str(listener[key]))

    def _settings(self, settings: Mapping[str, Any]) -> None:
        http = settings.get("http", {})
        for key, value in http.items():
            where = f"settings.http.{key}"
            if key == "static" and isinstance(value, dict):
                self._static(value, where)
            elif key in _LIMITS and isinstance(value, int | float):
                self.result.limit(_LIMITS[key], value)
            elif key in ("body_read_timeout", "server_version", "log_route", "discard_unsafe_fields"):
                self.result.needless(where, str(value))
            else:
                self.result.lost(where, str(value))
        for key in settings:
            if key != "http":
                self.result.lost(f"settings.{key}", str(settings[key]))

    def _static(self, table: Mapping[str, Any], where: str) -> None:
        types = table.get("mime_types", {})
        named = {suffix: kind for kind, suffixes in types.items() for suffix in _strings(suffixes)}
        extensions = {suffix: kind for suffix, kind in named.items() if is_extension(suffix)}
        for suffix, kind in named.items():
            if suffix not in extensions:
                self.result.lost(f"{where}.mime_types", f"{suffix} {kind} (extensions: .NAME)")
        for site in self.result.tree["site"]:
            if extensions and ("root" in site or any("root" in route for route in site.get("route", ()))):
                site["types"] = extensions
        for key in table:
            if key != "mime_types":
                self.result.lost(f"{where}.{key}", str(table[key]))

    # what is behind

    def _app(self, name: str, table: Mapping[str, Any], where: str) -> None:
        kind = str(table.get("type", ""))
        if not kind.startswith("python"):
            self.result.lost(where, f'type "{kind}" (run its own server, and forward to it)')
            return
        module, attribute = table.get("module", "wsgi"), table.get("callable")
        app: dict[str, Any] = {"module": f"{module}:{attribute}" if attribute else str(module)}
        known = {
            "type",
            "module",
            "callable",
            "path",
            "working_directory",
            "processes",
            "threads",
            "protocol",
            "limits",
        }
        path = table.get("path")
        folders = [path] if isinstance(path, str) else list(path or ())
        if folders or "working_directory" in table:
            app["dir"] = folders[0] if folders else table["working_directory"]
        for folder in folders[1:]:
            self.result.lost(f"{where}.path", f"{folder} (one folder; PYTHONPATH in env for others)")
        if folders and table.get("working_directory", folders[0]) != folders[0]:
            self.result.changed(f"{where}.working_directory", f"the current folder of its processes is {folders[0]}")
        processes = table.get("processes", 1)
        if isinstance(processes, dict):
            app["workers"] = int(processes.get("max", 1))
            self.result.changed(f"{where}.processes", f"a fixed number: {app['workers']}")
        elif processes != 1:
            app["workers"] = processes
        if table.get("protocol") in ("wsgi", "asgi"):
            app["interface"] = table["protocol"]
        limits = table.get("limits", {})
        if "requests" in limits:
            app["max_requests"] = limits["requests"]
        if "timeout" in limits:
            app["stall_timeout"] = limits["timeout"]
            self.result.changed(f"{where}.limits.timeout", "a process that hangs is replaced; a slow answer is not cut")
        for key, value in table.items():
            if key in _APP_KEYS:
                app[_APP_KEYS[key]] = value
            elif key == "home":
                self.result.changed(f"{where}.home", f"start Tux from that environment: {value}/bin/tux serve")
            elif key in ("user", "group"):
                self.result.changed(f"{where}.{key}", "server.user is for all")
            elif key not in known:
                self.result.lost(f"{where}.{key}", str(value))
        self.result.tree["app"][name] = app

    def _upstream(self, name: str, table: Mapping[str, Any], where: str) -> None:
        servers = table.get("servers", {})
        weights = [options.get("weight", 1) for options in servers.values()]
        upstream: dict[str, Any] = {"servers": [f"http://{address}" for address in servers]}
        if len(set(weights)) > 1:
            if all(isinstance(weight, int) and weight > 0 for weight in weights):
                upstream["weights"] = weights
            else:
                self.result.lost(f"{where}.servers", f"weights {weights} (whole numbers above 0)")
        self.result.tree["upstream"][name] = upstream

    # routes

    def _listener_pass(self, target: str, where: str) -> None:
        site: dict[str, Any] = {}
        routes = self.tree.get("routes", [])
        if target.startswith("routes"):
            name = target.removeprefix("routes").lstrip("/")
            at = f"routes.{name}" if name else "routes"
            steps = routes.get(name, []) if isinstance(routes, dict) else routes
            if isinstance(routes, dict):
                for other in routes:
                    if other != name:
                        self.result.lost(f"routes.{other}", "routes that other routes pass to")
            self._steps(steps, at)
            return
        if self._pass(target, site, where):
            self.result.tree["site"].append(site)

    def _steps(self, steps: list[dict[str, Any]], where: str) -> None:
        sites: dict[tuple[str, ...], dict[str, Any]] = {}
        programs: set[str] = set()
        """Suffixes of files that were run, or refused, and must not be shown instead."""
        for i, step in enumerate(steps):
            at = f"{where}[{i}]"
            match, action = step.get("match", {}), step.get("action", {})
            others = [key for key in match if key not in ("host", "uri")]
            hosts = _strings(match.get("host"))
            paths = list(self._paths(_strings(match.get("uri")), f"{at}.match.uri")) if "uri" in match else ["/"]
            if "share" not in action:
                programs |= {m[1] for m in map(_OF_SUFFIX.fullmatch, _strings(match.get("uri"))) if m}
            programs |= {"php"} if "!application/x-httpd-php" in _strings(action.get("types")) else set()
            if others:
                self.result.lost(at, f"match by {', '.join(others)}")
                if "source" in others and int(action.get("return", 0)) >= 400:  # better closed than open
                    self.result.changed(at, f"refused for everybody: {', '.join(paths)}")
                    site = sites.setdefault(tuple(hosts), {"hosts": list(hosts)} if hosts else {})
                    taken = {route["path"] for route in site.get("route", ())}
                    site.setdefault("route", []).extend({"path": p, "deny": True} for p in paths if p not in taken)
                continue
            if any(not re.fullmatch(r"(\*\.)?[\w.-]+", host) for host in hosts):
                self.result.lost(f"{at}.match.host", f"{hosts} (names, and *.NAME)")
                continue
            site = sites.setdefault(tuple(hosts), {"hosts": list(hosts)} if hosts else {})
            for path in paths:
                self._action(path, action, site, f"{at}.action")
        for site in sites.values():
            if programs and ("root" in site or any("root" in route for route in site.get("route", ()))):
                site["tux"] = {"redirect": sorted(programs)}
                self.result.changed(
                    where, f"files that end in {', '.join(f'.{end}' for end in sorted(programs))} are not sent"
                )
            if "root" in site or "app" in site or "forward" in site or site.get("route"):
                self.result.tree["site"].append(site)

    def _paths(self, patterns: list[str], where: str) -> Iterator[str]:
        for pattern in patterns:
            if re.fullmatch(r"/[^*~!]*/\*|/\*", pattern):
                yield pattern[:-1]
            elif re.fullmatch(r"/[^*~!]*\*", pattern):
                self.result.changed(where, f"{pattern} (covers {pattern[:-1]} and {pattern[:-1]}/...)")
                yield pattern[:-1]
            elif re.fullmatch(r"/[^*~!]*", pattern):
                if pattern != "/":
                    self.result.changed(where, f"{pattern} (what lies below it, too)")
                yield pattern
            else:
                self.result.lost(where, f"{pattern} (only prefixes: /PATH/*)")

    def _action(self, path: str, action: Mapping[str, Any], site: dict[str, Any], where: str) -> None:
        if path == "/":
            target = site
            taken = [key for key in ("root", "app", "forward") if key in site]
        else:
            target = {"path": path}
            taken = [key for route in site.get("route", ()) for key in route if route["path"] == path]
            hidden = [r["path"] for r in site.get("route", ()) if path.startswith(r["path"].rstrip("/") + "/")]
            if hidden:
                self.result.changed(where, f"{path} counts before {hidden[0]}, whose step comes first in Unit")
        if taken:
            self.result.lost(where, f"a second step for {path}")
            return
        if not self._apply(action, target, path, where):
            return
        if target is not site and len(target) > 1:
            site.setdefault("route", []).append(target)

    def _apply(self, action: Mapping[str, Any], target: dict[str, Any], path: str, where: str) -> bool:
        known = {"pass", "share", "proxy", "return", "index", "fallback", "response_headers"}
        if path != "/":
            known.add("location")
        for key in action:
            if key not in known:
                self.result.lost(f"{where}.{key}", str(action[key]))
        if "share" in action:
            return self._share(action, target, path, where)
        if "pass" in action:
            return self._pass(str(action["pass"]), target, where)
        if "proxy" in action:
            target["forward"] = str(action["proxy"])
            return True
        if action.get("return") == 403 and path != "/":
            target["deny"] = True
            return True
        if str(action.get("return")) in targets.STATUSES and "location" in action and path != "/":
            try:
                target["redirect"] = targets.redirect_target(str(action["location"]))
            except FormatError as error:
                self.result.lost(f"{where}.location", f"{action['location']} ({error})")
                return False
            target["status"] = action["return"]
            return True
        self.result.lost(where, ", ".join(f"{key} {action[key]}" for key in _ACTIONS if key in action) or "no action")
        return False

    def _share(self, action: Mapping[str, Any], target: dict[str, Any], path: str, where: str) -> bool:
        shares = _strings(action["share"])
        folder = shares[0] if shares else ""
        for other in shares[1:]:
            self.result.lost(f"{where}.share", f"{other} (one folder)")
        try:
            root = targets.folder(folder.removesuffix("$uri"))
        except FormatError:
            root = ""
        if not root or not folder.endswith("$uri"):
            self.result.lost(f"{where}.share", f"{folder} (FOLDER$uri)")
            for key in ("index", "response_headers"):
                if key in action:
                    self.result.lost(f"{where}.{key}", str(action[key]))
            fallback = action.get("fallback")
            return isinstance(fallback, dict) and self._apply(fallback, target, path, f"{where}.fallback")
        target["root"] = prefixed(root, path) or "/"
        if "index" in action:
            target["index"] = [action["index"]]
        fields = {
            name: value for name, value in action.get("response_headers", {}).items() if value and "$" not in value
        }
        for name in action.get("response_headers", {}):
            if name not in fields:
                self.result.lost(f"{where}.response_headers.{name}", "a value with variables, or none")
        if "Cache-Control" in fields:
            target["cache_control"] = fields.pop("Cache-Control")
        if fields:
            target["headers"] = fields
        fallback = action.get("fallback")
        if isinstance(fallback, dict) and "share" in fallback:
            self.result.lost(f"{where}.fallback", "a second folder")
        elif isinstance(fallback, dict):
            self._apply(fallback, target, path, f"{where}.fallback")
        return True

    def _pass(self, target: str, site: dict[str, Any], where: str) -> bool:
        kind, _, name = target.partition("/")
        if kind == "applications" and name in self.result.tree["app"]:
            site["app"] = name
        elif kind == "upstreams" and name in self.result.tree["upstream"]:
            site["forward"] = name
        else:
            self.result.lost(where, f'pass "{target}"')
            return False
        return True


def _strings(value: object) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(item) for item in value] if isinstance(value, list) else []
