# SPDX-License-Identifier: MIT
"""ICMP errors about packets of ours: routers quote numbers as they were on the wire, the stack knows others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kernel.programs.cases import (
    ANSWER_END,
    ANSWER_START,
    CLIENT_PORT,
    D_OUT,
    SERVER,
    SERVER6,
    STACK_OUT,
    State,
    fresh,
    from_client,
    from_server,
    pending,
    used,
)
from tests.unit.kernel.programs.packets import (
    ETHERNET_BYTES,
    IPV4_BYTES,
    IPV6_BYTES,
    MOD,
    IcmpError,
    Segment,
)
from tests.unit.kernel.programs.rig import PASS, PORT, Outcome, Rig, tuple_in

ROUTER, ROUTER6 = "203.0.113.9", "2001:db8:9::9"
QUOTED = 8
"""Bytes of the TCP header that every router quotes."""

ERRORS = {False: [3, 11, 12], True: [1, 2, 3, 4]}
"""Types by IPv6 or IPv4: unreachable, too big, time exceeded, parameter problem."""
OTHERS = {False: [0, 4, 5, 8, 13, 255], True: [0, 5, 100, 128, 129, 134, 136]}

VERSIONS = pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])


def error(about: Segment, *, kind: int | None = None, quoted: int = QUOTED, **changes: object) -> IcmpError:
    """A router could not pass this on."""
    v6 = about.v6
    header = IPV6_BYTES if v6 else IPV4_BYTES + len(about.ip_options)
    return IcmpError(
        about.encode()[ETHERNET_BYTES:][: header + quoted],
        (2 if v6 else 3) if kind is None else kind,
        ROUTER6 if v6 else ROUTER,
        SERVER6 if v6 else SERVER,
        4,
        1280,
        **changes,  # type: ignore[arg-type]  # names of fields
    )


def run(rig: Rig, message: IcmpError, conn: dict[str, int] | None, *, of: bytes | None = None) -> Outcome:
    """Neither the entry nor a counter is changed by it."""
    rig.reset()
    key = tuple_in(from_client(v6=":" in message.source))
    if conn is not None:
        rig.set_conn(key, conn, of=of)
    before = rig.conn(key)
    done = rig.run("ingress", message.encode())
    assert rig.conn(key) == before
    assert (done.verdict, done.counts) == (PASS, {})
    return done


def assert_untouched(rig: Rig, message: IcmpError, conn: dict[str, int] | None, *, of: bytes | None = None) -> None:
    assert run(rig, message, conn, of=of).data == message.encode()


def quoting(message: IcmpError, quote: bytes) -> IcmpError:
    """The same message about something else."""
    return replace(message, about=quote)


def renumbered(message: IcmpError, seq: int) -> bytes:
    """The message with this number in what it quotes, and its checksum right."""
    at = (IPV6_BYTES if ":" in message.source else IPV4_BYTES) + 4
    quote = message.about[:at] + (seq % MOD).to_bytes(4, "big") + message.about[at + 4 :]
    return quoting(message, quote).encode()


PLACES = {
    ANSWER_END: STACK_OUT,
    ANSWER_END + 1000: STACK_OUT + 1000,
    ANSWER_START: STACK_OUT,
    ANSWER_START + 1: STACK_OUT,
    ANSWER_END - 1: STACK_OUT,
    ANSWER_START - 1: STACK_OUT - 1,
}
"""A number on the wire, and the stack's. The answer is one point for it."""


@VERSIONS
@pytest.mark.parametrize("place", PLACES)
def test_the_number_is_the_stacks(rig: Rig, place: int, v6: bool) -> None:
    message = error(from_server(b"x" * 1400, v6=v6, seq=place))
    assert run(rig, message, pending(v6=v6)).data == renumbered(message, PLACES[place])


@VERSIONS
@pytest.mark.parametrize("quoted", [8, 20, 500])
def test_however_much_is_quoted(rig: Rig, quoted: int, v6: bool) -> None:
    message = error(from_server(b"x" * 1400, v6=v6, seq=ANSWER_END), quoted=quoted)
    assert run(rig, message, used(v6=v6)).data == renumbered(message, STACK_OUT)


