"""The processes of a server: a supervisor without threads owns the sockets and logs, and keeps the workers running.

The supervisor waits in one place (`Supervisor._loop`) for signals, messages and ends of workers, and acts on each. The
workers belong to generations, see `tux.daemon.generation`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tux.daemon import systemd, worker
from tux.daemon.generation import SIGNALS, Generation, House, Phase, Plan
from tux.daemon.listeners import Listeners
from tux.daemon.logs import AccessLog
from tux.daemon.tier import Tier, TierLike
from tux.errors import ConfigError, StartError

OLD_GENERATIONS: Final = 4
"""That many may be finishing what they have begun. With one more, the oldest has the grace: who reloads once a minute
must not fill the memory with workers that each wait for a download."""

logger = logging.getLogger("tux.supervisor")


@dataclass
class Supervisor:
    """One run of a server. `run` may be called once."""

    listeners: Listeners
    log: AccessLog
    plan: Plan
    workers: int
    ready_fd: int | None = None
    tier: TierLike | None = None
    """The kernel tier, started; this brings it to its end."""
    reread: Callable[[], Plan] | None = None
    """What the configuration asks for by now. StartError: it cannot be. None: there is no reload."""
    notify: systemd.Notify = lambda _text: None
    """Says something to the service manager."""

    _now: Generation = field(init=False)
    """The one that serves, or starts as the first."""
    _next: Generation | None = field(default=None, init=False)
    _old: list[Generation] = field(default_factory=list, init=False)
    """Those that leave, the oldest first."""
    _tier: Tier = field(init=False)
    _house: House = field(init=False)
    _reload_asked: bool = field(default=False, init=False)
    """As soon as the first one serves."""
    _taking_over: bool = field(default=False, init=False)
    """The new generation serves, and workers of the last one may still accept."""
    _stopping: bool = field(default=False, init=False)
    _refused: bool = field(default=False, init=False)
    _at_once: bool = field(default=True, init=False)
    """Its end waits for nothing."""
    _code: int = field(default=0, init=False)

    def run(self) -> int:
        """Serve until told to stop; returns the exit code: 0; 128 + N when a second signal N ended it at once; or that
        of a worker which found an error at its end. See `check_alone`. StartError: a worker could not start."""
        check_alone()
        self._tier = Tier(self.tier)
        with contextlib.ExitStack() as cleanup:
            wakeup = cleanup.enter_context(_signal_numbers())
            selector = cleanup.enter_context(selectors.DefaultSelector())
            selector.register(wakeup, selectors.EVENT_READ, lambda: self._on_signals(wakeup))
            self._house = House(self.listeners, self.log, self.workers, self._tier, selector)
            self._now = Generation(self.plan, self._house)
            cleanup.callback(lambda: self._tier.finish(at_once=self._at_once))
            cleanup.callback(self._kill_all)
            self._now.start()
            self._loop()
            self._at_once = self._code > 128
            return self._code

    @property
    def _generations(self) -> list[Generation]:
        return [*self._old, self._now, *([] if self._next is None else [self._next])]

    def _loop(self) -> None:
        while any(one.alive for one in self._generations):
            for key, _ in self._house.selector.select(self._timeout()):
                key.data()
            for one in self._generations:
                one.tick()
            self._tier.tick()
            self._look()

    def _timeout(self) -> float | None:
        times = [due for one in self._generations if (due := one.due()) is not None]
        due = self._tier.due()
        if due is not None:
            times.append(due)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _look(self) -> None:
        """What has come to pass in the generations. StartError: the first one could not start."""
        for one in [one for one in self._old if not one.alive]:
            self._old.remove(one)
            self._code = self._code or (one.code if self._stopping else 0)
        if self._taking_over and all(one.workers_leave for one in self._old):
            self._taking_over = False
            logger.info("reloaded the configuration")
            self.notify(systemd.READY)
        if self._now.error is not None and not self._stopping:
            raise self._now.error
        if self._stopping:
            self._code = self._code or self._now.code
            if not self._refused and all(one.workers_leave for one in self._generations):
                self._refused = True
                self.listeners.refuse()  # clients that come during a stop are not left waiting
        elif self._now.phase is Phase.STARTING and self._now.is_up:
            self._now.phase = Phase.SERVING
            self._announce()
            if self._reload_asked:
                self._reload()
        elif self._next is not None and self._next.error is not None:
            self._give_up_reload(self._next.error)
        elif self._next is not None and self._next.is_up:
            self._take_over(self._next)

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
        self.notify(systemd.READY)

    # -- reload ----------------------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Serve by what the configuration says now: as soon as all of it works, else not at all."""
        if self._stopping or self.reread is None:
            return
        self._reload_asked = self._now.phase is Phase.STARTING
        if self._reload_asked:
            return
        if self._next is not None:  # it may hang over what is mended by now
            self._next.kill()
            self._next = None
        logger.info("reloading the configuration")
        self.notify(systemd.reloading())
        try:
            self._next = Generation(self.reread(), self._house, previous=self._now)
            self._next.start()
        except StartError as error:
            self._give_up_reload(error)

    def _give_up_reload(self, error: StartError) -> None:
        if self._next is not None:
            self._next.kill()
            self._next = None
        self._now.keep_seats()
        for line in map(str, error.problems) if isinstance(error, ConfigError) else (error.message,):
            logger.error("reload: %s", line)
        logger.error("the configuration was not reloaded; all goes on as before")
        self.notify(systemd.READY)

    def _take_over(self, new: Generation) -> None:
        self._now.finish()
        self._old.append(self._now)
        new.phase, new.previous = Phase.SERVING, None
        self._now, self._next = new, None
        for one in self._old[:-OLD_GENERATIONS]:
            one.stop()
        self._taking_over = True

    # -- signals ---------------------------------------------------------------------------------------------------

    def _on_signals(self, wakeup: socket.socket) -> None:
        for number in wakeup.recv(64):
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop(number)
            elif number == signal.SIGUSR1:
                self._reopen_log()
            elif number == signal.SIGHUP:
                self._reload()

    def _stop(self, number: int) -> None:
        if self._stopping:
            self._kill_all()
            self._code = 128 + number
            return
        self._stopping = True
        self.notify(systemd.STOPPING)
        self._tier.quiet()
        if self._next is not None:
            self._next.kill()
            self._next = None
        for one in self._generations:
            one.stop()

    def _kill_all(self) -> None:
        for one in self._generations:
            one.kill()

    def _reopen_log(self) -> None:
        try:
            if not self.log.reopen():
                return
        except OSError as error:
            logger.error("cannot reopen the access log %s: %s", self.log.path, error.strerror)
            return
        self._tier.reopen_log(self.log.fd)
        for one in self._generations:
            one.send_log(self.log.fd)
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
