# SPDX-License-Identifier: MIT
"""bpf(2), typed and thin. No library is needed: glibc has no wrapper, so this calls syscall(2).

Sources: bpf(2); union bpf_attr of linux/bpf.h. All descriptors are close-on-exec: the kernel makes them so.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import functools
import os
import platform
import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

NUMBERS: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
"""Of the system call, by machine."""

Buffer = bytes | bytearray


class Command(enum.IntEnum):
    """enum bpf_cmd."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_TEST_RUN = 10
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    BTF_LOAD = 18
    PROG_GET_FD_BY_ID = 13
    MAP_GET_FD_BY_ID = 14
    MAP_LOOKUP_BATCH = 24
    LINK_CREATE = 28
    LINK_DETACH = 34


class MapType(enum.IntEnum):
    """enum bpf_map_type, as far as it is used."""

    HASH = 1
    ARRAY = 2
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    SK_STORAGE = 24
    RINGBUF = 27


PER_CPU: Final = frozenset({MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH})

SCHED_CLS: Final = 3
"""BPF_PROG_TYPE_SCHED_CLS."""

TCX: Final = {"ingress": 46, "egress": 47}
"""BPF_TCX_INGRESS, BPF_TCX_EGRESS."""

ANY, NOEXIST, EXIST, LOCK = 0, 1, 2, 4
"""Flags of update; LOCK also of lookup: the value is copied under its spin lock."""

MMAPABLE: Final = 1 << 10
"""BPF_F_MMAPABLE, of a map."""

LOG_BYTES: Final = 16 << 20
"""Room for what the verifier says of a refused program: a long one's log has some MiB."""

LOG_TAIL_LINES: Final = 40
"""Of the verifier's log in an error's text: the reason is at the end."""

TRIES: Final = 20
"""A load that a signal interrupts gives EAGAIN and is to be repeated, so often at most."""

DEVICE_MTU: Final = 64 * 1024 + 256
"""Room for a packet that a test run gives back: the largest, and its link header."""


ENOTSUPP: Final = 524
"""An error number of the kernel's own that bpf(2) lets out; libc has no text for it."""


class BpfError(OSError):
    """A bpf(2) call failed. The text says what was attempted, and why it failed."""

    def __init__(self, number: int, attempt: str) -> None:
        super().__init__(number, os.strerror(errno.EOPNOTSUPP if number == ENOTSUPP else number))
        self.attempt = attempt

    def __str__(self) -> str:
        return f"cannot {self.attempt}: {self.strerror}"


class VerifierError(BpfError):
    """The verifier refused a program, or the kernel type information."""

    def __init__(self, number: int, attempt: str, log: str) -> None:
        super().__init__(number, attempt)
        self.log = log
        """All that it said; megabytes perhaps."""

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *self.log.splitlines()[-LOG_TAIL_LINES:]])


@functools.cache
def _syscall() -> Callable[..., int]:
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    return function


class _Room:
    """Memory that the kernel reads or writes during a call."""

    def __init__(self, content: Buffer | int) -> None:
        self._buffer = ctypes.create_string_buffer(max(content, 1) if isinstance(content, int) else bytes(content) or 1)
        self.length = content if isinstance(content, int) else len(content)
        self.address = ctypes.addressof(self._buffer)

    def content(self, length: int | None = None) -> bytes:
        return self._buffer.raw[: self.length if length is None else min(length, self.length)]


def call(command: Command, attributes: Buffer, attempt: str) -> tuple[int, bytes]:
    """One bpf(2) call: what it returned, and the attributes as the kernel left them. BpfError."""
    number = NUMBERS.get(platform.machine())
    if number is None:
        raise BpfError(errno.ENOSYS, attempt)
    room, code = _Room(attributes), 0
    for _ in range(TRIES):
        result = _syscall()(
            ctypes.c_long(number), ctypes.c_int(command), ctypes.c_void_p(room.address), ctypes.c_uint(room.length)
        )
        if result >= 0:
            return result, room.content()
        code = ctypes.get_errno()
        if code not in (errno.EINTR, errno.EAGAIN):
            break
    raise BpfError(code, attempt)


def _name(name: str) -> bytes:
    return name.encode("ascii")[:15]


# ---- Maps


