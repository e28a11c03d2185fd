"""Compressed copies beside files."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from tux.ahead import copies
from tux.ahead.copies import Done, Job

TEXT = b"many words, many words, " * 100


def put(path: Path, data: bytes = TEXT, mtime: int = 1_000_000_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (mtime, mtime))
    return path


def found(folder: Path, *codings: str, again: bool = False) -> list[tuple[str, tuple[str, ...]]]:
    jobs = copies.find(str(folder), codings or ("gzip",), min_bytes=10, again=again)
    return [(os.path.relpath(job.path, folder), job.codings) for job in jobs]


def made(folder: Path, again: bool = False) -> list[Done]:
    return list(copies.make(list(copies.find(str(folder), ["gzip"], min_bytes=10, again=again)), 2))


def test_what_is_looked_for(tmp_path: Path) -> None:
    for name in ("b.html", "a/c.css", "a/d.JS", "x.png", "y", ".hidden.html", ".git/a.html", "a.html.gz"):
        put(tmp_path / name)
    put(tmp_path / "tiny.txt", b"123456789")
    os.symlink("b.html", tmp_path / "link.html")
    os.symlink("a", tmp_path / "folder")
    os.mkfifo(tmp_path / "fifo.txt")
    assert found(tmp_path) == [("b.html", ("gzip",)), ("a/c.css", ("gzip",)), ("a/d.JS", ("gzip",))]


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    file = put(tmp_path / "a.txt")
    put(tmp_path / "a.txt.gz")
    assert found(tmp_path, "br", "gzip") == [("a.txt", ("br",))]
    assert found(tmp_path, "br", "gzip", again=True) == [("a.txt", ("br", "gzip"))]
    os.utime(file, (1_000_000_001, 1_000_000_001))
    assert found(tmp_path, "br", "gzip") == [("a.txt", ("br", "gzip"))]


def test_copies(tmp_path: Path) -> None:
    put(tmp_path / "a.txt").chmod(0o640)
    put(tmp_path / "sub/b.txt", TEXT * 2)
    done = made(tmp_path)
    assert [one.written.keys() for one in done] == [{"gzip"}, {"gzip"}]
    copy = tmp_path / "a.txt.gz"
    assert gzip.decompress(copy.read_bytes()) == TEXT
    assert copy.stat().st_mode & 0o777 == 0o640
    assert copy.stat().st_mtime_ns == (tmp_path / "a.txt").stat().st_mtime_ns
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "a.txt.gz", "sub"]
    assert made(tmp_path) == []


def test_one_that_would_be_larger_is_removed(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", os.urandom(100))
    put(tmp_path / "a.txt.gz", b"old", 1)
    (done,) = made(tmp_path)
    assert (done.written, done.larger) == ({}, ("gzip",))
    assert not (tmp_path / "a.txt.gz").exists()


def test_an_error_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    jobs = [Job(str(tmp_path / "gone.txt"), 1, ("gzip",)), Job(str(put(tmp_path / "a.txt")), 1, ("gzip",))]
    first, second = copies.make(jobs, 1)
    assert first.error.endswith("gone.txt: No such file or directory")
    assert second.written


def test_an_original_that_is_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(tmp_path / "a.txt")

    def slow(data: bytes) -> bytes:
        put(file, data[::-1], 1_000_000_002)
        return gzip.compress(data)

    monkeypatch.setattr(copies, "compressors", lambda **_: {"gzip": slow})
    assert made(tmp_path)[0].written
    assert found(tmp_path) == [("a.txt", ("gzip",))], "the copy is older"


def test_what_waits_is_not_done_after_an_interruption(tmp_path: Path) -> None:
    for number in range(20):
        put(tmp_path / f"{number:02}.txt")
    done = copies.make(list(copies.find(str(tmp_path), ["gzip"], min_bytes=10)), 1)
    next(done)
    done.close()  # type: ignore[attr-defined]
    assert len(list(tmp_path.glob("*.gz"))) <= 1 + 1 + copies.AHEAD
    assert list(tmp_path.glob(".*")) == []


def test_the_longest_name_that_has_a_copy(tmp_path: Path) -> None:
    put(tmp_path / ("x" * 248 + ".txt"))
    assert made(tmp_path)[0].written


def test_more_jobs_than_wait(tmp_path: Path) -> None:
    for number in range(20):
        put(tmp_path / f"{number:02}.txt")
    assert [Path(one.job.path).name for one in made(tmp_path)] == [f"{number:02}.txt" for number in range(20)]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(copies.find(str(tmp_path / "none"), ["gzip"], min_bytes=0))
