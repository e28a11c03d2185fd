"""A plan: a decided answer, as the planner hands it to the engine."""

from __future__ import annotations

import msgspec

from tux._engine import Found, Recipe


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. `head` has the status line and the fields, a CRLF after each, without Date, Connection and the blank
    line: the engine adds these (and, to a range template, Content-Range and Content-Length)."""

    status: int
    head: bytes
    body: bytes = b""
    """The representation, when it is held in memory."""
    file: Found | None = None
    """The open file that the body is sent from, else None."""
    offset: int = 0
    """First byte of the body in `file`."""
    length: int = 0
    """Bytes of the body in `file`."""
    flags: int = 0
    """REMEMBER, EXACT, RANGE, CLOSE, NO_BODY, PUBLISH of `tux._engine`."""
    ttl_ms: int = -1
    """How long it may be replayed, in milliseconds; -1: as long as its checks hold."""
    checks: tuple[Found, ...] = ()
    """Everything on disk that the decision looked at."""
    recipe: Recipe | None = None
    """What the engine may do for files like this one."""