@VERSIONS
def test_all_kinds_of_errors_and_nothing_else(rig: Rig, v6: bool) -> None:
    about = from_server(v6=v6, seq=ANSWER_END)
    for kind in ERRORS[v6]:
        message = error(about, kind=kind)
        assert run(rig, message, used(v6=v6)).data == renumbered(message, STACK_OUT)
    for kind in OTHERS[v6]:
        assert_untouched(rig, error(about, kind=kind), used(v6=v6))


@given(st.integers(0, MOD - 1), st.integers(0, MOD - 1), st.booleans())
def test_any_numbers(rig: Rig, out_next: int, behind: int, v6: bool) -> None:
    conn = used(v6=v6, out_next=out_next, answer_seq=out_next - 1000)
    message = error(from_server(v6=v6, seq=(out_next + behind % 2**30) % MOD))
    assert run(rig, message, conn).data == renumbered(message, out_next + behind % 2**30 - D_OUT)


@VERSIONS
def test_nothing_of_ours(rig: Rig, v6: bool) -> None:
    about = from_server(v6=v6, seq=ANSWER_END)
    assert_untouched(rig, error(about), None)
    assert_untouched(rig, error(about), fresh(v6=v6))
    assert_untouched(rig, error(about), used(v6=v6, state=State.ANSWERED | State.DEAD))
    assert_untouched(rig, error(about), used(v6=v6), of=bytes(36))
    assert_untouched(rig, error(about.but(source_port=PORT + 1)), used(v6=v6))
    assert_untouched(rig, error(from_client(v6=v6)), used(v6=v6))
    for quoted in range(8):
        assert_untouched(rig, error(about, quoted=quoted), used(v6=v6))
    protocol = 6 if v6 else 9
    udp = error(about).about
    assert_untouched(rig, quoting(error(about), udp[:protocol] + b"\x11" + udp[protocol + 1 :]), used(v6=v6))


@VERSIONS
def test_a_port_that_is_ours_no_more(rig: Rig, v6: bool) -> None:
    rig.reset()
    rig.set_conn(tuple_in(from_client(v6=v6)), used(v6=v6))
    rig.memory["ports"][:] = bytes(len(rig.memory["ports"]))
    frame = error(from_server(v6=v6, seq=ANSWER_END)).encode()
    assert rig.run("ingress", frame).data == frame


def test_ip_options(rig: Rig) -> None:
    """Rare, and left alone: in the message, and in what it quotes."""
    about = from_server(seq=ANSWER_END)
    assert_untouched(rig, error(about, ip_options=b"\x01" * 4), used())
    as_ports = PORT.to_bytes(2, "big") + CLIENT_PORT.to_bytes(2, "big")
    assert_untouched(rig, error(about.but(ip_options=as_ports)), used())


@pytest.mark.parametrize("name", ["ingress", "egress"])
def test_from_the_server_nothing_is_renumbered(rig: Rig, name: str) -> None:
    """An error that this machine sends is about a packet of the client's."""
    rig.reset()
    about = from_client(b"x")
    rig.set_conn(tuple_in(about), used())
    frame = error(about).encode()
    done = rig.run(name, frame)
    assert (done.verdict, done.data, done.counts) == (PASS, frame, {})


@pytest.mark.parametrize("fragment", [0x2000, 0x200A, 0x000A], ids=["first", "one between", "last"])
def test_fragments(rig: Rig, fragment: int) -> None:
    """The checksum is over all of them, and only the first has a header. No router makes such errors."""
    assert_untouched(rig, error(from_server(seq=ANSWER_END), fragment=fragment), used())


def test_fragments_are_not_forbidden(rig: Rig) -> None:
    """DF is no fragment."""
    message = error(from_server(seq=ANSWER_END), fragment=0x4000)
    assert run(rig, message, used()).data == renumbered(message, STACK_OUT)
