# SPDX-License-Identifier: MIT
"""BTF, the kernel's type information (Documentation/bpf/btf.rst of Linux): sizes and offsets of the shared structs.

Python reads and writes map values by the names of their members; no offset is written down a second time:

    layouts = Layouts(object.btf)
    control = layouts["tux_kernel_control"]
    control.write(area, "heartbeat_ns", now)

The build runs flatten.py as a script, before the package exists, and that imports this file: standard library only.
"""

from __future__ import annotations

import enum
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

MAGIC: Final = 0xEB9F
HEADER: Final = struct.Struct("<HBBIIIII")
"""struct btf_header: magic, version, flags, hdr_len, type_off, type_len, str_off, str_len."""

RECORD: Final = struct.Struct("<III")
"""struct btf_type: name_off, info, size or type."""

MAX_DEPTH: Final = 32
"""Types nested deeper than this are a loop: the kernel's own bound (MAX_RESOLVE_DEPTH)."""

MAX_BYTES: Final = 1 << 31
"""Size of a type beyond which a number is damaged rather than large."""


class BtfError(ValueError):
    """The type information is damaged, or has not what was asked for."""


class Kind(enum.IntEnum):
    """enum of linux/btf.h."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_MODIFIERS: Final = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})

# Bytes that follow a record: once, and for each of its vlen elements.
_TAIL: Final[dict[Kind, tuple[int, int]]] = {
    Kind.INT: (4, 0),
    Kind.ARRAY: (12, 0),
    Kind.STRUCT: (0, 12),
    Kind.UNION: (0, 12),
    Kind.ENUM: (0, 8),
    Kind.FUNC_PROTO: (0, 8),
    Kind.VAR: (4, 0),
    Kind.DATASEC: (0, 12),
    Kind.DECL_TAG: (4, 0),
    Kind.ENUM64: (0, 12),
}

_INT_SIGNED: Final = 1 << 24
_FLAG: Final = 1 << 31


class Member(NamedTuple):
    """One member of a struct or union."""

    name: str
    """Empty: anonymous."""
    type_id: int
    bit_offset: int
    bits: int
    """Width of a bit field; 0: it is none."""


@dataclass(frozen=True, slots=True)
class Type:
    """One type as it is in the blob."""

    id: int
    kind: Kind
    name: str
    flag: bool
    count: int
    """Elements that follow: members, values, parameters, variables (vlen)."""
    value: int
    """Size in bytes, or the id of the type that this one refers to: by kind."""
    at: int
    """Where the record is in the blob; RECORD.size bytes on is what follows it."""


class Btf:
    """The types of a blob. BtfError: it is damaged."""

    def __init__(self, blob: bytes) -> None:
        self.blob: Final = bytes(blob)
        if len(self.blob) < HEADER.size:
            raise BtfError("BTF: shorter than its header")
        magic, version, _, header, type_offset, type_length, name_offset, name_length = HEADER.unpack_from(self.blob)
        if magic != MAGIC or version != 1 or header < HEADER.size:
            raise BtfError("BTF: not version 1 in little-endian order")
        if header + type_offset + type_length > len(self.blob) or header + name_offset + name_length > len(self.blob):
            raise BtfError("BTF: shorter than its header says")
        self._names: Final = self.blob[header + name_offset : header + name_offset + name_length]
        if not self._names or self._names[0] or self._names[-1]:
            raise BtfError("BTF: the names do not begin and end with a zero")
        self.types: Final[list[Type]] = [Type(0, Kind.VOID, "", flag=False, count=0, value=0, at=0)]
        self._read_types(header + type_offset, header + type_offset + type_length)

    def _read_types(self, at: int, end: int) -> None:
        while at < end:
            if at + RECORD.size > end:
                raise BtfError(f"BTF: type {len(self.types)} is cut off")
            name, info, value = RECORD.unpack_from(self.blob, at)
            try:
                kind = Kind(info >> 24 & 0x1F)
            except ValueError:
                raise BtfError(f"BTF: type {len(self.types)} is of unknown kind {info >> 24 & 0x1F}") from None
            once, each = _TAIL.get(kind, (0, 0))
            count = info & 0xFFFF
            size = RECORD.size + once + each * count
            if kind is Kind.VOID or at + size > end:
                raise BtfError(f"BTF: type {len(self.types)} is cut off")
            flag = bool(info & _FLAG)
            self.types.append(Type(len(self.types), kind, self.name(name), flag, count, value, at))
            at += size

    def name(self, offset: int) -> str:
        """The name at an offset. BtfError: there is none."""
        if offset >= len(self._names):
            raise BtfError(f"BTF: no name at {offset}")
        end = self._names.index(0, offset)
        try:
            return self._names[offset:end].decode("ascii")
        except UnicodeDecodeError:
            raise BtfError(f"BTF: the name at {offset} is not ASCII") from None

    def type(self, type_id: int) -> Type:
        """The type of that number. BtfError: there is none."""
        if not 0 <= type_id < len(self.types):
            raise BtfError(f"BTF: no type {type_id}")
        return self.types[type_id]

    def resolve(self, type_id: int) -> Type:
        """The type behind typedef, const and the like."""
        for _ in range(MAX_DEPTH):
            found = self.type(type_id)
            if found.kind not in _MODIFIERS:
                return found
            type_id = found.value
        raise BtfError(f"BTF: type {type_id} refers to itself")

    def find(self, name: str, *kinds: Kind) -> Type | None:
        """The first type of that name and of one of these kinds."""
        return next((found for found in self.types if found.name == name and found.kind in kinds), None)

    def size(self, type_id: int, depth: int = 0) -> int:
        """Bytes of a value of this type. BtfError: it has none, as a function."""
        if depth > MAX_DEPTH:
            raise BtfError(f"BTF: type {type_id} contains itself")
        found = self.resolve(type_id)
        match found.kind:
            case Kind.INT | Kind.STRUCT | Kind.UNION | Kind.ENUM | Kind.ENUM64 | Kind.FLOAT:
                size = found.value
            case Kind.PTR:
                size = 8
            case Kind.ARRAY:
                element, count = self.array(found)
                size = self.size(element, depth + 1) * count
            case _:
                raise BtfError(f"BTF: type {type_id} ({found.kind.name} {found.name}) has no size")
        if size > MAX_BYTES:
            raise BtfError(f"BTF: type {type_id} has {size} bytes")
        return size

    def array(self, found: Type) -> tuple[int, int]:
        """Id of the element's type, and the number of elements."""
        element, _, count = struct.unpack_from("<III", self.blob, found.at + RECORD.size)
        return element, count

    def members(self, found: Type) -> Iterator[Member]:
        """The members of a struct or union, in order."""
        for index in range(found.count):
            name, type_id, offset = struct.unpack_from("<III", self.blob, found.at + RECORD.size + 12 * index)
            bits = 0
            if found.flag:
                offset, bits = offset & 0xFFFFFF, offset >> 24
            yield Member(self.name(name), type_id, offset, bits)

    def variables(self, section: Type) -> Iterator[tuple[Type, int]]:
        """The variables of a section, each with where its {type, offset, size} is in the blob."""
        for index in range(section.count):
            at = section.at + RECORD.size + 12 * index
            variable = self.type(struct.unpack_from("<I", self.blob, at)[0])
            if variable.kind is not Kind.VAR:
                raise BtfError(f"BTF: section {section.name} contains something that is no variable")
            yield variable, at

    def signed(self, found: Type) -> bool:
        """Is an integer of this type (or enum) signed?"""
        if found.kind is Kind.INT:
            return bool(struct.unpack_from("<I", self.blob, found.at + RECORD.size)[0] & _INT_SIGNED)
        return found.kind in (Kind.ENUM, Kind.ENUM64) and found.flag

    def enumerators(self, name: str) -> dict[str, int]:
        """The values of an enum. BtfError: there is no such enum."""
        found = self.find(name, Kind.ENUM)
        if found is None:
            raise BtfError(f"BTF: no enum {name}")
        values = {}
        for index in range(found.count):
            offset, value = struct.unpack_from("<Ii" if found.flag else "<II", self.blob, found.at + 12 + 8 * index)
            values[self.name(offset)] = value
        return values


