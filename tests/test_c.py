# SPDX-License-Identifier: MIT
"""The C tests of the engine (tests/c), in an optimised build and under the sanitizers of gcc."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

import pytest

from tests import features
from tools import native

SUMMARY = re.compile(r"(\d+) passed, 0 failed$", re.MULTILINE)

FAULTS = {
    "overflow of a buffer": ("asan", "char *p = malloc(8); p[eight] = 1; free(p);", "heap-buffer-overflow"),
    "use after free": ("asan", "char *p = malloc(8); free(p); p[0] = 1;", "heap-use-after-free"),
    "leak": ("asan", "sink = malloc(8); sink = 0;", "detected memory leaks"),
    "overflow of an integer": ("asan", "int i = 2147483640 + eight; (void)i;", "signed integer overflow"),
    "data race": ("tsan", "pthread_create(&t, 0, count, 0); count(0); pthread_join(t, 0);", "data race"),
}
PROGRAM = """
#include <pthread.h>
#include <stdlib.h>
void *volatile sink;
volatile int eight = 8;
pthread_t t;
int n;
void *count(void *arg) { n++; return arg; }
int main(void) { %s return 0; }
"""


@functools.cache
def build(flavour: str) -> None:
    native.build(flavour)


@pytest.mark.slow
@pytest.mark.timeout(600)  # seconds; the first builds the flavour
@pytest.mark.parametrize("flavour", ["gcc", "asan", "tsan"])
@pytest.mark.parametrize("test", native.tests())
def test_engine(flavour: str, test: str) -> None:
    if flavour != "gcc":
        features.require("sanitizers")
    build(flavour)
    done = native.run_test(flavour, test)
    assert done.returncode == 0, done.stdout
    found = SUMMARY.search(done.stdout)
    assert found, f"no summary of checks: {done.stdout!r}"
    assert int(found[1]) > 0


@pytest.mark.parametrize("fault", FAULTS)
def test_the_sanitizers_report(fault: str, tmp_path: Path) -> None:
    """A check that cannot fail is none: with the options of each flavour, its faults are found on this machine."""
    features.require("sanitizers")
    flavour, code, report = FAULTS[fault]
    (option,) = [option for option in native.FLAVOURS[flavour].options if option.startswith("-Db_sanitize=")]
    program = tmp_path / "fault"
    command = ["gcc", "-g", f"-fsanitize={option.partition('=')[2]}", "-fno-sanitize-recover=undefined"]
    subprocess.run([*command, "-pthread", "-x", "c", "-", "-o", program], input=PROGRAM % code, text=True, check=True)
    done = native.run_program(flavour, program)
    assert done.returncode != 0
    assert report in done.stdout
