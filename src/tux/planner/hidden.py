"""Folders whose files are never sent, by whatever route, root or link they are reached: those of CGI scripts."""

from __future__ import annotations

import os
from collections.abc import Sequence


class Hidden:
    """Tells files in such folders. A folder is known by what it is, not by its name: it may have several, by links and
    mounts, and what is below its name may change. One that was once found there stays hidden."""

    def __init__(self, folders: Sequence[bytes]) -> None:
        self._folders = folders
        self._known: set[tuple[int, int]] = set()
        self._look()

    def covers(self, fd: int) -> bool:
        """Whether the open file lies in one of them, or below, or is one of them. OSError: that cannot be told."""
        self._look()
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) in self._known:
            return True
        path = os.readlink(b"/proc/self/fd/%d" % fd)
        while (parent := os.path.dirname(path)) != path:  # ends: it becomes shorter
            path = parent
            found = os.stat(path)
            if (found.st_dev, found.st_ino) in self._known:
                return True
        return False

    def _look(self) -> None:
        for folder in self._folders:
            try:
                found = os.stat(folder)
            except OSError:
                continue  # there is nothing in it
            self._known.add((found.st_dev, found.st_ino))
