# SPDX-License-Identifier: MIT
"""Loops as the verifiers of older kernels want them.

Until 6.2 or so (6.1 is the oldest that Tux runs on) the verifier follows the edges of a program depth first, and takes
one that leads back to an instruction on the path for a loop. By a jump it may go back, by falling through from one
instruction to the next it may not: "back-edge from insn 1400 to 1401" (check_cfg, push_insn with loop_ok in
kernel/bpf/verifier.c of 6.1). Compilers lay out loops in this way now and then, whose body ends where they are entered.

A jump to the next instruction in between makes such an edge a jump. The verifier removes it from what is run.

The build imports this file by way of flatten.py: standard library only.
"""

from __future__ import annotations

import struct
from typing import Final

RECORD: Final = struct.Struct("<BBhi")
"""struct bpf_insn: code, registers, offset, value."""

INSN: Final = RECORD.size
LD_IMM64: Final = 0x18
GOTO: Final = 0x05
CALL: Final = 0x85
EXIT: Final = 0x95
JUMPS: Final = frozenset({0x05, 0x06})
"""Classes BPF_JMP and BPF_JMP32."""

MAX_OFFSET: Final = 2**15 - 1
"""Of a jump, in instructions."""


class LoopError(ValueError):
    """The instructions are no program."""


def is_jump(code: int) -> bool:
    """Does the instruction go elsewhere by its offset?"""
    return code & 7 in JUMPS and code not in (CALL, EXIT)


def successors(insns: bytes, index: int) -> list[int]:
    """Where control goes from an instruction, in the order in which the verifier looks.
    LoopError: out of the program."""
    code, _, offset, _ = RECORD.unpack_from(insns, index * INSN)
    if code == EXIT:
        found = []
    elif code == GOTO:
        found = [index + 1 + offset]
    elif is_jump(code):
        found = [index + 1, index + 1 + offset]
    else:
        found = [index + (2 if code == LD_IMM64 else 1)]
    if any(not 0 <= target < len(insns) // INSN for target in found):
        raise LoopError(f"instruction {index} leads out of the program")
    return found


def entered_from_above(insns: bytes) -> list[int]:
    """The instructions to which a loop leads back by falling through. LoopError."""
    unseen, on_path, done = 0, 1, 2
    state = [unseen] * (len(insns) // INSN)
    found = set()
    if not state:
        return []
    state[0] = on_path
    path = [(0, iter(successors(insns, 0)))]
    while path:
        index, targets = path[-1]
        target = next(targets, None)
        if target is None:
            state[index] = done
            path.pop()
        elif state[target] == unseen:
            state[target] = on_path
            path.append((target, iter(successors(insns, target))))
        elif state[target] == on_path and not is_jump(insns[index * INSN]):
            found.add(target)
    return sorted(found)


def settle(insns: bytes, marks: list[int]) -> tuple[bytes, list[int]]:
    """The program with jumps where they are needed, and where the marked instructions are now. LoopError."""
    places = entered_from_above(insns)
    if not places:
        return insns, marks
    count = len(insns) // INSN
    moved, before = [], 0
    for index in range(count):
        if before < len(places) and places[before] == index:
            before += 1
        moved.append(index + before)
    result = bytearray()
    index = 0
    while index < count:
        width = 2 if insns[index * INSN] == LD_IMM64 else 1
        if index in places:
            result += RECORD.pack(GOTO, 0, 0, 0)
        insn = bytearray(insns[index * INSN : (index + width) * INSN])
        code, _, offset, _ = RECORD.unpack_from(insn)
        if is_jump(code):
            if not 0 <= index + 1 + offset < count:
                raise LoopError(f"instruction {index} leads out of the program")
            distance = moved[index + 1 + offset] - moved[index] - 1
            if not -MAX_OFFSET - 1 <= distance <= MAX_OFFSET:
                raise LoopError(f"instruction {index} jumps too far")
            struct.pack_into("<h", insn, 2, distance)
        result += insn
        index += width
    return bytes(result), [moved[mark] for mark in marks]