def map_create(
    kind: int,
    key_size: int,
    value_size: int,
    max_entries: int,
    *,
    flags: int = 0,
    name: str = "",
    inner_fd: int = 0,
    btf_fd: int = 0,
    key_type: int = 0,
    value_type: int = 0,
) -> int:
    """A new map's descriptor. `inner_fd`: of a map that those inside must be like. BpfError."""
    attributes = struct.pack(
        "=IIIIIII16sIIII",
        *(kind, key_size, value_size, max_entries, flags, inner_fd, 0, _name(name)),
        *(0, btf_fd, key_type, value_type),
    )
    return call(Command.MAP_CREATE, attributes, f"create the map {name}")[0]


def _element(command: Command, fd: int, key: int, value: int, flags: int, attempt: str) -> None:
    call(command, struct.pack("=IxxxxQQQ", fd, key, value, flags), attempt)


def map_lookup(fd: int, key: Buffer, value_size: int, flags: int = 0) -> bytes | None:
    """The value of a key, None when there is none. `value_size` as map_value_size() gives it. BpfError."""
    room_key, room = _Room(key), _Room(value_size)
    try:
        _element(Command.MAP_LOOKUP_ELEM, fd, room_key.address, room.address, flags, "look up a key in a map")
    except BpfError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return room.content()


def map_update(fd: int, key: Buffer, value: Buffer, flags: int = ANY) -> None:
    """Set the value of a key. BpfError: E2BIG when the map is full, EEXIST or ENOENT by the flags."""
    room_key, room = _Room(key), _Room(value)
    _element(Command.MAP_UPDATE_ELEM, fd, room_key.address, room.address, flags, "write into a map")


def map_delete(fd: int, key: Buffer) -> bool:
    """Delete a key: was it there? BpfError."""
    room = _Room(key)
    try:
        _element(Command.MAP_DELETE_ELEM, fd, room.address, 0, 0, "delete a key of a map")
    except BpfError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def wait_for_programs() -> None:
    """Return when every run of an eBPF program has ended that had begun before: who sets an element of a map of maps
    waits for that (kernel/bpf/syscall.c, maybe_wait_bpf_programs). Takes some 10 ms. BpfError."""
    inner = map_create(MapType.ARRAY, 4, 4, 1, name="tux_wait")
    with closing(inner):
        outer = map_create(MapType.ARRAY_OF_MAPS, 4, 4, 1, name="tux_wait", inner_fd=inner)
        with closing(outer):
            map_update(outer, bytes(4), struct.pack("=I", inner))


def map_next_key(fd: int, key: Buffer | None, key_size: int) -> bytes | None:
    """The key behind another (None: the first), None at the end. BpfError."""
    before, room = (_Room(key) if key is not None else None), _Room(key_size)
    try:
        _element(
            Command.MAP_GET_NEXT_KEY, fd, before.address if before else 0, room.address, 0, "list the keys of a map"
        )
    except BpfError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return room.content()


def map_lookup_batch(
    fd: int, key_size: int, value_size: int, count: int, flags: int = 0
) -> Iterator[list[tuple[bytes, bytes]]]:
    """All pairs, about `count` at a time. What changes meanwhile may be missing or be there twice. BpfError."""
    position: bytes | None = None
    while True:
        before, after = (_Room(position) if position is not None else None), _Room(max(key_size, 4))
        keys, values = _Room(key_size * count), _Room(value_size * count)
        attributes = struct.pack(
            "=QQQQIIQQ",
            *(before.address if before else 0, after.address, keys.address, values.address),
            *(count, fd, flags, 0),
        )
        # The kernel writes `count` also when it fails, so the attributes must outlive that.
        room = _Room(attributes)
        last = False
        result = _syscall()(
            ctypes.c_long(NUMBERS.get(platform.machine(), -1)),
            ctypes.c_int(Command.MAP_LOOKUP_BATCH),
            ctypes.c_void_p(room.address),
            ctypes.c_uint(room.length),
        )
        if result < 0:
            code = ctypes.get_errno()
            if code == errno.EINTR:
                continue
            if code == errno.ENOSPC:  # one bucket of the hash has more than that
                count *= 2
                continue
            if code != errno.ENOENT:
                raise BpfError(code, "read a map")
            last = True
        found = struct.unpack_from("=I", room.content(), 32)[0]
        key_bytes, value_bytes = keys.content(key_size * found), values.content(value_size * found)
        yield [
            (key_bytes[i * key_size : (i + 1) * key_size], value_bytes[i * value_size : (i + 1) * value_size])
            for i in range(found)
        ]
        if last:
            return
        position = after.content()


