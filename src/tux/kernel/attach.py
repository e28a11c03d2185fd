# SPDX-License-Identifier: MIT
"""Bind a program to the packets that an interface receives or sends.

Two ways. **tcx** (Linux 6.6): a link, which ends with its last descriptor unless it is pinned. **clsact**: a filter of
the traffic control of the interface, which stays until it is removed, and a queueing discipline that holds the filters.
Ours have handles of a range of their own; each says whether Tux made the discipline, which the last one then removes.
In both ways programs of others run beside ours.

For tcx the link is pinned. For clsact it is the program: its id finds the filter again.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self, get_args

from tux.kernel import netlink, sys_bpf
from tux.kernel.interfaces import interfaces

Direction = Literal["ingress", "egress"]
How = Literal["tcx", "clsact"]

DIRECTIONS: Final[tuple[Direction, ...]] = get_args(Direction)

NEWQDISC, DELQDISC, GETQDISC = 36, 37, 38
NEWTFILTER, DELTFILTER, GETTFILTER = 44, 45, 46
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_ID = 6, 7, 8, 11
DIRECT_ACTION: Final = 1
"""TCA_BPF_FLAG_ACT_DIRECT: the program's result is the verdict."""

TC: Final = struct.Struct("=BxxxiIII")
"""struct tcmsg: family, interface, handle, parent, info."""

CLSACT: Final = 0xFFFFFFF1
CLSACT_HANDLE: Final = 0xFFFF0000
PARENTS: Final[dict[Direction, int]] = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}

PRIORITY: Final = 0x7475
"""Of our filters: behind those that people number by hand (1, 2, ...), before those that tc numbers (49152 down)."""

ALL_PROTOCOLS: Final = 0x0300
"""ETH_P_ALL in the order of the network."""

HANDLES: Final = 0x54780000
"""Handles of our filters are HANDLES | number << 1 | MADE."""

MADE: Final = 1
"""The discipline is ours."""

MAX_FILTERS: Final = 256
"""Filters of ours at one interface and direction: one of each server."""


class AttachError(OSError):
    """A program cannot be attached here; the text says why."""

    def __str__(self) -> str:
        return str(self.strerror)


class Filter(NamedTuple):
    """A filter of traffic control."""

    direction: Direction
    handle: int
    priority: int
    program_id: int
    """0: it is no eBPF program."""
    name: str

    @property
    def ours(self) -> bool:
        return self.handle & 0xFFFF0000 == HANDLES and self.priority == PRIORITY and self.program_id > 0


class Attachment:
    """A program at an interface."""

    def __init__(self, how: How, ifindex: int, direction: Direction, fd: int, handle: int = 0) -> None:
        """Owns the descriptor: of the link (tcx), of the program (clsact)."""
        self.how: Final = how
        self.ifindex: Final = ifindex
        self.direction: Final = direction
        self.handle: Final = handle
        self.path: Path | None = None
        """Of the pin."""
        self._fd = fd

    def pin(self, path: str | Path) -> None:
        """Keep it when this process ends; reopen() finds it again. BpfError."""
        sys_bpf.obj_pin(self._fd, os.fspath(path))
        self.path = Path(path)

    def attached(self) -> bool:
        """Does it still see packets? False once the interface is gone or somebody removed it. OSError."""
        if self._fd < 0:
            return False
        if self.how == "tcx":
            return sys_bpf.link_info(self._fd).ifindex != 0
        mine = sys_bpf.prog_info(self._fd).id
        return any(found.handle == self.handle and found.program_id == mine for found in self._filters())

    def detach(self) -> None:
        """End it at once, remove the pin, close the descriptor. May be called twice. OSError."""
        if self._fd < 0:
            return
        if self.how == "tcx":
            sys_bpf.link_detach(self._fd)
        elif self.attached():
            _remove(self.ifindex, self.direction, self.handle)
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Close the descriptor. A tcx link that is not pinned ends so."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _filters(self) -> list[Filter]:
        try:
            return [found for found in filters(self.ifindex) if found.direction == self.direction]
        except netlink.NetlinkError as error:
            if error.errno in (errno.ENODEV, errno.EINVAL):  # no interface; no discipline
                return []
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


