# SPDX-License-Identifier: MIT
"""A client and a server's stack that talk TCP through the programs, in one thread and without a network: what is on its
way lies in two lists, and a test decides what arrives, what is lost, what comes twice, and in which order.

The two ends are small and plain (RFC 9293: numbers, acknowledgements, windows, retransmission; RFC 7323 timestamps;
RFC 2018 SACK as advice). They check what they are told: no number beyond what was sent, no timestamp that goes back;
they count what comes beyond the window. The server's end never learns that the programs are there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.unit.kernel.programs.cases import (
    AGE_NS,
    COOKIE,
    PAGES,
    TS_BASE,
    TSVAL,
    fresh,
    from_client,
    from_server,
)
from tests.unit.kernel.programs.packets import ACK, FIN, MOD, PSH, RST, Flag, Segment, decode, sack, timestamps
from tests.unit.kernel.programs.rig import DROP, PASS, REDIRECT, Page, Rig, boot_ns, tuple_in

SCALE: Final = 7
"""Of both windows."""

SEGMENT: Final = 1400
"""Payload of the server's segments; the client's are cut at random."""


def ahead(number: int, base: int) -> int:
    """How far a number is ahead of another, between -2^31 and 2^31."""
    return (number - base + 2**31) % MOD - 2**31


@dataclass
class End:
    """One end of a connection. Places in the streams are counted from 0; numbers in packets begin at `base`."""

    base: int
    peer_base: int
    window: int
    """Bytes that it takes at a time."""
    out: bytearray = field(default_factory=bytearray)
    """All that was ever to be sent."""
    una: int = 0
    nxt: int = 0
    closing: bool = False
    """A FIN follows the last byte of `out`."""
    came: bytearray = field(default_factory=bytearray)
    """All that has arrived in order."""
    unread: int = 0
    """Bytes of it that fill the window."""
    early: dict[int, bytes] = field(default_factory=dict)
    fin_place: int | None = None
    """Where the other end's FIN is."""
    peer_window: int = 0
    wl1: int = -(2**31)
    edge: int = 0
    """Highest place that the other end was ever allowed to fill."""
    beyond: int = 0
    """Bytes that came and had no room."""
    echo: int = 0

    @property
    def fin_end(self) -> int:
        """Place behind all that is to be sent."""
        return len(self.out) + self.closing

    @property
    def expected(self) -> int:
        """Place that is acknowledged."""
        return len(self.came) + (self.fin_place == len(self.came))

    @property
    def has_ended(self) -> bool:
        """The other end's FIN has arrived."""
        return self.fin_place == len(self.came)

    def fields(self, begin: int, end: int, stamp: int | None, *, with_sack: bool = False) -> dict[str, object]:
        """Of a segment with the bytes between two places."""
        payload = bytes(self.out[begin:end])
        flags = ACK | (PSH if payload else Flag(0))
        if self.closing and begin <= len(self.out) < end:
            flags |= FIN
        room = max(self.window - self.unread, 0) >> SCALE
        self.edge = max(self.edge, self.expected + (room << SCALE))
        options = b"" if stamp is None else timestamps(stamp, self.echo)
        if with_sack and self.early:
            place = min(self.early)
            begin_number = self.peer_base + place
            options += sack((begin_number, begin_number + len(self.early[place])))
        return {
            "seq": (self.base + begin) % MOD,
            "ack": (self.peer_base + self.expected) % MOD,
            "flags": flags,
            "payload": payload,
            "window": room,
            "options": options,
        }

    def receive(self, segment: Segment) -> None:
        """Take what is new in it. AssertionError: it says what cannot be."""
        assert not segment.flags & RST
        assert segment.flags & ACK
        place = len(self.came) + ahead(segment.seq, (self.peer_base + len(self.came)) % MOD)
        acked = self.una + ahead(segment.ack, (self.base + self.una) % MOD)
        assert acked <= self.nxt, "it acknowledges what was never sent"
        end = place + len(segment.payload)
        payload = segment.payload
        if end > max(self.edge, len(self.came)):  # RFC 9293 section 3.10.7.4: what does not fit is cut off
            self.beyond += end - self.edge
            payload, end = payload[: max(self.edge - place, 0)], self.edge
        if segment.options and place <= self.expected:
            self.echo = struct.unpack(">I", segment.options[4:8])[0]
        # RFC 9293 section 3.10.7.4, as Linux does it: a window of the same numbers may only grow.
        scaled = segment.window << SCALE
        grows = place == self.wl1 and scaled > self.peer_window
        if acked >= self.una and (acked > self.una or place > self.wl1 or grows):
            self.peer_window, self.wl1 = scaled, place
        self.una = max(self.una, acked)
        if segment.flags & FIN and len(payload) == len(segment.payload):
            assert self.fin_place in (None, end)
            self.fin_place = end
        if end > len(self.came) and payload:
            self.early[place] = max(self.early.get(place, b""), payload, key=len)
        while ready := [place for place in self.early if place <= len(self.came)]:
            for place in ready:
                news = self.early.pop(place)[len(self.came) - place :]
                self.came += news
                self.unread += len(news)


