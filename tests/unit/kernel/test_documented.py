# SPDX-License-Identifier: MIT
"""The pages about the kernel tier say what the sources say: every counter, and the numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.unit.kernel.layout_header import FOLDER, constants, layouts
from tux.config.schema import Kernel
from tux.kernel import load, publish, pulse, status, tier

ROOT: Final = Path(__file__).parents[3]
USE: Final = ROOT / "docs/how-to/kernel-tier.md"
NETWORK: Final = ROOT / "docs/behaviour/kernel-tier.md"
INSIDE: Final = ROOT / "ARCHITECTURE.md"


def counters() -> set[str]:
    return set(layouts()["tux_kernel_counters"].fields)


def documented() -> list[str]:
    """The names in the first column of the tables below "Every counter"."""
    below = USE.read_text().partition("### Every counter\n")[2]
    section = re.split(r"^###? ", below, maxsplit=1, flags=re.MULTILINE)[0]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_every_counter_has_its_row() -> None:
    names = documented()
    assert len(names) == len(set(names))
    assert set(names) == counters()


def test_status_knows_every_reason() -> None:
    assert set(status.REASONS) == {name for name in counters() if name.startswith(("pass_", "open_"))}


def source(name: str, header: str) -> int:
    """A number of one of the programs' headers."""
    found = re.search(rf"^#define {name} (\d+)(?:u|ull)\b", (FOLDER / header).read_text(), re.MULTILINE)
    assert found is not None, name
    return int(found[1])


def map_entries(name: str) -> int:
    body = re.search(rf"\{{([^{{}}]*)\}} {name} SEC", (FOLDER / "maps.h").read_text())
    assert body is not None
    found = re.search(r"__uint\(max_entries, (\d+)\)", body[1])
    assert found is not None
    return int(found[1])


BOUNDS: Final = constants()
DEFAULTS: Final = Kernel()

NUMBERS: Final[dict[str, tuple[Path, str]]] = {
    "answer, use": (USE, f"at most {BOUNDS['TUX_KERNEL_MAX_ANSWER_BYTES']:,} bytes"),
    "answer, network": (NETWORK, f"| answer | {BOUNDS['TUX_KERNEL_MAX_ANSWER_BYTES']:,} bytes, and one packet |"),
    "head": (NETWORK, f"| head of a request | {BOUNDS['TUX_KERNEL_MAX_HEAD_BYTES']:,} bytes |"),
    "heartbeat": (NETWORK, f"After {BOUNDS['TUX_KERNEL_HEARTBEAT_NS'] // 10**6} ms of silence"),
    "beat": (NETWORK, f"says each {pulse.BEAT_SECONDS * 1000:.0f} ms that it lives"),
    "quiet": (USE, f"has not said for {BOUNDS['TUX_KERNEL_HEARTBEAT_NS'] / 10**9:g} s that it lives"),
    "workers": (NETWORK, f"| workers | {BOUNDS['TUX_KERNEL_WORKERS']} |"),
    "cells": (NETWORK, f"| published answers | {BOUNDS['TUX_KERNEL_CELLS']:,} for each worker"),
    "pieces": (NETWORK, f"in pieces of {BOUNDS['TUX_KERNEL_CHUNK_BYTES'] // 1024} KiB"),
    "ring": (NETWORK, f"| records of the log that wait | {map_entries('records') >> 20} MiB |"),
    "retired": (NETWORK, f"| retired answers | kept for {publish.RETIRED_NS // 10**9} s |"),
    "cold": (NETWORK, f"what was not used for {publish.COLD_NS // 10**9} s makes room"),
    "idle": (NETWORK, f"{source('REAP_IDLE_NS', 'reap.h') // 10**9} s after\n  its last packet"),
    "path": (NETWORK, f"| {source('PROVEN_BYTES', 'open.h'):,} bytes | | passed on |"),
    "memory": (NETWORK, f"| memory of answers | {DEFAULTS.memory >> 20} MiB"),
    "connections": (NETWORK, f"| connections | {DEFAULTS.connections:,} | `connections` |"),
    "liveness": (NETWORK, f"on one connection | {DEFAULTS.liveness:g} s, at most half of `idle_timeout` |"),
    "hits": (USE, f"the same head {DEFAULTS.hits} times (`hits`)"),
    "oldest kernel": (USE, "| Linux | {}.{} or later".format(*load.OLDEST_KERNEL)),
    "record": (INSIDE, f"A record has {layouts()['tux_kernel_record'].size} bytes"),
    "drain": (INSIDE, f"looks each {tier.LOG_SECONDS * 1000:.0f} ms while records come"),
    "end": (USE, f"keep one open for {tier.END_SECONDS:g} s more"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_those_of_the_sources(name: str) -> None:
    page, text = NUMBERS[name]
    assert text in page.read_text()