@dataclass(frozen=True, slots=True)
class Field:
    """Where a member is. An array has its elements in a row."""

    offset: int
    """In bytes, from the start of the struct."""
    size: int
    """Bytes of one element."""
    count: int
    """Elements; 1 for what is no array."""
    signed: bool
    plain: bool = True
    """Elements are integers; else the member is bytes (a lock, an array of structs)."""
    array: bool = False


Value = int | bytes | tuple[int, ...]
"""Of a field: an integer; bytes for an array of bytes and for what is opaque; else integers in a row."""

Readable = bytes | bytearray | memoryview | mmap.mmap
Writable = bytearray | memoryview | mmap.mmap

_FORMATS: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True, slots=True)
class Layout:
    """One struct. Members of inner structs are named with a dot ("key.lo"), those of anonymous ones directly."""

    name: str
    size: int
    """In bytes."""
    fields: Mapping[str, Field]

    def field(self, name: str) -> Field:
        """BtfError: there is no such member."""
        found = self.fields.get(name)
        if found is None:
            raise BtfError(f"struct {self.name} has no member {name}")
        return found

    def read(self, buffer: Readable, name: str, offset: int = 0) -> Value:
        """The value of a member; the struct begins at `offset`. struct.error: the buffer is too short."""
        code = self._format(name)
        field = self.field(name)
        values = struct.unpack_from(code, buffer, offset + field.offset)
        return values if field.array and not isinstance(values[0], bytes) else values[0]

    def number(self, buffer: Readable, name: str, offset: int = 0) -> int:
        """The value of a member that is one integer. BtfError: it is not."""
        value = self.read(buffer, name, offset)
        if not isinstance(value, int):
            raise BtfError(f"struct {self.name}: {name} is not one integer")
        return value

    def write(self, buffer: Writable, name: str, value: Value, offset: int = 0) -> None:
        """Set a member, and nothing beside it. Bytes may be shorter than their member: zeros follow. BtfError: it does
        not fit; struct.error: the buffer is too short."""
        field = self.field(name)
        where = f"struct {self.name}: {name}"
        if isinstance(value, bytes):
            if len(value) > field.size * field.count or (field.plain and (field.size != 1 or not field.array)):
                raise BtfError(f"{where} does not take {len(value)} bytes")
            values: tuple[int | bytes, ...] = (value,)
        else:
            values = value if isinstance(value, tuple) else (value,)
            if len(values) != field.count or field.array is not isinstance(value, tuple):
                raise BtfError(f"{where} does not take {value!r}")
        try:
            struct.pack_into(self._format(name), buffer, offset + field.offset, *values)
        except struct.error as error:
            if len(buffer) < offset + self.size:
                raise
            raise BtfError(f"{where} does not take {value!r}: {error}") from None

    def pack(self, **values: Value) -> bytes:
        """A new struct; what is not named is zero. For names with a dot: `pack(**{"key.lo": 1})`. As write()."""
        buffer = bytearray(self.size)
        for name, value in values.items():
            self.write(buffer, name, value)
        return bytes(buffer)

    def unpack(self, buffer: Readable, offset: int = 0) -> dict[str, Value]:
        """All members."""
        return {name: self.read(buffer, name, offset) for name in self.fields}

    def _format(self, name: str) -> str:
        field = self.field(name)
        if not field.plain or (field.array and field.size == 1 and not field.signed):
            return f"@{field.size * field.count}s"
        # Native ("@"), which writes a number at once; the other modes write byte by byte, and programs would see half
        # of a number in a mapped value.
        code = _FORMATS[field.size]
        return f"@{field.count}{code.lower() if field.signed else code}"


