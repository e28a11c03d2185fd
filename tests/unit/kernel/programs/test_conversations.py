# SPDX-License-Identifier: MIT
"""Whole conversations through the programs, with losses, repetition, reordering, small windows, numbers that wrap
around: every answer arrives, whole and in order, and both ends agree at the end."""

from __future__ import annotations

from random import Random

import pytest

from tests.unit.kernel.programs.cases import KINDS, ODD, PAGES, kind
from tests.unit.kernel.programs.model import World, talk
from tests.unit.kernel.programs.packets import MOD
from tests.unit.kernel.programs.rig import Page, Rig

SEEDS = range(10)


@pytest.mark.parametrize(("v6", "ts"), KINDS, ids=[kind(v6=v6, ts=ts) for v6, ts in KINDS])
@pytest.mark.parametrize("loss", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_conversation(rig: Rig, seed: int, loss: float, v6: bool, ts: bool) -> None:
    rng = Random(f"{seed} {loss} {v6} {ts}")
    irs, iss = (rng.choice([rng.randrange(MOD), MOD - rng.randrange(5000)]) for _ in range(2))
    window = rng.choice([2000, 6000, 65535, 2**20])
    world = World(rig, rng, v6=v6, ts=ts, irs=irs, iss=iss, window=window)
    talk(world, rng, steps=300, loss=loss, requests=12)
    world.settle()
    world.check()


def exchange(world: World) -> None:
    """All that is on its way arrives, the engine answers, and that arrives, too."""
    while world.up:
        world.arrive(upwards=True)
    world.run_engine()
    world.send_from_server()
    while world.down:
        world.arrive(upwards=False)


@pytest.fixture
def world(rig: Rig) -> World:
    """A client with a small window, after the first request."""
    world = World(rig, Random(1), v6=False, ts=False, irs=0, iss=0, window=6000)
    ask(world, None)
    world.read()
    world.send_whole()
    exchange(world)
    return world


def ask(world: World, page: Page | None) -> None:
    """A request, and all that comes of it. The client's program does not read it."""
    world.ask(page)
    world.send_whole()
    exchange(world)


def test_a_window_that_an_answer_fills(world: World) -> None:
    """An acknowledgement of the client's tells the stack of its window. An answer then fills a part of that window, and
    the client's program does not read it. When the next request goes to the stack, all numbers are as before for it,
    and a window of the same numbers may only grow: it must not have been told of more before."""
    ask(world, ODD)
    assert world.answered == 1
    ask(world, PAGES["largest"])
    assert world.client.beyond == 0


def test_a_window_that_two_answers_fill(world: World) -> None:
    """The same, but the client has said so (once more) while the first answer was on its way."""
    world.ask(ODD)
    world.send_whole()
    world.arrive(upwards=True)
    world.send_whole()  # an acknowledgement of what was before
    exchange(world)
    ask(world, ODD)
    assert world.answered == 2
    ask(world, PAGES["largest"])
    assert world.client.beyond == 0
