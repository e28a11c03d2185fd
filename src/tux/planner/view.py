"""The recording view: the only way in which a planner reads a request.

Equal signature must imply equal answer. So every read is recorded, and what the signature does not cover makes the plan
one that is not remembered (see `View.flags`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Protocol

from tux._engine import EXACT, PUBLISH, RANGE, REMEMBER

SETTLE_NS = 2_000_000_000
"""A file that changed less than 2 s ago may change again within one tick of its file system's clock, unnoticed."""
CLOCK_TTL_MS = 1000
"""How long an answer that depends on the time of day is replayed: the promise for freshness is one second."""


class Request(Protocol):
    """What the engine hands over (`tux._engine.Ask`), or a test's stand-in."""

    @property
    def method(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> str | None: ...
    @property
    def minor(self) -> int: ...
    @property
    def host(self) -> str: ...
    @property
    def fields(self) -> dict[str, str]: ...
    @property
    def listener(self) -> int: ...
    @property
    def signed(self) -> bool: ...
    @property
    def plain_range(self) -> bool: ...
    @property
    def has_body(self) -> bool: ...
    @property
    def expect_other(self) -> bool: ...
    @property
    def peer(self) -> str: ...


class View:
    """One request, and what was read of it. For one plan.

    The plain attributes are covered by the signature: method, path, version, host and listener are part of it, and a
    request with a body or another expectation has none. The rest is read by properties and methods, which record it.
    """

    __slots__ = (
        "_clock",
        "_covered",
        "_fields",
        "_query_read",
        "_range_read",
        "_request",
        "_signed",
        "_uncovered_read",
        "expect_other",
        "host",
        "listener",
        "method",
        "minor",
        "path",
        "plain_range",
        "publish",
        "read",
        "ttl_ms",
    )

    def __init__(self, request: Request, covered: AbstractSet[str], clock: Callable[[], int] = time.time_ns) -> None:
        """`covered`: lower-case names of the fields in the signature. `clock`: nanoseconds since 1970."""
        self._request = request
        self._covered = covered
        self._clock = clock
        self._fields = request.fields
        self._signed = request.signed
        self._query_read = self._range_read = self._uncovered_read = False
        self.read: set[str] = set()
        """Lower-case names of the fields that were read, or whose absence was noticed."""
        self.method = request.method
        self.path = request.path
        self.minor = request.minor
        self.host = request.host.lower()
        """In lower case, port included: the signature folds it."""
        self.listener = request.listener
        self.expect_other = request.expect_other
        self.plain_range = request.plain_range
        """The request has one plain range; that is covered, its numbers only by the exact signature."""
        self.ttl_ms = -1
        """How long a plan that read what was read so far may be replayed, in milliseconds; -1: no limit."""
        self.publish = False
        """Whether a remembered answer may be given by the kernel tier, too. It is the origin's to say so."""

    # -- the request --------------------------------------------------------------------------------------------

    def field(self, name: str, /) -> str | None:
        """The value of a field by its lower-case name, None when it was not sent."""
        self.read.add(name)
        if name == "range":
            self._range_read = True
        elif name not in self._covered:
            self._uncovered_read = True
        value = self._fields.get(name)
        return value.lower() if name == "host" and value is not None else value

    def has_any(self, names: AbstractSet[str], /) -> bool:
        """Whether any of these fields was sent."""
        self.read |= names
        if not names <= self._covered:
            self._uncovered_read = True
        return not names.isdisjoint(self._fields)

    @property
    def has_range(self) -> bool:
        """Whether Range was sent, without reading it. Covered: the general signature tells plain ranges from none."""
        self.read.add("range")
        return "range" in self._fields

    @property
    def query(self) -> str | None:
        """The query as sent; None when there is no "?"."""
        self._query_read = True
        return self._request.query

    @property
    def target(self) -> str:
        """The target as sent, its query included."""
        self._query_read = True
        return self._request.target

    @property
    def peer(self) -> str:
        """The client's address. No signature covers it."""
        self._uncovered_read = True
        return self._request.peer

    # -- the clock ----------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Seconds since 1970."""
        self.expire(CLOCK_TTL_MS * 1_000_000)
        return self._clock() // 1_000_000_000

    def expire(self, ns: int) -> None:
        """The answer depends on what may change unnoticed; it holds for so many nanoseconds."""
        ms = max(ns // 1_000_000, 1)
        self.ttl_ms = ms if self.ttl_ms < 0 else min(ms, self.ttl_ms)

    def settled(self, mtime_ns: int) -> bool:
        """Whether a file with this time of change has been quiet for `SETTLE_NS`. True stays true, so only False makes
        the plan depend on the clock."""
        if self._clock() - mtime_ns >= SETTLE_NS:
            return True
        self.expire(CLOCK_TTL_MS * 1_000_000)
        return False

    # -- the verdict --------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """The answer depends on something that can be neither signed nor checked: do not remember it."""
        self._uncovered_read = True

    def flags(self, flags: int = 0) -> int:
        """`flags` of a plan (RANGE, CLOSE, NO_BODY) with REMEMBER, EXACT and PUBLISH as what was read allows.

        The numbers of a plain range do not matter to a RANGE template: the engine fills them in.
        """
        if self._uncovered_read or not self._signed:
            return flags
        if self.publish:
            flags |= PUBLISH
        if self._query_read or (self._range_read and self.plain_range and not flags & RANGE):
            return flags | REMEMBER | EXACT
        return flags | REMEMBER
