# SPDX-License-Identifier: MIT
"""``make lint``: every check of the sources that needs no run of them. All are done, then the failed ones are named.

``python -m tools.lint [NAME...]`` does some of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from tools import native

C_WARNINGS: Final = (
    "-std=gnu11",
    "-O2",
    "-Werror",
    "-Wall",
    "-Wextra",
    "-Wpointer-arith",
    "-Wshadow",
    "-Wstrict-prototypes",
    "-Wundef",
    "-Wvla",
    "-Wwrite-strings",
)
"""For the C programs that the build does not know: those of the benchmarks."""

BPF_WARNINGS: Final = ("-Werror", "-Wall", "-Wextra", "-Wpointer-arith", "-Wstrict-prototypes", "-Wundef", "-Wvla")


def ruff() -> str:
    """Python: rules."""
    return _run("ruff", "check", "--quiet", "--output-format=concise")


def formatting() -> str:
    """Python: layout."""
    return _run("ruff", "format", "--check", "--quiet")


def mypy() -> str:
    """Python: types, strictly."""
    return _run("mypy")


def cython() -> str:
    """The binding: cython-lint."""
    return _run("cython-lint", *_sources("src", ".pyx"))


def c_gcc() -> str:
    """The engine and its tests compile without a warning: gcc."""
    return _compile("gcc")


def c_clang() -> str:
    """The engine and its tests compile without a warning: clang, where there is one."""
    if shutil.which("clang") is None:
        print("lint: no clang: its warnings are not looked at", file=sys.stderr)
        return ""
    return _compile("clang")


def c_programs() -> str:
    """The C programs of the benchmarks compile without a warning."""
    said = ""
    for source in _sources("bench", ".c") + [name for name in _sources("tests/c", ".c") if "/bench_" in name]:
        said += _run("gcc", *C_WARNINGS, "-Isrc/tux/engine", "-c", "-o", os.devnull, source)  # the optimiser warns, too
    return said


def c_bpf() -> str:
    """The eBPF programs compile without a warning, where there is a clang."""
    if shutil.which("clang") is None:
        print("lint: no clang: the eBPF programs are not compiled", file=sys.stderr)
        return ""
    return _run("clang", *native.BPF_FLAGS, *BPF_WARNINGS, "-fsyntax-only", "src/tux/kernel/bpf/tier.bpf.c")


def engine_alone() -> str:
    """The engine knows nothing of Python."""
    said = ""
    for name in _sources("src/tux/engine", ".c") + _sources("src/tux/engine", ".h"):
        text = (native.ROOT / name).read_text()
        for found in re.finditer(r"^\s*#\s*include\s*[<\"]Python\.h", text, re.MULTILINE):
            said += f"{name}:{text.count(chr(10), 0, found.start()) + 1}: the engine must not include Python.h\n"
    return said


CHECKS: Final[Sequence[Callable[[], str]]] = (
    ruff,
    formatting,
    mypy,
    cython,
    engine_alone,
    c_programs,
    c_gcc,
    c_clang,
    c_bpf,
)


def main(names: Sequence[str]) -> int:
    """Run the checks named (all, without names); the exit status."""
    failed = []
    for check in CHECKS:
        if names and check.__name__ not in names:
            continue
        began = time.monotonic()
        said = check()
        print(f"lint: {check.__name__:12} {'FAILED' if said else 'ok':6} {time.monotonic() - began:5.1f} s", flush=True)
        if said:
            print(said.rstrip(), flush=True)
            failed.append(check.__name__)
    if failed:
        print(f"lint: failed: {', '.join(failed)}")
    return 1 if failed else 0


def _run(*command: str) -> str:
    """What a failed command said; nothing when it succeeded."""
    done = subprocess.run(
        command,
        cwd=native.ROOT,
        env=os.environ | {"PATH": native.tool_path()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return "" if done.returncode == 0 else done.stdout or f"{command[0]}: exit status {done.returncode}\n"


def _compile(flavour: str) -> str:
    try:
        native.build(flavour)
    except native.BuildError as error:
        return str(error)
    return ""


def _sources(folder: str, suffix: str) -> list[str]:
    return sorted(str(path.relative_to(native.ROOT)) for path in (native.ROOT / folder).rglob(f"*{suffix}"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
