# SPDX-License-Identifier: MIT
"""The builder and reader that the fixtures of the programs rest on, against bytes from elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kernel.programs.packets import (
    ACK,
    PSH,
    Flag,
    PacketError,
    Segment,
    checksum,
    checksum_sum,
    decode,
    host_sum,
    sack,
    timestamps,
)

V4 = Segment("192.0.2.7", "198.51.100.1", 40000, 8080, 1, 2, ACK | PSH, payload=b"hello")
V6 = V4.but(source="2001:db8::7", target="2001:db8:1::1")


def test_the_sum_of_rfc_1071() -> None:
    """Its own example, section 3."""
    assert checksum_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D
    assert host_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xF2DD


def test_the_checksum_of_a_well_known_header() -> None:
    """An IPv4 header that many texts use as the example."""
    header = bytes.fromhex("450000730000400040110000c0a80001c0a800c7")
    assert checksum(header) == 0xB861


def test_a_frame_byte_by_byte() -> None:
    frame = Segment("192.0.2.1", "192.0.2.2", 1, 2, 3, 4, ACK, 5, ident=6, ttl=7).encode()
    assert frame.hex(" ", -4) == (
        "02000000 00020200 00000001 08004500 00280006 40000706 efc6c000 0201c000 02020001 00020000 00030000 "
        "00045010 00052bc2 0000"
    )


@pytest.mark.parametrize("segment", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"options": timestamps(1, 2)},
        {"options": timestamps(1, 2) + sack((5, 9), (11, 12)), "flags": ACK},
        {"payload": b"", "trailer": bytes(6)},
        {"vlan": 5, "tos": 0xFF, "ttl": 1, "reserved": 3, "urgent": 9},
        {"seq": 2**32 - 1, "ack": 0, "window": 65535, "payload": b"x"},
    ],
    ids=str,
)
def test_what_is_built_is_read(segment: Segment, changes: dict[str, object]) -> None:
    built = segment.but(**changes)
    assert decode(built.encode()) == built


def test_what_only_one_version_has() -> None:
    for built in (
        V4.but(ip_options=b"\x94\x04\0\0", ident=77, fragment=0x8000),
        V6.but(flow=0xABCDE, extension=bytes([6, 0, 1, 4, 0, 0, 0, 0])),
    ):
        assert decode(built.encode()) == built


@given(st.sampled_from([V4, V6]), st.integers(0, 10**6), st.integers(1, 255))
def test_one_changed_byte_is_noticed(segment: Segment, place: int, change: int) -> None:
    frame = bytearray(segment.encode())
    frame[14 + place % (len(frame) - 14)] ^= change
    try:
        read = decode(bytes(frame))
    except PacketError:
        return
    # IPv6 has no checksum over its first word and its hop limit.
    assert segment.v6
    assert read.but(tos=0, flow=0, ttl=64) == segment


def test_errors_can_be_put_in() -> None:
    with pytest.raises(PacketError, match="TCP checksum"):
        decode(V4.encode(tcp_error=1))
    with pytest.raises(PacketError, match="IPv4 checksum"):
        decode(V4.encode(ip_error=1))


def test_flags_are_those_of_the_header() -> None:
    assert [flag.name for flag in Flag] == ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"]
