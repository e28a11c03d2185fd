# SPDX-License-Identifier: MIT
"""What the tests read from the headers is what the compiler made of them: else they would test something else."""

from __future__ import annotations

import pytest

from tests import features
from tests.unit.kernel.layout_header import layouts
from tux.kernel import load
from tux.kernel.btf import Layouts

STRUCTS = sorted(name for name in layouts() if name.startswith("tux_kernel_"))


@pytest.mark.parametrize("name", STRUCTS)
def test_a_struct_is_as_the_compiler_has_it(name: str) -> None:
    features.require("bpf")
    built, read = Layouts(load.read_object().btf)[name], layouts()[name]
    assert read.size == built.size
    assert read.fields == built.fields


def test_there_are_structs() -> None:
    assert {"tux_kernel_message", "tux_kernel_conn", "tux_kernel_counters", "tux_kernel_answer"} <= set(STRUCTS)
