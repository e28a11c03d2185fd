# SPDX-License-Identifier: MIT
"""Run the benchmark: ``python bench/run.py``. Options: ``--help``. The method is in README.md."""

from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run as a script: make `bench` and `tools` importable
    sys.path.insert(0, str(ROOT))

from bench import netns, peers, render, rows, tier  # noqa: E402
from bench.content import Content  # noqa: E402
from bench.measure import MeasureError, Meter  # noqa: E402
from bench.peers import StartError  # noqa: E402
from bench.rows import Bench, Settings  # noqa: E402
from bench.scenarios import FLOOR, SCENARIOS, TIER, Scenario  # noqa: E402
from bench.soak import SoakError  # noqa: E402
from bench.verdict import Environment, Results  # noqa: E402
from tools.fetch_peers import RECIPES, FetchError, peer  # noqa: E402

CACHE: Final = ROOT / ".cache" / "bench"
BUSY: Final = 0.5  # load average at the start above which a warning is printed


def main(arguments: Sequence[str]) -> int:
    """Measure, store and render; returns the exit code."""
    parsed = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # servers are stopped then, too
    if parsed.render:
        return _render_only(parsed.quick)
    try:
        settings = _settings(parsed)
        _fetch(settings)  # in the namespace there is no way to the network
        netns.enter(Path(__file__).resolve(), arguments)
        network = netns.configure()
        bpffs = netns.mount_bpffs(CACHE / "bpffs")
        peers.raise_descriptor_limit()
        load, floor, wsload, soaker = (_compile(name) for name in ("load", "floor", "wsload", "soak"))
        versions = _versions(settings)
    except (OSError, FetchError, subprocess.CalledProcessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if os.getloadavg()[0] > BUSY:
        print(f"bench: other work runs on this machine (load average {os.getloadavg()[0]:.1f}): expect a wide spread")
    settings = replace(settings, servers=frozenset(name for name in settings.servers if _base(name) in versions))
    environment = _environment(network, versions)
    try:
        results = _load(settings.output / "results.json") or Results(environment)
    except msgspec.MsgspecError as error:
        print(f"bench: {settings.output / 'results.json'} cannot be read, and would be lost: {error}", file=sys.stderr)
        return 1
    # Rows that are not measured now stay, and with them the versions of servers that are in no other row.
    results.environment = msgspec.structs.replace(
        environment, versions={**results.environment.versions, **environment.versions}
    )
    revision = _revision()
    bench = Bench(settings, Content(CACHE), Meter(load), floor, wsload, soaker, bpffs, results, set())
    why_not = tier.missing(bpffs)
    for scenario in SCENARIOS:
        if not _is_chosen(parsed, scenario):
            continue
        print(f"{scenario.name}: {scenario.title}", flush=True)
        if scenario.needs_tier and TIER in settings.servers and why_not:
            print(f"  skipped: {why_not}", flush=True)
            continue
        try:
            row = rows.measure(bench, scenario)
        except (OSError, StartError, MeasureError, SoakError, tier.TierError) as error:
            print(f"bench: {scenario.name}: {error}", file=sys.stderr)
            return 1
        row.versions = {
            name: versions[name] for name in dict.fromkeys(map(_base, scenario.servers)) if name in versions
        }
        row.revision = revision
        results.rows[scenario.name] = row
        bench.measured.add(scenario.name)
        _store(results, settings)
    print(f"bench: {settings.output / 'RESULTS.md'}")
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure tux beside other servers.")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"scenarios, * allowed: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, help="rounds of each scenario (5)")
    parser.add_argument("--seconds", type=float, help="seconds of one measurement (2)")
    parser.add_argument("--servers", help=f"comma-separated: {', '.join(peers.SERVERS)} (all)")
    parser.add_argument("--quick", action="store_true",
                        help="one short round into .cache/bench/quick, to see that everything runs")  # fmt: skip
    parser.add_argument("--render", action="store_true", help="measure nothing: render results.json again")
    parsed = parser.parse_args(arguments)
    for pattern in parsed.only or ():
        if not fnmatch.filter(names, pattern):
            parser.error(f"no such scenario: {pattern}")
    if parsed.servers is not None:
        unknown = set(parsed.servers.split(",")) - set(peers.SERVERS)
        if unknown:
            parser.error(f"no such server: {', '.join(sorted(unknown))}")
    if (parsed.rounds is not None and parsed.rounds < 1) or (parsed.seconds is not None and parsed.seconds <= 0):
        parser.error("--rounds and --seconds must be positive")
    return parsed


def _is_chosen(parsed: argparse.Namespace, scenario: Scenario) -> bool:
    return not parsed.only or any(fnmatch.fnmatch(scenario.name, pattern) for pattern in parsed.only)


