# SPDX-License-Identifier: MIT
"""Requests that the ingress program answers, and those that it passes on, with the reason why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tests.unit.kernel.programs.cases import (
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
    TS_BASE,
    TSVAL,
    USED_IN,
    USED_OUT,
    USED_SLOT,
    Case,
    State,
    answer,
    answered,
    fresh,
    from_client,
    kind,
    numbers,
    passed,
    pending,
    used,
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
    URG,
    Flag,
    Segment,
    mss,
    sack,
    timestamps,
)
from tests.unit.kernel.programs.rig import HOP, MARK, REDIRECT, SECRET, Page, Rig, boot_ns

# ---- Answers


def hit(name: str, conn: Mapping[str, int], request: Segment, page: Page, **changes: object) -> Case:
    """A request that is answered in place."""
    case = Case(
        f"answer: {name}",
        request,
        conn,
        answered(conn, request, page),
        {"answered": 1, "answered_bytes": page.length},
        REDIRECT,
        answer(request, page, seq=conn["out_next"]),
        mark_after=MARK,
    )
    return case.but(**changes)


def hits() -> Iterator[Case]:
    for v6, ts in KINDS:
        conn = fresh(v6=v6, ts=ts)
        for name, page in PAGES.items():
            request = from_client(page.head, v6=v6, ts=ts)
            yield hit(f"{name}, {kind(v6=v6, ts=ts)}", conn, request, page)

    request = from_client(EVEN.head)
    yield hit("without PSH", fresh(), request.but(flags=ACK), EVEN)
    yield hit("a capable transport (ECT)", fresh(), request.but(tos=2, ttl=3, ident=99), EVEN)
    yield hit("an urgent pointer without URG", fresh(), request.but(urgent=7), EVEN)
    yield hit("several segments in one packet", fresh(), request, EVEN, gso_size=20)
    yield hit("padding behind the packet", fresh(), request.but(trailer=bytes(6)), EVEN)
    yield hit("the mark that the packet had is not kept", fresh(), request, EVEN, mark=77)
    yield hit("as much as a segment takes", fresh(mss=EVEN.length), request, EVEN)
    yield hit("as much as the window takes", fresh(wscale=3), request.but(window=EVEN.length // 8), EVEN)
    yield hit("a window without scale", fresh(wscale=0), request.but(window=EVEN.length), EVEN)
    yield hit("just before it is live again", fresh(passed_ns=-9 * 10**9), request, EVEN)
    yield hit(
        "the heart beats while the packet is looked at", fresh(), request, EVEN, beat=False, prepare=heartbeat(-(10**9))
    )
    yield hit("another request passes meanwhile", fresh(passed_ns=2**62), request, EVEN)
    yield hit("as much as the path is known to take", fresh(proven=EVEN.length), request, EVEN)

    irs, iss = MOD - 10, MOD - 300
    wrapping = fresh() | numbers(irs, iss)
    request = from_client(ODD.head, seq=irs, ack=iss)
    yield hit("numbers wrap around", wrapping, request, ODD)

    # On a connection that is in use. The next request acknowledges all before it.
    request = from_client(ODD.head, seq=USED_IN, ack=USED_OUT)
    yield hit("all before was acknowledged", used(), request, ODD, slot=USED_SLOT)
    after_next = answered(used(), request, ODD)
    yield hit("it acknowledges the last answer", pending(), request, ODD, slot=USED_SLOT, becomes=after_next)
    ahead = used(ts=True, ts_last=TS_BASE + 10**6)
    stamped = request.but(options=timestamps(TSVAL, TS_BASE))
    yield hit(
        "timestamps never go back",
        ahead,
        stamped,
        ODD,
        slot=USED_SLOT,
        becomes=answered(ahead, stamped, ODD, ts_last=TS_BASE + 10**6),
    )
    around = fresh(ts=True, ts_base=MOD - 1000, ts_last=MOD - 1000)
    yield hit("timestamps wrap around", around, from_client(EVEN.head, ts=True), EVEN)

    # What the stack has sent is acknowledged by this request alone: it hears so, in its own numbers.
    for v6, ts in KINDS:
        request = from_client(ODD.head, v6=v6, ts=ts, seq=USED_IN, ack=USED_OUT, window=700)
        behind = used(v6=v6, ts=ts, una=USED_OUT - D_OUT - 500)
        told = request.but(
            payload=b"",
            flags=ACK,
            window=RESTING_WINDOW,
            seq=USED_IN - D_IN,
            ack=USED_OUT - D_OUT,
            ttl=behind["ttl"],
            tos=0x48,
            flow=0xABCDE if v6 else 0,
        )
        yield hit(
            f"the stack hears what it acknowledges, {kind(v6=v6, ts=ts)}",
            behind,
            request,
            ODD,
            slot=USED_SLOT,
            becomes=answered(behind, request, ODD, una=USED_OUT - D_OUT),
            counts={"answered": 1, "answered_bytes": ODD.length, "stack_acks": 1},
            verdict=-1,
            output=told,
            sent=answer(request, ODD, seq=USED_OUT),
            mark=77,
            mark_after=77,
        )


# ---- Requests that pass


def miss(name: str, reason: str, request: Segment, conn: Mapping[str, int] | None = None, **changes: object) -> Case:
    """A request that goes to the stack as it is."""
    counts = {f"pass_{reason}": 1}
    case = Case(f"{reason}: {name}", request, fresh() if conn is None else conn, passed(request), counts)
    return case.but(**changes)


def fins(first: State) -> dict[str, int]:
    return fresh(state=first)


def write(area: str, index: int = 0, **values: int | bytes | tuple[int, ...]) -> Callable[[Rig], None]:
    return lambda rig: rig.write(area, index, **values)


def misses() -> Iterator[Case]:
    request = from_client(EVEN.head)
    entry, cell = EVEN.first_chunk, EVEN.number

    yield miss("nothing new is answered", "quiet", request, prepare=write("control", answering=0))
    beats = {"old": 760_000_000, "of long ago": 60 * 10**9}
    for name, age in beats.items():
        yield miss(f"the last heartbeat is {name}", "quiet", request, beat=False, prepare=heartbeat(age))

    for flags in (PSH | ACK | URG, PSH | ACK | ECE, PSH | ACK | CWR, PSH, Flag(0)):
        yield miss(f"flags {flags!r}", "shape", request.but(flags=flags))
    closed = passed(request.but(flags=FIN), state=State.CLIENT_FIN)
    yield miss("FIN", "shape", request.but(flags=ACK | FIN), becomes=closed)
    yield miss("RST", "shape", request.but(flags=ACK | RST), becomes=None, counts={"pass_shape": 1, "closed": 1})
    yield miss("congestion was experienced (CE)", "shape", request.but(tos=3))
    yield miss("the same, IPv6", "shape", from_client(EVEN.head, v6=True, tos=3), fresh(v6=True))
    yield miss("IP options", "shape", request.but(ip_options=b"\x01\x01\x01\0"))
    yield miss("a reserved bit", "shape", request.but(reserved=1))
    yield miss("no DF", "shape", request.but(fragment=0))
    for name, mac in {
        "another machine": "02:00:00:00:00:99",
        "all machines": "ff:ff:ff:ff:ff:ff",
        "a group of machines": "01:00:5e:00:00:01",
    }.items():
        yield miss(f"a frame for {name}", "shape", request.but(target_mac=mac))
    yield miss("another interface", "shape", request, fresh(ifindex=2))
    for byte in (0, 5):
        other = bytearray(HOP)
        other[byte] ^= 1
        yield miss(f"another neighbour, byte {byte}", "shape", request.but(source_mac=other.hex(":")))
    for name, options in {
        "an unknown option": b"\xfd\x04\0\0",
        "an option of no length": b"\xfd\0\0\0",
        "an option that is cut off": b"\x01\x01\x08\x0a",
        "SACK": sack((1, 2)),
        "MSS": mss(1460),
        "nothing but NOP": NOP * 4,
        "forty bytes of it": b"\xfd\x28" + bytes(38),
        "a first END": bytes(4),
    }.items():
        yield miss(name, "shape", request.but(options=options))
    stamps = timestamps(TSVAL, TS_BASE)
    yield miss("timestamps that were not agreed on", "shape", request.but(options=stamps))
    yield miss("timestamps are missing", "shape", request, fresh(ts=True))
    for name, options in {
        "with SACK": stamps + sack((1, 2)),
        "in another place": stamps[2:] + NOP * 2,
        "of a wrong length": b"\1\1\x08\6" + bytes(8),
    }.items():
        yield miss(f"timestamps {name}", "shape", request.but(options=options), fresh(ts=True))
    yield miss("a byte more than a head may have", "shape", from_client(bytes(2049)))

    yield miss("a gap before it", "order", request.but(seq=IRS + 1))
    old = request.but(seq=IRS - 5)
    yield miss("some of it is old", "order", old)
    yield miss("all of it is old", "order", request.but(seq=IRS - 500), becomes={"passed_ns": NOW})
    for name, ack in {"less than was sent": ISS - 1, "more than was sent": ISS + 1}.items():
        yield miss(f"it acknowledges {name}", "order", request.but(ack=ack))
    yield miss("the client has sent its FIN", "order", request, fins(State.CLIENT_FIN))
    yield miss("the stack has sent its FIN", "order", request, fins(State.SERVER_FIN))
    reset = passed(request)
    yield (
        miss(
            "there was a RST", "order", request, fins(State.RESET), becomes=None, counts={"pass_order": 1, "closed": 1}
        )
        if reset
        else miss("", "order", request)
    )

    yield from first_requests()

    yield miss("no such worker", "busy", request, fresh(worker=9))
    marks = FIRST_SLOT[1]
    for name, slot in {
        "the worker is at it": (COOKIE, 2**64 - 1),
        "the worker has received more": (COOKIE, marks + 1),
        "the worker has not read all": (COOKIE, marks - 1),
        "the worker has sent more": (COOKIE, marks + (1 << 32)),
        "the worker has not sent all": (COOKIE, marks - (1 << 32)),
        "another connection has the slot": (COOKIE + 65536, marks),
        "no connection has the slot": (0, marks),
    }.items():
        yield miss(name, "busy", request, slot=slot, prepare=free_slot if slot[0] == 0 else None)

    yield miss("nothing passed for ten seconds", "live", request, fresh(passed_ns=-11 * 10**9))
    yield miss("always", "live", request, prepare=write("control", liveness_ns=0))

    for name, head in {
        "another head": b"GET /other HTTP/1.1\r\n\r\n",
        "half of a head": EVEN.head[:-2],
        "two heads": EVEN.head * 2,
        "a zero behind it": EVEN.head + b"\0",
        "one byte": b"G",
        "as many bytes as a head may have": bytes(2048),
    }.items():
        yield miss(name, "unknown", from_client(head))
    yield miss("the same head at another listener", "unknown", request, fresh(listener=4))
    yield miss("another secret", "unknown", request, prepare=write("control", key=(SECRET[0], SECRET[1] + 1)))
    for name, values in {
        "id": {"id": EVEN.id + 1},
        "id 0": {"id": 0},
        "first half of the key": {"key.lo": 0},
        "second half of the key": {"key.hi": 0},
        "length": {"key.length": 1},
        "listener": {"key.listener": 0},
    }.items():
        yield miss(f"the entry has another {name}", "unknown", request, prepare=write("entries", entry, **values))
    yield miss("an answer in no chunk", "unknown", request, prepare=point_nowhere)

    yield miss("no such worker", "stale", request, prepare=write("entries", entry, worker=9))
    yield miss("no such cell", "stale", request, prepare=write("entries", entry, cell=4096))
    yield miss("the cell is about another version", "stale", request, prepare=write("cells", cell, version=2))
    yield miss("not to be used", "stale", request, prepare=write("cells", cell, fresh_until_ns=0))
    yield miss("the checks are too old", "stale", request, prepare=expire)
    yield miss("no Date of this second", "stale", request, prepare=lose_dates)

    yield miss("a byte more than a segment takes", "size", request, fresh(mss=EVEN.length - 1))
    yield miss("a byte more than the path is known to take", "size", request, fresh(proven=EVEN.length - 1))
    too_long = write("entries", PAGES["largest"].first_chunk, length=15873)
    yield miss("more than there are chunks", "size", from_client(PAGES["largest"].head), prepare=too_long)
    yield miss("a byte too small", "window", request.but(window=EVEN.length - 1), fresh(wscale=0))
    yield miss("closed", "window", request.but(window=0))
    for v6, ts in KINDS:
        packet = from_client(EVEN.head, v6=v6, ts=ts)
        for name, error in {"one bit": 0x0100, "all bits": 0xFFFF}.items():
            damaged = packet.encode(tcp_error=error)
            case = miss(f"{name}, {kind(v6=v6, ts=ts)}", "checksum", packet, fresh(v6=v6, ts=ts))
            yield case.but(packet=damaged, key=case.entry_key)
    for name, error in {"one bit": 1, "all bits": 0xFFFF}.items():
        case = miss(f"{name} of the IP header", "checksum", request)
        yield case.but(packet=request.encode(ip_error=error), key=case.entry_key)
    case = miss("a changed byte is another head", "unknown", request)
    frame = request.encode()
    yield case.but(packet=frame[:-1] + b"!", key=case.entry_key)


def first_requests() -> Iterator[Case]:
    """The engine answers the first one: then the connection is known to work."""
    for v6, ts in KINDS:
        new = fresh(v6=v6, ts=ts, irs=IRS, iss=ISS, proven=1208)
        request = from_client(EVEN.head, v6=v6, ts=ts)
        yield miss(kind(v6=v6, ts=ts), "first", request, new, slot=(COOKIE, 0))
    again = fresh(irs=IRS - 50, iss=ISS)
    yield miss("another one before the engine has spoken", "first", from_client(EVEN.head), again)


def free_slot(rig: Rig) -> None:
    rig.write("slots", COOKIE % 65536, cookie=0, marks=FIRST_SLOT[1])


def heartbeat(age_ns: int) -> Callable[[Rig], None]:
    return lambda rig: rig.write("control", heartbeat_ns=boot_ns() - age_ns)


def point_nowhere(rig: Rig) -> None:
    rig.maps["answers"].update(rig.key_of(EVEN.head), EVEN.id.to_bytes(8, "little") + (4096).to_bytes(8, "little"))


def expire(rig: Rig) -> None:
    rig.write("cells", EVEN.number, fresh_until_ns=boot_ns())


def lose_dates(rig: Rig) -> None:
    rig.memory["dates"][:] = bytes(len(rig.memory["dates"]))


def all_cases() -> Iterator[Case]:
    yield from hits()
    yield from misses()
