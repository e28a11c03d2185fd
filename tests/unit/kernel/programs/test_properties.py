# SPDX-License-Identifier: MIT
"""What holds for all packets and all numbers."""

from __future__ import annotations

import errno

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from tests.unit.kernel.programs import egress_cases, loss_cases, pass_cases
from tests.unit.kernel.programs.cases import (
    ANSWER_START,
    EVEN,
    FIRST_SLOT,
    KINDS,
    ODD,
    RESTING_WINDOW,
    STACK_IN,
    STACK_OUT,
    TS_BASE,
    TSVAL,
    USED_IN,
    USED_OUT,
    USED_SLOT,
    Case,
    State,
    arrange,
    fresh,
    from_client,
    from_server,
    pending,
    used,
)
from tests.unit.kernel.programs.packets import (
    ACK,
    MOD,
    NOP,
    SYN,
    Flag,
    Segment,
    decode,
    sack,
    timestamps,
)
from tests.unit.kernel.programs.rig import (
    DROP,
    PASS,
    PORT,
    REDIRECT,
    TEST_CHECKSUM_COMPLETE,
    Outcome,
    Rig,
    tuple_in,
)
from tux.kernel.sys_bpf import BpfError

NUMBERS = st.integers(0, MOD - 1) | st.sampled_from([0, 1, 2**31 - 1, 2**31, MOD - 1])
"""Sequence numbers."""


@pytest.fixture(autouse=True)
def world(rig: Rig) -> None:
    rig.reset()


# ---- Translation


@st.composite
def connections(draw: st.DrawFn) -> dict[str, int]:
    """Entries that were answered, all acknowledged, with any numbers."""
    irs, iss, d_in, d_out = draw(NUMBERS), draw(NUMBERS), draw(NUMBERS), draw(NUMBERS)
    received, sent, length = (draw(st.integers(0, 2**28)) for _ in range(3))
    out_next = (iss + d_out + sent) % MOD
    v6, ts = draw(st.sampled_from(KINDS))
    since = draw(st.integers(0, sent))
    answer_end = (out_next - since) % MOD
    return used(
        v6=v6,
        ts=ts,
        irs=irs,
        iss=iss,
        d_in=d_in,
        d_out=d_out,
        in_next=(irs + d_in + received) % MOD,
        out_next=out_next,
        una=(out_next - d_out) % MOD,
        stack_ack=(irs + d_in + received) % MOD,
        answer_len=length,
        answer_seq=(answer_end - length) % MOD,
        answer_pos=(answer_end - d_out) % MOD,
        ts_last=TS_BASE,
    )


def there_and_back(
    rig: Rig, conn: dict[str, int], behind: int, ack: int, payload: bytes, blocks: list[tuple[int, int]]
) -> tuple[Segment, Segment]:
    """A packet of the stack `behind` the last answer, and what the stack gets when the client replies with the same
    numbers: it acknowledges the packet's end, its number is the packet's ACK, its SACK blocks lie behind the end."""
    v6, ts = conn["flow"] != 0, bool(conn["state"] & State.TIMESTAMPS)
    rig.set_conn(tuple_in(from_client(v6=v6)), conn)
    packet = from_server(payload, v6=v6, ts=ts, seq=(conn["answer_pos"] + behind) % MOD, ack=ack)
    done = rig.run("egress", packet.encode())
    assert done.verdict == PASS
    wire = decode(done.data)
    assert wire == packet.but(seq=(packet.seq + conn["d_out"]) % MOD, ack=(ack + conn["d_in"]) % MOD)

    edges = [((wire.end + a) % MOD, (wire.end + b) % MOD) for a, b in blocks]
    options = (timestamps(TSVAL, TS_BASE) if ts else b"") + (sack(*edges) if edges else b"")
    reply = from_client(v6=v6, seq=wire.ack, ack=wire.end, options=options)
    done = rig.run("ingress", reply.encode())
    assert done.verdict == PASS
    got = decode(done.data)
    edges = [((packet.end + a) % MOD, (packet.end + b) % MOD) for a, b in blocks]
    options = (timestamps(TSVAL, TS_BASE) if ts else b"") + (sack(*edges) if edges else b"")
    assert got == reply.but(seq=got.seq, ack=got.ack, options=options)
    return packet, got


