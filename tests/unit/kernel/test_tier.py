# SPDX-License-Identifier: MIT
"""The kernel tier as the supervisor runs it, on a kernel of plain memory. With a real one: tests/kernel."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.kernel.fake_maps import LAYOUTS, LO, VETH, FakeKernel, FakeLog, fake_kernel
from tests.unit.kernel.test_publish import HEAD, MESSAGE, answer, datagram
from tests.unit.kernel.test_sweep import BOTH, conn
from tux.config.schema import Config, Kernel, Limits, Server
from tux.daemon.worker import KernelSeat
from tux.errors import StartError
from tux.kernel import pins, publish, sweep, sys_bpf, tier, worth
from tux.kernel.choice import Choice
from tux.kernel.publish import RETIRED_NS
from tux.kernel.pulse import boot_ns, folded_sum
from tux.kernel.sweep import Count
from tux.kernel.tier import KernelTier, settings_of

CONTROL = "tux_kernel_control"
RETIRE = MESSAGE.pack(kind=publish.RETIRE, cell=3, version=9)


@dataclass
class FakeListener:
    sockets: list[socket.socket]
    shared: bool = False


def config(bpffs: Path, **kernel: object) -> Config:
    return Config(kernel=Kernel(bpffs=str(bpffs), memory=65536, connections=64, **kernel))  # type: ignore[arg-type]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    with fake_kernel(tmp_path, monkeypatch) as kernel:
        yield kernel
        kernel.loaded.maps["answers"].broken = False
        for tier_ in kernel.tiers:
            for worker in list(tier_._lines):
                tier_.worker_gone(worker)


@pytest.fixture
def listeners() -> Iterator[list[FakeListener]]:
    """One of TCP with a socket for each of two workers, one of a unix socket, one of TCP again."""
    sockets = [socket.socket(), socket.socket(), socket.socket(socket.AF_UNIX), *(socket.socket() for _ in range(2))]
    for sock in sockets[0], sockets[1], sockets[3], sockets[4]:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    for first, second in (sockets[:2], sockets[3:]):
        first.bind(("127.0.0.1", 0))
        second.bind(first.getsockname())
    yield [FakeListener(sockets[:2]), FakeListener(sockets[2:3]), FakeListener(sockets[3:])]
    for sock in sockets:
        sock.close()


class Rig:
    """A tier at work, and what it works on."""

    def __init__(
        self, kernel: FakeKernel, listeners: list[FakeListener], *, log: bool = True, mode: str = "auto"
    ) -> None:
        self.kernel = kernel
        self.maps = kernel.loaded.maps
        self.log = FakeLog()
        self.choice = Choice((LO, VETH))
        self.tier = KernelTier(
            settings_of(config(kernel.bpffs, mode=mode), self.choice),
            self.choice,
            listeners,
            log_fd=5 if log else -1,
            make_log=lambda records, fd: self.log,
        )
        self.tier.start()
        kernel.tiers.append(self.tier)

    def control(self, name: str) -> int:
        found = self.maps["control"].read(CONTROL, name)
        assert isinstance(found, int)
        return found

    def worker(self, index: int = 0) -> Worker:
        return Worker(self, index)

    def pass_time(self) -> None:
        """Everything is due again."""
        self.tier._beat_at = self.tier._drain_at = self.tier._sweep_at = 0.0
        self.tier.tick()


class Worker:
    """What a worker does with its seat."""

    def __init__(self, rig: Rig, index: int) -> None:
        self.rig, self.index = rig, index
        self.seat: KernelSeat = rig.tier.worker_seat(index)
        self.sock = socket.socket(fileno=os.dup(self.seat.message_fd))
        self.cells = os.dup(self.seat.cells_fd)
        self.seat.close()

    def say(self, *messages: bytes) -> bool:
        for message in messages:
            self.sock.send(message)
        return self.rig.tier.on_message(self.index)

    def end(self) -> None:
        self.sock.close()
        os.close(self.cells)


@pytest.fixture
def rig(kernel: FakeKernel, listeners: list[FakeListener]) -> Rig:
    return Rig(kernel, listeners)


class TestStart:
    def test_what_the_programs_are_told(self, rig: Rig, listeners: list[FakeListener]) -> None:
        assert rig.control("answering") == rig.control("logging") == 1
        assert rig.control("pid") == os.getpid()
        assert rig.control("liveness_ns") == 10 * 10**9
        assert rig.control("mark") != 0
        assert rig.control("heartbeat_ns") != 0
        assert rig.maps["control"].read(CONTROL, "key") != (0, 0)
        assert rig.kernel.sizes == {"conns": 64, "entries": 16, "chunks": 16}
        told = rig.maps["listeners"].values
        layout = LAYOUTS["tux_kernel_listener"]
        for index in (0, 2):
            for worker, sock in enumerate(listeners[index].sockets):
                assert told.pop(sock.fileno()) == layout.pack(worker=worker, listener=index)
        assert told == {}
        ports = {listeners[index].sockets[0].getsockname()[1] for index in (0, 2)}
        bits = {
            64 * int(word) + bit
            for word, bits in rig.maps["ports"].values.items()
            for bit in range(64)
            if int(bits) >> bit & 1
        }
        assert bits == ports

    def test_where_it_is_attached_and_pinned(self, rig: Rig) -> None:
        assert rig.kernel.attached == [(p, i, d) for i in (1, 7) for p, d in ((11, "ingress"), (12, "egress"))]
        (found,) = pins.list_sets(str(rig.kernel.bpffs))
        assert found.pid == os.getpid()
        names = {*pins.MAPS, pins.REAP, "ingress-1", "egress-1", "ingress-7", "egress-7"}
        assert set(os.listdir(found.path)) == names
        assert [one[:2] for one in found.attachments()] == [
            (1, "egress"),
            (1, "ingress"),
            (7, "egress"),
            (7, "ingress"),
        ]

    @pytest.mark.parametrize("step", ["load", "pin", "attach ingress", "attach egress", "pin it"])
    def test_a_start_that_fails_leaves_nothing(
        self, kernel: FakeKernel, listeners: list[FakeListener], step: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = sorted(os.listdir("/proc/self/fd"))
        kernel.fails = step
        choice = Choice((LO,))
        with pytest.raises(StartError, match=f"^cannot start the kernel tier: cannot {step}$"):
            tier.start(config(kernel.bpffs, mode="on"), choice, listeners)
        assert tier.start(config(kernel.bpffs), choice, listeners) is None
        assert caplog.messages == [f"the kernel tier is off: cannot {step}"]
        assert kernel.attached == []
        assert kernel.sets == []
        assert sorted(os.listdir("/proc/self/fd")) == before

    def test_nothing_is_started_where_nothing_was_chosen(self, listeners: list[FakeListener]) -> None:
        assert tier.start(Config(), Choice(reason="no"), listeners) is None

    def test_without_an_access_log_there_are_no_records(
        self, kernel: FakeKernel, listeners: list[FakeListener]
    ) -> None:
        assert Rig(kernel, listeners, log=False).control("logging") == 0


class TestSettings:
    def test_the_largest_answer(self) -> None:
        assert settings_of(Config(), Choice((VETH,))).max_answer == 1448
        assert settings_of(Config(), Choice((LO, VETH))).max_answer == publish.MAX_ANSWER_BYTES
        assert settings_of(Config(kernel=Kernel(max_answer=1000)), Choice((VETH,))).max_answer == 1000
        assert settings_of(Config(kernel=Kernel(max_answer=9000)), Choice((VETH,))).max_answer == 1448

    def test_a_connection_is_seen_alive_before_it_is_idle(self) -> None:
        server = Server(limits=Limits(idle_timeout=1.5))
        assert settings_of(Config(server=server), Choice((LO,))).liveness_ns == 750_000_000


class TestWorkers:
    def test_a_seat(self, rig: Rig) -> None:
        worker = rig.worker(1)
        assert worker.seat.listeners == (0, 2)
        assert (worker.seat.hits, worker.seat.max_answer_bytes) == (16, publish.MAX_ANSWER_BYTES)
        assert len(worker.seat.secret) == 16
        assert set(rig.maps["slots"].values) == set(rig.maps["cells"].values) == {1}
        key = rig.maps["control"].read(CONTROL, "key")
        assert b"".join(half.to_bytes(8, "little") for half in key) == worker.seat.secret
        worker.end()

    def test_it_publishes_and_retires(self, rig: Rig) -> None:
        worker = rig.worker()
        assert worker.say(datagram())
        ((key, found),) = rig.maps["answers"].values.items()
        assert isinstance(key, bytes)
        assert isinstance(found, bytes)
        assert LAYOUTS["tux_kernel_key"].unpack(key) == {"lo": 1, "hi": 2, "length": len(HEAD), "listener": 0}
        first = LAYOUTS["tux_kernel_found"].number(found, "first_chunk")
        identity = LAYOUTS["tux_kernel_found"].number(found, "id")
        entry = LAYOUTS["tux_kernel_answer"].unpack(rig.maps["entries"].mmap(), first * rig.maps["entries"].stride)
        text = answer()
        assert entry == {
            "id": identity,
            "key.lo": 1,
            "key.hi": 2,
            "key.length": len(HEAD),
            "key.listener": 0,
            "version": 9,
            "worker": 0,
            "cell": 3,
            "length": len(text),
            "date_offset": text.index(b"Date: ") + 6,
            "sum": folded_sum(text),
            "reserved": 0,
        }
        assert rig.maps["chunks"].mmap()[4096 * first : 4096 * first + len(text)] == text
        assert rig.log.known == {(first, identity): (HEAD, 200, 5)}
        assert worker.say(RETIRE)
        assert rig.maps["answers"].values == {}
        worker.end()

    def test_an_answer_is_forgotten_when_nobody_can_have_lost_it(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker = rig.worker()
        worker.say(datagram(), RETIRE)
        later = boot_ns() + RETIRED_NS + 1
        rig.pass_time()
        assert len(rig.log.known) == 1
        monkeypatch.setattr("tux.kernel.tier.boot_ns", lambda: later)
        rig.pass_time()
        assert rig.log.known == {}
        assert rig.maps["entries"].read("tux_kernel_answer", "id") == 0
        worker.end()

    def test_one_line_says_that_a_worker_talks_nonsense(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        worker = rig.worker()
        assert worker.say(b"nonsense", datagram(kind=7), b"more", datagram())
        assert caplog.messages == ["worker 0 sent what the kernel tier cannot take: 8 bytes are no message"]
        assert rig.tier.refused == 3
        assert len(rig.maps["answers"].values) == 1
        worker.end()

    def test_it_cannot_publish_for_a_listener_that_is_not_tcp(self, rig: Rig) -> None:
        worker = rig.worker()
        assert worker.say(datagram(key_listener=1), datagram(key_listener=3))
        assert rig.tier.refused == 2
        worker.end()

    def test_a_message_that_is_too_long(self, rig: Rig) -> None:
        worker = rig.worker()
        assert worker.say(bytes(publish.max_message(LAYOUTS, publish.MAX_ANSWER_BYTES) + 1000))
        assert rig.tier.refused == 1
        worker.end()

    def test_one_that_floods_does_not_keep_the_heart_from_beating(self, rig: Rig) -> None:
        worker = rig.worker()
        worker.say(*[b"x"] * (3 * tier.MESSAGES))
        assert rig.tier.refused == tier.MESSAGES
        worker.end()

    def test_the_end_of_its_messages(self, rig: Rig) -> None:
        worker = rig.worker()
        worker.end()
        assert not rig.tier.on_message(0)

    def test_a_worker_that_is_gone(self, rig: Rig) -> None:
        first, second = rig.worker(0), rig.worker(1)
        first.say(datagram())
        second.say(datagram(key_lo=5))
        rig.tier.worker_gone(0)
        rig.tier.worker_gone(0)
        (key,) = rig.maps["answers"].values
        assert isinstance(key, bytes)
        assert LAYOUTS["tux_kernel_key"].number(key, "lo") == 5
        first.end()
        second.end()

    def test_its_successor_begins_anew(self, rig: Rig) -> None:
        first = rig.worker(0)
        first.say(datagram())
        first.end()
        rig.maps["slots"].values.clear()
        second = rig.worker(0)
        assert rig.maps["answers"].values == {}
        assert set(rig.maps["slots"].values) == {0}
        assert second.say(datagram())
        assert len(rig.maps["answers"].values) == 1
        second.end()

    def test_a_map_that_is_full_is_reported_once(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        worker = rig.worker()
        rig.maps["answers"].broken = True
        assert worker.say(datagram(), datagram(cell=4), datagram(cell=5))
        assert caplog.messages == ["the kernel tier cannot publish an answer: the map is full"]
        worker.end()

    def test_after_a_change_of_the_configuration(self, rig: Rig) -> None:
        worker = rig.worker()
        worker.say(datagram())
        rig.tier.retire_all()
        assert rig.maps["answers"].values == {}
        worker.end()


class TestTime:
    def test_the_heart_beats(self, rig: Rig) -> None:
        before = rig.control("heartbeat_ns")
        rig.pass_time()
        assert rig.control("heartbeat_ns") > before

    def test_it_is_due_again_in_time(self, rig: Rig) -> None:
        assert rig.tier.due() <= time.monotonic()
        rig.tier.tick()
        rig.tier.tick()
        assert 0 < rig.tier.due() - time.monotonic() <= 0.25

    def test_the_log_is_read_more_often_while_there_are_records(self, rig: Rig) -> None:
        rig.log.waiting = tier.LOG_RECORDS + 1
        rig.pass_time()
        assert rig.log.waiting == 1
        assert rig.tier._drain_at - time.monotonic() <= tier.LOG_SECONDS
        rig.pass_time()
        rig.pass_time()
        assert rig.tier._drain_at - time.monotonic() > tier.LOG_SECONDS

    def test_a_log_that_cannot_be_written(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        rig.log.error = BlockingIOError(errno.EAGAIN, "the pipe is full")
        rig.pass_time()
        assert caplog.messages == []
        rig.log.error = OSError(errno.ENOSPC, "no space")
        rig.pass_time()
        rig.pass_time()
        assert caplog.messages == ["the kernel tier cannot write the access log: no space"]

    def test_the_log_is_reopened(self, rig: Rig) -> None:
        rig.tier.reopen_log(9)
        assert rig.log.fds == [9]

    @pytest.mark.parametrize(("mode", "pauses"), [("auto", True), ("on", False)])
    def test_where_too_little_is_answered_auto_pauses(
        self,
        kernel: FakeKernel,
        listeners: list[FakeListener],
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
        mode: str,
        pauses: bool,
    ) -> None:
        rig = Rig(kernel, listeners, mode=mode)
        start = time.monotonic()
        counters = rig.maps["counters"].mmap()
        LAYOUTS["tux_kernel_counters"].write(counters, "pass_unknown", worth.MIN_REQUESTS)
        with caplog.at_level("INFO"):
            rig.pass_time()
            assert (rig.control("paused"), caplog.messages) == (0, [])
            monkeypatch.setattr(time, "monotonic", lambda: start + worth.PERIOD_SECONDS + 1)
            rig.pass_time()
            assert rig.control("paused") == (worth.PAUSED if pauses else worth.TAKING)
            rig.pass_time()
        assert len(caplog.messages) == int(pauses)
        assert all("answered 0 of 20000 requests" in line for line in caplog.messages)
        assert rig.control("answering") == 1
        monkeypatch.setattr(time, "monotonic", lambda: start + worth.PERIOD_SECONDS + worth.PAUSE_SECONDS + 10)
        rig.pass_time()
        assert rig.control("paused") == 0

    def test_a_sweep_goes_portion_by_portion(self, rig: Rig) -> None:
        rig.kernel.conns = [[conn(1)], [conn(2)], []]
        for _ in range(3):
            rig.pass_time()
            assert rig.tier._sweep_at - time.monotonic() <= tier.STEP_SECONDS
        rig.pass_time()
        assert rig.tier.connections == Count(2, 0)
        assert rig.tier._sweep_at - time.monotonic() > tier.STEP_SECONDS
        assert rig.kernel.reaped  # they were idle since the machine started

    @pytest.mark.parametrize(
        ("before", "opened", "closed", "soon"),
        [
            (0, 7, 0, False),
            (0, 8, 0, True),
            (0, 1007, 1000, False),
            (20, 20, 0, False),
            (20, 27, 0, False),
            (20, 28, 0, True),
            (28, 28, 0, False),
            (29, 29, 0, True),
        ],
    )
    def test_a_sweep_comes_soon_when_places_are_scarce(
        self, rig: Rig, before: int, opened: int, closed: int, soon: bool
    ) -> None:
        """Of 64 places; the counters are those of each of two processors."""
        layout, area = LAYOUTS["tux_kernel_counters"], memoryview(rig.maps["counters"].mmap())
        layout.write(area, "opened", before)
        rig.pass_time()
        rig.tier._sweep_at = time.monotonic() + tier.SWEEP_SECONDS
        layout.write(area, "opened", opened)
        layout.write(area, "closed", closed)
        rig.tier._beat_at = 0.0
        rig.tier.tick()
        assert (rig.tier._sweep_at - time.monotonic() <= tier.SOON_SECONDS) is soon

    def test_a_sweep_that_fails_is_tried_again(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        rig.kernel.fails = "sweep"
        rig.pass_time()
        rig.pass_time()
        assert caplog.messages == ["the kernel tier cannot look through its connections: cannot sweep"]
        rig.kernel.fails = ""
        rig.kernel.conns = [[conn(1)]]
        rig.pass_time()
        rig.pass_time()
        assert rig.tier.connections.total == 1

    def test_it_notices_that_it_was_detached(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        worker = rig.worker()
        worker.say(datagram())
        LAYOUTS[CONTROL].write(memoryview(rig.maps["control"].mmap()), "answering", 0)
        rig.pass_time()
        assert caplog.messages == ["the kernel tier was detached from outside; workers answer all requests from now on"]
        assert rig.maps["answers"].values == {}
        before = rig.control("heartbeat_ns")
        rig.pass_time()
        assert worker.say(datagram())
        assert rig.maps["answers"].values == {}
        assert (rig.control("heartbeat_ns"), rig.control("answering")) == (before, 0)
        assert len(caplog.messages) == 1
        worker.end()

    def test_it_notices_that_its_pins_were_removed(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        """By `rm -r`: tcx programs end with them."""
        shutil.rmtree(rig.kernel.bpffs / "tux")
        rig.pass_time()
        assert caplog.messages == ["the kernel tier was detached from outside; workers answer all requests from now on"]
        assert rig.control("answering") == 0
        rig.pass_time()
        assert len(caplog.messages) == 1


def key_and_conn(**values: int) -> tuple[bytes, bytes]:
    """A connection as of now."""
    return conn(1)[0], LAYOUTS["tux_kernel_conn"].pack(last_ns=boot_ns(), **values)


class TestPause:
    """`auto`, where next to nothing can be answered."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        return Clock(monkeypatch)

    @pytest.fixture
    def paused(self, rig: Rig, clock: Clock) -> Rig:
        """One that has just paused."""
        rig.kernel.conns = [[translated()], [key_and_conn()]]
        self.ask_in_vain(rig, clock)
        assert rig.control("paused") == worth.PAUSED
        return rig

    @staticmethod
    def ask_in_vain(rig: Rig, clock: Clock) -> None:
        counters, layout = rig.maps["counters"].mmap(), LAYOUTS["tux_kernel_counters"]
        for _ in range(worth.GLANCES):
            for name in ("pass_first", "closed", "opened"):
                layout.write(counters, name, layout.number(counters, name) + worth.MIN_REQUESTS)
            clock.now += worth.GLANCE_SECONDS
            rig.tier._sweep_at = clock.now + tier.SWEEP_SECONDS
            rig.tier.tick()

    @staticmethod
    def sweep(rig: Rig, clock: Clock) -> float:
        """The rest of a round, or a whole one; the time from it to the next."""
        while True:
            clock.now = max(clock.now, rig.tier._sweep_at)
            rig.tier.tick()
            if rig.tier._round is None:
                return rig.tier._sweep_at - clock.now

    def test_soon_nothing_is_taken_up(self, paused: Rig, caplog: pytest.LogCaptureFixture) -> None:
        assert paused.control("answering") == 1
        assert caplog.messages == []  # it is news, and no warning

    def test_it_rests_when_nothing_is_left(self, paused: Rig, clock: Clock) -> None:
        assert self.sweep(paused, clock) == pytest.approx(tier.SWEEP_SECONDS)  # for one that was answered
        paused.kernel.conns = [[key_and_conn()]]
        assert self.sweep(paused, clock) == pytest.approx(tier.SOON_SECONDS)
        for _ in range(tier.EMPTY_SWEEPS):
            paused.kernel.conns = []
            assert paused.control("paused") == worth.PAUSED
            pause = self.sweep(paused, clock)
            resting = paused.control("paused") == worth.RESTING
            assert pause == pytest.approx(tier.SWEEP_SECONDS if resting else tier.SOON_SECONDS)
        assert paused.control("paused") == worth.RESTING
        assert paused.kernel.waited == 1

    def test_empty_once_is_not_enough(self, paused: Rig, clock: Clock) -> None:
        self.sweep(paused, clock)
        for _ in range(3):
            paused.kernel.conns = []
            self.sweep(paused, clock)
            paused.kernel.conns = [[translated()]]
            self.sweep(paused, clock)
        assert paused.control("paused") == worth.PAUSED

    def test_a_round_that_began_before_says_nothing(self, rig: Rig, clock: Clock) -> None:
        """A program may have made an entry where that round had looked already."""
        rig.kernel.conns = [[], []]
        rig.pass_time()
        assert rig.tier._round is not None
        self.ask_in_vain(rig, clock)
        self.sweep(rig, clock)
        assert rig.kernel.waited == 0
        rig.kernel.conns = []
        for _ in range(tier.EMPTY_SWEEPS):
            assert rig.control("paused") == worth.PAUSED
            self.sweep(rig, clock)
        assert rig.control("paused") == worth.RESTING

    def test_those_that_were_never_answered_are_let_go(self, paused: Rig, clock: Clock) -> None:
        self.sweep(paused, clock)
        assert paused.kernel.reaped == [bytes(14) + conn(1)[0]]

    def test_where_nobody_can_wait_for_the_programs_they_do_not_rest(
        self, rig: Rig, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        rig.kernel.fails = "wait"
        self.ask_in_vain(rig, clock)
        for _ in range(5):
            self.sweep(rig, clock)
        assert rig.control("paused") == worth.PAUSED
        assert caplog.messages == ["the kernel tier cannot wait for its programs: cannot wait"]

    def test_it_takes_up_connections_again(self, paused: Rig, clock: Clock) -> None:
        for again in (1, 2):
            self.sweep(paused, clock)
            paused.kernel.conns = []
            for _ in range(tier.EMPTY_SWEEPS):
                self.sweep(paused, clock)
            assert paused.control("paused") == worth.RESTING
            assert paused.kernel.waited == again
            clock.now += worth.SHORT_PAUSE_SECONDS
            paused.tier.tick()
            assert paused.control("paused") == worth.TAKING
            self.sweep(paused, clock)
            assert paused.control("paused") == worth.TAKING
            paused.kernel.conns = [[translated()]]
            self.ask_in_vain(paused, clock)
            assert paused.control("paused") == worth.PAUSED


class Clock:
    """time.monotonic() of a test that lets time pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def translated(idle: int = 0, state: int = 1) -> tuple[bytes, bytes]:
    """A connection that needs the programs, as of now."""
    key, _ = conn(1)
    last = boot_ns() - idle * 10**9
    return key, LAYOUTS["tux_kernel_conn"].pack(state=state, last_ns=last, d_in=1, d_out=1)


class TestEnd:
    def test_nothing_new_is_answered_once_a_stop_has_begun(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        worker = rig.worker()
        rig.tier.quiet()
        assert rig.control("answering") == 0
        assert rig.kernel.attached
        assert worker.say(datagram())
        assert rig.maps["answers"].values == {}
        rig.pass_time()
        assert caplog.messages == []
        worker.end()

    def test_without_connections_all_is_removed(self, rig: Rig) -> None:
        rig.log.waiting = 3 * tier.LOG_RECORDS
        rig.tier.finish()
        assert rig.kernel.attached == []
        assert rig.kernel.sets == []
        assert rig.log.waiting == 0
        assert rig.log.closed
        assert rig.kernel.loaded.closed

    def test_no_descriptor_stays_open(self, kernel: FakeKernel, listeners: list[FakeListener]) -> None:
        before = sorted(os.listdir("/proc/self/fd"))
        rig = Rig(kernel, listeners)
        for index in (0, 1, 0):
            rig.worker(index).end()
        assert sorted(os.listdir("/proc/self/fd")) != before
        rig.tier.finish()
        assert sorted(os.listdir("/proc/self/fd")) == before

    def test_lines_that_nobody_takes_are_reported(
        self, rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tier, "LAST_LINES_SECONDS", 0.05)
        rig.log.error = BlockingIOError(errno.EAGAIN, "the pipe is full")
        rig.tier.finish()
        assert caplog.messages == ["the access log lost lines of the kernel tier: nobody takes them"]
        assert rig.kernel.sets == []

    def test_it_waits_for_connections_that_were_answered(self, rig: Rig) -> None:
        looks = itertools.count()

        def portions(*_: object) -> Iterator[list[tuple[bytes, bytes]]]:
            yield [translated()] if next(looks) < 3 else [translated(idle=2, state=1 | BOTH)]

        # A context of its own: the fixture would restore what the rig has put there, after the rig is gone.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys_bpf, "map_lookup_batch", portions)
            rig.tier.finish()
        assert next(looks) == 5  # three with connections, and two in a row without
        assert rig.kernel.sets == []

    def test_but_not_for_ever(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        rig.kernel.conns = [[translated()]]
        rig.tier.finish(0.0)
        assert len(rig.kernel.attached) == 4
        assert len(rig.kernel.sets) == 1
        (message,) = caplog.messages
        assert message.startswith("1 connections are still open that were answered by the kernel tier")

    def test_what_cannot_be_removed_is_reported(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        rig.kernel.fails = "sweep"
        rig.tier.finish()
        assert caplog.messages == ["cannot remove the kernel tier: cannot sweep; `tux kernel detach` does"]

    def test_pins_that_are_gone_already(self, rig: Rig) -> None:
        """`tux kernel detach` was faster."""
        (found,) = pins.list_sets(str(rig.kernel.bpffs))
        found.remove()
        rig.tier.finish()
        assert rig.kernel.sets == []

    def test_pins_that_were_removed_by_hand(self, rig: Rig) -> None:
        """Filters of clsact stay then."""
        shutil.rmtree(rig.kernel.bpffs / "tux")
        rig.tier.finish()
        assert rig.kernel.attached == []


class FakeCaretaker:
    """Of a set that somebody left behind."""

    heartbeat = 0
    left: Count = Count(0, 0)
    quieted = 0
    closed = 0

    def __init__(self, found: pins.PinnedSet, _layouts: object) -> None:
        self.pinned = found
        if "damaged" in os.listdir(found.path):
            raise FileNotFoundError(found.path)

    def heartbeat_ns(self) -> int:
        return type(self).heartbeat

    def quiet(self) -> None:
        type(self).quieted += 1

    def new_sweep(self) -> sweep.Sweep:
        pairs = [translated() for _ in range(type(self).left.translated)]
        return sweep.Sweep([pairs], lambda packet: None, LAYOUTS, boot_ns())

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def caretaker(monkeypatch: pytest.MonkeyPatch) -> type[FakeCaretaker]:
    class Fresh(FakeCaretaker):
        pass

    monkeypatch.setattr(tier, "Caretaker", Fresh)
    return Fresh


NOBODY = 2**22 + 1
"""No process has this number (proc(5), pid_max)."""


class TestOrphans:
    def test_what_a_killed_server_left_is_quieted_and_removed(
        self, kernel: FakeKernel, listeners: list[FakeListener], caretaker: type[FakeCaretaker]
    ) -> None:
        old = pins.create(str(kernel.bpffs), NOBODY, 5)
        caretaker.left = Count(1, 1)
        rig = Rig(kernel, listeners)
        assert caretaker.quieted == 1
        for _ in range(5):
            rig.pass_time()
        assert os.path.isdir(old.path)
        caretaker.left = Count(0, 0)
        for _ in range(5):
            rig.pass_time()
        assert not os.path.isdir(old.path)
        assert caretaker.closed == 1
        assert len(kernel.sets) == 1

    def test_one_that_was_killed_a_moment_ago(
        self, kernel: FakeKernel, listeners: list[FakeListener], caretaker: type[FakeCaretaker]
    ) -> None:
        """Its heart seems to beat, so it is looked at again soon."""
        pins.create(str(kernel.bpffs), NOBODY, 5)
        caretaker.heartbeat = boot_ns()
        rig = Rig(kernel, listeners)
        rig.pass_time()
        assert len(kernel.sets) == 2
        assert rig.tier._sweep_at - time.monotonic() <= tier.SOON_SECONDS
        caretaker.heartbeat = 0
        for _ in range(4):
            rig.pass_time()
        assert len(kernel.sets) == 1
        assert rig.tier._sweep_at - time.monotonic() > tier.SOON_SECONDS

    def test_a_folder_that_cannot_be_read_any_more(
        self, rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unreadable(_bpffs: str) -> list[pins.PinnedSet]:
            raise OSError("no such mount")

        monkeypatch.setattr(pins, "list_sets", unreadable)
        for _ in range(5):
            rig.pass_time()
        assert caplog.messages == ["the kernel tier cannot look for what others left behind: no such mount"]

    def test_another_server_is_left_alone(
        self, kernel: FakeKernel, listeners: list[FakeListener], caretaker: type[FakeCaretaker]
    ) -> None:
        pins.create(str(kernel.bpffs), NOBODY, 5)
        caretaker.heartbeat = boot_ns()
        Rig(kernel, listeners)
        assert (caretaker.quieted, caretaker.closed) == (0, 1)
        assert len(kernel.sets) == 2

    def test_a_set_that_was_never_finished(
        self, kernel: FakeKernel, listeners: list[FakeListener], caretaker: type[FakeCaretaker]
    ) -> None:
        old = pins.create(str(kernel.bpffs), NOBODY, 5)
        Path(old.path, "damaged").touch()
        new = pins.create(str(kernel.bpffs), os.getpid(), boot_ns())
        Path(new.path, "damaged").touch()
        Rig(kernel, listeners)
        assert not old.exists
        assert new.exists
