# SPDX-License-Identifier: MIT
"""Bring the object into the kernel: maps, type information, programs."""

from __future__ import annotations

import errno
import mmap
import os
import platform
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tux.kernel import sys_bpf
from tux.kernel.btf import Layout, Layouts
from tux.kernel.object import INSN_BYTES, MapSpec, Object, ObjectError, Program, decode

LICENCE: Final = "Dual MIT/GPL"
"""Some of the helpers are for GPL-compatible programs only."""

OLDEST_KERNEL: Final = (6, 1)

CAPABILITIES: Final = {12: "CAP_NET_ADMIN", 38: "CAP_PERFMON", 39: "CAP_BPF"}
"""Number -> name of what the supervisor needs."""

CAP_SYS_ADMIN: Final = 21

PSEUDO_MAP_FD: Final = 1
"""Source register of an instruction that loads the address of the map with this descriptor."""

NOTHING: Final = struct.pack("=BBhi", 0xB7, 0, 0, -1) + struct.pack("=BBhi", 0x95, 0, 0, 0)
"""The program `return TC_ACT_UNSPEC`."""


class Map:
    """A map in the kernel. Keys and values are bytes of exactly its sizes; a key may also be given as a number."""

    def __init__(self, name: str, fd: int) -> None:
        """Owns the descriptor. BpfError: it is no map."""
        self.name: Final = name
        self.fd: int = fd
        info = sys_bpf.map_info(fd)
        self.type: Final = info.type
        self.key_size: Final = info.key_size
        self.value_size: Final = info.value_size
        self.max_entries: Final = info.max_entries
        self.flags: Final = info.flags
        self.id: Final = info.id
        self._copied: Final = sys_bpf.map_value_size(info.type, info.value_size)

    @classmethod
    def open(cls, path: str | Path, name: str = "") -> Map:
        """A map by its pin. BpfError: there is none, or it is no map."""
        fd = sys_bpf.obj_get(os.fspath(path))
        try:
            return cls(name or Path(path).name, fd)
        except BaseException:
            os.close(fd)
            raise

    @property
    def stride(self) -> int:
        """Bytes from one value to the next in the mapped area of an array."""
        return (self.value_size + 7) // 8 * 8

    def _key(self, key: bytes | int) -> bytes:
        if isinstance(key, int):
            key = key.to_bytes(self.key_size, sys.byteorder)
        if len(key) != self.key_size:
            raise ValueError(f"map {self.name}: a key has {self.key_size} bytes, not {len(key)}")
        return key

    def lookup(self, key: bytes | int, flags: int = 0) -> bytes | None:
        """The value; None: there is none. Of a per-CPU map: see per_cpu(). BpfError."""
        return sys_bpf.map_lookup(self.fd, self._key(key), self._copied, flags)

    def update(self, key: bytes | int, value: bytes | int, flags: int = sys_bpf.ANY) -> None:
        """Set a value. Of a map of maps: a descriptor; in socket storage the key is one.
        BpfError: E2BIG when it is full."""
        size = self._copied
        if isinstance(value, int):
            value = value.to_bytes(size, sys.byteorder)
        if len(value) != size:
            raise ValueError(f"map {self.name}: a value has {size} bytes, not {len(value)}")
        sys_bpf.map_update(self.fd, self._key(key), value, flags)

    def delete(self, key: bytes | int) -> bool:
        """Was it there? BpfError."""
        return sys_bpf.map_delete(self.fd, self._key(key))

    def keys(self) -> Iterator[bytes]:
        """All keys. A key that is deleted meanwhile may start the list again, so no more than max_entries come."""
        key: bytes | None = None
        for _ in range(self.max_entries):
            key = sys_bpf.map_next_key(self.fd, key, self.key_size)
            if key is None:
                return
            yield key

    def items(self, flags: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """All pairs, read many at a time. BpfError."""
        for pairs in sys_bpf.map_lookup_batch(self.fd, self.key_size, self._copied, 256, flags):
            yield from pairs

    def per_cpu(self, key: bytes | int) -> list[bytes]:
        """The values of all processors."""
        value = self.lookup(key) or b""
        return [value[at : at + self.value_size] for at in range(0, len(value), self.stride)]

    def sums(self, layout: Layout, key: bytes | int = 0) -> dict[str, int]:
        """Each member of a per-CPU struct of counters, summed over the processors."""
        values = self.per_cpu(key)
        return {name: sum(layout.number(value, name) for value in values) for name in layout.fields}

    def mmap(self) -> mmap.mmap:
        """The values of an array with BPF_F_MMAPABLE, shared with the programs: value i at i * stride. Whole pages.
        BpfError: it is no such map."""
        if not self.flags & sys_bpf.MMAPABLE:
            raise sys_bpf.BpfError(errno.EOPNOTSUPP, f"map the memory of {self.name}")
        length = (self.stride * self.max_entries + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE
        return mmap.mmap(self.fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    def pin(self, path: str | Path) -> None:
        """BpfError."""
        sys_bpf.obj_pin(self.fd, os.fspath(path))

    def close(self) -> None:
        """Close the descriptor; the map lives as long as something uses it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Loaded:
    """Programs and maps in the kernel, for as long as this is open, or they are pinned or attached."""

    def __init__(self, tier: Object) -> None:
        self.object: Final = tier
        self.layouts: Final = Layouts(tier.btf)
        self.maps: Final[dict[str, Map]] = {}
        self.programs: Final[dict[str, int]] = {}
        """Descriptors by name."""
        self.btf_fd = -1

    def new_inner(self, name: str) -> int:
        """A new map that may go into the map of maps of that name: its descriptor. KeyError: there is no
        such map; BpfError."""
        spec = next(spec for spec in self.object.maps if spec.name == name) if name in self.maps else None
        if spec is None or spec.inner is None:
            raise KeyError(name)
        return _create(spec.inner, self.btf_fd)

    def close(self) -> None:
        """Close all descriptors. May be called twice."""
        for fd in self.programs.values():
            os.close(fd)
        self.programs.clear()
        for entry in self.maps.values():
            entry.close()
        if self.btf_fd >= 0:
            os.close(self.btf_fd)
            self.btf_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(tier: Object, max_entries: Mapping[str, int] | None = None) -> Loaded:
    """Create the maps and load the programs. `max_entries`: other sizes than the object's, by map. BpfError: something
    was refused; VerifierError with the reason when it was a program. KeyError: no such map."""
    sizes = dict(max_entries or {})
    if unknown := sizes.keys() - {spec.name for spec in tier.maps}:
        raise KeyError(min(unknown))
    loaded = Loaded(tier)
    try:
        loaded.btf_fd = sys_bpf.btf_load(tier.btf)
        for spec in tier.maps:
            fd = _create(spec, loaded.btf_fd, sizes.get(spec.name))
            try:
                loaded.maps[spec.name] = Map(spec.name, fd)
            except BaseException:
                os.close(fd)
                raise
        for program in tier.programs:
            insns = link(program, {name: entry.fd for name, entry in loaded.maps.items()})
            loaded.programs[program.name] = sys_bpf.prog_load(
                sys_bpf.SCHED_CLS, insns, name=program.name, licence=LICENCE, btf_fd=loaded.btf_fd
            )
    except BaseException:
        loaded.close()
        raise
    return loaded


def link(program: Program, fds: Mapping[str, int]) -> bytes:
    """The instructions with the descriptors of the maps in them."""
    insns = bytearray(program.insns)
    for index, name in program.maps:
        at = index * INSN_BYTES
        insns[at + 1] = insns[at + 1] & 0x0F | PSEUDO_MAP_FD << 4
        struct.pack_into("=i", insns, at + 4, fds[name])
    return bytes(insns)


def _create(spec: MapSpec, btf_fd: int, max_entries: int | None = None) -> int:
    inner_fd = _create(spec.inner, btf_fd) if spec.inner else -1
    try:
        typed = bool(spec.key_type or spec.value_type)
        return sys_bpf.map_create(
            spec.type,
            spec.key_size,
            spec.value_size,
            spec.max_entries if max_entries is None else max_entries,
            flags=spec.flags,
            name=spec.name,
            inner_fd=max(inner_fd, 0),
            btf_fd=btf_fd if typed else 0,
            key_type=spec.key_type if typed else 0,
            value_type=spec.value_type if typed else 0,
        )
    finally:
        if inner_fd >= 0:
            os.close(inner_fd)


def read_object() -> Object:
    """The object of this installation. FileNotFoundError: it was built without; ObjectError: it is damaged."""
    return decode((resources.files("tux.kernel") / "tier.bin").read_bytes())


def can_load() -> str:
    """Why the kernel tier cannot run here and with this process's rights, in one sentence; empty when it can.

    Loads a program of two instructions and the type information to find out, and nothing else.
    """
    if sys.byteorder != "little" or platform.machine() not in sys_bpf.NUMBERS:
        return f"the kernel tier is not made for {platform.machine()}"
    release = os.uname().release
    if kernel_version(release) < OLDEST_KERNEL:
        return f"the kernel tier needs Linux {OLDEST_KERNEL[0]}.{OLDEST_KERNEL[1]} or later; this is {release}"
    try:
        tier = read_object()
    except FileNotFoundError:
        return "this installation of Tux has no kernel tier: clang was missing when it was built (Debian: clang)"
    except (OSError, ObjectError) as error:
        return f"the object of the kernel tier cannot be read: {error}"
    missing = missing_capabilities()
    if missing:
        return f"the kernel tier needs {_words(missing)}"
    try:
        with sys_bpf.closing(sys_bpf.prog_load(sys_bpf.SCHED_CLS, NOTHING, name="tux_probe", licence=LICENCE)):
            pass
        with sys_bpf.closing(sys_bpf.btf_load(tier.btf)):
            pass
    except OSError as error:
        match error.errno:
            case errno.ENOSYS:
                return "this kernel has no bpf(2) (CONFIG_BPF_SYSCALL)"
            case errno.EPERM | errno.EACCES:
                return "bpf(2) is refused in spite of all capabilities: a container's seccomp filter or user namespace"
            case _:
                return str(error)
    return ""


def kernel_version(release: str) -> tuple[int, int]:
    """Major and minor number in what uname(2) says; (0, 0): it does not say it."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def missing_capabilities(status: str | None = None) -> list[str]:
    """The names of the capabilities that this process lacks. `status`: in place of /proc/self/status (proc(5))."""
    if status is None:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    held = int(match[1], 16) if match else 0
    # CAP_SYS_ADMIN stands for the two that were split off from it.
    implied = {"CAP_PERFMON", "CAP_BPF"} if held >> CAP_SYS_ADMIN & 1 else set()
    return [name for bit, name in CAPABILITIES.items() if not held >> bit & 1 and name not in implied]


def _words(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