def has_tcx(ifindex: int) -> bool:
    """Has the kernel tcx? BpfError: there is no such interface."""
    try:
        sys_bpf.tcx_programs(ifindex, "ingress")
    except sys_bpf.BpfError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    return True


def attach(prog_fd: int, ifindex: int, direction: Direction, how: How | None = None) -> Attachment:
    """Attach a program, by tcx where the kernel has it. Those of others stay where they are. OSError: EEXIST: by tcx a
    program is attached once only; others say why."""
    if how is None:
        how = "tcx" if has_tcx(ifindex) else "clsact"
    if how == "tcx":
        return Attachment("tcx", ifindex, direction, sys_bpf.link_create_tcx(prog_fd, ifindex, direction))
    made = _make_discipline(ifindex)
    try:
        handle = _add(prog_fd, ifindex, direction, made=made)
    except OSError:
        if made:
            _remove_discipline(ifindex)
        raise
    return Attachment("clsact", ifindex, direction, os.dup(prog_fd), handle)


def remove_pinned(path: str | Path, ifindex: int, direction: str) -> bool:
    """Detach what is pinned there, and remove the pin: was it attached? OSError: FileNotFoundError or BpfError (ENOENT)
    when there is no pin."""
    attachment = reopen(path, ifindex, direction)
    if attachment is not None:
        attachment.detach()
        return True
    Path(path).unlink()
    return False


def reopen(path: str | Path, ifindex: int, direction: str) -> Attachment | None:
    """What is pinned there; None: it is attached no longer. The interface must be as when it was attached. BpfError:
    there is no pin (ENOENT). ValueError: no such direction."""
    if direction not in DIRECTIONS:
        raise ValueError(direction)
    fd = sys_bpf.obj_get(os.fspath(path))
    attachment = None
    try:
        kind = sys_bpf.kind_of(fd)
        if kind == "link":
            attachment = Attachment("tcx", ifindex, direction, fd)
        elif kind == "prog":
            wanted = sys_bpf.prog_info(fd).id
            handle = next((f.handle for f in _ours(ifindex) if (f.direction, f.program_id) == (direction, wanted)), 0)
            attachment = Attachment("clsact", ifindex, direction, fd, handle) if handle else None
        if attachment is not None and not attachment.attached():
            attachment = None
        if attachment is not None:
            attachment.path = Path(path)
    finally:
        if attachment is None:
            os.close(fd)
    return attachment


def detach_filters(programs: AbstractSet[int]) -> int:
    """Remove our clsact filters of the programs with these ids, at all interfaces: how many. Unlike a tcx link, a
    filter stays when its pin is removed by hand. OSError."""
    removed = 0
    for interface in interfaces():
        for found in _ours(interface.index):
            if found.program_id in programs:
                _remove(interface.index, found.direction, found.handle)
                removed += 1
    return removed


def filters(ifindex: int) -> list[Filter]:
    """The filters in the clsact discipline of an interface. NetlinkError."""
    found = []
    for direction, parent in PARENTS.items():
        body = TC.pack(0, ifindex, 0, parent, 0)
        for message in netlink.request(GETTFILTER, netlink.DUMP, body, f"list the filters of interface {ifindex}"):
            if message.type != NEWTFILTER or len(message.body) < TC.size:
                continue
            _, index, handle, above, info = TC.unpack_from(message.body)
            if index != ifindex or above != parent:
                continue
            told = netlink.attributes(message.body, TC.size)
            options = netlink.attributes(told.get(TCA_OPTIONS, b""))
            program = int.from_bytes(options.get(TCA_BPF_ID, b""), "little")
            name = netlink.text(options.get(TCA_BPF_NAME, b""))
            found.append(Filter(direction, handle, info >> 16, program, name))
    return found


def _ours(ifindex: int) -> list[Filter]:
    return [found for found in filters(ifindex) if found.ours] if _discipline(ifindex) == "clsact" else []


