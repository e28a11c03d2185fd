# SPDX-License-Identifier: MIT
"""The answer or its request was lost: the client asks again, and gets the same bytes again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from tests.unit.kernel.programs.answer_cases import heartbeat, write
from tests.unit.kernel.programs.cases import (
    ANSWER_END,
    ANSWER_START,
    EVEN,
    KINDS,
    NOW,
    ODD,
    RESTING_WINDOW,
    STACK_IN,
    STACK_OUT,
    STAMP,
    TOS,
    TS_BASE,
    TSVAL,
    USED_IN,
    USED_SLOT,
    Case,
    Some,
    State,
    answer,
    from_client,
    from_server,
    kind,
    may_be_fragmented,
    pending,
    window_beside,
)
from tests.unit.kernel.programs.packets import ACK, CWR, ECE, FIN, MOD, NOP, PSH, RST, URG, Segment, sack, timestamps
from tests.unit.kernel.programs.rig import DROP, MARK, PASS, REDIRECT, Rig, date_text

LENGTH: Final = len(EVEN.head)
ASKED: Final = USED_IN - LENGTH
"""Number of the request that EVEN answered."""


def request(*, v6: bool = False, ts: bool = False, **changes: object) -> Segment:
    """It once more."""
    return from_client(EVEN.head, v6=v6, ts=ts, seq=ASKED, ack=ANSWER_START).but(**changes)


def again(name: str, packet: Segment, conn: Mapping[str, int] | None = None, **changes: object) -> Case:
    """A packet that gets the last answer once more."""
    case = Case(
        f"again: {name}",
        packet,
        pending() if conn is None else conn,
        {"ts_last": STAMP},
        {"resent": 1, "answered_bytes": EVEN.length},
        REDIRECT,
        answer(packet, EVEN, seq=ANSWER_START, ack=USED_IN, again=True),
        mark_after=MARK,
        slot=USED_SLOT,
    )
    return case.but(**changes)


def resends() -> Iterator[Case]:
    for v6, ts in KINDS:
        yield again(kind(v6=v6, ts=ts), request(v6=v6, ts=ts), pending(v6=v6, ts=ts))

    yield again("merged with the next request", request(payload=EVEN.head + ODD.head))
    yield again("merged with a part of the next one", request(payload=EVEN.head + ODD.head[:5]))
    yield again("only its beginning", request(payload=EVEN.head[:10]))
    yield again("its first byte, as a probe of the window", request(payload=EVEN.head[:1]))
    yield again("it does not acknowledge all before", request(ack=ANSWER_START - 1000))
    yield again("it acknowledges a part of the answer", request(ack=ANSWER_END - 1))
    filling = answer(request(), EVEN, seq=ANSWER_START, ack=USED_IN + 300, again=True)
    behind = pending(in_next=USED_IN + 300, stack_ack=USED_IN + 300)
    yield again("the stack has acknowledged what came after it", request(), behind, output=filling)
    yield again("no DF", request(fragment=0))
    yield again("from another neighbour", request(source_mac="02:00:00:00:00:99"))
    yield again("padding behind the packet", request(payload=b"G", trailer=bytes(5)))

    for flags in (ACK | PSH | FIN, ACK | CWR, ACK | ECE, ACK | URG):
        yield again(f"flags {flags!r}", request(flags=flags))
    yield again("marked by the network (CE)", request(tos=3))
    selective = sack((ANSWER_END + 5, ANSWER_END + 9))
    yield again("with SACK", request(options=selective))
    stamps = timestamps(TSVAL + 7, TS_BASE + 9)
    yield again("with SACK and timestamps", request(options=stamps + selective), pending(ts=True))
    far = request(options=NOP * 4 + timestamps(TSVAL + 7, TS_BASE))
    echo = timestamps(TSVAL + 7, TS_BASE)

    def elsewhere(after: Mapping[str, int]) -> Segment:
        return answer(far.but(options=echo), EVEN, seq=ANSWER_START, ack=USED_IN, again=True)(after)

    yield again("timestamps in another place", far, pending(ts=True), output=elsewhere)
    ahead = pending(ts=True, ts_last=TS_BASE + 10**7)
    yield again("timestamps never go back", request(ts=True), ahead, becomes={})

    # Nothing new is answered, but what was begun goes on.
    yield again("the tier is being removed", request(), prepare=write("control", answering=0))
    yield again("the supervisor is gone", request(), beat=False, prepare=heartbeat(60 * 10**9))
    expired = write("cells", EVEN.number, fresh_until_ns=0)
    yield again("the answer was retired meanwhile", request(), prepare=expired)
    yield again("nobody can find it any more", request(), prepare=unpublish)
    yield again("its cell is about another answer", request(), prepare=write("cells", EVEN.number, version=9))

    moved = {name: value + 2**31 for name, value in pending().items() if name in NUMBERS}
    around = request(seq=(ASKED + 2**31) % MOD, ack=(ANSWER_START + 2**31) % MOD)
    yield again(
        "numbers wrap around",
        around,
        pending() | moved,
        output=answer(around, EVEN, seq=ANSWER_START + 2**31, ack=USED_IN + 2**31, again=True),
    )


NUMBERS: Final = ("irs", "iss", "in_next", "out_next", "una", "request_seq", "answer_seq", "answer_pos", "stack_ack")


def unpublish(rig: Rig) -> None:
    rig.maps["answers"].delete(rig.key_of(EVEN.head))


def arrived() -> Iterator[Case]:
    """Not lost, after all: the stack says that it has the data already."""
    counts = {"pass_order": 1, "translated_in": 1}
    state = pending()["state"] & ~State.PENDING
    done: dict[str, int | Some] = {"state": state, "passed_ns": NOW}
    late = request(ack=ANSWER_END)
    output = late.but(seq=ASKED - (USED_IN - STACK_IN), ack=STACK_OUT)
    case = Case("", late, pending(), done, counts, output=output, slot=USED_SLOT)
    yield case.but(name="late: it acknowledges its answer", counts={"translated_in": 1})
    other = case.but(packet=request(), conn=pending(state=state), becomes={"passed_ns": NOW})
    yield other.but(name="late: another acknowledged it before", output=output.but(ack=STACK_OUT))
    earlier = request(payload=b"x", seq=ASKED - 1)
    window = window_beside(pending(), EVEN.length)
    output = earlier.but(seq=ASKED - 1 - (USED_IN - STACK_IN), ack=STACK_OUT, window=window)
    yield case.but(name="late: what was before it", packet=earlier, becomes={"passed_ns": NOW}, output=output)
    behind = request(payload=EVEN.head[5:], seq=ASKED + 5)
    output = behind.but(seq=ASKED + 5 - (USED_IN - STACK_IN), ack=STACK_OUT, window=window)
    yield case.but(name="late: the end of it alone", packet=behind, becomes={"passed_ns": NOW}, output=output)


def failures() -> Iterator[Case]:
    """It cannot be built from this packet: dropped, and asked for again."""
    lost = {"answer_lost": 1}
    dropped = Case("", request(), pending(), {"ts_last": STAMP}, lost, DROP, slot=USED_SLOT)
    yield dropped.but(name="lost: timestamps are missing", conn=pending(ts=True))
    yield dropped.but(name="lost: IP options", packet=request(ip_options=NOP * 4))
    for name, error in {"one bit": 1, "all bits": 0xFFFF}.items():
        for v6, ts in KINDS:
            packet = request(v6=v6, ts=ts)
            damaged = packet.encode(tcp_error=error)
            case = dropped.but(name=f"lost: {name} of the checksum, {kind(v6=v6, ts=ts)}", conn=pending(v6=v6, ts=ts))
            yield case.but(packet=damaged, key=dropped.but(packet=packet).entry_key)
        damaged = request().encode(ip_error=error)
        yield dropped.but(name=f"lost: {name} of the IP header", packet=damaged, key=dropped.entry_key)
    long = request(payload=EVEN.head + bytes(range(256)) * 8)
    yield again("merged with much more", long)
    damaged = long.encode(tcp_error=8)
    yield dropped.but(name="lost: a long one is damaged", packet=damaged, key=dropped.entry_key)
    yield dropped.but(name="lost: an answer in no chunk", conn=pending(answer_chunk=4096))


def gone() -> Iterator[Case]:
    """The bytes of the answer are gone. Nobody can fill the hole: both sides hear so."""

    def to_client(packet: Segment) -> Callable[[Mapping[str, int]], Segment]:
        def of(after: Mapping[str, int]) -> Segment:
            ts = bool(after["state"] & State.TIMESTAMPS)
            return from_server(v6=packet.v6).but(
                flags=RST | ACK,
                seq=ANSWER_START,
                ack=USED_IN,
                options=timestamps(after["ts_last"], TSVAL) if ts else b"",
                source_mac=packet.target_mac,
                target_mac=packet.source_mac,
                **may_be_fragmented(v6=packet.v6),
            )

        return of

    first = EVEN.first_chunk
    reasons: dict[str, Callable[[Rig], None]] = {
        "another answer has its place": write("entries", first, id=EVEN.id + 1),
        "its place is free": write("entries", first, id=0),
        "it has another length": write("entries", first, length=EVEN.length + 1),
        "the Date is gone": lose_date,
    }
    for name, prepare in reasons.items():
        for v6, ts in KINDS if prepare is lose_date else KINDS[:1]:
            packet = request(v6=v6, ts=ts)
            to_stack = packet.but(
                payload=b"",
                flags=RST | ACK,
                window=RESTING_WINDOW,
                seq=STACK_IN,
                ack=STACK_OUT,
                ttl=pending()["ttl"],
                tos=TOS,
                flow=0xABCDE if v6 else 0,
                **may_be_fragmented(v6=packet.v6),
            )
            yield Case(
                f"gone: {name}, {kind(v6=v6, ts=ts)}",
                packet,
                pending(v6=v6, ts=ts),
                {"ts_last": STAMP},
                {"version_gone": 1},
                PASS,
                to_stack,
                sent=to_client(packet),
                slot=USED_SLOT,
                prepare=prepare,
                mark=77,
                mark_after=77,
            )


def lose_date(rig: Rig) -> None:
    """256 seconds later another Date has the place."""
    layout = rig.layouts["tux_kernel_date"]
    for place in range(256):
        at = place * layout.size
        second = layout.number(rig.memory["dates"], "second", at)
        if second:
            rig.write("dates", place, second=second + 256, text=date_text(second + 256))


def all_cases() -> Iterator[Case]:
    for table in (resends, arrived, failures, gone):
        yield from table()
