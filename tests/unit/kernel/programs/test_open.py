# SPDX-License-Identifier: MIT
"""SYNs: what they offer is kept, and what is left of an old connection between the same ends goes."""

from __future__ import annotations

import itertools

import pytest

from tests.unit.kernel.programs.cases import KINDS, State, fresh, from_client, kind, resting, used
from tests.unit.kernel.programs.packets import (
    ACK,
    NOP,
    SACK_PERMITTED,
    SYN,
    Segment,
    mss,
    timestamps,
    window_scale,
)
from tests.unit.kernel.programs.rig import PASS, Rig, tuple_in
from tux.kernel.worth import PAUSED

NUMBERS = itertools.count(1000)
"""Of SYNs: each has one of its own, by which it is found again."""


def syn(*, v6: bool = False, options: bytes = b"", **changes: object) -> Segment:
    return from_client(v6=v6, flags=SYN, seq=next(NUMBERS), ack=0, options=options).but(**changes)


def offered(rig: Rig, packet: Segment) -> tuple[int, int] | None:
    """MSS and window scale as they are kept: in a word with the number of the SYN."""
    words = [int.from_bytes(word, "little") for _, word in rig.maps["syns"].items()]
    found = [word for word in words if word >> 32 == packet.seq]
    assert len(found) <= 1
    return (found[0] >> 16 & 0xFFFF, found[0] & 0xFF) if found else None


LINUX = mss(1460) + SACK_PERMITTED + timestamps(1, 0, pad=b"") + NOP + window_scale(7)


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (LINUX, (1460, 7)),
        (mss(65495), (65495, 0)),
        (mss(0), (0, 0)),
        (window_scale(14) + NOP, (None, 14)),
        (window_scale(255) + NOP, (None, 255)),
        (b"", (None, 0)),
        (b"\x02\x03\x05\x01", (None, 0)),
        (b"\x22\x04\xab\xcd" + mss(1400), (1400, 0)),
        (b"\x00" + mss(1400), (None, 0)),
        (mss(1400) + b"\x22\x00\xab\xcd" + window_scale(5), (1400, 0)),
        (NOP * 36 + mss(1400), (1400, 0)),
        (NOP * 33 + b"\x03\x03\x09" + NOP * 4, (None, 9)),
    ],
    ids=lambda value: value.hex() if isinstance(value, bytes) else "",
)
def test_what_is_offered(rig: Rig, options: bytes, expected: tuple[int | None, int], v6: bool) -> None:
    """None: the default of RFC 9293 section 3.7.1, 536 and 1220."""
    rig.reset()
    packet = syn(v6=v6, options=options)
    done = rig.run("ingress", packet.encode())
    assert (done.verdict, done.data, done.counts) == (PASS, packet.encode(), {})
    size, scale = expected
    assert offered(rig, packet) == ((1220 if v6 else 536) if size is None else size, scale)


def test_the_last_one_counts(rig: Rig) -> None:
    rig.reset()
    """They are kept at a place that the ends of the connection decide."""
    first, second, other = syn(options=mss(1000)), syn(options=mss(900)), syn(options=mss(800), source_port=1)
    for packet in (first, other, second):
        rig.run("ingress", packet.encode())
    assert (offered(rig, first), offered(rig, second), offered(rig, other)) == (None, (900, 0), (800, 0))


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
def test_other_ends_have_other_places(rig: Rig, v6: bool) -> None:
    """A thousand clients share few of them: 16,384 places, so some 30 collisions are expected."""
    rig.reset()
    packets = [syn(v6=v6, source_port=1024 + number, options=mss(1400)) for number in range(1000)]
    for packet in packets:
        rig.run("ingress", packet.encode())
    words = {int.from_bytes(word, "little") >> 32 for _, word in rig.maps["syns"].items()}
    assert sum(packet.seq in words for packet in packets) > 900


def test_not_ours(rig: Rig) -> None:
    rig.reset()
    for packet in (syn(target_port=80), syn(fragment=0x2000), syn(vlan=5), syn(flags=SYN | ACK)):
        done = rig.run("ingress", packet.encode())
        assert (done.verdict, done.data, done.counts) == (PASS, packet.encode(), {})
        assert offered(rig, packet) is None


@pytest.mark.parametrize(("v6", "ts"), KINDS, ids=[kind(v6=v6, ts=ts) for v6, ts in KINDS])
def test_an_old_connection_that_is_gone(rig: Rig, v6: bool, ts: bool) -> None:
    rig.reset()
    packet = syn(v6=v6, options=LINUX)
    rig.set_conn(tuple_in(packet), used(v6=v6, ts=ts))
    done = rig.run("ingress", packet.encode())
    assert (done.verdict, done.data, done.counts) == (PASS, packet.encode(), {"closed": 1})
    assert rig.conn(tuple_in(packet)) is None
    assert offered(rig, packet) == (1460, 7)


def test_a_pause(rig: Rig) -> None:
    """What is left of an old connection goes all the same; nothing is kept of the new one."""
    rig.reset()
    packet = syn(options=LINUX)
    rig.set_conn(tuple_in(packet), used())
    rig.write("control", paused=PAUSED)
    done = rig.run("ingress", packet.encode())
    assert (done.verdict, done.data, done.counts) == (PASS, packet.encode(), {"closed": 1})
    assert rig.conn(tuple_in(packet)) is None
    assert offered(rig, packet) is None


def test_at_rest(rig: Rig) -> None:
    """There is no old connection, and nothing is kept of the new one."""
    rig.reset()
    packet = syn(options=LINUX)
    resting(rig)
    done = rig.run("ingress", packet.encode())
    assert (done.verdict, done.data, done.counts) == (PASS, packet.encode(), {})
    assert offered(rig, packet) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_false_syn_ends_no_connection(rig: Rig, host: str) -> None:
    """The stack has the connection still: the entry stays as it is."""
    rig.reset()
    with rig.connected(host) as (client, name):
        local, remote = client.getpeername(), client.getsockname()
        rig.open_port(local[1])
        packet = syn(source=remote[0], target=local[0], source_port=remote[1], target_port=local[1])
        rig.set_conn(name, used(v6=":" in host))
        before = rig.conn(name)
        done = rig.run("ingress", packet.encode())
        assert (done.verdict, done.data, done.counts) == (PASS, packet.encode(), {})
        assert rig.conn(name) == before


@pytest.mark.parametrize("of", [None, bytes(36)], ids=["dead", "became another one's"])
def test_an_entry_that_somebody_else_deletes(rig: Rig, of: bytes | None) -> None:
    rig.reset()
    packet = syn()
    rig.set_conn(tuple_in(packet), fresh(state=State(0) if of else State.DEAD), of=of)
    done = rig.run("ingress", packet.encode())
    assert (done.verdict, done.data, done.counts) == (PASS, packet.encode(), {})
    assert rig.conn(tuple_in(packet)) is not None


def test_data_with_it_is_left_alone(rig: Rig) -> None:
    """TCP Fast Open: the stack decides."""
    rig.reset()
    packet = syn(payload=b"GET / HTTP/1.1\r\n\r\n")
    done = rig.run("ingress", packet.encode())
    assert (done.verdict, done.data, done.counts) == (PASS, packet.encode(), {})
