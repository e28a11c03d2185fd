# SPDX-License-Identifier: MIT
"""Loops as older verifiers want them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kernel.blobs import LOAD_MAP, insn
from tux.kernel.loops import LoopError, entered_from_above, settle

GOTO, IF, EXIT, SET = 0x05, 0x15, 0x95, 0xB7
NEXT = insn(GOTO)


def program(*parts: bytes) -> bytes:
    return b"".join(parts)


# 0 goes into the middle of the loop 1-3; 2 falls back to it.
ENTERED_BELOW_REST = (
    insn(SET, 1),  # 1:
    insn(SET, 2),  # 2: falls through to 3, which is on the path
    insn(IF, 1, 1, 0),  # 3: if ... goto 5
    insn(GOTO, 0, -4),  # 4: goto 1
)
ENTERED_BELOW = program(insn(GOTO, 0, 2), *ENTERED_BELOW_REST, insn(EXIT))


def test_a_loop_entered_at_its_end() -> None:
    assert entered_from_above(ENTERED_BELOW) == [3]
    settled, marks = settle(ENTERED_BELOW, [0, 2, 3, 5])
    assert settled == program(
        insn(GOTO, 0, 3),
        insn(SET, 1),
        insn(SET, 2),
        NEXT,
        insn(IF, 1, 1, 0),
        insn(GOTO, 0, -5),
        insn(EXIT),
    )
    assert marks == [0, 2, 4, 6]
    assert entered_from_above(settled) == []


@pytest.mark.parametrize(
    "loop",
    [
        program(insn(SET), insn(IF, 0, -2, 1), insn(EXIT)),
        program(insn(SET), insn(IF, 0, 1, 1), insn(GOTO, 0, -2), insn(EXIT)),
        program(LOAD_MAP, insn(IF, 0, -3, 1), insn(EXIT)),
        program(insn(EXIT)),
        b"",
    ],
)
def test_what_goes_back_by_jumps_stays_as_it_is(loop: bytes) -> None:
    assert settle(loop, [0]) == (loop, [0])


@pytest.mark.parametrize(
    "bad",
    [
        program(insn(SET)),
        program(insn(GOTO, 0, 5), insn(EXIT)),
        program(insn(GOTO, 0, -2), insn(EXIT)),
        program(insn(IF, 0, 9, 1), insn(EXIT)),
        program(insn(0x18), insn(0)),
        program(insn(0x18)),
    ],
)
def test_what_leads_out_of_the_program(bad: bytes) -> None:
    with pytest.raises(LoopError, match="leads out of the program"):
        settle(bad, [])


def test_a_jump_that_cannot_be_longer() -> None:
    """One over the place of a new instruction, as far as a jump can go."""
    far = 2**15 - 1
    longest = program(insn(IF, 0, far, 0), insn(GOTO, 0, 2), *ENTERED_BELOW_REST, insn(SET) * far, insn(EXIT))
    with pytest.raises(LoopError, match="instruction 0 jumps too far"):
        settle(longest, [])
    shorter = program(insn(IF, 0, far - 1, 0), longest[8:])
    assert len(settle(shorter, [])[0]) == len(shorter) + 8


def run(code: bytes, choices: list[bool], steps: int) -> tuple[list[tuple[int, int]], bool]:
    """The instructions done, without jumps: their registers and values; one choice a condition. Did it end?"""
    done: list[tuple[int, int]] = []
    at, left = 0, iter(choices)
    for _ in range(steps):
        kind, registers, offset, value = struct.unpack_from("<BBhi", code, at * 8)
        at += 1
        if kind == EXIT:
            return done, True
        if kind == GOTO:
            at += offset
        elif kind == IF:
            taken = next(left, None)
            if taken is None:
                return done, True
            done.append((-1, value))
            at += offset if taken else 0
        else:
            done.append((registers, value))
    return done, False


@st.composite
def programs(draw: st.DrawFn) -> bytes:
    """Any jumps to and fro; each instruction knows its place."""
    size = draw(st.integers(2, 20))
    code = b""
    for index in range(size):
        kind = draw(st.sampled_from([SET, SET, IF, GOTO]))
        target = draw(st.integers(0, size))
        code += insn(kind, 0, 0 if kind == SET else target - index - 1, index)
    return code + insn(EXIT)


@given(programs(), st.lists(st.booleans(), max_size=40))
def test_the_program_does_the_same(code: bytes, choices: list[bool]) -> None:
    settled, _ = settle(code, [])
    assert entered_from_above(settled) == []
    before, ended = run(code, choices, 200)
    after, ended_too = run(settled, choices, 400)
    assert after[: len(before)] == before
    if ended:
        assert (after, ended_too) == (before, True)
