# SPDX-License-Identifier: MIT
"""A network of the tests' own: two namespaces, joined by a veth pair or by a wire that loses and mixes up packets.

    client -- veth -- server              Shape.DIRECT
    client -- veth -- [wire] -- veth -- server     Shape.WIRE: wire.py runs in a namespace between the two
    client = server                       Shape.LOOPBACK: `lo` of one namespace

A namespace is held by a descriptor and by nothing else, so it is gone when the descriptor is closed and its processes
have ended, also when the test has failed. Nothing is left behind, and the machine's own interfaces are never touched.
The same holds for the bpffs, which is mounted in a mount namespace of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import fcntl
import functools
import ipaddress
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

import tux
from tests import features
from tests.corpus.reader import PATIENCE
from tests.kernel.wire import Wire
from tests.unit.kernel.programs.space import Space
from tux.kernel import attach, sys_bpf
from tux.kernel.btf import Layouts
from tux.kernel.load import read_object
from tux.kernel.netlink import NetlinkError
from tux.kernel.pins import list_sets
from tux.kernel.status import Status, read_all

SIOCETHTOOL: Final = 0x8946
SETTINGS: Final = {"rx": 0x15, "tx": 0x17, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}
"""ETHTOOL_SRXCSUM and so on of <linux/ethtool.h>: each takes a 32-bit 0 or 1."""

RTO_MIN_MS: Final = 20
"""Of the routes over a wire, in place of 200: a lost packet is sent again ten times sooner, so that a test meets
ten times as many losses."""

PATH_MTU: Final = 1300
"""Less than the ends believe, as behind a tunnel; over the 1280 that every IPv6 network takes."""

COMMAND_SECONDS: Final = 30
"""What a command of the lab may take."""

START_SECONDS: Final = 60.0
"""What the start of a server may take: the kernel looks at every way through the programs, and waits for processors."""


class Namespace(Space):
    """A network namespace with reno as congestion control. Within a `with` block the calling thread is in it, so are
    the sockets that it makes and the processes that it starts there; both stay in it."""

    def __init__(self) -> None:
        super().__init__()
        with self:
            sysctl("ipv4/tcp_congestion_control", "reno")  # the only one that every namespace may choose
            sysctl("ipv6/conf/default/accept_dad", "0")
            sysctl("ipv6/conf/all/accept_dad", "0")
            sysctl("ipv4/ip_local_port_range", "1024 65535")

    @property
    def path(self) -> str:
        """Of this process's descriptor, for `ip` and for nsenter(1)."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"


def sysctl(name: str, value: str) -> None:
    """Set net.NAME of the namespace that the calling thread is in."""
    Path(f"/proc/sys/net/{name}").write_text(value)


