# SPDX-License-Identifier: MIT
"""Building and reading TCP segments in Ethernet frames: pure, and with no code of the programs in it.

Formats: Ethernet II, IEEE 802.1Q; RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 (TCP); options RFC 9293 (MSS), RFC 7323
(window scale, timestamps), RFC 2018 (SACK). Reading verifies every length and checksum.
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from dataclasses import dataclass, replace
from typing import Final, Self

MOD: Final = 2**32
"""Sequence numbers and timestamps are modulo this."""

IPV4, IPV6, VLAN = 0x0800, 0x86DD, 0x8100
TCP: Final = 6
ICMP, ICMPV6 = 1, 58
ETHERNET_BYTES, IPV4_BYTES, IPV6_BYTES, TCP_BYTES = 14, 20, 40, 20


class Flag(enum.IntFlag):
    """Of TCP."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80


FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = Flag


class PacketError(ValueError):
    """Not a whole and right segment; the text says why."""


def checksum_sum(data: bytes) -> int:
    """The sum of RFC 1071, folded to 16 bits and not complemented, of words in network order."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def host_sum(data: bytes) -> int:
    """The same of words in the machine's order, as the maps hold it."""
    return int.from_bytes(checksum_sum(data).to_bytes(2, "big"), "little")


def checksum(data: bytes) -> int:
    """The checksum of RFC 1071."""
    return 0xFFFF - checksum_sum(data)


# ---- Options. Each ends at a word where the usual padding in front is asked for.

NOP: Final = b"\x01"
END: Final = b"\x00"
SACK_PERMITTED: Final = b"\x04\x02"


def mss(value: int) -> bytes:
    """The largest segment that is taken."""
    return struct.pack(">BBH", 2, 4, value)


def window_scale(shift: int) -> bytes:
    """Three bytes."""
    return bytes([3, 3, shift])


def timestamps(value: int, echo: int, *, pad: bytes = NOP * 2) -> bytes:
    """As all stacks send them after the handshake: behind two NOPs."""
    return pad + struct.pack(">BBII", 8, 10, value % MOD, echo % MOD)


