# SPDX-License-Identifier: MIT
"""Files that nobody must have: in folders of scripts, by whatever name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tux._engine import ABSENT, ERROR, FILE, Roots
from tux.planner.hidden import Hidden


def covers(hidden: Hidden, path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        return hidden.covers(fd)
    finally:
        os.close(fd)


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "site/scripts"
    (folder / "sub").mkdir(parents=True)
    (folder / "run").write_text("script")
    (folder / "sub/run").write_text("script")
    (tmp_path / "site/page").write_text("page")
    return folder


def hidden(*folders: Path) -> Hidden:
    return Hidden([os.fsencode(folder) for folder in folders])


def test_by_every_name(scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(scripts / "run")
    (tmp_path / "folder").symlink_to(scripts)
    for name in ("site/scripts/run", "site/scripts/sub/run", "link", "folder/run", "folder/sub/run"):
        assert covers(hidden(scripts), tmp_path / name), name
        assert covers(hidden(tmp_path / "folder"), tmp_path / name), name
    assert not covers(hidden(scripts), tmp_path / "site/page")
    assert not covers(hidden(), scripts / "run")


def test_a_folder_that_is_replaced(scripts: Path, tmp_path: Path) -> None:
    current = tmp_path / "current"
    current.symlink_to(scripts)
    known = hidden(current)
    other = tmp_path / "other"
    other.mkdir()
    (other / "run").write_text("script")
    assert not covers(known, other / "run")
    current.unlink()
    current.symlink_to(other)
    assert covers(known, other / "run")
    assert covers(known, scripts / "run")  # it once was one


def test_a_folder_that_appears(tmp_path: Path) -> None:
    known = hidden(tmp_path / "later")
    (tmp_path / "later").mkdir()
    (tmp_path / "later/run").write_text("script")
    assert covers(known, tmp_path / "later/run")


def test_roots_do_not_read_them(scripts: Path) -> None:
    roots = Roots([os.fsencode(scripts.parent)], hidden(scripts).covers)
    found = roots.load(0, b"scripts/run", 1000)
    assert (found.kind, found.hidden, found.data, found.fd) == (FILE, True, None, -1)
    found = roots.load(0, b"page", 1000)
    assert (found.kind, found.hidden, found.data) == (FILE, False, b"page")
    assert roots.load(0, b"missing", 1000).kind == ABSENT


@pytest.mark.parametrize("limit", [0, 1000])
def test_what_cannot_be_told_is_an_error(scripts: Path, limit: int) -> None:
    def fails(fd: int) -> bool:
        raise PermissionError(13, "no")

    teller: Callable[[int], bool] = fails
    found = Roots([os.fsencode(scripts.parent)], teller).load(0, b"page", limit)
    assert (found.kind, found.error, found.data, found.fd) == (ERROR, 13, None, -1)
