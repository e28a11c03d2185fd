# SPDX-License-Identifier: MIT
"""From what the compiler writes to the file that the loader reads."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import features
from tests.unit.kernel.blobs import LOAD_MAP, RETURN, File, Types, insn, sample
from tools import native
from tux.kernel import flatten, load
from tux.kernel.btf import Btf, BtfError, Kind
from tux.kernel.flatten import FlattenError
from tux.kernel.loops import entered_from_above
from tux.kernel.object import MAGIC, PREFIX, MapSpec, Object, ObjectError, Program, decode, encode

BPF = native.ROOT / "src/tux/kernel/bpf"


class TestFlatten:
    def test_programs_are_split_and_know_their_maps(self) -> None:
        assert flatten.flatten(sample()[0].bytes()).programs == (
            Program("one", LOAD_MAP + RETURN, ((0, "things"),)),
            Program("two", RETURN, ()),
        )

    def test_maps(self) -> None:
        file, types = sample()
        u32, u64, thing = 1, 2, 3
        assert Btf(types.blob()).type(thing).name == "thing"
        things, tables = flatten.flatten(file.bytes()).maps
        assert things == MapSpec("things", 1, 4, 16, 100, 1, u32, thing)
        assert replace(tables, inner=None) == MapSpec("tables", 12, 4, 4, 8, 0, 0, 0)
        assert tables.inner == MapSpec("tables.inner", 2, 4, 8, 4, 1024, u32, u64)

    def test_sections_get_their_sizes_and_an_order(self) -> None:
        types = Btf(flatten.flatten(sample()[0].bytes()).btf)
        section = types.find(".maps", Kind.DATASEC)
        assert section is not None
        assert section.value == 72
        entries = [
            (variable.name, *struct.unpack_from("<II", types.blob, at + 4)) for variable, at in types.variables(section)
        ]
        assert entries == [("things", 0, 40), ("tables", 40, 32)]

    def test_sizes_instead_of_types(self) -> None:
        types = Types()
        ring = types.map(type=types.number(27), max_entries=types.number(4096))
        plain = types.map(type=types.number(1), key_size=types.number(6), value_size=types.number(10))
        types.section(".maps", [(types.variable("ring", ring), 0, 16), (types.variable("plain", plain), 0, 24)])
        file, _ = sample()
        replace_section(file, ".BTF", types.blob())
        file.symbols = [entry for entry in file.symbols if entry[0] not in ("things", "tables")]
        file.sections = [entry for entry in file.sections if entry[0] != ".rel"]
        file.symbol("ring", 2, 0, 16, 1)
        file.symbol("plain", 2, 16, 24, 1)
        assert flatten.flatten(file.bytes()).maps == (
            MapSpec("ring", 27, 0, 0, 4096, 0, 0, 0),
            MapSpec("plain", 1, 6, 10, 0, 0, 0, 0),
        )


def replace_section(file: File, name: str, data: bytes) -> None:
    file.sections = [
        (own, kind, flags, data if own == name else content, info) for own, kind, flags, content, info in file.sections
    ]


def other_machine(file: File, types: Types) -> None:
    file.machine = 62


def no_types(file: File, types: Types) -> None:
    file.sections = [entry for entry in file.sections if entry[0] != ".BTF"]


def data_section(file: File, types: Types) -> None:
    file.section(".rodata", bytes(8), flatten.SHF_ALLOC)


def zero_data(file: File, types: Types) -> None:
    file.section(".bss", bytes(8), flatten.SHF_ALLOC)


def function(file: File, types: Types) -> None:
    file.symbol("helper", file.section(".text", RETURN, flatten.SHF_ALLOC | flatten.SHF_EXECINSTR), 0, 16, 2)


def other_program(file: File, types: Types) -> None:
    file.section("xdp", RETURN, flatten.SHF_ALLOC | flatten.SHF_EXECINSTR)


def call(file: File, types: Types) -> None:
    replace_section(file, "tc", LOAD_MAP + RETURN + insn(0x85, 0x10, 0, -1) + insn(0x95))


def kernel_types(file: File, types: Types) -> None:
    file.section(".BTF.ext", struct.pack("<HBBIIIIIII", 0xEB9F, 1, 0, 32, 0, 0, 0, 0, 0, 16) + bytes(16))


def gap(file: File, types: Types) -> None:
    replace_section(file, "tc", LOAD_MAP + RETURN + RETURN + RETURN)


def overlap(file: File, types: Types) -> None:
    file.symbol("three", 1, 8, 8, flatten.STT_FUNC)


def relocation_to_data(file: File, types: Types) -> None:
    file.relocations(1, [(0, file.symbol("value", 1), flatten.R_BPF_64_64)])


def relocation_to_nothing(file: File, types: Types) -> None:
    file.relocations(1, [(0, file.symbol("external", 0), flatten.R_BPF_64_64)])


def relocation_without_symbol(file: File, types: Types) -> None:
    file.relocations(1, [(0, 99, flatten.R_BPF_64_64)])


def relocation_of_another_kind(file: File, types: Types) -> None:
    file.relocations(1, [(0, 3, 10)])


def relocation_of_another_instruction(file: File, types: Types) -> None:
    file.relocations(1, [(16, 3, flatten.R_BPF_64_64)])


def relocation_at_the_end(file: File, types: Types) -> None:
    replace_section(file, "tc", LOAD_MAP + RETURN + insn(0xB7) + LOAD_MAP[:8])
    file.relocations(1, [(40, 3, flatten.R_BPF_64_64)])


def relocation_with_addend(file: File, types: Types) -> None:
    file.section(".rela", bytes(24), kind=flatten.SHT_RELA, info=1)


def relocation_that_is_cut_off(file: File, types: Types) -> None:
    file.section(".rel2", bytes(15), kind=flatten.SHT_REL, info=1)


def inside_of_a_map(file: File, types: Types) -> None:
    replace_section(file, "tc", insn(0x18, 1, 0, 4) + insn(0) + RETURN + RETURN)


def no_programs(file: File, types: Types) -> None:
    file.sections = [("xdp" if name == "tc" else name, *rest) for name, *rest in file.sections]  # type: ignore[misc]
    file.sections = [(n, k, 0 if n == "xdp" else f, c, i) for n, k, f, c, i in file.sections]


def no_symbol(file: File, types: Types) -> None:
    file.symbols = [("renamed" if name == "tables" else name, *rest) for name, *rest in file.symbols]  # type: ignore[misc]


def outside_of_its_section(file: File, types: Types) -> None:
    file.symbols = [(n, k, s, 64 if n == "tables" else v, z) for n, k, s, v, z in file.symbols]


def long_name(file: File, types: Types) -> None:
    file.symbols = [("a_name_of_16_chars" if name == "one" else name, *rest) for name, *rest in file.symbols]  # type: ignore[misc]


def extern_section(file: File, types: Types) -> None:
    types.section(".ksyms", [])
    replace_section(file, ".BTF", types.blob())


def two_symbol_tables(file: File, types: Types) -> None:
    file.section("second", b"", kind=flatten.SHT_SYMTAB)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (other_machine, "made for machine 62"),
        (no_types, "no type information"),
        (data_section, "section .rodata has 8 bytes of data"),
        (zero_data, "section .bss has 8 bytes of data"),
        (function, "section .text has helper"),
        (other_program, "section xdp has code"),
        (call, "program two: instruction 0 calls a function"),
        (kernel_types, "CO-RE"),
        (gap, "code outside of functions"),
        (overlap, "do not lie side by side"),
        (relocation_to_data, "refers to value in tc"),
        (relocation_to_nothing, "refers to external in no section"),
        (relocation_without_symbol, "no symbol 99"),
        (relocation_of_another_kind, "does not load a map"),
        (relocation_of_another_instruction, "does not load a map"),
        (relocation_at_the_end, "does not load a map"),
        (relocation_with_addend, "addends"),
        (relocation_that_is_cut_off, "cut off"),
        (inside_of_a_map, "the inside of the map things"),
        (no_programs, "no program"),
        (no_symbol, "no symbol for the variable tables"),
        (outside_of_its_section, "tables is not in its section"),
        (long_name, "more than 15 characters"),
        (extern_section, "extern variables"),
        (two_symbol_tables, "one symbol table"),
    ],
)
def test_objects_that_cannot_be_used(damage: Callable[[File, Types], None], reason: str) -> None:
    file, types = sample()
    damage(file, types)
    with pytest.raises(FlattenError, match=reason):
        flatten.flatten(file.bytes())


def maps(make: Callable[[Types], int]) -> list[MapSpec]:
    types = Types()
    types.section(".maps", [(types.variable("m", make(types)), 0, 8)])
    return flatten.read_maps(Btf(types.blob()))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda types: types.integer("int", 4), "map m is no struct"),
        (lambda types: types.map(max_entries=types.number(1)), "map m has no type"),
        (lambda types: types.map(type=types.integer("int", 4)), "map m, type: not a pointer"),
        (lambda types: types.map(type=types.pointer(types.integer("int", 4))), "map m, type: declare it with __uint"),
        (lambda types: types.map(type=types.number(1), pinning=types.number(1)), "map m, pinning: not supported"),
        (
            lambda types: types.map(type=types.number(1), values=types.number(1)),
            "map m, values: declare it with __array",
        ),
        (lambda types: types.map(type=types.number(12)), "map m: a map of maps"),
        (
            lambda types: types.map(
                type=types.number(1), values=types.array(types.pointer(types.map(type=types.number(1))), 0)
            ),
            "map m: a map of maps",
        ),
        (
            lambda types: types.map(
                type=types.number(1), key=types.pointer(types.integer("int", 4)), key_size=types.number(8)
            ),
            "map m: its key has 4 bytes, and key_size is 8",
        ),
    ],
)
def test_declarations_that_cannot_be_used(make: Callable[[Types], int], reason: str) -> None:
    with pytest.raises(FlattenError, match=reason):
        maps(make)


def test_no_maps() -> None:
    assert flatten.read_maps(Btf(Types().blob())) == []


@given(st.data())
def test_damaged_objects_give_errors_and_nothing_else(data: st.DataObject) -> None:
    damaged = bytearray(sample()[0].bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)) | st.none())
    try:
        tier = flatten.flatten(bytes(damaged[:cut]))
    except (FlattenError, BtfError):
        return
    assert decode(encode(tier)) == tier


# -- the file ------------------------------------------------------------------------------------------------------


def flat() -> Object:
    return flatten.flatten(sample()[0].bytes())


class TestFile:
    def test_what_is_written_is_read(self) -> None:
        assert decode(encode(flat())) == flat()

    def test_the_same_object_gives_the_same_bytes(self) -> None:
        assert encode(flat()) == encode(flat())

    @given(st.data())
    def test_damage_gives_errors_and_nothing_else(self, data: st.DataObject) -> None:
        damaged = bytearray(encode(flat()))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(damaged) - 1))
            damaged[at] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(damaged)) | st.none())
        try:
            decode(bytes(damaged[:cut]))
        except ObjectError:
            pass

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "not an object of Tux"),
            (b"\x7fELF" + bytes(60), "not an object of Tux"),
            (PREFIX.pack(MAGIC, 2, 0), "version 2"),
            (PREFIX.pack(MAGIC, 1, 2**32 - 1), "damaged header"),
            (PREFIX.pack(MAGIC, 1, 2) + b"{}", "damaged header"),
            (PREFIX.pack(MAGIC, 1, 4) + b"null", "damaged header"),
            (PREFIX.pack(MAGIC, 1, 100_000) + b"[" * 100_000, "damaged header"),
        ],
    )
    def test_what_is_no_object(self, data: bytes, reason: str) -> None:
        with pytest.raises(ObjectError, match=reason):
            decode(data)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda header: header.update(btf=-1), "expected a number"),
            (lambda header: header.update(btf=True), "expected a number"),
            (lambda header: header.update(btf=1 << 31), "not 6 instructions|not 4 instructions|not 2 instructions"),
            (lambda header: header["programs"].pop(), "the header says"),
            (lambda header: header["programs"][0].update(insns=0), "not 0 instructions"),
            (lambda header: header["programs"][0].update(insns=2_000_000), "not 2000000 instructions"),
            (lambda header: header["programs"][0].update(maps=[[1, "things"]]), "does not load a map"),
            (lambda header: header["programs"][0].update(maps=[[3, "things"]]), "does not load a map"),
            (lambda header: header["programs"][0].update(maps=[[0, "other"]]), "no map other"),
            (lambda header: header["programs"][0].update(name=""), "expected a name"),
            (lambda header: header["programs"][0].update(name="two"), "twice"),
            (lambda header: header["maps"][0].update(name=header["maps"][1]["name"]), "no map things|twice"),
            (lambda header: header["maps"][0].pop("type"), "damaged header"),
        ],
    )
    def test_headers_that_make_no_sense(self, change: Callable[[object], None], reason: str) -> None:
        data = encode(flat())
        length = PREFIX.unpack_from(data)[2]
        header = json.loads(data[PREFIX.size : PREFIX.size + length])
        change(header)
        text = json.dumps(header).encode()
        with pytest.raises(ObjectError, match=reason):
            decode(PREFIX.pack(MAGIC, 1, len(text)) + text + data[PREFIX.size + length :])


class TestScript:
    """As the build runs it: without the package."""

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", str(native.ROOT / "src/tux/kernel/flatten.py"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True)

    def test_it_writes_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "in.o").write_bytes(sample()[0].bytes())
        done = self.run(tmp_path / "in.o", tmp_path / "out")
        assert (done.returncode, done.stderr) == (0, "")
        assert decode((tmp_path / "out").read_bytes()) == flat()

    def test_it_says_what_is_wrong(self, tmp_path: Path) -> None:
        (tmp_path / "in.o").write_bytes(b"nothing")
        done = self.run(tmp_path / "in.o", tmp_path / "out")
        assert done.returncode == 1
        assert done.stderr == f"flatten: {tmp_path / 'in.o'}: not a 64-bit little-endian ELF file\n"
        assert not (tmp_path / "out").exists()

    def test_usage(self) -> None:
        done = self.run()
        assert done.returncode == 2
        assert done.stderr.startswith("usage: ")


# -- what the compiler really writes ---------------------------------------------------------------------------------


def compiled(folder: Path, source: str) -> bytes:
    features.require("bpf")
    (folder / "test.c").write_text(f'#include "helpers.h"\n{source}\n')
    native.compile_bpf(folder / "test.c", folder / "test.o", f"-I{BPF}")
    return (folder / "test.o").read_bytes()


PROGRAM = 'SEC("tc") int program(struct __sk_buff *skb) { return %s; }'


class TestCompiler:
    def test_sections_and_programs(self, tmp_path: Path) -> None:
        source = (
            'SEC("tc") int first(struct __sk_buff *skb) { return (int)skb->len; }\n'
            'SEC("tc/other") int second(struct __sk_buff *skb) { return (int)skb->mark; }\n'
            'SEC("tc") int third(struct __sk_buff *skb) { return skb->len > 9 ? -1 : 0; }\n'
            "struct shared { __u64 a; __u32 b[4]; };\n"
            'struct shared layout_shared SEC("layouts");\n'
            'char licence[] SEC("license") = "Dual MIT/GPL";\n'
        )
        tier = flatten.flatten(compiled(tmp_path, source))
        assert [program.name for program in tier.programs] == ["first", "second", "third"]
        assert all(program.insns.endswith(insn(0x95)) for program in tier.programs)
        shared = Btf(tier.btf).find("shared", Kind.STRUCT)
        assert shared is not None
        assert shared.value == 24

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("int global = 1;" + PROGRAM % "global++ + (int)skb->len", "section .data has 4 bytes of data"),
            ("int global;" + PROGRAM % "global++ + (int)skb->len", "section .bss has 4 bytes of data"),
            ("const int t[] = {1, 2, 3};" + PROGRAM % "t[skb->len % 3]", "section .rodata has 12 bytes of data"),
            (
                "__attribute__((noinline)) static int helper(struct __sk_buff *skb) { return (int)(skb->len * 7); }"
                + PROGRAM % "helper(skb)",
                "section .text has (.*, )?helper",
            ),
            ("extern int other(int);" + PROGRAM % "other((int)skb->len)", "calls a function"),
            (
                "struct s { int m; } __attribute__((preserve_access_index));"
                + PROGRAM % "((struct s *)(long)skb->data)->m",
                "CO-RE",
            ),
        ],
    )
    def test_what_is_refused(self, tmp_path: Path, source: str, reason: str) -> None:
        with pytest.raises(FlattenError, match=reason):
            flatten.flatten(compiled(tmp_path, source))

    def test_without_type_information(self, tmp_path: Path) -> None:
        compiled(tmp_path, PROGRAM % "(int)skb->len")
        native.compile_bpf(tmp_path / "test.c", tmp_path / "test.o", f"-I{BPF}", "-g0")
        with pytest.raises(FlattenError, match="compile with -g"):
            flatten.flatten((tmp_path / "test.o").read_bytes())

    def test_the_programs_of_tux(self, tmp_path: Path) -> None:
        """The same source gives the same file."""
        features.require("bpf")
        files = []
        for name in ("a.o", "b.o"):
            native.compile_bpf(BPF / "tier.bpf.c", tmp_path / name)
            files.append(encode(flatten.flatten((tmp_path / name).read_bytes())))
        assert files[0] == files[1]
        programs = decode(files[0]).programs
        assert [program.name for program in programs] == ["tux_egress", "tux_ingress", "tux_reap"]
        assert [entered_from_above(program.insns) for program in programs] == [[], [], []]


def test_what_workers_write_is_read_in_order_on_every_processor() -> None:
    """The address of the second load depends on what the first gave (LOAD_AFTER): no compiler optimised it away."""
    features.require("bpf")
    (ingress,) = (program for program in load.read_object().programs if program.name == "tux_ingress")
    code = list(struct.iter_unpack("<BBhi", ingress.insns))  # registers: source << 4 | destination
    nothings = [at for at, (operation, _, _, value) in enumerate(code) if (operation, value) == (0x57, 0)]  # r &= 0
    assert len(nothings) >= 2  # of a cell, and of a slot
    for at in nothings:
        nothing = code[at][1]
        earlier = [registers & 15 for operation, registers, _, _ in code[at - 3 : at] if operation == 0x79]  # *(u64 *)
        assert (0xBF, earlier[-1] << 4 | nothing) in [insn[:2] for insn in code[at - 3 : at]]
        (base,) = (r & 15 for operation, r, _, _ in code[at : at + 3] if operation == 0x0F and r >> 4 == nothing)  # +=
        assert any(operation == 0x79 and registers >> 4 == base for operation, registers, _, _ in code[at : at + 4])
