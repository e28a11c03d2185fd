# SPDX-License-Identifier: MIT
"""The structs and constants of bpf/layout.h and bpf/conn.h, read from the headers themselves: so that what decides can
be tested where no eBPF was built. That the object says the same is tested where it was."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from tux.kernel.btf import Field, Layout

FOLDER: Final = Path(__file__).parents[3] / "src/tux/kernel/bpf"
_SIZES: Final = {
    "uint64_t": 8,
    "uint32_t": 4,
    "uint16_t": 2,
    "uint8_t": 1,
    "__u64": 8,
    "__u32": 4,
    "__u16": 2,
    "__u8": 1,
}


def _text(name: str) -> str:
    return re.sub(r"/\*.*?\*/", "", (FOLDER / name).read_text(), flags=re.DOTALL)


def constants() -> dict[str, int]:
    """The numbers of layout.h by name."""
    found: dict[str, int] = {}
    for name, text in re.findall(r"^#define (TUX_\w+) +(\(.*\)|\w+) *$", _text("layout.h"), re.MULTILINE):
        value = 1
        for factor in text.strip("()").replace(" ", "").split("*"):
            value *= found[factor] if factor in found else _number(factor)
        found[name] = value
    return found


def _number(text: str) -> int:
    return 2**64 - 1 if text == "UINT64_MAX" else int(text.rstrip("ul"), 0)


def states() -> dict[str, int]:
    """enum tux_kernel_state."""
    return _enumerators("conn.h", "tux_kernel_state")


def pauses() -> dict[str, int]:
    """enum tux_kernel_pause."""
    return _enumerators("layout.h", "tux_kernel_pause")


def _enumerators(header: str, name: str) -> dict[str, int]:
    body = re.search(rf"enum {name} \{{(.*?)\}}", _text(header), re.DOTALL)
    assert body is not None
    return {name: int(value) for name, value in re.findall(r"(\w+) = (\d+)", body[1])}


def layouts() -> dict[str, Layout]:
    """The structs, laid out as the ABI of all 64-bit Linux has it: members at multiples of their size."""
    numbers = constants()
    known: dict[str, tuple[Layout, int]] = {
        "bpf_spin_lock": (Layout("bpf_spin_lock", 4, {"val": Field(0, 4, 1, False)}), 4)
    }
    for header in ("layout.h", "conn.h"):
        for name, body in re.findall(r"^struct (\w+) \{\n(.*?)^\};", _text(header), re.MULTILINE | re.DOTALL):
            if name not in ("tux_kernel_counters", "tux_kernel_scratch"):
                known[name] = _struct(name, body, known, numbers)
    counters = re.search(r"#define TUX_KERNEL_COUNTERS\(X\)(.*?)\n\n", _text("conn.h"), re.DOTALL)
    assert counters is not None
    names = re.findall(r"X\((\w+)\)", counters[1])
    fields = {name: Field(8 * index, 8, 1, False) for index, name in enumerate(names)}
    known["tux_kernel_counters"] = (Layout("tux_kernel_counters", 8 * len(names), fields), 8)
    return {name: layout for name, (layout, _) in known.items()}


def _struct(name: str, body: str, known: dict[str, tuple[Layout, int]], numbers: dict[str, int]) -> tuple[Layout, int]:
    at, largest = 0, 1
    fields: dict[str, Field] = {}
    for statement in body.split(";"):
        words = statement.split(None, 1)
        if not words:
            continue
        kind, rest = words
        inner: Layout | None = None
        if kind == "struct":
            kind, rest = rest.split(None, 1)
            inner, align = known[kind]
            size = inner.size
        else:
            size = align = _SIZES[kind]
        for declarator in rest.split(","):
            found = re.fullmatch(r"\s*(\w+)(?:\[(\w+)\])?\s*", declarator)
            assert found is not None, declarator
            count = 1 if found[2] is None else numbers.get(found[2]) or int(found[2])
            at = -(-at // align) * align
            if inner is None or kind == "bpf_spin_lock":
                fields[found[1]] = Field(at, size, count, False, inner is None, found[2] is not None)
            else:
                for member, field in inner.fields.items():
                    fields[f"{found[1]}.{member}"] = replace(field, offset=at + field.offset)
            at += size * count
            largest = max(largest, align)
    return Layout(name, -(-at // largest) * largest, fields), largest
