"""`tux check`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run
from tux.config import load

VALID = '[[site]]\nroot = "public"\n'


def test_a_valid_file(run: Run, folder: Path) -> None:
    (folder / "tux.toml").write_text(VALID)
    (folder / "other.toml").write_text(VALID)
    result = run("check")
    assert (result.exit_code, result.output) == (0, "tux.toml: ok\n")
    result = run("check", "other.toml")
    assert (result.exit_code, result.output) == (0, "other.toml: ok\n")


def test_all_errors_are_shown(run: Run, folder: Path) -> None:
    (folder / "tux.toml").write_text('[server]\nworkers = 0\n[[site]]\nroot = "a"\nindx = 1\n')
    result = run("check")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "tux.toml:2: server.workers: expected at least 1, got 0\n"
        'tux.toml:5: site[0]: unknown key "indx"; did you mean "index"?\n'
    )


def test_a_file_that_is_not_there(run: Run) -> None:
    result = run("check")
    assert (result.exit_code, result.stderr) == (1, "tux: error: tux.toml: no such file\n")


def test_print_shows_the_effective_configuration(run: Run, folder: Path) -> None:
    (folder / "tux.toml").write_text(VALID)
    result = run("check", "--print")
    assert result.exit_code == 0
    assert 'listen = ["127.0.0.1:8080"]\n' in result.stdout
    assert f'root = "{folder}/public"\n' in result.stdout
    assert load.parse(result.stdout.encode(), "tux.toml") == load.load("tux.toml")


def test_print_shows_errors_in_place_of_a_bad_configuration(run: Run, folder: Path) -> None:
    (folder / "tux.toml").write_text("")
    result = run("check", "--print")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == 'tux.toml: no site: add [[site]] with root = "FOLDER"\n'


@pytest.mark.parametrize("print_", [[], ["--print"]])
def test_a_name_that_is_not_text(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, print_: list[str]) -> None:
    odd = os.fsdecode(b"\xff")
    os.mkdir(odd)
    monkeypatch.chdir(folder / odd)
    Path("tux.toml").write_text(VALID)
    result = run("check", os.path.join(os.getcwd(), "tux.toml"), *print_)
    assert result.exit_code == 0
    assert b"/\xff/" in result.stdout_bytes
