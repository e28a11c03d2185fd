# SPDX-License-Identifier: MIT
"""``make fuzz``: every fuzz target for some seconds. The C ones are fuzz/fuzz_NAME.c (libFuzzer, under ASan+UBSan), the
Python ones fuzz/fuzz_NAME.py (Atheris, which is libFuzzer too).

Seeds are in fuzz/corpus/NAME. What a run finds is kept in .cache/fuzz/NAME/found and used by the next; an input that
breaks a target is written to .cache/fuzz/NAME and named in the output.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tools import native

FOLDER: Final = native.ROOT / "fuzz"

RUN_SECONDS: Final = 10
"""libFuzzer ends a single run that takes longer: a target does microseconds of work."""

MEMORY_MB: Final = 2048
"""libFuzzer ends a target that takes more: they need less than 100, ASan's shadow included."""


def c_targets() -> list[str]:
    """Names of the C targets."""
    return sorted(path.stem.removeprefix("fuzz_") for path in FOLDER.glob("fuzz_*.c"))


def python_targets() -> list[str]:
    """Names of the Python targets."""
    return sorted(path.stem.removeprefix("fuzz_") for path in FOLDER.glob("fuzz_*.py"))


def missing(name: str) -> str:
    """Why the target cannot run on this machine; empty when it can."""
    if name in c_targets():
        return "" if native.can_fuzz() else "no clang with libFuzzer (Debian: clang, libclang-rt-NN-dev)"
    return "" if importlib.util.find_spec("atheris") else "no atheris (it has no wheel for this interpreter)"


def run(name: str, seconds: int) -> subprocess.CompletedProcess[str]:
    """Fuzz one target. The exit status is not 0 when an input broke it; the output says which."""
    work = native.CACHE / "fuzz" / name
    found = work / "found"
    found.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ)
    if name in c_targets():
        command = [str(native.build("fuzz") / "fuzz" / f"fuzz_{name}")]
        env |= native.FLAVOURS["fuzz"].env
    else:
        command = [sys.executable, "-W", "ignore", str(FOLDER / f"fuzz_{name}.py")]
    seeds = FOLDER / "corpus" / name
    command += [str(found), *([str(seeds)] if seeds.is_dir() else [])]
    command += [f"-max_total_time={seconds}", f"-timeout={RUN_SECONDS}", f"-rss_limit_mb={MEMORY_MB}"]
    command += [f"-artifact_prefix={work}/", "-print_final_stats=1", "-max_len=4096"]
    return subprocess.run(
        command,
        cwd=native.ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds + 120,
    )


def executions(output: str) -> int:
    """How many inputs a run tried, from its output."""
    for line in output.splitlines():
        if line.startswith("stat::number_of_executed_units:"):
            return int(line.rsplit(":", 1)[1])
    return 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("names", nargs="*", metavar="NAME", help="targets (default: all)")
    arguments = parser.parse_args()
    failed = []
    for name in arguments.names or c_targets() + python_targets():
        reason = missing(name)
        if reason:
            print(f"fuzz: {name}: skipped: {reason}", flush=True)
            continue
        done = run(name, arguments.seconds)
        verdict = "ok" if done.returncode == 0 else "FAILED"
        print(f"fuzz: {name}: {verdict}, {executions(done.stdout):,} inputs", flush=True)
        if done.returncode != 0:
            print(done.stdout)
            failed.append(name)
    if failed:
        print(f"fuzz: failed: {', '.join(failed)}; the inputs are in {Path('.cache') / 'fuzz'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
