"""A worker process: one engine thread that serves, and the planner that decides what the engine has not seen.

Three threads: the main thread plans; the engine's thread runs C without the GIL; a small one waits for signals and for
the supervisor, so that a stop is obeyed at once even while a plan is being made.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import selectors
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from tux.daemon import control, health, privileges, seccomp, upstreams
from tux.daemon.listeners import Listeners
from tux.daemon.privileges import Account
from tux.errors import StartError

DRAINED = 0
"""Exit code: asked to stop, and everything under way was finished or its grace was over."""
FAILED = 1
"""Exit code: an error, which the log shows."""
LEAKED = 3
"""Exit code: stopped, but the engine's counters at its end were not zero: a bug."""

PLANNER_NICE = 5
"""Nice value of the planner's thread: a third of the weight of the engine's thread (sched(7)), so that planning cannot
starve serving on a busy CPU, and still gets on."""

LOG_CHECK_SECONDS = 10.0
"""How often a worker with an access log looks whether records were lost."""

FAILED_PLANNER_GRACE_MS = 1000
"""After a planner that failed: what needs no planner may go on for so long."""

FINISH_SECONDS = 3600.0
"""What a worker had begun when the configuration was reloaded may take so long: a large download by a slow line, a
tunnel. A stop has the grace, since people wait for it; nobody waits for this."""

_LATE_IMPORTS = ("encodings.idna", "encodings.latin_1", "linecache", "stringprep", "traceback", "tokenize")
"""Modules that Python itself loads at first use. After the change of user its files may be out of reach."""

_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE)
"""A terminal sends SIGINT to the whole group, and so do people with SIGUSR1: the supervisor decides what they mean."""

_END = 0
"""On the wake-up socket, where the numbers of signals arrive: the worker has ended. No signal has this number."""

Identity = tuple[int, int]
"""Device and inode of a file."""

logger = logging.getLogger("tux.worker")


class EngineLike(Protocol):
    """What a worker needs of `tux._engine.Engine`; see there."""

    def listen(self, fd: int, *, listener: int, shared: bool = False) -> None: ...
    def kernel(
        self,
        *,
        slots_fd: int,
        cells_fd: int,
        message_fd: int,
        secret: bytes,
        listeners: Sequence[int],
        hits: int,
        max_answer_bytes: int,
    ) -> None: ...
    def link_app(
        self,
        app: int,
        serial: int,
        requests_fd: int,
        answers_fd: int,
        process_wake_fd: int,
        wake_fd: int,
        side_fd: int,
        /,
    ) -> None: ...
    def unlink_app(self, serial: int, /) -> None: ...
    def upstream_failures(self, group: int, server: int, /) -> tuple[dict[str, int], int]: ...
    def upstream_health(self, group: int, server: int, /, *, healthy: bool) -> None: ...
    def own(self, dev: int, ino: int, /) -> None: ...
    def run(self) -> None: ...
    def drain(self, grace_ms: int) -> None: ...
    def leaving_fd(self) -> int: ...
    def reopen_log(self, fd: int) -> None: ...
    def end_log(self) -> None: ...
    def stats(self) -> dict[str, int]: ...
    def close(self) -> dict[str, int]: ...


class PlannerLike(Protocol):
    """What a worker needs of `tux.planner.loop.Planner`."""

    def run(self, stop_fd: int) -> None:
        """Answer what the engine asks, until `stop_fd` is readable."""


@dataclass(frozen=True)
class KernelSeat:
    """What the kernel tier hands over at the fork: three descriptors, which the engine takes over, and what it does."""

    slots_fd: int
    cells_fd: int
    message_fd: int
    """Its end of a SOCK_SEQPACKET pair."""
    secret: bytes
    """Key of the hash over heads."""
    listeners: tuple[int, ...]
    """Those whose requests are answered by the tier, too."""
    hits: int
    max_answer_bytes: int

    @property
    def descriptors(self) -> set[int]:
        return {self.slots_fd, self.cells_fd, self.message_fd}

    def close(self) -> None:
        """In the supervisor, after the fork."""
        for fd in self.descriptors:
            os.close(fd)


@dataclass(frozen=True)
class Seat:
    """The place of one worker, as the supervisor hands it over at the fork."""

    index: int
    control: socket.socket
    listeners: Listeners
    log_fd: int
    supervisor: int
    """Its pid."""
    kernel: KernelSeat | None = None


