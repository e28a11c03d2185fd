# SPDX-License-Identifier: MIT
"""What the egress program does with packets of the stack, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tests.unit.kernel.programs.cases import (
    D_IN,
    D_OUT,
    EVEN,
    FIRST_OUT,
    IRS,
    ISS,
    KINDS,
    STACK_IN,
    STACK_OUT,
    TS_BASE,
    TSVAL,
    USED_IN,
    USED_OUT,
    WRAPS,
    Case,
    State,
    fresh,
    from_server,
    kind,
    pending,
    used,
    used_from,
)
from tests.unit.kernel.programs.packets import (
    ACK,
    CWR,
    ECE,
    FIN,
    MOD,
    NOP,
    RST,
    SYN,
    Segment,
    mss,
    sack,
    timestamps,
    window_scale,
)
from tests.unit.kernel.programs.rig import DROP, MARK, PORT

FAR: Final = 2**30
"""Bytes behind which an answer is forgotten."""


def out(name: str, packet: Segment | bytes, conn: Mapping[str, int] | None, **changes: object) -> Case:
    """A packet that leaves as it is."""
    return Case(name, packet, conn, program="egress").but(**changes)


def moved(name: str, packet: Segment, conn: Mapping[str, int], seq: int, ack: int, **changes: object) -> Case:
    """A packet that reaches the client with these numbers."""
    output = packet.but(seq=seq % MOD, ack=ack % MOD)
    case = out(f"translate: {name}", packet, conn, counts={"translated_out": 1}, output=output)
    return case.but(**changes)


def from_stack(payload: bytes = b"", *, v6: bool = False, ts: bool = False, **changes: object) -> Segment:
    """The next packet of a connection that is in use, in the stack's numbers."""
    return from_server(payload, v6=v6, ts=ts, seq=STACK_OUT, ack=STACK_IN).but(**changes)


ACKNOWLEDGE: Final = from_stack()


def plain() -> Iterator[Case]:
    """Before the first answer both number spaces are the same. What passes is noted."""
    data = from_server(b"HTTP/1.1 200 OK\r\n\r\n")
    for v6, ts in KINDS:
        packet = from_server(data.payload, v6=v6, ts=ts)
        noted = {"out_next": packet.end} | ({"ts_last": TS_BASE + 5000} if ts else {})
        yield out(f"no answer yet: data, {kind(v6=v6, ts=ts)}", packet, fresh(v6=v6, ts=ts), becomes=noted)
    yield out("no answer yet: an acknowledgement", from_server(), fresh())
    yield out("no answer yet: another window", from_server(window=0), fresh(), becomes={"window": 0})
    yield out("no answer yet: data again", data, fresh(out_next=ISS + 500))
    fin = {"out_next": ISS + 1, "state": State.SERVER_FIN}
    yield out("no answer yet: FIN", from_server(flags=ACK | FIN), fresh(), becomes=fin)
    both = {"out_next": ISS + 4, "state": State.SERVER_FIN}
    yield out("no answer yet: FIN behind data", from_server(b"bye", flags=ACK | FIN), fresh(), becomes=both)
    gone = {"counts": {"closed": 1}, "becomes": None}
    for flags in (RST, RST | ACK):
        yield out(f"no answer yet: {flags!r}", from_server(flags=flags), fresh(), **gone)
    yield out("no answer yet: SACK", from_server(options=sack((IRS + 9, IRS + 10))), fresh())


