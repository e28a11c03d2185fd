"""Content codings that are made here."""

from __future__ import annotations

import gzip
import random
import sys
from collections.abc import Callable

import pytest

from tux.http.coding import CODINGS
from tux.http.compress import compressors

DATA = (b"some words that repeat, some words that do not: " + bytes(range(256))) * 100


def inverse(coding: str) -> Callable[[bytes], bytes]:
    if coding == "gzip":
        return gzip.decompress
    if coding == "br":
        found: Callable[[bytes], bytes] = pytest.importorskip("brotli").decompress
        return found
    zstd = pytest.importorskip("zstandard")
    return lambda data: zstd.ZstdDecompressor().decompress(data, max_output_size=1 << 24)


@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("coding", CODINGS)
def test_they_can_be_undone(coding: str, best: bool) -> None:
    back = inverse(coding)
    make = compressors(best=best)[coding]
    noise = random.Random(1).randbytes(5000)
    for data in (DATA, b"", b"x", noise):
        assert back(make(data)) == data
    assert len(make(DATA)) < len(DATA) / 10


@pytest.mark.parametrize("coding", CODINGS)
def test_the_same_bytes_each_time(coding: str) -> None:
    make = compressors().get(coding)
    assert make is None or make(DATA) == make(DATA)


def test_gzip_is_always_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("brotli", "zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    compressors.cache_clear()
    try:
        assert set(compressors()) == {"gzip"}
    finally:
        compressors.cache_clear()
