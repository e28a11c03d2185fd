# SPDX-License-Identifier: MIT
"""`--reload`: code that changes is loaded anew, wherever it lies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tux
from tests.corpus.reader import PATIENCE
from tests.e2e.client import end, put, replace, until
from tests.e2e.dynamic import Ask, asking

MODULE = """
import tux

from {part} import WORD


@tux.module("/{part}")
def word(req):
    return WORD
"""
APP = """
from parts.shown import WORD


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [WORD.encode()]
"""
Start = Callable[[str], tux.Server]


@pytest.fixture
def start(site: Path) -> Iterator[Start]:
    """Starts a server with this configuration, which reloads."""
    with contextlib.ExitStack() as stack:

        def start(config: str) -> tux.Server:
            server_table = '[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\nreload = true\n'
            file = put(site / "reload.toml", server_table + config)
            server = stack.enter_context(tux.Server(config=file))
            stack.callback(lambda: end(server))
            return server

        yield start


def follows(ask: Ask, path: str, file: Path) -> None:
    """What is written to the file is answered. Again and again: the watch begins at some time after the start."""
    word = 0

    def is_seen() -> bool:
        nonlocal word
        word += 1
        replace(file, f'WORD = "{word}"\n')
        with contextlib.suppress(AssertionError):
            until(lambda: ask("GET", path).body == str(word).encode(), "the new word", PATIENCE / 2)
            return True
        return False

    until(is_seen, f"{file} is followed", 3 * PATIENCE)


def test_modules(start: Start, site: Path) -> None:
    """By file, in its `dir` and elsewhere; what they import from their own folders, too."""
    for folder, part in (("home", "near"), ("elsewhere/deep", "far")):
        put(site / folder / f"{part}.py", 'WORD = "0"\n')
        put(site / folder / f"by_{part}.py", MODULE.format(part=part))
    ask = asking(
        start(
            '[module.words]\ndir = "home"\nmodules = ["by_near.py", "../elsewhere/deep/by_far.py"]\n'
            '[[site]]\nmodule = "words"\n'
        )
    )
    assert (ask("GET", "/near").body, ask("GET", "/far").body) == (b"0", b"0")
    follows(ask, "/near", site / "home/near.py")
    follows(ask, "/far", site / "elsewhere/deep/far.py")


def test_an_application(start: Start, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its package may lie elsewhere, as one that is installed for development does."""
    put(site / "library/parts/__init__.py", "")
    put(site / "library/parts/shown.py", 'WORD = "0"\n')
    put(site / "library/parts/wsgi.py", APP)
    (site / "empty").mkdir(exist_ok=True)
    monkeypatch.setenv("PYTHONPATH", str(site / "library"))
    ask = asking(start('[app.parts]\nmodule = "parts.wsgi:app"\ndir = "empty"\n[[site]]\napp = "parts"\n'))
    assert ask("GET", "/").body == b"0"
    follows(ask, "/", site / "library/parts/shown.py")


def test_what_is_broken_leaves_the_old_one(start: Start, site: Path) -> None:
    file = put(site / "single.py", MODULE.format(part="single_word"))
    put(site / "single_word.py", 'WORD = "0"\n')
    server = start('[[site]]\nmodule = "single.py"\n')
    ask = asking(server)
    follows(ask, "/single_word", site / "single_word.py")
    before = ask("GET", "/single_word").body
    replace(file, "import tux\n1/0\n")
    until(lambda: "ZeroDivisionError" in server.stderr_text(), "it is tried")
    assert ask("GET", "/single_word").body == before
    replace(file, MODULE.format(part="single_word").replace("WORD\n\n\n", "WORD as OLD\nWORD = OLD + '!'\n\n\n"))
    until(lambda: ask("GET", "/single_word").body == before + b"!", "it is loaded when it is right again")
