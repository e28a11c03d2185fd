# SPDX-License-Identifier: MIT
"""A network namespace of the benchmark's own: loopback with the MTU of an Ethernet, and plain congestion control.

The machine's own loopback (MTU 65536) and its congestion control (BBR paces) distort what is measured: README.md.
The program starts itself again under unshare(1), so the namespace ends with it and leaves nothing behind.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MTU: Final = 1500  # bytes
CONGESTION: Final = ("cubic", "reno")  # the first that the namespace may use
_INSIDE: Final = "TUX_BENCH_NAMESPACE"
_SIOCSIFMTU: Final = 0x8922  # netdevice(7)
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1
_SYSCTL: Final = Path("/proc/sys/net/ipv4")


@dataclass(frozen=True, slots=True)
class Network:
    """What the namespace is set to."""

    mtu: int
    congestion: str


def enter(script: Path, arguments: Sequence[str]) -> None:
    """Start ``script`` again inside a new namespace, unless we are inside one. Does not return when it does so.

    Without root a user namespace is made around it. Raises OSError when unshare is not there.
    """
    if os.environ.get(_INSIDE) == "1":
        return
    unshare = shutil.which("unshare")
    if unshare is None:
        raise OSError("unshare (package util-linux) is not installed")
    own_user = () if os.geteuid() == 0 else ("--map-current-user", "--keep-caps")
    command = [unshare, "--net", *own_user, "--", sys.executable, str(script), *arguments]
    os.execve(unshare, command, {**os.environ, _INSIDE: "1"})


def configure() -> Network:
    """Bring the loopback of our namespace up. Raises OSError when we are not inside one."""
    if os.environ.get(_INSIDE) != "1":
        raise OSError("not inside the benchmark's network namespace")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16si12x", b"lo", MTU)
        fcntl.ioctl(control, _SIOCSIFMTU, request)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0)))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
    # One request per connection: tens of thousands of ports rest in TIME_WAIT.
    (_SYSCTL / "ip_local_port_range").write_text("10000 65535")
    return Network(MTU, _choose_congestion())


def _choose_congestion() -> str:
    setting = _SYSCTL / "tcp_congestion_control"
    for name in CONGESTION:
        try:
            setting.write_text(name)
        except OSError:
            continue  # the machine does not allow it to a namespace: tcp_allowed_congestion_control
        return name
    return setting.read_text().strip()
