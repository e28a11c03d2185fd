# SPDX-License-Identifier: MIT
"""One line of the tables: a packet and what is known of its connection, then what must become of both.

Everything is stated: the verdict, the whole packet, every member of the entry, every counter. What a case does not
mention must be as before; a packet that it does not mention must be the same, byte by byte.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from tests.unit.kernel.programs.packets import ACK, MOD, PSH, Segment, decode, timestamps
from tests.unit.kernel.programs.rig import (
    HOP,
    LISTENER,
    LOOPBACK,
    MARK,
    PASS,
    PORT,
    WORKER,
    Outcome,
    Page,
    Rig,
    Sent,
    tuple_of,
)
from tux.kernel.worth import RESTING


class State(enum.IntFlag):
    """enum tux_kernel_state."""

    CLIENT_FIN = 2
    SERVER_FIN = 4
    RESET = 16
    DEAD = 32
    PENDING = 64
    ANSWERED = 128
    TIMESTAMPS = 256


class Some(enum.Enum):
    """A value that the clock decides."""

    NOW = enum.auto()
    """Boot time of the run."""
    SECOND = enum.auto()
    """Since 1970, of the run."""
    STAMP = enum.auto()
    """A TCP timestamp: the base, and the milliseconds since the connection was opened."""


NOW, SECOND, STAMP = Some

# ---- The connection of most cases

CLIENT, SERVER = "192.0.2.7", "198.51.100.1"
CLIENT6, SERVER6 = "2001:db8::7", "2001:db8:1::1"
CLIENT_PORT: Final = 40000
CLIENT_MAC, SERVER_MAC = HOP.hex(":"), "00:00:00:00:00:00"
"""The server's is that of `lo`."""
FIRST_IN, FIRST_OUT = 100, 300
"""Bytes of the first request, which the engine answers, and of its answer."""
IRS, ISS = 0x10000000, 0x70000000
"""The numbers that follow these: most cases begin here."""
COOKIE: Final = 0x3_0005
FIRST_SLOT: Final = (COOKIE, FIRST_IN | FIRST_OUT << 32)
"""What the worker says then: cookie and marks."""
BUSY_SLOT: Final = (COOKIE, 2**64 - 1)
"""The worker is at it."""
TSVAL, TS_BASE = 0x01020304, 0x0A000000
"""Timestamps: the client's, and the one of the SYN-ACK."""
RESTING_WINDOW: Final = 1
"""What the stack is told of a client's window while nothing is under way, so that it can only grow."""
WINDOW, TTL, TOS, FLOW = 291, 63, 0x48, 0xABCDE
"""Of what the server sends."""
MSS: Final = 20000
AGE_NS: Final = 5_000_000_000
"""How long the connection has been open."""

KINDS: Final = [(False, False), (False, True), (True, False), (True, True)]
"""IPv6 or IPv4, with and without timestamps."""


def kind(*, v6: bool, ts: bool) -> str:
    return f"IPv{6 if v6 else 4}{' with timestamps' if ts else ''}"


# ---- What is published

_LENGTHS: Final = {
    "small": 120,
    "kilo": 1024,
    "even": 1000,
    "odd": 1001,
    "chunk": 4096,
    "chunk-and-one": 4097,
    "two": 8192,
    "three": 10240,
    "four": 12289,
    "largest": 15872,
}


