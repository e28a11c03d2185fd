# SPDX-License-Identifier: MIT
"""A wire between two interfaces that loses, repeats, delays, mixes up and damages packets, the same way for a seed.

`Wire` is the handle; the wire itself is this file run as a process in the namespace of the two interfaces. It forwards
every frame from one to the other by AF_PACKET sockets (packet(7)). Faults befall TCP only, so that neither ARP nor
neighbour discovery is disturbed. With the offloads of the outer interfaces on, frames come without checksums and larger
than the MTU; what has to be known about them travels in the header of PACKET_VNET_HDR.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Final, Self

ETH_P_ALL: Final = 3
ETH_P_IP: Final = 0x0800
ETH_P_IPV6: Final = 0x86DD
SOL_PACKET: Final = 263
PACKET_VNET_HDR: Final = 15
PACKET_IGNORE_OUTGOING: Final = 23
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33
"""<linux/if_ether.h>, <linux/if_packet.h>, <asm/socket.h>."""

VNET: Final = 10
"""Bytes of struct virtio_net_hdr, before each frame."""
NEEDS_CHECKSUM: Final = 1
"""VIRTIO_NET_HDR_F_NEEDS_CSUM: the field holds the sum of the pseudo-header only."""

ETH: Final = VNET
IP: Final = VNET + 14
"""Offsets in a buffer."""

BUFFER_BYTES: Final = 32 << 20
BATCH: Final = 64
"""Frames taken from one side before the other is looked at."""
LOG_LINES: Final = 20_000
TAKEN: Final = 20
"""Packets of one rule whose data is kept."""
LOG_ANSWER_LINES: Final = 2_000
CONTROL_BYTES: Final = 1 << 22

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
LETTERS: Final = {"F": FIN, "S": SYN, "R": RST, "P": PSH, ".": ACK}
"""As tcpdump writes them."""


@dataclass(frozen=True)
class Faults:
    """What befalls the packets of one direction, by chance: shares from 0 to 1, delays in milliseconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Held back until one to three others of this direction have passed, or 30 ms."""
    delay: float = 0.0
    delay_ms: tuple[float, float] = (1.0, 30.0)
    corrupt: float = 0.0
    """One bit is turned, which the checksum must find."""


@dataclass(frozen=True)
class Rule:
    """A fault at a certain packet. All that is given must hold for it."""

    to: str
    """"server" or "client"."""
    do: str
    """"drop", "duplicate", "corrupt", "hold" (until the next other packet of this direction has passed), "merge" (put
    the data that followed it into the same segment, as a TCP may do that sends it again), "window" (set the field to
    `value`), "cut" (send only the first `value` bytes of its data),
    "note" (only count it and keep its data)."""
    starts: str = ""
    """Its data begins so."""
    flags: str = ""
    """It has all of these, of SFRP. ("S." is a SYN-ACK)."""
    data: bool | None = None
    """Whether it carries data."""
    again: bool | None = None
    """Whether its data has been seen before."""
    port: int = 0
    """Either of its ports is this one."""
    skip: int = 0
    """So many that match are left alone first."""
    times: int = 1
    """It is done so often; 0: always."""
    every: int = 1
    """Only every n-th that matches."""
    value: int = 0


class Wire:
    """The process, and what it is told. A context manager."""

    def __init__(self, client: str, server: str, mtu: int) -> None:
        """Start between these interfaces, in the namespace that the calling thread is in."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, CONTROL_BYTES)
        ours.settimeout(20)
        self._control = ours
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), client, server, str(mtu)], pass_fds=[theirs.fileno()]
            )
        self.set()

    def set(
        self,
        *,
        seed: int = 0,
        to_server: Faults | None = None,
        to_client: Faults | None = None,
        rules: Sequence[Rule] = (),
    ) -> None:
        """From now on these faults; without any it forwards all. Counters and log begin anew."""
        faults = {"server": asdict(to_server or Faults()), "client": asdict(to_client or Faults())}
        self._ask({"do": "set", "seed": seed, "faults": faults, "rules": [asdict(rule) for rule in rules]})

    def both(self, seed: int, faults: Faults) -> None:
        """The same chances in both directions."""
        self.set(seed=seed, to_server=faults, to_client=faults)

    def counts(self) -> dict[str, int]:
        """What was done how often since `set`: "forward", "loss", "drop", ..., and "rule 0" for the first rule."""
        counts = self._ask({"do": "counts"})
        assert isinstance(counts, dict)
        return counts

    def taken(self, rule: int) -> list[bytes]:
        """The data of the first packets that this rule was applied to."""
        return [bytes.fromhex(text) for text in self._ask({"do": "taken", "rule": rule})]

    def log(self, port: int = 0) -> list[str]:
        """The last packets since `set`, oldest first; of the connection with this client port when one is given."""
        lines = self._ask({"do": "log", "port": port})
        assert isinstance(lines, list)
        return lines

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control.close()  # it ends when it sees this
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, question: dict[str, Any]) -> Any:
        self._control.send(json.dumps(question).encode())
        answer = self._control.recv(CONTROL_BYTES)
        if not answer:
            raise RuntimeError("the wire has ended")
        return json.loads(answer)


