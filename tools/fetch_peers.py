# SPDX-License-Identifier: MIT
"""Unpack the servers and clients that only tests and benchmarks need into ``.cache/peers``.

``python tools/fetch_peers.py [NAME...]`` prints the path of each; ``peer("nginx")`` is the same from Python.

Debian packages are downloaded with ``apt-get download`` (apt checks their signatures) and unpacked with ``dpkg -x``.
Nothing is installed into the system and nothing is started. A shared library that the system does not have is
unpacked beside the program, and is found through the LD_LIBRARY_PATH of ``Peer.env``. A second call finds the
unpacked program and downloads nothing. It needs the package lists (``apt-get update``), and not the root user.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).resolve().parent.parent / ".cache" / "peers"
READY: Final = "ready.json"  # written last: a folder without it is incomplete and is made anew


class FetchError(Exception):
    """A peer cannot be had; the text is one line that names the reason and, where there is one, the remedy."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Where a program comes from: its Debian packages (the first that exists is taken) and its path inside."""

    packages: tuple[str, ...]
    program: str
    also: tuple[str, ...] = ()
    """Packages with data that it needs; libraries are found by themselves."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An unpacked program. ``env`` holds the additional environment that it must be started with."""

    name: str
    path: Path
    env: dict[str, str]
    root: Path  # what is / in the package: modules and data files are below it
    version: str  # of the Debian package


RECIPES: Final[dict[str, Recipe]] = {
    # Before Debian 12 the package nginx was empty, and the program was in nginx-core.
    "nginx": Recipe(("nginx", "nginx-core"), "usr/sbin/nginx"),
    "lighttpd": Recipe(("lighttpd",), "usr/sbin/lighttpd"),
    "h2o": Recipe(("h2o",), "usr/bin/h2o"),
    "apache2": Recipe(("apache2-bin",), "usr/sbin/apache2"),
    # libbpf in a program: what the kernel tier's loader is compared with.
    "bpftool": Recipe(("bpftool",), "usr/sbin/bpftool"),
    "wrk": Recipe(("wrk",), "usr/bin/wrk"),
    "h2load": Recipe(("nghttp2-client",), "usr/bin/h2load"),
    "ab": Recipe(("apache2-utils",), "usr/bin/ab"),
    # usr/bin/chromium is a script for desktops.
    "chromium": Recipe(("chromium",), "usr/lib/chromium/chromium", ("chromium-common",)),
}


def peer(name: str, cache: Path = CACHE) -> Peer:
    """Return the program called ``name``, unpacking it first when it is not in ``cache``.

    Raises FetchError for an unknown name and for a program that cannot be downloaded or does not load.
    """
    recipe = RECIPES.get(name)
    if recipe is None:
        raise FetchError(f"no peer is called {name!r}; known: {', '.join(RECIPES)}")
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        known = _ready(name, recipe, cache / name)
        if known is not None:
            return known
        _unpack(name, recipe, cache)
        fresh = _ready(name, recipe, cache / name)
    if fresh is None:
        raise FetchError(f"{name}: package {recipe.packages[0]} does not contain {recipe.program}")
    return fresh


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, so that two test processes do not unpack the same program at the same time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _ready(name: str, recipe: Recipe, folder: Path) -> Peer | None:
    try:
        record = json.loads((folder / READY).read_text())
    except (OSError, ValueError):
        return None
    program = folder / "root" / recipe.program
    if not program.is_file():
        return None
    env = _environment(folder / "root")
    return Peer(name=name, path=program, env=env, root=folder / "root", version=str(record["version"]))


def _environment(root: Path) -> dict[str, str]:
    """LD_LIBRARY_PATH over the library folders below ``root``: usr/lib/<triplet> and its older places."""
    candidates = [*sorted(root.glob("usr/lib/*-linux-gnu*")), root / "usr/lib", *sorted(root.glob("lib/*-linux-gnu*"))]
    candidates += sorted(root.glob("usr/lib/*-linux-gnu*/pulseaudio"))  # a library that only others of its package use
    folders = [str(folder) for folder in candidates if any(folder.glob("*.so*"))]
    return {"LD_LIBRARY_PATH": ":".join(folders)} if folders else {}


