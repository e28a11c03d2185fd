# SPDX-License-Identifier: MIT
"""Where code lies that `--reload` follows."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tux.apps.options import AppOptions, ModuleOptions
from tux.apps.sources import sources


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("dir/inner.py", "dir/pack/__init__.py", "files/one.py", "library/far/__init__.py", "library/lone.py"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("raise AssertionError('it was imported')\n")
    distribution = tmp_path / "library/offers-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: offers\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text("[tux.modules]\noffered = far.modules:hello [extra]\n")
    monkeypatch.syspath_prepend(tmp_path / "library")
    importlib.invalidate_caches()
    return tmp_path


def of(folder: Path, *modules: str, **paths: str) -> list[str]:
    return sources([ModuleOptions(name="m", dir=str(folder / "dir"), modules=modules, paths=paths)])


def app(folder: Path, module: str) -> list[str]:
    return sources([AppOptions(name="a", dir=str(folder / "dir"), module=module)])


def test_of_modules(folder: Path) -> None:
    own = str(folder / "dir")
    assert of(folder) == of(folder, "inner.py", "pack", "pack.sub:hello") == [own]
    assert of(folder, "../files/one.py") == of(folder, x="../files/one.py:hello") == [own, str(folder / "files")]
    assert of(folder, str(folder / "dir/pack/one.py")) == [own]
    assert of(folder, "offered") == of(folder, "far") == [own, str(folder / "library/far")]
    assert of(folder, "../missing/one.py", "nothing.of:that") == [own]


def test_of_applications(folder: Path) -> None:
    own = str(folder / "dir")
    assert app(folder, "inner:app") == app(folder, "pack.wsgi") == [own]
    assert app(folder, "far.wsgi:app") == [own, str(folder / "library/far")]
    assert app(folder, "lone:app") == [own, str(folder / "library/lone.py")]
    assert app(folder, "sys:app") == app(folder, "no-name:app") == [own]


def test_of_several(folder: Path) -> None:
    above = AppOptions(name="a", dir=str(folder), module="far:app")
    below = ModuleOptions(name="m", dir=str(folder / "dir"), modules=("inner.py",))
    assert sources([below, above]) == sources([above, above]) == [str(folder)]
    gone = ModuleOptions(name="m", dir=str(folder / "gone"), modules=("one.py",))
    assert sources([gone]) == []
