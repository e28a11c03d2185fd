"""Servers that requests are forwarded to: from the configuration to addresses, and to the engine."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from tux._engine import Engine
from tux.config.upstream import Upstream
from tux.errors import StartError

_HTTP_PORT = 80


@dataclass(frozen=True, slots=True)
class Group:
    """One upstream as the engine takes it."""

    servers: tuple[tuple[str, str, int], ...]
    """Address, name for Host, weight. A name in the configuration that has several addresses is several servers."""
    options: dict[str, int | str]


def resolve(upstreams: Iterable[tuple[str, Upstream]]) -> tuple[Group, ...]:
    """Look up the names of servers, once and for all. StartError: one has no address."""
    return tuple(_group(name, upstream) for name, upstream in upstreams)


def add_to(engine: Engine, groups: Iterable[Group]) -> None:
    """Make the groups known to the engine, where they get the numbers 0, 1, ... Before it runs."""
    for group in groups:
        engine.upstream(group.servers, **group.options)  # type: ignore[arg-type]  # of the schema, which was checked


def _group(name: str, upstream: Upstream) -> Group:
    weights = upstream.weights or (1,) * len(upstream.servers)
    servers = [
        (address, authority, weight)
        for server, weight in zip(upstream.servers, weights, strict=True)
        for address, authority in _addresses(name, server)
    ]
    options: dict[str, int | str] = {}
    for key, value in msgspec.structs.asdict(upstream).items():
        if key.endswith("_timeout"):
            options[f"{key}_ms"] = round(value * 1000)
        elif key not in ("servers", "weights"):
            options[key] = value
    return Group(tuple(servers), options)


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