def _output(*, quick: bool) -> Path:
    return CACHE / "quick" if quick else ROOT / "bench"


def _settings(parsed: argparse.Namespace) -> Settings:
    output = _output(quick=parsed.quick)
    output.mkdir(parents=True, exist_ok=True)
    chosen = frozenset(parsed.servers.split(",")) if parsed.servers else frozenset(peers.SERVERS)
    rows_chosen = [scenario for scenario in SCENARIOS if _is_chosen(parsed, scenario)]
    chosen &= {peers.process_of(name) for scenario in rows_chosen for name in scenario.servers}
    return Settings(
        rounds=parsed.rounds or (1 if parsed.quick else 5),
        seconds=parsed.seconds or (0.5 if parsed.quick else 2.0),
        scale=0.1 if parsed.quick else 1.0,
        servers=chosen,
        output=output,
        readme=None if parsed.quick else ROOT / "README.md",
    )


def _render_only(quick: bool) -> int:  # noqa: FBT001
    output = _output(quick=quick)
    try:
        results = _load(output / "results.json")
    except msgspec.MsgspecError as error:
        print(f"bench: {output / 'results.json'} cannot be read: {error}", file=sys.stderr)
        return 1
    if results is None:
        print(f"bench: no results in {output}", file=sys.stderr)
        return 1
    _render(results, output, None if quick else ROOT / "README.md")
    return 0


# ---- what is there ---------------------------------------------------------------------------------------------------


def _base(server: str) -> str:
    return server.partition("-")[0]


def _compile(name: str) -> Path:
    source, program = ROOT / "bench" / f"{name}.c", CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    newest = max(file.stat().st_mtime for file in (source, *source.parent.glob("*.h")))
    if not program.exists() or program.stat().st_mtime < newest:
        compiler = os.environ.get("CC", "gcc")
        subprocess.run((compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-pthread", str(source), "-o", str(program)),
                       check=True)  # fmt: skip
    return program


def _versions(settings: Settings) -> dict[str, str]:
    """Versions of the servers that can be measured. Raises FetchError."""
    versions = {FLOOR: "(floor.c)"}
    if any(_base(server) == "tux" for server in settings.servers):
        done = subprocess.run((sys.executable, "-m", "tux", "--version"), capture_output=True, text=True, cwd=ROOT)
        if done.returncode == 0:
            versions["tux"] = done.stdout.partition("\n")[0].removeprefix("tux ")
        else:
            print("bench: tux is left out: `python -m tux --version` fails")
    for name in ("granian", "uvicorn", "gunicorn", "fastpysgi"):
        if any(_base(server) == name for server in settings.servers):
            versions[name] = importlib.metadata.version(name)
    return versions | {name: peer(name).version for name in _peers(settings)}


def _peers(settings: Settings) -> list[str]:
    return [name for name in RECIPES if name in map(_base, settings.servers)]


def _fetch(settings: Settings) -> None:
    """Unpack the peers, unless they are there. Raises FetchError for one that cannot be had."""
    for name in _peers(settings):
        peer(name)


def _environment(network: netns.Network, versions: dict[str, str]) -> Environment:
    processor = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.machine(),
    )  # fmt: skip
    compiler = subprocess.run((os.environ.get("CC", "gcc"), "--version"), capture_output=True, text=True)
    return Environment(
        processor=processor,
        processors=os.cpu_count() or 1,
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        kernel=platform.release(),
        mtu=network.mtu,
        congestion=network.congestion,
        compiler=compiler.stdout.partition("\n")[0],
        versions={**versions, "Python": platform.python_version()},
        load_average=os.getloadavg()[0],
    )


def _revision() -> str:
    done = subprocess.run(("git", "describe", "--always", "--dirty=+", "--exclude=*"), capture_output=True, text=True,
                          cwd=ROOT)  # fmt: skip
    return done.stdout.strip() if done.returncode == 0 else ""


# ---- results ---------------------------------------------------------------------------------------------------------


def _load(file: Path) -> Results | None:
    """None: there are none. Raises OSError, msgspec.MsgspecError: what is there is not what it should be."""
    return msgspec.json.decode(file.read_bytes(), type=Results) if file.exists() else None


def _store(results: Results, settings: Settings) -> None:
    file = settings.output / "results.json"
    new = file.with_suffix(".new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    new.replace(file)  # at no moment it is there by half
    _render(results, settings.output, settings.readme)


def _render(results: Results, output: Path, readme: Path | None) -> None:
    (output / "RESULTS.md").write_text(render.results_page(results))
    if readme is not None and readme.exists():
        old = readme.read_text()
        new = render.put_between_markers(old, render.readme_table(results))
        if new != old:
            readme.write_text(new)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