class World:
    """Both ends, the programs between them, and what is on its way."""

    def __init__(self, rig: Rig, rng: Random, *, v6: bool, ts: bool, irs: int, iss: int, window: int) -> None:
        self.rig, self.rng, self.v6, self.ts = rig, rng, v6, ts
        self.client = End(irs, iss, window)
        self.server = End(iss, irs, 65535)
        self.client.peer_window, self.server.peer_window = 65535, window
        self.client.edge, self.server.edge = window, 2**30
        self.up: list[Segment] = []
        self.down: list[Segment] = []
        self.requests: list[tuple[bytes, Page | None]] = []
        self.handled = 0
        """Bytes of the server's stream that the engine has answered."""
        self.engine_answers: list[int] = []
        """Numbers of the requests that the engine has answered."""
        self.clock = 0
        self.answered = 0
        self.highest_stamp = TS_BASE
        self.opened_ns = boot_ns() - AGE_NS
        rig.reset()
        conn = fresh(
            v6=v6, ts=ts, irs=irs, in_next=irs, stack_ack=irs, iss=iss, out_next=iss, una=iss, opened_ns=self.opened_ns
        )
        self.key = tuple_in(from_client(v6=v6))
        rig.set_conn(self.key, conn)
        rig.set_slot(COOKIE, 0)

    # ---- What the ends do

    def ask(self, page: Page | None) -> None:
        """The client has another request: for a page, or for something that only the engine knows."""
        number = len(self.requests)
        head = page.head if page else b"GET /miss/%d HTTP/1.1\r\n\r\n" % number
        self.requests.append((head, page))
        self.client.out += head

    def send_from_client(self, *, again: bool = False) -> None:
        """Some bytes: the next ones, or again those that were not acknowledged; or none."""
        client = self.client
        begin = client.una if again else client.nxt
        limit = client.nxt if again else client.fin_end
        self._send_up(begin, limit if self.rng.random() < 0.7 else self.rng.randint(begin, limit))

    def send_whole(self) -> None:
        """All that the client has to send; an acknowledgement at the least."""
        self._send_up(self.client.nxt, self.client.fin_end)

    def _send_up(self, begin: int, end: int) -> None:
        client = self.client
        client.nxt = max(client.nxt, end)
        stamp = (TSVAL + self.tick()) % MOD if self.ts else None
        with_sack = self.rng.random() < 0.5
        fields = client.fields(begin, end, stamp, with_sack=with_sack and end == begin)
        self.up.append(from_client(v6=self.v6).but(**fields))

    def send_from_server(self, *, again: bool = False) -> None:
        """What the window lets through, or the first segment that was not acknowledged again; or an acknowledgement."""
        server = self.server
        limit = min(server.fin_end, server.una + server.peer_window)
        begin = server.una if again else server.nxt
        while True:
            end = min(begin + SEGMENT, server.nxt if again else limit)
            end = max(begin, end)
            server.nxt = max(server.nxt, end)
            # The programs count by the clock of the machine; the stack's is the same, and what it sends is no older.
            stamp = self.stack_stamp() if self.ts else None
            self.through_egress(from_server(v6=self.v6).but(**server.fields(begin, end, stamp)))
            begin = end
            if again or begin >= limit:
                return

    def run_engine(self) -> None:
        """Answer all whole requests that have arrived, and say so."""
        server = self.server
        while (at := server.came.find(b"\r\n\r\n", self.handled)) >= 0:
            head = bytes(server.came[self.handled : at + 4])
            self.handled = at + 4
            number = self.number_of(head)
            self.engine_answers.append(number)
            server.out += self.text(number)
        if self.handled == len(server.came):
            marks = self.handled % MOD | len(server.out) % MOD << 32
            self.rig.set_slot(COOKIE, marks)
        if server.has_ended:
            server.closing = True

    def number_of(self, head: bytes) -> int:
        """Which request is it? The engine gets them in order, some of them never."""
        begin = self.engine_answers[-1] + 1 if self.engine_answers else 0
        numbers = [number for number in range(begin, len(self.requests)) if self.requests[number][0] == head]
        assert numbers, "the engine got what was not asked, or not in this order"
        # Of several requests for the same page it is the one that the programs did not answer; their answers are equal.
        return numbers[0]

    def text(self, number: int) -> bytes:
        """What the engine answers."""
        head, page = self.requests[number]
        if page is not None:
            return page.at(0)
        return b"MISS %d " % number + head * (number * 7 % 50)

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def stack_stamp(self) -> int:
        return (TS_BASE + (boot_ns() - self.opened_ns) // 10**6) % MOD

    # ---- The way between them

    def through_egress(self, segment: Segment) -> None:
        done = self.rig.run("egress", segment.encode())
        if done.verdict == DROP:
            assert done.counts.get("stale_dropped") == 1
            return
        assert done.verdict == PASS
        self.leave(decode(done.data))

    def through_ingress(self, segment: Segment) -> None:
        done = self.rig.run("ingress", segment.encode())
        self.answered += done.counts.get("answered", 0)
        for sent in done.sent:
            self.leave(decode(sent.data))
        if done.verdict == REDIRECT:
            self.leave(decode(done.data))
        elif done.verdict == PASS:
            had = len(self.server.came), self.server.una
            self.server.receive(decode(done.data))
            if len(self.server.came) != had[0] or segment.payload:
                self.server.unread = 0
        else:
            assert done.counts.get("answer_lost") == 1

    def leave(self, segment: Segment) -> None:
        """Towards the client."""
        if self.ts:
            stamp = struct.unpack(">I", segment.options[4:8])[0]
            assert ahead(stamp, self.highest_stamp) >= 0, "a timestamp went back"
            self.highest_stamp = stamp
        self.down.append(segment)

    def arrive(self, *, upwards: bool, index: int = 0, keep: bool = False) -> None:
        """A packet reaches its end; `keep`: and comes again later."""
        queue = self.up if upwards else self.down
        segment = queue[index] if keep else queue.pop(index)
        if upwards:
            self.through_ingress(segment)
        else:
            self.client.receive(segment)

    # ---- The end

    def settle(self) -> None:
        """Nothing is lost any more: all that was asked is answered, and both ends close. AssertionError: not so."""
        for _ in range(400):
            self.read()
            if self.is_done():
                return
            if not self.client.closing and len(self.client.came) >= self.total():
                self.client.closing = True
            self.send_from_client(again=self.client.una < self.client.nxt)
            if self.client.nxt < self.client.fin_end:
                self.send_from_client()
            while self.up:
                self.arrive(upwards=True)
            self.run_engine()
            self.send_from_server(again=self.server.una < self.server.nxt)
            if self.server.nxt < self.server.fin_end:
                self.send_from_server()
            while self.down:
                self.arrive(upwards=False)
        raise AssertionError("the conversation does not come to its end")

    def read(self) -> None:
        """The client's program takes what is there."""
        self.client.unread = 0

    def total(self) -> int:
        """Bytes of all answers."""
        return sum(len(self.text(number)) for number in range(len(self.requests)))

    def is_done(self) -> bool:
        return (
            self.client.closing
            and self.client.una == self.client.fin_end
            and self.server.una == self.server.fin_end
            and self.client.has_ended
            and self.server.has_ended
        )

    def check(self) -> None:
        """Every answer is there, in order and whole; who did not give it never saw the request."""
        at = 0
        for number, (_, page) in enumerate(self.requests):
            expected = self.text(number)
            found = bytes(self.client.came[at : at + len(expected)])
            if page is not None:
                date = slice(page.date_offset, page.date_offset + 29)
                found, expected = (
                    found[: date.start] + found[date.stop :],
                    expected[: date.start] + expected[date.stop :],
                )
            assert found == expected, f"answer {number}"
            at += len(self.text(number))
        assert at == len(self.client.came)
        assert len(self.engine_answers) + self.answered == len(self.requests)


HOT: Final = [PAGES[name] for name in ("small", "even", "odd", "kilo", "chunk-and-one")]


def talk(world: World, rng: Random, *, steps: int, loss: float, requests: int) -> None:
    """Random steps: requests, packets that arrive or do not, timers, the engine, the client's program."""
    left = requests
    haste = rng.choice([0.0, 0.0, 0.1])
    """How often the client asks before it has heard all."""
    for _ in range(steps):
        has_heard_all = len(world.client.came) >= world.total()
        if left and rng.random() < (0.5 if has_heard_all else haste):
            left -= 1
            world.ask(rng.choice(HOT) if rng.random() < 0.8 else None)
            world.send_from_client()
            continue
        match rng.choices(STEPS, WEIGHTS)[0]:
            case "client":
                world.send_from_client()
            case "client again" if world.client.una < world.client.nxt:
                world.send_from_client(again=True)
            case "server":
                world.send_from_server()
            case "server again" if world.server.una < world.server.nxt:
                world.send_from_server(again=True)
            case "engine":
                world.run_engine()
                world.send_from_server()
            case "engine, then nothing is sent":
                world.run_engine()
            case "read":
                world.read()
            case "up" | "down" as way:
                pass_on(world, rng, loss, upwards=way == "up")
    for _ in range(left):
        world.ask(rng.choice(HOT))


STEPS: Final = [
    "client",
    "client again",
    "server",
    "server again",
    "engine",
    "engine, then nothing is sent",
    "read",
    "up",
    "down",
]
WEIGHTS: Final = [2, 1, 1, 1, 8, 1, 3, 20, 25]


def pass_on(world: World, rng: Random, loss: float, *, upwards: bool) -> None:
    """Something happens to one of the packets on their way."""
    queue = world.up if upwards else world.down
    if not queue:
        return
    index = rng.randrange(len(queue)) if rng.random() < loss else 0
    if rng.random() < loss:
        queue.pop(index)
    else:
        world.arrive(upwards=upwards, index=index, keep=rng.random() < loss / 2)
