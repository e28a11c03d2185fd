# SPDX-License-Identifier: MIT
"""The kernel tier of one server, as its supervisor runs it: loaded and attached at the start, kept alive by `tick`,
taken away at the end when no connection needs it any more.

The supervisor calls everything here from its one thread. No call takes long: 5 ms, but for the start and the end.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from tux.config.schema import Config
from tux.daemon.worker import KernelSeat
from tux.errors import StartError
from tux.kernel import load, pins, sys_bpf
from tux.kernel.attach import DIRECTIONS, attach, detach_filters
from tux.kernel.choice import Choice
from tux.kernel.load import Loaded, Map
from tux.kernel.pins import Caretaker, PinnedSet, reason
from tux.kernel.publish import (
    CHUNK_BYTES,
    MAX_ANSWER_BYTES,
    MAX_HEAD_BYTES,
    Cell,
    Publish,
    RefusedError,
    Table,
    parse,
)
from tux.kernel.pulse import BEAT_SECONDS, Pulse, Structs, boot_ns
from tux.kernel.sweep import Count, Sweep
from tux.kernel.worth import PAUSED, RESTING, TAKING, Seen, Worth

LOG_SECONDS: Final = 0.05
"""Time between two looks at the log's ring while records come: a ring of 8 MiB is full after half a second at least."""
LOG_RECORDS: Final = 20_000
"""Lines that are written in one go: 5 ms."""

SWEEP_SECONDS: Final = 10.0
"""Time from the end of a sweep over the connections to the next ..."""
SOON_SECONDS: Final = 1.0
"""... when places become scarce, something is to be removed that another server left, or a pause only waits for
connections that were never answered ..."""
QUARTER: Final = 4
EIGHTH: Final = 8
"""Places for connections become scarce when a quarter of them was taken since the last sweep, or less than an eighth is
free: those of connections that have ended become free only by a sweep."""
STEP_SECONDS: Final = 0.02
"""... and between two portions of it."""
EMPTY_SWEEPS: Final = 2
"""What a sweep reads may change while it reads: when so many in a row have found nothing, nothing is there."""

MESSAGES: Final = 16
"""Messages of one worker that are looked at before something else has its turn."""

END_SECONDS: Final = 2.0
"""How long the end waits for connections whose numbers the programs change."""

LAST_LINES_SECONDS: Final = 2.0
"""How long the end waits for a reader of the access log."""

KEY_BYTES: Final = 16

logger = logging.getLogger("tux.kernel")


class LogReader(Protocol):
    """Writes the lines of the access log for what the programs answered: `tux._engine.KernelLog`."""

    def add(self, answer_id: int, first_chunk: int, head: bytes, status: int, body_bytes: int) -> None: ...
    def remove(self, first_chunk: int, answer_id: int) -> None: ...
    def drain(self, wall_offset_ns: int, max_records: int) -> int: ...
    def reopen(self, fd: int) -> None: ...
    def close(self) -> None: ...


class ListenerLike(Protocol):
    """What is needed of `tux.daemon.listeners.Listener`."""

    @property
    def sockets(self) -> Sequence[socket.socket]: ...
    @property
    def shared(self) -> bool: ...


def tcp_listeners(listeners: Sequence[ListenerLike]) -> dict[int, ListenerLike]:
    """Those that the tier is for, by their index: a worker must be known by its socket."""
    families = (socket.AF_INET, socket.AF_INET6)
    return {i: one for i, one in enumerate(listeners) if not one.shared and one.sockets[0].family in families}


@dataclass(frozen=True)
class Settings:
    """What the configuration says."""

    bpffs: str
    chunks: int
    """Budget of the answers' memory, in chunks."""
    connections: int
    hits: int
    max_answer: int
    """Bytes."""
    liveness_ns: int
    pauses: bool
    """Takes up no connections for a while when it answers too little."""


def settings_of(config: Config, choice: Choice) -> Settings:
    """The settings of a server that attaches where `choice` says."""
    kernel = config.kernel
    largest = min(choice.max_payload, MAX_ANSWER_BYTES)
    return Settings(
        bpffs=kernel.bpffs,
        chunks=kernel.memory // CHUNK_BYTES,
        connections=kernel.connections,
        hits=kernel.hits,
        max_answer=largest if kernel.max_answer is None else min(kernel.max_answer, largest),
        liveness_ns=min(round(kernel.liveness * 1e9), liveness(config.server.limits.idle_timeout)),
        pauses=kernel.mode == "auto",
    )


