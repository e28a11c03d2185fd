"""What an application says to start_response, checked."""

from __future__ import annotations

from typing import Any, TypeAlias

MAX_NAMES = 1024
"""Field names, and statuses, that are remembered as what they are sent as. Some applications make them up."""
MAX_LENGTH_DIGITS = 18
"""More bytes than a file can have."""

_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    )
)
"""RFC 2616 section 13.5.1, as PEP 3333 has it: the server's own."""
_LENGTH = b""
"""In place of the bytes of Content-Length, which does not go among the fields."""

_names: dict[str, bytes] = {}
_statuses: dict[str, tuple[int, bytes]] = {}


Start: TypeAlias = tuple[tuple[int, bytes], list[tuple[bytes, bytes]], int]
"""The head of an answer: status and reason phrase (b"": the usual one); fields without Content-Length; that, or -1 if
it was not said."""


def parse(status: Any, headers: Any) -> Start:
    """The arguments of start_response, a str and a list of tuples of str. TypeError, ValueError: PEP 3333 forbids them.
    That names and values are of allowed characters is left to the port."""
    if not isinstance(status, str) or type(headers) is not list:
        raise TypeError(
            f"start_response needs a str and a list, not {type(status).__name__} and {type(headers).__name__}"
        )
    said = _statuses.get(status) or _learn_status(status)
    fields = []
    length = -1
    known = _names.get
    try:
        for name, value in headers:
            encoded = known(name)
            if encoded is None:
                encoded = _learn(name)
            if encoded:
                fields.append((encoded, value.encode("latin-1")))
            else:
                length = _length(value, length)
    except (AttributeError, TypeError, ValueError) as error:
        raise _complaint(headers, error) from None
    return said, fields, length


def _learn_status(status: str) -> tuple[int, bytes]:
    code = status[:3]
    if not (code.isascii() and code.isdigit() and len(code) == 3 and status[3:4] in {" ", ""}):
        raise ValueError(f'expected a status like "200 OK", not {status!r}')
    number = int(code)
    if number < 200:
        raise ValueError(f"{number} is no status of an answer: the first is 200")
    said = number, status[4:].encode("latin-1")
    if len(_statuses) < MAX_NAMES:
        _statuses[status] = said
    return said


def _learn(name: str) -> bytes:
    lower = name.lower()
    if lower in _HOP_BY_HOP:
        raise ValueError(f"{name} is the server's: PEP 3333 forbids applications the fields of a connection")
    encoded = _LENGTH if lower == "content-length" else name.encode("latin-1")
    if not encoded and lower != "content-length":
        raise ValueError("a field without a name")
    if len(_names) < MAX_NAMES:
        _names[name] = encoded
    return encoded


def _length(value: str, before: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= MAX_LENGTH_DIGITS):
        raise ValueError(f"Content-Length is {value!r}, not a number of bytes")
    length = int(value)
    if before not in {-1, length}:
        raise ValueError(f"Content-Length is {before} and {length}")
    return length


def _complaint(headers: list[Any], error: Exception) -> Exception:
    """What is wrong with the first field that is none, else the error itself."""
    for field in headers:
        if not isinstance(field, tuple) or len(field) != 2 or not all(isinstance(text, str) for text in field):
            return TypeError(f"expected a tuple of two str as a field, not {field!r}")
    if isinstance(error, UnicodeEncodeError):
        return ValueError(f"a field has characters beyond Latin-1: {error.object!r}")
    return error
