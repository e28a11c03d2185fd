# SPDX-License-Identifier: MIT
"""A kernel of plain memory, for tests of what decides: maps, programs and pins that only remember."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Self

import pytest

from tests.unit.kernel.layout_header import constants, layouts
from tux.kernel import load, pins, sys_bpf, tier
from tux.kernel.interfaces import Interface

LAYOUTS: Final = layouts()
NUMBERS: Final = constants()

SIZES: Final = {
    "control": ("tux_kernel_control", 1),
    "dates": ("tux_kernel_date", NUMBERS["TUX_KERNEL_DATES"]),
    "entries": ("tux_kernel_answer", 64),
    "chunks": ("", 64),
    "conns": ("tux_kernel_conn", 64),
    "answers": ("tux_kernel_found", 64),
    "counters": ("tux_kernel_counters", 1),
    "ports": ("", 1024),
    "listeners": ("tux_kernel_listener", 0),
    "slots": ("", 256),
    "cells": ("", 256),
    "records": ("", 4096),
}

LO: Final = Interface(1, "lo", "loopback", 65536, True, ())
VETH: Final = Interface(7, "veth0", "veth", 1500, True, ())


class FakeMap:
    """`tux.kernel.load.Map`: an area, and what was written by key."""

    def __init__(self, name: str, fd: int = -1) -> None:
        struct, self.max_entries = SIZES[name]
        self.name, self.fd = name, fd
        self.value_size = LAYOUTS[struct].size if struct else NUMBERS["TUX_KERNEL_CHUNK_BYTES"]
        self.key_size = 4
        self.stride = (self.value_size + 7) // 8 * 8
        self.values: dict[bytes | int, bytes | int] = {}
        self.broken = False
        self._area: mmap.mmap | None = None

    def mmap(self) -> mmap.mmap:
        if self.fd >= 0:
            return mmap.mmap(self.fd, os.fstat(self.fd).st_size)
        if self._area is None or self._area.closed:
            self._area = mmap.mmap(-1, max(self.stride * self.max_entries, mmap.PAGESIZE))
        return self._area

    def update(self, key: bytes | int, value: bytes | int) -> None:
        if self.broken:
            raise OSError("the map is full")
        self.values[key] = value

    def delete(self, key: bytes | int) -> bool:
        return self.values.pop(key, None) is not None

    def per_cpu(self, _key: int) -> list[bytes]:
        return [bytes(self.mmap()[: self.value_size])] * 2

    def pin(self, path: str) -> None:
        Path(path).touch(exist_ok=False)

    def read(self, struct: str, name: str, index: int = 0) -> Any:
        """A member of the value there."""
        return LAYOUTS[struct].read(self.mmap(), name, index * self.stride)


class FakeLoaded:
    """`tux.kernel.load.Loaded`."""

    def __init__(self) -> None:
        self.layouts = LAYOUTS
        self.maps = {name: FakeMap(name) for name in SIZES}
        self.programs = {"tux_ingress": 11, "tux_egress": 12, "tux_reap": 13}
        self.closed = False

    def new_inner(self, name: str) -> int:
        fd = os.memfd_create(name)
        os.truncate(fd, NUMBERS["TUX_KERNEL_CELLS"] * 32)
        return fd

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FakeLog:
    """`tux._engine.KernelLog`: counts, and remembers what may be logged."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], tuple[bytes, int, int]] = {}
        self.waiting = 0
        self.error: OSError | None = None
        self.fds: list[int] = []
        self.closed = False

    def add(self, answer_id: int, first_chunk: int, head: bytes, status: int, body_bytes: int) -> None:
        self.known[first_chunk, answer_id] = (head, status, body_bytes)

    def remove(self, first_chunk: int, answer_id: int) -> None:
        del self.known[first_chunk, answer_id]

    def drain(self, wall_offset_ns: int, max_records: int) -> int:
        if self.error is not None:
            raise self.error
        taken = min(self.waiting, max_records)
        self.waiting -= taken
        return taken

    def reopen(self, fd: int) -> None:
        self.fds.append(fd)

    def close(self) -> None:
        self.closed = True


