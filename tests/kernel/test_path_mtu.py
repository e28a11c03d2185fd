# SPDX-License-Identifier: MIT
"""A path that takes smaller packets than both ends believe (a tunnel, say). The stack finds out by the router's ICMP
errors; what the kernel tier sends must neither get lost for ever nor keep the stack from finding out."""

from __future__ import annotations

import pytest

from tests.kernel.lab import PATH_MTU, Net, Shape, forget_paths
from tests.kernel.traffic import Request, head
from tests.kernel.world import Asker, open_world

SMALL = Request(head("/100.bin"), "hot")
LARGE = Request(head("/big.bin"), "miss")
HITS = 12
"""More bytes of answers than the stack has on its way when it learns of the path."""


@pytest.mark.parametrize("family", [4, 6])
def test_the_stack_learns_of_it_after_hits(family: int) -> None:
    """The error quotes numbers that the stack does not know, unless they are translated for it."""
    with open_world(Net(Shape.ROUTED, family=family), warm=False) as world:
        world.warm([SMALL])
        for _ in range(3):
            forget_paths(world.lab.server)
            before = world.counters()
            with Asker(world) as asker:
                for _ in range(HITS):
                    asker.ask(SMALL)
                world.expect_answered(before, HITS - 1)
                asker.ask(LARGE)
                asker.ask(SMALL)
                asker.finish()


@pytest.mark.parametrize("family", [4, 6])
def test_answers_larger_than_the_path(family: int) -> None:
    """One that fits both ends' segments, but not the path, arrives all the same."""
    with open_world(Net(Shape.ROUTED, family=family), warm=False) as world:
        too_large = [one for one in world.eligible if len(world.reference.answer(one).text) > PATH_MTU]
        assert too_large
        for request in (*too_large, SMALL):
            for _ in range(4):
                forget_paths(world.lab.server)
                world.ask_each([request] * 12)
