"""user_req_t: the structure that a module and the server share, as an object, and its 1464 bytes of TUX 3.0.

The fields are the original's. Texts have their whole length here; in the bytes they are NUL-ended arrays, so what is
too long for them is an error of `pack`, unless it is told to cut.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

if TYPE_CHECKING:
    from tux.compat.live import Live

MAX_URI_LEN: Final = 256
MAX_COOKIE_LEN: Final = 128
MAX_FIELD_LEN: Final = 64
DATE_LEN: Final = 30


class Field(NamedTuple):
    """One field of the binary layout."""

    name: str
    code: str
    """As `struct` has it, in native byte order."""


_NUMBERS: Final = (
    "version_major",
    "version_minor",
    "version_patch",
    "http_version",
    "http_method",
    "http_status",
    "sock",
    "event",
)
_COUNTS: Final = ("thread_nr", "bytes_sent", "client_host", "objectlen", "module_index", "keep_alive", "cookies_len")

HEADERS: Final = (
    "content_type",
    "user_agent",
    "accept",
    "accept_charset",
    "accept_encoding",
    "accept_language",
    "cache_control",
    "if_modified_since",
    "negotiate",
    "pragma",
    "referer",
)
"""Fields of the structure that are fields of the request, in its order."""

LAYOUT: Final = (
    *(Field(name, "I") for name in _NUMBERS),
    Field("error", "i"),
    *(Field(name, "I") for name in _COUNTS),
    Field("id", "Q"),
    Field("priv", "Q"),
    Field("object_addr", "Q"),
    Field("query", f"{MAX_URI_LEN}s"),
    Field("objectname", f"{MAX_URI_LEN}s"),
    Field("cookies", f"{MAX_COOKIE_LEN}s"),
    *(Field(name, f"{MAX_FIELD_LEN}s") for name in HEADERS),
    Field("new_date", f"{DATE_LEN}s"),
)
"""In the order of the bytes. Nothing lies between them; two bytes follow."""

_STRUCT: Final = struct.Struct("=" + "".join(field.code for field in LAYOUT) + "2x")
SIZE: Final = _STRUCT.size
"""1464 bytes."""


class user_req_t:
    """A request, as the original's documentation has it. `docs/reference/tux2.md` has every field.

    The server fills one in for each event, and reads `event`, `priv`, `http_status` and the arguments of the action at
    each call of tux()."""

    __slots__ = (
        "_live",
        "_sock",
        "accept",
        "accept_charset",
        "accept_encoding",
        "accept_language",
        "bytes_sent",
        "cache_control",
        "client_host",
        "content_type",
        "cookies",
        "cookies_len",
        "error",
        "event",
        "http_method",
        "http_status",
        "http_version",
        "id",
        "if_modified_since",
        "keep_alive",
        "module_index",
        "negotiate",
        "new_date",
        "object_addr",
        "objectlen",
        "objectname",
        "pragma",
        "priv",
        "query",
        "referer",
        "thread_nr",
        "user_agent",
        "version_major",
        "version_minor",
        "version_patch",
    )

    _live: Live | None
    """The request behind it; None: a structure that only carries arguments."""
    _sock: int
    version_major: int
    version_minor: int
    version_patch: int
    http_version: int
    http_method: int
    http_status: int
    event: int
    error: int
    thread_nr: int
    bytes_sent: int
    client_host: int
    objectlen: int
    module_index: int
    keep_alive: int
    cookies_len: int
    id: int
    priv: Any
    """Any object here; `pack` wants a number."""
    object_addr: Any
    """What the original had a pointer for: a buffer, a text, a descriptor or a socket. None is its NULL."""
    query: str
    objectname: str
    cookies: str
    content_type: str
    user_agent: str
    accept: str
    accept_charset: str
    accept_encoding: str
    accept_language: str
    cache_control: str
    if_modified_since: str
    negotiate: str
    pragma: str
    referer: str
    new_date: str

    def __init__(self, **fields: Any) -> None:
        """All zero and empty but what is named. AttributeError: there is no such field."""
        self._live = None
        self._sock = 0
        for name, code in LAYOUT:
            setattr(self, name, "" if code.endswith("s") else 0)
        self.object_addr = None
        for name, value in fields.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"<user_req_t id={self.id} objectname={self.objectname!r} event={self.event} error={self.error}>"

    @property
    def sock(self) -> int:
        """A descriptor whose bytes go to the client, made at the first look. Write only."""
        if self._live is not None:
            return self._live.descriptor()
        return self._sock

    @sock.setter
    def sock(self, value: int) -> None:
        self._sock = value

    def set_buffer(self, data: bytes | bytearray | memoryview | str) -> None:
        """The arguments of SEND_BUFFER: `object_addr`, and `objectlen` with its size. Text is sent as UTF-8."""
        self.object_addr = data.encode() if isinstance(data, str) else data
        self.objectlen = memoryview(self.object_addr).nbytes

    def pack(self, *, cut: bool = False) -> bytes:
        """The 1464 bytes, in this machine's order. ValueError: a number does not fit, or is none (priv, object_addr),
        or a text is too long; with `cut` texts are shortened as the original did."""
        values = [_packed(name, code, getattr(self, name), cut=cut) for name, code in LAYOUT]
        try:
            return _STRUCT.pack(*values)
        except struct.error:
            for (name, code), value in zip(LAYOUT, values, strict=True):
                _check_number(name, code, value)
            raise

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview) -> Self:
        """From 1464 bytes; the last one of a text is its NUL. ValueError: there are more or fewer."""
        if memoryview(data).nbytes != SIZE:
            raise ValueError(f"user_req_t has {SIZE} bytes; got {memoryview(data).nbytes}")
        req = cls()
        for (name, _), value in zip(LAYOUT, _STRUCT.unpack(data), strict=True):
            setattr(req, name, decoded(value[:-1].partition(b"\0")[0]) if isinstance(value, bytes) else value)
        if not req.object_addr:
            req.object_addr = None
        return req


def decoded(value: bytes) -> str:
    """Texts of the structure: UTF-8, and what is not stays as it is."""
    return value.decode("utf-8", "surrogateescape")


def encoded(value: str) -> bytes:
    """What `decoded` was given."""
    return value.encode("utf-8", "surrogateescape")


def _packed(name: str, code: str, value: Any, *, cut: bool) -> bytes | int:
    if not code.endswith("s"):
        number = 0 if value is None else value
        if not isinstance(number, int):
            raise ValueError(f"{name} is {type(value).__name__}, which has no place in 64 bits; expected a number")
        return number
    room = int(code[:-1]) - 1
    data = encoded(value)
    if b"\0" in data:
        raise ValueError(f"{name} has a NUL in it, which ends texts there")
    if len(data) > room and not cut:
        raise ValueError(f"{name} has {len(data)} bytes; at most {room} fit")
    return data[:room]


def _check_number(name: str, code: str, value: bytes | int) -> None:
    if isinstance(value, int):
        try:
            struct.pack("=" + code, value)
        except struct.error:
            raise ValueError(f"{name} is {value}, which does not fit") from None
