"""The system calls that are refused to workers: the filter, interpreted and in force, and the numbers in it."""

from __future__ import annotations

import errno
import os
import platform
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests import features
from tux.daemon import seccomp

ALLOWED = 0x7FFF0000
REFUSED = 0x00050000 | errno.EPERM
GETPID = {"x86_64": 39, "aarch64": 172}
HEADERS = {
    "x86_64": (f"/usr/include/{platform.machine()}-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),  # whose numbers are those of arm64
}


def judge(code: bytes, *, number: int, arch: int) -> int:
    """What the filter says: as classic BPF is executed (linux/filter.h)."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(0,) * 6)
    program: list[tuple[int, int, int, int]] = list(struct.iter_unpack("=HBBI", code))
    at, accumulator = 0, 0
    while True:  # ends: jumps go forwards only
        operation, if_true, if_false, value = program[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x06:
                return value
            case _:
                raise AssertionError(operation)


@pytest.mark.parametrize("name", seccomp.MACHINES)
class TestFilter:
    def test_what_is_listed_is_refused_and_all_else_is_not(self, name: str) -> None:
        machine = seccomp.MACHINES[name]
        code = seccomp.instructions(machine)
        listed = {numbers[machine.column] for numbers in seccomp.REFUSED.values()}
        assert len(listed) == len(seccomp.REFUSED)
        for number in range(600):
            expected = REFUSED if number in listed else ALLOWED
            assert judge(code, number=number, arch=machine.audit_arch) == expected, number

    def test_other_kinds_of_system_calls_are_refused(self, name: str) -> None:
        """Their numbers mean something else: 280 is another call on i386 than on arm64."""
        machine = seccomp.MACHINES[name]
        code = seccomp.instructions(machine)
        for arch in (0x40000003, 0x40000028, 0xC00000F3):  # i386, arm, riscv64
            assert judge(code, number=GETPID[name], arch=arch) == REFUSED
        x32 = judge(code, number=0x40000000 | GETPID[name], arch=machine.audit_arch)
        assert x32 == (REFUSED if name == "x86_64" else ALLOWED)

    def test_numbers_are_those_of_the_system_s_headers(self, name: str) -> None:
        header = next((path for path in map(Path, HEADERS[name]) if path.exists()), None)
        if header is None:
            pytest.skip("no headers of Linux for this machine")
        known = dict(re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)\b", header.read_text(), re.MULTILINE))
        column = seccomp.MACHINES[name].column
        wrong = {call: numbers for call, numbers in seccomp.REFUSED.items() if known.get(call) != str(numbers[column])}
        assert not wrong
        assert known["seccomp"] == str(seccomp.MACHINES[name].seccomp)


@pytest.mark.parametrize(("machine", "bits"), [("riscv64", 64), ("aarch64_be", 64), ("x86_64", 32), ("i686", 32)])
def test_machines_without_a_table(monkeypatch: pytest.MonkeyPatch, machine: str, bits: int) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "maxsize", 2 ** (bits - 1) - 1)
    with pytest.raises(seccomp.UnsupportedError, match=f"are not known for {machine}"):
        seccomp.install()


CHILD = """
import ctypes, os, sys, threading
from tux.daemon import privileges, seccomp
privileges.set_no_new_privileges()
seccomp.install()
libc = ctypes.CDLL(None, use_errno=True)
def call(number):
    failed = libc.syscall(*(ctypes.c_long(value) for value in (number, 0, 0, 0, 0, 0, 0))) < 0
    return ctypes.get_errno() if failed else 0
column = seccomp.this_machine().column
results = {}
def all_of_them():
    for name, numbers in seccomp.REFUSED.items():
        results.setdefault(name, set()).add(call(numbers[column]))
all_of_them()
thread = threading.Thread(target=all_of_them)
thread.start()
thread.join()
print({name for name, found in results.items() if found != {1}})
sys.stdout.flush()
try:
    os.execv("/bin/true", ["true"])
except PermissionError:
    print("no other program")
"""


def test_in_force() -> None:
    """Whatever a call would say by itself to nothing but zeros: EPERM, in threads as well."""
    features.require("seccomp")
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set()\nno other program\n", "")


def test_it_comes_to_nothing_where_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_SET_MODE_FILTER", 99)  # which no kernel knows
    with pytest.raises(seccomp.UnsupportedError, match=f"seccomp: {os.strerror(errno.EINVAL)}"):
        seccomp.install()
