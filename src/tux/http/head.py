"""Rendering of a response head: the status line and the fields, a CRLF after each (RFC 9112 sections 4 and 5)."""

from __future__ import annotations

from collections.abc import Iterable

REASONS = {
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    417: "Expectation Failed",
    421: "Misdirected Request",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    507: "Insufficient Storage",
}
"""Reason phrases of the statuses that Tux sends (RFC 9110 section 15, RFC 6585, RFC 4918)."""

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_NOT_IN_VALUES = str.maketrans("", "", "".join(map(chr, (*range(0x09), *range(0x0A, 0x20), 0x7F))))


def is_token(text: str) -> bool:
    """Whether `text` is a token of RFC 9110 section 5.6.2: a method or a field name."""
    return bool(text) and _TOKEN.issuperset(text)


def is_value(text: str) -> bool:
    """Whether `text` can be a field's value: Latin-1 without control characters (but tab), no outer white space."""
    if text != text.strip(" \t") or text != text.translate(_NOT_IN_VALUES):
        return False
    return text.isascii() or max(text) <= "\xff"


def render_field(name: str, value: str) -> bytes:
    """One field line. ValueError when the name or the value would break the head apart (CR, LF, NUL and the like)."""
    if not is_token(name):
        raise ValueError(f"not a field name: {name!r}")
    if not is_value(value):
        raise ValueError(f"not a value for the field {name}: {value!r}")
    return f"{name}: {value}\r\n".encode("latin-1")


def render_status(status: int) -> bytes:
    """The status line. The reason is empty when the status is not one of `REASONS`. ValueError: not 100 to 599."""
    if not 100 <= status <= 599:
        raise ValueError(f"not a status: {status}")
    return f"HTTP/1.1 {status} {REASONS.get(status, '')}\r\n".encode("ascii")


def render(status: int, fields: Iterable[tuple[str, str]]) -> bytes:
    """Status line and fields, without the blank line that ends a head. ValueError as of the two functions above."""
    return render_status(status) + b"".join([render_field(name, value) for name, value in fields])
