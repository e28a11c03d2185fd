# SPDX-License-Identifier: MIT
"""The lab itself, without the tier: what TCP repairs is repaired, what is wrong is found, nothing is left behind."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.lab import Net, Shape, open_lab
from tests.kernel.traffic import Answer, Connection, Request, Script, Send, TrafficError, Wait, head
from tests.kernel.wire import IP, Faults, Packet, Rule, ones_sum, parse, with_data, write_checksum
from tests.kernel.world import WIRE, Asker, World, open_world

SMALL = Request(head("/100.bin"), "hot")

FAULTS = Faults(loss=0.02, duplicate=0.02, reorder=0.02, delay=0.02, corrupt=0.02)


@pytest.fixture(scope="module")
def wired() -> Iterator[World]:
    """A server without the tier behind a wire."""
    with open_world(WIRE, tier=False) as world:
        yield world


class TestTraffic:
    @pytest.mark.parametrize("net", [Net(), Net(family=6, mtu=9000, offloads=False), Net(Shape.LOOPBACK)], ids=str)
    def test_without_faults(self, net: Net) -> None:
        with open_world(net, tier=False) as world:
            tally = world.traffic(seed=1, requests=1000)
            assert tally.answers >= 1000
            assert len(tally.moods) >= 8
            assert 0.7 < tally.hot / tally.answers < 0.95

    def test_with_faults(self, wired: World) -> None:
        assert wired.lab.wire is not None
        wired.lab.wire.both(1, FAULTS)
        wired.traffic(seed=2, requests=400)
        counts = wired.lab.wire.counts()
        assert all(counts[name] > 20 for name in ("loss", "duplicate", "reorder", "delay", "corrupt")), counts

    def test_offloads_through_the_wire(self) -> None:
        """Frames without checksums, and larger than the MTU."""
        with open_world(Net(Shape.WIRE), tier=False) as world:
            assert world.lab.wire is not None
            world.lab.wire.both(1, Faults(loss=0.02))
            world.traffic(seed=3, requests=500)
            assert any(int(line.split("len ")[1].split()[0]) > 1500 for line in world.lab.wire.log())


class TestWrongBytesAreFound:
    """The checks of the traffic can fail."""

    ANSWER = Answer(b"HTTP/1.1 200 OK\r\nDate: Wed, 25 Nov 2026 00:00:00 GMT\r\n\r\nbody", 23, closes=False)

    def connection(self, received: bytes, *, closes: bool = False) -> None:
        """One request that is answered so."""
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as sock,
            listener.accept()[0] as peer,
        ):
            script = Script("steady", [Request(b"x", "hot")], [Send((b"x",)), Wait(1)])
            connection = Connection(0, script, sock, [self.ANSWER])
            connection.began = 1_795_564_800  # Wed, 25 Nov 2026 00:00:00 GMT
            connection.advance()
            assert peer.recv(2) == b"x"
            peer.sendall(received)
            if closes:
                peer.close()
            while not connection.is_over:
                connection.read()
                connection.advance()

    def test_the_right_ones_are_not(self) -> None:
        self.connection(self.ANSWER.text)

    @pytest.mark.parametrize("at", [0, 15, 55, -1])
    def test_one_bit(self, at: int) -> None:
        text = bytearray(self.ANSWER.text)
        text[at] ^= 1
        with pytest.raises(TrafficError, match="is wrong"):
            self.connection(bytes(text))

    def test_a_date_of_another_time(self) -> None:
        with pytest.raises(TrafficError, match="Date is"):
            self.connection(self.ANSWER.text.replace(b"2026", b"2025").replace(b"Wed", b"Tue"))

    def test_no_date(self) -> None:
        with pytest.raises(TrafficError, match="Date is"):
            self.connection(self.ANSWER.text.replace(b"Wed", b"Thu"))

    def test_surplus(self) -> None:
        with pytest.raises(TrafficError, match="after the last answer"):
            self.connection(self.ANSWER.text + b"H")

    def test_an_early_end(self) -> None:
        with pytest.raises(TrafficError, match="closed"):
            self.connection(self.ANSWER.text[:-1], closes=True)


class TestWire:
    """Each rule does what it says."""

    def ask_under(self, world: World, *rules: Rule) -> list[str]:
        """One request and its answer, under these rules: the packets."""
        assert world.lab.wire is not None
        with Asker(world) as asker:
            asker.ask(SMALL)
            world.lab.wire.set(rules=rules)
            asker.ask(SMALL)
            log = world.lab.wire.log(asker.port)
            asker.finish()
        return log

    def test_drop(self, wired: World) -> None:
        log = self.ask_under(wired, Rule(to="client", do="drop", starts="HTTP/1.1 200"))
        assert sum(line.endswith("drop") for line in log) == 1
        assert sum("to client" in line and " len 0" not in line for line in log) >= 2

    def test_merge(self, wired: World) -> None:
        """The second request follows the first in one segment, when the first is sent again."""
        assert wired.lab.wire is not None
        first, second = Request(head("/1000.bin"), "hot"), Request(head("/big.bin"), "miss")
        rules = [
            Rule(to="server", do="drop", data=True, again=False, starts="GET /1000"),
            Rule(to="server", do="drop", data=True, again=False, starts="GET /big"),
            Rule(to="server", do="merge", data=True, again=True, starts="GET /1000"),
        ]
        with Asker(wired) as asker:
            wired.lab.wire.set(rules=rules)
            asker.send(first)
            asker.send(second)
            asker.receive(first, second)
            log = wired.lab.wire.log(asker.port)
            asker.finish()
        # (TCP may have done it already.)
        assert any(line.endswith("merge") for line in log), log

    def test_window(self, wired: World) -> None:
        """A window that is smaller than the client's is obeyed."""
        assert wired.lab.wire is not None
        big = Request(head("/big.bin"), "miss")
        with Asker(wired) as asker:
            wired.lab.wire.set(rules=[Rule(to="server", do="window", value=1, times=0, flags=".", port=asker.port)])
            asker.send(big)
            first = asker.sock.recv(1 << 20, socket.MSG_PEEK)
            wired.lab.wire.set()
            asker.receive(big)
        assert len(first) < 64_000

    def test_hold_and_duplicate(self, wired: World) -> None:
        log = self.ask_under(
            wired,
            Rule(to="client", do="hold", starts="HTTP/1.1 200"),
            Rule(to="server", do="duplicate", data=True, again=True),
        )
        assert sum(line.endswith("hold") for line in log) == 1

    def test_corrupt(self, wired: World) -> None:
        log = self.ask_under(wired, Rule(to="server", do="corrupt", data=True, times=2))
        assert sum(line.endswith("corrupt") for line in log) == 2

    def test_every_and_skip(self, wired: World) -> None:
        assert wired.lab.wire is not None
        wired.lab.wire.set(rules=[Rule(to="client", do="drop", data=True, again=False, skip=1, every=3, times=0)])
        with Asker(wired, opened=False) as asker:
            for _ in range(11):
                asker.ask(SMALL)
        counts = wired.lab.wire.counts()
        assert counts["rule 0"] == 4, "the second, fifth, eighth and eleventh"


