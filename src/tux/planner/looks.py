"""What the answer to one request looks up on disk. Each look becomes a check of the plan."""

from __future__ import annotations

from tux._engine import Found, Roots

MARK = b"//"
"""Ends the path of a folder which nothing that follows may leave, by links neither (engine/files.h). Paths of requests
have no empty segments."""


class Looks:
    """Looks below a root, or below a folder in it. For one plan."""

    __slots__ = ("_limit", "_root", "_roots", "below", "found")

    def __init__(self, roots: Roots, root: int, limit: int) -> None:
        """limit: bytes of the largest file that is read whole."""
        self._roots = roots
        self._root = root
        self._limit = limit
        self.below = b""
        """What is put before paths: the folder of a host and `MARK`, or nothing."""
        self.found: list[Found] = []
        """All that was looked at, in this order."""

    def look(self, path: bytes) -> Found:
        """What is at a path, without opening it."""
        return self._note(self._roots.look(self._root, self.below + path))

    def load(self, path: bytes) -> Found:
        """What is at a path: a small file is read, a larger one opened."""
        return self._note(self._roots.load(self._root, self.below + path, self._limit))

    def open_folder(self, path: bytes) -> Found:
        """The folder at a path, open for reading its entries."""
        return self._note(self._roots.open_folder(self._root, self.below + path))

    def load_again(self, number: int) -> Found:
        """As `load`, for what was only looked at: its number in `found`, where it is replaced."""
        self.found[number] = self._roots.load(self._root, self.found[number].path, self._limit)
        return self.found[number]

    def _note(self, found: Found) -> Found:
        self.found.append(found)
        return found


def below_host(path: bytes) -> bytes:
    """A path that was looked at, without the folder of a host: what globs are about."""
    before, mark, rest = path.partition(MARK)
    return rest if mark else before
