"""The small pages that go with errors and redirects: one fixed text per status, nothing of the request in it."""

from __future__ import annotations

from functools import lru_cache

from tux.http.head import REASONS, render, render_field

PAGE_TYPE = "text/html; charset=utf-8"
_PAGE_FIELDS = (("Content-Type", PAGE_TYPE), ("X-Content-Type-Options", "nosniff"))
RETRY_AFTER_S = 1
"""Seconds in Retry-After: what it is sent for (a full ring, no descriptors, a process that is new) passes quickly."""

_PASSING = frozenset((502, 503, 504))
"""Statuses of what may be over soon."""


@lru_cache(maxsize=64)
def page(status: int) -> bytes:
    """The body of an answer with this status, HTML in UTF-8."""
    title = f"{status} {REASONS.get(status, '')}".rstrip()
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1></body>\n</html>\n"
    ).encode("ascii")


def error_head(status: int, *more: tuple[str, str]) -> bytes:
    """The head that goes with `page(status)`: type, length, and the fields `more`; Retry-After with 502 to 504."""
    return _head(status) + b"".join([render_field(name, value) for name, value in more])


@lru_cache(maxsize=64)
def _head(status: int) -> bytes:
    kind, *others = _PAGE_FIELDS
    length = ("Content-Length", str(len(page(status))))
    return render(status, (("Server", "tux"), kind, length, *others, *usual_fields(status)))


@lru_cache(maxsize=64)
def page_fields(status: int) -> tuple[tuple[bytes, bytes], ...]:
    """The fields that go with `page(status)` where something else says Server and Content-Length."""
    return tuple((name.encode(), value.encode()) for name, value in (*_PAGE_FIELDS, *usual_fields(status)))


def usual_fields(status: int) -> tuple[tuple[str, str], ...]:
    """The fields that go with a status, whatever the page: Retry-After with 502, 503 and 504."""
    return (("Retry-After", str(RETRY_AFTER_S)),) if status in _PASSING else ()