class FakeKernel:
    """In place of bpf(2) and netlink(7). `conns`: what the map has, portion by portion."""

    def __init__(self, bpffs: Path) -> None:
        self.bpffs = bpffs
        self.loaded = FakeLoaded()
        self.attached: list[tuple[int, int, str]] = []
        """Program, interface, direction."""
        self.conns: list[list[tuple[bytes, bytes]]] = []
        self.reaped: list[bytes] = []
        self.waited = 0
        """How often for all programs to end."""
        self.tiers: list[tier.KernelTier] = []
        """To be ended with the test."""
        self.fails = ""
        """What the kernel refuses."""

    def check(self, what: str) -> None:
        if what == self.fails:
            raise OSError(f"cannot {what}")

    def load(self, _tier: object, sizes: dict[str, int]) -> FakeLoaded:
        self.check("load")
        self.sizes = sizes
        return self.loaded

    def attach(self, program: int, ifindex: int, direction: str) -> FakeAttachment:
        self.check(f"attach {direction}")
        self.attached.append((program, ifindex, direction))
        return FakeAttachment(self, (program, ifindex, direction))

    def remove_pinned(self, path: str, ifindex: int, direction: str) -> None:
        self.attached = [one for one in self.attached if one[1:] != (ifindex, direction)]
        os.unlink(path)

    def detach_filters(self, programs: AbstractSet[int]) -> int:
        """Those whose pins were removed by hand."""
        before = len(self.attached)
        self.attached = [one for one in self.attached if one[0] not in programs]
        return before - len(self.attached)

    def portions(self, *_: object) -> Iterator[list[tuple[bytes, bytes]]]:
        self.check("sweep")
        yield from self.conns

    def reap(self, _program: int, packet: bytes) -> None:
        self.reaped.append(packet)

    def wait(self) -> None:
        self.check("wait")
        self.waited += 1

    def obj_pin(self, _fd: int, path: str) -> None:
        self.check("pin")
        Path(path).touch(exist_ok=False)

    @property
    def sets(self) -> list[Path]:
        folder = self.bpffs / "tux"
        return list(folder.iterdir()) if folder.exists() else []


class FakeAttachment:
    """`tux.kernel.attach.Attachment`."""

    def __init__(self, kernel: FakeKernel, what: tuple[int, int, str]) -> None:
        self._kernel, self._what = kernel, what

    def pin(self, path: str) -> None:
        self._kernel.check("pin it")
        Path(path).touch(exist_ok=False)

    def detach(self) -> None:
        self._kernel.attached.remove(self._what)

    def close(self) -> None:
        pass


@contextlib.contextmanager
def fake_kernel(bpffs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    """Within: `tux.kernel.tier` and `tux.kernel.pins` work on this kernel."""
    kernel = FakeKernel(bpffs)
    with monkeypatch.context() as patch:
        patch.setattr(load, "read_object", lambda: None)
        patch.setattr(load, "load", kernel.load)
        patch.setattr(tier, "attach", kernel.attach)
        patch.setattr(tier, "detach_filters", kernel.detach_filters)
        patch.setattr(sys_bpf, "prog_info", lambda fd: SimpleNamespace(id=fd))
        patch.setattr(tier, "Map", FakeMap)
        patch.setattr(pins, "remove_pinned", kernel.remove_pinned)
        patch.setattr(sys_bpf, "map_lookup_batch", kernel.portions)
        patch.setattr(sys_bpf, "prog_test_run", kernel.reap)
        patch.setattr(sys_bpf, "obj_pin", kernel.obj_pin)
        patch.setattr(sys_bpf, "wait_for_programs", kernel.wait)
        yield kernel
