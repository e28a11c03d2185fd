# SPDX-License-Identifier: MIT
"""The binding of what the kernel tier needs of the engine: its worker's half, keys, and the log. No eBPF: maps and ring
are ordinary memory that is laid out like them."""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux._engine import PUBLISH, REMEMBER, Engine, KernelLog, head_key

PAGE = mmap.PAGESIZE
SLOTS_BYTES = 65536 * 16
CELLS_BYTES = 4096 * 32
SECRET = bytes(range(16))
HEAD = b"GET /a HTTP/1.1\r\nHost: example.org\r\nUser-Agent: test\r\n\r\n"


def shared(size: int) -> int:
    fd = os.memfd_create("map")
    os.truncate(fd, size)
    return fd


# ---- Keys.


@given(head=st.binary(min_size=1, max_size=2048), listener=st.integers(0, 2**32 - 1))
def test_keys(head: bytes, listener: int) -> None:
    lo, hi, length = head_key(SECRET, head, listener)
    assert length == len(head)
    assert head_key(SECRET, head, listener) == (lo, hi, length)
    assert head_key(SECRET[::-1], head, listener)[:2] != (lo, hi)
    if len(head) < 2048:
        assert head_key(SECRET, head + b"\0", listener) != (lo, hi, length), "the length is part of the key"


