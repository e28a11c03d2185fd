"""`tux compress`."""

from __future__ import annotations

import contextlib
import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tux.http.compress import compressors

Run = Callable[..., Result]
TEXT = b"many words, many words, " * 100


def test_copies(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(TEXT)
    (tmp_path / "a.png").write_bytes(TEXT)
    result = run("compress", ".", "--coding", "gzip", "--threads", "2")
    assert result.exit_code == 0
    assert result.stdout.startswith("1 copy of 1 file (gzip), 9")
    assert result.stderr == ""
    assert gzip.decompress((tmp_path / "a.html.gz").read_bytes()) == TEXT
    assert run("compress", ".", "-c", "gzip").stdout == "0 copies of 0 files (gzip)\n"
    assert run("compress", ".", "-c", "gzip", "-q").output == ""
    assert run("compress", ".", "-c", "gzip", "--again", "--quiet").output == ""


def test_all_codings_that_there_are(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(TEXT)
    assert run("compress", ".").exit_code == 0
    suffixes = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
    expected = {"a.html", *(f"a.html{suffixes[coding]}" for coding in compressors(best=True))}
    assert {path.name for path in tmp_path.iterdir()} == expected


def test_small_files_are_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(b"x" * 255)
    assert run("compress", ".", "-c", "gzip").stdout.startswith("0 copies of 0 files")
    assert run("compress", ".", "-c", "gzip", "--min-size", "255").stdout.startswith("1 copy of 1 file")


def test_a_bar_shows_how_far_it_is_on_a_terminal_only(tmp_path: Path) -> None:
    """And the sum is for whoever reads the output."""
    for number in range(20):
        (tmp_path / f"{number}.html").write_bytes(TEXT)
    ours, theirs = os.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        done = subprocess.run(
            [sys.executable, "-m", "tux", "compress", tmp_path, "-c", "gzip"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            timeout=60,
        )
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while piece := terminal.read(4096):
                said += piece
    assert done.stdout.startswith("20 copies of 20 files (gzip), ")
    assert b"compress" in said
    assert b"100%" in said
    again = subprocess.run([sys.executable, "-m", "tux", "compress", tmp_path], capture_output=True, timeout=60)
    assert again.stderr == b""


def test_errors(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("compress", "none")
    assert (result.exit_code, result.stderr) == (1, "tux: error: none: No such file or directory\n")
    for name in ("brotli", "zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    compressors.cache_clear()
    try:
        result = run("compress", ".", "--coding", "br")
        wanted = 'tux: error: --coding br: needs pip install "tux-server[compress]"\n'
        assert (result.exit_code, result.stderr) == (2, wanted)
    finally:
        compressors.cache_clear()


def test_a_copy_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(TEXT)
    (tmp_path / "a.html.gz").mkdir()
    (tmp_path / "a.html.gz/x").touch()
    result = run("compress", ".", "-c", "gzip", "--again")
    assert result.exit_code == 1
    assert result.stderr.startswith("tux: error: ./a.html.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.html.gz"]


def test_what_is_said_to_be_saved_is_not_more_than_it_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(b"x" * 100_000)
    assert run("compress", ".", "-c", "gzip").stdout == "1 copy of 1 file (gzip), 99 % smaller\n"
