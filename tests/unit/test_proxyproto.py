# SPDX-License-Identifier: MIT
"""Headers of the PROXY protocol against a model with struct and ipaddress. Rows: tests/c/test_proxyproto.c."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux._engine import build_proxy, parse_proxy

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6).filter(lambda address: getattr(address, "ipv4_mapped", None) is None)
PORT = st.integers(0, 65535)
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def header(version: int, source: Address, source_port: int, target: Address, target_port: int) -> bytes:
    """As the document says."""
    six = source.version == 6
    if version == 1:
        return f"PROXY TCP{source.version} {source} {target} {source_port} {target_port}\r\n".encode()
    addresses = source.packed + target.packed + struct.pack("!HH", source_port, target_port)
    return SIGNATURE + bytes([0x21, 0x21 if six else 0x11]) + struct.pack("!H", len(addresses)) + addresses


def node(address: Address, port: int) -> bytes:
    return (f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}").encode()


@given(
    pair=st.one_of(st.tuples(V4, V4), st.tuples(V6, V6)), ports=st.tuples(PORT, PORT), version=st.sampled_from([1, 2])
)
def test_both_ways(pair: tuple[Address, Address], ports: tuple[int, int], version: int) -> None:
    expected = header(version, pair[0], ports[0], pair[1], ports[1])
    assert build_proxy(version, node(pair[0], ports[0]), node(pair[1], ports[1])) == expected
    found = parse_proxy(expected + b"GET")
    assert found == {
        "outcome": "done",
        "length": len(expected),
        "version": version,
        "address": str(pair[0]),
        "port": ports[0],
    }
    for cut in range(len(expected)):
        assert parse_proxy(expected[:cut]) == {"outcome": "more"}


@given(address=V4, tlvs=st.binary(max_size=300), kind=st.sampled_from([0x10, 0x11]), local=st.booleans())
def test_what_follows_the_addresses_is_passed_over(address: Address, tlvs: bytes, kind: int, local: bool) -> None:
    rest = address.packed + bytes(4) + struct.pack("!HH", 7, 80) + tlvs
    data = SIGNATURE + bytes([0x20 if local else 0x21, kind]) + struct.pack("!H", len(rest)) + rest
    found = parse_proxy(data + b"GET / HTTP/1.1\r\n")
    assert (found["outcome"], found["length"]) == ("done", len(data))
    assert found["address"] == (str(address) if kind == 0x11 and not local else None)


@given(
    data=st.binary(max_size=60), begin=st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"])
)
def test_any_bytes(data: bytes, begin: bytes) -> None:
    found = parse_proxy(begin + data)
    if found["outcome"] == "done":
        length = found["length"]
        assert isinstance(length, int)
        assert parse_proxy((begin + data)[:length]) == found
        assert parse_proxy((begin + data)[: length - 1]) == {"outcome": "more"}
    elif found["outcome"] == "malformed":
        assert parse_proxy(begin + data + b"x") == found


def test_misuse() -> None:
    with pytest.raises(ValueError, match="not an address"):
        build_proxy(1, b"a", b"b")
