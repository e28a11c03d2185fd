"""The processes of a server: a supervisor without threads owns the sockets and logs, and keeps the workers running.

The supervisor waits in one place (`Supervisor._loop`) for signals, messages and ends of workers, and acts on each.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from tux.daemon import control, worker
from tux.daemon.fork import describe_end, fork, reap
from tux.daemon.listeners import Listeners
from tux.daemon.logs import AccessLog
from tux.daemon.worker import KernelSeat, Seat
from tux.errors import StartError

RESTART_AT_ONCE_SECONDS = 1.0
"""A worker that lived for so long is replaced at once; one that died earlier has to wait, longer each time."""
FIRST_RESTART_DELAY_SECONDS = 0.1
LAST_RESTART_DELAY_SECONDS = 5.0

KILL_MARGIN_SECONDS = 1.0
"""Workers end by themselves when the grace is over; those that have not so much later are killed."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)

logger = logging.getLogger("tux.supervisor")


class TierLike(Protocol):
    """What a supervisor needs of `tux.kernel.tier.KernelTier`; see there."""

    def worker_seat(self, worker: int, /) -> KernelSeat: ...
    def messages(self, worker: int, /) -> socket.socket: ...
    def on_message(self, worker: int, /) -> bool: ...
    def worker_gone(self, worker: int, /) -> None: ...
    def reopen_log(self, fd: int, /) -> None: ...
    def due(self) -> float: ...
    def tick(self) -> None: ...
    def quiet(self) -> None: ...
    def finish(self, patience: float = ..., /) -> None: ...


class AppsLike(Protocol):
    """What a supervisor needs of `tux.daemon.apps.Apps`; see there."""

    def start(self, selector: selectors.BaseSelector, /) -> None: ...
    @property
    def alive(self) -> bool: ...
    def due(self) -> float | None: ...
    def tick(self) -> None: ...
    def worker_ready(self, worker: int, sock: socket.socket, /) -> None: ...
    def worker_gone(self, worker: int, /) -> None: ...
    def stop(self, grace: float, /) -> None: ...
    def workers_drain(self) -> None: ...
    def kill_all(self) -> None: ...


@dataclass
class _Worker:
    """A running worker, seen from the supervisor."""

    index: int
    pid: int
    pidfd: int
    control: socket.socket
    started: float
    kernel: socket.socket | None = None
    """Its messages for the kernel tier."""
    ready: bool = False
    draining: bool = False
    error: str = ""


@dataclass
class _Restart:
    """When the worker at an index is started again, and how long it had to wait."""

    at: float
    delay: float