def _unpack(name: str, recipe: Recipe, cache: Path) -> None:
    for tool in ("apt-get", "apt-cache", "dpkg", "dpkg-query", "ldd"):
        if shutil.which(tool) is None:
            raise FetchError(f"{name}: needs {tool}, which is part of a Debian system")
    package, version = _candidate(name, recipe)
    staging = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=cache))
    try:
        root = staging / "root"
        root.mkdir()
        for wanted in (package, *recipe.also, *_missing_libraries(package)):
            _download(wanted, staging)
        for archive in sorted(staging.glob("*.deb")):
            _run(("dpkg", "-x", str(archive), str(root)), staging)
            archive.unlink()
        absent = _unresolved(root / recipe.program, _environment(root))
        if absent:
            raise FetchError(f"{name}: no package of its dependencies holds {', '.join(absent)}")
        (staging / READY).write_text(json.dumps({"package": package, "version": version}) + "\n")
        target = cache / name
        shutil.rmtree(target, ignore_errors=True)
        staging.chmod(0o755)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _candidate(name: str, recipe: Recipe) -> tuple[str, str]:
    for package in recipe.packages:
        policy = _run(("apt-cache", "policy", package), Path("/"))
        found = re.search(r"^\s*Candidate: (\S+)$", policy, re.MULTILINE)
        if found is not None and found[1] != "(none)":
            return package, found[1]
    raise FetchError(f"{name}: apt knows no package {recipe.packages[0]}; run `apt-get update` as root first")


def _missing_libraries(package: str) -> list[str]:
    """Names of the library packages that ``package`` depends on, through other libraries too, not yet installed."""
    seen: set[str] = set()
    missing: list[str] = []
    queue = [package]
    while queue:
        for name in _dependencies(queue.pop()):
            if name in seen or not name.startswith("lib"):
                continue
            seen.add(name)
            if not _installed(name):
                missing.append(name)
                queue.append(name)
    return missing


def _dependencies(package: str) -> list[str]:
    """Direct dependencies of ``package``; of alternatives the installed one, else the first that exists."""
    text = _run(("apt-cache", "depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks",
                 "--no-replaces", "--no-enhances", package), Path("/"))  # fmt: skip
    return [next((name for name in group if _installed(name)), group[0]) for group in parse_depends(text)]


def parse_depends(text: str) -> list[list[str]]:
    """Groups of alternatives in the output of ``apt-cache depends``.

    A line ``|Depends: a`` says that the next one is its alternative. A name in angle brackets is virtual: the
    packages that provide it follow, one a line, indented deeper.
    """
    groups: list[list[str]] = []
    open_group = False
    for line in text.splitlines():
        entry = re.fullmatch(r" {1,2}(\|?)(?:Pre)?Depends: (\S+)", line)
        if entry is not None:
            if not open_group:
                groups.append([])
            if not entry[2].startswith("<"):
                groups[-1].append(entry[2].partition(":")[0])
            open_group = entry[1] == "|"
        elif groups and re.fullmatch(r" {4}\S+", line):
            groups[-1].append(line.strip().partition(":")[0])
    return [group for group in groups if group]


def _installed(package: str) -> bool:
    query = subprocess.run(
        ("dpkg-query", "-W", "-f=${db:Status-Status}\n", package), capture_output=True, text=True, check=False
    )
    return query.returncode == 0 and "installed" in query.stdout.split()


def _download(package: str, folder: Path) -> None:
    # As root, apt would fetch as the user _apt, who cannot write into our folder.
    command = ("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package)
    try:
        _run(command, folder)
    except FetchError as error:
        raise FetchError(f"{error}; are the package lists current (`apt-get update`)?") from None


def _unresolved(program: Path, env: dict[str, str]) -> list[str]:
    """Sonames that the loader does not find for ``program``."""
    if not program.is_file():
        return []
    listing = _run(("ldd", str(program)), Path("/"), env)
    return sorted(set(re.findall(r"^\s*(\S+) => not found$", listing, re.MULTILINE)))


def _run(command: Sequence[str], folder: Path, env: dict[str, str] | None = None) -> str:
    """Run ``command`` in ``folder`` and return its output. Raises FetchError with its last line of complaint."""
    merged = {**os.environ, "LC_ALL": "C", **(env or {})}
    done = subprocess.run(command, cwd=folder, env=merged, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise FetchError(f"{' '.join(command[:1])} failed for {command[-1]}: {lines[-1].removeprefix('E: ')}")
    return done.stdout


def main(arguments: Sequence[str]) -> int:
    """Print the path of each peer that is named, of all when none is. Exit code 1 when one cannot be had."""
    for name in arguments or RECIPES:
        try:
            print(peer(name).path)
        except FetchError as error:
            print(f"fetch_peers: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
