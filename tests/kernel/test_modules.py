# SPDX-License-Identifier: MIT
"""Answers of modules that may be given again reach the kernel tier, and leave it when their time is over."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.corpus.reader import PATIENCE
from tests.e2e.client import FRESH, until
from tests.kernel.lab import Net
from tests.kernel.traffic import head
from tests.kernel.world import Asker, World, open_world

HOST: Final = "module.test"
SECONDS: Final = 2.0
"""How long the answer of /brief holds."""
LATE: Final = 1.0
"""So many seconds later than the handler has made it the engine may get an answer, on a machine that is busy."""
MODULE: Final = f"""
import os
import time

import tux

FIELDS = {{"X-Content-Type-Options": "nosniff"}}  # which the tests ask of every answer


@tux.module("/brief", cache={SECONDS})
def brief(req: tux.Request):
    return 200, FIELDS, f"{{time.monotonic()}}"


@tux.module("/long", cache=3600)
def long(req: tux.Request):
    return 200, FIELDS, f"{{os.getpid()}}"


@tux.module("/personal", cache=3600)
def personal(req: tux.Request):
    return 200, FIELDS, req.headers.get("cookie", "nobody")
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="tux-modules-") as folder:
        file = Path(folder) / "made.py"
        file.write_text(MODULE)
        file.parent.chmod(0o755)  # for the user that processes run as
        site = f'[[site]]\nhosts = ["{HOST}"]\nmodule = "{file}"\n'
        with open_world(Net(), warm=False, config=f"limits = {{ head_timeout = 60 }}\n{site}") as world:
            yield world


def ask(asker: Asker, path: str, fields: str = "") -> str:
    """What the module says. fields: with their line ends."""
    asker.sock.sendall(head(path, fields).replace(b"lab.example", HOST.encode()))
    response = asker.reader.response()
    assert response.status == 200
    return response.body.decode()


def ask_by_tier(world: World, asker: Asker, path: str) -> str:
    """What the tier answers, as soon as it does."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        before = world.answered()
        body = ask(asker, path)
        if world.answered() > before:
            return body
    pytest.fail(f"{path} is not answered by the tier: {world.counters()}")


def test_its_time_is_over(world: World) -> None:
    with Asker(world) as asker:
        for _ in range(2):  # a new one takes its place
            last = time.monotonic()
            made = ask_by_tier(world, asker, "/brief")
            sent = time.monotonic()
            while (body := ask(asker, "/brief")) == made:
                last, sent = sent, time.monotonic()
                assert last - float(made) < SECONDS + LATE
            assert last - float(made) > SECONDS / 2, "it was not repeated for long"
            assert float(body) > float(made)


def test_its_process_is_over(world: World) -> None:
    with Asker(world) as asker:
        process = ask_by_tier(world, asker, "/long")
        assert ask(asker, "/long") == process
        os.kill(int(process), signal.SIGKILL)
        until(lambda: ask(asker, "/long") != process, "nothing of the process is left", FRESH)
        assert ask_by_tier(world, asker, "/long") != process


def test_what_depends_on_the_client_stays_away(world: World) -> None:
    with Asker(world) as asker:
        for _ in range(10):
            assert ask(asker, "/personal", "Cookie: me\r\n") == "me"
            before = world.answered()
            assert ask(asker, "/personal") == "nobody"
            assert world.answered() == before
