"""Files that are compressed when they are first asked for.

Other requests that need the planner wait meanwhile, so the work is bounded twice: by the size of a file, and by a share
of the time. Over it a file is sent as it is, and tried again a moment later: a flood of requests for ever other files
costs clients bytes, and the server no more time than that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from tux._engine import Found
from tux.http.compress import Compressor, compressors
from tux.planner.allowance import Allowance
from tux.planner.kept import Kept
from tux.planner.view import View

MIN_BYTES = 256
"""Smaller files are one packet either way."""
MAX_BYTES = 512 * 1024
"""Of a file: 20 ms at most, for which other requests wait. Larger ones are for `tux compress`."""
KEPT_BYTES = 16 * 1024 * 1024
"""Results that are kept: who asks for a file in a hundred forms (ranges, conditions) has it compressed once."""
BURST_NS = 250_000_000
"""How long it may take at once: a usual site's files, when it is first visited. Beyond, it has a share of the time."""
RETRY_NS = 1_000_000_000
"""How long an answer holds that is not compressed because there was no time."""

_Key: TypeAlias = tuple[str, bytes | tuple[int, ...]]
"""The coding, and the content or what says that it is the same."""


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

    def __init__(
        self,
        makers: Mapping[str, Compressor] | None = None,
        kept_bytes: int = KEPT_BYTES,
        allowance: Allowance | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """makers: None for all that this machine has. clock: nanoseconds."""
        self._makers = compressors() if makers is None else makers
        self.kept: Kept[_Key, bytes] = Kept(kept_bytes, lambda data: len(data) + MIN_BYTES)  # for the entry itself
        self._allowance = allowance or Allowance(BURST_NS)
        self._clock = clock

    @staticmethod
    def takes(found: Found) -> bool:
        """Whether a file of this size is worth it."""
        return MIN_BYTES <= found.size <= MAX_BYTES

    def code(self, view: View, found: Found, codings: Sequence[str]) -> tuple[str, Coded] | None:
        """The file in the first of these codings that can be made, and the coding. None: there is none, it would not be
        smaller, the file has changed meanwhile, or there is no time for it, which holds for a moment."""
        coding = next((coding for coding in codings if coding in self._makers), None)
        if coding is None:
            return None
        key = (coding, _same(found))
        data = self.kept.get(key)
        if data is None:
            if not self._allowance.any_left():
                view.expire(RETRY_NS)
                return None
            begun_ns = self._clock()
            original = found.data if found.data is not None else _read(found)
            if original is None:
                view.expire(RETRY_NS)
                return None
            data = self._makers[coding](original)
            self._allowance.spend(self._clock() - begun_ns)
            if len(data) >= len(original):
                data = b""
            if found.data is not None or view.settled(found.mtime_ns):
                self.kept.put(key, data)
        # Nothing is kept as well: that it would not be smaller.
        return (coding, Coded(data, found.mtime_ns)) if data else None


def _same(found: Found) -> bytes | tuple[int, ...]:
    """What is equal for equal contents only; of an open file, once it has been quiet for a while."""
    if found.data is not None:
        return blake2b(found.data, digest_size=16).digest()
    now = os.fstat(found.fd)
    return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def _read(found: Found) -> bytes | None:
    """The whole open file; None when it is not any more what it was."""
    data = os.pread(found.fd, found.size, 0)
    now = os.fstat(found.fd)
    same = len(data) == found.size == now.st_size and now.st_mtime_ns == found.mtime_ns
    return data if same else None
