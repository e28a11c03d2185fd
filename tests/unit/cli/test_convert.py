"""`tux convert`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tux.cli.group import tux

UNIT = '{"listeners": {"*:80": {"pass": "routes"}}, "routes": [{"action": {"share": "/srv$uri"}}], "js_module": "x"}'


def run(*arguments: str) -> Result:
    return CliRunner().invoke(tux, ["convert", *arguments])


def test_the_result_and_what_is_lost(tmp_path: Path) -> None:
    (tmp_path / "unit.json").write_text(UNIT)
    result = run(str(tmp_path / "unit.json"))
    assert result.exit_code == 0
    assert tomllib.loads(result.stdout)["site"] == [{"root": "/srv"}]
    assert "# js_module: not supported: the whole table\n" in result.stdout
    assert result.stderr == "js_module: not supported: the whole table\n"
    assert run(str(tmp_path / "unit.json"), "--strict").exit_code == 1


def test_what_is_not_needed_is_named_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text("http { sendfile on; server { root /srv; } }")
    assert run(str(tmp_path / "nginx.conf")).stderr == ""
    assert "nginx.conf:1: not needed: sendfile on" in run(str(tmp_path / "nginx.conf"), "--verbose").stderr


def test_a_file_is_written_but_not_over_another(tmp_path: Path) -> None:
    (tmp_path / "unit.json").write_text(UNIT)
    target = tmp_path / "tux.toml"
    assert run(str(tmp_path / "unit.json"), "--output", str(target)).stdout == ""
    assert tomllib.loads(target.read_text())["site"] == [{"root": "/srv"}]
    again = run("--from", "unit", str(tmp_path / "unit.json"), "-o", str(target))
    assert (again.exit_code, again.stderr.splitlines()[-1]) == (1, f"tux: error: --output {target}: File exists")


def test_what_would_not_be_valid_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text("http { }")
    result = run(str(tmp_path / "nginx.conf"))
    assert result.exit_code == 1
    assert "no site" in result.stderr


@pytest.mark.parametrize("content", [None, "{}"])
def test_what_cannot_be_read(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "x"
    if content is not None:
        file.write_text(content)
    result = run(str(file))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"tux: error: {file}: ")