def possible_cpus() -> int:
    """Number of the processors that there may be: so many values has a per-CPU map."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        return int(file.read().strip().replace(",", "-").split("-")[-1]) + 1


def map_value_size(kind: int, value_size: int) -> int:
    """Bytes of one value as bpf(2) copies it: a per-CPU map's are all of the processors', each in whole words."""
    return (value_size + 7) // 8 * 8 * possible_cpus() if kind in PER_CPU else value_size


# ---- Programs and type information


def btf_load(blob: bytes) -> int:
    """The descriptor of type information. VerifierError: the kernel finds a fault in it."""
    data = _Room(blob)

    def attempt(log: _Room | None) -> int:
        attributes = struct.pack(
            "=QQIII", data.address, log.address if log else 0, data.length, log.length if log else 0, 1 if log else 0
        )
        return call(Command.BTF_LOAD, attributes, "load the type information")[0]

    return _with_log(attempt)


def prog_load(
    kind: int, insns: bytes, *, name: str = "", licence: str = "Dual MIT/GPL", btf_fd: int = 0, functions: bytes = b""
) -> int:
    """The descriptor of a program. `functions`: its struct bpf_func_info records, when btf_fd is given.
    VerifierError: it was refused."""
    code, text, infos = _Room(insns), _Room(licence.encode("ascii") + b"\0"), _Room(functions)

    def attempt(log: _Room | None) -> int:
        attributes = struct.pack(
            "=IIQQIIQII16sIIIIQI",
            *(kind, len(insns) // 8, code.address, text.address),
            *(1 if log else 0, log.length if log else 0, log.address if log else 0),
            *(0, 0, _name(name), 0, 0, btf_fd),
            *(8 if functions else 0, infos.address if functions else 0, len(functions) // 8),
        )
        return call(Command.PROG_LOAD, attributes, f"load the program {name}")[0]

    return _with_log(attempt)


def _with_log(attempt: Callable[[_Room | None], int]) -> int:
    """Try without a log, which is fast; when that fails, again with one, so that the error can say why."""
    try:
        return attempt(None)
    except BpfError as error:
        first = error
    log = _Room(LOG_BYTES)
    try:
        return attempt(log)
    except BpfError as error:
        text = log.content().partition(b"\0")[0].decode("utf-8", "replace")
        # A log that did not fit hides the reason.
        code = (first if error.errno == errno.ENOSPC else error).errno
        assert code is not None
        if not text:
            raise BpfError(code, error.attempt) from None
        raise VerifierError(code, error.attempt, text) from None


class TestRun(NamedTuple):
    """What a test run gave."""

    verdict: int
    """Signed: TC_ACT_UNSPEC is -1."""
    data: bytes
    """The packet afterwards, with its link header."""
    context: bytes
    """struct __sk_buff afterwards; empty when none was given."""
    duration_ns: int
    """Of one run, on average."""


def prog_test_run(fd: int, data: bytes, *, context: bytes = b"", repeat: int = 1, room: int = DEVICE_MTU) -> TestRun:
    """Run a program with a packet. `context`: struct __sk_buff; only mark, priority, ifindex, cb and few more may be
    set. BpfError: ENOSPC when the packet afterwards has more than `room` bytes."""
    data_in, data_out, context_in, context_out = _Room(data), _Room(room), _Room(context), _Room(len(context))
    attributes = struct.pack(
        "=IIIIQQIIIIQQIII",
        *(fd, 0, len(data), room, data_in.address, data_out.address, repeat, 0),
        *(len(context), len(context), context_in.address if context else 0, context_out.address if context else 0),
        *(0, 0, 0),
    )
    _, after = call(Command.PROG_TEST_RUN, attributes, "test a program")
    _, verdict, _, length, _, _, _, duration, _, context_length, *_ = struct.unpack("=IiIIQQIIIIQQIII", after)
    return TestRun(verdict, data_out.content(length), context_out.content(context_length), duration)


class ProgramInfo(NamedTuple):
    """Of struct bpf_prog_info."""

    type: int
    id: int
    tag: bytes
    name: str
    translated_bytes: int


class MapInfo(NamedTuple):
    """Of struct bpf_map_info."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


