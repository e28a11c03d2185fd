# SPDX-License-Identifier: MIT
"""Programs at interfaces, in a network namespace of the test's own; and what is known of the interfaces there."""

from __future__ import annotations

import errno
import ipaddress
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import features
from tests.kernel.lab import Namespace
from tests.unit.kernel.blobs import LOAD_MAP, RETURN, insn
from tux.kernel import attach, interfaces, load, netlink, sys_bpf
from tux.kernel.attach import DIRECTIONS, AttachError, Direction, How
from tux.kernel.interfaces import Interface, carrying

LO = 1
"""Index of `lo` in each namespace."""

WAYS: tuple[How, ...] = ("tcx", "clsact")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def tc(*arguments: str) -> str:
    return subprocess.run(["tc", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(autouse=True)
def space() -> Iterator[Namespace]:
    """The calling thread is in it."""
    features.require("root")
    features.require("netns")
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}(8) (Debian: iproute2)")
    if missing := load.missing_capabilities():
        pytest.skip(f"not permitted: {', '.join(missing)}")
    space = Namespace()
    try:
        with space:
            yield space
    finally:
        space.close()


@pytest.fixture
def counter() -> Iterator[tuple[int, int]]:
    """Descriptors of a program that counts packets and passes them on, and of the array with its count."""
    count_fd = sys_bpf.map_create(sys_bpf.MapType.ARRAY, 4, 8, 1)
    code = (
        insn(0x62, 0x0A, -4, 0)  # *(u32 *)(r10 - 4) = 0: the key
        + insn(0xBF, 0xA2)  # r2 = r10
        + insn(0x07, 0x02, 0, -4)  # r2 += -4
        + insn(0x18, 0x11, 0, count_fd) + insn(0)  # r1 = the map
        + insn(0x85, 0, 0, 1)  # r0 = bpf_map_lookup_elem(r1, r2)
        + insn(0x15, 0x00, 2, 0)  # if r0 == 0: skip two
        + insn(0xB7, 0x01, 0, 1)  # r1 = 1
        + insn(0xDB, 0x10)  # atomic: *(u64 *)r0 += r1
        + RETURN
    )  # fmt: skip
    assert len(LOAD_MAP) == 16
    program_fd = sys_bpf.prog_load(sys_bpf.SCHED_CLS, code, name="tux_count")
    with sys_bpf.closing(count_fd, program_fd):
        yield program_fd, count_fd


@pytest.fixture
def program() -> Iterator[int]:
    with sys_bpf.closing(fd := sys_bpf.prog_load(sys_bpf.SCHED_CLS, RETURN, name="tux_other")):
        yield fd


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "bpf", "bpf", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def need(how: How) -> None:
    if how == "tcx" and not attach.has_tcx(LO):
        pytest.skip("no tcx in this kernel (6.6)")


@pytest.fixture(params=WAYS)
def how(request: pytest.FixtureRequest) -> How:
    chosen: How = request.param
    need(chosen)
    return chosen


def send() -> None:
    """One packet over `lo`: it leaves and arrives."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here, socket.socket(type=socket.SOCK_DGRAM) as there:
        there.bind(("127.0.0.1", 0))
        there.settimeout(10)
        here.sendto(b"packet", there.getsockname())
        assert there.recv(100) == b"packet"


def foreign(program_fd: int, direction: Direction) -> None:
    """A filter as somebody else would add it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attach, "HANDLES", 0)
        patch.setattr(attach, "PRIORITY", 7)
        attach._add(program_fd, LO, direction, made=True)


def count(fd: int) -> int:
    value = sys_bpf.map_lookup(fd, bytes(4), 8)
    assert value is not None
    return int(struct.unpack("=Q", value)[0])