@dataclass(frozen=True)
class Job:
    """What all workers of a server do."""

    account: Account
    grace_ms: int
    make_engine: Callable[[int], EngineLike]
    """Gets the descriptor of the access log, or -1."""
    make_planner: Callable[[EngineLike, AbstractSet[Identity]], PlannerLike]
    """Gets the files that must never be served. The set grows when the access log is reopened."""
    own: frozenset[Identity] = frozenset()
    """Files of Tux itself, beside the access log: the configuration."""
    groups: tuple[upstreams.Group, ...] = ()
    """The groups that the engine has."""


def only_wake(_number: int, _frame: object) -> None:
    """A handler for signals whose numbers are read from the descriptor of `signal.set_wakeup_fd`."""


def preload() -> None:
    """Import what may be needed late. In the supervisor: workers then share its memory."""
    for name in _LATE_IMPORTS:
        importlib.import_module(name)


def serve(seat: Seat, job: Job) -> int:
    """The life of a worker, called after the fork with all signals blocked; returns the exit code.

    StartError, OSError: it could not start."""
    sockets = seat.listeners.keep(seat.index)
    kernel = seat.kernel.descriptors if seat.kernel is not None else set()
    close_all_but({seat.control.fileno(), seat.log_fd, *(sock.fileno() for sock in sockets), *kernel})
    privileges.raise_descriptor_limit()
    privileges.become(job.account)
    if not privileges.die_with_parent(seat.supervisor):
        raise StartError("the supervisor is gone")
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    _refuse_system_calls(seat.index)

    engine = job.make_engine(seat.log_fd)
    for index, (listener, sock) in enumerate(zip(seat.listeners, sockets, strict=True)):
        engine.listen(sock.fileno(), listener=index, shared=listener.shared)
    if seat.kernel is not None:
        try:
            engine.kernel(**dataclasses.asdict(seat.kernel))
        except OSError as error:  # nothing is lost but speed
            logger.error("worker %d has no part in the kernel tier: %s", seat.index, error)
    own = set(job.own)
    if seat.log_fd >= 0:
        own.add(_identity(seat.log_fd))
    for identity in own:
        engine.own(*identity)
    planner = job.make_planner(engine, own)
    checks = health.Checks(engine, job.groups, talks=seat.index == 0)
    return _run(seat, engine, planner, checks, _Watcher(seat, engine, job, own))


def _refuse_system_calls(index: int) -> None:
    """Before any thread begins: each gets the filter of the one that started it."""
    try:
        seccomp.install()
    except seccomp.UnsupportedError as error:
        if index == 0:  # once is enough
            logger.warning("workers may make any system call: %s", error)


def _run(seat: Seat, engine: EngineLike, planner: PlannerLike, checks: health.Checks, watcher: _Watcher) -> int:
    runner = _EngineThread(engine)
    # Threads inherit the mask, in which everything is blocked: signals come to the main thread only, and no system call
    # of the engine is ever interrupted.
    runner.start()
    watcher.start()
    checks.start()
    signal.signal(signal.SIGTERM, only_wake)
    signal.set_wakeup_fd(watcher.wakeup.fileno(), warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PLANNER_NICE)  # of this thread only, on Linux
    control.send(seat.control, control.READY)

    code = DRAINED
    try:
        planner.run(runner.ended.fileno())
    except Exception:
        logger.exception("the planner failed; this worker ends")
        engine.drain(FAILED_PLANNER_GRACE_MS)
        code = FAILED
    runner.join()
    checks.stop()
    watcher.end()
    if runner.error is not None:
        logger.error("the engine failed: %s", runner.error)
        code = FAILED
    engine.end_log()
    watcher.report_lost_records()
    leaks = {name: count for name, count in engine.close().items() if count}
    if leaks:
        logger.error("worker %d leaked: %s", seat.index, " ".join(f"{name}={count}" for name, count in leaks.items()))
        code = code or LEAKED
    return code


class _EngineThread(threading.Thread):
    def __init__(self, engine: EngineLike) -> None:
        super().__init__(name="tux-engine")
        self._engine = engine
        self.ended, self._end = socket.socketpair()
        """The first is readable when the engine has ended."""
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._engine.run()
        except Exception as error:  # noqa: BLE001 (reported by the main thread)
            self.error = error
        finally:
            self._end.close()


