# SPDX-License-Identifier: MIT
"""What the choice of interfaces asks about this machine."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from pathlib import Path
from typing import Final

from tux.kernel import load
from tux.kernel.interfaces import Interface, interfaces

BPF_FS_MAGIC: Final = 0xCAFE4A11
"""linux/magic.h."""
STATFS_BYTES: Final = 256
"""Room for struct statfs, which has 120 bytes; its first word is the type."""

CONNTRACK: Final = Path("/proc/sys/net/netfilter")
PROBE_SECONDS: Final = 1.0
"""How long a connection over lo may take."""


class ThisHost:
    """`tux.kernel.choice.Host` of the machine, and of the network namespace of this process."""

    def can_load(self) -> str:
        return load.can_load()

    def is_bpffs(self, path: str) -> bool:
        return is_bpffs(path)

    def interfaces(self) -> list[Interface]:
        return interfaces()

    def tracks_loopback(self) -> bool:
        return tracks_loopback()


def is_bpffs(path: str) -> bool:
    """Is a bpffs mounted there? (statfs(2))"""
    room = ctypes.create_string_buffer(STATFS_BYTES)
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(path), room) != 0:
        return False
    return bool(struct.unpack_from("=q", room.raw)[0] == BPF_FS_MAGIC)


def tracks_loopback(folder: Path = CONNTRACK) -> bool:
    """Is there an entry of connection tracking while a TCP connection over lo is open, and does it mind sequence
    numbers? Only so can be told: the tracking of a namespace begins with the first rule that asks for it."""
    try:
        if int((folder / "nf_conntrack_tcp_be_liberal").read_text()):
            return False
        with socket.socket() as server:
            server.settimeout(PROBE_SECONDS)
            server.bind(("127.0.0.1", 0))
            server.listen(1)
            with socket.create_connection(server.getsockname(), PROBE_SECONDS):
                return int((folder / "nf_conntrack_count").read_text()) > 0
    except (OSError, ValueError):
        return False  # no tracking in this kernel, or no lo to connect over
