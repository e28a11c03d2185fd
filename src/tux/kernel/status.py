# SPDX-License-Identifier: MIT
"""`tux kernel status` and `tux kernel detach`: from another process, by nothing but the pins."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tux.errors import StartError
from tux.kernel import host, load, pins
from tux.kernel.btf import Layouts
from tux.kernel.object import ObjectError
from tux.kernel.pins import Caretaker, PinnedSet, reason
from tux.kernel.publish import CHUNK_BYTES
from tux.kernel.pulse import SILENT_NS, Structs, boot_ns
from tux.kernel.sweep import CLIENT_FIN, SERVER_FIN
from tux.kernel.worth import RESTING, TAKING

PAUSE_SECONDS: Final = 0.1
"""Between two looks of `detach` at the connections that are left."""

REASONS: Final = {
    "pass_quiet": "the server did not say that it is alive",
    "pass_shape": "not a plain request in one packet",
    "pass_order": "packets out of order",
    "pass_busy": "the worker was at it",
    "pass_live": "so that the worker sees the connection alive",
    "pass_unknown": "not a published request",
    "pass_stale": "the worker did not say that the answer is fresh",
    "pass_window": "the client's window was too small",
    "pass_size": "the answer does not fit a packet",
    "pass_log_full": "no room in the access log's ring",
    "pass_checksum": "wrong checksum",
    "pass_first": "the first of its connection",
    "open_full": "the table of connections was full",
    "open_options": "TCP options that are not known",
    "open_unknown": "no SYN was seen",
    "open_paused": "paused, because too little was answered",
}
"""What a counter of passes means. One that is not here is shown by its name."""


@dataclass(frozen=True)
class Status:
    """A set of pins at one moment."""

    pid: int
    orphan: bool
    """Its server is gone."""
    answering: bool
    interfaces: tuple[str, ...]
    entries: int
    """Answers that are published."""
    counters: dict[str, int]
    """struct tux_kernel_counters: since the start of the server."""
    connections: int
    translated: int
    """Connections that need the programs: both ends count differently."""
    connections_limit: int
    memory: int
    """Bytes of answers, those included that are kept for a while after they were retired."""
    memory_limit: int
    silent: bool = False
    """Its heart does not beat: the programs answer nothing until it does."""
    paused: bool = False
    """New connections are not taken up: `tux.kernel.worth`."""
    resting: bool = False
    """... and there are no others: the programs look at no packet."""

    def as_json(self) -> dict[str, object]:
        """Names and values that later versions keep."""
        return {
            "pid": self.pid,
            "state": self.state,
            "paused": self.paused,
            "interfaces": list(self.interfaces),
            "entries": self.entries,
            "answered": self.counters.get("answered", 0),
            "answered_bytes": self.counters.get("answered_bytes", 0),
            "counters": self.counters,
            "connections": {"total": self.connections, "translated": self.translated, "limit": self.connections_limit},
            "memory": {"used": self.memory, "limit": self.memory_limit},
        }

    @property
    def state(self) -> str:
        """ "answering"; "resting": it has paused, and no connection is left that it could answer; "silent": it would,
        but its server hangs, or was just killed; "detached": its server runs, and this is switched off; "orphan": its
        server is gone."""
        if self.orphan:
            return "orphan"
        if not self.answering:
            return "detached"
        if self.silent:
            return "silent"
        return "resting" if self.resting else "answering"

    def as_text(self) -> str:
        """Some lines for people."""
        counters, open_ = self.counters, f"{self.translated} open ones were answered"
        paused = ", paused for new connections" if self.paused and self.state == "answering" else ""
        lines = [
            f"process {self.pid}: {self.state}{paused}, on {', '.join(self.interfaces) or 'no interface'}",
            f"  answers       {self.entries} published, {self.memory} of {self.memory_limit} bytes",
            f"  answered      {counters.get('answered', 0)} requests, {counters.get('answered_bytes', 0)} bytes",
            f"  connections   {self.connections} of {self.connections_limit}, {open_}",
        ]
        for prefix, title in (("pass_", "passed on"), ("open_", "not taken up")):
            names = [name for name in counters if name.startswith(prefix) and counters[name]]
            for index, name in enumerate(sorted(names, key=lambda name: -counters[name])):
                lines.append(f"  {title if not index else '':<13} {counters[name]}: {REASONS.get(name, name)}")
        return "\n".join(lines) + "\n"


def read_all(bpffs: str) -> list[Status]:
    """The state of all sets. StartError: it cannot be seen from here."""
    sets = _sets(bpffs)
    layouts = _layouts()
    found = []
    for one in sets:
        try:
            found.append(read(one, layouts))
        except OSError as error:
            # One that is being made or removed at this moment has nothing to show.
            if error.errno != errno.ENOENT:
                raise StartError(f"cannot read {one.path}: {reason(error)}") from None
    return found


def read(found: PinnedSet, layouts: Structs) -> Status:
    """The state of one set. OSError."""
    with contextlib.ExitStack() as stack:
        maps = {name: stack.enter_context(contextlib.closing(found.map(name))) for name in pins.MAPS}
        area = maps["control"].mmap()
        stack.callback(area.close)
        control = layouts["tux_kernel_control"]
        conn = layouts["tux_kernel_conn"]
        total = translated = 0
        for _, value in maps["conns"].items():  # noqa: PERF102 - a map of the kernel
            total += 1
            state = conn.number(value, "state")
            ended = state & (CLIENT_FIN | SERVER_FIN) == CLIENT_FIN | SERVER_FIN
            if not ended and (conn.number(value, "d_in") or conn.number(value, "d_out")):
                translated += 1
        answer = layouts["tux_kernel_answer"]
        entries = maps["entries"].mmap()
        stack.callback(entries.close)
        stride = maps["entries"].stride
        chunks = sum(
            -(-answer.number(entries, "length", at) // CHUNK_BYTES)
            for at in range(0, maps["entries"].max_entries * stride, stride)
            if answer.number(entries, "id", at)
        )
        pause = control.number(area, "paused")
        heartbeat_ns, now_ns = control.number(area, "heartbeat_ns"), boot_ns()
        return Status(
            pid=found.pid,
            orphan=not pins.is_alive(found, heartbeat_ns, now_ns),
            silent=now_ns - heartbeat_ns > SILENT_NS,
            answering=bool(control.number(area, "answering")),
            interfaces=tuple(dict.fromkeys(_interface(index) for index, _, _ in found.attachments())),
            entries=sum(1 for _ in maps["answers"].items()),
            counters=maps["counters"].sums(layouts["tux_kernel_counters"]),
            connections=total,
            translated=translated,
            connections_limit=maps["conns"].max_entries,
            memory=chunks * CHUNK_BYTES,
            memory_limit=maps["chunks"].max_entries * CHUNK_BYTES,
            paused=pause != TAKING,
            resting=pause == RESTING,
        )


def detach_all(
    bpffs: str,
    *,
    timeout: float,
    force: bool,
    say: Callable[[str], object],
    pause: float = PAUSE_SECONDS,
) -> int:
    """Let all sets answer nothing more, wait until no connection needs them, and remove them. Returns the connections
    that are left when the time (seconds) is over: the sets that they need stay, unless `force`. StartError."""
    sets = _sets(bpffs)
    layouts = _layouts()
    waiting: list[tuple[PinnedSet, Caretaker]] = []
    left = 0
    with contextlib.ExitStack() as stack:
        for found in sets:
            try:
                caretaker = stack.enter_context(contextlib.closing(Caretaker(found, layouts)))
                caretaker.quiet()
                waiting.append((found, caretaker))
            except OSError as error:
                if error.errno == errno.ENOENT:
                    if not pins.has_process(found):  # else it is being made or removed at this moment
                        _remove(found, say, "it was not complete")
                    continue
                raise StartError(f"cannot detach {found.path}: {reason(error)}") from None
        end = time.monotonic() + timeout
        while waiting:
            last = time.monotonic() >= end
            for found, caretaker in list(waiting):
                count = _translated(found, caretaker)
                if not count or last:
                    waiting.remove((found, caretaker))
                if not count:
                    _remove(found, say, "no connection needs it")
                elif last and force:
                    _remove(found, say, f"{count} connections that it answered break")
                elif last:
                    left += count
                    say(
                        f"process {found.pid}: answers nothing any more, but {count} connections that it answered are "
                        "open; it stays for them (--force removes it all the same)"
                    )
            if waiting:
                time.sleep(min(pause, max(0.0, end - time.monotonic())))
    return left


def _translated(found: PinnedSet, caretaker: Caretaker) -> int:
    try:
        return pins.count_surely(lambda: caretaker.new_sweep().run()).translated
    except OSError as error:
        raise StartError(f"cannot look through the connections of {found.path}: {reason(error)}") from None


def _remove(found: PinnedSet, say: Callable[[str], object], why: str) -> None:
    try:
        found.remove()
    except OSError as error:
        raise StartError(f"cannot remove {found.path}: {reason(error)}") from None
    say(f"process {found.pid}: removed, {why}")


def _sets(bpffs: str) -> list[PinnedSet]:
    if not host.is_bpffs(bpffs):
        raise StartError(f"{bpffs} is not a mounted bpffs; mount -t bpf bpf {bpffs}")
    try:
        return pins.list_sets(bpffs)
    except OSError as error:
        raise StartError(f"cannot look into {bpffs}: {error.strerror}") from None


def _layouts() -> Structs:
    if missing := load.missing_capabilities():
        raise StartError(f"this needs {', '.join(missing)}")
    try:
        return Layouts(load.read_object().btf)
    except FileNotFoundError:
        raise StartError("this installation of Tux has no kernel tier") from None
    except (OSError, ObjectError) as error:
        raise StartError(f"the object of the kernel tier cannot be read: {error}") from None


def _interface(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"  # gone, or in another network namespace
