# SPDX-License-Identifier: MIT
"""Type information and object files made by hand, so that each part can be made wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from tux.kernel import flatten
from tux.kernel.btf import HEADER, MAGIC, Kind

SIGNED = 1 << 24


class Types:
    """BTF in the making. Each method returns the id of the new type."""

    def __init__(self) -> None:
        self.names = bytearray(1)
        self.records = bytearray()
        self.count = 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        at = len(self.names)
        self.names += text.encode() + b"\0"
        return at

    def add(
        self, kind: int, name: str = "", *, value: int = 0, count: int = 0, flag: int = 0, tail: bytes = b""
    ) -> int:
        self.records += struct.pack("<III", self.name(name), flag << 31 | kind << 24 | count, value) + tail
        self.count += 1
        return self.count

    def integer(self, name: str, size: int, *, signed: bool = False) -> int:
        return self.add(Kind.INT, name, value=size, tail=struct.pack("<I", (SIGNED if signed else 0) | size * 8))

    def pointer(self, target: int) -> int:
        return self.add(Kind.PTR, value=target)

    def typedef(self, name: str, target: int) -> int:
        return self.add(Kind.TYPEDEF, name, value=target)

    def array(self, element: int, count: int) -> int:
        return self.add(Kind.ARRAY, tail=struct.pack("<III", element, 1, count))

    def struct(
        self, name: str, size: int, members: Sequence[tuple[str, int, int]], *, union: bool = False, flag: int = 0
    ) -> int:
        """Members: name, type, offset in bits (with `flag`: and the width of a bit field << 24)."""
        tail = b"".join(struct.pack("<III", self.name(member), kind, bits) for member, kind, bits in members)
        kind = Kind.UNION if union else Kind.STRUCT
        return self.add(kind, name, value=size, count=len(members), flag=flag, tail=tail)

    def enum(self, name: str, values: dict[str, int], *, signed: bool = False) -> int:
        tail = b"".join(struct.pack("<Ii", self.name(key), value) for key, value in values.items())
        return self.add(Kind.ENUM, name, value=4, count=len(values), flag=int(signed), tail=tail)

    def variable(self, name: str, target: int) -> int:
        return self.add(Kind.VAR, name, value=target, tail=struct.pack("<I", 1))

    def section(self, name: str, variables: Sequence[tuple[int, int, int]]) -> int:
        """Variables: id, offset, size."""
        tail = b"".join(struct.pack("<III", *entry) for entry in variables)
        return self.add(Kind.DATASEC, name, count=len(variables), tail=tail)

    def number(self, value: int) -> int:
        """What __uint(name, value) makes."""
        return self.pointer(self.array(self._int(), value))

    def _int(self) -> int:
        return self.integer("int", 4, signed=True)

    def map(self, **members: int) -> int:
        """What a map's declaration is. Members: ids of types."""
        return self.struct(
            "", 8 * len(members), [(name, kind, 64 * i) for i, (name, kind) in enumerate(members.items())]
        )

    def blob(self) -> bytes:
        header = HEADER.pack(*(MAGIC, 1, 0, HEADER.size, 0, len(self.records)), *(len(self.records), len(self.names)))
        return header + bytes(self.records) + bytes(self.names)


