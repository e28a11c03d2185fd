# SPDX-License-Identifier: MIT
"""Where the kernel tier is used: what the configuration says against what the machine has."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import features
from tux.config.schema import Kernel
from tux.errors import StartError
from tux.kernel import host
from tux.kernel.choice import Choice, choose
from tux.kernel.interfaces import Interface, Kind


def interface(index: int, name: str, kind: Kind, mtu: int, *addresses: str) -> Interface:
    return Interface(index, name, kind, mtu, True, tuple(ipaddress.ip_interface(text) for text in addresses))


LO = interface(1, "lo", "loopback", 65536, "127.0.0.1/8", "::1/128")
ETH = interface(2, "eth0", "ethernet", 1500, "192.0.2.7/24", "2001:db8::7/64", "fe80::1/64")
VETH = interface(3, "veth0", "veth", 1500, "10.0.0.1/24", "fe80::2/64")
BARE = interface(4, "veth1", "veth", 1500, "fe80::3/64")
TUN = interface(5, "tun0", "other", 1500, "10.8.0.1/24")


@dataclass
class FakeHost:
    """A machine with everything."""

    reason: str = ""
    mounted: bool = True
    tracking: bool = False
    known: list[Interface] = field(default_factory=lambda: [LO, ETH, VETH, BARE, TUN])

    def can_load(self) -> str:
        return self.reason

    def is_bpffs(self, path: str) -> bool:
        return self.mounted and path == "/sys/fs/bpf"

    def interfaces(self) -> list[Interface]:
        return self.known

    def tracks_loopback(self) -> bool:
        return self.tracking


def names(choice: Choice) -> list[str]:
    return [one.name for one in choice.interfaces]


class TestInterfaces:
    @pytest.mark.parametrize(
        ("address", "auto", "on"),
        [
            ("127.0.0.1", ["lo"], ["lo"]),
            ("127.1.2.3", ["lo"], ["lo"]),
            ("::1", ["lo"], ["lo"]),
            ("10.0.0.1", ["veth0"], ["veth0"]),
            ("192.0.2.7", [], ["eth0"]),
            ("2001:db8::7", [], ["eth0"]),
            ("fe80::3%veth1", ["veth1"], ["veth1"]),
            ("0.0.0.0", ["lo", "veth0"], ["lo", "eth0", "veth0"]),
            ("::", ["lo"], ["lo", "eth0"]),
        ],
    )
    def test_those_that_carry_the_address(self, address: str, auto: list[str], on: list[str]) -> None:
        assert names(choose(Kernel(), [address], FakeHost())) == auto
        assert names(choose(Kernel(mode="on"), [address], FakeHost())) == on

    def test_several_addresses(self) -> None:
        assert names(choose(Kernel(), ["10.0.0.1", "127.0.0.1"], FakeHost())) == ["lo", "veth0"]

    def test_those_that_are_named(self) -> None:
        assert names(choose(Kernel(interface=("veth1", "lo")), ["127.0.0.1"], FakeHost())) == ["veth1", "lo"]
        kernel = Kernel(mode="on", interface=("eth0",))
        assert names(choose(kernel, ["127.0.0.1"], FakeHost())) == ["eth0"]

    def test_the_largest_answer_is_what_fits_the_largest_packet(self) -> None:
        assert choose(Kernel(), ["10.0.0.1"], FakeHost()).max_payload == 1448
        assert choose(Kernel(), ["0.0.0.0"], FakeHost()).max_payload == 65483
        assert Choice().max_payload == 0


class TestWhyNot:
    """`auto` goes on without and says why; `on` does not start."""

    @pytest.mark.parametrize(
        ("kernel", "addresses", "machine", "reason"),
        [
            (Kernel(), [], FakeHost(), "there is no TCP address to listen on"),
            (Kernel(), ["::1"], FakeHost(reason="the kernel tier needs CAP_BPF"), "the kernel tier needs CAP_BPF"),
            (
                Kernel(),
                ["::1"],
                FakeHost(mounted=False),
                "/sys/fs/bpf is not a mounted bpffs; mount -t bpf bpf /sys/fs/bpf",
            ),
            (Kernel(bpffs="/b"), ["::1"], FakeHost(), "/b is not a mounted bpffs; mount -t bpf bpf /b"),
            (Kernel(interface=("lo", "eth9")), ["::1"], FakeHost(), "there is no interface eth9"),
            (
                Kernel(interface=("tun0",)),
                ["::1"],
                FakeHost(),
                "tun0 is neither the loopback interface nor veth nor ethernet",
            ),
            (Kernel(), ["10.8.0.1"], FakeHost(), "tun0 is neither the loopback interface nor veth nor ethernet"),
            (Kernel(), ["203.0.113.1"], FakeHost(), "no interface carries the addresses"),
        ],
    )
    def test_reasons(self, kernel: Kernel, addresses: list[str], machine: FakeHost, reason: str) -> None:
        choice = choose(kernel, addresses, machine)
        assert (names(choice), choice.reason) == ([], reason)
        on = Kernel(mode="on", interface=kernel.interface, bpffs=kernel.bpffs)
        with pytest.raises(StartError) as caught:
            choose(on, addresses, machine)
        assert caught.value.message == f"cannot use the kernel tier: {reason}"
        assert choose(Kernel(mode="off"), addresses, machine) == Choice()

    def test_a_sandbox_that_hides_the_interfaces(self) -> None:
        class Sandbox(FakeHost):
            def interfaces(self) -> list[Interface]:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

        reason = "the interfaces cannot be listed: Address family not supported by protocol"
        assert choose(Kernel(), ["::1"], Sandbox()) == Choice(reason=reason)
        with pytest.raises(StartError, match=f"^cannot use the kernel tier: {reason}$"):
            choose(Kernel(mode="on"), ["::1"], Sandbox())

    def test_ethernet_only_with_on(self) -> None:
        reason = "eth0 is an ethernet interface, which only --kernel on attaches to"
        assert choose(Kernel(), ["192.0.2.7"], FakeHost()).reason == reason
        assert choose(Kernel(interface=("lo", "eth0")), ["127.0.0.1"], FakeHost()) == Choice(reason=reason)

    def test_what_is_usual_need_not_be_told(self) -> None:
        assert choose(Kernel(), ["::1"], FakeHost(reason="the kernel tier needs CAP_BPF")).usual
        assert not choose(Kernel(), ["192.0.2.7"], FakeHost()).usual


class TestConnectionTracking:
    def test_auto_leaves_lo_alone(self) -> None:
        choice = choose(Kernel(), ["127.0.0.1"], FakeHost(tracking=True))
        assert names(choice) == []
        assert choice.reason.startswith("connection tracking is in use on lo")
        assert "nf_conntrack_tcp_be_liberal=1" in choice.reason

    def test_the_others_are_used(self) -> None:
        choice = choose(Kernel(), ["0.0.0.0"], FakeHost(tracking=True))
        assert names(choice) == ["veth0"]
        assert len(choice.warnings) == 1

    def test_on_warns(self) -> None:
        choice = choose(Kernel(mode="on"), ["127.0.0.1"], FakeHost(tracking=True))
        assert names(choice) == ["lo"]
        assert len(choice.warnings) == 1

    def test_elsewhere_it_does_not_matter(self) -> None:
        choice = choose(Kernel(), ["10.0.0.1"], FakeHost(tracking=True))
        assert (names(choice), choice.warnings) == (["veth0"], ())

    @pytest.mark.parametrize(
        ("liberal", "count", "tracks"), [("0", "1", True), ("0", "0", False), ("1", "5", False), ("", "", False)]
    )
    def test_what_the_kernel_says(self, tmp_path: Path, liberal: str, count: str, tracks: bool) -> None:
        (tmp_path / "nf_conntrack_tcp_be_liberal").write_text(f"{liberal}\n")
        (tmp_path / "nf_conntrack_count").write_text(f"{count}\n")
        assert host.tracks_loopback(tmp_path) is tracks
        assert host.tracks_loopback(tmp_path / "none") is False


class TestThisHost:
    def test_its_interfaces(self) -> None:
        known = {socket.if_indextoname(one.index): one for one in host.ThisHost().interfaces()}
        assert known["lo"].kind == "loopback"

    def test_what_is_no_bpffs(self, tmp_path: Path) -> None:
        assert not host.is_bpffs(str(tmp_path))
        assert not host.is_bpffs(str(tmp_path / "none"))
        assert not host.ThisHost().is_bpffs("/proc")

    def test_it_can_load(self) -> None:
        features.require("kernel")
        assert host.ThisHost().can_load() == ""
