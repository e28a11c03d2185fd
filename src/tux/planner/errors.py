"""Answers that are no files: errors with the small page of their status, and what is said to other methods."""

from __future__ import annotations

from tux._engine import CLOSE, NO_BODY, Found
from tux.http.errors import error_head, page
from tux.http.head import render
from tux.planner.plan import Plan
from tux.planner.view import View

ALLOW = "GET, HEAD, OPTIONS"
_REGISTERED_METHODS = """
POST PUT DELETE PATCH TRACE PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT SEARCH ACL BIND REBIND UNBIND LABEL
MERGE MKACTIVITY MKCALENDAR MKREDIRECTREF MKWORKSPACE ORDERPATCH UPDATE UPDATEREDIRECTREF BASELINE-CONTROL CHECKIN
CHECKOUT UNCHECKOUT VERSION-CONTROL LINK UNLINK QUERY
"""
KNOWN_METHODS = frozenset(_REGISTERED_METHODS.split())
"""Methods of the IANA registry: answered with 405. Others, and CONNECT, which no resource here takes: 501."""


def error_plan(
    view: View, status: int, *more: tuple[str, str], checks: tuple[Found, ...] = (), more_flags: int = 0
) -> Plan:
    """An answer with the small page of its status, and the fields `more`. `more_flags`: CLOSE, NEXT."""
    head_only = view.method == "HEAD"
    return Plan(
        status=status,
        head=error_head(status, *more),
        body=b"" if head_only else page(status),
        flags=view.flags(more_flags | NO_BODY if head_only else more_flags),
        ttl_ms=view.ttl_ms,
        checks=checks,
    )


def method_plan(view: View, checks: tuple[Found, ...] = ()) -> Plan:
    """The answer to a method other than GET and HEAD, the same for every path."""
    if view.method == "OPTIONS":
        return Plan(
            status=204,
            head=render(204, (("Server", "tux"), ("Allow", ALLOW))),
            flags=view.flags(NO_BODY),
            checks=checks,
        )
    if view.method in KNOWN_METHODS:
        return error_plan(view, 405, ("Allow", ALLOW))
    # After CONNECT a client may send bytes of a tunnel, which are no requests.
    return error_plan(view, 501, more_flags=CLOSE if view.method == "CONNECT" else 0)
