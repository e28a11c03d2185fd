# SPDX-License-Identifier: MIT
"""A program in front of another: it takes a packet's VLAN tag out of the frame, as network cards do, and goes on there.

Test runs cannot be told of such a tag.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import Final

from tests.unit.kernel.programs.packets import VLAN
from tests.unit.kernel.programs.rig import Rig
from tux.kernel import load, sys_bpf

PROG_ARRAY: Final = 3
"""BPF_MAP_TYPE_PROG_ARRAY."""

VLAN_PUSH, TAIL_CALL = 18, 12
"""BPF_FUNC_skb_vlan_push, BPF_FUNC_tail_call."""


def _insn(code: int, *, to: int = 0, source: int = 0, value: int = 0) -> bytes:
    """struct bpf_insn."""
    return struct.pack("=BBhi", code, source << 4 | to, 0, value)


def _instructions(programs: int) -> bytes:
    move, load64, register, call, leave = 0xB7, 0x18, 0xBF, 0x85, 0x95
    return b"".join(
        [
            _insn(register, to=6, source=1),
            _insn(move, to=2, value=int.from_bytes(VLAN.to_bytes(2, "big"), "little")),
            _insn(move, to=3, value=5),
            _insn(call, value=VLAN_PUSH),
            _insn(register, to=1, source=6),
            _insn(load64, to=2, source=load.PSEUDO_MAP_FD, value=programs) + _insn(0),
            _insn(move, to=3, value=0),
            _insn(call, value=TAIL_CALL),
            _insn(move, to=0, value=99),
            _insn(leave),
        ]
    )


@contextlib.contextmanager
def tagged(rig: Rig, name: str) -> Iterator[int]:
    """A program that gives packets a tag (VID 5) and then is tux_NAME: its descriptor."""
    programs = sys_bpf.map_create(PROG_ARRAY, 4, 4, 1, name="next")
    with sys_bpf.closing(programs):
        sys_bpf.map_update(programs, bytes(4), rig.tier.programs[f"tux_{name}"].to_bytes(4, "little"))
        program = sys_bpf.prog_load(sys_bpf.SCHED_CLS, _instructions(programs), name="tagged")
        try:
            yield program
        finally:
            os.close(program)
