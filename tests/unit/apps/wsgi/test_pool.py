"""The threads: who takes requests while others work or wait, and how all of it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.apps.fakes import PATIENCE_S, WINDOW_BYTES, Answer
from tests.unit.apps.wsgi.conftest import Serve
from tux.apps.options import AppOptions
from tux.apps.wsgi import pool


class Gate:
    """An application whose requests wait until the test lets them go. Its answer is the name of the thread."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.inside: set[str] = set()
        self.open: set[str] = set()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        path = environ["PATH_INFO"]
        with self.changed:
            self.inside.add(path)
            self.changed.notify_all()
            assert path.startswith("/fast") or self.changed.wait_for(lambda: path in self.open, PATIENCE_S)
            self.inside.remove(path)
            self.changed.notify_all()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [threading.current_thread().name.encode()]

    def until(self, *paths: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.inside == set(paths), PATIENCE_S), self.inside

    def let(self, *paths: str) -> None:
        with self.changed:
            self.open.update(paths)
            self.changed.notify_all()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_as_many_requests_as_threads(serving: Serve, gate: Gate, threads: int) -> None:
    port = serving(gate, threads=threads)
    answers = [port.request(target=f"/{i}") for i in range(threads + 1)]
    gate.until(*(f"/{i}" for i in range(threads)))
    gate.let("/0")
    answers[0].done()
    gate.until(*(f"/{i}" for i in range(1, threads + 1)))
    gate.let(*(f"/{i}" for i in range(threads + 1)))
    assert len({answer.done().body for answer in answers[1:]}) == threads


def test_one_thread_takes_turns(serving: Serve, gate: Gate) -> None:
    port = serving(gate, threads=1)
    answers = [port.request(target=f"/{i}") for i in range(3)]
    for i in range(3):
        gate.until(f"/{i}")
        gate.let(f"/{i}")
        answers[i].done()


def test_slow_request_does_not_hold_up_the_fast(serving: Serve, gate: Gate) -> None:
    port = serving(gate, threads=2)
    for i in range(3):  # again and again: whoever was fast may be slow, and the other way round
        for _ in range(30):
            port.request(target="/fast").done()
        slow = port.request(target=f"/{i}")
        for _ in range(5):
            port.request(target="/fast").done()
        assert not slow.ended
        gate.let(f"/{i}")
        slow.done()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_answers_leave_while_the_next_request_is_slow(serving: Serve, gate: Gate, threads: int) -> None:
    port = serving(gate, threads=threads)
    for i in range(10):
        with port.changed:  # they come together
            fast, slow = port.request(target="/fast"), port.request(target=f"/{i}")
        fast.done()
        gate.let(f"/{i}")
        slow.done()


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_that_sleep_soundly_are_called(serving: Serve, gate: Gate, threads: int) -> None:
    port = serving(gate, threads=threads)
    for round_ in range(3):
        deadline = time.monotonic() + PATIENCE_S
        while not (port.waits and port.pool._looker_sleeps and port.pool._idlers == threads - 2):
            assert time.monotonic() < deadline
            time.sleep(0.001)  # until the last of them has gone to sleep
        port.pool._average = 0.0
        paths = [f"/{round_}{i}" for i in range(threads)]
        answers = [port.request(target=path) for path in paths]
        gate.until(*paths)
        gate.let(*paths)
        for answer in answers:
            answer.done()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_that_wait_for_bodies_take_requests_for_others(serving: Serve, threads: int) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        data = environ["wsgi.input"].read(5)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [data]

    port = serving(application, threads=threads)
    waiting = [port.request("POST", complete=False, length=5) for _ in range(threads)]
    waiting[0].until("self._port.waits and not self._port._events")
    late = port.request("POST", body=b"12345", length=5)
    for i, answer in enumerate(reversed(waiting)):
        port.send_body(answer, b"%05d" % i, end=True)
    assert [answer.done().body for answer in reversed(waiting)] == [b"%05d" % i for i in range(threads)]
    assert late.done().body == b"12345"