def strangers() -> Iterator[Case]:
    packet, key = ACKNOWLEDGE, out("", ACKNOWLEDGE, None).entry_key

    def stranger(name: str, other: Segment | bytes) -> Case:
        return out(f"not ours: {name}", other, used(), key=key, seen=False)

    yield out("not ours: no entry", packet, None)
    yield out("not ours: no entry, IPv6", from_stack(v6=True), None)
    yield stranger("another port", packet.but(source_port=PORT + 1))
    yield stranger("to our port, from another", packet.but(source_port=1, target_port=PORT))
    yield stranger("a fragment", packet.but(fragment=0x2000))
    yield stranger("a tag", packet.but(vlan=5))
    yield stranger("cut off", packet.encode()[:-1])
    answer = packet.but(payload=b"an answer")
    yield out("an answer of the other program", answer, used(), seen=False, mark=MARK, mark_after=0)
    yield out("another mark", answer, used(), mark=MARK + 1).but(
        counts={"translated_out": 1},
        output=answer.but(seq=USED_OUT, ack=USED_IN),
        becomes={"out_next": USED_OUT + len(answer.payload)},
    )
    dead = used(state=State.ANSWERED | State.DEAD)
    yield out("not ours: the entry is dead", packet, dead, seen=False)
    yield out("not ours: the entry became another one's", packet, used(), seen=False, of=bytes(36))


def translations() -> Iterator[Case]:
    to = (USED_OUT, USED_IN)
    for v6, ts in KINDS:
        name, conn = kind(v6=v6, ts=ts), used(v6=v6, ts=ts)
        stamped = {"ts_last": TS_BASE + 5000} if ts else {}
        packet = from_stack(v6=v6, ts=ts)
        yield moved(f"an acknowledgement, {name}", packet, conn, *to, becomes=stamped)
        data = from_stack(b"x" * 1400, v6=v6, ts=ts)
        yield moved(f"data, {name}", data, conn, *to, becomes=stamped | {"out_next": USED_OUT + 1400})
        selective = packet.but(options=packet.options + sack((STACK_IN + 7, STACK_IN + 9)))
        there = selective.but(options=packet.options + sack((USED_IN + 7, USED_IN + 9)), seq=to[0], ack=to[1])
        yield moved(f"SACK, {name}", selective, conn, *to, output=there, becomes=stamped)

    ack = ACKNOWLEDGE
    yield moved("another window", ack.but(window=1), used(), *to, becomes={"window": 1})
    yield moved("a probe of the client (keep-alive)", ack.but(seq=STACK_OUT - 1), used(), USED_OUT - 1, USED_IN)
    yield moved("congestion flags", ack.but(flags=ACK | ECE | CWR, tos=3), used(), *to)
    yield moved("IP options", ack.but(ip_options=NOP * 4), used(), *to)
    yield moved("padding behind the packet", ack.but(trailer=bytes(6)), used(), *to)
    yield moved("the mark is kept", ack, used(), *to, mark=5)
    long = ack.but(payload=b"x" * 100, no_length=True)
    yield moved("a packet of length 0", long, used(), *to, becomes={"out_next": USED_OUT + 100})
    yield moved("bytes in but none out", ack.but(seq=USED_OUT), used(d_out=0), USED_OUT, USED_IN)
    for name, blocks in {"three": [(1, 2), (5, 7), (9, 12)], "four": [(n, n + 1) for n in range(1, 8, 2)]}.items():
        for place, pad in {"aligned": NOP * 2, "at an even offset": b"", "at an odd offset": NOP}.items():
            behind = NOP * (2 - len(pad))
            before = [(STACK_IN + a, STACK_IN + b) for a, b in blocks]
            after = [(USED_IN + a, USED_IN + b) for a, b in blocks]
            packet = ack.but(options=sack(*before, pad=pad) + behind)
            output = packet.but(options=sack(*after, pad=pad) + behind, seq=to[0], ack=to[1])
            yield moved(f"SACK {place}, {name} blocks", packet, used(), *to, output=output)

    state = used()["state"]
    fin = {"out_next": USED_OUT + 1, "state": state | State.SERVER_FIN}
    yield moved("FIN", ack.but(flags=ACK | FIN), used(), *to, becomes=fin)
    reset = {"state": state | State.RESET}
    yield moved("RST with ACK", ack.but(flags=RST | ACK), used(), *to, becomes=reset)
    yield moved("RST alone", ack.but(flags=RST, ack=0), used(), USED_OUT, 0, becomes=reset)

    for name, (irs, iss) in WRAPS.items():
        conn = used_from(irs, iss)
        seq, acked = (STACK_OUT + iss - ISS) % MOD, (STACK_IN + irs - IRS) % MOD
        packet = from_stack(b"data", seq=seq, ack=acked, options=sack((acked + 5, acked + 900)))
        output = packet.but(
            seq=(seq + D_OUT) % MOD,
            ack=(acked + D_IN) % MOD,
            options=sack((acked + D_IN + 5, acked + D_IN + 900)),
        )
        becomes = {"out_next": seq + D_OUT + 4}
        yield moved(f"wrap-around: {name}", packet, conn, 0, 0, output=output, becomes=becomes)