@given(
    connections(),
    st.integers(0, 2**29),
    NUMBERS,
    st.binary(max_size=50),
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 2**20)), max_size=3),
)
def test_translation_can_be_undone(
    rig: Rig, conn: dict[str, int], behind: int, ack: int, payload: bytes, blocks: list[tuple[int, int]]
) -> None:
    packet, got = there_and_back(rig, conn, behind, ack, payload, blocks)
    assert (got.seq, got.ack) == (packet.ack, packet.end)


@given(connections(), st.lists(st.integers(-(2**28), 2**28), min_size=2, max_size=8))
def test_what_a_client_acknowledges_stays_in_order(rig: Rig, conn: dict[str, int], places: list[int]) -> None:
    """More on the wire is never less for the stack."""
    v6 = conn["flow"] != 0
    heard = []
    for place in sorted(places):
        packet = from_client(v6=v6, seq=conn["in_next"], ack=(conn["answer_seq"] + place) % MOD)
        rig.set_conn(tuple_in(packet), conn)
        ack = decode(rig.run("ingress", packet.encode()).data).ack
        heard.append((ack - conn["answer_pos"] + 2**31) % MOD)
    assert heard == sorted(heard)


def run_with_sum(rig: Rig, program: str, frame: bytes) -> Outcome:
    """As from a network card that gives the sum of all bytes. BpfError: EBADMSG, it is wrong afterwards."""
    try:
        return rig.run(program, frame, flags=TEST_CHECKSUM_COMPLETE)
    except BpfError as error:
        if error.errno == errno.EINVAL:
            pytest.skip("test runs of this kernel (before 6.11) have no sums of network cards")
        raise


@pytest.mark.parametrize(
    "case",
    [
        case
        for table in (pass_cases, loss_cases, egress_cases)
        for case in table.all_cases()
        if "translate" in case.name
    ],
    ids=str,
)
def test_the_sum_that_a_network_card_gave_stays_right(rig: Rig, case: Case) -> None:
    """CHECKSUM_COMPLETE: the sum over all bytes is not changed by a translation."""
    arrange(rig, case)
    assert run_with_sum(rig, case.program, case.frame).verdict == case.verdict


def test_that_sum_when_the_answer_is_as_long_as_the_request(rig: Rig) -> None:
    """Where the length changes, the kernel gives the sum up; here it stays."""
    head = bytes(range(250)) * 4
    packet = from_client(head)
    assert len(head) == EVEN.length
    rig.set_conn(tuple_in(packet), fresh())
    rig.set_slot(*FIRST_SLOT)
    with rig.published(EVEN, head):
        assert run_with_sum(rig, "ingress", packet.encode()).counts["answered"] == 1


# ---- Any packet

ETHERNET = st.sampled_from([bytes(12) + kind for kind in (b"\x08\0", b"\x86\xdd", b"\x81\0", b"\x08\x06")])


@given(st.sampled_from(["ingress", "egress"]), ETHERNET, st.binary(min_size=40, max_size=200))
def test_garbage(rig: Rig, program: str, ethernet: bytes, content: bytes) -> None:
    """Test runs of newer kernels take no packet without a whole IP header."""
    done = rig.run(program, ethernet + content)
    assert (done.verdict, done.data, done.counts) == (PASS, ethernet + content, {})


HEADS = st.sampled_from([b"", EVEN.head, EVEN.head, ODD.head, EVEN.head + ODD.head, EVEN.head[:9]])
NEAR = st.integers(-3000, 3000) | st.sampled_from([0, 0, 0, -len(EVEN.head), -EVEN.length])
FROM_CLIENT = [
    (USED_IN, USED_OUT),
    (USED_IN - len(EVEN.head), ANSWER_START),
    (USED_IN, ANSWER_START),
    (USED_IN - len(EVEN.head), USED_OUT),
]
FROM_SERVER = [(STACK_OUT, STACK_IN), (STACK_OUT, STACK_IN - len(EVEN.head)), (STACK_OUT - 500, STACK_IN)]


