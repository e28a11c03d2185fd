# SPDX-License-Identifier: MIT
"""Folders of hosts in the kernel tier: each host has its own answer, also when its folder comes or goes."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus.reader import PATIENCE
from tests.e2e.client import FRESH, put, until
from tests.kernel.lab import Net
from tests.kernel.traffic import head
from tests.kernel.world import Asker, World, open_world


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tux-hosts-") as folder:
        path = Path(folder)
        path.chmod(0o755)  # for the user that workers run as
        yield path


@pytest.fixture
def world(folder: Path) -> Iterator[World]:
    for name in ("a.test", "none.test"):
        put(folder / name / "x.txt", name)
    site = f'[[site]]\nhosts = ["*.test"]\nroot = "{folder}/{{host}}"\nhost_default = "none.test"\n'
    with open_world(Net(), warm=False, config=site) as world:
        yield world


def ask(asker: Asker, host: str) -> str:
    asker.sock.sendall(head("/x.txt").replace(b"lab.example", host.encode()))
    response = asker.reader.response()
    assert response.status == 200
    return response.body.decode()


def ask_until_answered(world: World, asker: Asker, host: str) -> str:
    """What the tier answers, as soon as it does."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        before = world.answered()
        body = ask(asker, host)
        if world.answered() > before or not world.has_tier:
            return body
    pytest.fail(f"{host} is not answered by the tier: {world.counters()}")


def test_folders_that_come_and_go(world: World, folder: Path) -> None:
    with Asker(world) as asker:
        assert ask_until_answered(world, asker, "a.test") == "a.test"
        assert ask_until_answered(world, asker, "b.test") == "none.test"
        put(folder / ".b/x.txt", "b.test")
        (folder / ".b").rename(folder / "b.test")
        until(lambda: ask(asker, "b.test") == "b.test", "the new folder", FRESH)
        assert ask_until_answered(world, asker, "b.test") == "b.test"
        shutil.rmtree(folder / "b.test")
        until(lambda: ask(asker, "b.test") == "none.test", "the default again", FRESH)
        assert ask_until_answered(world, asker, "a.test") == "a.test"
