# SPDX-License-Identifier: MIT
"""Packets from clients that go to the stack: untouched, or with other numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tests.unit.kernel.programs.answer_cases import write
from tests.unit.kernel.programs.cases import (
    ANSWER_END,
    ANSWER_START,
    BUSY_SLOT,
    CLIENT,
    COOKIE,
    D_IN,
    D_OUT,
    EVEN,
    FIRST_SLOT,
    IRS,
    ISS,
    KINDS,
    NOW,
    ODD,
    PAGES,
    RESTING_WINDOW,
    STACK_IN,
    STACK_OUT,
    USED_IN,
    USED_OUT,
    USED_SLOT,
    WRAPS,
    Case,
    State,
    fresh,
    from_client,
    kind,
    passed,
    pending,
    used,
    used_from,
    window_beside,
)
from tests.unit.kernel.programs.packets import (
    ACK,
    CWR,
    ECE,
    FIN,
    MOD,
    NOP,
    PSH,
    RST,
    SACK_PERMITTED,
    URG,
    Flag,
    Segment,
    sack,
)
from tests.unit.kernel.programs.rig import MARK, PORT, tuple_of

# ---- Packets that are no business of the program's


def strangers() -> Iterator[Case]:
    request, request6 = from_client(EVEN.head), from_client(EVEN.head, v6=True)

    def stranger(name: str, packet: Segment | bytes, base: Segment = request) -> Case:
        key = Case("", base).entry_key
        return Case(f"not ours: {name}", packet, fresh(v6=base.v6), seen=False, key=key)

    yield Case("not ours: a connection without an entry", request)
    yield Case("not ours: the same, IPv6", request6)
    yield stranger("another port", request.but(target_port=PORT + 1))
    yield stranger("another port of the same word", request.but(target_port=PORT ^ 1))
    yield stranger("from our port, to another", request.but(source_port=PORT, target_port=1))
    yield stranger("another port, IPv6", request6.but(target_port=PORT + 1), request6)
    for packet in (request, request6):
        yield stranger(f"a tag, {packet.ethertype:#06x}", packet.but(vlan=5), packet)
        frame = packet.encode()
        yield stranger(f"UDP, {packet.ethertype:#06x}", change(frame, 20 if packet.v6 else 23, 17), packet)
        for ethertype in (0x0806, 0x88A8, 0x0000):
            other = frame[:12] + ethertype.to_bytes(2, "big") + frame[14:]
            yield stranger(f"{ethertype:#06x} in place of {packet.ethertype:#06x}", other, packet)
        yield stranger(f"cut off, {packet.ethertype:#06x}", frame[:-1], packet)
        yield stranger(f"no room for TCP, {packet.ethertype:#06x}", frame[: 53 if not packet.v6 else 73], packet)
        at = 54 + 12 if packet.v6 else 34 + 12
        yield stranger(f"a TCP header of 16 bytes, {packet.ethertype:#06x}", change(frame, at, 0x40), packet)
        short = packet.but(payload=b"", flags=ACK).encode()
        yield stranger(f"a TCP header behind the end, {packet.ethertype:#06x}", change(short, at, 0xF0), packet)
        inside = change(packet.but(payload=b"", flags=ACK, trailer=bytes(40)).encode(), at, 0xF0)
        yield stranger(f"a TCP header behind the packet, {packet.ethertype:#06x}", inside, packet)
    yield stranger("a first fragment", request.but(fragment=0x2000))
    yield stranger("a later fragment", request.but(fragment=0x2010))
    yield stranger("a last fragment", request.but(fragment=0x0010))
    yield stranger("an IPv4 header of 16 bytes", change(request.encode(), 14, 0x44))
    # If it were believed, the destination's address would be the ports, and the acknowledgement the data offset.
    overlap = request.but(target=f"198.51.{PORT >> 8}.{PORT & 255}", ack=0x50000000)
    as_ports = tuple_of(overlap.target, CLIENT, PORT, 198 << 8 | 51)
    yield stranger("an IPv4 header that overlaps TCP", change(overlap.encode(), 14, 0x44)).but(
        conn=used(), key=as_ports
    )
    yield stranger("an IPv4 packet shorter than its header", change(request.encode(), 17, 19))
    bare = request.but(payload=b"", flags=ACK)
    yield stranger("IPv4 options behind the end", change(bare.encode(), 14, 0x4F))
    jumbo = request6.but(extension=JUMBO, no_length=True)
    yield stranger("extension headers", request6.but(extension=bytes([6, 0, 1, 4, 0, 0, 0, 0])), request6)
    yield stranger("the same, and no length", jumbo.but(extension=bytes([6, 0, 1, 4, 0, 0, 0, 0])), request6)
    yield stranger("a jumbo header, and a length", jumbo.but(no_length=False), request6)
    yield stranger("a jumbo header, and UDP", jumbo.but(extension=b"\x11" + JUMBO[1:]), request6)
    yield stranger("a jumbo header and more", jumbo.but(extension=b"\x06\x01" + JUMBO[2:] + bytes(8)), request6)
    yield stranger("a jumbo header, cut off", jumbo.but(payload=b"").encode()[:-1], request6)
    for packet in (request, request6):
        frame, version = packet.encode(), 5 << 4 | (0 if packet.v6 else 5)
        yield stranger(f"another version than {packet.ethertype:#06x}", change(frame, 14, version), packet)

    dead = used(state=State.ANSWERED | State.DEAD)
    ack = from_client(seq=USED_IN, ack=USED_OUT)
    yield Case("not ours: the entry is dead", ack, dead, seen=False)
    yield Case("not ours: a request, the entry is dead", request, fresh(state=State.DEAD), seen=False, counts=ORDER)
    yield Case("not ours: the entry became another one's", ack, used(), seen=False, of=bytes(36))
    yield Case("not ours: a request, the entry became another one's", request, fresh(), seen=False, of=bytes(36))


ORDER: Final = {"pass_order": 1}

JUMBO: Final = bytes.fromhex("0600c20400011170")
"""A hop-by-hop header with the jumbo payload option (RFC 2675), then TCP: of packets that never leave this machine."""


def change(frame: bytes, at: int, value: int) -> bytes:
    return frame[:at] + bytes([value]) + frame[at + 1 :]


# ---- Packets whose numbers are translated


def moved(name: str, packet: Segment, conn: Mapping[str, int], seq: int, ack: int, **changes: object) -> Case:
    """A packet that goes to the stack with these numbers."""
    case = Case(
        f"translate: {name}",
        packet,
        conn,
        counts={"translated_in": 1},
        output=packet.but(seq=seq % MOD, ack=ack % MOD),
    )
    return case.but(**changes)


def translations() -> Iterator[Case]:
    for v6, ts in KINDS:
        name, conn = kind(v6=v6, ts=ts), used(v6=v6, ts=ts)
        ack = from_client(v6=v6, ts=ts, seq=USED_IN, ack=USED_OUT)
        yield moved(f"an acknowledgement, {name}", ack, conn, STACK_IN, STACK_OUT)
        data = ack.but(payload=b"POST /x HTTP/1.1\r\n", flags=ACK | PSH)
        counts = {"translated_in": 1, "pass_busy": 1}
        yield moved(f"data, {name}", data, conn, STACK_IN, STACK_OUT, becomes=passed(data), counts=counts)
        probe = ack.but(seq=USED_IN - 1)
        yield moved(f"a keep-alive probe, {name}", probe, conn, STACK_IN - 1, STACK_OUT)
        inside = (USED_OUT + 100, USED_OUT + 200)
        selective = ack.but(options=ack.options + sack(inside))
        there = (inside[0] - D_OUT, inside[1] - D_OUT)
        output = selective.but(options=ack.options + sack(there), seq=STACK_IN, ack=STACK_OUT)
        yield moved(f"SACK, {name}", selective, conn, STACK_IN, STACK_OUT, output=output)


ACKNOWLEDGE: Final = from_client(seq=USED_IN, ack=USED_OUT)


def headers() -> Iterator[Case]:
    """What else a header may have is kept."""
    ack, to = ACKNOWLEDGE, (STACK_IN, STACK_OUT)
    yield moved("padding behind the packet", ack.but(trailer=bytes(6)), used(), *to)
    yield moved("IP options", ack.but(ip_options=NOP * 8), used(), *to)
    yield moved("no DF", ack.but(fragment=0, ident=7), used(), *to)
    yield moved("congestion flags", ack.but(flags=ACK | ECE | CWR, tos=3), used(), *to)
    yield moved("a reserved bit", ack.but(reserved=8), used(), *to)
    yield moved("an unknown option", ack.but(options=b"\xfd\x04\0\0"), used(), *to)
    yield moved("forty bytes of options", ack.but(options=NOP * 40), used(), *to)
    yield moved("an urgent pointer", ack.but(urgent=5), used(), *to)
    urgent = ack.but(flags=ACK | URG, urgent=5, payload=b"!")
    shape = {"translated_in": 1, "pass_shape": 1}
    yield moved("urgent data", urgent, used(), *to, becomes=passed(urgent), counts=shape)
    probe = ack.but(seq=USED_IN - 1, payload=b"\0")
    order = {"translated_in": 1, "pass_order": 1}
    yield moved("a keep-alive probe of a byte", probe, used(), STACK_IN - 1, STACK_OUT, becomes=OLD, counts=order)
    yield moved("the mark is kept", ack, used(), *to, mark=MARK)


OLD: Final = {"passed_ns": NOW}
"""What data that was there before makes of an entry."""


def long_packets() -> Iterator[Case]:
    """With length 0 the packet is all that there is (BIG TCP); in IPv6 another header says so."""
    data = ACKNOWLEDGE.but(payload=b"x" * 100, no_length=True)
    counts = {"translated_in": 1, "pass_busy": 1}
    yield moved("a packet of length 0", data, used(), STACK_IN, STACK_OUT, becomes=passed(data), counts=counts)
    jumbo = from_client(data.payload, v6=True, seq=USED_IN, ack=USED_OUT, extension=JUMBO, no_length=True)
    shape = {"translated_in": 1, "pass_shape": 1}
    base = used(v6=True)
    yield moved("a jumbo packet", jumbo, base, STACK_IN, STACK_OUT, becomes=passed(jumbo), counts=shape)
    plain = jumbo.but(extension=b"")
    yield moved("a packet of length 0, IPv6", plain, base, STACK_IN, STACK_OUT, becomes=passed(plain), counts=counts)
    bare = Case("no answer yet: a jumbo packet", from_client(EVEN.head, v6=True, extension=JUMBO, no_length=True))
    becomes = {"in_next": IRS + len(EVEN.head), "passed_ns": NOW}
    yield bare.but(conn=fresh(v6=True), becomes=becomes, counts={"pass_shape": 1})


def blocks_of_sack() -> Iterator[Case]:
    """Wherever they lie. The answer is one point for the stack, which has not sent it."""
    point, start, end = STACK_OUT, ANSWER_START, ANSWER_END
    for name, blocks, there in (
        ("two blocks", [(end, end + 5), (end + 9, end + 10)], [(point, point + 5), (point + 9, point + 10)]),
        ("four blocks", [(end + n, end + n + 1) for n in range(4)], [(point + n, point + n + 1) for n in range(4)]),
        ("all of the answer", [(start, end)], [(point, point)]),
        ("a part of the answer", [(start + 5, end - 5)], [(point, point)]),
        ("before the answer", [(start - 50, start - 40)], [(point - 50, point - 40)]),
        ("from before to behind it", [(start - 1, end + 1)], [(point - 1, point + 1)]),
    ):
        for place, pad in {"aligned": NOP * 2, "at an even offset": b"", "at an odd offset": NOP}.items():
            behind = NOP * (2 - len(pad))
            packet = ACKNOWLEDGE.but(options=sack(*blocks, pad=pad) + behind)
            output = packet.but(options=sack(*there, pad=pad) + behind, seq=STACK_IN, ack=STACK_OUT)
            yield moved(f"SACK {place}, {name}", packet, used(), STACK_IN, STACK_OUT, output=output)
    broken = ACKNOWLEDGE.but(options=b"\x01\x01\x05\x09" + bytes(8))
    yield moved("SACK of a wrong length is left alone", broken, used(), STACK_IN, STACK_OUT)
    for name, options in {
        "of one and a half blocks": b"\x01\x01\x05\x0e" + bytes(12),
        "that is cut off": b"\x01\x01\x05\x12" + bytes(8),
        "behind the end of the options": b"\x00\x02" + sack((1, 2), pad=b""),
        "behind an option of no length": b"\xfd\x01" + sack((1, 2), pad=b""),
    }.items():
        packet = ACKNOWLEDGE.but(options=options, payload=b"12345678")
        shape = {"translated_in": 1, "pass_shape": 1}
        to = (STACK_IN, STACK_OUT)
        yield moved(f"SACK {name} is left alone", packet, used(), *to, becomes=passed(packet), counts=shape)
    permitted = ACKNOWLEDGE.but(options=SACK_PERMITTED + NOP * 2)
    yield moved("SACK permitted is no SACK", permitted, used(), STACK_IN, STACK_OUT)


def acknowledgements() -> Iterator[Case]:
    """Of the answer, which the stack has not sent."""
    ack, point = ACKNOWLEDGE, STACK_OUT
    for name, number, to, way in (
        ("all before the answer", ANSWER_START, point, EVEN.length),
        ("one byte of the answer", ANSWER_START + 1, point, EVEN.length - 1),
        ("all but one byte of the answer", ANSWER_END - 1, point, 1),
        ("what was sent before it", ANSWER_START - 9, point - 9, EVEN.length),
    ):
        packet = ack.but(ack=number)
        output = packet.but(seq=STACK_IN, ack=to, window=window_beside(pending(), way))
        yield moved(f"it acknowledges {name}", packet, pending(), STACK_IN, to, output=output)
    done = {"state": pending()["state"] & ~State.PENDING}
    yield moved("it acknowledges the answer", ack, pending(), STACK_IN, point, becomes=done)
    since = pending(out_next=ANSWER_END + 70)
    news = done | {"una": point + 70}
    yield moved(
        "it acknowledges the answer and more", ack.but(ack=ANSWER_END + 70), since, STACK_IN, point + 70, becomes=news
    )
    yield moved("it acknowledges the answer, and less", ack, since, STACK_IN, point, becomes=done)
    beyond = ack.but(ack=ANSWER_END + 1)
    yield moved("it acknowledges what nobody sent", beyond, pending(), STACK_IN, point + 1)

    busy = {"translated_in": 1, "pass_order": 1}
    next_one = from_client(ODD.head, seq=USED_IN, ack=ANSWER_START)
    changes = passed(next_one)
    output = next_one.but(seq=STACK_IN, ack=point, window=window_beside(pending(), EVEN.length))
    yield moved("a pipelined request", next_one, pending(), 0, 0, becomes=changes, counts=busy, output=output)

    bare = Case("no answer yet: an acknowledgement is left alone", from_client(), fresh(), slot=BUSY_SLOT)
    yield bare
    conn = fresh(out_next=ISS + 10)
    for name, number, una in (("noted", ISS + 9, {"una": ISS + 9}), ("too much, and not noted", ISS + 11, {})):
        packet = from_client(ack=number)
        yield bare.but(name=f"no answer yet: it acknowledges, {name}", packet=packet, conn=conn, becomes=una)


def resting_windows() -> Iterator[Case]:
    """RFC 9293 lets a window of the same numbers only grow, and for the stack nothing happens when we answer: while
    nothing is under way it hears of the smallest window, which the next request opens."""
    for v6, ts in KINDS:
        name = kind(v6=v6, ts=ts)
        ack = from_client(v6=v6, ts=ts)
        output = ack.but(window=RESTING_WINDOW)
        yield Case(f"rest: no answer yet, {name}", ack, fresh(v6=v6, ts=ts), output=output)
        ack = from_client(v6=v6, ts=ts, seq=USED_IN, ack=USED_OUT)
        output = ack.but(window=RESTING_WINDOW, seq=STACK_IN, ack=STACK_OUT)
        yield moved(f"rest: {name}", ack, used(v6=v6, ts=ts), 0, 0, output=output, slot=USED_SLOT)
        ack = ack.but(ack=ANSWER_START)
        case = moved(f"rest: beside an answer, {name}", ack, pending(v6=v6, ts=ts), 0, 0, output=output)
        yield case.but(slot=USED_SLOT)
        ack = ack.but(seq=USED_IN - len(EVEN.head))
        output = output.but(seq=STACK_IN - len(EVEN.head))
        case = moved(f"rest: sent before the request, {name}", ack, pending(v6=v6, ts=ts), 0, 0, output=output)
        yield case.but(slot=USED_SLOT)
    done = {"state": pending()["state"] & ~State.PENDING}
    output = ACKNOWLEDGE.but(window=RESTING_WINDOW, seq=STACK_IN, ack=STACK_OUT)
    case = moved("rest: it acknowledges the answer", ACKNOWLEDGE, pending(), 0, 0, becomes=done, output=output)
    yield case.but(slot=USED_SLOT)

    bare = Case("", from_client(), fresh())
    yield bare.but(name="no rest: the worker is at it", slot=BUSY_SLOT)
    yield bare.but(name="no rest: another connection has the slot", slot=(COOKIE + 65536, FIRST_SLOT[1]))
    yield bare.but(name="no rest: nobody has the slot", conn=fresh(worker=9))
    yield bare.but(name="no rest: nothing new is answered", prepare=write("control", answering=0))
    new = fresh(irs=IRS, iss=ISS)
    yield bare.but(name="no rest: the end of the handshake", conn=new, slot=(COOKIE, 0))
    for window in (0, 1):
        yield bare.but(name=f"no rest: a window of {window}", packet=from_client(window=window))
    for flags in (ACK | PSH, ACK | ECE):
        yield bare.but(name=f"no rest: {flags!r}", packet=from_client(flags=flags))
    old = from_client(seq=IRS - 1)
    yield bare.but(name="rest: an old number", packet=old, output=old.but(window=RESTING_WINDOW))
    yield bare.but(name="no rest: a gap", packet=from_client(seq=IRS + 1), becomes={"in_next": IRS + 1})
    yield bare.but(name="no rest: not all is acknowledged", packet=from_client(ack=ISS - 1))
    left = window_beside(pending(), EVEN.length)
    ack = ACKNOWLEDGE.but(ack=ANSWER_START - 1)
    output = ack.but(seq=STACK_IN, ack=STACK_OUT - 1, window=left)
    case = moved("no rest: not all before an answer is acknowledged", ack, pending(), 0, 0, output=output)
    yield case.but(slot=USED_SLOT)
    ack, sent = ACKNOWLEDGE.but(ack=ANSWER_START), 10
    output = ack.but(seq=STACK_IN, ack=STACK_OUT, window=left)
    conn, marks = pending(out_next=ANSWER_END + sent), USED_SLOT[1] + (sent << 32)
    case = moved("no rest: the stack has sent behind an answer", ack, conn, 0, 0, output=output)
    yield case.but(slot=(COOKIE, marks))
    closing = fresh(state=State.SERVER_FIN)
    yield bare.but(name="no rest: the stack has sent its FIN", conn=closing)
    yield bare.but(name="no rest: the client has sent its FIN", conn=fresh(state=State.CLIENT_FIN))


def windows() -> Iterator[Case]:
    """Room that an answer fills is no room for what the stack sends behind it."""
    ack = ACKNOWLEDGE.but(ack=ANSWER_START)
    for name, window, scale, left in (
        ("as much as the answer", EVEN.length, 0, 0),
        ("one more", EVEN.length + 1, 0, 1),
        ("less", EVEN.length - 1, 0, 0),
        ("closed", 0, 0, 0),
        ("scaled", 9, 7, 1),
        ("the largest", 65535, 14, 65534),
    ):
        conn, packet = pending(wscale=scale), ack.but(window=window)
        output = packet.but(seq=STACK_IN, ack=STACK_OUT, window=left)
        yield moved(f"window beside an answer: {name}", packet, conn, 0, 0, output=output)
    reset = {"state": pending()["state"] | State.RESET}
    packet = ack.but(flags=RST)
    yield moved("window beside an answer: no acknowledgement", packet, pending(), STACK_IN, ANSWER_START, becomes=reset)


def wrap_arounds() -> Iterator[Case]:
    """Numbers around 2^32, of either end."""
    for name, (irs, iss) in WRAPS.items():
        conn = used_from(irs, iss)
        seq, ack = (USED_IN + irs - IRS) % MOD, (USED_OUT + iss - ISS) % MOD
        stack_seq, stack_ack = (seq - D_IN) % MOD, (ack - D_OUT) % MOD
        packet = from_client(seq=seq, ack=ack)
        yield moved(f"wrap-around: {name}", packet, conn, stack_seq, stack_ack)
        inside = packet.but(ack=(ack - 1) % MOD)
        yield moved(f"wrap-around: {name}, inside the answer", inside, conn, stack_seq, stack_ack)
        edges = [(ack, ack + 500), (ack + 3000, ack + 3500)]
        blocks = packet.but(options=sack(*edges))
        output = packet.but(
            options=sack(*[(first - D_OUT, last - D_OUT) for first, last in edges]), seq=stack_seq, ack=stack_ack
        )
        yield moved(f"wrap-around: {name}, SACK", blocks, conn, stack_seq, stack_ack, output=output)


# ---- How connections end


def over(state: State, **more: int) -> dict[str, int]:
    """A connection that was answered, and is in this state too."""
    base = used()
    return base | {"state": base["state"] | state} | more


def ends() -> Iterator[Case]:
    """Entries that renumber are not deleted with the last packet: the stack may see that otherwise, or not at all."""
    ack, to = ACKNOWLEDGE, (STACK_IN, STACK_OUT)
    fin = ack.but(flags=ACK | FIN)
    state = used()["state"]
    ends_now = {"in_next": USED_IN + 1, "state": state | State.CLIENT_FIN}
    yield moved("the client's FIN, first", fin, used(), *to, becomes=ends_now)
    data = fin.but(payload=b"bye", flags=ACK | FIN | PSH)
    shape = {"translated_in": 1, "pass_shape": 1}
    closes = passed(data, state=state | State.CLIENT_FIN)
    yield moved("a FIN behind data", data, used(), *to, becomes=closes, counts=shape)
    both = over(State.CLIENT_FIN | State.SERVER_FIN, in_next=USED_IN + 1, out_next=ANSWER_END + 1)
    last = ack.but(seq=USED_IN + 1, ack=ANSWER_END + 1)
    una = {"una": STACK_OUT + 1}
    yield moved("the last acknowledgement, of the server's FIN", last, both, STACK_IN + 1, STACK_OUT + 1, becomes=una)
    yield moved("one that does not acknowledge the FIN", last.but(ack=ANSWER_END), both, STACK_IN + 1, STACK_OUT)
    closed = over(State.SERVER_FIN, out_next=ANSWER_END + 1)
    late = fin.but(ack=ANSWER_END + 1)
    becomes = {"in_next": USED_IN + 1, "state": closed["state"] | State.CLIENT_FIN, "una": STACK_OUT + 1}
    yield moved("the client's FIN, second", late, closed, STACK_IN, STACK_OUT + 1, becomes=becomes)
    yield moved("a FIN again", fin, over(State.CLIENT_FIN, in_next=USED_IN + 1), *to)
    old = {"state": state | State.CLIENT_FIN}
    yield moved("a FIN that is old", fin.but(seq=USED_IN - 9), used(), STACK_IN - 9, STACK_OUT, becomes=old)
    ahead = fin.but(seq=USED_IN + 1)
    yield moved("a FIN behind a gap", ahead, used(), STACK_IN + 1, STACK_OUT, becomes={"in_next": USED_IN + 2})
    for flags in (RST, RST | ACK):
        number = STACK_OUT if flags & ACK else USED_OUT
        exact = {"state": state | State.RESET}
        yield moved(f"{flags!r}", ack.but(flags=flags), used(), STACK_IN, number, becomes=exact)
        for place in (-1, 1):
            false = ack.but(flags=flags, seq=USED_IN + place)
            name = f"{flags!r} that the stack does not believe, {place:+}"
            counted = {"in_next": false.seq} if place > 0 else {}
            yield moved(name, false, used(), STACK_IN + place, number, becomes=counted)

    # Without an answer both number spaces are the same, and nobody needs the entry any longer.
    plain, plain_fin = from_client(), from_client(flags=ACK | FIN)
    base = Case("", plain, fresh())
    noted = {"in_next": IRS + 1, "state": State.CLIENT_FIN}
    yield base.but(name="no answer yet: the client's FIN", packet=plain_fin, becomes=noted)
    forgotten = base.but(becomes=None, counts={"closed": 1})
    yield forgotten.but(
        name="no answer yet: the client's FIN, second",
        packet=plain_fin.but(ack=ISS + 1),
        conn=fresh(state=State.SERVER_FIN, out_next=ISS + 1),
    )
    yield forgotten.but(
        name="no answer yet: the last acknowledgement",
        packet=plain.but(seq=IRS + 1, ack=ISS + 1),
        conn=fresh(state=State.CLIENT_FIN | State.SERVER_FIN, in_next=IRS + 1, out_next=ISS + 1),
    )
    yield base.but(
        name="no answer yet: an acknowledgement of less than the server's FIN",
        packet=plain.but(seq=IRS + 1),
        conn=fresh(state=State.CLIENT_FIN | State.SERVER_FIN, in_next=IRS + 1, out_next=ISS + 1),
    )
    yield forgotten.but(name="no answer yet: RST", packet=plain.but(flags=RST))
    false = plain.but(flags=RST, seq=IRS - 1)
    yield base.but(name="no answer yet: RST that the stack does not believe", packet=false)
    yield forgotten.but(name="no answer yet: what comes after a RST", conn=fresh(state=State.RESET))


AHEAD: Final = 2**20
"""Bytes; what is farther ahead is not counted."""


def leaps() -> Iterator[Case]:
    """Numbers far ahead are nonsense, or come again in order: they must not spoil what is known."""
    for v6, ts in KINDS:
        name, conn = kind(v6=v6, ts=ts), used(v6=v6, ts=ts)
        for place, is_noted in ((AHEAD, True), (AHEAD + 1, False), (2**31 - 500, False)):
            data = from_client(b"xyz", v6=v6, ts=ts, seq=USED_IN + place, ack=USED_OUT)
            becomes = passed(data) if is_noted else OLD
            counts = {"translated_in": 1, "pass_order": 1}
            to = (STACK_IN + place, STACK_OUT)
            yield moved(f"{place} bytes ahead, {name}", data, conn, *to, becomes=becomes, counts=counts)


def proofs() -> Iterator[Case]:
    """A segment of the stack's that was larger than all before has arrived: the path takes that much."""
    probing = {"proven": 1208, "probe_len": 1400, "probe_end": ISS}
    proven = {"proven": 1400, "probe_len": 0}
    case = Case("", from_client(), fresh() | probing, slot=BUSY_SLOT)
    for v6, ts in KINDS:
        packet, conn = from_client(v6=v6, ts=ts), fresh(v6=v6, ts=ts) | probing
        yield case.but(name=f"proof: it arrived, {kind(v6=v6, ts=ts)}", packet=packet, conn=conn, becomes=proven)
    yield case.but(name="proof: not yet all of it", packet=from_client(ack=ISS - 1))
    yield case.but(name="proof: no acknowledgement", packet=from_client(flags=Flag(0)))
    yield case.but(name="proof: of what nobody sent", packet=from_client(ack=ISS + 1))
    later = fresh(out_next=ISS + 5000) | probing
    noted = proven | {"una": ISS + 10}
    yield case.but(name="proof: of that and more", packet=from_client(ack=ISS + 10), conn=later, becomes=noted)
    request = from_client(PAGES["three"].head)
    becomes = passed(request) | proven
    yield Case("proof: a request brings it", request, fresh() | probing, becomes, {"pass_size": 1})
    yield case.but(name="proof: none is under way", conn=fresh(proven=1208, probe_end=ISS))


TABLES: Final = (
    strangers,
    translations,
    headers,
    long_packets,
    blocks_of_sack,
    acknowledgements,
    resting_windows,
    windows,
    wrap_arounds,
    ends,
    leaps,
    proofs,
)


def all_cases() -> Iterator[Case]:
    for table in TABLES:
        yield from table()
