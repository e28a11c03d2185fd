"""The planner's loop: takes asks from the engine, decides, replies. One per worker, in a thread of its own."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol, TypeAlias

from tux._engine import CLOSE, LIMITS, SIGNIFICANT_BY_DEFAULT, Found, Recipe, Roots
from tux.http.errors import error_head, page
from tux.http.target import TargetError, decode_path
from tux.planner.allowance import Allowance
from tux.planner.coder import Coder
from tux.planner.entries import BURST_NS
from tux.planner.errors import PLAIN, Errors, method_plan
from tux.planner.notices import QUIET_S, Notices, logger
from tux.planner.plan import Plan
from tux.planner.redirect import Pieces, Redirect, Rewrite
from tux.planner.rules import DenyRule, ErrorRules, RedirectRule, RewriteRule, Rule, StaticRule
from tux.planner.static import StaticPlanner
from tux.planner.view import Request, View

ENGINE_ERRORS = (400, 404, 408, 413, 414, 417, 431, 500, 501, 502, 503, 504, 505)
"""What the engine answers by itself, without an ask."""
MAX_BATCH = 256
"""Asks answered before the stop descriptor is looked at again: some milliseconds of work."""


class Asked(Request, Protocol):
    """A request that waits for its answer (`tux._engine.Ask`)."""

    @property
    def id(self) -> int: ...
    @property
    def root(self) -> int | None: ...


class AskPort(Protocol):
    """The planner's end of the rings (`tux._engine.Port`), or a test's stand-in."""

    def fileno(self) -> int: ...
    def take(self) -> Asked | None: ...
    def sleep(self) -> bool: ...
    def awake(self) -> None: ...
    def reply(
        self,
        ask_id: int,
        status: int,
        head: bytes,
        *,
        body: bytes = b"",
        body_len: int = -1,
        file: Found | None = None,
        offset: int = 0,
        flags: int = 0,
        ttl_ms: int = -1,
        checks: Sequence[Found] = (),
        recipe: Recipe | None = None,
    ) -> bool: ...


class Routes(Protocol):
    """The compiled routes (`tux._engine.RouteTable`)."""

    def match(self, host: str, path: bytes, /) -> int: ...
    def pages(self, host: str, /) -> int: ...


Route: TypeAlias = StaticPlanner | Redirect | Rewrite | tuple[int, Errors]
"""What plans the answers of a route, or the status that all of them have."""


class Planner:
    """Decides the answers of one worker. Not thread-safe: one thread calls it."""

    def __init__(
        self,
        port: AskPort,
        roots: Roots,
        table: Routes,
        rules: Sequence[Rule],
        *,
        significant: AbstractSet[str] = frozenset(),
        own: AbstractSet[tuple[int, int]] = frozenset(),
        pages: Sequence[ErrorRules] = (),
        small_body_bytes: int | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`rules`: by the numbers that `table` gives; so are `pages`, for where no rule is known. `significant`: field
        names in the signature beyond the default ones. `own`: (device, inode) of files of Tux itself.
        `small_body_bytes`: None for the default of the engine. ValueError: a rule cannot be compiled."""
        self._port = port
        self._table = table
        self._covered = SIGNIFICANT_BY_DEFAULT | significant
        self._clock = clock
        self._notices = Notices()
        small = LIMITS["small_body_bytes"] if small_body_bytes is None else small_body_bytes
        known: dict[ErrorRules, Errors] = {}

        def errors_of(rules: ErrorRules) -> Errors:
            if rules not in known:
                known[rules] = Errors(
                    rules.pages, rules.headers, roots=roots, own=own, notices=self._notices, media=rules.media
                )
            return known[rules]

        compresses = any(isinstance(rule, StaticRule) and rule.compress for rule in rules)
        # One for all: what they keep and take is bounded for the process.
        coder = Coder() if compresses else None
        allowance = Allowance(BURST_NS)

        def route_of(rule: Rule) -> Route:
            errors = errors_of(rule.errors)
            if isinstance(rule, StaticRule):
                return StaticPlanner(
                    rule,
                    roots,
                    own=own,
                    notices=self._notices,
                    errors=errors,
                    coder=coder,
                    allowance=allowance,
                    small_body_bytes=small,
                )
            if isinstance(rule, RedirectRule):
                return Redirect(rule, errors)
            if isinstance(rule, RewriteRule):
                return Rewrite(rule, errors)
            return 403 if isinstance(rule, DenyRule) else 404, errors

        self._routes = [route_of(rule) for rule in rules]
        self._pages = [errors_of(rules) for rules in pages]
        self._sendfile: dict[int, StaticPlanner] = {}
        """By root: for files that backends name by their paths in the file system."""

        def make_sendfile(root: int) -> StaticPlanner:
            rule = StaticRule(root=root, index=(), precompressed=False)
            return StaticPlanner(rule, roots, own=own, notices=self._notices, small_body_bytes=small)

        self._make_sendfile = make_sendfile
        self._alive = True

    def run(self, stop_fd: int) -> None:
        """Serve until `stop_fd` is readable or the engine is gone."""
        port = self._port
        poll = select.poll()
        poll.register(port.fileno(), select.POLLIN)
        poll.register(stop_fd, select.POLLIN)
        while self._alive:
            busy = self.serve_pending(MAX_BATCH) == MAX_BATCH
            if not busy and not port.sleep():
                continue
            ready = poll.poll(0 if busy else None)
            if not busy:
                port.awake()
            if any(fd == stop_fd for fd, _ in ready):
                return

    def serve_pending(self, limit: int | None = None) -> int:
        """Answer the asks that wait, at most `limit` of them; their number."""
        served = 0
        while self._alive and served != limit:
            ask = self._port.take()
            if ask is None:
                break
            self._serve(ask)
            served += 1
        return served

    def decide(self, request: Request, root: int | None = None) -> Plan:
        """The plan for a request. root: see `tux._engine.Ask`. Never raises an exception of a plan's making: the answer
        to a bug is 500."""
        view = View(request, self._covered, self._clock)
        try:
            return self._plan(view, root)
        except Exception as error:  # noqa: BLE001 (the planner outlives every request)
            self._report(error)
            view.forget()
            return PLAIN.plan(view, 500)  # what failed may be a page of the site

    def _plan(self, view: View, root: int | None) -> Plan:
        if view.path == "*":
            return method_plan(view) if view.method == "OPTIONS" else self._of_site(view).plan(view, 400)
        if view.method == "CONNECT":  # its target is no path
            return method_plan(view, errors=self._of_site(view))
        try:
            path = decode_path(view.path)
        except TargetError as error:
            return self._of_site(view).plan(view, error.status)
        if root is not None and root >= 0:
            if root not in self._sendfile:
                self._sendfile[root] = self._make_sendfile(root)
            return self._sendfile[root].plan(view, path)
        asked = path
        number, route, pieces = self._match(view, path)
        if isinstance(route, Redirect):
            return route.plan(view, path, pieces)
        if isinstance(route, Rewrite):
            meant = route.path(view, pieces)
            found = None if meant is None else self._match(view, meant)[1]
            if meant is None or not isinstance(found, StaticPlanner):  # once: there are no loops
                return route.errors.plan(view, 404)
            path, route = meant, found
        if isinstance(route, StaticPlanner):
            straight = number >= 0 and asked == path and route is self._routes[number]
            return route.plan(view, path, inside=root is not None, asked=asked, example=straight)
        status, errors = route
        return errors.plan(view, status)

    def _of_site(self, view: View) -> Errors:
        """The errors of the request's site, where no route is known."""
        return self._pages[self._table.pages(view.host)] if self._pages else PLAIN

    def _match(self, view: View, path: bytes) -> tuple[int, Route, Pieces]:
        """The number that the table gives for a path; its route, and what that captures: one that does not match leaves
        the path to what is there otherwise."""
        number = self._table.match(view.host, path)
        route: Route = self._routes[number] if number >= 0 else (404, self._of_site(view))
        while isinstance(route, Redirect | Rewrite):  # ends: what is there otherwise has a shorter path
            pieces = route.pieces(path)
            if pieces is not None:
                return number, route, pieces
            route = self._routes[route.otherwise] if route.otherwise >= 0 else (404, route.errors)
        return number, route, {}

    def _serve(self, ask: Asked) -> None:
        plan = self.decide(ask, ask.root)
        try:
            self._alive = self._port.reply(
                ask.id,
                plan.status,
                plan.head,
                body=plan.body,
                body_len=-1 if plan.file is None else plan.length,
                file=plan.file,
                offset=plan.offset,
                flags=plan.flags,
                ttl_ms=plan.ttl_ms,
                checks=plan.checks,
                recipe=plan.recipe,
            )
        except Exception as error:  # noqa: BLE001 (the ring cannot carry it; the client must not wait for ever)
            self._report(error)
            self._alive = self._port.reply(ask.id, 500, error_head(500), body=page(500), flags=CLOSE)

    def _report(self, error: Exception) -> None:
        """A traceback in the log, once a minute for each place: requests that fail can be repeated at will."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace is not None else ("", 0)
        if self._notices.due((type(error).__name__, place), QUIET_S):
            logger.error("no answer could be decided", exc_info=error)


def canned_answers(errors: Errors = PLAIN) -> dict[int, tuple[bytes, bytes]]:
    """Head and body of the answers to errors that the engine itself finds, by status; all of them with PLAIN, else
    those that differ from these."""
    answers = {status: errors.render(status)[:2] for status in ENGINE_ERRORS}
    if errors is PLAIN:
        return answers
    return {status: answer for status, answer in answers.items() if answer != PLAIN.render(status)[:2]}
