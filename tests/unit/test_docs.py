# SPDX-License-Identifier: MIT
"""What the documentation shows is what Tux takes: configurations load, commands parse, Python compiles and runs.

That links and pointers into the code lead somewhere is checked for all documents by tests/test_repository.py.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from tests.test_repository import anchors, without_code
from tux.cli.group import tux
from tux.config.load import parse
from tux.config.options import from_options
from tux.errors import StartError

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "examples/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
GENERATED = {"configuration.md", "command-line.md"}
"""Made from the sources; a test of their own compares them."""


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    line: int
    """Of its fence, from 1."""
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks in these languages, over all pages."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in _FENCED.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(str(page.relative_to(ROOT)), line, match[1], match[2]))
    return [block for block in found if block.language in languages]


# ---- Configurations.


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_a_configuration_loads(block: Block) -> None:
    """With all its checks; only the folders that it names need not exist."""
    assert parse(block.text.encode(), f"{block}").site


# ---- Commands.


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each `tux` command in a console block: what follows "$ " or "ExecStart=", whatever the folder of
    the program and whether sudo or a variable stands before it."""
    for line in text.replace("\\\n", " ").splitlines():
        prompt = re.match(r"\$ |Exec\w+=", line)
        if prompt is None:
            continue
        words = shlex.split(line[prompt.end() :], comments=True)
        while words and (words[0] == "sudo" or re.fullmatch(r"[A-Z_]+=.*", words[0])):
            del words[0]
        if words and words[0].rpartition("/")[2] == "tux":
            yield words[1:]


def check(arguments: list[str]) -> None:
    """Parse as the program does, without running it; the values of `serve` are judged, too. Raises what is wrong."""
    program = click.Context(tux, info_name="tux", **tux.context_settings)  # click keeps what it finds out here
    if arguments[:1] == ["--version"]:
        assert "--version" in (name for parameter in tux.params for name in parameter.opts)
        arguments = arguments[1:]
        if not arguments:
            return
    name, command, rest = tux.resolve_command(program, arguments)
    while isinstance(command, click.Group):
        program = click.Context(command, info_name=name, parent=program)
        name, inner, rest = command.resolve_command(program, rest)
        assert inner is not None
        command = inner
    assert command is not None
    given = command.make_context(name, rest, parent=program).params
    if name == "serve" and given["config"] is None:
        from_options(**{key: value for key, value in given.items() if key != "ready_fd"})


COMMANDS = [(block, arguments) for block in blocks("console", "ini", "sh") for arguments in commands(block.text)]


@pytest.mark.parametrize(("block", "arguments"), COMMANDS, ids=[f"{block}-{words[0]}" for block, words in COMMANDS])
def test_a_command_parses(block: Block, arguments: list[str]) -> None:
    check(arguments)


def test_there_are_commands() -> None:
    assert {"serve", "check", "--version"} <= {arguments[0] for _, arguments in COMMANDS}


@pytest.mark.parametrize(
    "line",
    [
        "$ tux serve --lisen 127.0.0.1:80",
        "$ tux serve public --listen 127.0.0.1",
        "$ tux serve public --cache-control 3600",
        "$ tux serve a b",
        "$ sudo /opt/tux/bin/tux reload",
        "$ tux check --show tux.toml",
        "$ sudo tux kernel stats",
        "$ tux serve --kernel yes",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    """The check of commands can fail."""
    (arguments,) = commands(line)
    with pytest.raises((click.ClickException, StartError)):
        check(arguments)


def test_only_commands_are_taken_for_commands() -> None:
    text = "tux: ready on http://127.0.0.1:80\n$ curl http://127.0.0.1/ # tux serve\n$ tux serve \\\n  public # more\n"
    assert list(commands(text)) == [["serve", "public"]]


# ---- Python.


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


def test_the_program_of_the_examples_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples/python-api.py")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout == ("200 no-cache Hello from Tux\n304 not modified\ncannot start: no such folder: FOLDER\n")


# ---- Pages.

_LINK = re.compile(r"\]\(([^)\s#:]+)")


def links(page: Path) -> set[Path]:
    """The files that a page links to."""
    return {(page.parent / match[1]).resolve() for match in _LINK.finditer(without_code(page.read_text()))}


@pytest.mark.parametrize(
    "index",
    [
        pytest.param((ROOT / "docs/README.md", ROOT / "docs", "**/*.md"), id="docs"),
        pytest.param((ROOT / "examples/README.md", ROOT / "examples", "*.*"), id="examples"),
    ],
)
def test_the_index_has_every_page(index: tuple[Path, Path, str]) -> None:
    page, folder, pattern = index
    assert {path for path in folder.glob(pattern) if path != page} - links(page) == set()


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.is_relative_to(ROOT / "docs") and page.parent.name != "decisions"],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_a_page_begins_with_what_it_gives(page: Path) -> None:
    if page.name not in GENERATED and page != ROOT / "docs/README.md":
        title, _, first, *_ = page.read_text().splitlines()
        assert title.startswith("# ")
        assert first.startswith("You get: ")


@pytest.mark.parametrize("page", sorted((ROOT / "docs/decisions").glob("*.md")), ids=lambda page: page.stem)
def test_a_decision_has_its_parts(page: Path) -> None:
    text = page.read_text()
    assert re.match(rf"# {page.name[:3]}: .+\n\nStatus: (accepted|superseded by \d{{3}})\.", text)
    assert {"context", "choice", "consequence"} <= anchors(text)
    number = int(page.name[:3])
    assert number == 1 or list(page.parent.glob(f"{number - 1:03}-*.md"))
