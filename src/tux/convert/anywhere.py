"""Directives of an nginx.conf that may be in any of http, server and location, and those that have no place at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tux.config.pages import STATUSES, is_file
from tux.convert import targets
from tux.convert.directives import ALWAYS_SO, HINTS, Directive
from tux.convert.result import Result
from tux.convert.scope import Scope
from tux.convert.units import FormatError, seconds, size_bytes
from tux.http import media

_CLIENT_FIELDS: Final = frozenset(
    ("host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "upgrade", "connection")
)
"""Fields that the forwarder sets as everybody sets them with proxy_set_header."""
_ABOUT_FILES: Final = frozenset(
    ("add_header", "autoindex", "charset", "error_page", "expires", "gzip", "gzip_static", "types")
)
"""Directives that have no place where there are no files."""
SEND_KEYS: Final[Mapping[str, str]] = {
    "proxy_connect_timeout": "connect_timeout",
    "proxy_send_timeout": "send_timeout",
    "proxy_read_timeout": "first_byte_timeout",
}
"""Time-outs of servers behind, by their keys of an upstream."""


class Anywhere:
    """What the blocks of one configuration have in common."""

    def __init__(self, result: Result) -> None:
        self.result = result

    def _lose(self, directive: Directive, why: str = "") -> None:
        hint = why or HINTS.get(directive.name, "")
        self.result.lost(directive.where, directive.text + (f" ({hint})" if hint else ""))
        for inner in directive.block:
            self._lose(inner)

    def _other(self, directive: Directive) -> None:
        """A directive without a place of its own."""
        if directive.name == "include":
            self._nothing_included(directive)
        elif directive.name in ALWAYS_SO:
            self.result.needless(directive.where, f"{directive.text} ({ALWAYS_SO[directive.name]})")
        else:
            self._lose(directive)

    def _nothing_included(self, directive: Directive) -> None:
        name = directive.args[0]
        if name.endswith("mime.types"):
            self.result.needless(directive.where, f"{directive.text} (Tux has a table of its own)")
        elif "*" in name or "?" in name:
            self.result.needless(directive.where, f"{directive.text} (no file matches)")
        else:
            self._lose(directive, "there is no such file")

    def _common(self, directive: Directive, scope: Scope) -> None:
        """A directive that may be in any of the three."""
        name, args, result = directive.name, directive.args, self.result
        if name in _ABOUT_FILES:
            scope.said.append(directive)
        try:
            match name:
                case "root":
                    scope.root = targets.folder(args[0])
                case "index":
                    scope.index = list(args)
                case "gzip_static":
                    scope.precompressed = args[0] != "off"
                case "gzip" if args[0] == "on":
                    scope.compress = True
                    result.changed(directive.where, f"{directive.text} (files, not what comes from elsewhere)")
                case "charset":
                    scope.charset = "" if args[0] == "off" else args[0]
                case "default_type" if args[0] == media.DEFAULT.content_type:
                    result.needless(directive.where, f"{directive.text} (is so)")
                case "types" if directive.block:
                    self._types(directive, scope)
                case "autoindex":
                    scope.listing = args[0] == "on"
                case "error_page":
                    self._error_page(directive, scope)
                case "add_header":
                    self._header(directive, scope)
                case "expires":
                    self._expires(directive, scope)
                case "client_max_body_size":
                    size = size_bytes(args[0])
                    result.limit("body_bytes", size or 2**50)
                case "keepalive_timeout":
                    result.limit("idle_timeout", max(seconds(args[0]), 0.001))
                case "client_header_timeout":
                    result.limit("head_timeout", seconds(args[0]))
                case "send_timeout":
                    result.limit("stall_timeout", seconds(args[0]))
                case "access_log":
                    self._access_log(directive)
                case "set_real_ip_from":
                    address = "unix" if args[0] == "unix:" else args[0]
                    trusted = result.server.setdefault("trusted", [])
                    if address not in trusted:
                        trusted.append(address)
                case "real_ip_header":
                    self._real_ip(directive)
                case "real_ip_recursive":
                    result.needless(directive.where, f"{directive.text} (is so)")
                case "proxy_set_header":
                    self._set_header(directive, scope)
                case "proxy_connect_timeout" | "proxy_send_timeout" | "proxy_read_timeout":
                    scope.upstream[SEND_KEYS[name]] = seconds(args[0])
                    if name == "proxy_read_timeout":
                        scope.upstream["idle_timeout"] = seconds(args[0])
                case "proxy_next_upstream_tries":
                    scope.upstream["retries"] = min(max(int(args[0]) - 1, 0), 10)
                case "gzip" | "ssl" if args[0] == "off":
                    result.needless(directive.where, f"{directive.text} (is so)")
                case _:
                    self._other(directive)
        except (FormatError, ValueError, IndexError) as error:
            self._lose(directive, str(error))

    def _types(self, directive: Directive, scope: Scope) -> None:
        """Those that are not known by themselves: nginx's own mime.types has hundreds, some of them out of date."""
        if directive.block[0].where.rpartition(":")[0].endswith("mime.types"):
            self.result.needless(directive.where, f"{directive.text} (Tux has a table of its own)")
            return
        said = {suffix: inner.name for inner in directive.block for suffix in inner.args}
        known = {suffix: media.media_type(f"a.{suffix}".encode()).content_type for suffix in said}
        scope.types = {f".{suffix}": kind for suffix, kind in said.items() if kind != known[suffix].partition(";")[0]}
        self.result.changed(directive.where, f"{directive.text} (suffixes that are not named keep their types)")

    def _header(self, directive: Directive, scope: Scope) -> None:
        name, value = directive.args[0], directive.args[1]
        if "$" in value:
            self._lose(directive, "a value with variables")
        elif name.lower() == "cache-control":
            scope.cache = value
        elif value:
            scope.headers[name] = value

    def _expires(self, directive: Directive, scope: Scope) -> None:
        value = directive.args[-1]
        if value == "off":
            scope.expires = None
        elif value == "max":
            scope.expires = "max-age=315360000"
        elif value == "epoch" or value.startswith("-"):
            scope.expires = "no-cache"
        else:
            scope.expires = f"max-age={int(seconds(value))}"

    def _error_page(self, directive: Directive, scope: Scope) -> None:
        *statuses, page = directive.args
        if any(status.startswith("=") for status in statuses):
            self._lose(directive, "the status stays what it is")
        elif not page.startswith("/") or "$" in page or not is_file(page):
            self._lose(directive, "only files below the root")
        else:
            for status in statuses:
                if int(status) in STATUSES:
                    scope.error_page[status] = page.lstrip("/")
                else:
                    self._lose(directive, f"Tux itself never answers {status}")

    def _access_log(self, directive: Directive) -> None:
        args, server = directive.args, self.result.server
        target = "off" if args[0] == "off" else "-" if args[0] in ("/dev/stdout", "stdout") else args[0]
        if "access_log" in server and server["access_log"] != target:
            self._lose(directive, f"there is one access log for all: {server['access_log']}")
            return
        server["access_log"] = target
        if target == "off":
            return
        server["log_format"] = "combined"
        if len(args) > 1 and args[1] != "combined":
            self.result.changed(
                directive.where, f"{directive.text} (the format is combined; common and json are there, too)"
            )

    def _real_ip(self, directive: Directive) -> None:
        if directive.args[0].lower() == "proxy_protocol":
            self.result.server["proxy_protocol"] = True
        elif directive.args[0].lower() != "x-forwarded-for":
            self._lose(directive, "X-Forwarded-For, Forwarded and the PROXY protocol are understood")

    def _set_header(self, directive: Directive, scope: Scope) -> None:
        name, value = directive.args[0].lower(), directive.args[1]
        if name == "host" and value not in ("$host", "$http_host"):
            scope.upstream["host"] = "server" if value in ("$proxy_host", "$proxy_host:$proxy_port") else value
            if "$" in scope.upstream["host"]:
                del scope.upstream["host"]
                self._lose(directive, "a value with variables")
        elif name in _CLIENT_FIELDS:
            self.result.needless(directive.where, f"{directive.text} (is so)")
        else:
            self._lose(directive, "X-Forwarded-For names the client" if name == "x-real-ip" else "")