def _ip(*lines: str) -> None:
    """Commands of ip(8), in the namespace that the calling thread is in. Names that are long enough are not taken for
    its abbreviations."""
    text = "\n".join(lines) + "\n"
    done = subprocess.run(["ip", "-batch", "-"], input=text, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    if done.returncode != 0:
        raise OSError(f"ip: {done.stderr.strip()} in {text!r}")


def offload(interface: str, **settings: bool) -> None:
    """Set offloads of an interface in the namespace of the calling thread: rx, tx (checksums), tso, gso, gro."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name, value in settings.items():
            argument = ctypes.create_string_buffer(struct.pack("II", SETTINGS[name], value))
            request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(argument))
            fcntl.ioctl(sock, SIOCETHTOOL, request)


class Shape(enum.Enum):
    """How client and server are joined."""

    DIRECT = "direct"
    WIRE = "wire"
    ROUTED = "routed"
    """By way of a router, whose network towards the client takes packets of PATH_MTU bytes only. Neither end knows."""
    LOOPBACK = "loopback"


@dataclass(frozen=True)
class Net:
    """What the network of a test is like."""

    shape: Shape = Shape.DIRECT
    family: int = 4
    """IP version."""
    mtu: int = 1500
    offloads: bool = True
    """Checksums, segmentation (TSO) and merging (GRO) left to the interfaces. veth then carries frames without
    checksums, and larger than its MTU."""
    congestion: str = "cubic"
    """Of the routes; the loopback has reno."""

    def __str__(self) -> str:
        offloads = "offloads" if self.offloads else "plain"
        return f"{self.shape.value}-v{self.family}-{self.mtu}-{offloads}-{self.congestion}"

    @property
    def mss(self) -> int:
        """Bytes of a full segment with timestamps."""
        return self.mtu - (20 if self.family == 4 else 40) - 20 - 12


HOSTS: Final = {4: ("10.77.0.1", "10.77.0.2"), 6: ("fd77::1", "fd77::2")}
"""Client and server."""

LOOPBACK: Final = {4: "127.0.0.1", 6: "::1"}


@dataclass
class Lab:
    """The network, the servers in it, and the ways to ask about them. Made by `open_lab`."""

    net: Net
    client: Namespace
    server: Namespace
    interface: str
    """Of the server."""
    address: str
    """Of the server."""
    wire: Wire | None
    folder: Path
    """For files of the lab; workers may read it."""
    _mounts: str = ""
    """Path of the mount namespace with the bpffs; none yet when empty."""
    _pins: int = -1
    """Descriptor of the folder of the bpffs."""
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def connect(
        self,
        address: tuple[str, int],
        *,
        receive_buffer: int = 0,
        clamp: int = 0,
        blocking: bool = True,
        nodelay: bool = True,
    ) -> socket.socket:
        """A connection from the client's namespace (not blocking: it may not be complete yet). receive_buffer and
        clamp: bytes, for windows that are small."""
        with self.client:
            sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        try:
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if clamp:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, clamp)
            if nodelay:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(PATIENCE if blocking else 0)
            with contextlib.suppress(BlockingIOError):
                sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    @contextlib.contextmanager
    def serve(
        self,
        site: Path,
        *,
        tier: bool,
        config: str = "",
        kernel: str = "",
        mode: str = "on",
        listen: Sequence[str] = (),
        stops: bool = True,
        altered: str = "",
        **options: Any,
    ) -> Iterator[tux.Server]:
        """A server of `site` in the server's namespace; one worker and no access log unless told. config: TOML that is
        put behind [server]; kernel: lines for its table [kernel]; mode: of it; stops: it must end
        well afterwards (False: the test kills it); altered: Python that its processes run first."""
        address = f"[{self.address}]:0" if self.net.family == 6 else f"{self.address}:0"
        settings: dict[str, Any] = {
            "workers": 1, "access_log": "off", "listen": list(listen) or [address], "timeout": START_SECONDS, **options
        }  # fmt: skip
        args: list[str] = []
        if tier:
            args = ["--kernel", mode, "--kernel-interface", self.interface]
            kernel = f'[kernel]\nbpffs = "{self.bpffs}"\n{kernel}\n'
        elif supports_tier():
            args = ["--kernel", "off"]
        file = self.folder / f"tux-{len(list(self.folder.iterdir()))}.toml"
        file.write_text(f"[server]\n{config}\n{kernel if tier else ''}\n[[site]]\nroot = {json.dumps(str(site))}\n")
        program = [sys.executable, "-c", f"{altered}\nfrom tux.cli import main\nmain()"] if altered else TUX
        server = tux.Server(args=args, command=[*self._enter(), *program], config=str(file), **settings)
        with self.server:
            server.start()
        try:
            yield server
            if stops:
                code = server.stop()
                said = server.stderr_text()
                assert code == 0, said
                assert "Traceback" not in said, said
                assert "leaked" not in said, said
        finally:
            server._kill()

    def tux(self, *arguments: str, check: bool = True) -> str:
        """Run `tux ARGUMENTS` where the server is: its standard output."""
        with self.server:
            done = subprocess.run(
                [*self._enter(), *TUX, *arguments], capture_output=True, text=True, timeout=COMMAND_SECONDS
            )
        if check:
            assert done.returncode == 0, f"tux {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def status(self, pid: int) -> Status:
        """What `tux kernel status` would say about the server with this pid."""
        (found,) = [one for one in self.statuses() if one.pid == pid]
        return found

    def statuses(self) -> list[Status]:
        """What it would say about all servers of this network."""
        return read_all(f"/proc/self/fd/{self._pins}")

    def set_control(self, pid: int, name: str, value: int) -> None:
        """Tell the programs of that server something, as its supervisor would."""
        (found,) = (one for one in list_sets(f"/proc/self/fd/{self._pins}") if one.pid == pid)
        with contextlib.closing(found.map("control")) as control, contextlib.closing(control.mmap()) as area:
            Layouts(read_object().btf)["tux_kernel_control"].write(memoryview(area), name, value)

    def remove_pins(self) -> None:
        """As somebody would by hand: `rm -r BPFFS/tux`."""
        shutil.rmtree(f"/proc/self/fd/{self._pins}/tux")

    def attached(self) -> dict[str, int]:
        """How many programs are at the server's interface, by the way in which they are."""
        found = dict.fromkeys(("tcx", "clsact"), 0)
        with self.server:
            index = socket.if_nametoindex(self.interface)
            if attach.has_tcx(index):
                found["tcx"] = sum(len(sys_bpf.tcx_programs(index, direction)) for direction in attach.DIRECTIONS)
            with contextlib.suppress(NetlinkError):  # there is no clsact
                found["clsact"] = sum(one.ours for one in attach.filters(index))
        return found

    @property
    def bpffs(self) -> Path:
        """The folder of the bpffs, in the mount namespace of the server."""
        if not self._mounts:
            self._mounts, self._pins = self._stack.enter_context(_bpffs(self.folder / "bpffs"))
        return self.folder / "bpffs"

    def _enter(self) -> list[str]:
        """What must precede a command that is to see the bpffs. nsenter(1) replaces itself, so the pid stays."""
        return ["nsenter", f"--mount={self._mounts}", "--"] if self._mounts else []

    def close(self) -> None:
        self._stack.close()


def tcp_counters(space: Namespace) -> dict[str, int]:
    """The kernel's counters of a namespace: "Tcp.RetransSegs", "TcpExt.PAWSEstab" and so on."""
    found: dict[str, int] = {}
    with space:
        for file in ("snmp", "netstat"):
            lines = Path(f"/proc/thread-self/net/{file}").read_text().splitlines()
            for names, values in zip(lines[::2], lines[1::2], strict=True):
                group, _, rest = names.partition(": ")
                pairs = zip(rest.split(), values.split()[1:], strict=True)
                found |= {f"{group}.{name}": int(value) for name, value in pairs}
    return found


TUX: Final = [sys.executable, "-m", "tux"]

CLSACT: Final = "from tux.kernel import attach\nattach.has_tcx = lambda _: False"
"""For `Lab.serve(altered=)`: as on kernels before 6.6."""


@contextlib.contextmanager
def open_lab(net: Net) -> Iterator[Lab]:
    """Make the network. Skips where it cannot be made."""
    features.require("root")
    features.require("netns")
    if shutil.which("ip") is None:
        pytest.skip("no ip(8) (Debian: iproute2)")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tux-lab-")))
        folder.chmod(0o755)
        server = _space(stack)
        if net.shape is Shape.LOOPBACK:
            with server:
                _ip(f"link set lo mtu {net.mtu}")  # its offloads are fixed
            lab = Lab(net, server, server, "lo", LOOPBACK[net.family], None, folder)
        else:
            client = _space(stack)
            wire = stack.enter_context(_join(net, client, server))
            lab = Lab(net, client, server, "tux-server", HOSTS[net.family][1], wire, folder)
        stack.callback(lab.close)
        yield lab


def _space(stack: contextlib.ExitStack) -> Namespace:
    space = Namespace()
    stack.callback(space.close)
    return space


def _all(on: bool) -> dict[str, bool]:
    """Offloads, in the order in which they can be switched: segmentation needs checksums."""
    return {"rx": on, "tx": on, "tso": on, "gso": on, "gro": on}


@contextlib.contextmanager
def _join(net: Net, client: Namespace, server: Namespace) -> Iterator[Wire | None]:
    if net.shape is Shape.DIRECT:
        with client:
            _ip(f"link add tux-client type veth peer name tux-server netns {server.path}")
        _set_up(net, client, server)
        yield None
        return
    middle = Namespace()
    if net.shape is Shape.ROUTED:
        try:
            _route(net, client, server, middle)
            yield None
        finally:
            middle.close()
        return
    try:
        for space, end, leg in ((client, "tux-client", "leg-client"), (server, "tux-server", "leg-server")):
            with middle:
                sysctl("ipv6/conf/default/disable_ipv6", "1")
                _ip(f"link add {leg} mtu {net.mtu} type veth peer name {end} netns {space.path}", f"link set {leg} up")
                # What goes through the wire are packets as on a cable: real checksums, none larger than the MTU.
                offload(leg, **_all(False))
        _set_up(net, client, server)
        with middle:
            wire = Wire("leg-client", "leg-server", net.mtu)
        with wire:
            yield wire
    finally:
        middle.close()


def _route(net: Net, client: Namespace, server: Namespace, middle: Namespace) -> None:
    """The router answers for each end on the other's link, so that both believe to be neighbours."""
    ends = ((client, "tux-client", "leg-client", PATH_MTU), (server, "tux-server", "leg-server", net.mtu))
    hosts = HOSTS[net.family]
    with middle:
        sysctl("ipv4/ip_forward", "1")
        sysctl("ipv6/conf/all/forwarding", "1")
        _ip("link set lo up", "addr add 10.77.1.1/32 dev lo", "addr add fd77:1::1/128 dev lo nodad")
        for (space, end, leg, mtu), host, other in zip(ends, hosts, reversed(hosts), strict=True):
            _ip(f"link add {leg} mtu {net.mtu} type veth peer name {end} netns {space.path}")
            sysctl(f"ipv4/conf/{leg}/proxy_arp", "1")
            sysctl(f"ipv6/conf/{leg}/proxy_ndp", "1")
            proxy = [f"neigh add proxy {other} dev {leg}"] if net.family == 6 else []
            _ip(f"link set {leg} mtu {mtu} up", f"route add {host} dev {leg}", *proxy)
    _set_up(net, client, server)


def forget_paths(space: Namespace) -> None:
    """What the hosts of a namespace have learned about paths."""
    with space:
        for family in ("-4", "-6"):
            subprocess.run(["ip", family, "route", "flush", "cache"], check=True, timeout=COMMAND_SECONDS)


def _set_up(net: Net, client: Namespace, server: Namespace) -> None:
    for space, end, host in zip((client, server), ("tux-client", "tux-server"), HOSTS[net.family], strict=True):
        prefix = 24 if net.family == 4 else 64
        nodad = "nodad" if net.family == 6 else ""
        repair = f"rto_min {RTO_MIN_MS}ms" if net.shape is Shape.WIRE else ""
        network = ipaddress.ip_network(f"{host}/{prefix}", strict=False)
        with space:
            _ip(
                f"link set {end} mtu {net.mtu} up",
                f"addr add {host}/{prefix} dev {end} noprefixroute {nodad}",
                f"route add {network} dev {end} congctl {net.congestion} {repair}",
            )
            offload(end, **_all(net.offloads))


@contextlib.contextmanager
def _bpffs(folder: Path) -> Iterator[tuple[str, int]]:
    """A bpffs, mounted at this folder in a mount namespace of its own: the path of that namespace, and a descriptor of
    the folder, which leads there from outside. It ends with its descriptors and the processes in it."""
    folder.mkdir()
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", 'mount -t bpf bpf "$0" && echo && read _', folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n", "no bpffs"
        space = os.open(f"/proc/{holder.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        pins = os.open(f"/proc/{holder.pid}/root{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        holder.stdin.close()
        holder.wait()
    try:
        yield f"/proc/{os.getpid()}/fd/{space}", pins
    finally:
        os.close(pins)
        os.close(space)


@functools.cache
def supports_tier() -> bool:
    """Whether this Tux has the tier at all."""
    return "--kernel " in subprocess.run([*TUX, "serve", "--help"], capture_output=True, text=True).stdout


def require_tier() -> None:
    """Skip where the tier cannot be had."""
    if not supports_tier() or "kernel" not in features.FEATURES:
        pytest.skip("kernel: `tux serve` has no --kernel")
    features.require("kernel")