def clamps() -> Iterator[Case]:
    """As long as the client may have missed the answer, it must not learn that its request has arrived."""
    asked = USED_IN - len(EVEN.head)
    ack = ACKNOWLEDGE
    for v6, ts in KINDS:
        stamped = {"ts_last": TS_BASE + 5000} if ts else {}
        packet, conn = from_stack(v6=v6, ts=ts), pending(v6=v6, ts=ts)
        yield moved(f"clamp: {kind(v6=v6, ts=ts)}", packet, conn, USED_OUT, asked, becomes=stamped)
    piped = ack.but(ack=STACK_IN + 300)
    more, heard = pending(in_next=USED_IN + 300), {"stack_ack": USED_IN + 300}
    yield moved("clamp: the next request, too", piped, more, USED_OUT, asked, becomes=heard)
    data = from_stack(b"the next answer")
    yield moved("clamp: data", data, pending(), USED_OUT, asked, becomes={"out_next": USED_OUT + len(data.payload)})
    fin = {"out_next": USED_OUT + 1, "state": pending()["state"] | State.SERVER_FIN}
    yield moved("clamp: FIN", ack.but(flags=ACK | FIN), pending(), USED_OUT, asked, becomes=fin)
    reset = {"state": pending()["state"] | State.RESET}
    yield moved("clamp: RST", ack.but(flags=ACK | RST), pending(), USED_OUT, asked, becomes=reset)
    bare = ack.but(flags=RST, ack=USED_IN + 5)
    yield moved("clamp: not without ACK", bare, pending(), USED_OUT, USED_IN + 5, becomes=reset)
    before = ack.but(ack=STACK_IN - len(EVEN.head) - 60)
    yield moved("clamp: less is left", before, pending(), USED_OUT, asked - 60)
    exact = ack.but(ack=STACK_IN - len(EVEN.head))
    yield moved("clamp: exactly all before", exact, pending(), USED_OUT, asked)
    around = pending()
    for member in ("irs", "in_next", "request_seq", "stack_ack"):
        around[member] += MOD - 20 - asked
    packet = ack.but(ack=(STACK_IN + MOD - 20 - asked) % MOD)
    yield moved("clamp: around 2^32", packet, around, USED_OUT, MOD - 20)


def stale() -> Iterator[Case]:
    """Sent again although it was acknowledged: in the client's numbers it would lie where answers are."""
    point = STACK_OUT
    dropped = out("", ACKNOWLEDGE, used(), verdict=DROP, counts={"stale_dropped": 1})
    for name, seq, length in (
        ("all of it", point - 100, 100),
        ("its last byte is the first behind the answer", point - 99, 100),
        ("one byte", point - 1, 1),
    ):
        packet = from_stack(b"x" * length, seq=seq)
        again = {"una": seq}
        yield dropped.but(name=f"stale: {name}", packet=packet, becomes=again)
        yield dropped.but(name=f"stale: {name}, not acknowledged", packet=packet, conn=pending(), becomes=again)
        lower = pending(una=seq - 1)
        yield dropped.but(name=f"stale: {name}, and it knows no better", packet=packet, conn=lower)
    old = from_stack(b"x", seq=point - 1, window=7, flags=ACK | FIN)
    yield dropped.but(name="stale: its window is news", packet=old, becomes={"window": 7, "una": point - 1})
    stamped = from_stack(b"x", seq=point - 1, ts=True)
    yield dropped.but(name="stale: it has timestamps", packet=stamped, conn=used(ts=True), becomes={"una": point - 1})
    first = from_stack(b"x", seq=point)
    yield moved(
        "the first byte behind the answer", first, used(), USED_OUT, USED_IN, becomes={"out_next": USED_OUT + 1}
    )
    again = used(out_next=USED_OUT + 500)
    yield moved("data behind the answer, again", first, again, USED_OUT, USED_IN)
    empty = from_stack(seq=point - 100)
    yield moved("without data nothing is stale", empty, used(), USED_OUT - 100, USED_IN)