def _discipline(ifindex: int) -> str:
    """The kind of the discipline at the place of clsact; empty: none."""
    body = TC.pack(0, ifindex, 0, 0, 0)
    for message in netlink.request(GETQDISC, netlink.DUMP, body, "list the queueing disciplines"):
        if message.type == NEWQDISC and len(message.body) >= TC.size:
            _, index, _, parent, _ = TC.unpack_from(message.body)
            if index == ifindex and parent == CLSACT:
                return netlink.text(netlink.attributes(message.body, TC.size).get(TCA_KIND, b""))
    return ""


def _make_discipline(ifindex: int) -> bool:
    """Let there be a clsact discipline. Is it ours: made now, or by an earlier attachment of Tux?"""
    body = TC.pack(0, ifindex, CLSACT_HANDLE, CLSACT, 0) + netlink.attribute(TCA_KIND, b"clsact\0")
    try:
        netlink.request(NEWQDISC, netlink.CREATE | netlink.EXCL, body, f"add clsact to interface {ifindex}")
    except netlink.NetlinkError as error:
        if error.errno == errno.ENOENT:
            raise AttachError(error.errno, f"{error}: the kernel has no clsact (CONFIG_NET_SCH_INGRESS)") from None
        if error.errno != errno.EEXIST:
            raise
    else:
        return True
    kind = _discipline(ifindex)
    if kind != "clsact":
        # With the older "ingress", a filter for egress would be taken for one of ingress.
        raise AttachError(errno.EEXIST, f"interface {ifindex} has a discipline {kind!r} where clsact is needed")
    return any(found.handle & MADE for found in _ours(ifindex))


def _add(prog_fd: int, ifindex: int, direction: Direction, *, made: bool) -> int:
    options = (
        netlink.attribute(TCA_BPF_FD, struct.pack("=I", prog_fd))
        + netlink.attribute(TCA_BPF_NAME, f"tux_{direction}\0".encode())
        + netlink.attribute(TCA_BPF_FLAGS, struct.pack("=I", DIRECT_ACTION))
    )
    told = netlink.attribute(TCA_KIND, b"bpf\0") + netlink.attribute(TCA_OPTIONS, options)
    taken = {found.handle & ~MADE for found in filters(ifindex) if found.direction == direction}
    for number in range(MAX_FILTERS):
        handle = HANDLES | number << 1
        if handle in taken:
            continue
        handle |= MADE if made else 0
        body = TC.pack(0, ifindex, handle, PARENTS[direction], PRIORITY << 16 | ALL_PROTOCOLS) + told
        attempt = f"attach at {direction} of interface {ifindex}"
        try:
            netlink.request(NEWTFILTER, netlink.CREATE | netlink.EXCL, body, attempt)
        except netlink.NetlinkError as error:
            if error.errno == errno.ENOENT:
                raise AttachError(error.errno, f"{error}: no filters by eBPF (CONFIG_NET_CLS_BPF)") from None
            if error.errno != errno.EEXIST:  # another server was faster
                raise
        else:
            return handle
    raise AttachError(errno.EBUSY, f"interface {ifindex} has {MAX_FILTERS} filters of Tux")


def _remove(ifindex: int, direction: Direction, handle: int) -> None:
    body = TC.pack(0, ifindex, handle, PARENTS[direction], PRIORITY << 16 | ALL_PROTOCOLS)
    body += netlink.attribute(TCA_KIND, b"bpf\0")
    try:
        netlink.request(DELTFILTER, 0, body, f"detach from {direction} of interface {ifindex}")
    except netlink.NetlinkError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        return
    if handle & MADE and not filters(ifindex):
        _remove_discipline(ifindex)


def _remove_discipline(ifindex: int) -> None:
    body = TC.pack(0, ifindex, CLSACT_HANDLE, CLSACT, 0)
    try:
        netlink.request(DELQDISC, 0, body, f"remove clsact from interface {ifindex}")
    except netlink.NetlinkError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
            raise
