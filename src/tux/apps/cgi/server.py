"""Serve CGI: the loop of the process that starts scripts.

A turn: all events of the port are taken, scripts are started as far as they may run, and what their pipes say is worked
off. The engines are woken when nothing more has come, as in the other interfaces.

Descriptors are closed while events are worked off, and new ones opened only between, so no event meets a new owner of
its number.
"""

from __future__ import annotations

import itertools
import logging
import os
import resource
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from tux import _cgi
from tux._engine import Roots
from tux.apps.cgi.environ import Environments
from tux.apps.cgi.errors import ErrorLog
from tux.apps.cgi.find import DeclinedError, Finder, NotFoundError
from tux.apps.cgi.head import Head
from tux.apps.cgi.options import CgiOptions
from tux.apps.cgi.run import Phase, Run
from tux.apps.port import BODY, CREDIT, DRAIN, GONE, REQUEST, Port, Request
from tux.apps.refusal import refuse
from tux.planner.rules import CgiRule

TICK_SECONDS: Final = 0.25
"""How often deadlines are looked at: they are of seconds."""
ORPHANS_SECONDS: Final = 5.0
"""How often it is looked whether something that scripts have left behind has ended, while nothing else happens."""
MAX_REDIRECTS: Final = 10
"""Local redirects in a row; more are a loop."""
EVENTS_PER_TURN: Final = 256
"""Of each kind: then the others have their turn."""
MAX_ORPHANS: Final = 64
"""Reaped at once."""

Handler = Callable[[int], None]

logger = logging.getLogger("tux.app")


def serve(port: Port, options: CgiOptions, ready: Callable[[], None] | None = None) -> None:
    """Serve until DRAIN came and all scripts have ended, or their grace is over. OSError: it cannot start."""
    server = Server(port, options)
    if ready is not None:
        ready()
    try:
        server.run()
    finally:
        server.close_all()