def traffic_control() -> str:
    """What is attached by clsact."""
    return tc("qdisc", "show", "dev", "lo", "clsact") + "".join(
        tc("filter", "show", "dev", "lo", d) for d in DIRECTIONS
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_it_sees_packets_until_it_is_detached(counter: tuple[int, int], how: How, direction: Direction) -> None:
    program_fd, count_fd = counter
    attachment = attach.attach(program_fd, LO, direction, how)
    assert attachment.attached()
    send()
    assert count(count_fd) == 1
    attachment.detach()
    assert not attachment.attached()
    send()
    assert count(count_fd) == 1
    attachment.detach()  # twice does nothing
    assert traffic_control() == ""
    assert how == "clsact" or sys_bpf.tcx_programs(LO, direction) == []


def test_the_best_way_is_chosen(program: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "tcx" if attach.has_tcx(LO) else "clsact"
    with attach.attach(program, LO, "ingress") as attachment:
        assert attachment.how == expected
    monkeypatch.setattr(attach, "has_tcx", lambda _: False)
    with attach.attach(program, LO, "ingress") as attachment:
        assert attachment.how == "clsact"


def test_a_kernel_without_tcx(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[int]:
        raise sys_bpf.BpfError(errno.EINVAL, "list")

    monkeypatch.setattr(sys_bpf, "tcx_programs", refuse)
    assert attach.has_tcx(LO) is False


class TestPins:
    def test_it_outlives_its_descriptors(self, counter: tuple[int, int], how: How, bpffs: Path) -> None:
        program_fd, count_fd = counter
        attachment = attach.attach(program_fd, LO, "egress", how)
        attachment.pin(bpffs / "egress")
        attachment.close()
        send()
        assert count(count_fd) == 1
        again = attach.reopen(bpffs / "egress", LO, "egress")
        assert again is not None
        assert (again.how, again.attached()) == (how, True)
        again.detach()
        assert not (bpffs / "egress").exists()
        send()
        assert count(count_fd) == 1

    def test_it_is_removed_by_its_pin(self, program: int, how: How, bpffs: Path) -> None:
        attachment = attach.attach(program, LO, "egress", how)
        attachment.pin(bpffs / "egress")
        assert attach.remove_pinned(bpffs / "egress", LO, "egress") is True
        assert not attachment.attached()
        assert not (bpffs / "egress").exists()
        attachment.close()

    def test_what_is_attached_no_longer(self, program: int, how: How, bpffs: Path) -> None:
        ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
        index = interfaces.interface("v0").index
        attachment = attach.attach(program, index, "ingress", how)
        attachment.pin(bpffs / "ingress")
        ip("link", "delete", "v0")
        assert attachment.attached() is False
        assert attach.reopen(bpffs / "ingress", index, "ingress") is None
        assert attach.remove_pinned(bpffs / "ingress", index, "ingress") is False
        assert not (bpffs / "ingress").exists()
        attachment.detach()

    def test_a_pin_of_something_else(self, bpffs: Path) -> None:
        with sys_bpf.closing(fd := sys_bpf.map_create(sys_bpf.MapType.ARRAY, 4, 4, 1)):
            sys_bpf.obj_pin(fd, str(bpffs / "map"))
        assert attach.reopen(bpffs / "map", LO, "ingress") is None

    def test_errors(self, bpffs: Path) -> None:
        with pytest.raises(OSError, match="No such file"):
            attach.remove_pinned(bpffs / "nothing", LO, "ingress")
        with pytest.raises(ValueError, match="sideways"):
            attach.reopen(bpffs / "nothing", LO, "sideways")

    def test_without_a_pin_it_ends_with_its_descriptor(self, program: int) -> None:
        need("tcx")
        attach.attach(program, LO, "egress", "tcx").close()
        assert sys_bpf.tcx_programs(LO, "egress") == []

    def test_nothing_is_left_open(self, program: int, how: How, bpffs: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))
        attachment = attach.attach(program, LO, "ingress", how)
        attachment.pin(bpffs / "a")
        attachment.close()
        attach.remove_pinned(bpffs / "a", LO, "ingress")
        assert len(os.listdir("/proc/self/fd")) == before


class TestNeighbours:
    """What others attached stays as it is."""

    def test_programs_of_others_run_too(self, counter: tuple[int, int], program: int, how: How) -> None:
        other_fd, count_fd = counter
        other = attach.attach(other_fd, LO, "ingress", how)
        with attach.attach(program, LO, "ingress", how):
            send()
        assert count(count_fd) == 1
        assert other.attached()
        send()
        assert count(count_fd) == 2
        other.detach()

    def test_a_discipline_of_others_stays(self, program: int) -> None:
        tc("qdisc", "add", "dev", "lo", "clsact")
        attach.attach(program, LO, "ingress", "clsact").detach()
        assert traffic_control().startswith("qdisc clsact")

    def test_a_filter_of_others_keeps_our_discipline(self, program: int) -> None:
        attachment = attach.attach(program, LO, "ingress", "clsact")
        foreign(program, "egress")
        attachment.detach()
        assert "pref 7 bpf" in traffic_control()

    def test_the_last_of_ours_removes_our_discipline(self, program: int, counter: tuple[int, int]) -> None:
        first = attach.attach(program, LO, "ingress", "clsact")
        second = attach.attach(counter[0], LO, "egress", "clsact")
        third = attach.attach(counter[0], LO, "egress", "clsact")
        first.detach()
        assert second.attached()
        second.detach()
        assert third.attached()
        assert traffic_control()
        third.detach()
        assert traffic_control() == ""

    def test_an_older_discipline_is_in_the_way(self, program: int) -> None:
        tc("qdisc", "add", "dev", "lo", "ingress")
        with pytest.raises(AttachError, match="has a discipline 'ingress' where clsact is needed"):
            attach.attach(program, LO, "egress", "clsact")
        assert "ingress" in tc("qdisc", "show", "dev", "lo")

    def test_filters_of_a_program(self, program: int, counter: tuple[int, int]) -> None:
        """Those whose pins were lost are known by their handles, and by the program."""
        own, other = sys_bpf.prog_info(program).id, sys_bpf.prog_info(counter[0]).id
        for fd in (program, counter[0]):
            attach.attach(fd, LO, "ingress", "clsact").close()
        foreign(program, "ingress")
        assert attach.detach_filters({other}) == 1
        assert [found.program_id for found in attach.filters(LO) if found.ours] == [own]
        assert attach.detach_filters({own}) == 1
        assert attach.detach_filters({own, other}) == 0
        assert "pref 7 bpf" in traffic_control()


class TestRefusals:
    def test_no_such_interface(self, program: int, how: How) -> None:
        for way in (how, None):
            with pytest.raises(OSError, match="No such device") as caught:
                attach.attach(program, 999, "ingress", way)
            assert caught.value.errno == errno.ENODEV

    def test_what_is_no_program(self, how: How) -> None:
        with (
            sys_bpf.closing(fd := sys_bpf.map_create(sys_bpf.MapType.ARRAY, 4, 4, 1)),
            pytest.raises(OSError, match="cannot attach at ingress of interface 1: Invalid argument"),
        ):
            attach.attach(fd, LO, "ingress", how)
        assert traffic_control() == ""  # a discipline that was made for it is gone, too

    def test_twice_by_tcx(self, program: int) -> None:
        need("tcx")
        with attach.attach(program, LO, "ingress", "tcx"), pytest.raises(sys_bpf.BpfError, match="File exists"):
            attach.attach(program, LO, "ingress", "tcx")

    @pytest.mark.parametrize(
        ("kind", "option"),
        [(attach.NEWQDISC, "CONFIG_NET_SCH_INGRESS"), (attach.NEWTFILTER, "CONFIG_NET_CLS_BPF")],
    )
    def test_a_kernel_without_a_part(
        self, program: int, kind: int, option: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = netlink.request

        def refuse(asked: int, flags: int, body: bytes, attempt: str) -> list[netlink.Message]:
            if asked == kind:
                raise netlink.NetlinkError(errno.ENOENT, attempt, "not found")
            return real(asked, flags, body, attempt)

        monkeypatch.setattr(netlink, "request", refuse)
        with pytest.raises(AttachError, match=option):
            attach.attach(program, LO, "ingress", "clsact")
        assert traffic_control() == ""

    def test_more_than_there_may_be(self, program: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attach, "MAX_FILTERS", 1)
        with attach.attach(program, LO, "ingress", "clsact"), pytest.raises(AttachError, match="has 1 filters of Tux"):
            attach.attach(program, LO, "ingress", "clsact")


# -- interfaces ------------------------------------------------------------------------------------------------------


class TestInterfaces:
    @pytest.fixture
    def known(self) -> list[Interface]:
        ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
        ip("link", "set", "v0", "mtu", "1400")
        ip("link", "add", "br0", "type", "bridge")
        ip("tuntap", "add", "t0", "mode", "tun")
        ip("address", "add", "10.1.2.3/24", "dev", "v0")
        ip("address", "add", "10.9.0.1", "peer", "10.9.0.2", "dev", "t0")
        ip("address", "add", "fd00::5/64", "dev", "v1")
        ip("address", "add", "fe80::7/64", "dev", "v0")
        ip("address", "add", "fe80::7/64", "dev", "v1")
        ip("link", "set", "v0", "up")
        return interfaces.interfaces()

    def test_kinds(self, known: list[Interface]) -> None:
        found = {one.name: (one.kind, one.mtu, one.up) for one in known}
        assert found == {
            "lo": ("loopback", 65536, True),
            "v0": ("veth", 1400, True),
            "v1": ("veth", 1500, False),
            "br0": ("other", 1500, False),
            "t0": ("other", 1500, False),
        }
        assert [one.index for one in known] == [socket.if_nametoindex(one.name) for one in known]
        assert interfaces.interface("lo").addresses[0] == ipaddress.ip_interface("127.0.0.1/8")
        with pytest.raises(KeyError):
            interfaces.interface("nothing")

    @pytest.mark.parametrize(
        ("address", "names"),
        [
            ("127.0.0.1", {"lo"}),
            ("127.9.9.9", {"lo"}),
            ("::1", {"lo"}),
            ("10.1.2.3", {"v0", "lo"}),
            ("::ffff:10.1.2.3", {"v0", "lo"}),
            ("10.1.2.4", set()),
            ("10.9.0.1", {"t0", "lo"}),
            ("10.9.0.2", set()),
            ("fd00::5", {"v1", "lo"}),
            ("fe80::7", {"v0", "v1", "lo"}),
            ("fe80::7%v1", {"v1", "lo"}),
            ("fe80::7%lo", set()),
            ("", {"lo", "v0", "v1", "br0", "t0"}),
            ("0.0.0.0", {"lo", "v0", "v1", "br0", "t0"}),
            ("::", {"lo", "v0", "v1", "br0", "t0"}),
        ],
    )
    def test_who_carries_an_address(self, known: list[Interface], address: str, names: set[str]) -> None:
        assert {one.name for one in carrying(address)} == names
        assert {one.name for one in carrying(address, known)} == names

    def test_a_zone_by_number(self, known: list[Interface]) -> None:
        index = socket.if_nametoindex("v0")
        assert [one.name for one in carrying(f"fe80::7%{index}")] == ["v0", "lo"]

    def test_no_address(self) -> None:
        with pytest.raises(ValueError, match="does not appear to be"):
            carrying("example.org")

    @pytest.mark.parametrize(
        ("hardware", "driver", "kind"),
        [(772, "", "loopback"), (1, "", "ethernet"), (1, "veth", "veth"), (1, "vlan", "other"), (65534, "", "other")],
    )
    def test_kinds_by_what_the_kernel_says(self, hardware: int, driver: str, kind: str) -> None:
        assert interfaces._kind(hardware, driver) == kind

    def test_many(self) -> None:
        """More than fits into one answer."""
        batch = "".join(f"link add a{n} type veth peer name b{n}\n" for n in range(60))
        subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
        assert len(interfaces.interfaces()) == 121


class TestNetlink:
    def test_the_kernel_says_why(self) -> None:
        with pytest.raises(netlink.NetlinkError, match=r"^cannot try it: ") as caught:
            netlink.request(36, netlink.CREATE, attach.TC.pack(0, LO, 0, 0, 0), "try it")
        assert caught.value.errno

    def test_attributes_that_are_cut_off(self) -> None:
        whole = netlink.attribute(3, b"lo\0") + netlink.attribute(4, b"1234")
        assert netlink.attributes(whole) == {3: b"lo\0", 4: b"1234"}
        for end in range(len(whole)):
            assert netlink.attributes(whole[:end]).items() <= {3: b"lo\0", 4: b"1234"}.items()
        assert netlink.attributes(b"\0\0\0\0" * 4) == {}
