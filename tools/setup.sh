#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the targets of the Makefile need from the system. As root missing packages are installed with apt-get; otherwise
# one line names them.
#
#   tools/setup.sh venv    .venv, with a Python >= 3.11 that has its C headers; a C compiler
#   tools/setup.sh bpf     a compiler for eBPF: clang, or else the Python package ziglang in .venv; it may be missing: the
#                          build then leaves the kernel tier out
#   tools/setup.sh clang   clang with the runtime of libFuzzer; it may be missing: fuzzing in C is then skipped
#   tools/setup.sh lists   apt's package lists, from which the peers of tests and benchmarks are found
#
# PYTHON=... chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

have_lists() { compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; }

# apt_install PACKAGE...: false where it cannot be done.
apt_install() {
    can_install || return 1
    say "installing $*"
    have_lists || apt-get -qq -o DPkg::Lock::Timeout=300 update >&2 || return 1
    local said
    said=$(DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@" \
        2>&1 </dev/null) || { printf '%s\n' "$said" >&2; return 1; }
}

# usable PYTHON: at least 3.11, with headers and the parts of venv that Debian packages apart.
usable() {
    "$1" - >/dev/null 2>&1 <<'PYTHON'
import ensurepip, os, sys, sysconfig, venv
headers = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(not (sys.version_info >= (3, 11) and os.path.exists(headers)))
PYTHON
}

# reachable PYTHON: as root the workers run as another user, who must be able to read the interpreter's library. One
# below /root is taken only when there is no other.
reachable() {
    [ "$(id -u)" != 0 ] && return 0
    local folder
    folder=$("$1" -c 'import os, sys; print(os.path.realpath(sys.base_prefix))') || return 1
    while [ "$folder" != / ]; do
        [ $((0$(stat -c %a "$folder") & 1)) = 1 ] || return 1
        folder=$(dirname "$folder")
    done
}

find_python() {
    local name path second=
    if [ -n "${PYTHON:-}" ]; then
        usable "$PYTHON" && command -v "$PYTHON"
        return
    fi
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        for path in $(type -aP "$name" || true); do
            usable "$path" || continue
            if reachable "$path"; then
                printf '%s\n' "$path"
                return 0
            fi
            second=${second:-$path}
        done
    done
    [ -n "$second" ] && printf '%s\n' "$second"
}

compiles() { printf '#include <stdio.h>\n#include <linux/openat2.h>\n' | "${CC:-cc}" -E -x c - >/dev/null 2>&1; }

need_compiler() {
    compiles && return
    apt_install gcc libc6-dev || true
    compiles || fail "needs a C compiler and the headers of Linux >= 5.6: apt-get install gcc libc6-dev"
}

need_venv() {
    need_compiler
    .venv/bin/python -c 'import pip' 2>/dev/null && return
    local python
    if ! python=$(find_python); then
        [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not a Python >= 3.11 with its C headers and ensurepip"
        apt_install python3 python3-dev python3-venv || true
        python=$(find_python) || fail "needs Python >= 3.11 with its C headers: apt-get install python3-dev python3-venv"
    fi
    say "creating .venv with $python"
    # A build folder that was configured for another interpreter is of no use.
    rm -rf .venv build/py
    "$python" -m venv .venv
}

compiles_bpf() {
    printf 'int f(void) { return 0; }\n' | clang -target bpf -c -x c - -o /dev/null 2>/dev/null ||
        .venv/bin/python -c 'import ziglang' 2>/dev/null
}

want_bpf() {
    compiles_bpf && return
    apt_install clang || true
    compiles_bpf && return
    .venv/bin/python -m pip --quiet install ziglang >&2 || true
    compiles_bpf || say "no compiler for eBPF (apt-get install clang): the kernel tier is left out"
}

links_fuzzer() {
    local out status=0
    out=$(mktemp) || return 1
    printf '#include <stddef.h>\nint LLVMFuzzerTestOneInput(const char *p, size_t n) { return p == 0 && n; }\n' |
        clang -fsanitize=fuzzer,address -x c - -o "$out" >/dev/null 2>&1 || status=1
    rm -f "$out"
    return $status
}

want_clang() {
    links_fuzzer && return
    command -v clang >/dev/null || apt_install clang || true
    if command -v clang >/dev/null && ! links_fuzzer; then
        apt_install "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev" || true
    fi
    links_fuzzer || say "no clang with libFuzzer (apt-get install clang libclang-rt-dev): fuzzing in C is skipped"
}

want_lists() {
    have_lists && return
    can_install || { say "no package lists (apt-get update): the peers cannot be had"; return; }
    apt-get -qq -o DPkg::Lock::Timeout=300 update >&2 || say "apt-get update failed: the peers cannot be had"
}

case "${1:-}" in
venv) need_venv ;;
bpf) want_bpf ;;
clang) want_clang ;;
lists) want_lists ;;
*) fail "usage: tools/setup.sh venv|bpf|clang|lists" ;;
esac
