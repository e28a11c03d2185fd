# SPDX-License-Identifier: MIT
"""Run the benchmark: ``python bench/run.py``. Options: ``--help``. The method is in README.md."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run as a script: make `bench` and `tools` importable
    sys.path.insert(0, str(ROOT))

from bench import netns, peers, render, scenarios, verdict  # noqa: E402
from bench.content import RANGE_FILE, Content, head, hot_path  # noqa: E402
from bench.measure import Load, MeasureError, Meter, hot_symbols, idle_memory_bytes  # noqa: E402
from bench.peers import Running, Site, StartError  # noqa: E402
from bench.scenarios import FLOOR, SCENARIOS, Scenario  # noqa: E402
from bench.verdict import Environment, Results, Row, Sample  # noqa: E402
from tools.fetch_peers import FetchError, peer  # noqa: E402

CACHE: Final = ROOT / ".cache" / "bench"
FIRST_PORT: Final = 8100
BUSY: Final = 0.5  # load average at the start above which a warning is printed
WARM_S: Final = 0.5  # seconds of load before the first round of a server
REWARM_S: Final = 0.1  # and before each later one


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asks for. ``scale`` shrinks what is counted and not timed (--quick)."""

    rounds: int
    seconds: float
    scale: float
    servers: frozenset[str]
    output: Path
    readme: Path | None


@dataclass(frozen=True, slots=True)
class Bench:
    """What every scenario needs at hand."""

    settings: Settings
    content: Content
    meter: Meter
    floor: Path
    results: Results
    measured: set[str]  # names of the scenarios measured in this run: the other rows are older


def main(arguments: Sequence[str]) -> int:
    """Measure, store and render; returns the exit code."""
    parsed = _parse(arguments)
    if parsed.render:
        return _render_only(parsed.quick)
    try:
        netns.enter(Path(__file__).resolve(), arguments)
        network = netns.configure()
        peers.raise_descriptor_limit()
        settings = _settings(parsed)
        load, floor = (_compile(name) for name in ("load", "floor"))
        versions = _versions(settings)
    except (OSError, FetchError, subprocess.CalledProcessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if os.getloadavg()[0] > BUSY:
        print(f"bench: other work runs on this machine (load average {os.getloadavg()[0]:.1f}): expect a wide spread")
    settings = replace(settings, servers=frozenset(name for name in settings.servers if _base(name) in versions))
    file = settings.output / "results.json"
    results = _load(file) or Results(_environment(network, versions))
    results.environment = _environment(network, versions)
    bench = Bench(settings, Content(CACHE), Meter(load), floor, results, set())
    for scenario in SCENARIOS:
        if parsed.only and scenario.name not in parsed.only:
            continue
        print(f"{scenario.name}: {scenario.title}", flush=True)
        try:
            results.rows[scenario.name] = _measure(bench, scenario)
        except (StartError, MeasureError) as error:
            print(f"bench: {scenario.name}: {error}", file=sys.stderr)
            return 1
        bench.measured.add(scenario.name)
        _store(results, settings)
    print(f"bench: {settings.output / 'RESULTS.md'}")
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure tux beside other servers.")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, help=f"scenarios: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, help="rounds of each scenario (5)")
    parser.add_argument("--seconds", type=float, help="seconds of one measurement (2)")
    parser.add_argument("--servers", help=f"comma-separated: {', '.join(peers.SERVERS)} (all)")
    parser.add_argument("--quick", action="store_true",
                        help="one short round into .cache/bench/quick, to see that everything runs")  # fmt: skip
    parser.add_argument("--render", action="store_true", help="measure nothing: render results.json again")
    parsed = parser.parse_args(arguments)
    if parsed.servers is not None:
        unknown = set(parsed.servers.split(",")) - set(peers.SERVERS)
        if unknown:
            parser.error(f"no such server: {', '.join(sorted(unknown))}")
    if (parsed.rounds is not None and parsed.rounds < 1) or (parsed.seconds is not None and parsed.seconds <= 0):
        parser.error("--rounds and --seconds must be positive")
    return parsed


def _output(*, quick: bool) -> Path:
    return CACHE / "quick" if quick else ROOT / "bench"


def _settings(parsed: argparse.Namespace) -> Settings:
    output = _output(quick=parsed.quick)
    output.mkdir(parents=True, exist_ok=True)
    chosen = frozenset(parsed.servers.split(",")) if parsed.servers else frozenset(peers.SERVERS)
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
    results = _load(output / "results.json")
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
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        compiler = os.environ.get("CC", "gcc")
        subprocess.run((compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-pthread", str(source), "-o", str(program)),
                       check=True)  # fmt: skip
    return program


def _versions(settings: Settings) -> dict[str, str]:
    """Versions of the servers that can be measured. Raises FetchError for a peer that cannot be had."""
    versions = {FLOOR: "(floor.c)"}
    if {"tux", "tux-log"} & settings.servers:
        done = subprocess.run((sys.executable, "-m", "tux", "--version"), capture_output=True, text=True, cwd=ROOT)
        if done.returncode == 0:
            versions["tux"] = done.stdout.partition("\n")[0].removeprefix("tux ")
        else:
            print("bench: tux is left out: `python -m tux --version` fails")
    for name in ("nginx", "lighttpd", "h2o"):
        if any(_base(server) == name for server in settings.servers):
            versions[name] = peer(name).version
    return versions


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


# ---- results ---------------------------------------------------------------------------------------------------------


def _load(file: Path) -> Results | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Results)
    except (OSError, msgspec.MsgspecError):
        return None