def clocks() -> Iterator[Case]:
    """A timestamp that went back would look like an old packet (RFC 7323, PAWS)."""
    ahead = used(ts=True, ts_last=TS_BASE + 9000)
    packet = from_stack(ts=True)
    to = {"seq": USED_OUT, "ack": USED_IN}
    kept = packet.but(options=timestamps(TS_BASE + 9000, TSVAL), **to)
    yield moved("the last answer's clock was ahead", packet, ahead, 0, 0, output=kept)
    same = used(ts=True, ts_last=TS_BASE + 5000)
    yield moved("the same timestamp", packet, same, USED_OUT, USED_IN)
    for place, (front, behind) in {
        "at an even offset": (b"", NOP * 2),
        "at an offset of four": (NOP * 2, b""),
        "behind other options": (NOP * 4, NOP * 2),
    }.items():
        options = timestamps(TS_BASE + 5000, TSVAL, pad=front) + behind
        output = packet.but(options=timestamps(TS_BASE + 9000, TSVAL, pad=front) + behind, **to)
        yield moved(f"timestamps {place}", packet.but(options=options), ahead, 0, 0, output=output)
    options = timestamps(TS_BASE + 5000, TSVAL, pad=NOP) + NOP
    yield moved("timestamps at an odd offset are left alone", packet.but(options=options), ahead, USED_OUT, USED_IN)
    around = used(ts=True, ts_base=MOD - 100, ts_last=MOD - 50)
    newer = packet.but(options=timestamps(20, TSVAL))
    yield moved("timestamps wrap around", newer, around, USED_OUT, USED_IN, becomes={"ts_last": 20})
    older = packet.but(options=timestamps(MOD - 60, TSVAL))
    kept = older.but(options=timestamps(MOD - 50, TSVAL), **to)
    yield moved("timestamps before 2^32", older, around, 0, 0, output=kept)
    bare = from_server(options=timestamps(TS_BASE + 1, TSVAL))
    kept = bare.but(options=timestamps(TS_BASE + 4000, TSVAL))
    plain_conn = fresh(ts=True, ts_last=TS_BASE + 4000)
    yield moved("no answer yet: a timestamp that went back", bare, plain_conn, 0, 0, output=kept)


def far() -> Iterator[Case]:
    """Numbers are compared modulo 2^32: an answer that lies far behind is forgotten in time."""

    def distance(base: dict[str, int], length: int) -> dict[str, int]:
        return base | {"answer_seq": USED_OUT - length, "answer_pos": STACK_OUT - length}

    data = from_stack(b"1234")
    end = USED_OUT + 4
    forgotten = {
        "out_next": end,
        "answer_seq": end - FAR // 2,
        "answer_pos": end - FAR // 2 - D_OUT,
        "answer_len": 0,
    }
    yield moved("far: behind", data, distance(used(), FAR - 3), USED_OUT, USED_IN, becomes=forgotten)
    yield moved("far: not yet", data, distance(used(), FAR - 4), USED_OUT, USED_IN, becomes={"out_next": end})
    asked = USED_IN - len(EVEN.head)
    waiting = distance(pending(), FAR)
    yield moved("far: not while it is wanted", data, waiting, USED_OUT, asked, becomes={"out_next": end})
    plain_conn = fresh(out_next=USED_OUT, answer_seq=USED_OUT - 2 * FAR)
    bare = from_server(b"1234", seq=USED_OUT)
    yield out("far: there was no answer", bare, plain_conn, becomes={"out_next": end})


