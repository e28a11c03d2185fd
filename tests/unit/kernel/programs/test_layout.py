# SPDX-License-Identifier: MIT
"""The engine (by gcc) and the programs (by clang, for eBPF) have the same picture of what they share."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.kernel import layout_header
from tests.unit.kernel.programs.cases import State
from tests.unit.kernel.programs.rig import CHUNK_BYTES, DATE_BYTES, SOURCES, Rig

NAMES = re.findall(r"^struct (\w+) \{", (SOURCES / "layout.h").read_text(), re.MULTILINE)


def printed(folder: Path, lines: list[str]) -> list[tuple[str, int]]:
    """What a C program with these statements prints: pairs of a name and a number."""
    source, program = folder / "layout.c", folder / "layout"
    text = "\n".join(
        ['#include "layout.h"', "#include <stddef.h>", "#include <stdio.h>", "int main(void) {", *lines, "}"]
    )
    source.write_text(text + "\n")
    subprocess.run(["gcc", "-std=c11", "-Wall", "-Werror", f"-I{SOURCES}", "-o", program, source], check=True)
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return [(name, int(number)) for name, number in (line.split() for line in output.splitlines())]


def print_number(name: str, value: str) -> str:
    return f'printf("%s %llu\\n", "{name}", (unsigned long long)({value}));'


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_offsets(rig: Rig, tmp_path: Path, name: str) -> None:
    layout = rig.layouts[name]
    lines = [print_number("size", f"sizeof(struct {name})")]
    for member in layout.fields:
        lines.append(print_number(f"{member}@", f"offsetof(struct {name}, {member})"))
        lines.append(print_number(f"{member}#", f"sizeof(((struct {name} *)0)->{member})"))
    expected = [("size", layout.size)]
    for member, field in layout.fields.items():
        expected += [(f"{member}@", field.offset), (f"{member}#", field.size * field.count)]
    assert printed(tmp_path, lines) == expected


def test_no_member_is_missing(rig: Rig) -> None:
    """The header itself, read by other code than the compilers', names the same members."""
    from_header = layout_header.layouts()
    for name in [*NAMES, "tux_kernel_counters", "tux_kernel_conn"]:
        layout, other = rig.layouts[name], from_header[name]
        assert (layout.size, dict(layout.fields)) == (other.size, dict(other.fields))


def test_the_maps_hold_these_structs(rig: Rig) -> None:
    sizes = {name: (entry.key_size, entry.value_size) for name, entry in rig.maps.items()}
    structs = {name: rig.layouts[f"tux_kernel_{name}"].size for name in ("tuple", "conn", "key", "found")}
    values = {name: rig.layouts[f"tux_kernel_{name}"].size for name in ("answer", "control", "date", "listener")}
    assert sizes["conns"] == (structs["tuple"], structs["conn"])
    assert sizes["syns"] == (4, 8)
    assert sizes["answers"] == (structs["key"], structs["found"])
    assert sizes["entries"] == (4, values["answer"])
    assert sizes["control"] == (4, values["control"])
    assert sizes["dates"] == (4, values["date"])
    assert sizes["listeners"] == (4, values["listener"])
    assert sizes["chunks"] == (4, CHUNK_BYTES)
    assert sizes["ports"] == (4, 8)


def test_constants(rig: Rig, tmp_path: Path) -> None:
    """Those that other code reads from the header's text are what the compiler makes of them; maps have those sizes."""
    constants = layout_header.constants()
    assert dict(printed(tmp_path, [print_number(name, name) for name in constants])) == constants
    assert constants["TUX_KERNEL_DATE_BYTES"] == DATE_BYTES
    assert constants["TUX_KERNEL_CHUNK_BYTES"] == CHUNK_BYTES
    entries = {name: entry.max_entries for name, entry in rig.maps.items()}
    assert entries["dates"] == constants["TUX_KERNEL_DATES"]
    assert entries["ports"] * 64 == constants["TUX_KERNEL_PORTS"]
    assert entries["slots"] == entries["cells"] == constants["TUX_KERNEL_WORKERS"]
    assert entries["entries"] == entries["chunks"]
    lengths = {spec.name: spec.inner.max_entries for spec in rig.tier.object.maps if spec.inner}
    assert lengths == {"slots": constants["TUX_KERNEL_SLOTS"], "cells": constants["TUX_KERNEL_CELLS"]}
    most = constants["TUX_KERNEL_MAX_CHUNKS"] * constants["TUX_KERNEL_CHUNK_BYTES"]
    assert constants["TUX_KERNEL_MAX_ANSWER_BYTES"] <= most


def test_pauses(rig: Rig) -> None:
    assert rig.layouts.btf.enumerators("tux_kernel_pause") == layout_header.pauses()


def test_states(rig: Rig) -> None:
    states = {f"TUX_KERNEL_{state.name}": int(state) for state in State}
    assert rig.layouts.btf.enumerators("tux_kernel_state") == states