def _store(results: Results, settings: Settings) -> None:
    (settings.output / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    _render(results, settings.output, settings.readme)


def _render(results: Results, output: Path, readme: Path | None) -> None:
    (output / "RESULTS.md").write_text(render.results_page(results))
    if readme is not None and readme.exists():
        old = readme.read_text()
        new = render.put_between_markers(old, render.readme_table(results))
        if new != old:
            readme.write_text(new)


# ---- measuring -------------------------------------------------------------------------------------------------------


def _measure(bench: Bench, scenario: Scenario) -> Row:
    settings = bench.settings
    bench.content.make_files(scenario)
    bench.content.warm(scenario)
    row = Row(settings.rounds, settings.seconds, dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"))
    match scenario.kind:
        case "throughput" | "rate":
            _throughput(bench, scenario, row)
        case "cold":
            _cold(bench, scenario, row)
        case "flood":
            _flood(bench, scenario, row)
        case "idle":
            _idle(bench, scenario, row)
    return row


@contextlib.contextmanager
def _started(bench: Bench, scenario: Scenario, server: str, port: int) -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as scratch:
        site = Site(bench.content.www, port, Path(scratch), bench.floor, scenario)
        with peers.running(server, site) as running:
            yield running


def _checked(bench: Bench, scenario: Scenario, server: Running) -> str:
    """Compare what the server sends with the file, once, before anything is measured. Returns the file's ETag."""
    if server.name == FLOOR:
        return '"floor"'
    if scenario.requests == "ranges":
        part = bench.content.bytes_of(RANGE_FILE, 1000, scenarios.RANGE_SIZE)
        return peers.check(server, RANGE_FILE, part, 1000)
    path = bench.content.first_path(scenario)
    return peers.check(server, path, bench.content.bytes_of(path))


def _wanted(bench: Bench, scenario: Scenario) -> list[str]:
    return [name for name in scenario.servers if peers.process_of(name) in bench.settings.servers]


def _load_of(bench: Bench, scenario: Scenario, server: Running, etag: str) -> Load:
    return Load(
        requests=bench.content.requests(scenario, server.name, etag),
        port=server.port,
        connections=scenario.connections,
        seconds=bench.settings.seconds,
        threads=scenario.threads,
        pipeline=scenario.pipeline,
        close=scenario.close,
    )


def _throughput(bench: Bench, scenario: Scenario, row: Row) -> None:
    """All servers at once, measured in turn; in the fixed-rate row at a rate that nginx would still sustain."""
    names = _wanted(bench, scenario)
    with contextlib.ExitStack() as stack:
        servers: dict[str, Running] = {}
        loads: dict[str, Load] = {}
        for number, name in enumerate(dict.fromkeys(map(peers.process_of, names))):
            servers[name] = stack.enter_context(_started(bench, scenario, name, FIRST_PORT + number))
            loads[name] = _load_of(bench, scenario, servers[name], _checked(bench, scenario, servers[name]))
        rate = None
        if scenario.kind == "rate":
            rate = _offered(bench, servers, loads)
            row.notes.append(f"Offered: {rate:,.0f} requests/s.")
            row.seconds = bench.settings.seconds * 2  # the noisiest figure: longer rounds
        for number in range(row.rounds):
            for name in names:
                server, load = servers[peers.process_of(name)], loads[peers.process_of(name)]
                bench.meter.run(replace(load, seconds=REWARM_S if number else WARM_S), server.pid)
                # Another part of the list in every round: a random order is then not the same one again.
                load = replace(load, rate=rate, start=number * 16_384, seconds=row.seconds)
                _note(row, name, number, bench.meter.run(load, server.pid))
        _profile(bench, scenario, row, servers.get("tux"), loads.get("tux"))


def _offered(bench: Bench, servers: dict[str, Running], loads: dict[str, Load]) -> float:
    """The fixed rate: a share of nginx's maximum in the hot 1 KiB row of this run, else measured here."""
    fresh = "hot-1k" in bench.measured
    maximum = verdict.median(bench.results.rows["hot-1k"], "nginx", "rate") if fresh else None
    if maximum is None:
        name = "nginx" if "nginx" in servers else next(iter(servers))
        rates = [bench.meter.run(replace(loads[name], seconds=1.0), servers[name].pid)["rate"] for _ in range(3)]
        maximum = statistics.median(rates)
    return round(maximum * scenarios.OFFERED)


def _cold(bench: Bench, scenario: Scenario, row: Row) -> None:
    """Every file once, from a server that was started for it: nothing is remembered from before."""
    count = int(scenarios.COLD_FILES * bench.settings.scale)
    row.rounds = min(row.rounds, 3)
    row.notes.append(f"{count:,} files; the server is started anew for each measurement.")
    for number in range(row.rounds):
        for name in _wanted(bench, scenario):
            with _started(bench, scenario, name, FIRST_PORT) as server:
                etag = _checked(bench, scenario, server)
                load = replace(_load_of(bench, scenario, server, etag), count=count, seconds=120.0)
                _note(row, name, number, bench.meter.run(load, server.pid))
    if _missed(scenario, row):
        with _started(bench, scenario, "tux", FIRST_PORT) as server:
            load = replace(_load_of(bench, scenario, server, ""), count=count, seconds=5.0)
            _profile(bench, scenario, row, server, load)


def _flood(bench: Bench, scenario: Scenario, row: Row) -> None:
    """Hits at a fixed rate, alone and then beside a flood of requests that are all different."""
    per_round = int(scenarios.FLOOD_REQUESTS * bench.settings.scale) // row.rounds
    flood = bench.content.flood(per_round * row.rounds)
    row.notes.append(
        f"Hits: {scenarios.SET_FILES:,} files in turn, {scenarios.FLOOD_HOT_RATE:,}/s. "
        f"Flood: {scenarios.FLOOD_RATE:,}/s, {per_round * row.rounds:,} distinct in all."
    )
    seconds = row.seconds = per_round / scenarios.FLOOD_RATE
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(_started(bench, scenario, name, FIRST_PORT + number))
            for number, name in enumerate(_wanted(bench, scenario))
        ]
        loads = {one.name: _load_of(bench, scenario, one, _checked(bench, scenario, one)) for one in servers}
        for number in range(row.rounds):
            for server in servers:
                hot = replace(loads[server.name], seconds=max(bench.settings.seconds / 2, 0.5))
                fixed = replace(hot, rate=float(scenarios.FLOOD_HOT_RATE), seconds=seconds)
                misses = Load(flood, server.port, 16, seconds, rate=float(scenarios.FLOOD_RATE),
                              count=per_round, start=number * per_round)  # fmt: skip
                bench.meter.run(replace(hot, seconds=WARM_S), server.pid)
                before = bench.meter.run(hot, server.pid)
                alone = bench.meter.run(fixed, server.pid)
                with bench.meter.background(misses) as flooding:
                    beside = bench.meter.run(fixed, server.pid)
                    flooding.wait()
                after = bench.meter.run(hot, server.pid)
                figures = dict(before)
                for name in ("wrong", "errors", "unsent", "requests"):
                    figures[name] = sum(part[name] for part in (before, alone, beside, after))
                figures |= {
                    "p99_us": alone["p99_us"],
                    "p99_flood_us": beside["p99_us"],
                    "cpu_after_us": after["cpu_us"],
                }
                _note(row, server.name, number, figures)


def _idle(bench: Bench, scenario: Scenario, row: Row) -> None:
    """User memory of connections that made a request and rest."""
    assert scenario.size is not None
    count = int(scenario.connections * bench.settings.scale)
    row.rounds = 1
    row.notes.append(f"{count:,} connections; growth of the proportional set size of all processes of the server.")
    for name in _wanted(bench, scenario):
        with _started(bench, scenario, name, FIRST_PORT) as server:
            _checked(bench, scenario, server)
            memory = idle_memory_bytes(server.port, server.pid, head(hot_path(scenario.size)), count)
            _note(row, name, 0, {"memory_bytes": memory, "requests": float(count)})


def _note(row: Row, server: str, number: int, figures: dict[str, float]) -> None:
    row.samples.append(Sample(server, number, figures))
    shown = ("rate", "cpu_us", "machine_us", "p99_us", "p99_flood_us", "cpu_after_us", "memory_bytes")
    text = "  ".join(f"{name} {figures[name]:,.1f}" for name in shown if name in figures)
    print(f"  {number + 1}/{row.rounds} {server:<17}{text}", flush=True)


def _missed(scenario: Scenario, row: Row) -> bool:
    return any(verdict.judge(row, target).verdict == "no" for target in scenario.targets)


def _profile(bench: Bench, scenario: Scenario, row: Row, server: Running | None, load: Load | None) -> None:
    """Where a target was missed, say where tux spends its time; the figures are not taken from this run."""
    perf = shutil.which("perf")
    if perf is None or server is None or load is None or not _missed(scenario, row):
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        row.profile = hot_symbols(server.pid, load, bench.meter, Path(folder), perf)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
