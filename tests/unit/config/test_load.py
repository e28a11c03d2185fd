"""Reading a file: what golden files cannot show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tux.config import load
from tux.errors import ConfigError, StartError


def problems(data: bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load.parse(data, "tux.toml")
    return [str(problem) for problem in caught.value.problems]


def test_paths_start_at_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/tux.toml").write_text('[[site]]\nroot = "./public/"\n')
    for folder, name in (
        (tmp_path, "etc/tux.toml"),
        (tmp_path / "etc", "tux.toml"),
        (Path("/"), f"{tmp_path}/etc/tux.toml"),
    ):
        monkeypatch.chdir(folder)
        assert load.load(name).site[0].root == f"{tmp_path}/etc/public"


def test_dots_of_a_path_are_left_to_the_kernel() -> None:
    assert load.join("/a/link", "../b/./c/") == "/a/link/../b/c"
    assert load.join("/a", "/b") == "/b"
    assert load.join("/", ".") == "/"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartError) as caught:
        load.load(f"{tmp_path}/no.toml")
    assert caught.value.message == f"{tmp_path}/no.toml: no such file"
    assert caught.value.exit_code == 1


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="is a folder, not a configuration file"):
        load.load(str(tmp_path))


def test_other_encodings_than_utf8() -> None:
    assert problems(b'a = 1\nb = 2\nc = "\xfc"\n') == ["tux.toml:3: not UTF-8"]


def test_a_huge_file() -> None:
    assert problems(b"#" * (load.MAX_BYTES + 1)) == ["tux.toml: over 1048576 bytes: not a configuration file"]


def test_windows_line_ends_count_once() -> None:
    assert problems(b'[[site]]\r\n\r\nroot = "a"\r\nindx = 1\r\n') == [
        'tux.toml:4: site[0]: unknown key "indx"; did you mean "index"?'
    ]


def test_a_current_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(StartError, match="the current folder does not exist any more"):
        load.current_folder()
