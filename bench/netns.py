# SPDX-License-Identifier: MIT
"""Network namespaces of the benchmark's own: loopback with the MTU of an Ethernet, and plain congestion control.

The machine's own loopback (MTU 65536) and its congestion control (BBR paces) distort what is measured: README.md.
The program starts itself again under unshare(1), so the namespace ends with it and leaves nothing behind. The mount
namespace, too, is its own: for a bpffs that the machine does not see.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.scenarios import Link

MTU: Final = 1500  # bytes
LOOPBACK_MTU: Final = 65_536  # of the loopback as every machine has it
CONGESTION: Final = ("cubic", "reno")  # the first that the namespace may use
PORTS: Final = "10000 65535"  # one request per connection: tens of thousands of ports rest in TIME_WAIT
CLIENT: Final = "10.88.0.1"  # of the pair
SERVER: Final = "10.88.0.2"
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where the servers of a row run. Clients, the load generator among them, are in our own namespace."""

    address: str
    interface: str  # that requests arrive at
    mtu: int
    enter: tuple[str, ...] = ()  # what precedes the command line of a server


def enter(script: Path, arguments: Sequence[str]) -> None:
    """Start ``script`` again inside new namespaces, unless we are inside. Does not return when it does so.

    Without root a user namespace is made around them. Raises OSError when unshare is not there.
    """
    if os.environ.get(_INSIDE) == "1":
        return
    unshare = shutil.which("unshare")
    if unshare is None:
        raise OSError("unshare (package util-linux) is not installed")
    own_user = () if os.geteuid() == 0 else ("--map-current-user", "--keep-caps")
    command = [unshare, "--net", "--mount", *own_user, "--", sys.executable, str(script), *arguments]
    os.execve(unshare, command, {**os.environ, _INSIDE: "1"})


def configure() -> Network:
    """Bring the loopback of our namespace up. Raises OSError when we are not inside one."""
    if os.environ.get(_INSIDE) != "1":
        raise OSError("not inside the benchmark's network namespace")
    _set_mtu(MTU)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0)))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
    (_SYSCTL / "ip_local_port_range").write_text(PORTS)
    return Network(MTU, _choose_congestion())


def mount_bpffs(folder: Path) -> str:
    """Mount a bpffs there, in our mount namespace only. "" when it is not permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(("mount", "-t", "bpf", "bpf", str(folder)), capture_output=True, check=False)
    return str(folder) if done.returncode == 0 else ""


@contextlib.contextmanager
def place(link: Link) -> Iterator[Place]:
    """Where the servers of a row run. Raises OSError when it cannot be made."""
    match link:
        case "lo":
            yield Place("127.0.0.1", "lo", MTU)
        case "lo-65536":
            _set_mtu(LOOPBACK_MTU)
            try:
                yield Place("127.0.0.1", "lo", LOOPBACK_MTU)
            finally:
                _set_mtu(MTU)
        case "veth":
            with _pair() as found:
                yield found


@contextlib.contextmanager
def _pair() -> Iterator[Place]:
    """A second namespace for servers, joined to ours by a veth pair. It ends with the process that holds it."""
    hold = ("unshare", "--net", "--", "sh", "-c", "echo; read _")
    with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as holder:
        try:
            assert holder.stdin is not None
            assert holder.stdout is not None
            holder.stdout.readline()  # it is in its namespace
            inside = ("nsenter", f"--net=/proc/{holder.pid}/ns/net", "--")
            _run("ip", "link", "add", "bench-client", "type", "veth", "peer", "name", "bench-server",
                 "netns", str(holder.pid))  # fmt: skip
            for prefix, end, address in (((), "bench-client", CLIENT), (inside, "bench-server", SERVER)):
                _run(*prefix, "ip", "addr", "add", f"{address}/24", "dev", end)
                _run(*prefix, "ip", "link", "set", end, "mtu", str(MTU), "up")
            _run(*inside, "ip", "link", "set", "lo", "up")
            congestion = (_SYSCTL / "tcp_congestion_control").read_text().strip()
            for name, value in (("tcp_congestion_control", congestion), ("ip_local_port_range", PORTS)):
                _run(*inside, "sh", "-c", f"echo {value} >{_SYSCTL / name}")
            yield Place(SERVER, "bench-server", MTU, inside)
            _run("ip", "link", "delete", "bench-client")
        finally:
            holder.kill()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def _set_mtu(mtu: int) -> None:
    """Of the loopback in our namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si12x", b"lo", mtu))


def _choose_congestion() -> str:
    setting = _SYSCTL / "tcp_congestion_control"
    for name in CONGESTION:
        try:
            setting.write_text(name)
        except OSError:
            continue  # the machine does not allow it to a namespace: tcp_allowed_congestion_control
        return name
    return setting.read_text().strip()