class TestPackets:
    """Parsing and writing, against what the kernel sends."""

    def test_what_the_kernel_sends_is_right(self, wired: World) -> None:
        """Checksums of ours pass its check: had they not, the request would have to be sent again."""
        assert wired.lab.wire is not None
        with Asker(wired) as asker:
            wired.lab.wire.set(rules=[Rule(to="server", do="window", value=500, times=0, flags=".")])
            for _ in range(5):
                asker.ask(SMALL)
            log = wired.lab.wire.log(asker.port)
        assert sum("to server" in line and " len 0" not in line for line in log) == 5

    @pytest.mark.parametrize("family", [4, 6])
    @pytest.mark.parametrize("size", [0, 1, 2, 7, 1000])
    def test_the_sum_over_a_right_packet_is_zero(self, family: int, size: int) -> None:
        frame = make_frame(family, b"\xa5" * 10)
        packet = parse(frame)
        assert packet is not None
        out = with_data(frame, packet, b"\xa5" * size)
        changed = parse(out)
        assert changed is not None
        assert changed.size == size
        assert checksum_is_right(out, changed, family)
        out[changed.tcp + 14] ^= 0x40
        assert not checksum_is_right(out, changed, family)
        write_checksum(out, changed)
        assert checksum_is_right(out, changed, family)


def make_frame(family: int, data: bytes) -> bytearray:
    tcp = struct.pack("!HHIIBBHHH", 40000, 80, 1, 2, 0x50, 0x18, 500, 0, 0) + data
    if family == 4:
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
        kind = 0x0800
    else:
        ip = struct.pack("!IHBB16s16s", 6 << 28, len(tcp), 6, 64, b"\xfd" + b"\1" * 15, b"\xfd" + b"\2" * 15)
        kind = 0x86DD
    return bytearray(bytes(10) + bytes(12) + struct.pack("!H", kind) + ip + tcp)


def checksum_is_right(frame: bytearray, packet: Packet, family: int) -> bool:
    addresses = frame[IP + 12 : IP + 20] if family == 4 else frame[IP + 8 : IP + 40]
    pseudo = bytes(addresses) + struct.pack("!II", packet.end - packet.tcp, 6)
    return (ones_sum(pseudo) + ones_sum(frame[packet.tcp : packet.end])) % 0xFFFF == 0


class TestNothingIsLeft:
    def test_of_a_test_that_fails(self) -> None:
        before = left_behind()

        def fail() -> None:
            with open_lab(WIRE) as lab:
                assert lab.bpffs.is_dir()
                assert left_behind() != before
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert left_behind() == before

    def test_the_thread_is_where_it_was(self) -> None:
        before = os.readlink("/proc/thread-self/ns/net")
        with open_lab(Net()) as lab:
            with lab.client:
                assert os.readlink("/proc/thread-self/ns/net") != before
                with pytest.raises(FileNotFoundError), lab.server:
                    raise FileNotFoundError
            assert os.readlink("/proc/thread-self/ns/net") == before


def left_behind() -> tuple[list[str], int, int]:
    """Interfaces of this machine, our descriptors, and the folders of labs."""
    folders = list(Path("/tmp").glob("tux-lab-*"))
    return sorted(os.listdir("/sys/class/net")), len(os.listdir("/proc/self/fd")), len(folders)
