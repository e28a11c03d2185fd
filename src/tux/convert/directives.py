"""The directives of an nginx.conf and of what it includes, and those of them that need no place in a tux.toml."""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tux.errors import StartError

ALWAYS_SO: Final[Mapping[str, str]] = {
    "sendfile": "how files are sent is Tux's business",
    "tcp_nopush": "heads and bodies leave together",
    "tcp_nodelay": "is so",
    "open_file_cache": "answers are remembered, and looked at again within a second",
    "open_file_cache_valid": "see open_file_cache",
    "open_file_cache_min_uses": "see open_file_cache",
    "open_file_cache_errors": "see open_file_cache",
    "types_hash_max_size": "there is no such table",
    "server_names_hash_bucket_size": "there is no such table",
    "server_names_hash_max_size": "there is no such table",
    "server_tokens": "no version is shown",
    "etag": "is so",
    "worker_rlimit_nofile": "the limit of open files is raised as far as it goes",
    "pid": "run it in a unit of systemd; see docs/how-to/systemd.md",
    "daemon": "run it in a unit of systemd; see docs/how-to/systemd.md",
    "error_log": "errors go to standard error, which systemd keeps",
    "use": "epoll it is",
    "multi_accept": "is so",
    "accept_mutex": "each worker has a socket of its own",
    "reset_timedout_connection": "is so",
    "proxy_http_version": "is 1.1",
    "proxy_redirect": "Location is passed as it is",
    "proxy_buffering": "both directions stream, within bounds",
    "proxy_request_buffering": "both directions stream, within bounds",
    "proxy_buffer_size": "buffers have a bound of their own",
    "proxy_buffers": "buffers have a bound of their own",
    "proxy_busy_buffers_size": "buffers have a bound of their own",
    "client_body_buffer_size": "bodies stream",
    "client_body_temp_path": "bodies are not written to disk",
    "proxy_max_temp_file_size": "answers are not written to disk",
    "proxy_temp_path": "answers are not written to disk",
    "log_not_found": "absent files are in the access log alone",
    "keepalive_requests": "there is no such bound",
    "gzip_vary": "is so where it matters",
    "gzip_types": "what compresses is known by the type",
    "gzip_comp_level": "there are levels of our own",
    "gzip_min_length": "there is a bound of our own",
    "gzip_buffers": "there are bounds of our own",
    "gzip_http_version": "the client says what it takes",
    "gzip_disable": "the client says what it takes",
    "autoindex_exact_size": "is not shown, but said",
    "autoindex_localtime": "times are in UTC",
    "gzip_proxied": "there is no compression of what comes from elsewhere",
    "merge_slashes": "see docs/behaviour/http.md",
}
"""Directives that ask for what is so in any case, and why."""

HINTS: Final[Mapping[str, str]] = {
    "ssl_certificate": "TLS ends in front: docs/how-to/replace-nginx-and-gunicorn.md",
    "ssl_certificate_key": "TLS ends in front: docs/how-to/replace-nginx-and-gunicorn.md",
    "default_type": 'name globs: types = { "downloads/*" = "TYPE" }',
    "types": 'name globs: types = { "downloads/*" = "TYPE" }',
    "uwsgi_pass": 'run the application itself: app = "MODULE:ATTRIBUTE"',
    "fastcgi_pass": "run its own server, and forward to it",
    "auth_basic": "let the application or a proxy in front ask for passwords",
}
"""What to do instead."""


@dataclass(frozen=True, slots=True)
class Directive:
    """One of nginx's, as crossplane found it."""

    name: str
    args: tuple[str, ...]
    where: str
    block: tuple[Directive, ...] = ()

    @property
    def text(self) -> str:
        return " ".join((self.name, *self.args))


def read(path: str) -> tuple[Directive, ...]:
    """All directives, in their order. StartError: the file cannot be read, or is no configuration of nginx."""
    try:
        crossplane = importlib.import_module("crossplane")
    except ImportError:
        raise StartError('reading nginx.conf needs crossplane: pip install "tux-server[convert]"') from None
    # One that is included into http or server is read, too: which directive may be where is not checked. Files are put
    # together here: crossplane says of what follows an `include` that it is in the included file.
    payload = crossplane.parse(path, combine=False, comments=False, check_ctx=False, check_args=False)
    for error in payload["errors"]:
        if error.get("line") is not None and _is_missing(error["error"]):
            continue  # an include, which is named at its place
        raise StartError(f"{error.get('file', path)}: {error['error']}")
    return tuple(_of_file(payload["config"], 0, ()))


def _is_missing(error: str) -> bool:
    """Whether a file that is included is not there, as when the configuration of another machine is converted."""
    return error.startswith(f"[Errno {errno.ENOENT}]")


def _of_file(files: Sequence[Mapping[str, Any]], number: int, within: tuple[int, ...]) -> Iterator[Directive]:
    """The directives of a file, with those of the files that it includes in their places."""
    file = files[number]["file"]
    shown = os.path.relpath(file) if os.path.isabs(file) else file
    if number in within:
        raise StartError(f"{file}: includes itself")

    def of_block(items: Sequence[Mapping[str, Any]]) -> Iterator[Directive]:
        for item in items:
            if item.get("includes"):
                for other in item["includes"]:
                    yield from _of_file(files, other, (*within, number))
                continue
            where = f"{file if shown.startswith('../') else shown}:{item['line']}"
            yield Directive(item["directive"], tuple(item["args"]), where, tuple(of_block(item.get("block", ()))))

    yield from of_block(files[number]["parsed"])
