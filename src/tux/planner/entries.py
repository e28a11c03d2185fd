"""What is in a folder, as far as clients may know."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import NamedTuple

from tux._engine import FILE, FOLDER, Found, Roots
from tux.planner.allowance import Allowance
from tux.planner.kept import Kept

MAX_ENTRIES = 10_000
"""Entries that are looked at, 10 µs each: other requests wait for the planner."""
KEEP_NS = 1_000_000_000
"""How long what was read is used again: the promise for freshness is one second."""
MAX_KEPT = 16
"""Folders that are kept. Pages and orders of one listing cost one look at the folder a second, however many are asked
for."""
BURST_NS = 1_000_000_000
"""How much time of the processor listings may take at once: a dozen of the largest. Beyond, they have a share of it."""


class Entry(NamedTuple):
    """A file or a folder. Of a link: of what it leads to."""

    name: bytes
    folder: bool
    size: int
    """0 for a folder."""
    mtime_ns: int | None
    """None: not known, as for a link to a folder."""
    mode: int
    dev: int
    ino: int


class Entries(NamedTuple):
    entries: tuple[Entry, ...]
    complete: bool
    """False: there are more than are looked at, and these are some of them."""
    read_ns: int
    """By the monotonic clock."""


class Folders:
    """Reads folders, and keeps what it has read for a moment. Used by one thread."""

    def __init__(
        self,
        roots: Roots,
        is_listed: Callable[[bytes, Entry], bool],
        clock: Callable[[], int] = time.monotonic_ns,
        allowance: Allowance | None = None,
    ) -> None:
        """is_listed: whether a name in a folder may be told. clock: nanoseconds. allowance: of the processor's time;
        None for one of its own."""
        self._roots = roots
        self._is_listed = is_listed
        self._clock = clock
        self._allowance = allowance or Allowance(BURST_NS)
        self._kept: Kept[tuple[int, int], Entries] = Kept(MAX_KEPT, lambda _: 1)

    def read(self, folder: Found) -> Entries:
        """What is in the open folder. OSError: it cannot be read. BusyError."""
        key = (folder.dev, folder.ino)
        kept = self._kept.get(key)
        now = self._clock()
        if kept is not None and now - kept.read_ns < KEEP_NS:
            return kept
        with self._allowance.work():
            read = self._read(folder, now)
        self._kept.put(key, read)
        return read

    def _read(self, folder: Found, now: int) -> Entries:
        found: list[Entry] = []
        with os.scandir(folder.fd) as directory:
            for number, item in enumerate(directory):
                if number == MAX_ENTRIES:
                    return Entries(tuple(found), complete=False, read_ns=now)
                name = os.fsencode(item.name)
                entry = self._entry(folder, name)
                if entry is not None and self._is_listed(name, entry):
                    found.append(entry)
        return Entries(tuple(found), complete=True, read_ns=now)

    def _entry(self, folder: Found, name: bytes) -> Entry | None:
        """None: it is no file and no folder, cannot be read, leads out of the root, or is gone."""
        try:
            status = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
        except OSError:
            return None
        if stat.S_ISLNK(status.st_mode):
            found = self._roots.look(folder.root, folder.path + name)
            if found.kind not in (FILE, FOLDER):
                return None
            is_folder = found.kind == FOLDER
            mtime_ns = None if is_folder else found.mtime_ns
            entry = Entry(name, is_folder, found.size, mtime_ns, found.mode, found.dev, found.ino)
        elif stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            is_folder = stat.S_ISDIR(status.st_mode)
            size = 0 if is_folder else status.st_size
            entry = Entry(name, is_folder, size, status.st_mtime_ns, status.st_mode, status.st_dev, status.st_ino)
        else:
            return None
        # By the effective user, as it would be opened; of a link, too.
        needed = os.X_OK if entry.folder else os.R_OK
        return entry if os.access(name, needed, dir_fd=folder.fd, effective_ids=True) else None
