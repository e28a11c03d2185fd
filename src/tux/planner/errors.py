"""Answers that are no files: errors, with a small page or one of the site's own, and what is said to other methods."""

from __future__ import annotations

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from tux._engine import ABSENT, CLOSE, ERROR, FILE, LIMITS, NO_BODY, Found, Roots
from tux.http.errors import PAGE_TYPE, error_head, page, usual_fields
from tux.http.head import render, render_field, render_status
from tux.planner.globs import NO_FILE
from tux.planner.hosts import Hosts
from tux.planner.looks import Looks
from tux.planner.notices import QUIET_S, Notices, logger
from tux.planner.plan import Plan
from tux.planner.rules import AS_KNOWN, ErrorPage, HeaderRule, MediaRules, is_general
from tux.planner.shape import Shapes
from tux.planner.view import View

ALLOW = "GET, HEAD, OPTIONS"
_REGISTERED_METHODS = """
POST PUT DELETE PATCH TRACE PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT SEARCH ACL BIND REBIND UNBIND LABEL
MERGE MKACTIVITY MKCALENDAR MKREDIRECTREF MKWORKSPACE ORDERPATCH UPDATE UPDATEREDIRECTREF BASELINE-CONTROL CHECKIN
CHECKOUT UNCHECKOUT VERSION-CONTROL LINK UNLINK QUERY
"""
KNOWN_METHODS = frozenset(_REGISTERED_METHODS.split())
"""Methods of the IANA registry: answered with 405. Others, and CONNECT, which no resource here takes: 501."""


class Errors:
    """The answers of one route that are no files. Used by one thread."""

    def __init__(
        self,
        pages: Sequence[ErrorPage] = (),
        headers: Sequence[HeaderRule] = (),
        *,
        roots: Roots | None = None,
        own: AbstractSet[tuple[int, int]] = frozenset(),
        notices: Notices | None = None,
        media: MediaRules = AS_KNOWN,
        limit: int = LIMITS["small_body_bytes"],
    ) -> None:
        """Of several pages for one status the first counts. headers, media: rules for the files of pages, too; rules
        for all files are for other answers, too. own: (device, inode) of files that are never served. limit: bytes of
        the largest page; it is held in memory once for each answer that is remembered. ValueError: a rule cannot be
        compiled."""
        self._pages = {page.status: page for page in reversed(pages)}
        self._shapes = Shapes(headers=headers, media=media)
        general = [rule for rule in headers if is_general(rule)]
        self._general = Shapes(headers=general) if general else None
        self._roots = roots
        self._own = own
        self._notices = notices if notices is not None else Notices()
        self._limit = limit

    def plan(
        self, view: View, status: int, *more: tuple[str, str], checks: Sequence[Found] = (), more_flags: int = 0
    ) -> Plan:
        """The answer with this status, and the fields `more`. `more_flags`: CLOSE, NEXT."""
        head, body, found = self.render(status, *more, host=view.host)
        checks = (*checks, *found)
        if any(look.kind == ERROR for look in found):
            view.forget()
        bare = view.method == "HEAD"
        return Plan(
            status=status,
            head=head,
            body=b"" if bare else body,
            flags=view.flags(more_flags | NO_BODY if bare else more_flags),
            ttl_ms=view.ttl_ms,
            checks=tuple(checks),
        )

    def render(self, status: int, *more: tuple[str, str], host: str = "") -> tuple[bytes, bytes, list[Found]]:
        """Head, body, and what was looked at. No entity tag and no Cache-Control: what is said of the page as a file
        is not said of the resource that is missing (RFC 9110 section 15.5). host: of the request, when there is one."""
        wanted = self._pages.get(status)
        if wanted is None or self._roots is None:
            return self._small(status, *more), page(status), []
        looks = Looks(self._roots, wanted.root, self._limit)
        if wanted.hosts is not None and not Hosts(wanted.hosts).enter(looks, host):
            return self._small(status, *more), page(status), looks.found
        found = looks.load(wanted.path)
        if found.kind != FILE or found.hidden or found.data is None or (found.dev, found.ino) in self._own:
            if wanted.hosts is None or found.kind != ABSENT:  # not every host has one
                self._report(found)
            return self._small(status, *more), page(status), looks.found
        own = (("Content-Type", self._shapes.of(wanted.path).content_type), *usual_fields(status), *more)
        head = render_status(status) + self._shapes.fields(wanted.path, own)
        return head + render_field("Content-Length", str(found.size)), found.data, looks.found

    def _small(self, status: int, *more: tuple[str, str]) -> bytes:
        """The head that goes with the small page."""
        if self._general is None:
            return error_head(status, *more)
        length = ("Content-Length", str(len(page(status))))
        own = (("Content-Type", PAGE_TYPE), length, *usual_fields(status), *more)
        return render_status(status) + self._general.fields(NO_FILE, own)

    def _report(self, found: Found) -> None:
        if not self._notices.due(("page", found.root, found.path), QUIET_S):
            return
        reason = "not there, or not to be served"
        if found.kind == FILE and not found.hidden and found.size > self._limit:
            reason = f"it has more than {self._limit} bytes"
        elif found.error:
            reason = os.strerror(found.error)
        logger.warning("the error page %a is not sent: %s", os.fsdecode(found.path), reason)


PLAIN = Errors()
"""Where there are no pages."""


def method_plan(
    view: View, checks: tuple[Found, ...] = (), errors: Errors = PLAIN, preflight: Sequence[tuple[str, str]] = ()
) -> Plan:
    """The answer to a method other than GET and HEAD, the same for every path. preflight: fields for OPTIONS."""
    if view.method == "OPTIONS":
        return Plan(
            status=204,
            head=render(204, (("Server", "tux"), ("Allow", ALLOW), *preflight)),
            flags=view.flags(NO_BODY),
            checks=checks,
        )
    if view.method in KNOWN_METHODS:
        return errors.plan(view, 405, ("Allow", ALLOW))
    # After CONNECT a client may send bytes of a tunnel, which are no requests.
    return errors.plan(view, 501, more_flags=CLOSE if view.method == "CONNECT" else 0)
