# SPDX-License-Identifier: MIT
"""SYN-ACKs, which make entries. A test run has no socket, so these are real handshakes over the `lo` of the rig's
namespace, with the programs attached to it."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.unit.kernel.programs.cases import State
from tests.unit.kernel.programs.packets import SYN, Segment, mss, window_scale
from tests.unit.kernel.programs.rig import LISTENER, LOOPBACK, WORKER, Rig, boot_ns, tuple_of
from tux.kernel.attach import DIRECTIONS, Direction, attach
from tux.kernel.worth import PAUSED

BOTH: Final = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
HOST: Final = "127.0.0.1"
LINK_LOCAL: Final = "fe80::1"
PATIENCE: Final = 10.0

HERE, ELSEWHERE = "10.1.2.1", "10.1.2.3"
"""An address of the namespace's, and nobody's: what is sent to that by way of `lo` is answered by nobody. (Frames from
a packet socket do not reach 127.0.0.1.)"""
NOWHERE: Final = "00:00:00:00:00:00"
"""Hardware address of `lo`."""

SO_COOKIE, TCP_MD5SIG, IPPROTO_MPTCP = 57, 14, 262

MTU: Final = 1500
TIMESTAMPS: Final = 12
"""Bytes of them in each segment."""
FLAGS: Final = {"SYN": 0x02, "SYN-ACK": 0x12}
ECE, CWR = 0x40, 0x80
RECORD_ROUTE: Final = bytes((7, 7, 4, 0, 0, 0, 0, 0))
"""RFC 791 section 3.1, with room for one address."""

Setup = Callable[[socket.socket], object]


@dataclass
class Shown:
    """A segment as the wire had it."""

    seq: int
    ack: int
    flags: int
    """CWR and ECE included, the third bit of AccECN not."""
    window: int
    mss: int
    scale: int
    """-1: not offered."""
    ttl: int
    tos: int
    flow: bytes
    """IPv6: the first four bytes."""


@dataclass
class Handshake:
    """What was seen of one connection."""

    cookie: int
    syn: Shown
    synack: Shown
    entry: dict[str, int]
    """Empty: there is none."""
    counts: dict[str, int]
    """Counters of what became of SYN-ACKs, those that changed."""


def shown(frame: bytes, port: int) -> Shown | None:
    """None: it is not of a connection to this port."""
    v6 = frame[12:14] == b"\x86\xdd"
    ip = frame[14:]
    tcp = ip[40 if v6 else (ip[0] & 15) * 4 :]
    if len(tcp) < 20 or ip[6 if v6 else 9] != socket.IPPROTO_TCP or port not in struct.unpack_from(">HH", tcp):
        return None
    seq, ack, offset, flags, window = struct.unpack_from(">IIBBH", tcp, 4)
    options, mss, scale = tcp[20 : (offset >> 4) * 4], 0, -1
    while options and options[0] != 0:
        size = 1 if options[0] == 1 else options[1]
        if options[0] == 2:
            mss = int.from_bytes(options[2:4], "big")
        elif options[0] == 3:
            scale = options[2]
        options = options[size:]
    tos = int.from_bytes(ip[:2], "big") >> 4 & 255 if v6 else ip[1]
    return Shown(seq, ack, flags, window, mss, scale, ip[7 if v6 else 8], tos, ip[:4] if v6 else b"")


def nothing(_: socket.socket) -> None:
    pass


class Network:
    """The rig's namespace with the programs at its `lo`."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._stack = contextlib.ExitStack()
        self._attach(*DIRECTIONS)

    def _attach(self, *directions: Direction) -> None:
        for direction in directions:
            self._stack.enter_context(attach(self.rig.tier.programs[f"tux_{direction}"], LOOPBACK, direction))

    def close(self) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def only(self, direction: Direction) -> Iterator[None]:
        """The other program is not there for a while."""
        self._stack.close()
        self._attach(direction)
        try:
            yield
        finally:
            self._stack.close()
            self._attach(*DIRECTIONS)

    @contextlib.contextmanager
    def sysctl(self, name: str, value: int) -> Iterator[None]:
        """For a while. Skips where the kernel does not know this value."""
        file = Path(f"/proc/sys/net/ipv4/{name}")
        before = file.read_text()
        try:
            file.write_text(str(value))
        except OSError as error:
            pytest.skip(f"{name} = {value}: {error.strerror}")
        try:
            yield
        finally:
            file.write_text(before)

    def connect(
        self,
        host: str = HOST,
        *,
        is_ours: bool = True,
        server: Setup = nothing,
        client: Setup = nothing,
        protocol: int = 0,
    ) -> Handshake:
        """From a client to a listening socket. server, client: what is said to these; protocol: of the client."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        scope = (0, LOOPBACK) if host == LINK_LOCAL else ()
        with (
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire,
            socket.socket(family) as listener,
            socket.socket(family, socket.SOCK_STREAM, protocol) as caller,
        ):
            wire.bind(("lo", 3))
            wire.settimeout(PATIENCE)
            listener.bind((host if not scope else "::", 0))  # which would be bound to the device, too
            port = listener.getsockname()[1]
            server(listener)
            listener.listen(8)
            self.rig.open_port(port)
            if is_ours:
                own = self.rig.layouts["tux_kernel_listener"].pack(worker=WORKER, listener=LISTENER)
                self.rig.maps["listeners"].update(listener.fileno(), own)
            client(caller)
            caller.settimeout(PATIENCE)
            before = self._counted()
            caller.connect((host, port, *scope))
            accepted, remote = listener.accept()
            with accepted:
                cookie = int.from_bytes(accepted.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")
                entry = self.rig.conn(tuple_of(host, remote[0].partition("%")[0], port, remote[1])) or {}
            now = self._counted()
            syn, synack = (first(wire, port, flags) for flags in FLAGS.values())
        counts = {name: now[name] - count for name, count in before.items() if now[name] != count}
        return Handshake(cookie, syn, synack, entry, counts)

    def offer(self, options: bytes, *, times: int = 1) -> tuple[dict[str, int], dict[str, int], list[Shown]]:
        """A SYN of a client that does not go on. The entry (empty: there is none), counters that changed, SYN-ACKs."""
        with (
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire,
            socket.create_server((HERE, 0)) as listener,
        ):
            wire.bind(("lo", 3))
            wire.settimeout(PATIENCE)
            port = listener.getsockname()[1]
            self.rig.open_port(port)
            own = self.rig.layouts["tux_kernel_listener"].pack(worker=WORKER, listener=LISTENER)
            self.rig.maps["listeners"].update(listener.fileno(), own)
            before = self._counted()
            packet = Segment(ELSEWHERE, HERE, 4000, port, 1000, 0, SYN, options=options, target_mac=NOWHERE)
            seen = []
            for _ in range(times):
                wire.send(packet.encode())
                seen.append(first(wire, port, FLAGS["SYN-ACK"]))
            entry = self.rig.conn(tuple_of(HERE, ELSEWHERE, port, 4000)) or {}
            now = self._counted()
        return entry, {name: now[name] - count for name, count in before.items() if now[name] != count}, seen

    def _counted(self) -> dict[str, int]:
        values = self.rig.maps["counters"].sums(self.rig.layouts["tux_kernel_counters"])
        return {name: value for name, value in values.items() if name.startswith("open")}


def first(wire: socket.socket, port: int, flags: int) -> Shown:
    """The first segment of that kind."""
    while True:
        found = shown(wire.recv(65536), port)
        if found is not None and found.flags & 0x12 == flags:
            return found


@pytest.fixture(scope="module")
def network(rig: Rig) -> Iterator[Network]:
    rig.reset()
    with rig.space:
        subprocess.run(["ip", "link", "set", "lo", "mtu", str(MTU)], check=True)
        subprocess.run(["ip", "addr", "add", f"{LINK_LOCAL}/64", "dev", "lo", "nodad"], check=True)
        subprocess.run(["ip", "addr", "add", f"{HERE}/32", "dev", "lo"], check=True)
        subprocess.run(["ip", "route", "add", ELSEWHERE, "dev", "lo"], check=True)
        network = Network(rig)
        yield network
        network.close()


@BOTH
def test_the_entry(network: Network, host: str) -> None:
    before = boot_ns()
    seen = network.connect(host)
    after = boot_ns()
    entry, syn, synack = seen.entry, seen.syn, seen.synack
    assert seen.counts == {"opened": 1}
    assert entry["cookie"] == seen.cookie
    assert entry["iss"] == synack.seq + 1
    assert entry["irs"] == synack.ack == syn.seq + 1
    assert (entry["out_next"], entry["in_next"]) == (entry["iss"], entry["irs"])
    assert (entry["una"], entry["stack_ack"]) == (entry["iss"], entry["irs"])
    assert (entry["worker"], entry["listener"], entry["ifindex"]) == (WORKER, LISTENER, LOOPBACK)
    assert entry["mss"] == MTU - (60 if ":" in host else 40) - TIMESTAMPS
    assert entry["wscale"] == syn.scale > 0
    assert entry["window"] == synack.window >> synack.scale
    assert (entry["ttl"], entry["tos"]) == (synack.ttl, 0)
    assert entry["flow"] == int.from_bytes(synack.flow, "little")
    assert entry["proven"] == 65535
    assert entry["state"] == State.TIMESTAMPS
    assert entry["ts_base"] == entry["ts_last"] != 0
    assert before <= entry["opened_ns"] <= after
    assert entry["opened_ns"] == entry["passed_ns"] <= entry["last_ns"]
    for name in ("d_in", "d_out", "answer_id", "probe_len", "request_len", "answer_len"):
        assert entry[name] == 0, name


@BOTH
def test_without_timestamps(network: Network, host: str) -> None:
    with network.sysctl("tcp_timestamps", 0):
        entry = network.connect(host).entry
    assert (entry["state"], entry["ts_base"], entry["ts_last"]) == (0, 0, 0)
    assert entry["mss"] == MTU - (60 if ":" in host else 40)


@BOTH
def test_without_window_scale(network: Network, host: str) -> None:
    with network.sysctl("tcp_window_scaling", 0):
        seen = network.connect(host)
    assert seen.syn.scale == -1
    assert (seen.entry["wscale"], seen.entry["window"]) == (0, seen.synack.window)


@pytest.mark.parametrize(("server", "client"), [(900, 1000), (1000, 900)])
def test_the_smaller_mss_counts(network: Network, server: int, client: int) -> None:
    def limit(size: int) -> Setup:
        return lambda sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, size)

    seen = network.connect(server=limit(server), client=limit(client))
    assert (seen.synack.mss, seen.syn.mss) == (server, client)
    assert seen.entry["mss"] == 900 - TIMESTAMPS


def test_what_the_socket_sends_with(network: Network) -> None:
    """ECN is agreed on, and none of its bits are in what is kept."""

    def prepare(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 37)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x28)

    with network.sysctl("tcp_ecn", 1):
        seen = network.connect(server=prepare)
    assert seen.synack.flags & (ECE | CWR) == ECE
    assert seen.counts == {"opened": 1}
    assert (seen.entry["ttl"], seen.entry["tos"]) == (seen.synack.ttl, seen.synack.tos) == (37, 0x28)


def test_what_an_ipv6_socket_sends_with(network: Network) -> None:
    def prepare(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 37)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0x28)

    entry = network.connect("::1", server=prepare).entry
    assert entry["ttl"] == 37
    assert int.from_bytes(entry["flow"].to_bytes(4, "little"), "big") >> 20 == 0x628


def test_a_client_of_multipath_tcp(network: Network) -> None:
    """It falls back to plain TCP, since our listeners know nothing else."""
    try:
        seen = network.connect(protocol=IPPROTO_MPTCP)
    except OSError as error:
        pytest.skip(f"MPTCP: {error.strerror}")
    assert seen.counts == {"opened": 1}
    assert seen.entry["mss"] == MTU - 40 - TIMESTAMPS


@pytest.mark.parametrize(
    ("options", "size", "scale"),
    [
        (b"", 536, 0),  # RFC 9293 section 3.7.1
        (mss(13), 13, 0),
        (mss(1400) + window_scale(14), 1400, 14),
        (mss(1400) + b"\x22\x04\xab\xcd", 1400, 0),
    ],
    ids=["no option", "least MSS", "largest scale", "an unknown option of the client's"],
)
def test_offers_that_are_taken(network: Network, options: bytes, size: int, scale: int) -> None:
    entry, counts, _ = network.offer(options)
    assert counts == {"opened": 1}
    assert (entry["mss"], entry["wscale"], entry["state"]) == (size, scale, 0)


def test_a_syn_that_comes_again(network: Network) -> None:
    """So does its SYN-ACK, which changes nothing."""
    entry, counts, seen = network.offer(mss(1400), times=2)
    assert seen[0].seq == seen[1].seq == entry["iss"] - 1
    assert counts == {"opened": 1}


class TestLeftAlone:
    """No entry is made."""

    def test_somebody_elses_socket(self, network: Network) -> None:
        seen = network.connect(is_ours=False)
        assert (seen.entry, seen.counts) == ({}, {})

    def test_a_socket_that_is_bound_to_a_device(self, network: Network) -> None:
        seen = network.connect(server=lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0"))
        assert (seen.entry, seen.counts) == ({}, {})

    @BOTH
    def test_a_syn_cookie(self, network: Network, host: str) -> None:
        with network.sysctl("tcp_syncookies", 2):
            seen = network.connect(host)
        assert (seen.entry, seen.counts) == ({}, {})

    def test_a_pause(self, network: Network) -> None:
        network.rig.write("control", paused=PAUSED)
        try:
            seen = network.connect()
        finally:
            network.rig.write("control", paused=0)
        assert (seen.entry, seen.counts) == ({}, {"open_paused": 1})

    def test_a_syn_that_was_not_seen(self, network: Network) -> None:
        with network.only("egress"):
            seen = network.connect()
        assert (seen.entry, seen.counts) == ({}, {"open_unknown": 1})

    def test_signatures(self, network: Network) -> None:
        """TCP-MD5 (RFC 2385): what is sent must be signed, which the programs cannot do."""
        address = struct.pack("=HH4s120x", socket.AF_INET, 0, socket.inet_aton(HOST))
        key = address + struct.pack("=BBHi80s", 0, 0, 4, 0, b"key!")

        def sign(sock: socket.socket) -> None:
            try:
                sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, key)
            except OSError as error:
                if error.errno != errno.ENOPROTOOPT:
                    raise
                pytest.skip("this kernel has no TCP-MD5 (CONFIG_TCP_MD5SIG)")

        seen = network.connect(server=sign, client=sign)
        assert (seen.entry, seen.counts) == ({}, {"open_options": 1})

    @pytest.mark.parametrize("options", [mss(12), mss(1400) + window_scale(15)], ids=["a tiny MSS", "a scale over 14"])
    def test_offers_of_nonsense(self, network: Network, options: bytes) -> None:
        entry, counts, _ = network.offer(options)
        assert (entry, counts) == ({}, {"open_options": 1})

    def test_link_local_addresses(self, network: Network) -> None:
        seen = network.connect(LINK_LOCAL)
        assert (seen.entry, seen.counts) == ({}, {"open_options": 1})

    def test_ip_options(self, network: Network) -> None:
        """The stack answers to those that a SYN has."""

        def prepare(sock: socket.socket) -> None:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, RECORD_ROUTE)

        seen = network.connect(client=prepare)
        assert (seen.entry, seen.counts) == ({}, {"open_options": 1})
