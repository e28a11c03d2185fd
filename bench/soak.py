# SPDX-License-Identifier: MIT
"""CPU of the whole machine by what it leaves to others: threads that take every idle moment, and count.

/proc/stat counts in ticks: who works in bursts beside a timer is met by them always or never. A thread of the class
SCHED_IDLE on each processor (soak.c) gets what nobody else wants, interrupts taken off; the share of its full speed
that it reaches is the idle share.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STRIDE: Final = 128  # bytes from one count to the next: soak.c
CALIBRATE_S: Final = 0.5  # seconds with nothing else running, before and after what is measured
CALM: Final = 0.03  # share by which a calibration may be below the best one: more, and something else ran
PATIENCE_S: Final = 60.0  # how long a calm moment is waited for
CHECK_S: Final = 1.0
CHECKS: Final = ((50, 250), (150, 250), (100_000, 500_000))  # known loads: us of CPU, and how often, in us


class SoakError(Exception):
    """The soaker does not run; the text is one line."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Rounds of each processor's thread at a moment."""

    at_us: float
    counts: tuple[int, ...]


def speeds(before: Reading, after: Reading) -> tuple[float, ...]:
    """Rounds a microsecond of each processor between two readings."""
    elapsed = after.at_us - before.at_us
    return tuple((end - begin) / elapsed for begin, end in zip(before.counts, after.counts, strict=True))


def busy_us(before: Reading, after: Reading, full: Sequence[float]) -> float:
    """Microseconds that all processors together were busy between two readings; ``full``: rounds a microsecond with
    nothing else. Not bounded by 0: what the calibration is wrong by would then always count to one side."""
    elapsed = after.at_us - before.at_us
    return sum(elapsed * (1 - speed / most) for speed, most in zip(speeds(before, after), full, strict=True))


def mean(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    """Full speed, from the calibrations before and after."""
    return tuple(statistics.fmean(pair) for pair in zip(first, second, strict=True))


def drift(first: Sequence[float], second: Sequence[float]) -> float:
    """How far two calibrations are apart, as a share: of all processors together."""
    return abs(sum(second) / sum(first) - 1)


class Soaker:
    """Reads the counts of a running soaker."""

    def __init__(self, program: Path, area: mmap.mmap, processors: int) -> None:
        self._program, self._area, self._processors = program, area, processors
        self._best = (0.0,) * processors

    def read(self) -> Reading:
        at_us = time.monotonic_ns() / 1000
        return Reading(
            at_us, tuple(struct.unpack_from("Q", self._area, n * STRIDE)[0] for n in range(self._processors))
        )

    def calibrate(self, seconds: float = CALIBRATE_S) -> tuple[float, ...]:
        """Full speed: nothing else may run now."""
        before = self.read()
        time.sleep(seconds)
        found = speeds(before, self.read())
        self._best = tuple(map(max, self._best, found))
        return found

    def is_calm(self, found: Sequence[float]) -> bool:
        """Nothing else ran during that calibration, as far as it can be told from the others of this run."""
        return all(speed >= most * (1 - CALM) for speed, most in zip(found, self._best, strict=True))

    def calm(self) -> tuple[float, ...]:
        """Full speed in a calm moment, which is waited for. Raises SoakError."""
        end = time.monotonic() + PATIENCE_S
        while not self.is_calm(found := self.calibrate()):
            if time.monotonic() > end:
                raise SoakError("other work runs on this machine all the time")
        return found

    def check(self, busy: int, period: int, seconds: float = CHECK_S) -> tuple[float, float]:
        """CPU of a known load, in us: what it says that it used, and what is seen from here."""
        first = self.calm()
        before = self.read()
        command = (str(self._program), "--burn", str(busy), str(period), str(seconds))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        after = self.read()
        if done.returncode != 0:
            raise SoakError(done.stderr.strip())
        return int(done.stdout) / 1000, busy_us(before, after, mean(first, self.calm()))


@contextlib.contextmanager
def running(program: Path, file: Path) -> Iterator[Soaker]:
    """A soaker on every processor, which counts in ``file``. Raises SoakError, OSError."""
    with subprocess.Popen((str(program), str(file)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()  # all threads are there
            if not line:
                raise SoakError(process.stderr.read().strip())
            processors = int(line)
            if processors != os.cpu_count():
                raise SoakError(f"only {processors} of {os.cpu_count()} processors may be used")
            with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as area:
                yield Soaker(program, area, processors)
        finally:
            process.kill()
