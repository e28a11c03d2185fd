# SPDX-License-Identifier: MIT
"""Type information: what is in a blob, and structs that are read and written by the names of their members."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kernel.blobs import Types
from tux.kernel.btf import HEADER, Btf, BtfError, Field, Kind, Layouts, Value


def blob() -> bytes:
    """struct sample { u64 big; i32 small; u8 text[6]; u16 pair[2][1]; struct inner in; union { u32 a; u16 b; }; struct
    bpf_spin_lock lock; struct inner many[2]; u32 one[1]; void *pointer; enum e { A = 1 } e; }"""
    types = Types()
    u8, u16, u32, u64 = (types.integer(f"u{8 * size}", size) for size in (1, 2, 4, 8))
    i32 = types.integer("int", 4, signed=True)
    inner = types.struct(
        "inner", 8, [("x", types.typedef("word", types.add(Kind.CONST, value=u32)), 0), ("y", i32, 32)]
    )
    union = types.struct("", 4, [("a", u32, 0), ("b", u16, 0)], union=True)
    lock = types.struct("bpf_spin_lock", 4, [("val", u32, 0)])
    chosen = types.enum("e", {"A": 1, "B": 2})
    types.struct(
        "sample",
        80,
        [
            ("big", u64, 0),
            ("small", i32, 8 * 8),
            ("text", types.array(u8, 6), 8 * 12),
            ("pair", types.array(types.array(u16, 1), 2), 8 * 18),
            ("in", inner, 8 * 24),
            ("", union, 8 * 32),
            ("lock", lock, 8 * 36),
            ("many", types.array(inner, 2), 8 * 40),
            ("one", types.array(u32, 1), 8 * 56),
            ("pointer", types.pointer(0), 8 * 64),
            ("e", chosen, 8 * 72),
        ],
    )
    return types.blob()


@pytest.fixture(scope="module")
def layouts() -> Layouts:
    return Layouts(blob())


def test_members(layouts: Layouts) -> None:
    sample = layouts["sample"]
    assert sample.size == 80
    assert sample.fields == {
        "big": Field(0, 8, 1, signed=False),
        "small": Field(8, 4, 1, signed=True),
        "text": Field(12, 1, 6, signed=False, array=True),
        "pair": Field(18, 2, 2, signed=False, array=True),
        "in.x": Field(24, 4, 1, signed=False),
        "in.y": Field(28, 4, 1, signed=True),
        "a": Field(32, 4, 1, signed=False),
        "b": Field(32, 2, 1, signed=False),
        "lock": Field(36, 4, 1, signed=False, plain=False),
        "many": Field(40, 8, 2, signed=False, plain=False, array=True),
        "one": Field(56, 4, 1, signed=False, array=True),
        "pointer": Field(64, 8, 1, signed=False),
        "e": Field(72, 4, 1, signed=False),
    }


def test_a_struct_in_bytes(layouts: Layouts) -> None:
    sample = layouts["sample"]
    values: dict[str, Value] = {
        "big": 2**64 - 1,
        "small": -5,
        "text": b"abc",
        "pair": (1, 65535),
        "in.x": 7,
        "one": (9,),
    }
    packed = sample.pack(**values)
    assert len(packed) == sample.size
    assert packed[:28] == struct.pack("<Qi6sHHxxI", 2**64 - 1, -5, b"abc", 1, 65535, 7)
    read = sample.unpack(packed)
    assert {name: read[name] for name in values} == values | {"text": b"abc\0\0\0"}
    assert read["lock"] == bytes(4)
    assert read["many"] == bytes(16)
    assert sample.number(packed, "in.x") == 7


def test_a_member_in_mapped_memory(layouts: Layouts) -> None:
    inner = layouts["inner"]
    with mmap.mmap(-1, 4096) as area:
        inner.write(area, "y", -1, 100)
        assert area[96:112] == bytes(8) + b"\xff" * 4 + bytes(4)
        assert inner.read(area, "y", 100) == -1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("big", -1),
        ("big", 2**64),
        ("small", 2**31),
        ("big", b"12345678"),
        ("big", (1,)),
        ("text", 5),
        ("text", b"1234567"),
        ("pair", (1, 2, 3)),
        ("pair", (1, 65536)),
        ("one", 1),
        ("lock", 1),
        ("none", 1),
    ],
)
def test_values_that_do_not_fit(layouts: Layouts, name: str, value: int | bytes | tuple[int, ...]) -> None:
    with pytest.raises(BtfError, match="sample"):
        layouts["sample"].pack(**{name: value})


def test_a_buffer_that_is_too_short(layouts: Layouts) -> None:
    with pytest.raises(struct.error):
        layouts["sample"].write(bytearray(7), "big", 1)
    with pytest.raises(struct.error):
        layouts["sample"].read(bytes(7), "big")


def test_what_is_not_there(layouts: Layouts) -> None:
    assert "sample" in layouts
    assert "nothing" not in layouts
    with pytest.raises(BtfError, match="no struct nothing"):
        layouts["nothing"]
    with pytest.raises(BtfError, match="no member nothing"):
        layouts["sample"].read(bytes(80), "nothing")
    with pytest.raises(BtfError, match="text is not one integer"):
        layouts["sample"].number(bytes(80), "text")


def test_enumerators(layouts: Layouts) -> None:
    assert layouts.btf.enumerators("e") == {"A": 1, "B": 2}
    with pytest.raises(BtfError, match="no enum f"):
        layouts.btf.enumerators("f")


def test_bit_fields_are_left_out() -> None:
    types = Types()
    u32 = types.integer("u32", 4)
    types.struct("s", 8, [("a", u32, 0), ("bits", u32, 3 << 24 | 32), ("", u32, 29 << 24 | 35)], flag=1)
    assert list(Layouts(types.blob())["s"].fields) == ["a"]


def loop() -> bytes:
    types = Types()
    types.typedef("t", 1)
    types.struct("s", 4, [("m", 1, 0)])
    return types.blob()


def inside_itself() -> bytes:
    types = Types()
    types.struct("s", 4, [("m", 1, 0)])
    return types.blob()


def array_of_itself() -> bytes:
    types = Types()
    types.array(1, 1)
    types.struct("s", 4, [("m", 1, 0)])
    return types.blob()


def large_array() -> bytes:
    types = Types()
    element = types.integer("u32", 4)
    for _ in range(20):
        element = types.array(element, 2**32 - 1)
    types.struct("s", 4, [("m", element, 0)])
    return types.blob()


def outside() -> bytes:
    types = Types()
    types.struct("s", 4, [("m", types.integer("u32", 4), 8)])
    return types.blob()


def half_a_byte() -> bytes:
    types = Types()
    types.struct("s", 8, [("m", types.integer("u32", 4), 4)])
    return types.blob()


def no_such_type() -> bytes:
    types = Types()
    types.struct("s", 4, [("m", 9, 0)])
    return types.blob()


def a_function() -> bytes:
    types = Types()
    types.struct("s", 4, [("m", types.add(Kind.FUNC_PROTO), 0)])
    return types.blob()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (loop, "refers to itself"),
        (inside_itself, "contains itself"),
        (array_of_itself, "contains itself"),
        (large_array, "bytes"),
        (outside, "ends behind its struct"),
        (half_a_byte, "does not begin at a byte"),
        (no_such_type, "no type 9"),
        (a_function, "has no size"),
    ],
)
def test_types_that_make_no_sense(make: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(BtfError, match=reason):
        Layouts(make())["s"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "shorter than its header"),
        (blob()[:10], "shorter than its header"),
        (b"\xeb\x9f" + blob()[2:], "little-endian"),
        (blob()[:-1], "shorter than its header says"),
        (HEADER.pack(0xEB9F, 1, 0, 24, 0, 0, 0, 0), "names"),
        (HEADER.pack(0xEB9F, 1, 0, 24, 0, 4, 4, 1) + bytes(5), "type 1 is cut off"),
        (HEADER.pack(0xEB9F, 1, 0, 24, 0, 12, 12, 1) + bytes(13), "type 1 is cut off"),
        (HEADER.pack(0xEB9F, 1, 0, 24, 0, 12, 12, 1) + struct.pack("<III", 0, 31 << 24, 0) + b"\0", "unknown kind 31"),
        (HEADER.pack(0xEB9F, 1, 0, 24, 0, 12, 12, 1) + struct.pack("<III", 9, 2 << 24, 0) + b"\0", "no name at 9"),
        (HEADER.pack(0xEB9F, 1, 0, 24, 0, 0, 0, 3) + b"\0\xe4\0", ""),
    ],
)
def test_blobs_that_are_damaged(data: bytes, reason: str) -> None:
    if reason:
        with pytest.raises(BtfError, match=reason):
            Btf(data)
    else:
        with pytest.raises(BtfError, match="not ASCII"):
            Btf(data).name(1)


@given(st.data())
def test_damage_gives_errors_and_nothing_else(data: st.DataObject) -> None:
    damaged = bytearray(blob())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)) | st.none())
    try:
        layouts = Layouts(bytes(damaged[:cut]))
        for found in layouts.btf.types:
            if found.kind is Kind.STRUCT and found.name:
                layout = layouts[found.name]
                if layout.size < 4096:
                    layout.unpack(bytes(layout.size))
        layouts.btf.enumerators("e")
    except BtfError:
        pass