@pytest.mark.parametrize(("secret", "head"), [(SECRET, b""), (SECRET, bytes(2049)), (SECRET[1:], b"x")])
def test_no_key(secret: bytes, head: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        head_key(secret, head, 0)


# ---- The worker's half.


@dataclass
class Worker:
    """An engine in a thread, with a planner that answers everything with "hello"."""

    engine: Engine
    listener: socket.socket
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for target in (self.engine.run, self._plan):
            self.threads.append(threading.Thread(target=target))
            self.threads[-1].start()

    def _plan(self) -> None:
        port = self.engine.port
        alive = True
        while alive and self.threads[0].is_alive():
            ask = port.take()
            if ask is None:
                time.sleep(0.001)
                continue
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
            alive = port.reply(ask.id, 200, head, body=b"hello", flags=REMEMBER | PUBLISH)

    def stop(self) -> None:
        self.engine.drain(0)
        for thread in self.threads:
            thread.join(10)
        assert self.engine.close() == {"objects": 0, "plans": 0}
        self.listener.close()


@pytest.fixture
def worker() -> Iterator[Worker]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    made = Worker(Engine(key=bytes(16)), listener)
    made.engine.listen(listener.fileno(), listener=3)
    yield made
    made.stop()


def test_a_hot_head_is_published(worker: Worker) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    worker.engine.kernel(
        slots_fd=shared(SLOTS_BYTES),
        cells_fd=shared(CELLS_BYTES),
        message_fd=theirs.detach(),
        secret=SECRET,
        listeners=[3],
        hits=2,
        max_answer_bytes=4096,
    )
    worker.start()
    with ours, socket.create_connection(worker.listener.getsockname()) as client:
        received = b""
        for _ in range(4):  # asked, asked and remembered, two hits
            client.sendall(HEAD)
            received = b""
            while not received.endswith(b"hello"):
                received += client.recv(4096)
        ours.settimeout(10)
        message = ours.recv(65536)
        kind, cell, version, lo, hi, length, listener, *numbers = struct.unpack_from("=IIQQQIIIIIIIH", message)
        head_length, answer_length, body_length, date_offset, _sum, status = numbers
        assert (kind, cell, listener, status, body_length) == (1, 0, 3, 200, 5)
        assert version > 0
        assert (lo, hi, length) == head_key(SECRET, HEAD, 3)
        assert message[64 : 64 + head_length] == HEAD
        answer = message[64 + head_length :]
        assert len(answer) == answer_length
        blank = received[:date_offset] + bytes(29) + received[date_offset + 29 :]
        assert answer == blank
        stats = worker.engine.stats()
        assert (stats["published"], stats["publishes"], stats["retires"]) == (1, 1, 0)


@pytest.mark.parametrize(("changed", "error"), [({"listeners": [4]}, OSError), ({"secret": b"x"}, ValueError)])
def test_refused(changed: dict[str, object], error: type[Exception]) -> None:
    engine = Engine(key=bytes(16))
    fds = [shared(SLOTS_BYTES), shared(CELLS_BYTES), os.memfd_create("socket")]
    usual: dict[str, object] = {"secret": SECRET, "listeners": [], "hits": 2, "max_answer_bytes": 4096}
    settings = usual | changed
    with pytest.raises(error):
        engine.kernel(slots_fd=fds[0], cells_fd=fds[1], message_fd=fds[2], **settings)  # type: ignore[arg-type]
    for fd in fds:
        if error is ValueError:  # not the engine's yet
            os.close(fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert engine.close() == {"objects": 0, "plans": 0}


# ---- The log.


class Ring:
    """A BPF ring buffer with its data written out twice, as the kernel maps it."""

    def __init__(self, size: int = PAGE) -> None:
        self.size = size
        self.fd = shared(2 * PAGE + 2 * size)
        self._map = mmap.mmap(self.fd, 2 * PAGE + 2 * size)
        self._produced = 0

    @property
    def consumed(self) -> int:
        return int(struct.unpack_from("=Q", self._map, 0)[0])

    def put(self, payload: bytes) -> None:
        record = struct.pack("=II", len(payload), 0) + payload
        record += bytes(-len(record) % 8)
        for i, byte in enumerate(record):
            for copy in (0, self.size):
                self._map[2 * PAGE + copy + (self._produced + i) % self.size] = byte
        self._produced += len(record)
        struct.pack_into("=Q", self._map, PAGE, self._produced)

    def close(self) -> None:
        self._map.close()
        os.close(self.fd)


def record(answer: int, chunk: int, address: str, boot_ns: int = 0) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    return struct.pack("=QQ16sIHH", answer, boot_ns, packed.rjust(16, b"\0"), chunk, 0, 0)


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring()
    yield made
    made.close()


def test_lines(ring: Ring, tmp_path: Path) -> None:
    out = tmp_path / "log"
    with out.open("ab") as file:
        log = KernelLog(ring.fd, ring.size, file.fileno(), "json")
    log.add(7, 5, HEAD, 200, 1234)
    for i in range(200):  # several times round
        ring.put(record(7, 5, "::ffff:192.0.2.1" if i % 2 else "2001:db8::1", i * 1_000_000))
        assert log.drain(1_800_000_000_000_000_000) == 1
    log.add(8, 5, b"HEAD /b HTTP/1.0\r\n\r\n", 404, 0)
    log.remove(5, 7)
    ring.put(record(8, 5, "::1"))
    ring.put(record(9, 5, "::1"))
    assert log.drain(0) == 2
    assert log.counts() == {"lines": 201, "unknown": 1}
    assert ring.consumed == 202 * 48
    log.close()
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 201
    first, second, last = lines[0], lines[1], lines[-1]
    assert first | {"time": ""} == {
        "time": "", "peer": "2001:db8::1", "method": "GET", "target": "/a", "version": "1.1", "status": 200,
        "bytes": 1234, "duration_us": 0, "host": "example.org", "user_agent": "test", "tier": "kernel",
    }  # fmt: skip
    assert second["peer"] == "192.0.2.1"
    assert second["time"][-10:-6] == ".001"
    assert (last["method"], last["target"], last["version"], last["status"]) == ("HEAD", "/b", "1.0", 404)


def test_a_full_pipe(ring: Ring) -> None:
    reader, writer = os.pipe()
    log = KernelLog(ring.fd, ring.size, writer, "common")
    log.add(1, 0, HEAD, 200, 5)
    count = 0

    def fill() -> None:
        nonlocal count
        while count < 10_000:
            ring.put(record(1, 0, "::1"))
            count += 1
            log.drain(0)

    with pytest.raises(BlockingIOError):
        fill()
    text = b""
    while len(text.splitlines()) < count:
        text += os.read(reader, 65536)
        try:
            log.drain(0)
        except BlockingIOError:
            pass
    assert log.counts()["lines"] == count
    assert len(set(text.splitlines())) == 1, "no line is torn"
    os.close(reader)
    os.close(writer)


def test_reopen(ring: Ring, tmp_path: Path) -> None:
    old, new = (os.open(tmp_path / name, os.O_CREAT | os.O_RDWR | os.O_APPEND) for name in ("old", "new"))
    log = KernelLog(ring.fd, ring.size, old, "common")
    log.add(1, 0, HEAD, 200, 5)
    for fd in (old, new):
        ring.put(record(1, 0, "::1"))
        log.reopen(fd)
        assert log.drain(0) == 1
        assert os.pread(fd, 100, 0).startswith(b"::1 - - [")
        os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        log.reopen(-1)


def test_misuse(ring: Ring) -> None:
    with pytest.raises(ValueError, match="log_format"):
        KernelLog(ring.fd, ring.size, 2, "xml")
    for size in (0, PAGE + 1, PAGE * 3):
        with pytest.raises(OSError, match="Invalid argument"):
            KernelLog(ring.fd, size, 2, "common")
    log = KernelLog(ring.fd, ring.size, 2, "common")
    with pytest.raises(ValueError, match="out of bounds"):
        log.add(1, 2**31, HEAD, 200, 5)
    with pytest.raises(ValueError, match="out of bounds"):
        log.add(1, 0, bytes(2049), 200, 5)
    log.close()
    log.close()
    with pytest.raises(RuntimeError, match="closed"):
        log.drain(0)
