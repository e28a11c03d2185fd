"""Content codings that can be made here: gzip by the standard library, br and zstd where their library is installed."""

from __future__ import annotations

import functools
import gzip
import importlib
from collections.abc import Callable, Mapping

Compressor = Callable[[bytes], bytes]

QUICK = {"br": 5, "zstd": 6, "gzip": 6}
"""Levels for what is made while somebody waits: about 20 ms a megabyte, and within some percent of the best."""
BEST = {"br": 11, "zstd": 19, "gzip": 9}
"""Levels for what is made ahead."""


@functools.cache
def compressors(*, best: bool = False) -> Mapping[str, Compressor]:
    """Coding -> what makes it, for all that this machine has."""
    levels = BEST if best else QUICK
    found: dict[str, Compressor] = {"gzip": functools.partial(_gzip, level=levels["gzip"])}
    for coding, makers in (("br", (_brotli,)), ("zstd", (_zstd_of_python, _zstandard))):
        for maker in makers:
            try:
                found[coding] = maker(levels[coding])
                break
            except ImportError:
                continue
    return found


def _gzip(data: bytes, *, level: int) -> bytes:
    return gzip.compress(data, level, mtime=0)  # the same bytes each time, so that they have the same entity tag


def _brotli(level: int) -> Compressor:
    brotli = importlib.import_module("brotli")
    return functools.partial(brotli.compress, quality=level)


def _zstd_of_python(level: int) -> Compressor:
    zstd = importlib.import_module("compression.zstd")  # Python 3.14
    return functools.partial(zstd.compress, level=level)


def _zstandard(level: int) -> Compressor:
    zstandard = importlib.import_module("zstandard")

    def compress(data: bytes) -> bytes:
        made: bytes = zstandard.ZstdCompressor(level=level).compress(data)
        return made

    return compress
