"""wsgi.file_wrapper: a file that the engine sends by itself."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

BLOCK_BYTES = 65536
"""What is read at once where the file cannot be sent by the engine, and the application has not said it."""


class FileWrapper:
    """What an application returns to have a file sent (PEP 3333, "Optional Platform-Specific File Handling"). It can be
    iterated as well: middleware does."""

    def __init__(self, filelike: Any, block_size: int = BLOCK_BYTES) -> None:
        self.filelike = filelike
        self.block_size = block_size
        close = getattr(filelike, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block: bytes = self.filelike.read(self.block_size)
        if not block:
            raise StopIteration
        return block


class Extent(NamedTuple):
    """Bytes of an open file."""

    fd: int
    offset: int
    length: int


def extent(filelike: Any) -> Extent | None:
    """What is left to read of it, from its position to its end, if that is what its descriptor has: a regular file,
    nothing that unpacks, decrypts or decodes. None: read it."""
    if not _is_plain(filelike):
        return None
    try:
        fd = filelike.fileno()
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        tell = getattr(filelike, "tell", None)
        offset = tell() if tell is not None else os.lseek(fd, 0, os.SEEK_CUR)
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
    ):  # io.UnsupportedOperation is an OSError; closed: ValueError
        return None
    return Extent(fd, offset, max(status.st_size - offset, 0))


def _is_plain(filelike: Any) -> bool:
    """gzip's and its kin's objects have the descriptor of the packed file."""
    if isinstance(filelike, io.IOBase):
        raw = filelike.raw if isinstance(filelike, io.BufferedReader | io.BufferedRandom) else filelike
        return isinstance(raw, io.FileIO)
    inner = getattr(filelike, "file", None)  # of tempfile and of Django
    return hasattr(filelike, "fileno") and (inner is None or inner is filelike or _is_plain(inner))
