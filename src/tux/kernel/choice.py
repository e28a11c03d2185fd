# SPDX-License-Identifier: MIT
"""Whether the kernel tier is used, and on which interfaces: the configuration against what the machine has. Pure; what
is asked about the machine is behind `Host`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from tux.config.schema import Kernel
from tux.errors import StartError
from tux.kernel.interfaces import Interface, carrying

AUTO_KINDS: Final = ("loopback", "veth")
"""What `auto` attaches to: interfaces on which nothing but this machine is at the other end."""
KINDS: Final = (*AUTO_KINDS, "ethernet")

WILDCARDS: Final = {"0.0.0.0": 4, "::": 6}  # noqa: S104 - nothing is bound here
"""With the version of IP."""

HEADER_BYTES: Final = 20 + 20 + 12
"""Of a packet beside its payload: IPv4, TCP, timestamps."""
MAX_PACKET_BYTES: Final = 65535
"""Of an IP packet, whatever the interface takes."""


class Host(Protocol):
    """What has to be known about this machine and what this process may do."""

    def can_load(self) -> str:
        """Why this process cannot load the programs; "" when it can."""

    def is_bpffs(self, path: str) -> bool: ...
    def interfaces(self) -> list[Interface]:
        """OSError: not permitted."""

    def tracks_loopback(self) -> bool:
        """Connection tracking looks at packets on lo, and minds sequence numbers."""


@dataclass(frozen=True)
class Choice:
    """What came out."""

    interfaces: tuple[Interface, ...] = ()
    """Empty: the tier is not used."""
    reason: str = ""
    """Why not; "" when it was switched off."""
    usual: bool = False
    """It is the ordinary case, nothing that the user would want to change."""
    warnings: tuple[str, ...] = ()

    @property
    def max_payload(self) -> int:
        """Bytes of the largest answer that fits one packet of one of the interfaces."""
        largest = max((interface.mtu for interface in self.interfaces), default=0)
        return max(0, min(largest, MAX_PACKET_BYTES) - HEADER_BYTES)


def choose(kernel: Kernel, addresses: Sequence[str], host: Host) -> Choice:
    """addresses: of the TCP listeners, numeric. StartError: it is to be on and cannot be."""
    if kernel.mode == "off":
        return Choice()
    choice = _choose(kernel, addresses, host)
    if kernel.mode == "on" and not choice.interfaces:
        raise StartError(f"cannot use the kernel tier: {choice.reason}")
    return choice


def _choose(kernel: Kernel, addresses: Sequence[str], host: Host) -> Choice:
    if not addresses:
        return Choice(reason="there is no TCP address to listen on", usual=True)
    if reason := host.can_load():
        return Choice(reason=reason, usual=True)
    if not host.is_bpffs(kernel.bpffs):
        return Choice(reason=f"{kernel.bpffs} is not a mounted bpffs; mount -t bpf bpf {kernel.bpffs}")
    kinds = KINDS if kernel.mode == "on" else AUTO_KINDS
    try:
        known = host.interfaces()
    except OSError as error:  # a sandbox without netlink(7)
        return Choice(reason=f"the interfaces cannot be listed: {error.strerror or error}")
    if kernel.interface:
        by_name = {interface.name: interface for interface in known}
        found = [by_name[name] for name in kernel.interface if name in by_name]
        if missing := [name for name in kernel.interface if name not in by_name]:
            return Choice(reason=f"there is no interface {missing[0]}")
        if odd := [interface for interface in found if interface.kind not in kinds]:
            return Choice(reason=_not_for(odd[0]))
    else:
        listened = [interface for interface in known if _is_listened_on(interface, addresses)]
        found = [interface for interface in listened if interface.kind in kinds]
        if not found:
            return Choice(reason=_not_for(listened[0]) if listened else "no interface carries the addresses")
    return _beside_conntrack(kernel, found, host)


def _not_for(interface: Interface) -> str:
    if interface.kind == "ethernet":
        return f"{interface.name} is an ethernet interface, which only --kernel on attaches to"
    return f"{interface.name} is neither the loopback interface nor veth nor ethernet"


def _beside_conntrack(kernel: Kernel, found: Sequence[Interface], host: Host) -> Choice:
    """On lo, connection tracking sees both ends of a connection, whose numbers differ after an answer."""
    on_loopback = [interface for interface in found if interface.kind == "loopback"]
    if not on_loopback or not host.tracks_loopback():
        return Choice(tuple(found))
    why = (
        f"connection tracking is in use on {on_loopback[0].name}, and would take answered connections for invalid; "
        "sysctl net.netfilter.nf_conntrack_tcp_be_liberal=1 makes it accept them"
    )
    others = tuple(interface for interface in found if interface.kind != "loopback")
    if kernel.mode == "on":
        return Choice(tuple(found), warnings=(why,))
    return Choice(others, reason=why, warnings=(why,) if others else ())


def _is_listened_on(interface: Interface, addresses: Sequence[str]) -> bool:
    """A wildcard stands for each address that others can reach. Addresses of the link alone (fe80::) have nearly all
    interfaces, also the many on the way to containers."""
    for address in addresses:
        version = WILDCARDS.get(address)
        if version is None and carrying(address, [interface]):
            return True
        if any(own.version == version and not own.ip.is_link_local for own in interface.addresses):
            return True
    return False
