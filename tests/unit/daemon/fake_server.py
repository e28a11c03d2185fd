"""A server of the real supervisor and the real worker, with an engine of a few lines of Python in place of the C one.

Run as a program that takes a part of the options of `tux serve`, so that `tux.Server(command=...)` can start it. What a
request does is its path: /pid, /log, /slow (answers when the client sends one byte more), /crash, /tier (a message to
the kernel tier), /no-tier (closes its end), /system-call/NUMBER (makes it, all arguments 0; answers errno).
FAKE_TROUBLE in the environment names what goes wrong: start, leak, planner, engine, deaf (drains never), reload.
FAKE_BROKEN in the environment names a file: while it is there, the configuration is wrong; with trouble "reload", it is
the engine that cannot start.
FAKE_TIER in the environment: with a kernel tier, which says on standard error what is asked of it; "seatless": it has
no seat; "refused": the engine cannot take it; "failing", "deaf": it has a mistake.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import os
import select
import selectors
import socket
import sys
import threading
import time
from functools import partial
from typing import cast

from tux.config import listen
from tux.daemon import worker
from tux.daemon.generation import Plan
from tux.daemon.listeners import open_listeners
from tux.daemon.logs import AccessLog, error_log
from tux.daemon.privileges import account_for
from tux.daemon.processes import Supervisor
from tux.daemon.worker import KernelSeat
from tux.errors import StartError

TROUBLE = os.environ.get("FAKE_TROUBLE", "")
TIER = os.environ.get("FAKE_TIER", "")
BROKEN = os.environ.get("FAKE_BROKEN", "")
TERMS = ("secret", "listeners", "hits", "max_answer_bytes")
"""What an engine is told of the kernel tier besides descriptors."""


class FakeEngine:
    """Accepts one connection at a time for one request; a slow one goes on while others are accepted."""

    def __init__(self, log_fd: int) -> None:
        if TROUBLE == "start":
            raise StartError("this engine does not start")
        self._log_fd = log_fd
        self._listeners: list[socket.socket] = []
        self._slow: set[socket.socket] = set()
        self._wake, self._woken = socket.socketpair()
        self._accepting, self._leaving = socket.socketpair()
        self._deadline: float | None = None
        self._tier: socket.socket | None = None

    def kernel(self, *, slots_fd: int, cells_fd: int, message_fd: int, **rest: object) -> None:
        if TIER == "refused":
            for fd in (slots_fd, cells_fd, message_fd):
                os.close(fd)
            raise OSError("no memory")
        self._tier = socket.socket(fileno=message_fd)
        names = [os.readlink(f"/proc/self/fd/{fd}").split(" ")[0] for fd in (slots_fd, cells_fd)]
        self._tier.send(f"{names} {' '.join(str(rest[name]) for name in TERMS)}".encode())
        os.close(slots_fd)
        os.close(cells_fd)

    def upstream_health(self, group: int, server: int, /, *, healthy: bool) -> None: ...
    def upstream_failures(self, group: int, server: int) -> tuple[dict[str, int], int]:
        raise AssertionError("no upstream is configured")

    def listen(self, fd: int, *, listener: int, shared: bool = False) -> None:
        self._listeners.append(socket.socket(fileno=os.dup(fd)))

    def own(self, dev: int, ino: int, /) -> None: ...

    def link_app(self, app: int, serial: int, *fds: int) -> None:
        raise AssertionError("there are no applications here")

    def unlink_app(self, serial: int, /) -> None:
        raise AssertionError("there are no applications here")

    def run(self) -> None:
        if TROUBLE == "engine":
            raise OSError("this engine does not run")
        with selectors.DefaultSelector() as selector:
            for sock in (*self._listeners, self._woken):
                selector.register(sock, selectors.EVENT_READ)
            while self._deadline is None or (self._slow and time.monotonic() < self._deadline):
                timeout = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
                for key, _ in selector.select(timeout):
                    ready = cast(socket.socket, key.fileobj)
                    if ready in self._listeners:
                        self._accept(ready, selector)
                    elif ready in self._slow:
                        ready.recv(1)
                        _answer(ready, "finished")
                        selector.unregister(ready)
                        self._slow.discard(ready)
                    elif ready is self._woken:
                        ready.recv(1)
                        for listener in self._listeners:
                            with contextlib.suppress(KeyError):
                                selector.unregister(listener)
                        self._accepting.close()

    def _accept(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return  # another worker was faster; or a stop has begun, and the socket is shut down
        sock.settimeout(10)
        head = sock.recv(4096)
        if not head:  # it only wanted to know whether somebody answers
            sock.close()
            return
        path = head.split(b" ")[1]
        if path == b"/slow":
            sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nbegun ")
            self._slow.add(sock)
            selector.register(sock, selectors.EVENT_READ)
        elif path == b"/crash":
            os.abort()
        else:
            if path == b"/tier" and self._tier is not None:
                self._tier.send(b"hello")
            if path == b"/no-tier" and self._tier is not None:
                self._tier.close()
            if path == b"/log":
                os.write(self._log_fd, b"a request\n")
            answer = os.getpid()
            if path.startswith(b"/system-call/"):
                answer = _system_call(int(path.rpartition(b"/")[2]))
            sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            _answer(sock, str(answer))

    def drain(self, grace_ms: int) -> None:
        if TROUBLE != "deaf":
            deadline = time.monotonic() + grace_ms / 1000
            self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)
            self._wake.send(b"d")

    def leaving_fd(self) -> int:
        return self._leaving.fileno()

    def reopen_log(self, fd: int) -> None:
        self._log_fd = fd

    def end_log(self) -> None:
        pass

    def stats(self) -> dict[str, int]:
        return {"log_lost": 7 if TROUBLE == "lost" else 0}

    def close(self) -> dict[str, int]:
        return {"buffers": 2 if TROUBLE == "leak" else 0, "plans": 0}


def _system_call(number: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.syscall(*(ctypes.c_long(value) for value in (number, 0, 0, 0, 0, 0, 0))) < 0
    return ctypes.get_errno() if failed else 0


class FakeTier:
    """A kernel tier that says what is asked of it."""

    def __init__(self) -> None:
        self._lines: dict[int, socket.socket] = {}
        self._due = 0.0
        self._ticks = 0

    def worker_seat(self, worker: int) -> KernelSeat:
        if TIER == "seatless":
            raise OSError("no seat")
        _say(f"seat {worker}")
        self._lines[worker], theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        fds = [os.memfd_create(name) for name in ("slots", "cells")]
        return KernelSeat(
            slots_fd=fds[0],
            cells_fd=fds[1],
            message_fd=theirs.detach(),
            secret=b"key",
            listeners=(0,),
            hits=3,
            max_answer_bytes=9,
        )

    def messages(self, worker: int) -> socket.socket:
        return self._lines[worker]

    def on_message(self, worker: int) -> bool:
        message = self._lines[worker].recv(1000)
        if TIER == "deaf" and message == b"hello":
            raise RuntimeError("this tier cannot hear")
        _say(f"message {worker} {message.decode()}")
        return bool(message)

    def worker_gone(self, worker: int) -> None:
        _say(f"gone {worker}")
        if worker in self._lines:
            self._lines.pop(worker).close()

    def reopen_log(self, fd: int) -> None:
        _say(f"log {os.readlink(f'/proc/self/fd/{fd}')}")

    def due(self) -> float:
        return self._due

    def tick(self) -> None:
        self._ticks += 1
        self._due = time.monotonic() + 0.02
        if TIER == "failing":
            raise RuntimeError("this tier cannot tick")
        if self._ticks == 10:
            _say("ten ticks")

    def quiet(self) -> None:
        _say("quiet")

    def finish(self, patience: float = 2.0) -> None:
        _say(f"finish {patience:g}")


def _say(text: str) -> None:
    print(f"tier: {text}", file=sys.stderr, flush=True)


class FakePlanner:
    def run(self, stop_fd: int) -> None:
        if TROUBLE == "planner":
            raise RuntimeError("this planner cannot plan")
        select.select([stop_fd], [], [])


def _answer(sock: socket.socket, text: str) -> None:
    sock.sendall(text.encode())
    sock.close()


def _no_engine(_log_fd: int) -> FakeEngine:
    raise StartError("this engine does not start")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--listen", action="append", default=[])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--grace", type=float, default=10)
    parser.add_argument("--access-log", default="off")
    parser.add_argument("--user")
    parser.add_argument("--ready-fd", type=int)
    given = parser.parse_args()
    account = account_for(given.user)
    job = worker.Job(
        account=account,
        grace_ms=round(given.grace * 1000),
        make_engine=FakeEngine,
        make_planner=lambda engine, own: FakePlanner(),
    )

    def reread() -> Plan:
        now = job
        if os.path.exists(BROKEN):
            if TROUBLE != "reload":
                raise StartError("this configuration is broken")
            now = dataclasses.replace(job, make_engine=_no_engine)
        return Plan(partial(worker.serve, job=now), given.grace)

    worker.preload()
    addresses = [listen.parse(text) for text in given.listen]
    try:
        with (
            error_log(),
            contextlib.closing(AccessLog(given.access_log)) as log,
            open_listeners(addresses, given.workers) as listeners,
        ):
            return Supervisor(
                listeners=listeners,
                log=log,
                plan=reread(),
                workers=given.workers,
                ready_fd=given.ready_fd,
                reread=reread,
                tier=FakeTier() if TIER else None,
            ).run()
    except StartError as error:
        print(f"tux: error: {error.message}", file=sys.stderr)
        return error.exit_code
    finally:
        assert threading.active_count() == 1


if __name__ == "__main__":
    sys.exit(main())
