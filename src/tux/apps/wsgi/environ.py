"""The environ of a request (PEP 3333, "environ Variables"; RFC 3875 section 4.1)."""

from __future__ import annotations

from typing import Any, TextIO
from urllib.parse import unquote_to_bytes

from tux.apps.options import AppOptions
from tux.apps.port import Request
from tux.apps.wsgi.files import FileWrapper

MAX_NAMES = 1024
"""Field names that are remembered: clients choose them, so there has to be an end."""
MAX_BASES = 256
"""Combinations of server address and scheme that are remembered, for the same reason."""

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_DROPPED = ""


class Environs:
    """Makes the environs of one application."""

    def __init__(self, options: AppOptions, errors: TextIO) -> None:
        self._root = options.root_path.rstrip("/").encode()
        self._always: dict[str, Any] = {
            "SERVER_SOFTWARE": options.software,
            "wsgi.version": (1, 0),
            "wsgi.errors": errors,
            "wsgi.multithread": options.threads > 1,
            "wsgi.multiprocess": not options.alone,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,
        }
        self._bases: dict[tuple[object, str], dict[str, Any]] = {}
        self._names: dict[bytes, str] = {
            b"content-type": "CONTENT_TYPE",
            b"content-length": "CONTENT_LENGTH",
            b"transfer-encoding": _DROPPED,  # undone by the engine
            b"proxy": _DROPPED,  # HTTP_PROXY is how programs are told of their proxy: httpoxy.org
        }

    def make(self, request: Request, stream: Any) -> dict[str, Any]:
        """A new environ. Text is what PEP 3333 calls native: a character for each byte, Latin-1."""
        origin = (request.server, request.scheme)
        base = self._bases.get(origin)
        if base is None:
            base = self._new_base(request)
            if len(self._bases) < MAX_BASES:
                self._bases[origin] = base
        environ = base.copy()
        environ["REQUEST_METHOD"] = request.method
        environ["REQUEST_URI"] = environ["RAW_URI"] = request.target.decode("latin-1")
        environ["QUERY_STRING"] = request.query.decode("latin-1")
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if request.minor else "HTTP/1.0"
        environ["wsgi.input"] = stream
        path = request.path
        if self._root or b"%" in path or not path.startswith(b"/"):
            environ["PATH_INFO"] = _path_info(path, self._root).decode("latin-1")
        else:
            environ["PATH_INFO"] = path.decode("latin-1")
        client = request.client
        if client is not None:
            environ["REMOTE_ADDR"] = client[0]
            environ["REMOTE_PORT"] = str(client[1])
        else:
            environ["REMOTE_ADDR"] = environ["REMOTE_PORT"] = ""
        names = self._names
        for field, value in request.headers:
            name = names.get(field)
            if name is None:
                name = self._learn(field)
            if name in environ:
                if name:
                    environ[name] += ("; " if name == "HTTP_COOKIE" else ",") + value.decode("latin-1")
            else:
                environ[name] = value.decode("latin-1")
        del environ[_DROPPED]
        if request.length < 0 and request.complete and request.body:
            environ["CONTENT_LENGTH"] = str(len(request.body))  # chunked, but all here: many look at nothing else
        return environ

    def _new_base(self, request: Request) -> dict[str, Any]:
        host, port = request.server
        base = self._always.copy()
        base[_DROPPED] = ""  # fields that are dropped find their place taken
        base["wsgi.url_scheme"] = request.scheme
        base["SERVER_PORT"] = str(port) if port is not None else _DEFAULT_PORTS.get(request.scheme, "80")
        base["SERVER_NAME"] = host if host and port is not None else "localhost"
        base["SCRIPT_NAME"] = self._root.decode("latin-1")
        if request.scheme == "https":
            base["HTTPS"] = "on"
        return base

    def _learn(self, field: bytes) -> str:
        """The variable of a field. One with "_" would be taken for that with "-": it is dropped, as nginx does."""
        name = _DROPPED if b"_" in field else "HTTP_" + field.decode("latin-1").upper().replace("-", "_")
        if len(self._names) < MAX_NAMES:
            self._names[field] = name
        return name


def _path_info(path: bytes, root: bytes) -> bytes:
    """The decoded path without SCRIPT_NAME. Something in front may have taken off `root`."""
    if not path.startswith(b"/"):  # "*" of OPTIONS
        return b"/"
    decoded = unquote_to_bytes(path)
    return decoded[len(root) :] if decoded.startswith(root) and decoded[len(root) :][:1] in (b"", b"/") else decoded