@st.composite
def segments(draw: st.DrawFn, *, incoming: bool) -> Segment:
    """Segments of a connection that is in use: as they usually are, or with one or more oddities."""
    v6, ts = draw(st.sampled_from(KINDS))
    seq, ack = draw(st.sampled_from(FROM_CLIENT if incoming else FROM_SERVER))
    make = from_client if incoming else from_server
    packet = make(draw(HEADS), v6=v6, ts=ts, seq=seq, ack=ack, window=draw(st.sampled_from([512, 512, 0, 1, 65535])))
    stamps = timestamps(draw(st.sampled_from([TSVAL, TS_BASE + 9000, 5])), TS_BASE)
    edges = [(USED_OUT + draw(NEAR)) % MOD for _ in range(4)]
    blocks = sack((edges[0], edges[1]), (edges[2], edges[3]))
    some = st.binary(max_size=40).map(lambda options: options + bytes(-len(options) % 4))
    oddities: dict[str, st.SearchStrategy[object]] = {
        "seq": NEAR.map(lambda near: (seq + near) % MOD),
        "ack": NEAR.map(lambda near: (ack + near) % MOD),
        "flags": st.integers(0, 255).map(lambda bits: Flag(bits) & ~SYN),
        "options": st.sampled_from([stamps, blocks, stamps + blocks, NOP + blocks + NOP, stamps[1:] + NOP]) | some,
        "payload": st.binary(max_size=100),
        "tos": st.sampled_from([1, 2, 3, 0xB8]),
        "reserved": st.integers(1, 15),
        "trailer": st.sampled_from([b"\0", bytes(6)]),
        "urgent": st.just(7),
    }
    if not v6:
        oddities["ip_options"] = st.sampled_from([NOP * 4, NOP * 40])
        oddities["fragment"] = st.sampled_from([0, 0x2000])
    chosen = draw(st.just([]) | st.lists(st.sampled_from(sorted(oddities)), unique=True, max_size=4))
    packet = packet.but(**{name: draw(oddities[name]) for name in chosen})
    return packet.but(options=packet.options + bytes(-len(packet.options) % 4))


@given(st.booleans(), st.data(), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3))
def test_damaged_packets_without_an_entry(
    rig: Rig, incoming: bool, data: st.DataObject, damage: list[tuple[int, int]]
) -> None:
    frame = bytearray(data.draw(segments(incoming=incoming)).encode())
    for place, value in damage:
        frame[12 + place % (len(frame) - 12)] = value
    done = rig.run("ingress" if incoming else "egress", bytes(frame))
    assert (done.verdict, done.data) == (PASS, bytes(frame))
    assert set(done.counts) <= {"open_unknown"}


MISMATCH = st.sampled_from([False, False, False, True])
"""Was the connection opened with other options than the packet has?"""

NEAR_STATES = st.sampled_from(
    [
        State.ANSWERED,
        State.ANSWERED | State.PENDING,
        State.ANSWERED | State.PENDING | State.CLIENT_FIN,
        State.ANSWERED | State.SERVER_FIN,
        State.ANSWERED | State.RESET,
    ]
)


def arrange_used(rig: Rig, packet: Segment, state: State, *, incoming: bool, ts: bool) -> dict[str, int]:
    base = (pending if state & State.PENDING else used)(v6=packet.v6, ts=ts)
    conn = base | {"state": base["state"] | state}
    ours = (
        packet
        if incoming
        else packet.but(
            source=packet.target, target=packet.source, source_port=packet.target_port, target_port=packet.source_port
        )
    )
    rig.set_conn(tuple_in(ours), conn)
    rig.set_slot(*USED_SLOT)
    return conn


