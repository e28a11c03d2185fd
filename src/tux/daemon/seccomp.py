"""System calls that a worker never makes are refused to it, so that one that was taken over has less to try.

A worker of the kernel tier may be of the user who owns the pinned maps and programs; without bpf(2) it cannot open
them. What is listed here fails with EPERM, in every thread and for good. All else is untouched: the list is of what
reaches beyond the process, and no description of what Python or libc may need.

Sources: seccomp(2), linux/seccomp.h, linux/filter.h, linux/audit.h, the tables of system calls of both architectures.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass

REFUSED: dict[str, tuple[int, int]] = {
    # eBPF, profiling, and whatever else looks into the kernel
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "syslog": (103, 116),
    # other processes, and their memory and files
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    # other programs
    "execve": (59, 221),
    "execveat": (322, 281),
    # interfaces that defects of the kernel were often reached through
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # namespaces, mounts, and ways round the permissions of folders
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    # the machine
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
}
"""Name, and its number on x86-64 and on arm64."""


@dataclass(frozen=True)
class Machine:
    """What a filter depends on."""

    column: int
    """In `REFUSED`."""
    audit_arch: int
    """As the filter sees it; another value is that of a 32-bit system call, which no part of a worker makes."""
    seccomp: int
    """The number of seccomp(2)."""
    first_foreign: int | None = None
    """Numbers from here on are of another ABI (x32)."""


MACHINES = {
    "x86_64": Machine(0, 0xC000003E, 317, 0x40000000),
    "aarch64": Machine(1, 0xC00000B7, 277),
}
"""By the name that uname(2) has for them."""

_SET_MODE_FILTER = 1
_SPEC_ALLOW = 4
"""No mitigation of speculative execution comes with the filter, as before Linux 5.16: it costs several percent, and
nobody else's programs run in this process."""

_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # LD|W|ABS, JMP|JEQ|K, JMP|JGE|K, RET|K
_NUMBER_AT, _ARCH_AT = 0, 4  # in struct seccomp_data
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO


class UnsupportedError(Exception):
    """There is no filter for this system; the text says why."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def this_machine() -> Machine:
    """UnsupportedError: its numbers are not known here."""
    name = platform.machine()
    if name not in MACHINES or sys.maxsize < 2**32:
        raise UnsupportedError(f"the numbers of system calls are not known for {name}")
    return MACHINES[name]


def instructions(machine: Machine) -> bytes:
    """The filter: classic BPF over struct seccomp_data."""
    numbers = sorted(row[machine.column] for row in REFUSED.values())
    checks: list[tuple[int, int]] = [(_IF_EQUAL, number) for number in numbers]
    if machine.first_foreign is not None:
        checks.insert(0, (_IF_AT_LEAST, machine.first_foreign))
    # A jump counts from the instruction behind it: over the checks that are left, and over the one that allows.
    code = [(_LOAD, 0, 0, _ARCH_AT), (_IF_EQUAL, 0, len(checks) + 2, machine.audit_arch), (_LOAD, 0, 0, _NUMBER_AT)]
    code += [(check, len(checks) - index, 0, value) for index, (check, value) in enumerate(checks)]
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    return _encode(code)


def _encode(code: Sequence[tuple[int, int, int, int]]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def install() -> None:
    """Refuse these to this thread and all that it starts. After `privileges.become`: without no-new-privileges, only
    root may. UnsupportedError: not on this machine, or its kernel does not have it or does not let us."""
    machine = this_machine()
    code = instructions(machine)
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (machine.seccomp, _SET_MODE_FILTER, _SPEC_ALLOW)
    if libc.syscall(*map(ctypes.c_long, arguments), ctypes.byref(program)) != 0:
        raise UnsupportedError(f"seccomp: {os.strerror(ctypes.get_errno())}")