@dataclass
class Packet:
    """A TCP packet in a buffer: offsets and values."""

    tcp: int
    data: int
    end: int
    ports: tuple[int, int]
    seq: int
    ack: int
    flags: int

    @property
    def size(self) -> int:
        return self.end - self.data

    def describe(self, window: int) -> str:
        letters = "".join(letter for letter, bit in LETTERS.items() if self.flags & bit)
        return (
            f"{self.ports[0]} > {self.ports[1]} [{letters}] seq {self.seq} ack {self.ack} win {window} len {self.size}"
        )


def parse(frame: memoryview | bytearray) -> Packet | None:
    """The TCP packet in a buffer (header of PACKET_VNET_HDR, ethernet, IP without extensions or options of note)."""
    if len(frame) < IP + 40:
        return None
    kind = frame[ETH + 12] << 8 | frame[ETH + 13]
    if kind == ETH_P_IP:
        if frame[IP + 9] != socket.IPPROTO_TCP:
            return None
        tcp = IP + (frame[IP] & 15) * 4
        end = IP + (frame[IP + 2] << 8 | frame[IP + 3])
    elif kind == ETH_P_IPV6:
        if frame[IP + 6] != socket.IPPROTO_TCP:
            return None
        tcp = IP + 40
        end = tcp + (frame[IP + 4] << 8 | frame[IP + 5])
    else:
        return None
    source, destination, seq, ack, offset, flags = struct.unpack_from("!HHIIBB", frame, tcp)
    return Packet(tcp, tcp + (offset >> 4) * 4, end, (source, destination), seq, ack, flags)


def ones_sum(data: bytes | memoryview | bytearray) -> int:
    """RFC 1071, folded to 16 bits, not complemented."""
    total = int.from_bytes(bytes(data) + b"\0" * (len(data) % 2), "big") % 0xFFFF
    return total or (0xFFFF if any(data) else 0)


def write_checksum(frame: bytearray, packet: Packet) -> None:
    """Make the TCP checksum right."""
    frame[packet.tcp + 16 : packet.tcp + 18] = b"\0\0"
    addresses = frame[IP + 12 : IP + 20] if _is_ipv4(frame) else frame[IP + 8 : IP + 40]
    length = packet.end - packet.tcp
    pseudo = bytes(addresses) + struct.pack("!II", length, socket.IPPROTO_TCP)
    total = ones_sum(pseudo) + ones_sum(frame[packet.tcp : packet.end])
    total = (total & 0xFFFF) + (total >> 16)
    struct.pack_into("!H", frame, packet.tcp + 16, ~total & 0xFFFF)


def _is_ipv4(frame: bytearray | memoryview) -> bool:
    return frame[IP] >> 4 == 4


def with_data(frame: bytearray, packet: Packet, data: bytes) -> bytearray:
    """The same packet with other data, lengths and checksums made right."""
    out = bytearray(frame[: packet.data]) + data
    if _is_ipv4(out):
        struct.pack_into("!H", out, IP + 2, len(out) - IP)
        out[IP + 10 : IP + 12] = b"\0\0"
        struct.pack_into("!H", out, IP + 10, ~ones_sum(out[IP : packet.tcp]) & 0xFFFF)
    else:
        struct.pack_into("!H", out, IP + 4, len(out) - packet.tcp)
    changed = parse(out)
    assert changed is not None
    write_checksum(out, changed)
    return out


@dataclass
class Flow:
    """What has been seen of one direction of one connection."""

    base: int
    """Sequence number that offsets are counted from."""
    highest: int = 0
    """Offset behind the last data seen."""
    pieces: dict[int, bytes] = field(default_factory=dict)
    """The latest data by offset, for "merge"."""


KEPT_PIECES: Final = 64
"""Of one flow, while a rule merges."""


