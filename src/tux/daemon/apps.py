"""The processes of applications and modules, seen from the supervisor: it starts them, links each with each worker,
replaces them.

An application's process is a child of the supervisor and never of a worker. Between it and a worker is a link: two
rings in shared memory, an eventfd each way, and a socket pair whose end tells that the other side is gone. The
supervisor makes links and hands their ends over; it keeps a look at how much of the requests' ring was read.

    starting -> ready -> leaving -> ended
       starting: it imports the application; nobody is linked with it
       ready:    it is linked with all workers
       leaving:  it was asked to leave: it takes no new requests, and ends when those at work are answered
"""

from __future__ import annotations

import enum
import functools
import logging
import mmap
import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tux._app import make_rings, wake_pair
from tux.apps.options import Options
from tux.daemon import control
from tux.daemon.fork import describe_end, fork, reap
from tux.errors import StartError

if TYPE_CHECKING:
    from tux.daemon.reload import Watcher

KILL_MARGIN_SECONDS: Final = 2.0
"""Processes end by themselves when the grace is over; what is left so much later is killed. Workers have 1 s."""
STALL_CHECK_SECONDS: Final = 1.0
"""How often it is looked whether processes take their requests, where `stall_timeout` asks for it."""
LIVED_SECONDS: Final = 1.0
"""A process that was ready for so long is replaced at once; others have to wait, longer each time."""
FIRST_DELAY_SECONDS: Final = 0.2
LAST_DELAY_SECONDS: Final = 10.0
LOST_SECONDS: Final = 1.0
"""A process says when a link has ended. That is news if the worker at the other end lives on: it has ended the link, as
nonsense came by it. That the worker ended, too, is known well within this time."""

logger = logging.getLogger("tux.supervisor")


class State(enum.Enum):
    """See the table above."""

    STARTING = enum.auto()
    READY = enum.auto()
    LEAVING = enum.auto()


@dataclass(frozen=True)
class AppSeat:
    """The place of one process, as the supervisor hands it over at the fork."""

    options: Options
    control: socket.socket
    epoll_fd: int
    supervisor: int
    """Its pid."""


@dataclass(eq=False)
class _Process:
    """A process of an application."""

    app: int
    place: int
    """Which of the application's processes it is: 0 to workers - 1. Its replacement has the same."""
    pid: int
    pidfd: int
    control: socket.socket
    wake_fd: int
    """What engines write to to wake it."""
    started: float
    state: State = State.STARTING
    ready_at: float = 0.0
    replaces: _Process | None = None
    links: dict[int, _Link] = field(default_factory=dict)
    """By their serial numbers."""
    lost: dict[int, float] = field(default_factory=dict)
    """Links that have ended, and when it is to be looked whether their workers have, too."""
    leave_by: float | None = None
    """It was asked to leave, and is killed at this time."""


@dataclass
class _Link:
    """What the supervisor keeps of a link: who has it, and a look at how far the process has read."""

    worker: int
    requests: mmap.mmap
    read: int = 0
    since: float = 0.0
    """When `read` was found for the first time, while more was there to read."""

    def stalls(self, now: float) -> float:
        """Seconds for which requests have waited unread (`struct tux_ring_shared`: written, then read)."""
        (written,), (read,) = struct.unpack_from("<Q", self.requests, 0), struct.unpack_from("<Q", self.requests, 64)
        if written == read or read != self.read:
            self.read, self.since = read, now
        return now - self.since


@dataclass
class _Place:
    """What is known of a place beside its process."""

    delay: float = 0.0
    again_at: float | None = None
    """When a process is started here again; None: that is not to be done."""


