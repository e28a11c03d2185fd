# SPDX-License-Identifier: MIT
"""What a test may need that not every machine has.

``require("fuzz")`` skips the test where the feature is missing, and says why. Where EXPECT_FEATURES names the feature
(as .ci/run does) it fails instead, so that nothing is skipped silently that was expected to run.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Final

import pytest

from tools import fetch_peers, native
from tux.kernel import load


def _sanitizers() -> str:
    return "" if native.can_sanitize() else "gcc has no runtimes of its sanitizers"


def _fuzz() -> str:
    if not native.can_fuzz():
        return "no clang with libFuzzer (Debian: clang, libclang-rt-NN-dev)"
    return "" if importlib.util.find_spec("atheris") else "no atheris (pip install atheris)"


def _peers() -> str:
    try:
        fetch_peers.peer("nginx")
    except fetch_peers.FetchError as error:
        return str(error)
    return ""


def _root() -> str:
    return "" if os.geteuid() == 0 else "not root"


def _netns() -> str:
    if shutil.which("unshare") is None:
        return "no unshare (Debian: util-linux)"
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"no network namespaces: {done.stderr.strip()}"


def _bpf() -> str:
    return "" if native.can_compile_bpf() else "no compiler for eBPF (Debian: clang)"


ATTACH: Final = """
from tux.kernel import attach, load, sys_bpf
fd = sys_bpf.prog_load(sys_bpf.SCHED_CLS, load.NOTHING)
attach.attach(fd, 1, "egress").detach()
"""
"""Attaches to `lo`: for a namespace of its own."""


def _kernel() -> str:
    reason = _root() or _netns() or load.can_load()
    if reason:
        return reason
    done = subprocess.run(["unshare", "--net", sys.executable, "-c", ATTACH], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]


def _seccomp() -> str:
    program = "from tux.daemon import privileges, seccomp\nprivileges.set_no_new_privileges()\nseccomp.install()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]


def _ipv6() -> str:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        return f"no IPv6 on the loopback interface: {error.strerror}"
    return ""


FEATURES: Final[dict[str, Callable[[], str]]] = {
    "bpf": _bpf,
    "fuzz": _fuzz,
    "ipv6": _ipv6,
    "kernel": _kernel,
    "netns": _netns,
    "peers": _peers,
    "root": _root,
    "sanitizers": _sanitizers,
    "seccomp": _seccomp,
}
"""Name -> why it is missing on this machine (empty: it is there)."""


def expected() -> frozenset[str]:
    """The features that EXPECT_FEATURES names, separated by blanks. ValueError: one does not exist."""
    names = frozenset(os.environ.get("EXPECT_FEATURES", "").split())
    unknown = names - FEATURES.keys()
    if unknown:
        raise ValueError(f"EXPECT_FEATURES names {', '.join(sorted(unknown))}; known: {', '.join(FEATURES)}")
    return names


@functools.cache
def missing(name: str) -> str:
    """Why a feature is missing on this machine; empty when it is there. Probed once."""
    return FEATURES[name]()


def require(name: str) -> None:
    """Skip the test that calls this where the feature is missing; fail it where the feature was expected."""
    reason = missing(name)
    if reason and name in expected():
        pytest.fail(f"EXPECT_FEATURES names {name}, but: {reason}", pytrace=False)
    if reason:
        pytest.skip(f"{name}: {reason}")