def acknowledgements() -> Iterator[Case]:
    """The highest one is kept: the answer that fills a hole acknowledges all behind it."""
    ack = from_server(ack=IRS + 50)
    conn = fresh(in_next=IRS + 80)
    yield out("acknowledged: more than before", ack, conn, becomes={"stack_ack": IRS + 50})
    more = {"stack_ack": IRS + 50, "in_next": IRS + 50}
    yield out("acknowledged: more than was counted", ack, fresh(), becomes=more)
    yield out("acknowledged: less than before", ack, conn | {"stack_ack": IRS + 60})
    yield out("acknowledged: nothing", from_server(flags=RST, ack=IRS + 50), conn, becomes=None, counts={"closed": 1})
    later = used(stack_ack=USED_IN - 5)
    yield moved("what it acknowledges is noted", ACKNOWLEDGE, later, USED_OUT, USED_IN, becomes={"stack_ack": USED_IN})


def probes() -> Iterator[Case]:
    """A segment that is larger than what the path is known to take is remembered until it has arrived."""
    for v6, ts in KINDS:
        packet = from_server(b"x" * 1400, v6=v6, ts=ts)
        stamped = {"ts_last": TS_BASE + 5000} if ts else {}
        noted = stamped | {"out_next": packet.end, "probe_len": 1400, "probe_end": packet.end}
        conn = fresh(v6=v6, ts=ts, proven=1399)
        yield out(f"probe: a larger one, {kind(v6=v6, ts=ts)}", packet, conn, becomes=noted)
        known = fresh(v6=v6, ts=ts, proven=1400)
        yield out(f"probe: as before, {kind(v6=v6, ts=ts)}", packet, known, becomes=stamped | {"out_next": packet.end})
    data = from_stack(b"x" * 1400)
    noted = {"out_next": USED_OUT + 1400, "probe_len": 1400, "probe_end": USED_OUT + 1400}
    yield moved("a larger one", data, used(proven=1208), USED_OUT, USED_IN, becomes=noted)
    many = from_stack(b"x" * 2500)
    noted = {"out_next": USED_OUT + 2500, "probe_len": 1400, "probe_end": USED_OUT + 2500}
    yield moved("several in one packet", many, used(proven=1208), USED_OUT, USED_IN, becomes=noted, gso_size=1400)
    known = used(proven=1400)
    counted = {"out_next": USED_OUT + 2500}
    yield moved("several small ones in one packet", many, known, USED_OUT, USED_IN, becomes=counted, gso_size=1400)
    noted = {"out_next": USED_OUT + 1400, "probe_len": 1400, "probe_end": USED_OUT + 1400}
    under_way = used(proven=1208, probe_len=1300, probe_end=USED_OUT)
    yield moved("an even larger one", data, under_way, USED_OUT, USED_IN, becomes=noted)


def openings() -> Iterator[Case]:
    """SYN-ACK. (What makes a new entry needs a socket, which test runs do not have.)"""
    options = mss(1460) + NOP + window_scale(7)
    start = ISS - FIRST_OUT - 1
    first = from_server(seq=start, flags=SYN | ACK, options=options)
    yield out("open: no socket", first, None)
    yield out("open: no socket, IPv6", from_server(v6=True, seq=start, flags=SYN | ACK, options=options), None)
    yield out("open: SYN-ACK again", first, used(), seen=False)
    yield out("open: SYN-ACK again, not answered yet", first, fresh(), seen=False)
    gone = {"becomes": None, "counts": {"closed": 1}, "seen": False}
    yield out("open: another connection of the same ends", first.but(seq=start + 1), used(), **gone)
    dead = used(state=State.ANSWERED | State.DEAD)
    yield out("open: somebody else deletes the old one", first.but(seq=start + 1), dead, seen=False)
    yield out("open: the old one became another one's", first.but(seq=start + 1), used(), seen=False, of=bytes(36))
    yield out("open: a SYN of our own", first.but(flags=SYN, seq=start + 1), used(), seen=False)


def all_cases() -> Iterator[Case]:
    for table in (plain, strangers, translations, clamps, stale, clocks, far, acknowledgements, probes, openings):
        yield from table()
