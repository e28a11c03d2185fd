# SPDX-License-Identifier: MIT
"""Turn what clang writes for eBPF (``-target bpf -O2 -g``) into one flat file, which object.py describes and reads.

    python flatten.py IN.o OUT

The build runs this as a script, before the package exists: standard library only, and of this package only what is
beside it and as modest. Understood are

- programs: functions in sections called "tc" or "tc/...", any number in each;
- maps: variables in ".maps", declared by members named type, key, value, key_size, value_size, max_entries, map_flags
  and values (the notation of libbpf);
- "layouts": variables whose only use is that their types are in the type information.

Global data, calls between programs, relocations against kernel types and big-endian objects are refused with a reason.
Sources: the ELF specification; Documentation/bpf/llvm_reloc.rst and btf.rst of Linux.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING or __package__:
    from tux.kernel import btf, loops
    from tux.kernel import object as flat
else:
    sys.path.insert(0, str(Path(__file__).parent))  # as for every script, but where PYTHONSAFEPATH forbids it
    import btf
    import loops
    import object as flat

HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
"""Elf64_Ehdr: e_ident, type, machine, version, entry, phoff, shoff, flags, ehsize, phentsize, phnum, shentsize, shnum,
shstrndx."""

SECTION: Final = struct.Struct("<IIQQQQIIQQ")
"""Elf64_Shdr: name, type, flags, addr, offset, size, link, info, addralign, entsize."""

SYMBOL: Final = struct.Struct("<IBBHQQ")
"""Elf64_Sym: name, info, other, shndx, value, size."""

RELOCATION: Final = struct.Struct("<QQ")
"""Elf64_Rel: offset, info."""

IDENT: Final = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian, version 1
EM_BPF: Final = 247
SHT_PROGBITS, SHT_SYMTAB, SHT_RELA, SHT_NOBITS, SHT_REL = 1, 2, 4, 8, 9
SHF_ALLOC, SHF_EXECINSTR = 2, 4
STT_FUNC = 2
SHN_UNDEF, SHN_LORESERVE = 0, 0xFF00
R_BPF_64_64 = 1

CALL: Final = 0x85
PSEUDO_CALL: Final = 1
"""Source register of a call to another function of the object."""

MAPS: Final = ".maps"
LAYOUTS: Final = "layouts"
IGNORED: Final = frozenset({MAPS, LAYOUTS, "license", ".BTF", ".BTF.ext", ".llvm_addrsig", ".eh_frame"})

MAX_NAME: Final = 15
"""Characters of the name of a map or program: BPF_OBJ_NAME_LEN with its zero is 16."""

MAPS_OF_MAPS: Final = frozenset({12, 13})
"""BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS."""

NO_TYPES: Final = frozenset({12, 13, 27})
"""Maps that take no BTF: those of maps, BPF_MAP_TYPE_RINGBUF."""


class FlattenError(ValueError):
    """The object cannot be used; the text says why."""


class Section(NamedTuple):
    """A section header with its content."""

    number: int
    name: str
    type: int
    flags: int
    size: int
    link: int
    info: int
    data: bytes


class Symbol(NamedTuple):
    """An entry of the symbol table."""

    name: str
    type: int
    section: int
    value: int
    size: int


@dataclass(frozen=True, slots=True)
class Elf:
    """An object file. FlattenError: it is damaged or not made for eBPF."""

    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]

    def section(self, name: str) -> Section | None:
        return next((section for section in self.sections if section.name == name), None)

    def relocations(self, section: Section) -> list[tuple[int, int, Symbol]]:
        """Offset in the section, kind, and symbol of each."""
        found = []
        for table in self.sections:
            if table.type == SHT_RELA and table.info == section.number:
                raise FlattenError(f"section {section.name}: relocations with addends")
            if table.type != SHT_REL or table.info != section.number:
                continue
            for offset, info in RELOCATION.iter_unpack(_whole(table, RELOCATION.size)):
                if info >> 32 >= len(self.symbols):
                    raise FlattenError(f"section {table.name}: no symbol {info >> 32}")
                found.append((offset, info & 0xFFFFFFFF, self.symbols[info >> 32]))
        return found


def read_elf(data: bytes) -> Elf:
    """The sections and symbols of an object file."""
    if len(data) < HEADER.size or not data.startswith(IDENT):
        raise FlattenError("not a 64-bit little-endian ELF file")
    header = HEADER.unpack_from(data)
    machine, at, entry, count, names_index = header[2], header[6], header[11], header[12], header[13]
    if machine != EM_BPF:
        raise FlattenError(f"made for machine {machine}, not for eBPF ({EM_BPF})")
    if entry != SECTION.size or at + count * SECTION.size > len(data) or names_index >= count:
        raise FlattenError("the table of sections is damaged")
    raw = [SECTION.unpack_from(data, at + index * SECTION.size) for index in range(count)]
    contents = []
    for index, (_, kind, _, _, offset, size, *_) in enumerate(raw):
        stored = kind not in (0, SHT_NOBITS)
        if stored and offset + size > len(data):
            raise FlattenError(f"section {index} is cut off")
        contents.append(data[offset : offset + size] if stored else b"")
    sections = tuple(
        Section(index, _string(contents[names_index], name), kind, flags, size, link, info, contents[index])
        for index, (name, kind, flags, _, _, size, link, info, _, _) in enumerate(raw)
    )
    tables = [section for section in sections if section.type == SHT_SYMTAB]
    if len(tables) != 1 or tables[0].link >= count:
        raise FlattenError("there is not one symbol table")
    names = contents[tables[0].link]
    symbols = tuple(
        Symbol(_string(names, name), info & 0xF, index, value, size)
        for name, info, _, index, value, size in SYMBOL.iter_unpack(_whole(tables[0], SYMBOL.size))
    )
    return Elf(sections, symbols)


def _whole(section: Section, size: int) -> bytes:
    if len(section.data) % size:
        raise FlattenError(f"section {section.name} is cut off")
    return section.data


def _string(table: bytes, offset: int) -> str:
    end = table.find(0, offset)
    if end < 0:
        raise FlattenError("a name is cut off")
    try:
        return table[offset:end].decode("ascii")
    except UnicodeDecodeError:
        raise FlattenError(f"a name is not ASCII: {table[offset:end]!r}") from None


def flatten(data: bytes) -> flat.Object:
    """What clang wrote, as an object for the loader. FlattenError, btf.BtfError: it cannot be used."""
    elf = read_elf(data)
    types = elf.section(".BTF")
    if types is None:
        raise FlattenError("no type information (.BTF): compile with -g")
    _refuse_data(elf)
    _refuse_kernel_types(elf)
    blob = fix_sections(types.data, elf)
    maps = read_maps(btf.Btf(blob))
    programs = _programs(elf, {spec.name for spec in maps})
    if not programs:
        raise FlattenError('no program: no function is in a section called "tc" or "tc/..."')
    for name in [spec.name for spec in maps] + [program.name for program in programs]:
        if len(name) > MAX_NAME:
            raise FlattenError(f"the name {name} has more than {MAX_NAME} characters")
    return flat.Object(tuple(programs), tuple(maps), blob)


def _is_program(section: Section) -> bool:
    return section.name == "tc" or section.name.startswith("tc/")


def _refuse_data(elf: Elf) -> None:
    for section in elf.sections:
        if not section.flags & SHF_ALLOC or not section.size or section.name in IGNORED or _is_program(section):
            continue
        if section.flags & SHF_EXECINSTR:
            inside = [symbol.name for symbol in elf.symbols if symbol.section == section.number and symbol.name]
            names = ", ".join(inside) or "code"
            raise FlattenError(f"section {section.name} has {names}: functions are programs (tc) or inlined")
        raise FlattenError(f"section {section.name} has {section.size} bytes of data: only maps hold data")


def _refuse_kernel_types(elf: Elf) -> None:
    """struct btf_ext_header: ..., core_relo_off, core_relo_len at 24 and 28, when it is that long."""
    extension = elf.section(".BTF.ext")
    if extension is not None and len(extension.data) >= 32:
        length = struct.unpack_from("<I", extension.data, 4)[0]
        if length >= 32 and struct.unpack_from("<I", extension.data, 28)[0]:
            raise FlattenError("relocations against kernel types (CO-RE)")


def fix_sections(blob: bytes, elf: Elf) -> bytes:
    """BTF with the sizes of sections and the offsets of variables, which the compiler leaves to the loader; the kernel
    wants them, in ascending order."""
    types = btf.Btf(blob)
    fixed = bytearray(blob)
    for found in types.types:
        if found.kind is not btf.Kind.DATASEC:
            continue
        section = elf.section(found.name)
        if section is None or not section.size:
            raise FlattenError(f"section {found.name} is in the type information only: extern variables")
        struct.pack_into("<I", fixed, found.at + 8, section.size)
        offsets = {symbol.name: symbol.value for symbol in elf.symbols if symbol.section == section.number}
        variables = []
        for variable, at in types.variables(found):
            if variable.name not in offsets:
                raise FlattenError(f"no symbol for the variable {variable.name}")
            size = types.size(variable.value)
            if offsets[variable.name] + size > section.size:
                raise FlattenError(f"the variable {variable.name} is not in its section")
            variables.append((offsets[variable.name], struct.unpack_from("<I", blob, at)[0], size))
        variables.sort()
        at = found.at + btf.RECORD.size
        for index, (offset, type_id, size) in enumerate(variables):
            struct.pack_into("<III", fixed, at + 12 * index, type_id, offset, size)
    return bytes(fixed)


def read_maps(types: btf.Btf) -> list[flat.MapSpec]:
    """The maps that the section .maps declares, in its order."""
    section = types.find(MAPS, btf.Kind.DATASEC)
    if section is None:
        return []
    return [_map(types, variable.name, variable.value, nested=False) for variable, _ in types.variables(section)]


def _map(types: btf.Btf, name: str, type_id: int, *, nested: bool) -> flat.MapSpec:
    declared = types.resolve(type_id)
    if declared.kind is not btf.Kind.STRUCT:
        raise FlattenError(f"map {name} is no struct")
    numbers = {"type": 0, "max_entries": 0, "map_flags": 0, "key_size": 0, "value_size": 0}
    ids = {"key": 0, "value": 0}
    inner = None
    for member in types.members(declared):
        where = f"map {name}, {member.name}"
        target = types.resolve(member.type_id)
        if member.name in numbers:
            array = types.resolve(_pointee(target, where))
            if array.kind is not btf.Kind.ARRAY:
                raise FlattenError(f"{where}: declare it with __uint()")
            numbers[member.name] = types.array(array)[1]
        elif member.name in ids:
            ids[member.name] = _pointee(target, where)
        elif member.name == "values" and not nested:
            if target.kind is not btf.Kind.ARRAY:
                raise FlattenError(f"{where}: declare it with __array()")
            element = types.resolve(types.array(target)[0])
            inner = _map(types, f"{name}.inner"[:MAX_NAME], _pointee(element, where), nested=True)
        else:
            raise FlattenError(f"{where}: not supported")
    kind = numbers["type"]
    sizes = []
    for part in ("key", "value"):
        size = numbers[f"{part}_size"]
        if ids[part]:
            typed = types.size(ids[part])
            if size and size != typed:
                raise FlattenError(f"map {name}: its {part} has {typed} bytes, and {part}_size is {size}")
            size = typed
        sizes.append(size)
    if (kind in MAPS_OF_MAPS) is not (inner is not None):
        raise FlattenError(f"map {name}: a map of maps, and no other, declares its values with __array()")
    if kind in MAPS_OF_MAPS:
        sizes = [sizes[0] or 4, sizes[1] or 4]
    if kind in NO_TYPES:
        ids = {"key": 0, "value": 0}
    if not kind:
        raise FlattenError(f"map {name} has no type")
    return flat.MapSpec(
        name, kind, sizes[0], sizes[1], numbers["max_entries"], numbers["map_flags"], ids["key"], ids["value"], inner
    )


def _pointee(pointer: btf.Type, where: str) -> int:
    if pointer.kind is not btf.Kind.PTR:
        raise FlattenError(f"{where}: not a pointer, as the macros declare it")
    return pointer.value


def _programs(elf: Elf, maps: set[str]) -> list[flat.Program]:
    programs: list[flat.Program] = []
    for section in elf.sections:
        if not _is_program(section) or section.type != SHT_PROGBITS:
            continue
        functions = sorted(
            (symbol for symbol in elf.symbols if symbol.section == section.number and symbol.type == STT_FUNC),
            key=lambda symbol: symbol.value,
        )
        end = 0
        for function in functions:
            if function.value != end or not function.size or function.size % flat.INSN_BYTES:
                raise FlattenError(f"section {section.name}: the functions do not lie side by side")
            end += function.size
        if end != section.size:
            raise FlattenError(f"section {section.name}: code outside of functions")
        relocations = elf.relocations(section)
        for function in functions:
            mine = sorted(
                (offset - function.value, kind, symbol)
                for offset, kind, symbol in relocations
                if function.value <= offset < function.value + function.size
            )
            insns = section.data[function.value : function.value + function.size]
            programs.append(_program(elf, function.name, insns, mine, maps))
    return sorted(programs, key=lambda program: program.name)


def _program(
    elf: Elf, name: str, insns: bytes, relocations: list[tuple[int, int, Symbol]], maps: set[str]
) -> flat.Program:
    for index in range(0, len(insns), flat.INSN_BYTES):
        if insns[index] == CALL and insns[index + 1] >> 4 == PSEUDO_CALL:
            raise FlattenError(f"program {name}: instruction {index // 8} calls a function: inline it")
    uses = []
    for offset, kind, symbol in relocations:
        place = f"program {name}: instruction {offset // 8}"
        if SHN_UNDEF < symbol.section < SHN_LORESERVE and symbol.section < len(elf.sections):
            where = elf.sections[symbol.section].name
        else:
            where = "no section"
        if where != MAPS:
            raise FlattenError(f"{place} refers to {symbol.name or 'data'} in {where}: only maps can be referred to")
        if kind != R_BPF_64_64 or offset % 8 or offset + 16 > len(insns) or insns[offset] != flat.LD_IMM64:
            raise FlattenError(f"{place} does not load a map's address")
        if symbol.name not in maps:
            raise FlattenError(f"{place} refers to {symbol.name or 'an unnamed map'}, which is no map")
        if insns[offset + 4 : offset + 8] != b"\0\0\0\0":
            raise FlattenError(f"{place} refers to the inside of the map {symbol.name}")
        uses.append((offset // 8, symbol.name))
    try:
        insns, places = loops.settle(insns, [index for index, _ in uses])
    except loops.LoopError as error:
        raise FlattenError(f"program {name}: {error}") from None
    return flat.Program(name, insns, tuple(zip(places, (used for _, used in uses), strict=True)))


def main(arguments: list[str]) -> int:
    """Exit code: 2 wrong call, 1 the object cannot be used."""
    if len(arguments) != 2:
        print("usage: python flatten.py IN.o OUT", file=sys.stderr)
        return 2
    source, target = (Path(argument) for argument in arguments)
    try:
        target.write_bytes(flat.encode(flatten(source.read_bytes())))
    except (OSError, ValueError) as error:
        print(f"flatten: {source}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