def sack(*blocks: tuple[int, int], pad: bytes = NOP * 2) -> bytes:
    """Selective acknowledgement of these ranges (first byte, byte behind the last)."""
    edges = [edge % MOD for block in blocks for edge in block]
    return pad + struct.pack(f">BB{len(edges)}I", 5, 2 + 4 * len(edges), *edges)


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment on its way. Addresses say which version of IP it is."""

    source: str
    target: str
    source_port: int
    target_port: int
    seq: int
    ack: int
    flags: Flag = ACK
    window: int = 512
    options: bytes = b""
    """Zeros (end of options) fill the last word."""
    payload: bytes = b""
    ttl: int = 64
    tos: int = 0
    """The byte with DSCP and ECN."""
    flow: int = 0
    """IPv6: flow label, 20 bits."""
    ident: int = 0
    """IPv4."""
    fragment: int = 0x4000
    """IPv4: flags and offset; DF alone by default."""
    ip_options: bytes = b""
    """IPv4; whole words."""
    no_length: bool = False
    """The length in the IP header is 0, as it is of packets that are too long for the field."""
    extension: bytes = b""
    """IPv6: one whole hop-by-hop header, its first byte (next header) TCP."""
    reserved: int = 0
    """The four bits beside TCP's data offset."""
    urgent: int = 0
    source_mac: str = "02:00:00:00:00:01"
    target_mac: str = "02:00:00:00:00:02"
    vlan: int | None = None
    """A tag in the frame, with this TCI."""
    trailer: bytes = b""
    """Behind the IP packet: short Ethernet frames are padded."""

    @property
    def v6(self) -> bool:
        return ":" in self.source

    @property
    def end(self) -> int:
        """Number behind the last one that this segment takes."""
        return (self.seq + len(self.payload) + bool(self.flags & FIN) + bool(self.flags & SYN)) % MOD

    def but(self, **changes: object) -> Self:
        """The same with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]  # names are checked by replace()

    def encode(self, *, tcp_error: int = 0, ip_error: int = 0) -> bytes:
        """The frame, checksums included; an error is added to one of them (modulo 2^16, by exclusive or)."""
        tcp = self._tcp(tcp_error)
        if self.v6:
            first = 6 << 28 | self.tos << 20 | self.flow
            kind, inner = (0, self.extension + tcp) if self.extension else (TCP, tcp)
            length = 0 if self.no_length else len(inner)
            ip = struct.pack(">IHBB", first, length, kind, self.ttl) + self._addresses() + inner
        else:
            ip = self._ipv4_header(len(tcp), ip_error) + tcp
        tag = b"" if self.vlan is None else struct.pack(">HH", VLAN, self.vlan)
        return (
            _mac(self.target_mac) + _mac(self.source_mac) + tag + self.ethertype.to_bytes(2, "big") + ip + self.trailer
        )

    @property
    def ethertype(self) -> int:
        return IPV6 if self.v6 else IPV4

    def _addresses(self) -> bytes:
        return ipaddress.ip_address(self.source).packed + ipaddress.ip_address(self.target).packed

    def _tcp(self, error: int) -> bytes:
        options = self.options + END * (-len(self.options) % 4)
        words = (TCP_BYTES + len(options)) // 4
        head = struct.pack(
            ">HHIIBBHHH",
            *(self.source_port, self.target_port, self.seq % MOD, self.ack % MOD),
            *(words << 4 | self.reserved, self.flags, self.window, 0, self.urgent),
        )
        segment = head + options + self.payload
        pseudo = self._addresses() + struct.pack(">II", len(segment), TCP)
        return segment[:16] + (checksum(pseudo + segment) ^ error).to_bytes(2, "big") + segment[18:]

    def _ipv4_header(self, payload: int, error: int) -> bytes:
        length = IPV4_BYTES + len(self.ip_options)
        head = struct.pack(
            ">BBHHHBBH",
            *(
                4 << 4 | length // 4,
                self.tos,
                0 if self.no_length else length + payload,
                self.ident,
                self.fragment,
                self.ttl,
                TCP,
                0,
            ),
        )
        whole = head + self._addresses() + self.ip_options
        return whole[:10] + (checksum(whole) ^ error).to_bytes(2, "big") + whole[12:]


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP message about a packet, from a router to who sent that (RFC 792, RFC 4443)."""

    about: bytes
    """The beginning of that packet, from its IP header on."""
    kind: int
    """Of the message: its type."""
    source: str
    target: str
    code: int = 0
    rest: int = 0
    """The four bytes behind the checksum: an MTU, perhaps."""
    ident: int = 0
    fragment: int = 0
    ip_options: bytes = b""

    def encode(self) -> bytes:
        """The frame."""
        v6 = ":" in self.source
        addresses = ipaddress.ip_address(self.source).packed + ipaddress.ip_address(self.target).packed
        message = struct.pack(">BBHI", self.kind, self.code, 0, self.rest) + self.about
        pseudo = addresses + struct.pack(">II", len(message), ICMPV6) if v6 else b""
        message = message[:2] + checksum(pseudo + message).to_bytes(2, "big") + message[4:]
        if v6:
            ip = struct.pack(">IHBB", 6 << 28, len(message), ICMPV6, 64) + addresses
        else:
            length = IPV4_BYTES + len(self.ip_options)
            fields = (4 << 4 | length // 4, 0, length + len(message), self.ident, self.fragment, 64, ICMP, 0)
            ip = struct.pack(">BBHHHBBH", *fields) + addresses + self.ip_options
            ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
        return bytes(12) + (IPV6 if v6 else IPV4).to_bytes(2, "big") + ip + message


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _require(holds: object, why: str) -> None:
    if not holds:
        raise PacketError(why)


def decode(frame: bytes) -> Segment:
    """The segment in a frame. PacketError: a length does not fit, or a checksum is wrong."""
    _require(len(frame) >= ETHERNET_BYTES, "no Ethernet header")
    target_mac, source_mac = frame[:6].hex(":"), frame[6:12].hex(":")
    ethertype, at = int.from_bytes(frame[12:14], "big"), ETHERNET_BYTES
    vlan = None
    if ethertype == VLAN:
        vlan, ethertype = struct.unpack_from(">HH", frame, at)
        at += 4
    _require(ethertype in (IPV4, IPV6), f"ethertype {ethertype:#06x}")
    segment = (_decode_ipv6 if ethertype == IPV6 else _decode_ipv4)(frame[at:])
    return segment.but(source_mac=source_mac, target_mac=target_mac, vlan=vlan)


def _decode_ipv4(packet: bytes) -> Segment:
    _require(len(packet) >= IPV4_BYTES, "no IPv4 header")
    first, tos, total, ident, fragment, ttl, kind, _ = struct.unpack_from(">BBHHHBBH", packet)
    length = (first & 15) * 4
    no_length = total == 0
    total = total or len(packet)
    _require(first >> 4 == 4 and length >= IPV4_BYTES, "not IPv4")
    _require(total <= len(packet) and total >= length + TCP_BYTES, f"total length {total}, {len(packet)} bytes")
    _require(checksum(packet[:length]) == 0, "IPv4 checksum")
    _require(kind == TCP, f"protocol {kind}")
    source, target = str(ipaddress.ip_address(packet[12:16])), str(ipaddress.ip_address(packet[16:20]))
    segment = _decode_tcp(source, target, packet[12:20], packet[length:total])
    return segment.but(
        ttl=ttl,
        tos=tos,
        ident=ident,
        fragment=fragment,
        no_length=no_length,
        ip_options=packet[IPV4_BYTES:length],
        trailer=packet[total:],
    )


def _decode_ipv6(packet: bytes) -> Segment:
    _require(len(packet) >= IPV6_BYTES, "no IPv6 header")
    first, length, kind, hops = struct.unpack_from(">IHBB", packet)
    no_length = length == 0
    length = length or len(packet) - IPV6_BYTES
    _require(first >> 28 == 6, "not IPv6")
    _require(IPV6_BYTES + length <= len(packet), f"payload length {length}, {len(packet)} bytes")
    at = IPV6_BYTES
    if kind == 0:
        kind, at = packet[at], at + 8 * (1 + packet[at + 1])
    _require(kind == TCP, f"next header {kind}")
    source, target = str(ipaddress.ip_address(packet[8:24])), str(ipaddress.ip_address(packet[24:40]))
    segment = _decode_tcp(source, target, packet[8:40], packet[at : IPV6_BYTES + length])
    return segment.but(
        ttl=hops,
        tos=first >> 20 & 0xFF,
        flow=first & 0xFFFFF,
        no_length=no_length,
        extension=packet[IPV6_BYTES:at],
        trailer=packet[IPV6_BYTES + length :],
    )


def _decode_tcp(source: str, target: str, addresses: bytes, tcp: bytes) -> Segment:
    _require(len(tcp) >= TCP_BYTES, "no TCP header")
    source_port, target_port, seq, ack, offset, flags, window, _, urgent = struct.unpack_from(">HHIIBBHHH", tcp)
    length = (offset >> 4) * 4
    _require(TCP_BYTES <= length <= len(tcp), f"data offset {length} of {len(tcp)} bytes")
    _require(checksum(addresses + struct.pack(">II", len(tcp), TCP) + tcp) == 0, "TCP checksum")
    return Segment(
        source,
        target,
        source_port,
        target_port,
        seq,
        ack,
        Flag(flags),
        window,
        tcp[TCP_BYTES:length],
        tcp[length:],
        urgent=urgent,
        reserved=offset & 15,
    )
