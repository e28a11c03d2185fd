"""Servers behind nginx: `proxy_pass` and `upstream`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tux.convert.anywhere import Anywhere
from tux.convert.directives import Directive
from tux.convert.result import Result
from tux.convert.scope import Scope
from tux.convert.units import seconds


class Behind(Anywhere):
    """The servers that one configuration passes requests to."""

    def __init__(self, result: Result) -> None:
        super().__init__(result)
        self._upstreams: dict[str, Directive] = {}
        """By their names; those that something is passed to are in the result."""

    def _proxy(self, directive: Directive, scope: Scope, target: dict[str, Any], path: str) -> None:
        match = re.fullmatch(r"http://(unix:[^:]+:?|[^/]+)(/.*)?", directive.args[0])
        if match is None or "$" in directive.args[0]:
            self._lose(directive, "only http://, without variables")
            return
        server, rest = match[1].rstrip(":"), match[2]
        if rest is not None and rest != path:
            self._lose(directive, "the path is passed as it is")
            return
        if server in self._upstreams:
            target["forward"] = server
            self._upstream(server, scope)
            return
        address = server if server.startswith("unix:") else f"http://{server}"
        if not scope.upstream:
            target["forward"] = address
            return
        name = re.sub(r"\W+", "-", server).strip("-")
        target["forward"] = self._table(name, {"servers": [address], **scope.upstream})

    def _table(self, name: str, table: dict[str, Any]) -> str:
        """A name for an upstream of this kind: one that is there, or a new one."""
        tables = self.result.tree["upstream"]
        number = 1
        chosen = name
        while chosen in tables and tables[chosen] != table:
            number += 1
            chosen = f"{name}-{number}"
        tables[chosen] = table
        return chosen

    def _upstream(self, name: str, scope: Scope) -> None:
        known = self.result.tree["upstream"].get(name)
        if known is not None:
            known.update(scope.upstream)
            return
        table: dict[str, Any] = {"servers": []}
        weights: list[int] = []
        simple: Mapping[str, Callable[[str], object]] = {"max_fails": int, "fail_timeout": seconds}
        for directive in self._upstreams[name].block:
            if directive.name == "server":
                address, *flags = directive.args
                if "down" in flags:
                    continue
                weight = 1
                for flag in flags:
                    key, _, value = flag.partition("=")
                    if flag == "fail_timeout=0":
                        table["max_fails"] = 0  # it is never left out
                    elif key == "weight":
                        weight = int(value)
                    elif key in simple:
                        table[key] = simple[key](value)
                    else:
                        self.result.lost(directive.where, f"{directive.text} ({flag})")
                has_port = address.startswith("unix:") or re.search(r":\d+$", address)
                plain = address if has_port else f"{address}:80"
                table["servers"].append(plain if plain.startswith("unix:") else f"http://{plain}")
                weights.append(weight)
            elif directive.name == "least_conn":
                table["balance"] = "least-connections"
            elif directive.name == "keepalive":
                table["keepalive"] = int(directive.args[0])
            elif directive.name == "keepalive_timeout":
                table["keepalive_timeout"] = seconds(directive.args[0])
            elif directive.name in ("zone", "keepalive_requests"):
                self.result.needless(directive.where, directive.text)
            else:
                self._lose(directive)
        if len(set(weights)) > 1:
            table["weights"] = weights
        self.result.tree["upstream"][name] = {**table, **scope.upstream}
