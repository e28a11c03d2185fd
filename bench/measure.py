# SPDX-License-Identifier: MIT
"""One measurement: the load generator beside a server, and what it cost that server and the whole machine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.content import RequestList

TICK_US: Final = 1e6 / os.sysconf("SC_CLK_TCK")
PROC: Final = Path("/proc")


class MeasureError(Exception):
    """The load generator could not do its work; the text is one line."""


@dataclass(frozen=True, slots=True)
class Load:
    """Options of one run of the load generator; ``rate`` in requests/s, open loop; ``count`` ends it early."""

    requests: RequestList
    port: int
    connections: int
    seconds: float
    threads: int = 1
    pipeline: int = 1
    close: bool = False
    rate: float | None = None
    tick_us: int | None = None
    count: int | None = None
    start: int = 0
    address: str = "127.0.0.1"

    def arguments(self) -> list[str]:
        """The command line after the program's name."""
        values: dict[str, object] = {
            "address": self.address,
            "port": self.port,
            "requests": self.requests.heads,
            "order": self.requests.order,
            "start": self.start,
            "second": self.requests.second,
            "connections": self.connections,
            "threads": self.threads,
            "duration": self.seconds,
            "pipeline": self.pipeline,
            "requests-per-connection": 1 if self.close else None,
            "rate": self.rate,
            "tick": self.tick_us,
            "count": self.count,
            "expect-status": ",".join(map(str, self.requests.statuses)),
            "expect-length": self.requests.length,
        }
        return [text for name, value in values.items() if value is not None for text in (f"--{name}", str(value))]


def tree(root: int) -> list[int]:
    """Process ``root`` and all that descend from it, as process ids."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat_fields(entry)[1]), []).append(int(entry.name))
    found = [root]
    for process in found:
        found.extend(children.get(process, ()))
    return found


def tree_cpu_us(root: int) -> float:
    """Microseconds of CPU (user and system) that the process tree has used, ended children included: proc(5)."""
    total = 0
    for process in tree(root):
        with contextlib.suppress(OSError):
            total += sum(map(int, _stat_fields(PROC / str(process))[11:15]))
    return total * TICK_US


def machine_busy_us() -> float:
    """Microseconds that all processors were busy since boot, interrupts included; idle, iowait, steal are not."""
    user, nice, system, _idle, _iowait, irq, softirq = map(
        int, (PROC / "stat").read_text().partition("\n")[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) * TICK_US


def tree_memory_bytes(root: int) -> int:
    """User memory of the process tree: the sum of proportional set sizes, so that shared pages count once."""
    total = 0
    for process in tree(root):
        for line in (PROC / str(process) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def _stat_fields(process: Path) -> list[str]:
    """Fields of /proc/PID/stat from the third on: the second may hold spaces and parentheses."""
    return (process / "stat").read_text().rpartition(")")[2].split()


class Meter:
    """Runs the load generator ``program``."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def run(self, load: Load, server: int, watch: Callable[[], object] = int) -> dict[str, float]:
        """Offer ``load`` and return the figures of it; ``server`` is the root of the server's process tree.

        rate: answers/s · cpu_us, machine_us, client_us: CPU per answer of the server, of all processors, of the load
        generator · other_cpus: processors busy with neither server nor load generator, on average · p50_us, p99_us:
        latency · p50_miss_us, p99_miss_us: of the second class of requests, where there is one · requests, wrong,
        errors, unsent: counts · mbytes: MB of bodies a second. ``watch`` is called at the beginning and at the end.
        """
        with self.background(load) as process:
            started, tree_before, machine_before = time.monotonic(), tree_cpu_us(server), machine_busy_us()
            watch()
            output, complaint = process.communicate()
            watch()
            tree_used, machine_used = tree_cpu_us(server) - tree_before, machine_busy_us() - machine_before
            elapsed_us = (time.monotonic() - started) * 1e6
        if process.returncode != 0:
            raise MeasureError((complaint.strip().splitlines() or ["the load generator failed"])[-1])
        result = json.loads(output)
        answers = max(int(result["completed"]), 1)
        seconds = max(float(result["seconds"]), 1e-9)
        figures = {
            "rate": result["requests"] / seconds,
            "cpu_us": tree_used / answers,
            "machine_us": machine_used / answers,
            "client_us": result["client_cpu_us"] / answers,
            "other_cpus": max(0.0, machine_used - tree_used - result["client_cpu_us"]) / elapsed_us,
            "p50_us": result["latency_us"]["p50"],
            "p99_us": result["latency_us"]["p99"],
            "mbytes": result["body_bytes"] / seconds / 1e6,
            "requests": result["completed"],
            "wrong": result["wrong"],
            "errors": result["errors"],
            "unsent": result["unsent"],
        }
        if "second_us" in result:
            figures |= {"p50_miss_us": result["second_us"]["p50"], "p99_miss_us": result["second_us"]["p99"]}
        if result["first_wrong"]:
            print(f"    {result['wrong']} wrong answers, {result['errors']} errors; the first: {result['first_wrong']}")
        return {name: float(value) for name, value in figures.items()}

    @contextlib.contextmanager
    def background(self, load: Load) -> Iterator[subprocess.Popen[str]]:
        """The load generator at work; it is ended at exit if it is still running."""
        process = subprocess.Popen(
            (str(self._program), *load.arguments()), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


def idle_memory_bytes(port: int, server: int, head: bytes, connections: int, warm: int = 64) -> float:
    """Growth of the server's user memory per connection, for ``connections`` that sent ``head`` and then rest.

    ``warm`` connections come first, so that code pages and first blocks of pools do not count.
    """
    with contextlib.ExitStack() as stack:
        _rest(stack, port, head, warm)
        before = tree_memory_bytes(server)
        _rest(stack, port, head, connections)
        return (tree_memory_bytes(server) - before) / connections


def _rest(stack: contextlib.ExitStack, port: int, head: bytes, count: int) -> None:
    for _ in range(count):
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        connection.sendall(head)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += _some(connection)
        top, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in top.partition(b"\r\n")[0]:
            raise MeasureError(f"an idle connection was answered {top[:40]!r}")
        left = _length(top) - len(body)
        while left > 0:
            left -= len(_some(connection))


def _some(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise MeasureError("a connection was closed before its answer")
    return piece


def _length(top: bytes) -> int:
    for line in top.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise MeasureError("an answer has no Content-Length")


def hot_symbols(server: int | None, load: Load, meter: Meter, folder: Path, perf: str, lines: int = 12) -> list[str]:
    """Where the CPU goes under ``load``: the top of a perf profile of the server's processes, or of the whole machine
    without ``server``. Nothing where perf cannot record."""
    data = folder / "perf.data"
    which = ("-a",) if server is None else ("-p", ",".join(map(str, tree(server))))
    with meter.background(load) as process:
        record: Sequence[str] = (perf, "record", "-q", "-F", "999", "-o", str(data), *which, "--",
                                 "sleep", str(load.seconds * 0.8))  # fmt: skip
        done = subprocess.run(record, capture_output=True, check=False)
        process.communicate()
    if done.returncode != 0:
        return []
    report = subprocess.run(
        (perf, "report", "-i", str(data), "--stdio", "--sort", "comm,dso,symbol", "-q"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    # Two empty columns ("-") end a line: the inlined source, which we do not ask for.
    rows = (" ".join(line.split()).removesuffix(" - -") for line in report.stdout.splitlines())
    return [row for row in rows if row][:lines]
