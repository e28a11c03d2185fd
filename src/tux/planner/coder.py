"""Files that are compressed when they are first asked for."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tux._engine import Found
from tux.http.compress import Compressor, compressors

MIN_BYTES = 256
"""Smaller files are one packet either way."""
MAX_BYTES = 512 * 1024
"""Of a file: 10 ms, for which other requests wait. Larger ones are for `tux compress`."""
KEPT_BYTES = 16 * 1024 * 1024
"""Results that are kept: who asks for a file in a hundred forms (ranges, conditions) has it compressed once."""


class Coded(NamedTuple):
    """A compressed file, in memory. As a `Found`, as far as answers need one."""

    data: bytes
    mtime_ns: int
    fd: int = -1

    @property
    def size(self) -> int:
        return len(self.data)


class Coder:
    """Makes compressed forms, and keeps them. Used by one thread."""

    def __init__(self, makers: Mapping[str, Compressor] | None = None, kept_bytes: int = KEPT_BYTES) -> None:
        """makers: None for all that this machine has."""
        self._makers = compressors() if makers is None else makers
        self._kept: OrderedDict[tuple[int, int, int, int, str], bytes] = OrderedDict()
        self._kept_bytes = kept_bytes
        self._bytes = 0

    @staticmethod
    def takes(found: Found) -> bool:
        """Whether a file of this size is worth it."""
        return MIN_BYTES <= found.size <= MAX_BYTES

    def code(self, found: Found, codings: Sequence[str]) -> tuple[str, Coded] | None:
        """The file in the first of these codings that can be made, and the coding. None: there is none, it would not be
        smaller, or the file has changed meanwhile."""
        coding = next((coding for coding in codings if coding in self._makers), None)
        if coding is None:
            return None
        key = (found.dev, found.ino, found.size, found.mtime_ns, coding)
        data = self._kept.get(key)
        if data is not None:
            self._kept.move_to_end(key)
        else:
            original = found.data if found.data is not None else _read(found)
            if original is None:
                return None
            data = self._makers[coding](original)
            self._keep(key, data if len(data) < len(original) else b"")
        # Nothing is kept as well: that it would not be smaller.
        data = self._kept[key]
        return (coding, Coded(data, found.mtime_ns)) if data else None

    def _keep(self, key: tuple[int, int, int, int, str], data: bytes) -> None:
        self._kept[key] = data
        self._bytes += len(data) + MIN_BYTES  # for the entry itself
        while self._bytes > self._kept_bytes and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._bytes -= len(old) + MIN_BYTES


def _read(found: Found) -> bytes | None:
    """The whole open file; None when it is not any more what it was."""
    data = os.pread(found.fd, found.size, 0)
    now = os.fstat(found.fd)
    same = len(data) == found.size == now.st_size and now.st_mtime_ns == found.mtime_ns
    return data if same else None