def _pages() -> dict[str, Page]:
    pages, first = {}, 0
    for number, (name, length) in enumerate(_LENGTHS.items()):
        pages[name] = Page(name, length, number, first, odd=length % 2 == 1)
        first += -(-length // 4096)
    return pages


PAGES: Final = _pages()
EVEN, ODD = PAGES["even"], PAGES["odd"]

Output = Segment | Callable[[Mapping[str, int]], Segment]
"""The packet afterwards; a function of the entry afterwards where the clock has a part in it."""


@dataclass(frozen=True)
class Case:
    """A packet for one of the programs. See the module."""

    name: str
    packet: Segment | bytes
    conn: Mapping[str, int] | None = None
    """The entry; None: there is none."""
    becomes: Mapping[str, int | Some] | None = field(default_factory=dict)
    """Members of the entry that change; None: it is deleted."""
    counts: Mapping[str, int] = field(default_factory=dict)
    verdict: int = PASS
    output: Output | None = None
    """None: the same bytes."""
    sent: Output | None = None
    """What leaves on its own, as an answer."""
    seen: bool = True
    """The packet is one of the connection's: the time is noted."""
    program: str = "ingress"
    slot: tuple[int, int] = FIRST_SLOT
    """What the worker says: cookie and marks."""
    prepare: Callable[[Rig], None] | None = None
    """What else is not as usual."""
    mark: int = 0
    mark_after: int | None = None
    beat: bool = True
    gso_size: int = 0
    """Payload of one segment, when the packet stands for several."""
    of: bytes | None = None
    """The key that is in the entry, if not its own."""
    key: bytes | None = None
    """Of the entry, if it is not that of the packet."""

    def __str__(self) -> str:
        return self.name

    @property
    def frame(self) -> bytes:
        return self.packet if isinstance(self.packet, bytes) else self.packet.encode()

    @property
    def entry_key(self) -> bytes:
        if self.key is not None:
            return self.key
        assert isinstance(self.packet, Segment)
        ours, other = ("target", "source") if self.program == "ingress" else ("source", "target")
        packet = self.packet
        ends = {"source": (packet.source, packet.source_port), "target": (packet.target, packet.target_port)}
        return tuple_of(ends[ours][0], ends[other][0], ends[ours][1], ends[other][1])

    def but(self, **changes: object) -> Case:
        """The same with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]  # names are checked by replace()


def from_client(payload: bytes = b"", *, v6: bool = False, ts: bool = False, **changes: object) -> Segment:
    """A segment of the client's at the beginning of the connection."""
    ends = (CLIENT6, SERVER6) if v6 else (CLIENT, SERVER)
    return Segment(
        *ends,
        *(CLIENT_PORT, PORT, IRS, ISS),
        ACK | PSH if payload else ACK,
        payload=payload,
        options=timestamps(TSVAL, TS_BASE) if ts else b"",
        source_mac=CLIENT_MAC,
        target_mac=SERVER_MAC,
    ).but(**changes)


def from_server(payload: bytes = b"", *, v6: bool = False, ts: bool = False, **changes: object) -> Segment:
    """A segment of the stack's at the beginning of the connection."""
    ends = (SERVER6, CLIENT6) if v6 else (SERVER, CLIENT)
    return Segment(
        *ends,
        *(PORT, CLIENT_PORT, ISS, IRS),
        ACK | PSH if payload else ACK,
        WINDOW,
        payload=payload,
        options=timestamps(TS_BASE + 5000, TSVAL) if ts else b"",
        ttl=TTL,
        tos=TOS,
        flow=FLOW if v6 else 0,
        source_mac=SERVER_MAC,
        target_mac=CLIENT_MAC,
    ).but(**changes)


def numbers(in_next: int, out_next: int) -> dict[str, int]:
    """Members of an entry when the first answer was acknowledged, and these are the next numbers."""
    return {
        "irs": in_next - FIRST_IN,
        "in_next": in_next,
        "iss": out_next - FIRST_OUT,
        "out_next": out_next,
        "una": out_next,
        "stack_ack": in_next,
    }


def fresh(*, v6: bool = False, ts: bool = False, **changes: int) -> dict[str, int]:
    """An entry after the first request, which the engine answered."""
    flow = struct.unpack("=I", struct.pack(">I", 6 << 28 | TOS << 20 | FLOW))[0] if v6 else 0
    base = {
        "state": State.TIMESTAMPS if ts else State(0),
        "cookie": COOKIE,
        "opened_ns": -AGE_NS,
        "last_ns": -AGE_NS,
        "passed_ns": -AGE_NS,
        **numbers(IRS, ISS),
        "proven": 65535,
        "worker": WORKER,
        "listener": LISTENER,
        "ifindex": LOOPBACK,
        "mss": MSS,
        "window": WINDOW,
        "wscale": 7,
        "ttl": TTL,
        "tos": 0 if v6 else TOS,
        "flow": flow,
    }
    if ts:
        base |= {"ts_base": TS_BASE, "ts_last": TS_BASE}
    return base | changes


D_IN, D_OUT = 400, 3000
"""Bytes of requests and answers that the stack has not seen, in `used`."""
RECEIVED, SENT = 700, 9000
"""Bytes that it has, after the first request."""
USED_IN, USED_OUT = IRS + D_IN + RECEIVED, ISS + D_OUT + SENT
"""Next numbers of either end, in the client's space."""
USED_SLOT: Final = (COOKIE, FIRST_IN + RECEIVED | FIRST_OUT + SENT << 32)
"""The worker has read and answered it all."""


ANSWER_START, ANSWER_END = USED_OUT - 1000, USED_OUT
"""Of the last answer."""
STACK_IN, STACK_OUT = USED_IN - D_IN, USED_OUT - D_OUT
"""The next numbers, as the stack knows them."""


def used(*, v6: bool = False, ts: bool = False, **changes: int) -> dict[str, int]:
    """An entry after some hits and misses; all is acknowledged, and the last answer was EVEN, right at the end."""
    base = fresh(v6=v6, ts=ts)
    base |= {
        "state": base["state"] | State.ANSWERED,
        "in_next": USED_IN,
        "out_next": USED_OUT,
        "d_in": D_IN,
        "d_out": D_OUT,
        "una": USED_OUT - D_OUT,
        "stack_ack": USED_IN,
        "request_seq": USED_IN - len(EVEN.head),
        "request_len": len(EVEN.head),
        "answer_seq": USED_OUT - EVEN.length,
        "answer_len": EVEN.length,
        "answer_pos": USED_OUT - D_OUT,
        "answer_chunk": EVEN.first_chunk,
        "answer_id": EVEN.id,
        "answer_second": -1,
    }
    if ts:
        base["ts_last"] = TS_BASE + 4000
    return base | changes


def pending(*, v6: bool = False, ts: bool = False, **changes: int) -> dict[str, int]:
    """The same, but the client has not acknowledged the answer."""
    base = used(v6=v6, ts=ts)
    return base | {"state": base["state"] | State.PENDING} | changes


WRAPS: Final = {"d_in": (MOD - 500, ISS), "d_out": (IRS, MOD - 3500), "both": (MOD - 1, MOD - 1)}
"""By what wraps around 2^32: the first numbers of both ends, in place of IRS and ISS."""


def used_from(irs: int, iss: int) -> dict[str, int]:
    """`used`, with these first numbers."""
    conn = used()
    for member in ("irs", "in_next", "request_seq", "stack_ack"):
        conn[member] += irs - IRS
    for member in ("iss", "out_next", "una", "answer_seq", "answer_pos"):
        conn[member] += iss - ISS
    return conn


def window_beside(conn: Mapping[str, int], way: int, window: int = 512) -> int:
    """What is left of a client's window when `way` bytes of an answer are still on their way, scaled."""
    return max((window << conn["wscale"]) - way, 0) >> conn["wscale"]


ANY_IDENT: Final = -1
"""Identification of an IPv4 packet that may be fragmented: any but 0."""


def may_be_fragmented(*, v6: bool) -> dict[str, int]:
    """Fields of a packet without DF."""
    return {} if v6 else {"fragment": 0, "ident": ANY_IDENT}


def answer(
    request: Segment, page: Page, *, seq: int = ISS, ack: int | None = None, again: bool = False
) -> Callable[[Mapping[str, int]], Segment]:
    """The answer to a request. Its Date and its timestamp are those that the entry has after. `again`: not for the
    first time, so that it may be fragmented on its way."""

    def of(after: Mapping[str, int]) -> Segment:
        ts = after["state"] & State.TIMESTAMPS
        echo = struct.unpack(">I", request.options[4:8])[0] if ts else 0
        return from_server(page.at(after["answer_second"]), v6=request.v6).but(
            seq=seq % MOD,
            ack=(request.end if ack is None else ack) % MOD,
            options=timestamps(after["ts_last"], echo) if ts else b"",
            source_mac=request.target_mac,
            target_mac=request.source_mac,
            **(may_be_fragmented(v6=request.v6) if again else {}),
        )

    return of


def answered(conn: Mapping[str, int], request: Segment, page: Page, **more: int | Some) -> dict[str, int | Some]:
    """What an answer makes of an entry."""
    changes: dict[str, int | Some] = {
        "state": conn["state"] | State.PENDING | State.ANSWERED,
        "answer_id": page.id,
        "answer_second": SECOND,
        "answer_chunk": page.first_chunk,
        "answer_len": page.length,
        "answer_seq": conn["out_next"],
        "answer_pos": conn["out_next"] - conn.get("d_out", 0),
        "request_seq": request.seq,
        "request_len": len(request.payload),
        "in_next": request.end,
        "out_next": conn["out_next"] + page.length,
        "d_in": conn.get("d_in", 0) + len(request.payload),
        "d_out": conn.get("d_out", 0) + page.length,
        "ts_last": STAMP,
    }
    return changes | more


def passed(segment: Segment, **more: int | Some) -> dict[str, int | Some]:
    """What data that goes to the stack makes of an entry."""
    return {"in_next": segment.end, "passed_ns": NOW, **more}


# ---- The check


def arrange(rig: Rig, case: Case) -> None:
    """Make the world of a case."""
    rig.reset()
    rig.set_slot(*case.slot)
    if case.conn is not None:
        rig.set_conn(case.entry_key, case.conn, of=case.of)
    if case.prepare is not None:
        case.prepare(rig)


def resting(rig: Rig) -> None:
    """No connection was found, so no packet is to be looked at."""
    rig.write("control", paused=RESTING)


def at_rest(case: Case) -> Case:
    """The same packet while the programs rest: whatever it is, it is left alone, and so is what they know."""

    def prepare(rig: Rig) -> None:
        if case.prepare is not None:
            case.prepare(rig)
        resting(rig)

    return case.but(
        becomes={}, counts={}, verdict=PASS, output=None, sent=None, seen=False, mark_after=None, prepare=prepare
    )


def check(rig: Rig, case: Case) -> Outcome:
    """Run a case, and compare all that it states."""
    arrange(rig, case)
    before = rig.conn(case.entry_key)
    entries = set(rig.maps["conns"].keys())
    done = rig.run(case.program, case.frame, mark=case.mark, beat=case.beat, gso_size=case.gso_size)
    after = rig.conn(case.entry_key)

    if before is None:
        assert set(rig.maps["conns"].keys()) == entries
    elif case.becomes is None:
        assert after is None
        assert set(rig.maps["conns"].keys()) == entries - {case.entry_key}
    else:
        assert after is not None
        changes = ({"last_ns": NOW} if case.seen else {}) | dict(case.becomes)
        assert after == _expected(rig, before, changes, after, done)

    known = after or before or {}
    if case.output is None:
        assert done.data == case.frame
    else:
        assert_same(decode(done.data), _segment(case.output, known))
    assert done.verdict == case.verdict
    assert done.counts == dict(case.counts)
    mark = case.mark if case.mark_after is None else case.mark_after
    assert done.mark == mark
    assert done.sent == _sent(case, known, done)
    return done


def assert_same(found: Segment, expected: Segment) -> None:
    if expected.ident == ANY_IDENT:
        assert found.ident != 0
        expected = expected.but(ident=found.ident)
    assert found == expected


def _segment(output: Output, after: Mapping[str, int]) -> Segment:
    return output if isinstance(output, Segment) else output(after)


def _sent(case: Case, after: Mapping[str, int], done: Outcome) -> list[Sent]:
    if case.sent is None:
        return []
    assert len(done.sent) == 1
    frame, mark = done.sent[0]
    assert_same(decode(frame), _segment(case.sent, after))
    assert mark in (None, MARK)
    return done.sent


def _expected(
    rig: Rig, before: Mapping[str, int], changes: Mapping[str, int | Some], after: Mapping[str, int], done: Outcome
) -> dict[str, int]:
    """The entry that must be there. What the clock decides is compared here, and then taken from what is there."""
    layout = rig.layouts["tux_kernel_conn"]
    expected = dict(before)
    for name, value in changes.items():
        if not isinstance(value, Some):
            expected[name] = value % 2 ** (8 * layout.field(name).size)
            continue
        found = expected[name] = after[name]
        wall = rig.layouts["tux_kernel_control"].number(rig.memory["control"], "wall_ns")
        match value:
            case Some.NOW:
                assert done.before_ns <= found <= done.after_ns
            case Some.SECOND:
                assert (done.before_ns + wall) // 10**9 <= found <= (done.after_ns + wall) // 10**9
            case Some.STAMP:
                since = [(clock - before["opened_ns"]) // 10**6 for clock in (done.before_ns, done.after_ns)]
                low, high = ((before["ts_base"] + passed) % MOD for passed in since)
                assert (found - low) % MOD <= (high - low) % MOD
    return expected
