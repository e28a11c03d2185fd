# SPDX-License-Identifier: MIT
"""Rules of the repository that no other tool checks."""

from __future__ import annotations

import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from tools import lint, native, requirements
from tux import _version

ROOT = native.ROOT

MAX_LINES = 800
"""Longest source file. A longer one is read by nobody; the usual is 300 to 500."""

SOURCE_SUFFIXES = frozenset({".c", ".h", ".py", ".pyi", ".pyx", ".sh"})

RAW = ("tests/corpus/", "fuzz/corpus/")
"""Folders where every byte of a file counts."""


def tracked() -> list[str]:
    """Every file of the repository: known to git, or new and not ignored. Relative to the top."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def texts() -> list[tuple[str, str]]:
    """Name and content of the files that people edit."""
    return [(name, (ROOT / name).read_text()) for name in tracked() if not name.startswith(RAW)]


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def test_files_are_short() -> None:
    long = [
        f"{name}: {text.count(chr(10))} lines, at most {MAX_LINES}"
        for name, text in texts()
        if Path(name).suffix in SOURCE_SUFFIXES and text.count("\n") > MAX_LINES
    ]
    assert not long


def test_text_is_clean() -> None:
    """As .editorconfig has it."""
    found = []
    for name, text in texts():
        if text and not text.endswith("\n"):
            found.append(f"{name}: no newline at the end")
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                found.append(f"{name}:{number}: white space at the end of a line")
            if "\t" in line and Path(name).suffix in SOURCE_SUFFIXES:
                found.append(f"{name}:{number}: a tab")
    assert not found


def test_no_path_of_one_machine() -> None:
    home = re.compile(r"/(?:home|Users)/(?!NAME\b)[a-z][\w.-]*/")
    found = []
    for name, text in texts():
        found += [f"{name}:{line_of(text, match.start())}: {match[0]}" for match in home.finditer(text)]
        if str(ROOT) in text:
            found.append(f"{name}: names {ROOT}")
    assert not found


def test_c_files_have_a_licence_line() -> None:
    line = "/* SPDX-License-Identifier: MIT */\n"
    missing = [name for name, text in texts() if Path(name).suffix in (".c", ".h") and not text.startswith(line)]
    assert not missing


def test_the_engine_is_built_from_all_its_files() -> None:
    build = (ROOT / "src/tux/engine/meson.build").read_text()
    listed = re.findall(r"^  '(\w+\.c)',$", build, re.MULTILINE)
    assert listed == sorted(path.name for path in (ROOT / "src/tux/engine").glob("*.c"))


def test_the_engine_does_not_know_python() -> None:
    assert lint.engine_alone() == ""


def test_scripts_are_executable() -> None:
    scripts = [name for name, text in texts() if text.startswith("#!")]
    assert ".ci/run" in scripts
    assert [name for name in scripts if not (ROOT / name).stat().st_mode & 0o100] == []


class TestVersion:
    def test_it_is_the_installed_one(self) -> None:
        assert metadata.version("tux-server") == _version.__version__

    def test_the_changelog_has_it(self) -> None:
        changelog = (ROOT / "CHANGELOG.md").read_text()
        versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
        assert versions[0] == _version.__version__
        assert versions == sorted(versions, key=lambda text: [int(part) for part in text.split(".")], reverse=True)


def test_requirements_are_known() -> None:
    """The groups that the Makefile installs exist."""
    makefile = (ROOT / "Makefile").read_text()
    groups = {name for names in re.findall(r"call pip-group,([\w ]+)\)", makefile) for name in names.split()}
    assert groups == {"build", "run", "test", "lint", "fuzz", "bench"}
    for group in groups:
        assert requirements.requirements(group)


class TestMakefile:
    def test_help_names_every_target(self) -> None:
        makefile = (ROOT / "Makefile").read_text()
        targets = re.findall(r"^\.PHONY: (\w+)$", makefile, re.MULTILINE)
        assert sorted(targets) == sorted(re.findall(r"^## (\w+): ", makefile, re.MULTILINE))

    @pytest.mark.parametrize("how", [["-C", str(ROOT)], ["-f", str(ROOT / "Makefile")]])
    def test_it_works_from_elsewhere(self, how: list[str], tmp_path: Path) -> None:
        command = ["make", "--no-print-directory", *how, "help"]
        done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
        assert "serve: " in done.stdout


# ---- Documents.

DOCUMENTS = [name for name in tracked() if name.endswith(".md") and not name.startswith(RAW)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    """Relative links name a file of the repository, and a heading of it if they have a fragment."""
    text = (ROOT / name).read_text()
    broken = []
    for match in re.finditer(r"\]\((?!https?://|mailto:)([^)\s#]*)(?:#([^)\s]+))?\)", without_code(text)):
        path, fragment = match.groups()
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists():
            broken.append(f"{match[0]}: no such file")
        elif fragment and target.suffix == ".md" and fragment not in anchors(target.read_text()):
            broken.append(f"{match[0]}: no such heading")
    assert not broken


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_exist(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^## (\w+): ", makefile, re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]\w*)", (ROOT / name).read_text()))
    assert named <= targets


# In documents: `src/tux/engine/conn.c:tux_conn_read`. The folder of the package may be left out.
POINTER = re.compile(r"`([\w./-]+\.(?:c|h|py|pyi|pyx|sh)):([A-Za-z_][\w.]*)`")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_pointers_into_the_code_hold(name: str) -> None:
    wrong = []
    for match in POINTER.finditer((ROOT / name).read_text()):
        path, symbol = match.groups()
        file = next((file for file in (ROOT / path, ROOT / "src/tux" / path) if file.is_file()), None)
        if file is None:
            wrong.append(f"{path}: no such file")
        elif not defines(file, symbol):
            wrong.append(f"{path} does not define {symbol}")
    assert not wrong


def test_the_architecture_has_pointers() -> None:
    assert len(POINTER.findall((ROOT / "ARCHITECTURE.md").read_text())) >= 10


def defines(file: Path, symbol: str) -> bool:
    """The file defines the function, type or constant; for `Class.method`, each of the parts."""
    text = file.read_text()
    if file.suffix in (".c", ".h"):
        # A definition begins in the first column; a call is indented. A header may have the declaration only.
        form = r"^(?:#define\s+{0}\b|(?:struct|enum|union)\s+{0}\s*\{{|(?=[a-zA-Z])[^;\n]*\b{0}(?:\(|\[|\s=))"
        found = list(re.finditer(form.format(re.escape(symbol)), text, re.MULTILINE))
        if file.suffix == ".h":
            return bool(found)
        return any(not is_declaration(text, match.end()) for match in found)
    form = r"^\s*(?:(?:async )?def|class|cdef[\w \t*]*|cpdef[\w \t*]*)\s+\*?{0}\b|^{0}\b[^=\n]*="
    return all(re.search(form.format(re.escape(part)), text, re.MULTILINE) for part in symbol.split("."))


def is_declaration(text: str, position: int) -> bool:
    """What begins before `position` ends with ";" before any "{"."""
    match = re.compile(r"[;{]").search(text, position)
    return match is not None and match[0] == ";"


def without_code(text: str) -> str:
    """The text without its code blocks and code spans, where brackets are no links."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(text: str) -> set[str]:
    """The fragments of the headings, as the usual renderers make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class TestPointers:
    """The check of pointers can fail."""

    @pytest.mark.parametrize("symbol", ["tux_wheel_init", "tux_wheel_advance"])
    def test_defined(self, symbol: str) -> None:
        assert defines(ROOT / "src/tux/engine/timer.c", symbol)

    @pytest.mark.parametrize("symbol", ["tux_nothing", "tux_wheel_ini"])
    def test_not_defined(self, symbol: str) -> None:
        assert not defines(ROOT / "src/tux/engine/timer.c", symbol)

    def test_python(self) -> None:
        here = Path(__file__)
        assert defines(here, "TestPointers.test_python")
        assert defines(here, "POINTER")
        assert not defines(here, "TestPointers.test_nothing")

    def test_a_call_is_no_definition(self, tmp_path: Path) -> None:
        file = tmp_path / "a.c"
        file.write_text("int tux_a(int x);\nint b(void)\n{\n    return tux_a(1);\n}\n")
        assert not defines(file, "tux_a")
        assert defines(file, "b")