@settings(max_examples=300)
@given(segments(incoming=True), NEAR_STATES, MISMATCH)
def test_any_packet_of_a_client(rig: Rig, packet: Segment, state: State, mismatch: bool) -> None:
    """Whatever comes: what leaves has right checksums; it is the packet with other numbers, or a whole answer, or a
    packet without data that the stack understands."""
    conn = arrange_used(rig, packet, state, incoming=True, ts=bool(packet.options) != mismatch)
    done = rig.run("ingress", packet.encode())
    event(f"{done.verdict} {sorted(done.counts)}")
    key = tuple_in(packet)
    if done.verdict == DROP:
        assert done.counts.get("answer_lost") == 1
        assert done.data == packet.encode()
        return
    after = decode(done.data)
    if done.verdict == REDIRECT:
        entry = rig.conn(key)
        assert entry is not None
        assert entry["state"] & State.PENDING
        page = ODD if done.counts.get("answered") and packet.payload == ODD.head else EVEN
        assert after.payload == page.at(entry["answer_second"])
        assert (after.seq, after.ack) == (entry["answer_seq"], entry["request_seq"] + entry["request_len"])
        assert (after.source, after.target) == (packet.target, packet.source)
        return
    assert done.verdict == PASS
    if done.counts.get("stack_acks"):
        assert (after.payload, after.flags) == (b"", ACK)
        assert (after.seq, after.ack) == (STACK_IN, STACK_OUT)
        return
    window = packet.window
    if conn["state"] & State.PENDING or (packet.flags == ACK and not packet.payload and after.window == RESTING_WINDOW):
        window = min(after.window, packet.window)
    assert after == packet.but(seq=after.seq, ack=after.ack, options=after.options, window=window)
    if packet.fragment & 0x3FFF and not packet.v6:
        assert after == packet
        return
    assert after.seq == (packet.seq - conn["d_in"]) % MOD
    if packet.flags & ACK and (packet.ack - USED_OUT) % MOD < 2**31:
        assert after.ack == (packet.ack - conn["d_out"]) % MOD
    if packet.payload and conn["state"] & State.PENDING:
        assert packet.seq != conn["request_seq"] or (packet.ack - USED_OUT) % MOD == 0


@given(segments(incoming=False), NEAR_STATES, MISMATCH)
def test_any_packet_of_the_stack(rig: Rig, packet: Segment, state: State, mismatch: bool) -> None:
    """It is dropped when it holds old data; else it leaves with other numbers, and as long as the answer is not
    acknowledged, without an acknowledgement of its request."""
    conn = arrange_used(rig, packet, state, incoming=False, ts=bool(packet.options) != mismatch)
    done = rig.run("egress", packet.encode())
    whole = packet.v6 or not packet.fragment & 0x3FFF
    old = packet.payload and (packet.seq - STACK_OUT) % MOD >= 2**31
    if whole and old:
        assert (done.verdict, done.data, done.counts) == (DROP, packet.encode(), {"stale_dropped": 1})
        return
    assert done.verdict == PASS
    after = decode(done.data)
    assert after == packet.but(seq=after.seq, ack=after.ack, options=after.options)
    if not whole:
        assert after == packet
        return
    assert after.seq == (packet.seq + conn["d_out"]) % MOD
    if packet.flags & ACK:
        limit = (conn["request_seq"] - after.ack) % MOD
        assert not conn["state"] & State.PENDING or limit < 2**31
        assert after.ack == (packet.ack + conn["d_in"]) % MOD or conn["state"] & State.PENDING


@given(st.integers(0, 65535), st.integers(0, 65535))
@example(PORT, PORT ^ 64)
def test_ports(rig: Rig, port: int, other: int) -> None:
    """One bit a port."""
    rig.memory["ports"][:] = bytes(len(rig.memory["ports"]))
    rig.open_port(port)
    rig.set_slot(*FIRST_SLOT)
    packet = from_client(EVEN.head, target_port=other)
    rig.set_conn(tuple_in(packet), fresh())
    done = rig.run("ingress", packet.encode())
    assert (done.verdict == REDIRECT) == (port == other)
    assert done.counts.get("answered", 0) == (port == other)
