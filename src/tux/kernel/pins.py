# SPDX-License-Identifier: MIT
"""What lies in a bpffs: BPFFS/tux/PID-BOOTNS/ has the maps, programs and attachments of one start of a server.

A folder there is called a set. It outlives its server, so that connections which the programs renumber go on when the
server is killed; whoever comes next, a server or `tux kernel detach`, finds it by its path and never by a number.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tux.kernel import sys_bpf
from tux.kernel.attach import remove_pinned
from tux.kernel.load import Map
from tux.kernel.pulse import Structs, boot_ns
from tux.kernel.sweep import PORTION, Count, Sweep

FOLDER: Final = "tux"
FOLDER_MODE: Final = 0o700

MAPS: Final = ("control", "conns", "counters", "entries", "answers", "chunks")
"""The maps that are pinned: what others need to look, to sweep and to stop it."""
REAP: Final = "tux_reap"

QUIET_NS: Final = 2 * 10**9
"""A set whose heart did not beat for so long, and whose process is gone, is nobody's."""

_ATTACHMENT: Final = re.compile(r"(ingress|egress)-([1-9]\d{0,9})", re.ASCII)
_NAME: Final = re.compile(r"([1-9]\d{0,9})-(\d{1,20})", re.ASCII)


def reason(error: OSError) -> str:
    """One line for the user. Errors of this package say what was attempted; those of Python only have numbers more."""
    if type(error).__str__ is OSError.__str__ and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error).partition("\n")[0]


@dataclass(frozen=True)
class PinnedSet:
    """A set of pins."""

    path: str
    pid: int
    """Of the supervisor that made it."""
    boot_ns: int
    """When: CLOCK_BOOTTIME."""

    def map(self, name: str) -> Map:
        """OSError: it is not there."""
        return Map.open(f"{self.path}/{name}")

    def attachments(self) -> list[tuple[int, str, str]]:
        """Index of the interface, direction, path of the pin."""
        found = []
        for name in _listed(self.path):
            match = _ATTACHMENT.fullmatch(name)
            if match is not None:
                found.append((int(match[2]), match[1], f"{self.path}/{name}"))
        return sorted(found)

    def attachment_path(self, ifindex: int, direction: str) -> str:
        """Where it is to be pinned."""
        return f"{self.path}/{direction}-{ifindex}"

    @property
    def exists(self) -> bool:
        """One that may not be looked at is there."""
        try:
            os.stat(self.path)
        except FileNotFoundError:
            return False
        except OSError:
            pass
        return True

    def remove(self) -> None:
        """Detach the programs and remove all pins. Connections whose numbers they change break. OSError."""
        for ifindex, direction, path in self.attachments():
            try:
                remove_pinned(path, ifindex, direction)
            except OSError as error:
                if error.errno != errno.ENOENT:  # somebody else was faster
                    raise
        for name in _listed(self.path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.path}/{name}")
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(self.path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self.path))  # unless another server has its set there


def create(bpffs: str, pid: int, now_ns: int) -> PinnedSet:
    """The folder of a new set. OSError."""
    parent = f"{bpffs}/{FOLDER}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(parent, FOLDER_MODE)
    path = f"{parent}/{pid}-{now_ns}"
    os.mkdir(path, FOLDER_MODE)
    return PinnedSet(path, pid, now_ns)


def list_sets(bpffs: str) -> list[PinnedSet]:
    """All sets, the oldest first. OSError: not permitted to look."""
    found = []
    for name in _listed(f"{bpffs}/{FOLDER}"):
        match = _NAME.fullmatch(name)
        if match is not None:
            found.append(PinnedSet(f"{bpffs}/{FOLDER}/{name}", int(match[1]), int(match[2])))
    return sorted(found, key=lambda item: item.boot_ns)


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def is_alive(found: PinnedSet, heartbeat_ns: int, now_ns: int) -> bool:
    """Does somebody look after it? Its heart beats, or its process is there: not one that got the same number later."""
    return now_ns - heartbeat_ns < QUIET_NS or has_process(found)


def has_process(found: PinnedSet) -> bool:
    """Is the process that made it there? One in another namespace of processes cannot be seen."""
    started = _started_ns(found.pid)
    return started is not None and started <= found.boot_ns


def _started_ns(pid: int) -> int | None:
    """When a process was started (proc_pid_stat(5): field 22, in ticks since boot); None: there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[19]) * 10**9 // os.sysconf("SC_CLK_TCK")


# -- looking after a set from outside ------------------------------------------------------------------------------


class Caretaker:
    """Stops, sweeps and removes a set that another process made."""

    def __init__(self, found: PinnedSet, layouts: Structs) -> None:
        """OSError: it is not complete, or not permitted."""
        self.pinned: Final = found
        self._layouts = layouts
        with contextlib.ExitStack() as stack:
            self._control = stack.enter_context(contextlib.closing(found.map("control")))
            self._conns = stack.enter_context(contextlib.closing(found.map("conns")))
            self._reap = sys_bpf.obj_get(f"{found.path}/{REAP}")
            stack.callback(os.close, self._reap)
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()

    def heartbeat_ns(self) -> int:
        area = self._control.mmap()
        try:
            return self._layouts["tux_kernel_control"].number(area, "heartbeat_ns")
        finally:
            area.close()

    def quiet(self) -> None:
        """From now on its programs answer nothing new, and only renumber."""
        area = self._control.mmap()
        try:
            self._layouts["tux_kernel_control"].write(memoryview(area), "answering", 0)
        finally:
            area.close()

    def new_sweep(self) -> Sweep:
        """Over its connections."""
        return new_sweep(self._conns, self._reap, self._layouts)


def new_sweep(conns: Map, reap_fd: int, layouts: Structs, *, paused: bool = False) -> Sweep:
    """A sweep over this map, which runs that program."""
    portions = sys_bpf.map_lookup_batch(conns.fd, conns.key_size, conns.value_size, PORTION)
    return Sweep(portions, lambda packet: sys_bpf.prog_test_run(reap_fd, packet), layouts, boot_ns(), paused=paused)


def count_surely(sweep: Callable[[], Count]) -> Count:
    """What a sweep reads may change while it reads, and a program that had begun before may answer one request more: so
    none is believed to need the programs before two sweeps in a row have found none."""
    count = sweep()
    return count if count.translated else sweep()


def wait_for_end(sweep: Callable[[], Count], timeout: float, pause: float = 0.1) -> Count:
    """Sweep until no connection needs the programs, or so many seconds are over; what is left then."""
    end = time.monotonic() + timeout
    while True:
        count = count_surely(sweep)
        if not count.translated or time.monotonic() >= end:
            return count
        time.sleep(min(pause, max(0.0, end - time.monotonic())))
