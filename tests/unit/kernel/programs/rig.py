# SPDX-License-Identifier: MIT
"""The three programs in the kernel, attached to nothing, with maps that a test fills: BPF_PROG_TEST_RUN hands them a
packet and gives back what became of it.

Runs take place in a network namespace of the rig's own: the programs look up sockets and send clones there.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import ipaddress
import mmap
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

from tests.unit.kernel.programs.packets import Segment, host_sum
from tests.unit.kernel.programs.space import Space
from tux.kernel import load, sys_bpf

PASS, DROP, REDIRECT = -1, 2, 7
"""TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_REDIRECT of linux/pkt_cls.h."""

PORT: Final = 8080
WORKER, LISTENER = 2, 3
SECRET: Final = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
MARK: Final = 0x7EB51A5C
"""Of answers, between the two programs."""

HOP: Final = bytes.fromhex("020000000007")
"""Hardware address of the clients' neighbour, to which the stack sends."""

LOOPBACK: Final = 1
"""Its number in every network namespace."""

DATE_BYTES: Final = 29
DATES_AHEAD: Final = 60
"""Seconds whose Date is at hand: longer than any test goes on after it began."""

CHUNK_BYTES: Final = 4096

RING_BYTES: Final = 4096
"""Of the log: so small that a test can fill it."""

SKB_BYTES: Final = 192
"""struct __sk_buff of linux/bpf.h."""
SKB_MARK, SKB_IFINDEX, SKB_GSO_SIZE = 8, 40, 176

TEST_CHECKSUM_COMPLETE: Final = 1 << 2
"""BPF_F_TEST_SKB_CHECKSUM_COMPLETE, Linux 6.11: as from a network card that gives the sum of all bytes. EBADMSG: the
program left another packet than the sum says."""

PACKET_OUTGOING: Final = 4
SO_RCVMARK: Final = 75
SO_MARK: Final = 36

SOURCES: Final = Path(__file__).resolve().parents[4] / "src/tux/kernel/bpf"


class HeadKey:
    """Keys of heads, by head_key.h as gcc compiles it."""

    def __init__(self) -> None:
        source = Path(__file__).with_name("head_key.c")
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "head_key.so"
            command = ["gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{SOURCES}"]
            subprocess.run([*command, "-o", library, source], check=True)
            self._function = ctypes.CDLL(str(library)).tux_test_key

    def __call__(self, head: bytes, listener: int = LISTENER) -> bytes:
        """struct tux_kernel_key. ValueError: the head is empty or too long."""
        secret, room = (ctypes.c_uint64 * 2)(*SECRET), ctypes.create_string_buffer(24)
        if not self._function(secret, head, ctypes.c_uint32(len(head)), ctypes.c_uint32(listener), room):
            raise ValueError(f"no key for {len(head)} bytes")
        return room.raw


