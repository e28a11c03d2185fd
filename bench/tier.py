# SPDX-License-Identifier: MIT
"""The kernel tier as the benchmark sees it: whether it can be used, what it answered, whether the access log is whole,
and what it costs packets that are not for it.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
TUX: Final = (sys.executable, "-m", "tux")
SETTLE_S: Final = 5.0  # seconds that lines may take to the log: buffers are flushed every second at most
QUIET_S: Final = 0.3  # without a new line, before counting begins
REPEAT: Final = 200_000  # runs of a program with one packet, within one system call
BLOCK: Final = 1 << 20


class TierError(Exception):
    """`tux kernel status` did not say what it should; the text is one line."""


def _tux(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run((*TUX, *arguments), capture_output=True, text=True, cwd=ROOT, check=False)


@functools.cache
def tux_has_tier() -> bool:
    """Whether this tux has the option --kernel."""
    return "--kernel" in _tux("serve", "--help").stdout


def missing(bpffs: str) -> str:
    """Why the rows of the kernel tier cannot be measured; "" when they can."""
    if os.geteuid() != 0:
        return "the kernel tier needs root"
    if not tux_has_tier():
        return "this tux has no option --kernel"
    if not bpffs:
        return "a bpffs could not be mounted"
    from tux.kernel import load

    return load.can_load()


def counters(bpffs: str, server: int) -> dict[str, int]:
    """What the tier of the supervisor ``server`` has counted. Raises TierError."""
    return {str(name): int(value) for name, value in _status(bpffs, server)["counters"].items()}


def rests(bpffs: str, server: int) -> bool:
    """Whether the mode `auto` has judged that the tier of the supervisor ``server`` does not pay, and no connection
    needs it any more. Raises TierError."""
    return bool(_status(bpffs, server)["state"] == "resting")


def _status(bpffs: str, server: int) -> dict[str, Any]:
    done = _tux("kernel", "status", "--json", "--bpffs", bpffs)
    if done.returncode != 0:
        raise TierError(f"tux kernel status: {done.stderr.strip()}")
    for line in done.stdout.splitlines():
        state: dict[str, Any] = json.loads(line)
        if state["pid"] == server:
            return state
    raise TierError(f"tux kernel status does not name the server {server}")


class Log:
    """The access log of a running server. It is emptied after each measurement, so that it does not fill the disk."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = 0  # bytes
        self.lines = 0  # since it was emptied

    def count(self) -> int:
        """Lines so far."""
        with self._file.open("rb") as file:
            file.seek(self._seen)
            while block := file.read(BLOCK):
                self._seen += len(block)
                self.lines += block.count(b"\n")
        return self.lines

    def settle(self, expected: int) -> int:
        """Lines, once there are as many as expected, or after SETTLE_S; the file is empty then."""
        end = time.monotonic() + SETTLE_S
        while self.count() < expected and time.monotonic() < end:
            time.sleep(0.02)
        return self._empty()

    def rest(self) -> None:
        """Wait until nothing is written, and empty the file."""
        end, last, since = time.monotonic() + SETTLE_S, self.count(), time.monotonic()
        while time.monotonic() < min(end, since + QUIET_S):
            time.sleep(0.02)
            if self.count() != last:
                last, since = self.lines, time.monotonic()
        self._empty()

    def _empty(self) -> int:
        found = self.count()
        os.truncate(self._file, 0)  # servers append: they go on at the new end
        self._seen = self.lines = 0
        return found


@dataclass(slots=True)
class Audit:
    """Looks, around each measurement of a server, whether every answer is in its access log, and where answers came
    from. ``log``: None when it writes none. ``bpffs``: "" when it has no tier. ``counted``: lines are counted."""

    server: int
    log: Log | None = None
    bpffs: str = ""
    counted: bool = True

    def around(self, run: Callable[[], dict[str, float]]) -> dict[str, float]:
        """The figures of ``run`` and, where they apply, kernel_share (of all answers) and unlogged (a count).
        Raises TierError."""
        before = counters(self.bpffs, self.server) if self.bpffs else {}
        figures = dict(run())
        answered = int(figures["requests"] + figures["wrong"])
        if self.log is not None:
            lines = self.log.settle(answered if self.counted else 0)
            if self.counted:
                figures["unlogged"] = float(abs(answered - lines))
        if self.bpffs:
            after = counters(self.bpffs, self.server)
            figures["kernel_share"] = (after["answered"] - before["answered"]) / max(answered, 1)
            passes = {name: after[name] - before[name] for name in after if name.startswith(("pass_", "open_"))}
            figures |= {name: float(count) for name, count in passes.items() if count}
        return figures


# ---- packets of others -----------------------------------------------------------------------------------------------

PORT: Final = 8100  # the only one that the programs are told about


def foreign_packets() -> dict[str, bytes]:
    """Frames that are not for the server, by what they are."""
    ports = struct.pack("!HH", 443, 50_000)
    tcp = ports + struct.pack("!IIBBHHH", 1, 1, 8 << 4, 0x18, 512, 0, 0) + bytes((1, 1, 8, 10)) + bytes(8)
    udp = ports + struct.pack("!HH", 8 + 100, 0)
    return {
        "IPv4, TCP, 1448 B": _ipv4(6, tcp + bytes(1448)),
        "IPv4, TCP, no data": _ipv4(6, tcp),
        "IPv4, UDP, 100 B": _ipv4(17, udp + bytes(100)),
        "IPv6, TCP, 1428 B": _ipv6(6, tcp + bytes(1428)),
    }


def _ipv4(protocol: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0x4000, 64, protocol, 0,
                       socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2"))  # fmt: skip
    return bytes(12) + b"\x08\x00" + head + payload


def _ipv6(protocol: int, payload: bytes) -> bytes:
    source, target = (socket.inet_pton(socket.AF_INET6, text) for text in ("2001:db8::1", "2001:db8::2"))
    head = struct.pack("!IHBB16s16s", 6 << 28, len(payload), protocol, 64, source, target)
    return bytes(12) + b"\x86\xdd" + head + payload


def foreign_ns(packets: Mapping[str, bytes], order: Sequence[str] = ("tux_ingress", "tux_egress")) -> dict[str, float]:
    """Nanoseconds that both programs together take for each packet, and under "" what a test run of a program of two
    instructions takes: BPF_PROG_TEST_RUN. Raises OSError."""
    from tux.kernel import load, sys_bpf

    with load.load(load.read_object()) as loaded:
        loaded.maps["ports"].update(PORT // 64, 1 << PORT % 64)
        found = {
            name: float(sum(_run_ns(loaded.programs[program], packet) for program in order))
            for name, packet in packets.items()
        }
    empty = sys_bpf.prog_load(sys_bpf.SCHED_CLS, load.NOTHING, name="bench_empty", licence=load.LICENCE)
    with sys_bpf.closing(empty):
        found[""] = float(_run_ns(empty, next(iter(packets.values()))))
    return found


def _run_ns(program: int, packet: bytes) -> int:
    from tux.kernel import sys_bpf

    return sys_bpf.prog_test_run(program, packet, repeat=REPEAT).duration_ns