@dataclass
class Supervisor:
    """One run of a server. `run` may be called once."""

    listeners: Listeners
    log: AccessLog
    body: Callable[[Seat], int]
    """What a worker does; called in its process with all signals blocked, returns its exit code."""
    workers: int
    grace: float
    """Seconds that a stop waits for answers under way."""
    ready_fd: int | None = None
    tier: TierLike | None = None
    """The kernel tier, started; this brings it to its end."""
    apps: AppsLike | None = None
    """The applications, not yet started."""

    _running: dict[int, _Worker] = field(default_factory=dict, init=False)
    _restarts: dict[int, _Restart] = field(default_factory=dict, init=False)
    _delays: dict[int, float] = field(default_factory=dict, init=False)
    _selector: selectors.BaseSelector = field(init=False)
    _serving: bool = field(default=False, init=False)
    _stopping: bool = field(default=False, init=False)
    _kill_at: float | None = field(default=None, init=False)
    _tier_failed: bool = field(default=False, init=False)
    _at_once: bool = field(default=True, init=False)
    """Its end waits for nothing."""
    _code: int = field(default=0, init=False)

    def run(self) -> int:
        """Serve until told to stop; returns the exit code: 0; 128 + N when a second signal N ended it at once; or that
        of a worker which found an error at its end. See `check_alone`. StartError: a worker could not start."""
        check_alone()
        with contextlib.ExitStack() as cleanup:
            wakeup = cleanup.enter_context(_signal_numbers())
            self._selector = cleanup.enter_context(selectors.DefaultSelector())
            self._selector.register(wakeup, selectors.EVENT_READ, lambda: self._on_signals(wakeup))
            cleanup.callback(self._finish_tier)
            cleanup.callback(self._kill_all)
            for index in range(self.workers):
                self._start(index)
            if self.apps is not None:
                self.apps.start(self._selector)
            self._loop()
            self._at_once = self._code > 128
            return self._code

    def _loop(self) -> None:
        while self._running or self._restarts or (self.apps is not None and self.apps.alive):
            for key, _ in self._selector.select(self._timeout()):
                key.data()
            now = time.monotonic()
            if self.apps is not None:
                self.apps.tick()
            if self.tier is not None and not self._tier_failed and self.tier.due() <= now:
                with self._without_harm():
                    self.tier.tick()
            for index in [index for index, restart in self._restarts.items() if restart.at <= now]:
                del self._restarts[index]
                self._start(index)
            if self._kill_at is not None and self._kill_at <= now:
                if self._running:
                    logger.warning(
                        "%d workers did not finish within %g s and are killed", len(self._running), self.grace
                    )
                self._kill_at = None
                self._signal_workers(signal.SIGKILL)

    def _timeout(self) -> float | None:
        times = [restart.at for restart in self._restarts.values()]
        if self._kill_at is not None:
            times.append(self._kill_at)
        if self.tier is not None and not self._tier_failed:
            times.append(self.tier.due())
        due = None if self.apps is None else self.apps.due()
        if due is not None:
            times.append(due)
        return max(0.0, min(times) - time.monotonic()) if times else None

    # -- workers ---------------------------------------------------------------------------------------------------

    def _start(self, index: int) -> None:
        ours, theirs = control.pair()
        kernel = self._kernel_seat(index)
        supervisor = os.getpid()
        seat = Seat(index, theirs, self.listeners, self.log.fd, supervisor, kernel)
        try:
            pid = fork(lambda: self.body(seat), functools.partial(_report, theirs), SIGNALS)
        except OSError as error:
            ours.close()
            theirs.close()
            if kernel is not None:
                kernel.close()
            if not self._serving:
                raise StartError(f"cannot start a worker: {error.strerror}") from None
            logger.error("cannot start a worker: %s", error.strerror)
            self._restart_later(index, lived=0.0)
            return
        theirs.close()
        new = _Worker(index, pid, os.pidfd_open(pid), ours, time.monotonic())
        self._running[index] = new
        self._selector.register(new.pidfd, selectors.EVENT_READ, lambda: self._on_end(new))
        self._selector.register(new.control, selectors.EVENT_READ, lambda: self._on_message(new))
        if kernel is not None and self.tier is not None:
            kernel.close()
            new.kernel = self.tier.messages(index)
            self._selector.register(new.kernel, selectors.EVENT_READ, lambda: self._on_kernel_message(new))

    def _kernel_seat(self, index: int) -> KernelSeat | None:
        """What the kernel tier has for a worker; without it the worker serves all the same."""
        if self.tier is None:
            return None
        try:
            return self.tier.worker_seat(index)
        except OSError as error:
            logger.error("worker %d has no part in the kernel tier: %s", index, error)
            return None

    def _on_message(self, sender: _Worker) -> None:
        if self._running.get(sender.index) is not sender:
            return  # it was killed while this event waited its turn
        while message := control.receive(sender.control):
            if message == control.READY:
                sender.ready = True
                if self.apps is not None:
                    self.apps.worker_ready(sender.index, sender.control)
                if not self._serving and all(other.ready for other in self._running.values()):
                    self._serving = True
                    self._announce()
            elif message == control.DRAINING:
                sender.draining = True
                self._refuse_when_all_drain()
            elif message.startswith(control.ERROR):
                sender.error = message.removeprefix(control.ERROR).decode("utf-8", "surrogateescape")
        if message == b"" and sender.control in self._selector.get_map():
            self._selector.unregister(sender.control)  # its end is reported by the pidfd

    def _on_kernel_message(self, sender: _Worker) -> None:
        if self._running.get(sender.index) is not sender or sender.kernel is None or self.tier is None:
            return
        goes_on = False
        with self._without_harm():
            goes_on = self.tier.on_message(sender.index)
        if not goes_on:
            self._selector.unregister(sender.kernel)
            sender.kernel = None

    @contextlib.contextmanager
    def _without_harm(self) -> Iterator[None]:
        """A mistake in the kernel tier costs the tier, and not the server: without a heartbeat it answers nothing."""
        try:
            yield
        except Exception:
            logger.exception("the kernel tier failed; workers answer all requests from now on")
            self._tier_failed = True

    def _announce(self) -> None:
        for url in self.listeners.urls:
            logger.info("ready on %s", url)
        if self.ready_fd is not None:
            text = "".join(f"{url}\n" for url in self.listeners.urls)
            try:
                os.write(self.ready_fd, os.fsencode(text))
            except OSError as error:  # whoever wanted to know is gone; that is no reason not to serve
                logger.warning("cannot write to --ready-fd %d: %s", self.ready_fd, error.strerror)
            os.close(self.ready_fd)
            self.ready_fd = None

    def _on_end(self, ended: _Worker) -> None:
        if self._running.get(ended.index) is not ended:
            return
        self._on_message(ended)  # its last words
        code = reap(ended.pid)
        self._forget(ended)
        if self._stopping:
            self._refuse_when_all_drain()
            if code < 0 and -code != signal.SIGKILL:
                logger.error("worker %d (pid %d) %s", ended.index, ended.pid, describe_end(code))
            self._code = self._code or max(0, code)
            return
        if not self._serving:
            raise StartError(ended.error or f"a worker could not start: it {describe_end(code)}")
        reason = f": {ended.error}" if ended.error else ""
        level = logging.ERROR if code else logging.INFO  # 0: somebody has asked it to stop, and not us
        logger.log(level, "worker %d (pid %d) %s%s; it is replaced", ended.index, ended.pid, describe_end(code), reason)
        self._restart_later(ended.index, lived=time.monotonic() - ended.started)

    def _restart_later(self, index: int, lived: float) -> None:
        delay = 0.0
        if lived < RESTART_AT_ONCE_SECONDS:
            last = self._delays.get(index, 0.0)
            delay = min(LAST_RESTART_DELAY_SECONDS, max(FIRST_RESTART_DELAY_SECONDS, 2 * last))
        self._delays[index] = delay
        self._restarts[index] = _Restart(time.monotonic() + delay, delay)

    def _forget(self, ended: _Worker) -> None:
        del self._running[ended.index]
        self._selector.unregister(ended.pidfd)
        if ended.control in self._selector.get_map():
            self._selector.unregister(ended.control)
        if ended.kernel is not None:
            self._selector.unregister(ended.kernel)
        if self.apps is not None:
            self.apps.worker_gone(ended.index)
        if self.tier is not None:
            with self._without_harm():
                self.tier.worker_gone(ended.index)
        os.close(ended.pidfd)
        ended.control.close()

    def _signal_workers(self, number: signal.Signals) -> None:
        for running in self._running.values():
            os.kill(running.pid, number)  # not reaped yet, so the pid is still its own

    def _kill_all(self) -> None:
        self._signal_workers(signal.SIGKILL)
        for running in list(self._running.values()):
            reap(running.pid)
            self._forget(running)
        if self.apps is not None:
            self.apps.kill_all()

    def _finish_tier(self) -> None:
        with self._without_harm():
            if self.tier is not None and self._at_once:
                self.tier.finish(0.0)
            elif self.tier is not None:
                self.tier.finish()

    # -- signals ---------------------------------------------------------------------------------------------------

    def _on_signals(self, wakeup: socket.socket) -> None:
        for number in wakeup.recv(64):
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop(number)
            elif number == signal.SIGUSR1:
                self._reopen_log()
            elif number == signal.SIGHUP:
                logger.warning("SIGHUP: reload is not supported yet")

    def _stop(self, number: int) -> None:
        if self._stopping:
            self._kill_at = None
            self._kill_all()
            self._code = 128 + number
            return
        self._stopping = True
        self._restarts.clear()
        if self.tier is not None:
            with self._without_harm():
                self.tier.quiet()
        self._kill_at = time.monotonic() + self.grace + KILL_MARGIN_SECONDS
        self._signal_workers(signal.SIGTERM)
        if self.apps is not None:
            self.apps.stop(self.grace)

    def _refuse_when_all_drain(self) -> None:
        """Clients that come during a stop are refused, and not left waiting, as soon as no worker accepts any more."""
        if self._stopping and all(running.draining for running in self._running.values()):
            self.listeners.refuse()
            if self.apps is not None:
                self.apps.workers_drain()

    def _reopen_log(self) -> None:
        try:
            if not self.log.reopen():
                return
        except OSError as error:
            logger.error("cannot reopen the access log %s: %s", self.log.path, error.strerror)
            return
        if self.tier is not None:
            with self._without_harm():
                self.tier.reopen_log(self.log.fd)
        for running in self._running.values():
            try:
                control.send_log(running.control, self.log.fd)
            except OSError as error:
                logger.error("worker %d keeps the old access log: %s", running.index, error.strerror)
        logger.info("reopened the access log %s", self.log.path)


def check_alone() -> None:
    """StartError: this is not the main thread, or not the only one. A fork copies only the calling thread, and whatever
    locks the others hold would stay locked in the workers."""
    if threading.current_thread() is not threading.main_thread():
        raise StartError("the server must be started by the main thread; from other threads use tux.Server")
    if len(os.listdir("/proc/self/task")) > 1:
        raise StartError("the server forks, and this process has several threads; use tux.Server, which starts its own")


@contextlib.contextmanager
def _signal_numbers() -> Iterator[socket.socket]:
    """A socket on which the numbers of our signals arrive. Afterwards the handlers are what they were."""
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.settimeout(0)
        handlers = {number: signal.signal(number, worker.only_wake) for number in SIGNALS}
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                # None: it was not set from Python, and cannot be restored from there
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _report(sock: socket.socket, error: BaseException) -> None:
    """In a worker that ends by an exception: tell the supervisor why."""
    if not isinstance(error, StartError | OSError):
        logger.error("a worker failed", exc_info=error)
        error = RuntimeError(f"{type(error).__name__}: {error}")
    control.send(sock, control.ERROR + str(error).encode("utf-8", "surrogateescape"))
