"""REGISTER_MIMETYPE: which fields the objects that this process sends get, by the end of their names."""

from __future__ import annotations

from typing import Final

MAX_TYPES: Final = 1000
"""Of one process: a module that registers with each request would grow for ever."""

_types: dict[str, tuple[bytes, bytes]] = {}
"""Extension -> (type, Cache-Control or b"")."""


def register(extension: str, media_type: bytes, expires: str) -> bool:
    """Whether there was room. `expires`: seconds, or "" for none."""
    if extension not in _types and len(_types) >= MAX_TYPES:
        return False
    _types[extension] = (media_type, f"max-age={expires}".encode() if expires else b"")
    return True


def fields_for(name: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of an object with this name; none where nothing was registered: the site's own hold then."""
    if not _types:
        return []
    extension = name.rpartition(b"/")[2].rpartition(b".")[2].decode("latin-1")
    media_type, expires = _types.get(extension, (b"", b""))
    fields = [(b"content-type", media_type)] if media_type else []
    if expires:
        fields.append((b"cache-control", expires))
    return fields