@dataclass(frozen=True)
class Page:
    """A published answer."""

    name: str
    length: int
    """Bytes of the whole answer."""
    number: int
    """Of its cell, and of its version."""
    first_chunk: int
    odd: bool
    """Is the offset of the Date odd?"""
    version: int = field(default=1)

    @property
    def head(self) -> bytes:
        """The request."""
        return b"GET /%b HTTP/1.1\r\nHost: www.example.org\r\n\r\n" % self.name.encode()

    @property
    def id(self) -> int:
        return self.number + 100

    @cached_property
    def date_offset(self) -> int:
        return self.text.index(bytes(DATE_BYTES))

    @cached_property
    def text(self) -> bytes:
        """The answer, its Date as zeros."""
        start = b"HTTP/1.1 200 OK\r\nServer: t" + b"u" * (not self.odd) + b"x\r\nDate: "
        head = start + bytes(DATE_BYTES) + b"\r\nX-Page: %b\r\n\r\n" % self.name.encode()
        body = bytes((7 * place + self.number + place // 251) % 255 + 1 for place in range(self.length - len(head)))
        assert len(head) + len(body) == self.length
        assert len(start) % 2 == self.odd
        return head + body

    def at(self, second: int) -> bytes:
        """The answer with the Date of a second since 1970."""
        return self.text.replace(bytes(DATE_BYTES), date_text(second), 1)


@functools.lru_cache(1000)
def date_text(second: int) -> bytes:
    """IMF-fixdate (RFC 9110 section 5.6.7)."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second)).encode()


def boot_ns() -> int:
    """The clock of the programs."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Sent(NamedTuple):
    """A packet that left on its own (bpf_clone_redirect)."""

    data: bytes
    mark: int | None
    """None: this kernel does not tell."""


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    verdict: int
    data: bytes
    mark: int
    counts: dict[str, int]
    """Counters that changed, and by how much."""
    records: list[dict[str, object]]
    """Of the log."""
    sent: list[Sent]
    before_ns: int
    after_ns: int
    """The run took place between these."""
    duration_ns: int
    """What the kernel says that it took."""


def tuple_of(local: str, remote: str, local_port: int, remote_port: int) -> bytes:
    """struct tux_kernel_tuple: the key of a connection."""
    ends = b"".join(
        address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed
        for address in map(ipaddress.ip_address, (local, remote))
    )
    return ends + struct.pack(">HH", local_port, remote_port)


def tuple_in(segment: Segment) -> bytes:
    """The key of a segment from a client."""
    return tuple_of(segment.target, segment.source, segment.target_port, segment.source_port)


class Rig:
    """Programs, maps and a namespace."""

    def __init__(self) -> None:
        self.key_of: Final = HeadKey()
        self.space: Final = Space()
        self.tier: Final = load.load(load.read_object(), {"records": RING_BYTES})
        self.layouts: Final = self.tier.layouts
        self.maps: Final = self.tier.maps
        inner = {name: load.Map(name, self.tier.new_inner(name)) for name in ("slots", "cells")}
        for name, entry in inner.items():
            self.maps[name].update(WORKER, entry.fd)
        shared = ("control", "dates", "ports", "entries", "chunks")
        self.memory: Final = {name: self.maps[name].mmap() for name in shared} | {
            name: entry.mmap() for name, entry in inner.items()
        }
        self._inner: Final = inner
        ring, page = self.maps["records"].fd, mmap.PAGESIZE
        self._consumed: Final = mmap.mmap(ring, page)
        self._produced: Final = mmap.mmap(ring, page + 2 * RING_BYTES, prot=mmap.PROT_READ, offset=page)
        with self.space:
            self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))
            self._wire.bind(("lo", 3))
        with contextlib.suppress(OSError):
            self._wire.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
        self._pages: dict[str, Page] = {}
        self._slots: set[int] = set()
        self._before: dict[str, int] = {}

    def close(self) -> None:
        self._wire.close()
        for area in (*self.memory.values(), self._consumed, self._produced):
            area.close()
        for entry in self._inner.values():
            entry.close()
        self.tier.close()
        self.space.close()

    # ---- What the supervisor and the worker would do

    def write(self, area: str, index: int = 0, **values: int | bytes | tuple[int, ...]) -> None:
        """Set members of the struct in an element of a mapped array."""
        name = {"control": "control", "dates": "date", "entries": "answer", "slots": "slot", "cells": "cell"}[area]
        layout = self.layouts[f"tux_kernel_{name}"]
        stride = (layout.size + 7) // 8 * 8
        for member, value in values.items():
            layout.write(self.memory[area], member, value, index * stride)

    def reset(self) -> None:
        """No connections; all pages published and fresh; the supervisor alive and answering; nothing in the log."""
        for entry in (self.maps["conns"], self.maps["syns"]):
            if entry.type != sys_bpf.MapType.ARRAY:
                for key in list(entry.keys()):
                    entry.delete(key)
        for index in self._slots:
            self.write("slots", index, cookie=0, marks=0)
        self._slots.clear()
        self.memory["ports"][:] = bytes(len(self.memory["ports"]))
        self.open_port(PORT)
        wall = time.time_ns() - boot_ns()
        self.write("control", wall_ns=wall, key=SECRET, liveness_ns=10**10, answering=1, logging=0, mark=MARK,
                   paused=0)  # fmt: skip
        now = (boot_ns() + wall) // 10**9
        for second in range(now - 1, now + DATES_AHEAD):
            self.set_date(second)
        for page in self._pages.values():
            self._describe(page)
        self.read_log()
        self.read_wire()

    def open_port(self, port: int) -> None:
        """One of ours from now on."""
        at = port // 64 * 8
        word = struct.unpack_from("=Q", self.memory["ports"], at)[0]
        struct.pack_into("=Q", self.memory["ports"], at, word | 1 << port % 64)

    def set_date(self, second: int) -> None:
        """Put the text of a second in its place."""
        text = date_text(second)
        self.write("dates", second % 256, second=second, sum=host_sum(text), text=text)

    def publish(self, page: Page) -> None:
        """Make a page known, fresh for an hour."""
        at = page.first_chunk * CHUNK_BYTES
        self.memory["chunks"][at : at + page.length] = page.text
        self._pages[page.name] = page
        self._describe(page)

    def _describe(self, page: Page) -> None:
        key = self.key_of(page.head)
        lo, hi, length, listener = struct.unpack("=QQII", key)
        values: dict[str, int | bytes | tuple[int, ...]] = {
            "key.lo": lo,
            "key.hi": hi,
            "key.length": length,
            "key.listener": listener,
            "version": page.version,
            "worker": WORKER,
            "cell": page.number,
            "length": page.length,
            "date_offset": page.date_offset,
            "sum": host_sum(page.text),
            "id": page.id,
        }
        self.write("entries", page.first_chunk, **values)
        self.write("cells", page.number, version=page.version, fresh_until_ns=boot_ns() + 3600 * 10**9, used_ns=0)
        self.maps["answers"].update(key, struct.pack("=QII", page.id, page.first_chunk, 0))

    @contextlib.contextmanager
    def published(self, page: Page, head: bytes, listener: int = LISTENER) -> Iterator[None]:
        """The page answers this head, and no other one."""
        key, layout = self.key_of(head, listener), self.layouts["tux_kernel_answer"]
        begin = page.first_chunk * ((layout.size + 7) // 8 * 8) + layout.field("key.lo").offset
        self.memory["entries"][begin : begin + len(key)] = key
        self.maps["answers"].update(key, struct.pack("=QII", page.id, page.first_chunk, 0))
        try:
            yield
        finally:
            self.maps["answers"].delete(key)
            self._describe(page)

    def set_slot(self, cookie: int, marks: int, *, index: int | None = None) -> None:
        """What the worker says about the connection with this cookie."""
        place = cookie % 65536 if index is None else index
        self.write("slots", place, cookie=cookie, marks=marks)
        self._slots.add(place)

    def set_conn(self, key: bytes, values: Mapping[str, int], *, of: bytes | None = None) -> None:
        """An entry. Numbers are modulo 2^32; clocks and seconds that are not positive are relative to now. `of`: the
        key that is in the entry, if not its own."""
        layout, now = self.layouts["tux_kernel_conn"], boot_ns()
        wall = self.layouts["tux_kernel_control"].number(self.memory["control"], "wall_ns")
        packed: dict[str, int | bytes | tuple[int, ...]] = {}
        for name, value in values.items():
            since = 0
            if value <= 0 and name.endswith(("_ns", "_second")):
                since = now if name.endswith("_ns") else (now + wall) // 10**9
            packed[name] = (since + value) % 2 ** (8 * layout.field(name).size)
        entry = bytearray(layout.pack(**packed))
        at = layout.field("tuple.local").offset
        entry[at : at + len(key)] = of or key
        at = layout.field("hop").offset
        entry[at : at + len(HOP)] = HOP
        self.maps["conns"].update(key, bytes(entry))

    def conn(self, key: bytes) -> dict[str, int] | None:
        """An entry as it is."""
        value, layout = self.maps["conns"].lookup(key), self.layouts["tux_kernel_conn"]
        if value is None:
            return None
        numbers = (name for name, member in layout.fields.items() if not member.array and member.plain)
        return {name: layout.number(value, name) for name in numbers if not name.startswith("tuple.")}

    # ---- Running, and what a run leaves behind

    def run(
        self,
        program: str | int,
        packet: bytes,
        *,
        mark: int = 0,
        ifindex: int = LOOPBACK,
        gso_size: int = 0,
        flags: int = 0,
        beat: bool = True,
        drain: bool = True,
    ) -> Outcome:
        """Run tux_PROGRAM, or the program with this descriptor, once. `beat`: the supervisor is alive. `drain`: the log
        is read. BpfError."""
        fd = self._program(program)
        context = bytearray(SKB_BYTES)
        struct.pack_into("=I", context, SKB_MARK, mark)
        struct.pack_into("=I", context, SKB_IFINDEX, ifindex)
        struct.pack_into("=I", context, SKB_GSO_SIZE, gso_size)
        layout = self.layouts["tux_kernel_counters"]
        counts = self.maps["counters"].sums(layout)
        with self.space:
            before = boot_ns()
            if beat:
                self.write("control", heartbeat_ns=before)
            result = run_program(fd, packet, bytes(context), flags=flags)
            after = boot_ns()
        now = self.maps["counters"].sums(layout)
        return Outcome(
            result.verdict,
            result.data,
            struct.unpack_from("=I", result.context, SKB_MARK)[0],
            {name: now[name] - counts[name] for name in now if now[name] != counts[name]},
            self.read_log() if drain else [],
            self.read_wire(),
            before,
            after,
            result.duration_ns,
        )

    def repeat(self, program: str | int, packet: bytes, times: int) -> int:
        """Run it many times with a packet that it leaves as it is: nanoseconds of one run, on average."""
        with self.space:
            return run_program(self._program(program), packet, bytes(SKB_BYTES), repeat=times).duration_ns

    def _program(self, program: str | int) -> int:
        return program if isinstance(program, int) else self.tier.programs[f"tux_{program}"]

    def read_log(self) -> list[dict[str, object]]:
        """All records of the ring, which is empty afterwards (its layout: Documentation/bpf/ringbuf.rst)."""
        records: list[dict[str, object]] = []
        layout = self.layouts["tux_kernel_record"]
        at, end = (struct.unpack_from("=Q", area, 0)[0] for area in (self._consumed, self._produced))
        while at < end:
            place = mmap.PAGESIZE + at % RING_BYTES
            length = struct.unpack_from("=I", self._produced, place)[0]
            busy, discarded, size = length >> 31, length >> 30 & 1, length & 0x3FFFFFFF
            assert not busy
            assert size == layout.size
            if not discarded:
                records.append(dict(layout.unpack(self._produced, place + 8)))
            at += (8 + size + 7) // 8 * 8
        struct.pack_into("=Q", self._consumed, 0, at)
        return records

    def read_wire(self) -> list[Sent]:
        """What the programs have sent on `lo` since the last call; without what sockets of the namespace sent, whose
        frames have no hardware addresses."""
        found: list[Sent] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, extra, _, address = self._wire.recvmsg(65536, 64)
                marks = [struct.unpack("=I", content)[0] for _, kind, content in extra if kind == SO_MARK]
                if address[2] == PACKET_OUTGOING and any(data[:12]):
                    found.append(Sent(data, marks[0] if marks else None))
        return found

    @contextlib.contextmanager
    def connected(self, host: str) -> Iterator[tuple[socket.socket, bytes]]:
        """An established TCP connection over the namespace's `lo`: the client's end, and the key of the server's."""
        with self.space:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.create_server((host, 0), family=family) as listener:
                client = socket.create_connection(listener.getsockname()[:2])
                server, remote = listener.accept()
        with client, server:
            local = server.getsockname()
            self.read_wire()
            yield client, tuple_of(local[0], remote[0], local[1], remote[1])


def run_program(fd: int, packet: bytes, context: bytes, *, flags: int = 0, repeat: int = 1) -> sys_bpf.TestRun:
    """sys_bpf.prog_test_run() with flags. BpfError."""
    room = sys_bpf.DEVICE_MTU
    packet_in, context_in = (ctypes.create_string_buffer(content, len(content)) for content in (packet, context))
    packet_out, context_out = ctypes.create_string_buffer(room), ctypes.create_string_buffer(len(context))
    address = ctypes.addressof
    attributes = struct.pack(
        "=IIIIQQIIIIQQIII",
        *(fd, 0, len(packet), room, address(packet_in), address(packet_out), repeat, 0),
        *(len(context), len(context), address(context_in), address(context_out), flags, 0, 0),
    )
    _, after = sys_bpf.call(sys_bpf.Command.PROG_TEST_RUN, attributes, "test a program")
    _, verdict, _, length, _, _, _, duration = struct.unpack_from("=IiIIQQII", after)
    return sys_bpf.TestRun(verdict, packet_out.raw[:length], context_out.raw, duration)
