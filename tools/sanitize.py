# SPDX-License-Identifier: MIT
"""``make sanitize``: the C tests under ASan+UBSan and under TSan, then the extension under ASan+UBSan.

The last part builds the package into .cache/sanitized with the sanitizers and runs the tests marked ``sanitize`` with
it. The interpreter is not built with ASan, so the runtime is preloaded; and it frees little at its end, so leaks are
left to the C tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools import native

SITE: Final = native.CACHE / "sanitized"
REPORTS: Final = native.CACHE / "sanitized-reports"


def c_tests(flavour: str) -> list[str]:
    """Run the C tests of a flavour; the names of those that failed."""
    native.build(flavour)
    failed = []
    for test in native.tests():
        done = native.run_test(flavour, test)
        print(f"sanitize: {flavour} {test}: {'ok' if done.returncode == 0 else 'FAILED'}", flush=True)
        if done.returncode != 0:
            print(done.stdout)
            failed.append(f"{flavour} {test}")
    return failed


def build_extension() -> None:
    """The package with a sanitized extension, in SITE. CalledProcessError: the build failed."""
    folder = native.CACHE / "build-extension-asan"
    env = os.environ | {"PATH": native.tool_path(), "CC": "gcc"}
    options = ["-Db_sanitize=address,undefined", "-Db_lto=false", "-Db_lundef=false", "-Dbuildtype=debugoptimized"]
    with native.lock("build-extension-asan"):
        fresh = [] if not (folder / "build.ninja").exists() else ["--reconfigure"]
        python = f"[binaries]\npython = '{sys.executable}'\n"
        folder.parent.mkdir(exist_ok=True)
        machine = native.CACHE / "build-extension-asan.ini"
        machine.write_text(python)
        setup = ["meson", "setup", str(folder), str(native.ROOT), f"--native-file={machine}", *options, *fresh]
        subprocess.run([*setup, f"-Dpython.purelibdir={SITE}", f"-Dpython.platlibdir={SITE}"], env=env, check=True)
        subprocess.run(["meson", "compile", "-C", str(folder)], env=env, check=True)
        shutil.rmtree(SITE, ignore_errors=True)
        install = ["meson", "install", "-C", str(folder), "--no-rebuild", "--tags=python-runtime", "--quiet"]
        subprocess.run(install, env=env, check=True)


def environment() -> dict[str, str]:
    """What an interpreter needs to import the sanitized extension."""
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    # Several processes may report: each into a file of its own, since the test may not show what they print.
    return {
        "ASAN_OPTIONS": f"detect_leaks=0:detect_stack_use_after_return=0:log_path={REPORTS}/asan",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={REPORTS}/ubsan",
        "LD_PRELOAD": str(Path(runtime).resolve()),
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(SITE),
    }


def extension(arguments: Sequence[str]) -> list[str]:
    """Run the tests marked ``sanitize`` with the sanitized extension; names of what failed."""
    build_extension()
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    REPORTS.chmod(0o1777)  # workers that root starts run as another user
    env = os.environ | environment()
    origin = subprocess.run(
        [sys.executable, "-c", "import tux._engine; print(tux._engine.__file__)"],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    if not Path(origin).is_relative_to(SITE):
        return [f"the extension was imported from {origin}, not from {SITE}"]
    command = [sys.executable, "-m", "pytest", "-m", "sanitize", *arguments]
    failed = []
    status = subprocess.run(command, cwd=native.ROOT, env=env, stdin=subprocess.DEVNULL).returncode
    if status != 0:
        failed.append(f"the tests of the extension (exit status {status})")
    for report in sorted(REPORTS.iterdir()):
        print(f"sanitize: {report.name}:\n{report.read_text(errors='replace')}")
        failed.append(f"report {report.name}")
    return failed


def main(arguments: Sequence[str]) -> int:
    """All of it; ``arguments`` go to pytest."""
    if not native.can_sanitize():
        print("sanitize: gcc's sanitizers are missing (Debian: libgcc-NN-dev has them)", file=sys.stderr)
        return 1
    failed = [*c_tests("asan"), *c_tests("tsan"), *extension(arguments)]
    print(f"sanitize: failed: {'; '.join(failed)}" if failed else "sanitize: all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
