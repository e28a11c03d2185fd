# SPDX-License-Identifier: MIT
"""A generation: the workers and the processes of applications that serve by one reading of the configuration.

The first one starts with the server, a further one with each reload. All accept from the same sockets, which the
supervisor keeps: so the next one serves before the last one stops accepting, and no connection is lost between them.

    starting -> serving -> leaving -> ended
       starting: its workers are not all ready; after a reload, they are started when its applications are
       serving:  what ends is replaced
       leaving:  it accepts nothing more, finishes what it has begun, and nothing is replaced
"""

from __future__ import annotations

import enum
import functools
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from tux.daemon import control
from tux.daemon.fork import describe_end, fork, reap
from tux.daemon.listeners import Listeners
from tux.daemon.logs import AccessLog
from tux.daemon.tier import Tier
from tux.daemon.worker import FINISH_SECONDS, Seat
from tux.errors import StartError

RESTART_AT_ONCE_SECONDS: Final = 1.0
"""A worker that lived for so long is replaced at once; one that died earlier has to wait, longer each time."""
FIRST_RESTART_DELAY_SECONDS: Final = 0.1
LAST_RESTART_DELAY_SECONDS: Final = 5.0

KILL_MARGIN_SECONDS: Final = 1.0
"""Workers end by themselves when the grace is over; those that have not so much later are killed."""

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""Those that the supervisor has handlers for."""

logger = logging.getLogger("tux.supervisor")


class AppsLike(Protocol):
    """What is needed of `tux.daemon.apps.Apps`; see there."""

    failed: Callable[[StartError], None] | None

    def start(self, selector: selectors.BaseSelector, /) -> None: ...
    @property
    def alive(self) -> bool: ...
    @property
    def ready(self) -> bool: ...
    def due(self) -> float | None: ...
    def tick(self) -> None: ...
    def worker_ready(self, worker: int, sock: socket.socket, /) -> None: ...
    def worker_gone(self, worker: int, /) -> None: ...
    def stop(self, grace: float, /) -> None: ...
    def workers_drain(self) -> None: ...
    def kill_all(self) -> None: ...


@dataclass(frozen=True)
class Plan:
    """What a configuration asks for."""

    body: Callable[[Seat], int]
    """What a worker does; called in its process with all signals blocked, returns its exit code."""
    grace: float
    """Seconds that a stop waits for answers under way."""
    apps: AppsLike | None = None
    """The applications, not yet started."""


@dataclass(frozen=True)
class House:
    """What all generations share."""

    listeners: Listeners
    log: AccessLog
    workers: int
    tier: Tier
    selector: selectors.BaseSelector


class Phase(enum.Enum):
    """See the table above."""

    STARTING = enum.auto()
    SERVING = enum.auto()
    LEAVING = enum.auto()


@dataclass(eq=False)
class _Worker:
    """A running worker, seen from the supervisor."""

    index: int
    pid: int
    pidfd: int
    control: socket.socket
    started: float
    kernel: socket.socket | None = None
    """Its messages for the kernel tier."""
    seated: bool = False
    """Its place in the kernel tier is its own: no worker of a later generation has taken it."""
    ready: bool = False
    draining: bool = False
    error: str = ""


@dataclass
class _Restart:
    """When the worker at an index is started again, and how long it had to wait."""

    at: float
    delay: float


@dataclass(eq=False)
class Generation:
    """See above. `start`, then `tick` when `due` says so."""

    plan: Plan
    house: House
    previous: Generation | None = None
    """The one that serves until this one does."""

    phase: Phase = field(default=Phase.STARTING, init=False)
    error: StartError | None = field(default=None, init=False)
    """Why it cannot serve: to be ended by whoever started it."""
    code: int = field(default=0, init=False)
    """The exit code of a worker that found an error at its end."""
    _running: dict[int, _Worker] = field(default_factory=dict, init=False)
    _restarts: dict[int, _Restart] = field(default_factory=dict, init=False)
    _delays: dict[int, float] = field(default_factory=dict, init=False)
    _left_seats: set[int] = field(default_factory=set, init=False)
    """Places in the kernel tier that workers of the next generation have, by their index."""
    _apps: AppsLike | None = field(init=False)
    _kill_at: float | None = field(default=None, init=False)
    _grace: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._apps = self.plan.apps

    def start(self) -> None:
        """Start the workers and the applications: files need not wait for these. After a reload the applications come
        first, and no request waits for them. StartError: there can be no process."""
        if self._apps is not None:
            self._apps.failed = self._fail
        if self.previous is None:
            self._start_workers()
        if self._apps is not None:
            self._apps.start(self.house.selector)

    @property
    def alive(self) -> bool:
        """Whether it has processes, or will."""
        return bool(self._running or self._restarts or (self._apps is not None and self._apps.alive))

    @property
    def workers_leave(self) -> bool:
        """None of its workers accepts any more."""
        return self.phase is Phase.LEAVING and all(running.draining for running in self._running.values())

    @property
    def is_up(self) -> bool:
        """Its workers are all there, and ready."""
        return len(self._running) == self.house.workers and all(one.ready for one in self._running.values())

    def due(self) -> float | None:
        """When `tick` is to be called, in seconds of the monotonic clock; None: not until something happens."""
        times = [restart.at for restart in self._restarts.values()]
        if self._kill_at is not None:
            times.append(self._kill_at)
        due = None if self._apps is None else self._apps.due()
        if due is not None:
            times.append(due)
        return min(times) if times else None

    def tick(self) -> None:
        """Do what is due. StartError: a worker cannot be started at all."""
        now = time.monotonic()
        if self._apps is not None:
            self._apps.tick()
        may_start = self.phase is Phase.STARTING and self.error is None and not self._running
        if may_start and (self._apps is None or self._apps.ready):
            self._start_workers()
        for index in [index for index, restart in self._restarts.items() if restart.at <= now]:
            del self._restarts[index]
            self._start(index)
        if self._kill_at is not None and self._kill_at <= now:
            if self._running:
                logger.warning("%d workers did not finish within %g s and are killed", len(self._running), self._grace)
            self._kill_at = None
            self._signal_workers(signal.SIGKILL)

    # -- workers ---------------------------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        for index in range(self.house.workers):
            self._start(index)

    def _start(self, index: int) -> None:
        house = self.house
        ours, theirs = control.pair()
        if self.previous is not None:
            self.previous.leave_seat(index)
        kernel = None if index in self._left_seats else house.tier.seat(index)
        seat = Seat(index, theirs, house.listeners, house.log.fd, os.getpid(), kernel)
        try:
            pid = fork(lambda: self.plan.body(seat), functools.partial(_report, theirs), SIGNALS)
        except OSError as error:
            ours.close()
            if self.phase is Phase.STARTING:
                self._fail(StartError(f"cannot start a worker: {error.strerror}"))
                return
            logger.error("cannot start a worker: %s", error.strerror)
            self._restart_later(index, lived=0.0)
            return
        finally:
            theirs.close()
            if kernel is not None:
                kernel.close()
        new = _Worker(index, pid, os.pidfd_open(pid), ours, time.monotonic(), seated=kernel is not None)
        self._running[index] = new
        house.selector.register(new.pidfd, selectors.EVENT_READ, lambda: self._on_end(new))
        house.selector.register(new.control, selectors.EVENT_READ, lambda: self._on_message(new))
        if kernel is not None:
            new.kernel = house.tier.messages(index)
            house.selector.register(new.kernel, selectors.EVENT_READ, lambda: self._on_kernel_message(new))

    def leave_seat(self, index: int) -> None:
        """A worker of the next generation gets the place in the kernel tier: what was published is taken back, and only
        workers answer the connections of this one from now on."""
        self._left_seats.add(index)
        running = self._running.get(index)
        if running is not None and running.seated:
            self._unseat(running)

    def keep_seats(self) -> None:
        """There will be no next generation: workers that start from now on have a part in the kernel tier again."""
        self._left_seats.clear()

    def _unseat(self, worker: _Worker) -> None:
        worker.seated = False
        if worker.kernel is not None:
            self.house.selector.unregister(worker.kernel)
            worker.kernel = None
        self.house.tier.worker_gone(worker.index)

    def _on_message(self, sender: _Worker) -> None:
        if self._running.get(sender.index) is not sender:
            return  # it was killed while this event waited its turn
        while message := control.receive(sender.control):
            if message == control.READY:
                sender.ready = True
                if self._apps is not None:
                    self._apps.worker_ready(sender.index, sender.control)
            elif message == control.DRAINING:
                sender.draining = True
                self._let_apps_leave()
            elif message.startswith(control.ERROR):
                sender.error = message.removeprefix(control.ERROR).decode("utf-8", "surrogateescape")
        if message == b"" and sender.control in self.house.selector.get_map():
            self.house.selector.unregister(sender.control)  # its end is reported by the pidfd

    def _on_kernel_message(self, sender: _Worker) -> None:
        if sender.kernel is not None and not self.house.tier.on_message(sender.index):
            self.house.selector.unregister(sender.kernel)
            sender.kernel = None

    def _on_end(self, ended: _Worker) -> None:
        if self._running.get(ended.index) is not ended:
            return
        self._on_message(ended)  # its last words
        code = reap(ended.pid)
        self._forget(ended)
        if self.phase is Phase.LEAVING:
            self._let_apps_leave()
            if code < 0 and -code != signal.SIGKILL:
                logger.error("worker %d (pid %d) %s", ended.index, ended.pid, describe_end(code))
            self.code = self.code or max(0, code)
            return
        if self.phase is Phase.STARTING:
            self._fail(StartError(ended.error or f"a worker could not start: it {describe_end(code)}"))
            return
        reason = f": {ended.error}" if ended.error else ""
        level = logging.ERROR if code else logging.INFO  # 0: somebody has asked it to stop, and not us
        logger.log(level, "worker %d (pid %d) %s%s; it is replaced", ended.index, ended.pid, describe_end(code), reason)
        self._restart_later(ended.index, lived=time.monotonic() - ended.started)

    def _fail(self, error: StartError) -> None:
        self.error = self.error or error

    def _restart_later(self, index: int, lived: float) -> None:
        delay = 0.0
        if lived < RESTART_AT_ONCE_SECONDS:
            last = self._delays.get(index, 0.0)
            delay = min(LAST_RESTART_DELAY_SECONDS, max(FIRST_RESTART_DELAY_SECONDS, 2 * last))
        self._delays[index] = delay
        self._restarts[index] = _Restart(time.monotonic() + delay, delay)

    def _forget(self, ended: _Worker) -> None:
        del self._running[ended.index]
        selector = self.house.selector
        selector.unregister(ended.pidfd)
        if ended.control in selector.get_map():
            selector.unregister(ended.control)
        if self._apps is not None:
            self._apps.worker_gone(ended.index)
        if ended.seated:
            self._unseat(ended)
        os.close(ended.pidfd)
        ended.control.close()

    def _signal_workers(self, number: signal.Signals) -> None:
        for running in self._running.values():
            os.kill(running.pid, number)  # not reaped yet, so the pid is still its own

    def send_log(self, fd: int) -> None:
        """The access log was reopened."""
        for running in self._running.values():
            try:
                control.send_log(running.control, fd)
            except OSError as error:
                logger.error("worker %d keeps the old access log: %s", running.index, error.strerror)

    # -- the end ---------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Another generation serves: accept nothing more, and end what was begun, which may take `FINISH_SECONDS`, or
        the grace, for requests of applications."""
        self._leave(FINISH_SECONDS)
        for running in self._running.values():
            control.send(running.control, control.FINISH)

    def stop(self) -> None:
        """Accept nothing more, end what was begun within the grace."""
        self._leave(self.plan.grace)
        self._signal_workers(signal.SIGTERM)

    def _leave(self, seconds: float) -> None:
        self._restarts.clear()
        self._grace = seconds
        self._kill_at = time.monotonic() + seconds + KILL_MARGIN_SECONDS
        if self.phase is not Phase.LEAVING and self._apps is not None:
            self._apps.stop(self.plan.grace)
        self.phase = Phase.LEAVING
        self._let_apps_leave()  # should there be no worker at all

    def _let_apps_leave(self) -> None:
        """As soon as no worker accepts any more."""
        if self.workers_leave and self._apps is not None:
            self._apps.workers_drain()

    def kill(self) -> None:
        """End all at once, and wait for it."""
        self._kill_at = None
        self._restarts.clear()
        self._signal_workers(signal.SIGKILL)
        for running in list(self._running.values()):
            reap(running.pid)
            self._forget(running)
        if self._apps is not None:
            self._apps.kill_all()


def _report(sock: socket.socket, error: BaseException) -> None:
    """In a worker that ends by an exception: tell the supervisor why."""
    if not isinstance(error, StartError | OSError):
        logger.error("a worker failed", exc_info=error)
        error = RuntimeError(f"{type(error).__name__}: {error}")
    control.send(sock, control.ERROR + str(error).encode("utf-8", "surrogateescape"))
