"""The environment of a script: the request meta-variables (RFC 3875 section 4.1), and nothing of the server's own."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tux.apps.cgi.options import CgiOptions
from tux.apps.port import Request

DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
MAX_NAMES: Final = 1024
"""Field names that are remembered: clients choose them, so there has to be an end."""
MAX_BASES: Final = 256
"""Combinations of script, host, scheme and address that are remembered, for the same reason."""

_DEFAULT_PORTS: Final = {"http": b"80", "https": b"443"}
_NAME: Final = re.compile(rb"[a-z0-9-]+")
_DROPPED: Final = frozenset(
    (
        # The server's own, or said by variables without HTTP_ (section 4.1.18).
        b"connection",
        b"content-length",
        b"content-type",
        b"expect",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        # HTTP_PROXY is how programs are told of the proxy that they are to use: httpoxy.org, CVE-2016-5385.
        b"proxy",
    )
)
_FROM_PROXIES: Final = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded")
"""The engine passes these on only when a trusted proxy has sent them."""


class Script(NamedTuple):
    """A program, and how it was named."""

    path: bytes
    """In the file system, absolute."""
    folder: bytes
    """The one it lies in."""
    name: bytes
    """SCRIPT_NAME."""
    info: bytes
    """PATH_INFO."""
    document_root: bytes
    """Of the site; b"": it has none."""

    @property
    def nph(self) -> bool:
        """It writes whole HTTP responses (section 5)."""
        return self.path.rpartition(b"/")[2].startswith(b"nph-")


class Environments:
    """Makes the environments of scripts."""

    def __init__(self, options: CgiOptions) -> None:
        always = {
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_SOFTWARE": options.software,
            "PATH": DEFAULT_PATH,
            **options.env,
        }
        self._always = b"".join(
            f"{name}={value}\0".encode("utf-8", "surrogateescape") for name, value in always.items()
        )
        self._dropped = _DROPPED if options.authorization else _DROPPED | {b"authorization"}
        self._names: dict[bytes, bytes] = {}
        self._bases: dict[tuple[object, ...], bytes] = {}

    def make(self, request: Request, script: Script, length: int, label: str) -> bytes:
        """NAME=VALUE, each ended by a NUL. length: of the body, -1: there is none. label: UNIQUE_ID, which names the
        request in the error log."""
        fields: dict[bytes, bytes] = {}
        host = content_type = None
        proxied = False
        names = self._names
        for name, value in request.headers:
            variable = names.get(name)
            if variable is None:
                variable = self._learn(name)
            if variable:
                before = fields.get(variable)
                if before is not None:
                    value = before + (b"; " if name == b"cookie" else b", ") + value  # noqa: PLW2901
                fields[variable] = value
                if name == b"host":
                    host = value
                elif name in _FROM_PROXIES:
                    proxied = True
            elif name == b"content-type":
                content_type = value if content_type is None else content_type + b", " + value
        parts = [self._base(request, script, host, fields if proxied else None)]
        add = parts.append
        add(b"REQUEST_METHOD=%b\0REQUEST_URI=%b\0" % (request.method.encode("latin-1"), request.target))
        add(
            b"QUERY_STRING=%b\0SERVER_PROTOCOL=HTTP/1.%d\0UNIQUE_ID=%b\0"
            % (request.query, request.minor, label.encode())
        )
        if script.info:
            add(b"PATH_INFO=%b\0" % script.info)
            if script.document_root:
                add(b"PATH_TRANSLATED=%b%b\0" % (script.document_root, script.info))
        client = request.client
        if client is None:
            add(b"REMOTE_ADDR=\0")  # of a unix socket; the variable must be there
        else:
            address = client[0].encode("latin-1")  # REMOTE_HOST: section 4.1.9 has it in place of a name
            add(b"REMOTE_ADDR=%b\0REMOTE_HOST=%b\0REMOTE_PORT=%d\0" % (address, address, client[1]))
        if length >= 0:
            add(b"CONTENT_LENGTH=%d\0" % length)
        if content_type is not None:
            add(b"CONTENT_TYPE=%b\0" % content_type)
        for variable, value in fields.items():
            add(variable + value)
            add(b"\0")
        return b"".join(parts)

    def _base(self, request: Request, script: Script, host: bytes | None, proxied: dict[bytes, bytes] | None) -> bytes:
        """What is the same for most requests of a script."""
        if proxied is not None:
            host = _named_by_proxies(proxied) or host
        key = (
            script.path,
            script.name,
            script.document_root,
            host,
            request.scheme,
            request.server,
            proxied is not None,
        )
        base = self._bases.get(key)
        if base is None:
            address, local_port = request.server
            name, port = _split_host(host or b"")
            default = _DEFAULT_PORTS.get(request.scheme, b"80")
            if proxied is not None or local_port is None:
                port = port or default  # what the client has connected to
            else:
                port = b"%d" % local_port
                name = name or address.encode("latin-1")
            variables = [
                (b"SERVER_NAME", name or b"localhost"),
                (b"SERVER_PORT", port),
                (b"REQUEST_SCHEME", request.scheme.encode()),
                (b"SCRIPT_NAME", script.name),
                (b"SCRIPT_FILENAME", script.path),
            ]
            if request.scheme == "https":
                variables.append((b"HTTPS", b"on"))
            if local_port is not None:
                variables.append((b"SERVER_ADDR", address.encode("latin-1")))
            if script.document_root:
                variables.append((b"DOCUMENT_ROOT", script.document_root))
            base = self._always + b"".join(b"%b=%b\0" % pair for pair in variables)
            if len(self._bases) < MAX_BASES:
                self._bases[key] = base
        return base

    def _learn(self, name: bytes) -> bytes:
        """The variable of a field with its "=", or b"": there is none. A name with "_" would be taken for that with
        "-", and shells and libraries do odd things with odd names."""
        variable = b""
        if name not in self._dropped and _NAME.fullmatch(name):
            variable = b"HTTP_" + name.upper().replace(b"-", b"_") + b"="
        if len(self._names) < MAX_NAMES:
            self._names[name] = variable
        return variable


def _split_host(host: bytes) -> tuple[bytes, bytes]:
    """Name and port of a Host field, which the engine has checked."""
    if host.endswith(b"]"):
        return host, b""
    name, colon, port = host.rpartition(b":")
    return (name, port) if colon and port.isdigit() else (host.removesuffix(b":"), b"")


def _named_by_proxies(fields: dict[bytes, bytes]) -> bytes:
    """The host that the client asked for, by the word of a trusted proxy. RFC 7239's field counts only alone."""
    said = fields.get(b"HTTP_X_FORWARDED_HOST=", b"")
    if not said and b"HTTP_X_FORWARDED_FOR=" not in fields:
        last = fields.get(b"HTTP_FORWARDED=", b"").rpartition(b",")[2]
        for pair in last.split(b";"):
            name, _, value = pair.strip().partition(b"=")
            if name.lower() == b"host":
                said = value.strip(b'"')
    said = said.rpartition(b",")[2].strip()
    return said if re.fullmatch(rb"[A-Za-z0-9._~:\[\]-]{1,255}", said) else b""