@dataclass
class Apps:
    """All applications of a server."""

    options: Sequence[Options]
    body: Callable[[AppSeat], int]
    """What a process does; called in it with all signals blocked, returns its exit code."""
    handled: Sequence[int] = ()
    """Signals that the supervisor has handlers for."""
    watcher: Watcher | None = None
    """What calls `reload`; it is started and ended with the rest."""
    failed: Callable[[StartError], None] | None = None
    """Is told that an application cannot start, instead of an exception in the midst of events."""

    _selector: selectors.BaseSelector = field(init=False)
    _processes: list[_Process] = field(default_factory=list, init=False)
    _places: dict[tuple[int, int], _Place] = field(default_factory=dict, init=False)
    _workers: dict[int, socket.socket] = field(default_factory=dict, init=False)
    _served: set[int] = field(default_factory=set, init=False)
    """Applications of which some process was ready."""
    _serial: int = field(default=0, init=False)
    _stalls_at: float | None = field(default=None, init=False)
    _kill_at: float | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)

    def start(self, selector: selectors.BaseSelector) -> None:
        """Start all processes. StartError: there can be no process."""
        self._selector = selector
        if any(options.stall_timeout for options in self.options):
            self._stalls_at = time.monotonic() + STALL_CHECK_SECONDS
        if self.watcher is not None:
            self.watcher.start(selector)
        for app, options in enumerate(self.options):
            assert isinstance(options.workers, int)  # "auto" was resolved by the caller
            for place in range(options.workers):
                self._places[app, place] = _Place()
                try:
                    self._start(app, place)
                except OSError as error:
                    raise StartError(f"cannot start {options.label}: {error.strerror}") from None

    @property
    def alive(self) -> bool:
        """Whether there are processes."""
        return bool(self._processes)

    @property
    def ready(self) -> bool:
        """Whether each place has a process that has loaded its application."""
        ready = {(process.app, process.place) for process in self._processes if process.state is State.READY}
        return ready == self._places.keys()

    # -- time ------------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """When `tick` is to be called, in seconds of the monotonic clock; None: not until something happens."""
        times = [place.again_at for place in self._places.values() if place.again_at is not None]
        times += [at for at in (self._stalls_at, self._kill_at) if at is not None]
        for process in self._processes:
            times += process.lost.values()
            if process.leave_by is not None:
                times.append(process.leave_by)
        return min(times) if times else None

    def tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        for (app, number), place in self._places.items():
            if place.again_at is not None and place.again_at <= now:
                place.again_at = None
                self._try_to_start(app, number)
        if self._stalls_at is not None and self._stalls_at <= now:
            self._stalls_at = now + STALL_CHECK_SECONDS
            self._kill_stalled(now)
        self._kill_broken(now)
        self._kill_late(now)
        if self._kill_at is not None and self._kill_at <= now:
            self._kill_at = None
            names = ", ".join(dict.fromkeys(self.options[process.app].label for process in self._processes))
            logger.warning("%s: did not finish in time; its processes are killed", names)
            self.kill_all()

    # -- workers ---------------------------------------------------------------------------------------------------

    def worker_ready(self, worker: int, sock: socket.socket) -> None:
        """A worker serves: link it with every process that is ready. `sock`: our end of its control socket."""
        self._workers[worker] = sock
        for process in self._processes:
            if process.state is State.READY:
                self._link(worker, process)

    def worker_gone(self, worker: int) -> None:
        """Its links end by themselves: processes see it."""
        self._workers.pop(worker, None)
        for process in self._processes:
            process.links = {serial: link for serial, link in process.links.items() if link.worker != worker}

    def _link(self, worker: int, process: _Process) -> None:
        self._serial = (self._serial + 1) % 2**32
        ours: list[int] = []
        try:
            requests, answers = make_rings()
            ours += (requests, answers)
            wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            ours.append(wake)
            sides = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours += (side.detach() for side in sides)
            engine_side, process_side = ours[3:]
            link = _Link(worker, mmap.mmap(requests, mmap.PAGESIZE, prot=mmap.PROT_READ), since=time.monotonic())
            message = control.LINK + struct.pack("<I", self._serial)
            socket.send_fds(process.control, [message], [requests, answers, wake, process_side])
            message = control.LINK + struct.pack("<II", self._serial, process.app)
            fds = [requests, answers, process.wake_fd, wake, engine_side]
            socket.send_fds(self._workers[worker], [message], fds)
            process.links[self._serial] = link
        except OSError as error:
            name = self.options[process.app].label
            logger.error("%s: worker %d cannot reach process %d: %s", name, worker, process.pid, error.strerror)
        finally:
            for fd in ours:
                os.close(fd)

    # -- processes -------------------------------------------------------------------------------------------------

    def _start(self, app: int, place: int, replaces: _Process | None = None) -> None:
        """OSError: there can be no process."""
        ours, theirs = control.pair()
        wake_fd, epoll_fd = wake_pair()
        seat = AppSeat(self.options[app], theirs, epoll_fd, os.getpid())
        try:
            pid = fork(lambda: self.body(seat), functools.partial(_report, seat.options.label), self.handled)
        except OSError:
            ours.close()
            os.close(wake_fd)
            raise
        finally:
            theirs.close()
            os.close(epoll_fd)
        new = _Process(app, place, pid, os.pidfd_open(pid), ours, wake_fd, time.monotonic(), replaces=replaces)
        self._processes.append(new)
        self._selector.register(new.pidfd, selectors.EVENT_READ, lambda: self._on_end(new))
        self._selector.register(new.control, selectors.EVENT_READ, lambda: self._on_message(new))

    def _try_to_start(self, app: int, place: int, replaces: _Process | None = None) -> None:
        try:
            self._start(app, place, replaces)
        except OSError as error:
            logger.error("%s: cannot start a process: %s", self.options[app].label, error.strerror)
            self._start_later(app, place)

    def _start_later(self, app: int, number: int) -> None:
        place = self._places[app, number]
        place.delay = min(LAST_DELAY_SECONDS, max(FIRST_DELAY_SECONDS, 2 * place.delay))
        place.again_at = time.monotonic() + place.delay

    def _on_message(self, sender: _Process) -> None:
        if sender not in self._processes:
            return  # it ended while this event waited its turn
        while message := control.receive(sender.control):
            if message == control.READY and sender.state is State.STARTING:
                self._on_ready(sender)
            elif message.startswith(control.LOST) and not self._stopping:
                serial = struct.unpack("<I", message.removeprefix(control.LOST))[0]
                if serial in sender.links:
                    sender.lost[serial] = time.monotonic() + LOST_SECONDS
            elif message == control.RETIRE and sender.state is State.READY and not self._stopping:
                self._replace(sender)
        if message == b"" and sender.control in self._selector.get_map():
            self._selector.unregister(sender.control)  # its end is reported by the pidfd

    def _on_ready(self, process: _Process) -> None:
        options = self.options[process.app]
        process.state, process.ready_at = State.READY, time.monotonic()
        self._served.add(process.app)
        logger.info("%s: process %d is ready", options.label, process.pid)
        for worker in self._workers:
            self._link(worker, process)
        if process.replaces is not None:
            self._leave(process.replaces)
            process.replaces = None
        if self._stopping:
            self._leave(process)

    def _kill_stalled(self, now: float) -> None:
        for process in self._processes:
            limit = self.options[process.app].stall_timeout
            if limit and any(link.stalls(now) > limit for link in process.links.values()):
                name = self.options[process.app].label
                logger.error("%s: process %d has taken no request for %g s and is killed", name, process.pid, limit)
                os.kill(process.pid, signal.SIGKILL)
                process.links.clear()

    def _replace(self, old: _Process) -> None:
        """Start another one in its place; it goes on until that one is ready."""
        if not any(process.replaces is old for process in self._processes):
            self._try_to_start(old.app, old.place, old)

    def _kill_broken(self, now: float) -> None:
        """Processes which a worker that lives has no link with any more: they would serve the others only."""
        for process in self._processes:
            for serial in [serial for serial, at in process.lost.items() if at <= now]:
                del process.lost[serial]
                if serial in process.links:
                    name = self.options[process.app].label
                    logger.error("%s: process %d wrote nonsense to a worker and is killed", name, process.pid)
                    process.lost.clear()
                    os.kill(process.pid, signal.SIGKILL)
                    break

    def _kill_late(self, now: float) -> None:
        for process in self._processes:
            if process.leave_by is not None and process.leave_by <= now:
                process.leave_by = None
                name = self.options[process.app].label
                logger.warning("%s: process %d did not finish in time and is killed", name, process.pid)
                os.kill(process.pid, signal.SIGKILL)

    def reload(self) -> None:
        """Replace all processes, each when its replacement is ready. What cannot be loaded leaves the old one there."""
        for process in list(self._processes):
            if process.state is State.READY:
                self._replace(process)
            elif process.state is State.STARTING:  # what it has loaded so far may be out of date; or it hangs over it
                self._give_up(process)
                self._try_to_start(process.app, process.place, process.replaces)

    def _leave(self, process: _Process) -> None:
        if process.state is not State.LEAVING:
            process.state = State.LEAVING
            control.send(process.control, control.LEAVE)
            if not self._stopping:  # else all have one time
                process.leave_by = time.monotonic() + self.options[process.app].grace + KILL_MARGIN_SECONDS

    def _give_up(self, process: _Process) -> None:
        """End one that is starting: it has no requests, and does not listen yet."""
        process.state = State.LEAVING
        process.leave_by = time.monotonic() + KILL_MARGIN_SECONDS
        os.kill(process.pid, signal.SIGTERM)

    def _on_end(self, ended: _Process) -> None:
        if ended not in self._processes:
            return
        self._on_message(ended)  # its last words
        code = reap(ended.pid)
        self._forget(ended)
        name, state = self.options[ended.app].label, ended.state
        if self._stopping or state is State.LEAVING:
            if code != 0 and ended.ready_at:
                logger.error("%s: process %d %s while it was to finish", name, ended.pid, describe_end(code))
            return
        if state is State.STARTING:
            if ended.replaces is not None:
                logger.error("%s: its new process %s; the old one goes on", name, describe_end(code))
                return
            if ended.app not in self._served:
                self._fail(StartError(f"{name} could not start: its process {describe_end(code)}"))
                return
            logger.error("%s: a process could not start: it %s", name, describe_end(code))
            self._start_later(ended.app, ended.place)
            return
        logger.error("%s: process %d %s; it is replaced", name, ended.pid, describe_end(code))
        if any(process.replaces is ended for process in self._processes):
            return  # that is under way
        if time.monotonic() - ended.ready_at < LIVED_SECONDS:
            self._start_later(ended.app, ended.place)
        else:
            self._places[ended.app, ended.place].delay = 0.0
            self._try_to_start(ended.app, ended.place)

    def _fail(self, error: StartError) -> None:
        if self.failed is None:
            raise error
        self.failed(error)

    def _forget(self, ended: _Process) -> None:
        self._processes.remove(ended)
        for serial, link in ended.links.items():  # a child of it may still hold its end open
            if link.worker in self._workers:
                control.send(self._workers[link.worker], control.UNLINK + struct.pack("<I", serial))
        for other in self._processes:
            if other.replaces is ended and ended.state is not State.LEAVING:
                other.replaces = None
        self._selector.unregister(ended.pidfd)
        if ended.control in self._selector.get_map():
            self._selector.unregister(ended.control)
        os.close(ended.pidfd)
        os.close(ended.wake_fd)
        ended.control.close()

    # -- the end ---------------------------------------------------------------------------------------------------

    def stop(self, grace: float) -> None:
        """The server stops. Applications are asked to leave as soon as no worker accepts any more: `workers_drain`."""
        self._stopping = True
        if self.watcher is not None:
            self.watcher.end()
        for place in self._places.values():
            place.again_at = None
        self._stalls_at = None
        self._kill_at = time.monotonic() + grace + KILL_MARGIN_SECONDS
        for process in self._processes:
            if process.state is State.STARTING:
                self._give_up(process)

    def workers_drain(self) -> None:
        """All workers drain, or have ended. They let a process go only when no request for it can come any more."""
        for process in self._processes:
            self._leave(process)

    def kill_all(self) -> None:
        """End them now, and wait for it."""
        if self.watcher is not None:
            self.watcher.end()
        for process in self._processes:
            os.kill(process.pid, signal.SIGKILL)  # not reaped yet, so the pid is still its own
        for process in list(self._processes):
            reap(process.pid)
            self._forget(process)


def _report(name: str, error: BaseException) -> None:
    """In a process that ends by an exception that its body did not expect."""
    logger.error("%s failed", name, exc_info=error)