class Server:
    """The scripts of one process."""

    def __init__(self, port: Port, options: CgiOptions) -> None:
        self.port = port
        self.options = options
        self.environments = Environments(options)
        self.log = ErrorLog()
        self.finder = Finder(options.routes, Roots(options.routes.roots))
        self.heads: dict[bytes, Head] = {}
        self.limits = limits(options)
        self.null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self.now = time.monotonic()
        self.running = 0
        """Scripts that have not ended."""
        self.fresh: list[Run] = []
        """Those whose head has come: if they end at once, all goes in one message."""
        self._poll = select.epoll()
        self._handlers: dict[int, tuple[int, Handler]] = {}
        """Descriptor -> events that are waited for, and who is told."""
        self._runs: set[Run] = set()
        """Those that were started, and have something left of them."""
        self._by_key: dict[int, Run] = {}
        """Exchanges that are not over."""
        self._waiting: deque[Run] = deque()
        self._ids = itertools.count(1)
        self._tick_at = 0.0
        self._drained_at: float | None = None
        _cgi.adopt_orphans()
        self._poll.register(port.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Serve."""
        port, poll, handlers = self.port, self._poll, self._handlers
        while True:
            self._take_events()
            self._start_waiting()
            if self._drained_at is not None and not self._runs and not self._by_key and not port.open:
                return
            asleep = port.sleep()
            events = poll.poll(self._timeout() if asleep and not self.fresh else 0, EVENTS_PER_TURN)
            if asleep:
                port.awake()
            self.now = time.monotonic()
            fresh, self.fresh = self.fresh, []
            for fd, mask in events:
                handler = handlers.get(fd)
                if handler is not None:
                    handler[1](mask)
            for run in fresh:
                run.answer_now()
            if self.now >= self._tick_at and self._tick():
                return

    def _timeout(self) -> float | None:
        if self._runs or self._by_key or self._drained_at is not None:
            return TICK_SECONDS
        return ORPHANS_SECONDS if reap_orphans(()) else None

    # -- what comes by the port ----------------------------------------------------------------------------------------

    def _take_events(self) -> None:
        take = self.port.take
        for _ in range(EVENTS_PER_TURN):
            event = take()
            if event is None:
                return
            kind, key, payload = event
            if kind == REQUEST:
                self._begin(cast("Request", payload))
                continue
            if kind == DRAIN:
                self._drained_at = self.now
                continue
            run = self._by_key.get(key)
            if run is None:
                continue
            if kind == BODY:
                data, end = cast("tuple[bytes, bool]", payload)
                run.on_body(data, end=end)
            elif kind == CREDIT:
                run.on_credit()
            elif kind == GONE and payload:
                run.on_gone()
            elif kind == GONE:
                run.on_half_closed()

    def _begin(self, request: Request, redirects: int = 0) -> None:
        label = f"{os.getpid():x}-{next(self._ids):x}"
        try:
            script = self.finder.find(request)
        except DeclinedError:
            self.port.next(request.key)
            return
        except NotFoundError as error:
            if str(error):
                self.log.say(label, request.path, str(error))
            refuse(self.port, request.key, error.status)
            return
        if not request.complete:
            self.port.accept(request.key)
        run = Run(self, request, script, label, redirects)
        self._by_key[run.key] = run
        run.begin()

    def submit(self, run: Run) -> None:
        """A run that only needs a place."""
        if self.running >= self.options.share and len(self._waiting) >= self.options.queue_share:
            self._waiting = deque(run for run in self._waiting if run.phase is Phase.WAITING)
            if len(self._waiting) >= self.options.queue_share:
                self.log.say(
                    run.label, run.script.name, f"{self.running} scripts run, {len(self._waiting)} wait: refused"
                )
                run.refuse(503)
                return
        run.since = self.now
        self._waiting.append(run)

    def _start_waiting(self) -> None:
        while self._waiting and self.running < self.options.share:
            run = self._waiting.popleft()
            if run.phase is Phase.WAITING:
                self._runs.add(run)
                run.start()
                if run.child is None:
                    self._runs.discard(run)

    # -- what runs say -------------------------------------------------------------------------------------------------

    def watch(self, fd: int, events: int | None, handler: Handler) -> None:
        """From now on wait for these events (None: not even for errors)."""
        before = self._handlers.get(fd)
        if events is None:
            if before is not None:
                del self._handlers[fd]
                self._poll.unregister(fd)
            return
        self._handlers[fd] = (events, handler)
        if before is None:
            self._poll.register(fd, events)
        elif before[0] != events:
            self._poll.modify(fd, events)

    def close(self, fd: int) -> int:
        """Close a descriptor, which may be watched, or -1; returns -1."""
        if fd >= 0:
            self._handlers.pop(fd, None)
            os.close(fd)
        return -1

    def forget(self, run: Run) -> None:
        """Its exchange is over."""
        if self._by_key.get(run.key) is run:
            del self._by_key[run.key]

    def ended(self, run: Run) -> None:
        """Nothing is left of it."""
        self._runs.discard(run)

    def redirect(self, run: Run, target: bytes) -> None:
        """Answer as a request for `target` would be answered (RFC 3875 section 6.2.2): a file, another script; what
        only an application or another server knows is left to the client, which is told where to ask."""
        self.forget(run)
        if run.redirects >= MAX_REDIRECTS:
            run.complain(f"led through more than {MAX_REDIRECTS} local redirects")
            refuse(self.port, run.key, 502)
            return
        request = Redirected(run.request, target)
        try:
            number, rule, path = self.finder.route(request)
        except NotFoundError as error:
            run.complain(f"redirected to {target.decode('latin-1')!a}, which is no path")
            refuse(self.port, run.key, error.status)
            return
        if isinstance(rule, CgiRule):
            self._begin(request, run.redirects + 1)
        elif self.finder.has_only_files(number, rule):
            self.port.object(run.key, path)
        else:
            self.port.answer(run.key, 302, ((b"Location", target),), body=b"", end=True)

    # -- time ----------------------------------------------------------------------------------------------------------

    def _tick(self) -> bool:
        """Whether the grace is over."""
        now = self.now
        self._tick_at = now + TICK_SECONDS
        for run in list(self._runs):
            run.tick(now)
        while self._waiting and (
            self._waiting[0].phase is Phase.OVER or now - self._waiting[0].since > self.options.queue_timeout
        ):
            self._waiting.popleft().refuse(503)
        reap_orphans([run.child.pid for run in self._runs if run.child is not None])
        if self._drained_at is None or now - self._drained_at <= self.options.grace:
            return False
        logger.warning("cgi: %d requests did not end within their grace", len(self._by_key))
        return True

    def close_all(self) -> None:
        """Kill what is left, and wake the engines."""
        for run in self._runs:
            run.kill_hard()
        self.port.flush()


class Redirected:
    """The request that a local redirect stands for: GET or HEAD, without a body."""

    upgrade = False
    body = b""
    complete = True
    length = -1

    def __init__(self, request: Request, target: bytes) -> None:
        self.key = request.key
        self.method = "HEAD" if request.method == "HEAD" else "GET"
        self.target = target
        self.path, _, self.query = target.partition(b"?")
        self.minor = request.minor
        self.scheme = request.scheme
        self.headers = [pair for pair in request.headers if not pair[0].startswith(b"content-")]
        self.head = request.head
        self.client = request.client
        self.server = request.server


def limits(options: CgiOptions) -> tuple[tuple[int, int], ...]:
    """What setrlimit(2) is to be told for each script."""
    wanted = (
        (resource.RLIMIT_CORE, 0, True),
        (resource.RLIMIT_NOFILE, options.open_files, True),
        (resource.RLIMIT_CPU, options.cpu_seconds, options.cpu_seconds > 0),
        (resource.RLIMIT_AS, options.memory, options.memory > 0),
        (resource.RLIMIT_FSIZE, options.file_bytes, options.file_bytes > 0),
        (resource.RLIMIT_NPROC, options.processes, options.processes > 0),
    )
    return tuple((number, most) for number, most, is_set in wanted if is_set)


def reap_orphans(scripts: list[int] | tuple[()]) -> bool:
    """Reap what scripts have left behind and has ended. Whether this process has children.

    Zombies are looked at in turn, until one is a script, which is reaped elsewhere: its number must stay its own."""
    for _ in range(MAX_ORPHANS):
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if found is None or found.si_pid in scripts:
            return True
        os.waitpid(found.si_pid, 0)
    return True
