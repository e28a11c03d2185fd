"""Compressed copies beside the files of a folder, as `precompressed` looks for them."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tux.http import media
from tux.http.coding import SIDE_SUFFIXES
from tux.http.compress import Compressor, compressors

MAX_BYTES = 256 * 1024 * 1024
"""Larger originals are left alone: they are read into memory, one for each thread."""
AHEAD = 2
"""Files that wait for each thread: the walk through the folders need not be faster."""


class Job(NamedTuple):
    """One original, and the codings that are to be made of it."""

    path: str
    size: int
    codings: tuple[str, ...]


class Done(NamedTuple):
    """What became of a job. Coding -> bytes of the copy, for those that were written."""

    job: Job
    written: dict[str, int]
    larger: tuple[str, ...] = ()
    """Codings in which it would not have been smaller."""
    error: str = ""


def find(folder: str, codings: Sequence[str], *, min_bytes: int, again: bool = False) -> Iterator[Job]:
    """The files below a folder that compress and whose copies are missing or older; with `again` all that compress.
    Links and names that begin with a dot are left alone. OSError: the folder cannot be read."""
    os.stat(folder)

    def failed(error: OSError) -> None:
        raise error

    for here, folders, names in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith(".") or not media.media_type(os.fsencode(name)).compressible:
                continue
            path = os.path.join(here, name)
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                found = os.lstat(path)
                if not stat.S_ISREG(found.st_mode) or not min_bytes <= found.st_size <= MAX_BYTES:
                    continue
                wanted = tuple(c for c in codings if again or not _is_there(path + SIDE_SUFFIXES[c], found))
                if wanted:
                    yield Job(path, found.st_size, wanted)


def _is_there(copy: str, original: os.stat_result) -> bool:
    try:
        return os.lstat(copy).st_mtime_ns >= original.st_mtime_ns
    except FileNotFoundError:
        return False


def make(jobs: Sequence[Job], threads: int) -> Iterator[Done]:
    """Do the jobs, in as many threads (the libraries release the GIL); results come in the order of the jobs."""
    makers = compressors(best=True)
    pool = ThreadPoolExecutor(threads)
    try:
        pending = [pool.submit(_make, job, makers) for job in jobs[: threads * (1 + AHEAD)]]
        for number in range(len(jobs)):
            yield pending[number].result()
            if len(pending) < len(jobs):
                pending.append(pool.submit(_make, jobs[len(pending)], makers))
    finally:
        pool.shutdown(cancel_futures=True)  # who interrupts waits for what is being done, but not for what waits


def _make(job: Job, makers: Mapping[str, Compressor]) -> Done:
    written: dict[str, int] = {}
    larger: list[str] = []
    at = job.path
    try:
        with open(job.path, "rb") as file:
            found = os.fstat(file.fileno())  # before: if it is written meanwhile, the copy is older
            data = file.read()
        for coding in job.codings:
            copy = makers[coding](data)
            at = job.path + SIDE_SUFFIXES[coding]
            if len(copy) < len(data):
                _write(at, copy, found)
                written[coding] = len(copy)
            else:
                larger.append(coding)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(at)  # it is of an older original
    except OSError as error:
        return Done(job, written, tuple(larger), f"{at}: {error.strerror}")
    return Done(job, written, tuple(larger))


def _write(path: str, data: bytes, original: os.stat_result) -> None:
    """Replace a copy at once. It has the mode and the time of its original: one that has changed meanwhile is newer."""
    # A name that is never served, and is not too long where the copy's is not.
    new = os.path.join(os.path.dirname(path), f".tux-{os.getpid()}-{threading.get_ident()}.new")
    try:
        with open(new, "xb") as file:
            file.write(data)
            os.fchmod(file.fileno(), stat.S_IMODE(original.st_mode) & 0o666)
        os.utime(new, ns=(original.st_mtime_ns, original.st_mtime_ns))
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        raise
