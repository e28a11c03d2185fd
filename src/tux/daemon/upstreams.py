"""Servers that requests are forwarded to: from the configuration to addresses, and to the engine."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec

from tux._engine import Engine
from tux.config.upstream import Upstream
from tux.errors import StartError

_HTTP_PORT = 80

REPORT_SECONDS: Final = 2.0
"""How often a worker that forwards says which servers failed: soon enough for who looks for the reason of a 502, and
not once for each request."""

FAILURES: Final = {
    "connect": "no connection",
    "connect_time": "the connection was not accepted in time",
    "send_time": "the request was not read in time",
    "answer_time": "no answer in time",
    "idle_time": "the answer stood still",
    "closed": "closed without an answer",
    "cut": "closed in the middle of the answer",
    "nonsense": "the answer is not sound HTTP",
}
"""Why a server failed (TUX_UPSTREAM_FAILURES), in words."""

logger = logging.getLogger("tux.forward")


@dataclass(frozen=True, slots=True)
class Health:
    """How the servers of a group are checked."""

    path: str
    interval: float
    """Seconds from the end of a check to the begin of the next."""
    timeout: float
    """Seconds."""
    statuses: tuple[int, ...] = ()
    """Of answers that mean that a server works; empty: 200 to 399."""
    proxy_protocol: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """One upstream as the engine takes it."""

    name: str
    servers: tuple[tuple[str, str, int], ...]
    """Address, name for Host, weight. A name in the configuration that has several addresses is several servers."""
    options: dict[str, int | str]
    health: Health | None = None
    """None: the servers are not checked."""


def resolve(upstreams: Iterable[tuple[str, Upstream]], roots: Sequence[bytes] = ()) -> tuple[Group, ...]:
    """Look up the names of servers, once and for all, and their roots. StartError: one has no address."""
    return tuple(_group(name, upstream, roots) for name, upstream in upstreams)


def root_number(roots: Sequence[bytes], path: str | None) -> int:
    """Of a folder among the roots; -1: none is set."""
    return -1 if path is None else roots.index(os.fsencode(path))


def add_to(engine: Engine, groups: Iterable[Group]) -> None:
    """Make the groups known to the engine, where they get the numbers 0, 1, ... Before it runs."""
    for group in groups:
        engine.upstream(group.servers, **group.options)  # type: ignore[arg-type]  # of the schema, which was checked


class Counts(Protocol):
    """What the reporter needs of an engine."""

    def upstream_failures(self, group: int, server: int, /) -> tuple[dict[str, int], int]: ...


@dataclass
class Reporter:
    """Says in the error log which servers failed, and why."""

    engine: Counts
    groups: tuple[Group, ...]
    _seen: dict[tuple[int, int], dict[str, int]] = field(default_factory=dict)

    def report(self) -> None:
        """One line for each server and reason that came up since the last call."""
        for i, group in enumerate(self.groups):
            for k, (address, _, _) in enumerate(group.servers):
                counts, error = self.engine.upstream_failures(i, k)
                before = self._seen.get((i, k), {})
                self._seen[i, k] = counts
                for reason, count in counts.items():
                    new = count - before.get(reason, 0)
                    if new:
                        detail = f": {os.strerror(error)}" if reason == "connect" and error else ""
                        times = "once" if new == 1 else f"{new} times"
                        text = f"{FAILURES[reason]}{detail}"
                        logger.warning('upstream "%s", %s: %s (%s)', group.name, address, text, times)


def _group(name: str, upstream: Upstream, roots: Sequence[bytes]) -> Group:
    weights = upstream.weights or (1,) * len(upstream.servers)
    servers = [
        (address, authority, weight)
        for server, weight in zip(upstream.servers, weights, strict=True)
        for address, authority in _addresses(name, server)
    ]
    options: dict[str, int | str] = {}
    for key, value in msgspec.structs.asdict(upstream).items():
        if key.startswith("health_"):
            continue
        if key.endswith("_timeout"):
            options[f"{key}_ms"] = round(value * 1000)
        elif key not in ("servers", "weights", "sendfile_root"):
            options[key] = value
    options["sendfile_root"] = root_number(roots, upstream.sendfile_root)
    health = None
    if upstream.health_path is not None:
        health = Health(
            upstream.health_path,
            upstream.health_interval,
            upstream.health_timeout,
            upstream.health_status,
            upstream.proxy_protocol,
        )
    return Group(name, tuple(servers), options, health)


def _addresses(name: str, server: str) -> list[tuple[str, str]]:
    """Addresses of a server, each with its name for Host."""
    if server.startswith("unix:"):
        return [(server, "localhost")]
    parts = urlsplit(server)
    host, port = parts.hostname or "", parts.port or _HTTP_PORT
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StartError(f'upstream "{name}": cannot find the address of {host}: {error.strerror}') from None
    ips = dict.fromkeys(str(address[0]) for _family, _type, _protocol, _name, address in found)
    return [(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}", parts.netloc) for ip in ips]