@pytest.mark.parametrize("others", [1, 2])
def test_what_was_written_leaves_before_its_thread_waits(serving: Serve, others: int) -> None:
    """Another thread waits in the port, which it has flushed before."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read(1)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * (2 * WINDOW_BYTES)] if environ["PATH_INFO"] == "/big" else [b"small"]

    port = serving(application, reads=False, threads=1 + others)
    waiting = [port.request("POST", complete=False, length=1) for _ in range(others)]
    waiting[0].until("self._port.waits and not self._port._events")
    big = port.request(target="/big").until(f"self.unread == {WINDOW_BYTES} and self.flushed")
    port.read(big, WINDOW_BYTES)
    assert len(big.done().body) == 2 * WINDOW_BYTES
    for answer in waiting:
        port.send_body(answer, b"x", end=True)
        assert answer.done().body == b"small"


def test_body_comes_while_everybody_works(serving: Serve, gate: Gate) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] == "POST":
            environ["wsgi.input"].read(1)
        return gate(environ, start_response)

    port = serving(application, threads=2)
    upload = port.request("POST", "/upload", complete=False, length=1)
    upload.until("self._port.waits and not self._port._events")
    busy = port.request(target="/busy")
    gate.until("/busy")
    port.send_body(upload, b"x", end=True)
    gate.until("/busy", "/upload")
    gate.let("/busy", "/upload")
    upload.done()
    busy.done()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_drain_finishes_what_was_begun(serving: Serve, gate: Gate, threads: int) -> None:
    port = serving(gate, threads=threads)
    answers = [port.request(target=f"/{i}") for i in range(threads)]
    gate.until(*(f"/{i}" for i in range(threads)))
    port.drain()
    gate.let(*(f"/{i}" for i in range(threads)))
    for answer in answers:
        answer.done()


def test_drain_waits_for_a_body(serving: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        data = environ["wsgi.input"].read(2)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [data]

    port = serving(application, threads=3)
    upload = port.request("POST", complete=False, length=2)
    upload.until("self._port.waits and not self._port._events")
    port.drain()
    upload.until("self._port.waits and not self._port._events")
    port.send_body(upload, b"ab", end=True)
    assert upload.done().body == b"ab"


def test_ready_is_called_before_requests_are_taken() -> None:
    calls: list[str] = []

    class Port:
        open = 0

        def take(self) -> Any:
            calls.append("take")
            return (4, 0, None) if len(calls) < 3 else None

        def flush(self) -> None: ...

    options = AppOptions(name="test", module="test", threads=1)
    pool.serve(Port(), None, options, lambda: calls.append("ready"))  # type: ignore[arg-type] # all that is used
    assert calls == ["ready", "take", "take"]


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.timeout(120)
def test_many_requests_of_all_kinds(serving: Serve, threads: int) -> None:
    """Whatever happens at the same time: every exchange ends, and every byte arrives."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        data = environ["wsgi.input"].read(10**6) if environ["REQUEST_METHOD"] == "POST" else b""
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [data, b"!" * (300_000 if environ["PATH_INFO"] == "/big" else 3)]

    port = serving(application, threads=threads, reads=False, validate=False)
    answers: list[tuple[Answer, int]] = []

    def clients(seed: int) -> None:
        for i in range(60):
            kind = (i * 7 + seed) % 4
            if kind == 0:
                answers.append((port.request(), 3))
            elif kind == 1:
                upload = port.request("POST", complete=False, length=6)
                port.send_body(upload, b"abc")
                port.send_body(upload, b"def", end=True)
                answers.append((upload, 9))
            elif kind == 2:
                answers.append((port.request(target="/big"), 300_000))
            else:
                gone = port.request("POST", complete=False, length=6)
                port.send_body(gone, b"abc")
                port.hang_up(gone)

    def reader(ended: Callable[[], bool]) -> None:
        while not ended():
            for answer, _ in tuple(answers):
                if answer.unread:
                    port.read(answer, 100_000)
            with port.changed:
                port.changed.wait(0.05)

    workers = [threading.Thread(target=clients, args=(seed,)) for seed in range(3)]
    for worker in workers:
        worker.start()
    finished = threading.Event()
    eyes = threading.Thread(target=reader, args=(finished.is_set,))
    eyes.start()
    for worker in workers:
        worker.join()
    try:
        for answer, size in answers:
            assert len(answer.done().body) == size
    finally:
        finished.set()
        eyes.join()
