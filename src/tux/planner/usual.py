"""Files that browsers and robots ask every site for, where there are none."""

from __future__ import annotations

from collections.abc import Sequence

from tux._engine import NO_BODY, Found
from tux.http.head import render
from tux.planner.plan import Plan
from tux.planner.view import View

FAVICON = b"/favicon.ico"
ROBOTS = b"/robots.txt"
FAVICON_CACHE = "max-age=86400"
"""That there is no icon, browsers may remember for a day: they would ask with each page."""
ROBOTS_TEXTS = {"allow": b"User-agent: *\nDisallow:\n", "deny": b"User-agent: *\nDisallow: /\n"}
"""RFC 9309 section 2.2."""


def favicon_plan(view: View, checks: Sequence[Found]) -> Plan:
    """There is no icon, and that is no error."""
    head = render(204, (("Server", "tux"), ("Cache-Control", FAVICON_CACHE)))
    return Plan(status=204, head=head, flags=view.flags(NO_BODY), ttl_ms=view.ttl_ms, checks=tuple(checks))


def robots_plan(view: View, text: bytes, checks: Sequence[Found]) -> Plan:
    """What robots may have."""
    fields = (
        ("Server", "tux"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Length", str(len(text))),
    )
    bare = view.method == "HEAD"
    return Plan(
        status=200,
        head=render(200, fields),
        body=b"" if bare else text,
        flags=view.flags(NO_BODY if bare else 0),
        ttl_ms=view.ttl_ms,
        checks=tuple(checks),
    )