class Side:
    """One direction: from the interface that it reads to the one that it writes."""

    def __init__(self, name: str, source: socket.socket, target: socket.socket, state: State) -> None:
        self.name = name
        self._source = source
        self._target = target
        self._state = state
        self._buffer = bytearray(1 << 17)
        self._view = memoryview(self._buffer)
        self.held: deque[tuple[int, bytes]] = deque()
        """Frames kept back: how many others must pass first, and the frame."""
        self.flows: dict[tuple[int, int], Flow] = {}

    def pump(self) -> None:
        """Forward what has arrived."""
        for _ in range(BATCH):
            try:
                size = self._source.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError:  # the interface is being removed
                return
            if self._buffer[0] & ~NEEDS_CHECKSUM:
                self._buffer[0] &= NEEDS_CHECKSUM
            self._forward(self._view[:size])

    def send(self, frame: bytes | memoryview | bytearray) -> None:
        """Put a frame on its way."""
        try:
            self._target.send(frame)
        except OSError as error:
            self._state.counts[f"error {error.strerror}"] += 1

    def release(self) -> None:
        """Let go what is kept back when another frame has passed."""
        waiting = [(left - 1, frame) for left, frame in self.held]
        self.held.clear()
        for left, frame in waiting:
            if left > 0:
                self.held.append((left, frame))
            else:
                self.send(frame)

    def hold(self, frame: bytes, others: int) -> None:
        self.held.append((others, frame))
        self._state.later(0.03, self, None)

    def give_up(self) -> None:
        """Nothing else came: send what was kept back."""
        while self.held:
            self.send(self.held.popleft()[1])

    def _forward(self, frame: memoryview) -> None:
        packet = parse(frame)
        if packet is None:
            self.send(frame)
            return
        state = self._state
        action, changed = self._decide(frame, packet)
        state.counts[action] += 1
        window = frame[packet.tcp + 14] << 8 | frame[packet.tcp + 15]
        state.log.append((time.monotonic(), self.name, action, packet, window))
        out: memoryview | bytes = frame if changed is None else bytes(changed)
        if action in ("loss", "drop"):
            return
        if action == "reorder":
            self.hold(bytes(out), state.random.randint(1, 3))
            return
        if action == "hold":
            self.hold(bytes(out), 1)
            return
        if action == "delay":
            low, high = state.faults[self.name]["delay_ms"]
            state.later(state.random.uniform(low, high) / 1000, self, bytes(out))
            return
        self.send(out)
        if action == "duplicate":
            self.send(out)
        if self.held:
            self.release()

    def _decide(self, frame: memoryview, packet: Packet) -> tuple[str, bytearray | None]:
        """What is done to it, and what it is then when it is changed."""
        state = self._state
        again = self._track(frame, packet) if state.rules else False
        for number, rule in enumerate(state.rules):
            if rule["to"] == self.name and self._matches(rule, frame, packet, again):
                state.matched[number] += 1
                nth = state.matched[number] - rule["skip"]
                done = state.counts[f"rule {number}"]
                if nth > 0 and (nth - 1) % rule["every"] == 0 and (not rule["times"] or done < rule["times"]):
                    state.counts[f"rule {number}"] += 1
                    if done < TAKEN:
                        state.taken[number].append(bytes(frame[packet.data : packet.end]))
                    return rule["do"], self._change(rule["do"], rule["value"], frame, packet)
        faults = state.faults[self.name]
        chance = state.random.random()
        for name in ("loss", "duplicate", "reorder", "delay", "corrupt"):
            chance -= faults[name]
            if chance < 0:
                changed = self._change(name, 0, frame, packet)
                # A frame whose checksum is still to be computed cannot be damaged: it would be right again.
                return ("forward" if name == "corrupt" and changed is None else name), changed
        return "forward", None

    def _matches(self, rule: dict[str, Any], frame: memoryview, packet: Packet, again: bool) -> bool:
        if rule["port"] and rule["port"] not in packet.ports:
            return False
        if any(not packet.flags & LETTERS[letter] for letter in rule["flags"]):
            return False
        if rule["data"] is not None and rule["data"] != (packet.size > 0):
            return False
        if rule["again"] is not None and rule["again"] != again:
            return False
        start: bytes = rule["starts"].encode("latin-1")
        return bytes(frame[packet.data : packet.data + len(start)]) == start

    def _track(self, frame: memoryview, packet: Packet) -> bool:
        """Remember its data; whether all of it had been seen."""
        flow = self.flows.get(packet.ports)
        if flow is None or packet.flags & SYN:
            flow = self.flows[packet.ports] = Flow((packet.seq + bool(packet.flags & SYN)) & 0xFFFFFFFF)
        if not packet.size:
            return False
        start = (packet.seq - flow.base) & 0xFFFFFFFF
        again = start + packet.size <= flow.highest
        flow.highest = max(flow.highest, start + packet.size)
        if not again:
            flow.pieces[start] = bytes(frame[packet.data : packet.end])
            while len(flow.pieces) > KEPT_PIECES:
                del flow.pieces[next(iter(flow.pieces))]
        return again

    def _change(self, what: str, value: int, frame: memoryview, packet: Packet) -> bytearray | None:
        partial = bool(frame[0] & NEEDS_CHECKSUM)
        if what == "corrupt" and not partial:
            out = bytearray(frame)
            bit = self._state.random.randrange((packet.end - packet.tcp) * 8)
            out[packet.tcp + bit // 8] ^= 1 << bit % 8
            return out
        if what == "window":
            out = bytearray(frame)
            struct.pack_into("!H", out, packet.tcp + 14, value)
            if not partial:
                write_checksum(out, packet)
            return out
        if what == "cut" and not partial:
            return with_data(bytearray(frame), packet, bytes(frame[packet.data : packet.data + value]))
        if what == "merge" and not partial:
            flow = self.flows[packet.ports]
            data = bytes(frame[packet.data : packet.end])
            start = (packet.seq - flow.base) & 0xFFFFFFFF
            while (more := flow.pieces.get(start + len(data))) is not None and len(data) + len(more) <= self._room(
                packet
            ):
                data += more
            self._state.counts["merged bytes"] += len(data) - packet.size
            return with_data(bytearray(frame), packet, data)
        return None

    def _room(self, packet: Packet) -> int:
        return self._state.mtu - (packet.data - IP)


class State:
    """What both directions share."""

    def __init__(self, mtu: int) -> None:
        self.mtu = mtu
        self.random = random.Random(0)
        self.faults: dict[str, dict[str, Any]] = {"server": asdict(Faults()), "client": asdict(Faults())}
        self.rules: list[dict[str, Any]] = []
        self.matched: Counter[int] = Counter()
        self.counts: Counter[str] = Counter()
        self.taken: defaultdict[int, list[bytes]] = defaultdict(list)
        self.log: deque[tuple[float, str, str, Packet, int]] = deque(maxlen=LOG_LINES)
        self._timers: list[tuple[float, int, Side, bytes | None]] = []
        self._order = itertools.count()

    def later(self, seconds: float, side: Side, frame: bytes | None) -> None:
        """Send a frame then; without one, what the side keeps back."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), side, frame))

    def run_timers(self) -> float:
        """Do what is due; seconds until the next is, or -1."""
        while self._timers:
            left = self._timers[0][0] - time.monotonic()
            if left > 0:
                return left
            _, _, side, frame = heapq.heappop(self._timers)
            if frame is None:
                side.give_up()
            else:
                side.send(frame)
        return -1

    def answer(self, question: dict[str, Any]) -> Any:
        if question["do"] == "set":
            self.random.seed(question["seed"])
            self.faults, self.rules = question["faults"], question["rules"]
            self.matched.clear()
            self.counts.clear()
            self.taken.clear()
            self.log.clear()
            return True
        if question["do"] == "counts":
            return dict(self.counts)
        if question["do"] == "taken":
            return [data.hex() for data in self.taken[question["rule"]]]
        return list(self._lines(question["port"]))[-LOG_ANSWER_LINES:]

    def _lines(self, port: int) -> Iterator[str]:
        start = self.log[0][0] if self.log else 0.0
        for when, name, action, packet, window in self.log:
            if not port or port in packet.ports:
                yield f"{when - start:9.6f} to {name} {packet.describe(window)}  {action}"


def open_interface(name: str) -> socket.socket:
    """A socket that gets every frame that arrives there, and none that is sent."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.bind((name, ETH_P_ALL))
    sock.setblocking(False)
    return sock


def main(control_fd: int, client: str, server: str, mtu: int) -> None:
    """Forward until the other end of the control socket is closed."""
    control = socket.socket(fileno=control_fd)
    state = State(mtu)
    near, far = open_interface(client), open_interface(server)
    sides = {near.fileno(): Side("server", near, far, state), far.fileno(): Side("client", far, near, state)}
    poll = select.epoll()
    for fd in (*sides, control_fd):
        poll.register(fd, select.EPOLLIN)
    while True:
        left = state.run_timers()
        for fd, _ in poll.poll(left if left >= 0 else None):
            side = sides.get(fd)
            if side is not None:
                side.pump()
                continue
            question = control.recv(CONTROL_BYTES)
            if not question:
                return
            with contextlib.suppress(BrokenPipeError):
                control.send(json.dumps(state.answer(json.loads(question))).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
