"""Active health checks: each worker asks the servers of an upstream whether they work, and tells its engine.

One thread for each server: a check may wait for its time-out without keeping up another. What a thread does takes about
a millisecond in an interval.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

from tux._engine import build_proxy

if TYPE_CHECKING:
    from tux.daemon.upstreams import Group, Health

MAX_LINE_BYTES: Final = 1024
"""Of a status line: more is no answer."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: [^\r\n]*)?\r?\n")
_WELL = range(200, 400)
"""Statuses that mean that a server works, unless the configuration names others."""

logger = logging.getLogger("tux.forward")


class Told(Protocol):
    """What checks need of an engine."""

    def upstream_health(self, group: int, server: int, /, *, healthy: bool) -> None: ...


class Checks:
    """All checks of one worker. They end with the worker, at the latest."""

    def __init__(self, engine: Told, groups: Iterable[Group], *, talks: bool) -> None:
        """`talks`: say in the log what changes. One worker does, since all see the same."""
        self._engine = engine
        self._talks = talks
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=(i, k, group), name="tux-health", daemon=True)
            for i, group in enumerate(groups)
            if group.health is not None
            for k in range(len(group.servers))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """The engine is not told anything after this. Does not wait for checks that are under way."""
        with self._lock:
            self._stopped.set()

    def _watch(self, number: int, server: int, group: Group) -> None:
        health = group.health
        assert health is not None
        address, name, _ = group.servers[server]
        well = True
        while not self._stopped.is_set():
            problem = check(address, name, health)
            with self._lock:
                if self._stopped.is_set():
                    return
                self._engine.upstream_health(number, server, healthy=not problem)
            if well != (not problem) and self._talks:
                if problem:
                    logger.warning('upstream "%s", %s: left out: %s', group.name, address, problem)
                else:
                    logger.warning('upstream "%s", %s: works again', group.name, address)
            well = not problem
            self._stopped.wait(health.interval)


def check(address: str, name: str, health: Health) -> str:
    """Ask a server once. What is wrong with it; empty when it works. `name` is for Host."""
    end = time.monotonic() + health.timeout
    request = f"GET {health.path} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: tux-health\r\nConnection: close\r\n\r\n"
    header = build_proxy(health.proxy_protocol, b"unix:", b"unix:") if health.proxy_protocol else b""
    received = b""
    try:
        with _connect(address, health.timeout) as sock:
            sock.sendall(header + request.encode("ascii"))
            while b"\n" not in received:
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                sock.settimeout(left)
                piece = sock.recv(MAX_LINE_BYTES)
                if not piece:
                    return "the check got no answer"
                received += piece
                if len(received) > MAX_LINE_BYTES:
                    break
    except TimeoutError:
        return f"the check got no answer within {health.timeout:g} s"
    except OSError as error:
        return f"the check failed: {error.strerror or error}"
    line = _STATUS_LINE.match(received)
    if line is None:
        return "the check got an answer that is not HTTP"
    status = int(line[1])
    return "" if status in (health.statuses or _WELL) else f"the check was answered with {status}"


def _connect(address: str, timeout: float) -> socket.socket:
    if not address.startswith("unix:"):
        host, _, port = address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout)
    path = address.removeprefix("unix:")
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    try:
        sock.connect("\0" + path[1:] if path.startswith("@") else path)
    except OSError:
        sock.close()
        raise
    return sock