class LinkInfo(NamedTuple):
    """Of struct bpf_link_info, of a link to an interface."""

    type: int
    id: int
    program_id: int
    ifindex: int
    """0: the interface is gone."""
    attach_type: int


def _info(fd: int, kind: str, size: int) -> bytes:
    if kind_of(fd) != kind:
        raise BpfError(errno.EINVAL, f"use what is no {kind} as one")
    room = _Room(size)
    call(Command.OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, size, room.address), "ask about a descriptor")
    return room.content()


def prog_info(fd: int) -> ProgramInfo:
    """BpfError: it is no program."""
    kind, number, tag, _, translated, _, _, _, _, _, _, name = struct.unpack("=II8sIIQQQIIQ16s", _info(fd, "prog", 80))
    return ProgramInfo(kind, number, tag, _text(name), translated)


def map_info(fd: int) -> MapInfo:
    """BpfError: it is no map."""
    kind, number, key, value, entries, flags, name = struct.unpack("=IIIIII16s", _info(fd, "map", 40))
    return MapInfo(kind, number, key, value, entries, flags, _text(name))


def link_info(fd: int) -> LinkInfo:
    """BpfError: it is no link."""
    return LinkInfo(*struct.unpack("=IIIxxxxII", _info(fd, "link", 24)))


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("ascii", "replace")


def kind_of(fd: int) -> str:
    """Is a descriptor a "map", "prog", "link", or something else ("")?"""
    target = os.readlink(f"/proc/self/fd/{fd}")
    kind = target.removeprefix("anon_inode:").strip("[]").removeprefix("bpf").lstrip("-_")
    return kind if kind in ("map", "prog", "link") else ""


# ---- Pins and links


def obj_pin(fd: int, path: str) -> None:
    """Give a map, program or link a name in a bpffs. BpfError: EEXIST, or EINVAL where the folder is in none."""
    text = _Room(os.fsencode(path) + b"\0")
    call(Command.OBJ_PIN, struct.pack("=QII", text.address, fd, 0), f"pin {path}")


def obj_get(path: str) -> int:
    """A descriptor of what is pinned. BpfError: ENOENT."""
    text = _Room(os.fsencode(path) + b"\0")
    return call(Command.OBJ_GET, struct.pack("=QII", text.address, 0, 0), f"open {path}")[0]


def link_create_tcx(prog_fd: int, ifindex: int, direction: str) -> int:
    """Attach behind the other tcx programs of an interface (Linux 6.6). The link's descriptor: what it is attached ends
    with the last one, unless it is pinned. BpfError: EINVAL where the kernel has no tcx."""
    attributes = struct.pack("=IIIIIxxxxQ", prog_fd, ifindex, TCX[direction], 0, 0, 0)
    return call(Command.LINK_CREATE, attributes, f"attach at {direction} of interface {ifindex}")[0]


def link_detach(fd: int) -> None:
    """Detach at once, though the link may still be pinned."""
    call(Command.LINK_DETACH, struct.pack("=I", fd), "detach a program")


def tcx_programs(ifindex: int, direction: str) -> list[int]:
    """Ids of the tcx programs of an interface, in their order. BpfError: EINVAL where the kernel has no tcx."""
    count = 64  # BPF_MPROG_MAX: more are never attached
    room = _Room(4 * count)
    attributes = struct.pack("=IIIIQIxxxxQQQQ", ifindex, TCX[direction], 0, 0, room.address, count, 0, 0, 0, 0)
    try:
        _, after = call(Command.PROG_QUERY, attributes, f"list the programs at {direction} of interface {ifindex}")
    except BpfError as error:
        if error.errno == errno.ENOENT:  # never had one
            return []
        raise
    found = struct.unpack_from("=I", after, 24)[0]
    return list(struct.unpack(f"={found}I", room.content(4 * found)))


@contextlib.contextmanager
def closing(*fds: int) -> Iterator[None]:
    """Close descriptors at the end."""
    try:
        yield
    finally:
        for fd in fds:
            os.close(fd)