class Layouts:
    """The structs of a blob by name. BtfError: the blob is damaged."""

    def __init__(self, blob: bytes) -> None:
        self.btf: Final = Btf(blob)
        self._known: Final[dict[str, Layout]] = {}

    def __getitem__(self, name: str) -> Layout:
        """BtfError: there is no such struct."""
        known = self._known.get(name)
        if known is None:
            found = self.btf.find(name, Kind.STRUCT)
            if found is None:
                raise BtfError(f"BTF: no struct {name}")
            fields: dict[str, Field] = {}
            self._collect(found, "", 0, fields, 0)
            known = self._known[name] = Layout(name, found.value, fields)
        return known

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.btf.find(name, Kind.STRUCT) is not None

    def _collect(self, found: Type, prefix: str, base: int, fields: dict[str, Field], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise BtfError(f"BTF: struct {found.name} contains itself")
        for member in self.btf.members(found):
            if member.bits:
                continue  # nothing that is shared has bit fields
            if member.bit_offset % 8:
                raise BtfError(f"BTF: {found.name}.{member.name} does not begin at a byte")
            offset = base + member.bit_offset // 8
            if member.bit_offset // 8 + self.btf.size(member.type_id) > found.value:
                raise BtfError(f"BTF: {found.name}.{member.name} ends behind its struct")
            inner = self.btf.resolve(member.type_id)
            count, array = 1, False
            for _ in range(MAX_DEPTH):
                if inner.kind is not Kind.ARRAY:
                    break
                element, elements = self.btf.array(inner)
                count, array = count * elements, True
                inner = self.btf.resolve(element)
            size = self.btf.size(inner.id)
            composite = inner.kind in (Kind.STRUCT, Kind.UNION)
            if composite and not array and inner.name != "bpf_spin_lock":
                path = f"{prefix}{member.name}." if member.name else prefix
                self._collect(inner, path, offset, fields, depth + 1)
                continue
            if not member.name:
                continue
            plain = not composite and inner.kind is not Kind.FLOAT and size in _FORMATS
            fields[prefix + member.name] = Field(offset, size, count, self.btf.signed(inner), plain, array)
