# SPDX-License-Identifier: MIT
"""Build the C parts by themselves, without the Python extension, in the flavours that the checks need.

Each flavour has a build folder of its own, .cache/build-NAME, which Meson keeps up to date; so a second build takes
about a second. Tests, ``make lint``, ``make sanitize`` and ``make fuzz`` share them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
CACHE: Final = ROOT / ".cache"

TEST_SECONDS: Final = 120
"""A C test that takes longer hangs. The slowest takes a few seconds under ThreadSanitizer."""


BPF_FLAGS: Final = (
    "-target",
    "bpf",
    "-std=gnu11",
    "-O2",
    "-g",
    "-mcpu=v3",
    "-ffreestanding",
    "-isystem",
    f"/usr/include/{platform.machine()}-linux-gnu",
)
"""For clang, as the build has them: eBPF. The last is where Debian has asm/types.h."""


class BuildError(Exception):
    """A build failed; the text is what the tools said."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """One way to build the engine with its C tests or fuzz targets."""

    compiler: str
    options: tuple[str, ...]
    """For ``meson setup``."""
    env: dict[str, str] = field(default_factory=dict)
    """For the programs that were built."""


_SANITIZE = ("-Dbuildtype=debugoptimized", "-Db_lundef=false")
_UBSAN = {"UBSAN_OPTIONS": "print_stacktrace=1"}

FLAVOURS: Final[dict[str, Flavour]] = {
    "gcc": Flavour("gcc", ("-Dtests=true", "-Dwerror=true", "-Dbuildtype=release")),
    "clang": Flavour("clang", ("-Dtests=true", "-Dwerror=true", "-Dbuildtype=release")),
    "asan": Flavour(
        "gcc",
        ("-Dtests=true", "-Db_sanitize=address,undefined", *_SANITIZE),
        {"ASAN_OPTIONS": "detect_stack_use_after_return=1", **_UBSAN},
    ),
    "tsan": Flavour("gcc", ("-Dtests=true", "-Db_sanitize=thread", *_SANITIZE), {"TSAN_OPTIONS": "halt_on_error=1"}),
    "fuzz": Flavour("clang", ("-Dfuzz=true", "-Db_sanitize=address,undefined", *_SANITIZE), _UBSAN),
}


def build(name: str) -> Path:
    """Build the flavour; its build folder. BuildError: it does not compile."""
    flavour = FLAVOURS[name]
    folder = CACHE / f"build-{name}"
    setup = ("setup", str(folder), str(ROOT), "-Dbinding=false", *flavour.options)
    with lock(f"build-{name}"):
        # Configured anew each time: a test or target that was added is only then found.
        if (folder / "build.ninja").exists():
            try:
                _meson(flavour, *setup, "--reconfigure")
            except BuildError:
                shutil.rmtree(folder)
        if not folder.exists():
            _meson(flavour, *setup)
        _meson(flavour, "compile", "-C", str(folder))
    return folder


def compile_bpf(source: Path, target: Path, *options: str) -> None:
    """Compile a C file for eBPF, without warnings. BuildError: it does not compile."""
    command = ["clang", *BPF_FLAGS, "-Wall", "-Wextra", "-Werror", *options, "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise BuildError(f"clang failed:\n{done.stderr}")


def tests() -> list[str]:
    """Names of the C tests: one program each, tests/c/NAME.c."""
    return sorted(path.stem for path in (ROOT / "tests" / "c").glob("test_*.c"))


def run_test(name: str, test: str) -> subprocess.CompletedProcess[str]:
    """Run one test of a flavour that was built. A report of a sanitizer makes it fail."""
    return run_program(name, CACHE / f"build-{name}" / "tests" / "c" / test)


def run_program(name: str, program: Path) -> subprocess.CompletedProcess[str]:
    """Run a program as those of the flavour are run."""
    env = os.environ | FLAVOURS[name].env
    # An address space laid out too randomly is more than the ThreadSanitizer of gcc 12 and older can take.
    command = [*(("setarch", "-R") if name == "tsan" and _can_fix_addresses() else ()), str(program)]
    with tempfile.TemporaryDirectory(prefix="tux-c-") as scratch:
        return subprocess.run(
            command,
            env=env,
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TEST_SECONDS,
        )


def can_sanitize() -> bool:
    """gcc has the runtimes of its sanitizers."""
    return all(_links("gcc", f"-fsanitize={kind}") for kind in ("address,undefined", "thread"))


def can_fuzz() -> bool:
    """clang has the runtime of libFuzzer."""
    return _links("clang", "-fsanitize=fuzzer,address")


def can_compile_bpf() -> bool:
    """There is a clang that knows eBPF."""
    if shutil.which("clang") is None:
        return False
    command = ["clang", "-target", "bpf", "-x", "c", "-c", "/dev/null", "-o", "/dev/null"]
    return subprocess.run(command, capture_output=True).returncode == 0


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold .cache/NAME.lock: two processes of one test run must not build in the same folder at once."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def tool_path() -> str:
    """PATH with the folder of this interpreter first: meson, ninja and cython are installed there."""
    return str(Path(sys.executable).parent) + os.pathsep + os.environ.get("PATH", os.defpath)


def _meson(flavour: Flavour, *arguments: str) -> None:
    env = os.environ | {"CC": flavour.compiler, "PATH": tool_path()}
    done = subprocess.run(
        ["meson", *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        raise BuildError(f"meson {arguments[0]} failed:\n{done.stdout}")


def _links(compiler: str, *options: str) -> bool:
    source = "#include <stddef.h>\nint LLVMFuzzerTestOneInput(const char *p, size_t n) { return p == 0 && n; }\n"
    if not any(option.startswith("-fsanitize=fuzzer") for option in options):
        source += "int main(void) { return LLVMFuzzerTestOneInput(0, 0); }\n"
    if shutil.which(compiler) is None:
        return False
    with tempfile.TemporaryDirectory(prefix="tux-c-") as scratch:
        command = [compiler, *options, "-x", "c", "-", "-o", f"{scratch}/program"]
        return subprocess.run(command, input=source, text=True, capture_output=True).returncode == 0


def _can_fix_addresses() -> bool:
    if shutil.which("setarch") is None:
        return False
    return subprocess.run(["setarch", "-R", "true"], capture_output=True).returncode == 0
