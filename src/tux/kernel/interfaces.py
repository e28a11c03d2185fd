# SPDX-License-Identifier: MIT
"""The network interfaces of this network namespace: what they are, and which of them carries an address."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final, Literal

from tux.kernel import netlink

NEWLINK, GETLINK, NEWADDR, GETADDR = 16, 18, 20, 22
IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_INFO_KIND = 3, 4, 18, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
ARPHRD_ETHER, ARPHRD_LOOPBACK = 1, 772
IFF_UP = 1

LINK: Final = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, change."""

ADDRESS: Final = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, index."""

Kind = Literal["loopback", "veth", "ethernet", "other"]

Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface."""

    index: int
    name: str
    kind: Kind
    """"ethernet": a network card, of the machine or of a virtual one; "other": bridges, tunnels, VLANs and the like."""
    mtu: int
    up: bool
    addresses: tuple[Address, ...]


def interfaces() -> list[Interface]:
    """All of them, by index. NetlinkError."""
    addresses: dict[int, list[Address]] = {}
    for message in netlink.request(GETADDR, netlink.DUMP, ADDRESS.pack(0, 0, 0, 0, 0), "list the addresses"):
        if message.type == NEWADDR and len(message.body) >= ADDRESS.size:
            _, prefix, _, _, index = ADDRESS.unpack_from(message.body)
            told = netlink.attributes(message.body, ADDRESS.size)
            # On a point-to-point link IFA_ADDRESS is the other end's.
            raw = told.get(IFA_LOCAL) or told.get(IFA_ADDRESS) or b""
            if len(raw) in (4, 16):
                addresses.setdefault(index, []).append(ipaddress.ip_interface((raw, prefix)))
    found = []
    for message in netlink.request(GETLINK, netlink.DUMP, LINK.pack(0, 0, 0, 0, 0), "list the interfaces"):
        if message.type == NEWLINK and len(message.body) >= LINK.size:
            _, kind, index, flags, _ = LINK.unpack_from(message.body)
            told = netlink.attributes(message.body, LINK.size)
            driver = netlink.text(netlink.attributes(told.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b""))
            mtu = int.from_bytes(told.get(IFLA_MTU, b""), "little")
            name = netlink.text(told.get(IFLA_IFNAME, b""))
            mine = tuple(addresses.get(index, ()))
            found.append(Interface(index, name, _kind(kind, driver), mtu, bool(flags & IFF_UP), mine))
    return sorted(found, key=lambda one: one.index)


def _kind(hardware: int, driver: str) -> Kind:
    if hardware == ARPHRD_LOOPBACK:
        return "loopback"
    if hardware != ARPHRD_ETHER:
        return "other"
    if driver == "veth":
        return "veth"
    return "other" if driver else "ethernet"


def interface(name: str) -> Interface:
    """The one of that name. KeyError: there is none. NetlinkError."""
    for found in interfaces():
        if found.name == name:
            return found
    raise KeyError(name)


def carrying(address: str, known: list[Interface] | None = None) -> list[Interface]:
    """The interfaces where packets for a listener's address arrive: those that have it, then the loopback interface,
    which carries what the machine sends to itself. A wildcard ("", "0.0.0.0", "::"): all. Empty: nothing has the
    address. `address` may have a zone ("fe80::1%eth0"). ValueError: it is no IP address; NetlinkError."""
    known = interfaces() if known is None else known
    if not address:
        return known
    wanted = ipaddress.ip_address(address)
    if isinstance(wanted, ipaddress.IPv6Address):
        zone = wanted.scope_id
        if wanted.ipv4_mapped is not None:
            wanted = wanted.ipv4_mapped
        elif zone is not None:
            wanted = ipaddress.IPv6Address(int(wanted))
            known = [found for found in known if zone in (found.name, str(found.index)) or found.kind == "loopback"]
    if wanted.is_unspecified:
        return known
    having = [found for found in known if any(_covers(found, own, wanted) for own in found.addresses)]
    return having and having + [found for found in known if found.kind == "loopback" and found not in having]


def _covers(found: Interface, own: Address, wanted: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    # Linux takes each address of a network that an IPv4 address of the loopback interface is in (127.0.0.0/8) as local.
    if found.kind == "loopback" and wanted.version == 4:
        return wanted in own.network
    return own.ip == wanted
