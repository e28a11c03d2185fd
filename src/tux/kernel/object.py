# SPDX-License-Identifier: MIT
"""The flat object ``tier.bin``: programs, maps and type information, ready for bpf(2). flatten.py writes it.

The file, all numbers little-endian:

    8 bytes      "TUXTIER" and a zero
    4 bytes      version of the format (1)
    4 bytes      length of the header
    header       JSON (below)
    BTF          header.btf bytes
    instructions of each program in the order of the header, 8 bytes each

    {"btf": bytes, "maps": [MAP...], "programs": [{"name": ..., "insns": number, "maps": [[insn, map name]...]}...]}
    MAP: {"name": ..., "type": ..., ..., "inner": MAP or null}, the members of MapSpec

The build imports this file by way of flatten.py: standard library only.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Final

MAGIC: Final = b"TUXTIER\0"
VERSION: Final = 1
PREFIX: Final = struct.Struct("<8sII")
"""Magic, version, length of the header."""

INSN_BYTES: Final = 8
MAX_INSNS: Final = 1_000_000
"""Instructions of one program: the verifier's own bound (BPF_COMPLEXITY_LIMIT_INSNS)."""

LD_IMM64: Final = 0x18
"""Opcode of the instruction pair that loads 64 bits, such as a map's address."""


class ObjectError(ValueError):
    """The object file is damaged, or made for another version of Tux."""


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A map as the object declares it."""

    name: str
    type: int
    """enum bpf_map_type."""
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    key_type: int
    """BTF id; 0: not known."""
    value_type: int
    inner: MapSpec | None = None
    """Of a map of maps: what it holds."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program, without the addresses of its maps."""

    name: str
    insns: bytes
    maps: tuple[tuple[int, str], ...]
    """Index of an instruction that loads a map's address, and the map's name."""


@dataclass(frozen=True, slots=True)
class Object:
    """All of the file."""

    programs: tuple[Program, ...]
    maps: tuple[MapSpec, ...]
    btf: bytes


def encode(tier: Object) -> bytes:
    """The bytes of the file. The same object gives the same bytes."""
    header = {
        "btf": len(tier.btf),
        "maps": [_map_out(spec) for spec in tier.maps],
        "programs": [
            {
                "name": program.name,
                "insns": len(program.insns) // INSN_BYTES,
                "maps": [[index, name] for index, name in program.maps],
            }
            for program in tier.programs
        ],
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    code = b"".join(program.insns for program in tier.programs)
    return PREFIX.pack(MAGIC, VERSION, len(text)) + text + tier.btf + code


def decode(data: bytes) -> Object:
    """The object in the bytes of a file. ObjectError: it is none, is damaged or is of another version."""
    if len(data) < PREFIX.size or data[: len(MAGIC)] != MAGIC:
        raise ObjectError("not an object of Tux")
    _, version, length = PREFIX.unpack_from(data)
    if version != VERSION:
        raise ObjectError(f"an object of version {version}; this is for version {VERSION}")
    at = PREFIX.size + length
    try:
        header = json.loads(data[PREFIX.size : at])
        btf_length = _natural(header["btf"])
        maps = tuple(_map_in(entry) for entry in header["maps"])
        btf, at = data[at : at + btf_length], at + btf_length
        programs = []
        names = {spec.name for spec in maps}
        for entry in header["programs"]:
            count = _natural(entry["insns"])
            insns, at = data[at : at + count * INSN_BYTES], at + count * INSN_BYTES
            uses = tuple((_natural(index), _text(name)) for index, name in entry["maps"])
            program = Program(_text(entry["name"]), insns, uses)
            _check(program, count, names)
            programs.append(program)
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError) as error:
        if isinstance(error, ObjectError):
            raise
        raise ObjectError(f"damaged header: {error!r}") from None
    if at != len(data):
        raise ObjectError(f"{len(data)} bytes; the header says {at}")
    if len(names) != len(maps) or len({program.name for program in programs}) != len(programs):
        raise ObjectError("a name is there twice")
    return Object(tuple(programs), maps, btf)


def _check(program: Program, count: int, names: set[str]) -> None:
    if not 0 < count <= MAX_INSNS or len(program.insns) != count * INSN_BYTES:
        raise ObjectError(f"program {program.name}: not {count} instructions")
    for index, name in program.maps:
        if index + 1 >= count or program.insns[index * INSN_BYTES] != LD_IMM64:
            raise ObjectError(f"program {program.name}: instruction {index} does not load a map")
        if name not in names:
            raise ObjectError(f"program {program.name}: no map {name}")


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise ObjectError(f"expected a number, got {value!r}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ObjectError(f"expected a name, got {value!r}")
    return value


def _map_out(spec: MapSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "type": spec.type,
        "key_size": spec.key_size,
        "value_size": spec.value_size,
        "max_entries": spec.max_entries,
        "flags": spec.flags,
        "key_type": spec.key_type,
        "value_type": spec.value_type,
        "inner": _map_out(spec.inner) if spec.inner else None,
    }


def _map_in(entry: Any) -> MapSpec:
    inner = entry["inner"]
    return MapSpec(
        _text(entry["name"]),
        _natural(entry["type"]),
        _natural(entry["key_size"]),
        _natural(entry["value_size"]),
        _natural(entry["max_entries"]),
        _natural(entry["flags"]),
        _natural(entry["key_type"]),
        _natural(entry["value_type"]),
        _map_in(inner) if inner is not None else None,
    )