def liveness(idle_timeout: float) -> int:
    """Nanoseconds: a connection must be seen alive before its worker takes it for idle, after so many seconds."""
    return round(idle_timeout / 2 * 1e9)


def mapped(source: Map, until: contextlib.ExitStack) -> memoryview:
    """The values of a map, shared with the programs, for as long as `until` is open, and in this process alone: a
    worker that is forked has them not. There the object must outlive everything, or it would unmap what is at its
    address by then."""
    area = source.mmap()
    until.callback(area.close)
    area.madvise(mmap.MADV_DONTFORK)
    view = memoryview(area)
    until.callback(view.release)
    return view


class Maps:
    """`tux.kernel.publish.Area`, and the rest of what is in the maps."""

    def __init__(self, loaded: Loaded, log: LogReader | None, until: contextlib.ExitStack) -> None:
        """Works for as long as `until` is open. OSError: not enough memory."""
        self._maps = loaded.maps
        self._layouts: Structs = loaded.layouts
        self.control = mapped(loaded.maps["control"], until)
        self._entries = mapped(loaded.maps["entries"], until)
        self._chunks = mapped(loaded.maps["chunks"], until)
        self._cells: dict[int, tuple[memoryview, contextlib.ExitStack]] = {}
        self._log = log
        self.pulse = Pulse(
            loaded.layouts, self.control, mapped(loaded.maps["dates"], until), stride=loaded.maps["dates"].stride
        )

    def put(self, identity: int, worker: int, first: int, message: Publish) -> None:
        start = first * CHUNK_BYTES
        self._chunks[start : start + len(message.answer)] = message.answer
        layout = self._layouts["tux_kernel_answer"]
        key = self._layouts["tux_kernel_key"]
        values = {f"key.{name}": key.number(message.key, name) for name in key.fields}
        values |= {
            "version": message.version,
            "worker": worker,
            "cell": message.cell,
            "length": len(message.answer),
            "date_offset": message.date_offset,
            "sum": message.sum,
        }
        at = first * self._maps["entries"].stride
        for name, value in values.items():
            layout.write(self._entries, name, value, at)
        if self._log is not None:
            self._log.add(identity, first, message.head, message.status, message.body_length)
        layout.write(self._entries, "id", identity, at)  # last: from here on it is there
        found = self._layouts["tux_kernel_found"].pack(id=identity, first_chunk=first)
        self._maps["answers"].update(message.key, found)

    def drop(self, key: bytes) -> None:
        self._maps["answers"].delete(key)

    def clear(self, identity: int, first: int) -> None:
        self._layouts["tux_kernel_answer"].write(self._entries, "id", 0, first * self._maps["entries"].stride)
        if self._log is not None:
            self._log.remove(first, identity)

    def cell(self, worker: int, cell: int) -> Cell:
        if worker not in self._cells:
            return Cell(0, 0, 0)
        area = self._cells[worker][0]
        layout = self._layouts["tux_kernel_cell"]
        at = cell * layout.size
        return Cell(*(layout.number(area, name, at) for name in ("version", "fresh_until_ns", "used_ns")))

    def set_cells(self, worker: int, cells: Map | None) -> None:
        """The map of a new worker; None: it is gone."""
        if worker in self._cells:
            self._cells.pop(worker)[1].close()
        if cells is not None:
            with contextlib.ExitStack() as undo:
                view = mapped(cells, undo)
                self._cells[worker] = (view, undo.pop_all())

    def set_control(self, **values: int | tuple[int, ...]) -> None:
        for name, value in values.items():
            self._layouts["tux_kernel_control"].write(self.control, name, value)

    def get_control(self, name: str) -> int:
        return self._layouts["tux_kernel_control"].number(self.control, name)

    def set_ports(self, ports: Iterable[int]) -> None:
        """The only ports that the programs look at."""
        words: dict[int, int] = {}
        for port in ports:
            words[port // 64] = words.get(port // 64, 0) | 1 << port % 64
        for index, word in words.items():
            self._maps["ports"].update(index, word)


@dataclass
class _Line:
    """The supervisor's side of the way to one worker."""

    messages: socket.socket
    refused: int = 0


class KernelTier:
    """`start`, then `worker_seat` for each fork, `tick` when `due` says so; `quiet` and `finish` at the end."""

    def __init__(
        self,
        settings: Settings,
        choice: Choice,
        listeners: Sequence[ListenerLike],
        *,
        log_fd: int = -1,
        make_log: Callable[[Map, int], LogReader] | None = None,
    ) -> None:
        """log_fd: the access log, or -1. make_log: gets the map `records` and log_fd."""
        self._settings = settings
        self._choice = choice
        self._listeners = tcp_listeners(listeners)
        self._log_fd = log_fd
        self._make_log = make_log
        self._log: LogReader | None = None
        self._secret = os.urandom(KEY_BYTES)
        self._lines: dict[int, _Line] = {}
        self._answering = False
        self._detached = False
        self._complained: set[str] = set()
        self._worth = Worth(time.monotonic())
        self._beat_at = self._drain_at = self._sweep_at = 0.0
        self._round: Iterator[None] | None = None
        self._taken_before = 0
        """Places that were taken after the last sweep."""
        self._dying = False
        """A set seems to be alive, and its process is gone."""
        self._settled = False
        """In this pause, all programs that had begun before it have ended: no entry is made any more."""
        self._empty_sweeps = 0
        """In a row, since then."""
        self._orphans: list[Caretaker] = []
        self._own_path = ""
        """Of our own set, once it is there: after a restart in a container its number may be that of the killed one."""
        self.connections = Count(0, 0)
        """As the last sweep found them."""
        self.refused = 0
        """Messages of workers that were not right."""

    # -- start and end ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load, pin, attach, answer. OSError: something of it is not possible, and all is as it was before."""
        settings = self._settings
        with contextlib.ExitStack() as undo:
            sizes = {"conns": settings.connections, "entries": settings.chunks, "chunks": settings.chunks}
            self._loaded = undo.enter_context(load.load(load.read_object(), sizes))
            self._layouts: Structs = self._loaded.layouts
            if self._log_fd >= 0 and self._make_log is not None:
                self._log = self._make_log(self._loaded.maps["records"], self._log_fd)
                undo.callback(self._log.close)
            self._maps = Maps(self._loaded, self._log, undo)
            self._table = Table(self._maps, settings.chunks)
            self._maps.set_control(
                key=tuple(int.from_bytes(self._secret[at : at + 8], "little") for at in (0, 8)),
                liveness_ns=settings.liveness_ns,
                logging=int(self._log is not None),
                pid=os.getpid(),
                mark=1 + secrets.randbelow(2**32 - 1),
            )
            self._mark_listeners()
            self._adopt()
            self._pinned = pins.create(settings.bpffs, os.getpid(), boot_ns())
            self._own_path = self._pinned.path
            with contextlib.ExitStack() as unpin:
                unpin.callback(self._pinned.remove)
                self._pin()
                self._attach()
                self._maps.pulse.beat()
                self._answering = True
                self._maps.set_control(answering=1)
                unpin.pop_all()
            self._open = undo.pop_all()

    def _mark_listeners(self) -> None:
        layout = self._layouts["tux_kernel_listener"]
        for index, listener in self._listeners.items():
            for worker, sock in enumerate(listener.sockets):
                self._loaded.maps["listeners"].update(sock.fileno(), layout.pack(worker=worker, listener=index))
        ports = {listener.sockets[0].getsockname()[1] for listener in self._listeners.values()}
        self._maps.set_ports(ports)

    def _pin(self) -> None:
        for name in pins.MAPS:
            self._loaded.maps[name].pin(f"{self._pinned.path}/{name}")
        sys_bpf.obj_pin(self._loaded.programs[pins.REAP], f"{self._pinned.path}/{pins.REAP}")

    def _attach(self) -> None:
        for interface in self._choice.interfaces:
            for direction in DIRECTIONS:
                attachment = attach(self._loaded.programs[f"tux_{direction}"], interface.index, direction)
                # From here on the pin alone holds it: removing the pin detaches, for us and for everybody else.
                with contextlib.closing(attachment):
                    try:
                        attachment.pin(self._pinned.attachment_path(interface.index, direction))
                    except OSError:
                        attachment.detach()
                        raise

    def quiet(self) -> None:
        """Nothing new is answered from now on. Connections that were answered go on."""
        self._answering = False
        self._maps.set_control(answering=0)

    def finish(self, patience: float = END_SECONDS) -> None:
        """The workers have ended. Remove everything as soon as no connection needs it; after so many seconds, leave it
        to others (`tux kernel detach`, the next start)."""
        self.quiet()
        for worker in list(self._lines):
            self.worker_gone(worker)
        for orphan in self._orphans:
            orphan.close()
        try:
            left = pins.wait_for_end(self._whole_sweep, patience).translated
            self._drain_rest()
            if left:
                logger.warning(
                    "%d connections are still open that were answered by the kernel tier: its programs stay attached "
                    "for them, until `tux kernel detach` or the next start removes them",
                    left,
                )
            else:
                self._pinned.remove()
                detach_filters({sys_bpf.prog_info(fd).id for fd in self._loaded.programs.values()})
        except OSError as error:
            logger.error("cannot remove the kernel tier: %s; `tux kernel detach` does", reason(error))
        self._open.close()

    # -- workers ---------------------------------------------------------------------------------------------------

    def worker_seat(self, worker: int) -> KernelSeat:
        """For a worker that is about to be forked; to be closed after that. OSError."""
        with contextlib.ExitStack() as undo:
            slots = self._loaded.new_inner("slots")
            undo.callback(os.close, slots)
            cells = self._loaded.new_inner("cells")
            undo.callback(os.close, cells)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            with contextlib.ExitStack() as sockets:
                sockets.enter_context(ours)
                sockets.enter_context(theirs)
                self.worker_gone(worker)
                self._loaded.maps["slots"].update(worker, slots)
                self._loaded.maps["cells"].update(worker, cells)
                self._maps.set_cells(worker, Map("cells", cells))
                sockets.pop_all()
            undo.pop_all()
        self._lines[worker] = _Line(ours)
        settings = self._settings
        return KernelSeat(
            slots_fd=slots,
            cells_fd=cells,
            message_fd=theirs.detach(),
            secret=self._secret,
            listeners=tuple(self._listeners),
            hits=settings.hits,
            max_answer_bytes=settings.max_answer,
        )

    def messages(self, worker: int) -> socket.socket:
        """Readable when `on_message` is to be called."""
        return self._lines[worker].messages

    def on_message(self, worker: int) -> bool:
        """Do what the worker asks for, as far as it may. False: it has closed its end."""
        line = self._lines[worker]
        room = self._layouts["tux_kernel_message"].size + MAX_HEAD_BYTES + self._settings.max_answer + 1
        for _ in range(MESSAGES):
            try:
                datagram = line.messages.recv(room)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            if not datagram:
                return False
            self._obey(worker, line, datagram)
        return True

    def _obey(self, worker: int, line: _Line, datagram: bytes) -> None:
        now = boot_ns()
        try:
            message = parse(
                datagram, self._layouts, listeners=self._listeners.keys(), max_answer=self._settings.max_answer
            )
            if not isinstance(message, Publish):
                self._table.retire(worker, message, now)
            elif self._answering:
                self._table.publish(worker, message, now)
        except RefusedError as error:
            self.refused += 1
            line.refused += 1
            if line.refused == 1:
                logger.warning("worker %d sent what the kernel tier cannot take: %s", worker, error)
        except OSError as error:
            self._complain("publish an answer", error)

    def worker_gone(self, worker: int) -> None:
        """Nobody looks after its answers any more."""
        line = self._lines.pop(worker, None)
        if line is None:
            return
        line.messages.close()
        self._maps.set_cells(worker, None)
        try:
            self._table.retire_worker(worker, boot_ns())
        except OSError as error:
            self._complain("retire an answer", error)

    def retire_all(self) -> None:
        """What was right before is not right any more: after a change of the configuration."""
        try:
            self._table.retire_all(boot_ns())
        except OSError as error:
            self._complain("retire an answer", error)

    def limit_idleness(self, seconds: float) -> None:
        """A connection that is idle for so long is closed by its worker, from now on."""
        liveness_ns = min(self._settings.liveness_ns, liveness(seconds))
        self._maps.set_control(liveness_ns=liveness_ns)

    def reopen_log(self, fd: int) -> None:
        """Later lines go there."""
        if self._log is not None:
            self._log.reopen(fd)

    def _complain(self, what: str, error: OSError) -> None:
        """Once for each thing that does not work: it would fail again and again."""
        if what not in self._complained:
            self._complained.add(what)
            logger.error("the kernel tier cannot %s: %s", what, reason(error))

    # -- time ------------------------------------------------------------------------------------------------------

    def due(self) -> float:
        """When `tick` is to be called next: time.monotonic()."""
        return min(self._beat_at, self._drain_at, self._sweep_at)

    def tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._beat_at <= now:
            self._beat()
            self._beat_at = now + BEAT_SECONDS
        if self._drain_at <= now:
            busy = self._drain()
            self._drain_at = now + (LOG_SECONDS if busy else BEAT_SECONDS)
        if self._sweep_at <= now:
            done = self._sweep_step()
            soon = self._orphans or self._dying or self._is_scarce() or self._is_emptying()
            self._sweep_at = now + (STEP_SECONDS if not done else SOON_SECONDS if soon else SWEEP_SECONDS)

    def _beat(self) -> None:
        if self._answering and not (self._maps.get_control("answering") and self._pinned.exists):
            self.quiet()
            self.retire_all()
            logger.warning("the kernel tier was detached from outside; workers answer all requests from now on")
        if self._answering:
            self._maps.pulse.beat()
            self._judge(time.monotonic())
            if self._round is None and self._is_scarce():
                self._sweep_at = min(self._sweep_at, time.monotonic() + SOON_SECONDS)
        self._table.forget(boot_ns())

    def _judge(self, now: float) -> None:
        """Let `auto` take up new connections only while that pays."""
        if self._settings.pauses and self._worth.is_due(now):
            line = self._worth.look(now, self._seen())
            if line:
                self._maps.set_control(paused=PAUSED if self._worth.paused else TAKING)
                self._settled, self._empty_sweeps = False, 0
                self._sweep_at = now
                logger.info("%s", line)

    def _settle(self) -> bool:
        """In a pause: does nobody make an entry any more?"""
        if self._worth.paused and not self._settled:
            try:
                sys_bpf.wait_for_programs()
                self._settled = True
            except OSError as error:
                self._complain("wait for its programs", error)
        return self._settled

    def _rest(self, found: Count) -> None:
        """A sweep that began when nobody made an entry any more has found so much. What is not there then never comes,
        so the programs need not look at packets."""
        self._empty_sweeps = 0 if found.total else self._empty_sweeps + 1
        if self._empty_sweeps == EMPTY_SWEEPS:
            self._maps.set_control(paused=RESTING)

    def _is_emptying(self) -> bool:
        """A pause does not wait for connections that were answered."""
        return self._settled and self._empty_sweeps < EMPTY_SWEEPS and not self.connections.translated

    def _seen(self) -> Seen:
        layout = self._layouts["tux_kernel_counters"]
        counted = [name for name in layout.fields if name.startswith("pass_")]
        values = self._loaded.maps["counters"].per_cpu(0)
        return Seen(
            answered=sum(layout.number(value, "answered") for value in values),
            passed=sum(layout.number(value, name) for value in values for name in counted),
            first=sum(layout.number(value, "pass_first") for value in values),
            closed=sum(layout.number(value, "closed") for value in values),
        )

    def _drain(self) -> bool:
        """Write lines of the log. True: there were some, and may be more."""
        if self._log is None:
            return False
        wall = time.time_ns() - boot_ns()
        try:
            return self._log.drain(wall, LOG_RECORDS) > 0
        except BlockingIOError:  # a pipe is full: the records wait in the ring
            return True
        except OSError as error:
            self._complain("write the access log", error)
            return False

    def _drain_rest(self) -> None:
        """Write all lines that are left; for a reader who takes none, this waits as long as workers do."""
        end = time.monotonic() + LAST_LINES_SECONDS
        while self._drain():
            if time.monotonic() > end:
                logger.warning("the access log lost lines of the kernel tier: nobody takes them")
                return
            time.sleep(STEP_SECONDS)

    def _is_scarce(self) -> bool:
        taken, places = self._taken(), self._settings.connections
        return (taken - self._taken_before) * QUARTER >= places or (places - taken) * EIGHTH < places

    def _taken(self) -> int:
        """Places for connections that are taken, by the programs' own count."""
        layout = self._layouts["tux_kernel_counters"]
        values = self._loaded.maps["counters"].per_cpu(0)
        return sum(layout.number(value, "opened") - layout.number(value, "closed") for value in values)

    def _sweep_step(self) -> bool:
        """A portion of a round over all connections. True: that was the last."""
        if self._round is None:
            self._round = self._new_round()
        try:
            next(self._round)
        except StopIteration:
            self._round = None
            return True
        return False

    def _new_round(self) -> Iterator[None]:
        """Ours, and those of servers that were killed."""
        settled = self._settle()
        try:
            sweep = self._new_sweep()
            while not sweep.step():
                yield
            self.connections = sweep.count or self.connections
            if settled and self._settled and sweep.count is not None:
                self._rest(sweep.count)
            self._taken_before = self._taken()
        except OSError as error:
            self._complain("look through its connections", error)
        try:
            self._adopt()
        except OSError as error:
            self._complain("look for what others left behind", error)
        for orphan in list(self._orphans):
            try:
                sweep = orphan.new_sweep()
                while not sweep.step():
                    yield
                if orphan.pinned.exists and sweep.count is not None and sweep.count.translated:
                    continue
                orphan.pinned.remove()
            except OSError as error:
                self._complain(f"remove {orphan.pinned.path}", error)
            orphan.close()
            self._orphans.remove(orphan)

    def _new_sweep(self) -> Sweep:
        conns, reap = self._loaded.maps["conns"], self._loaded.programs[pins.REAP]
        return pins.new_sweep(conns, reap, self._layouts, paused=self._worth.paused)

    def _whole_sweep(self) -> Count:
        self.connections = self._new_sweep().run()
        return self.connections

    # -- what others left behind -----------------------------------------------------------------------------------

    def _adopt(self) -> None:
        """Sets of servers that were killed are ours from now on. One whose heart has beaten a moment ago may still be
        alive, so each round over the connections looks again."""
        self._dying = False
        known = {self._own_path, *(orphan.pinned.path for orphan in self._orphans)}
        for found in pins.list_sets(self._settings.bpffs):
            if found.path in known:
                continue
            try:
                caretaker = Caretaker(found, self._layouts)
            except OSError:
                self._remove_damaged(found)
                continue
            if pins.is_alive(found, caretaker.heartbeat_ns(), boot_ns()):
                self._dying = self._dying or not pins.has_process(found)
                caretaker.close()
                continue
            caretaker.quiet()
            self._orphans.append(caretaker)
            logger.info("the kernel tier of process %d, which was killed, is being removed", found.pid)

    def _remove_damaged(self, found: PinnedSet) -> None:
        """A start or an end that was interrupted: there is nothing in it that could be swept."""
        if not pins.is_alive(found, 0, boot_ns()):
            with contextlib.suppress(OSError):
                found.remove()


def start(
    config: Config,
    choice: Choice,
    listeners: Sequence[ListenerLike],
    *,
    log_fd: int = -1,
    make_log: Callable[[Map, int], LogReader] | None = None,
) -> KernelTier | None:
    """The tier, at work; None where it is not to be used, or `auto` and does not work. StartError: `on`, and does not
    work."""
    if not choice.interfaces:
        return None
    tier = KernelTier(settings_of(config, choice), choice, listeners, log_fd=log_fd, make_log=make_log)
    try:
        tier.start()
    except OSError as error:
        if config.kernel.mode == "on":
            raise StartError(f"cannot start the kernel tier: {reason(error)}") from error
        logger.warning("the kernel tier is off: %s", reason(error))
        logger.debug("%s", error)  # what the verifier said may have many lines
        return None
    return tier
