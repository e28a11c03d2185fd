"""Listen addresses: `HOST:PORT`, `[IPv6]:PORT`, `unix:/path`; `fd:3` or `fd:NAME` for a socket that listens already."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Literal

from msgspec import Struct

MAX_UNIX_PATH = 107
"""Bytes of a path in sockaddr_un, without its NUL: unix(7)."""

_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?", re.ASCII)

_FD = re.compile(r"(?![0-2]$|0)\d{1,5}|(?!\d+$)[!-9;-~]{1,255}", re.ASCII)
"""A number, or a name: systemd.socket(5), FileDescriptorName."""


class Listen(Struct, frozen=True):
    """Where to accept connections."""

    kind: Literal["tcp", "unix", "fd"]
    host: str = ""
    """IPv4 address, IPv6 address (without brackets), or a name to resolve; "" for the others."""
    port: int = 0
    """0: the kernel takes a free one."""
    path: str = ""
    """Of a unix socket; number or name of a descriptor; "" for tcp."""

    @property
    def ipv6(self) -> bool:
        """Whether the host is an IPv6 address."""
        return ":" in self.host

    def url(self, port: int | None = None) -> str:
        """The address for people: "http://127.0.0.1:8080", "unix:/run/tux.sock". `port`: the one that 0 became."""
        if self.kind != "tcp":
            return f"{self.kind}:{self.path}"
        host = f"[{self.host}]" if self.ipv6 else self.host
        return f"http://{host}:{self.port if port is None else port}"


def parse(text: str) -> Listen:
    """The address in `text`. ValueError with a message for the user."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path:
            raise ValueError("expected a path after unix:")
        if len(os.fsencode(path)) > MAX_UNIX_PATH:
            raise ValueError(f"the path of a unix socket has at most {MAX_UNIX_PATH} bytes")
        return Listen("unix", path=path)
    if text.startswith("fd:"):
        if not _FD.fullmatch(text.removeprefix("fd:")):
            raise ValueError("expected a number from 3, or a name that systemd has for it, after fd:")
        return Listen("fd", path=text.removeprefix("fd:"))
    host, colon, digits = text.rpartition(":")
    if not colon:
        raise ValueError("expected HOST:PORT, [IPv6]:PORT or unix:/path")
    if host.startswith("[") and not host.endswith("]"):
        raise ValueError("expected a port after the address: [::1]:8080")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) <= 65535):
        raise ValueError("expected a port from 0 to 65535 after the last colon")
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])  # a zone (fe80::1%eth0) is part of it
        except ValueError:
            raise ValueError("expected an IPv6 address between [ and ]") from None
        return Listen("tcp", host[1:-1], int(digits))
    if ":" in host:
        raise ValueError("an IPv6 address is written in brackets: [::1]:8080")
    if not host:
        raise ValueError("the host is missing; 0.0.0.0 is every IPv4 address, [::] every IPv6 address")
    if re.fullmatch(r"[0-9.]+", host, re.ASCII):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError("expected an IPv4 address of four numbers from 0 to 255") from None
    elif len(host) > 253 or not _NAME.fullmatch(host):
        raise ValueError("not a valid host name")
    return Listen("tcp", host, int(digits))