class _Watcher(threading.Thread):
    """Waits for signals, messages of the supervisor, and its end."""

    def __init__(self, seat: Seat, engine: EngineLike, job: Job, own: set[Identity]) -> None:
        super().__init__(name="tux-watcher")
        self._own = own
        self._seat = seat
        self._engine = engine
        self._grace_ms = job.grace_ms
        self._upstreams = upstreams.Reporter(engine, job.groups)
        self._log_fd = seat.log_fd
        self._lost = 0
        self._awake, self.wakeup = socket.socketpair()
        self.wakeup.settimeout(0)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._awake, selectors.EVENT_READ)
        self._selector.register(seat.control, selectors.EVENT_READ)
        self._selector.register(engine.leaving_fd(), selectors.EVENT_READ)

    def run(self) -> None:
        while True:
            ready = self._selector.select(self._patience())
            if not ready:
                self._upstreams.report()
                self.report_lost_records()
            for key, _ in ready:
                if key.fileobj is self._seat.control:
                    self._on_message()
                elif key.fileobj is not self._awake:  # only now: who connects after a reload meets the new workers
                    self._selector.unregister(key.fileobj)
                    control.send(self._seat.control, control.DRAINING)
                elif not self._on_signals(self._awake.recv(64)):
                    return

    def _patience(self) -> float | None:
        if self._upstreams.groups:
            return upstreams.REPORT_SECONDS
        return LOG_CHECK_SECONDS if self._log_fd >= 0 else None

    def end(self) -> None:
        """Called by the main thread when the engine has ended."""
        self.wakeup.send(bytes([_END]))
        self.join()
        self._upstreams.report()

    def _on_signals(self, numbers: bytes) -> bool:
        if signal.SIGTERM in numbers:
            self._engine.drain(self._grace_ms)
        return _END not in numbers

    def _on_message(self) -> None:
        message, fds = control.receive_with_descriptors(self._seat.control)
        if not message:  # the supervisor is gone: nobody would start another worker, or keep the sockets
            self._selector.unregister(self._seat.control)
            self._engine.drain(self._grace_ms)
            # The addresses become free for a server that takes over, while this one finishes what it has begun.
            self._seat.listeners.refuse()
        elif message.startswith(control.LINK) and len(fds) == control.LINK_DESCRIPTORS:
            serial, app = struct.unpack("<II", message.removeprefix(control.LINK))
            try:
                self._engine.link_app(app, serial, *fds)
            except OSError as error:
                logger.error("worker %d cannot reach a process of an application: %s", self._seat.index, error)
        elif message.startswith(control.UNLINK):
            self._engine.unlink_app(*struct.unpack("<I", message.removeprefix(control.UNLINK)))
        elif message == control.FINISH:
            self._engine.drain(round(FINISH_SECONDS * 1000))
        elif message == control.LOG and len(fds) == 1:
            fd = fds[0]
            self._own.add(_identity(fd))
            self._engine.own(*_identity(fd))
            self._engine.reopen_log(fd)
            # The engine's log thread may be writing to the old one at this moment: it is closed at the next time.
            if self._log_fd != self._seat.log_fd:
                os.close(self._log_fd)
            self._log_fd = fd

    def report_lost_records(self) -> None:
        """One line in the error log when access log records were lost since the last call."""
        stats = self._engine.stats()
        lost = stats.get("log_lost", 0)
        if lost > self._lost:
            error = stats.get("log_error", 0)
            reason = os.strerror(error) if error else "more came than the disk takes"
            logger.warning("the access log lost %d records: %s", lost - self._lost, reason)
            self._lost = lost


def _identity(fd: int) -> Identity:
    found = os.fstat(fd)
    return (found.st_dev, found.st_ino)


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor but the standard ones and these: other workers' sockets, and whatever was inherited."""
    kept = {0, 1, 2, *keep}
    with os.scandir("/proc/self/fd") as entries:
        strays = [int(entry.name) for entry in entries]
    for fd in strays:
        if fd not in kept:
            try:
                os.close(fd)
            except OSError:
                pass  # the one that listed the folder