@dataclass
class File:
    """An object file in the making."""

    sections: list[tuple[str, int, int, bytes, int]] = field(default_factory=list)
    """Name, type, flags, content, info."""
    symbols: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    """Name, type, section, value, size."""
    machine: int = flatten.EM_BPF

    def section(self, name: str, data: bytes, flags: int = 0, kind: int = flatten.SHT_PROGBITS, info: int = 0) -> int:
        """Its index: the first is 1."""
        self.sections.append((name, kind, flags, data, info))
        return len(self.sections)

    def symbol(self, name: str, section: int, value: int = 0, size: int = 0, kind: int = 0) -> int:
        """Its index: the first is 1."""
        self.symbols.append((name, kind, section, value, size))
        return len(self.symbols)

    def relocations(self, section: int, entries: Sequence[tuple[int, int, int]]) -> int:
        """Of a section. Entries: offset, symbol, kind."""
        data = b"".join(struct.pack("<QQ", offset, symbol << 32 | kind) for offset, symbol, kind in entries)
        return self.section(".rel", data, kind=flatten.SHT_REL, info=section)

    def bytes(self) -> bytes:
        names = bytearray(1)

        def named(text: str) -> int:
            names.extend(text.encode() + b"\0")
            return len(names) - len(text) - 1

        table = bytes(24) + b"".join(
            flatten.SYMBOL.pack(named(name), kind, 0, section, value, size)
            for name, kind, section, value, size in self.symbols
        )
        strings = len(self.sections) + 2
        listed = [("", 0, 0, b"", 0), *self.sections, (".symtab", flatten.SHT_SYMTAB, 0, table, 0)]
        starts = [named(name) for name, *_ in listed] + [named(".strtab")]
        listed.append((".strtab", 3, 0, bytes(names), 0))
        body, headers = bytearray(), bytearray()
        for start, (_, kind, flags, data, info) in zip(starts, listed, strict=True):
            link = strings if kind == flatten.SHT_SYMTAB else 0
            at = flatten.HEADER.size + len(body)
            headers += flatten.SECTION.pack(start, kind, flags, 0, at, len(data), link, info, 1, 0)
            body += data
        ident = flatten.IDENT.ljust(16, b"\0")
        header = flatten.HEADER.pack(
            *(ident, 1, self.machine, 1, 0, 0, flatten.HEADER.size + len(body), 0, 64, 0, 0, 64),
            *(len(listed), strings),
        )
        return header + bytes(body) + bytes(headers)


def insn(code: int, registers: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """One instruction: struct bpf_insn."""
    return struct.pack("<BBhi", code, registers, offset, value)


LOAD_MAP = insn(0x18, 1) + insn(0)
"""r1 = address of a map, without the map."""

RETURN = insn(0xB7, 0, 0, -1) + insn(0x95)
"""return TC_ACT_UNSPEC"""


def sample() -> tuple[File, Types]:
    """Two programs in one section, and the maps `things` (a hash of structs) and `tables` (an array of arrays)."""
    types = Types()
    u32, u64 = types.integer("unsigned int", 4), types.integer("unsigned long", 8)
    thing = types.struct("thing", 16, [("count", u64, 0), ("flags", u32, 64)])
    things = types.map(
        type=types.number(1), max_entries=types.number(100), map_flags=types.number(1), key=types.pointer(u32),
        value=types.pointer(thing),
    )  # fmt: skip
    inner = types.map(
        type=types.number(2), max_entries=types.number(4), map_flags=types.number(1024), key=types.pointer(u32),
        value=types.pointer(u64),
    )  # fmt: skip
    tables = types.map(
        type=types.number(12), max_entries=types.number(8), key=types.pointer(u32),
        values=types.array(types.pointer(inner), 0),
    )  # fmt: skip
    # As the compiler leaves it: no sizes, and the order of use.
    types.section(flatten.MAPS, [(types.variable("tables", tables), 0, 32), (types.variable("things", things), 0, 40)])
    file = File()
    first, second = LOAD_MAP + RETURN, RETURN
    code = file.section("tc", first + second, flatten.SHF_ALLOC | flatten.SHF_EXECINSTR)
    maps = file.section(flatten.MAPS, bytes(72), flatten.SHF_ALLOC)
    file.section(".BTF", types.blob())
    file.symbol("two", code, len(first), len(second), flatten.STT_FUNC)
    file.symbol("one", code, 0, len(first), flatten.STT_FUNC)
    things_symbol = file.symbol("things", maps, 0, 40, 1)
    file.symbol("tables", maps, 40, 32, 1)
    file.relocations(code, [(0, things_symbol, flatten.R_BPF_64_64)])
    return file, types
