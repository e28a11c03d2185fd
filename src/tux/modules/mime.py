"""Media types that modules register, for the files of the site which they send or look up."""

from __future__ import annotations

from typing import Final

from tux.http import media
from tux.http.head import is_value

_types: Final[dict[bytes, str]] = {}


def register_mime(extension: str, type: str) -> None:  # noqa: A002 (the word of HTTP)
    """Files with this extension ("gmi", without a dot) are of this type when modules of this process send them
    (`send_object`) or look them up (`get_object`). What clients get without a module has the type that `types` of
    its site or the server's own table says. ValueError: one of the two cannot be."""
    if not extension or "." in extension or "/" in extension:
        raise ValueError(f"{extension!r}: expected an extension without its dot")
    if "/" not in type or not is_value(type):
        raise ValueError(f"{type!r}: expected a media type, as in text/plain")
    _types[extension.lower().encode()] = type


def type_of(path: str) -> str | None:
    """The registered type of a file, by its path."""
    return _types.get(media.extension(path.encode("utf-8", "surrogateescape"))) if _types else None
