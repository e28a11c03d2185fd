# SPDX-License-Identifier: MIT
"""How each kind of scenario is measured: which server when, how often, with what offered."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench import behind, netns, peers, scenarios, soak, tier, verdict
from bench.content import HOST, RANGE_FILE, Content, head, hot_path
from bench.hello import HELLO, SLOW_S
from bench.measure import Load, Meter, hot_symbols, idle_memory_bytes
from bench.netns import Place
from bench.peers import Running, Site
from bench.scenarios import AUTO, FLOOR, TIER, Case, Scenario
from bench.tier import Audit, Log
from bench.verdict import Results, Row, Sample

FIRST_PORT: Final = 8100
WARM_S: Final = 0.5  # seconds of load before the first round of a server
REWARM_S: Final = 0.1  # and before each later one
JUDGE_S: Final = 60.0  # seconds of load until `auto` must have judged: it takes some 15
DISTURBED: Final = 0.2  # processors that do other work, in the median, above which a row says so
LOOPBACK: Final = Place("127.0.0.1", "lo", netns.MTU)
ATTEMPTS: Final = 4  # of a measurement beside which something else ran
FAULTS: Final = ("wrong", "errors", "unsent", "unlogged", "requests")  # figures that are added up over parts of a round


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
    wsload: Path
    soak: Path
    bpffs: str  # a mounted bpffs of our own; "": there is none
    results: Results
    measured: set[str]  # names of the scenarios measured in this run: the other rows are older


def measure(bench: Bench, scenario: Scenario) -> Row:
    """Measure one scenario, all rounds. Raises OSError, StartError, MeasureError, TierError, SoakError."""
    settings = bench.settings
    bench.content.make_files(scenario)
    bench.content.warm(scenario)
    row = Row(settings.rounds, settings.seconds, dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"))
    match scenario.kind:
        case "throughput" | "rate":
            with netns.place(scenario.link) as place:
                _throughput(bench, scenario, row, place)
        case "cpu":
            with netns.place(scenario.link) as place:
                _cpu(bench, scenario, row, place)
        case "cold":
            _cold(bench, scenario, row)
        case "flood":
            _flood(bench, scenario, row)
        case "idle":
            _idle(bench, scenario, row)
        case "beside":
            _beside(bench, scenario, row)
        case "echo":
            _echo(bench, scenario, row)
        case "misses":
            with netns.place(scenario.link) as place:
                _misses(bench, scenario, row, place)
        case "sizes":
            _cases(bench, scenario, row, scenarios.SIZES)
        case "miss-ratio":
            _cases(bench, scenario, row, scenarios.MISS_RATIOS)
        case "foreign":
            _foreign(bench, scenario, row)
    other = [sample.figures["other_cpus"] for sample in row.samples if "other_cpus" in sample.figures]
    if other and statistics.median(other) > DISTURBED:
        row.notes.append(
            f"DISTURBED: {statistics.median(other):.2f} processors were busy with neither server nor load generator."
        )
        print(f"  {row.notes[-1]}", flush=True)
    return row


@contextlib.contextmanager
def _started(bench: Bench, scenario: Scenario, server: str, port: int, place: Place = LOOPBACK) -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as scratch:
        site = Site(bench.content.www, port, Path(scratch), bench.floor, scenario, place, bench.bpffs)
        with peers.running(server, site) as running:
            yield running


@dataclass(frozen=True, slots=True)
class Ready:
    """A server that was started and checked, and what is offered to it."""

    server: Running
    load: Load
    audit: Audit


@contextlib.contextmanager
def _all_ready(bench: Bench, scenario: Scenario, place: Place) -> Iterator[dict[str, Ready]]:
    """All servers of the scenario, by name; their access logs are empty."""
    ready: dict[str, Ready] = {}
    with contextlib.ExitStack() as stack:
        for number, name in enumerate(dict.fromkeys(map(peers.process_of, _wanted(bench, scenario)))):
            server = stack.enter_context(_started(bench, scenario, name, FIRST_PORT + number, place))
            load = _load_of(bench, scenario, server, _checked(bench, scenario, server))
            log = Log(peers.log_of(server.scratch)) if peers.log_of(server.scratch).exists() else None
            if log is not None:
                log.rest()
            audit = Audit(server.pid, log, bench.bpffs if name in (TIER, AUTO) else "", counted=name.startswith("tux"))
            ready[name] = Ready(server, load, audit)
        yield ready


def _run(bench: Bench, ready: Ready, load: Load, watch: Callable[[], object] = int) -> dict[str, float]:
    return ready.audit.around(lambda: bench.meter.run(load, ready.server.pid, watch))


def _checked(bench: Bench, scenario: Scenario, server: Running) -> str:
    """Compare what the server sends with the file, once, before anything is measured. Returns the file's ETag."""
    if server.name == FLOOR:
        return '"floor"'
    if scenario.requests == "hello":
        peers.check(server, "/hello", HELLO, static=False)
        return ""
    if server.name.endswith("-forward"):
        return _checked_forward(scenario, server)
    if scenario.requests == "ranges":
        part = bench.content.bytes_of(RANGE_FILE, 1000, scenarios.RANGE_SIZE)
        return peers.check(server, RANGE_FILE, part, 1000)
    path = bench.content.first_path(scenario)
    return peers.check(server, path, bench.content.bytes_of(path))


def _checked_forward(scenario: Scenario, server: Running) -> str:
    """What the floor answers with, whatever is in the file of that name: zeros."""
    assert scenario.size is not None
    got = peers.probe(server, hot_path(scenario.size), {"Host": HOST})
    if got.status != scenario.status or got.length != scenario.size:
        raise peers.StartError(f"{server.name}: {got.status} with {got.length} bytes, expected {scenario.size}")
    return ""


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
        address=server.address,
    )


def _throughput(bench: Bench, scenario: Scenario, row: Row, place: Place) -> None:
    """All servers at once, measured in turn; in a fixed-rate row at a rate that nginx would still sustain."""
    with _all_ready(bench, scenario, place) as ready:
        rate = None
        if scenario.kind == "rate":
            rate = _offered(bench, ready, scenario.name == "fixed-rate")
            bursts = "" if scenario.tick_us is None else f", in bursts every {scenario.tick_us} us"
            row.notes.append(f"Offered: {rate:,.0f} requests/s{bursts}.")
            row.seconds = bench.settings.seconds * 2  # the noisiest figure: longer rounds
        if AUTO in ready:
            row.notes.append(
                "tux-auto has the default mode, `--kernel auto`, and is measured when that has judged, under the same "
                "load, and no connection needs the programs any more (`tux kernel status`: resting). tux-kernel has "
                "`on`, which takes up every connection. Packets of all servers pass the programs of both, as those of "
                "other ports do."
            )
        for number in range(row.rounds):
            for name in _wanted(bench, scenario):
                one = ready[peers.process_of(name)]
                _run(bench, one, replace(one.load, seconds=REWARM_S if number else WARM_S))
                if name == AUTO:
                    _let_judge(bench, one)
                # Another part of the list in every round: a random order is then not the same one again.
                load = replace(one.load, rate=rate, start=number * 16_384, seconds=row.seconds)
                if rate is not None:
                    load = replace(load, tick_us=scenario.tick_us)
                _note(row, name, number, _run(bench, one, load))
        subjects = [target.subject for target in scenario.targets] if scenario.needs_tier else ["tux"]
        _profile(bench, scenario, row, ready.get(subjects[0]))


def _let_judge(bench: Bench, ready: Ready) -> None:
    """Offer the load until the mode `auto` has judged it, and the programs rest. Raises TierError."""
    end = time.monotonic() + JUDGE_S
    while not tier.rests(bench.bpffs, ready.server.pid):
        if time.monotonic() > end:
            raise tier.TierError(f"{ready.server.name} did not pause within {JUDGE_S:.0f} s")
        _run(bench, ready, replace(ready.load, seconds=1.0))


def _cpu(bench: Bench, scenario: Scenario, row: Row, place: Place) -> None:
    """CPU of the whole machine at a fixed rate, by what is left to a soaker; calibrated before and after each."""
    with _all_ready(bench, scenario, place) as ready:
        rate = _offered(bench, ready, like_hot_1k=False)
        row.seconds = bench.settings.seconds * 2
        row.notes.append(f"Offered: {rate:,.0f} requests/s, in bursts every {scenario.tick_us} us.")
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            with soak.running(bench.soak, Path(folder) / "counts") as soaker:
                row.notes += [_check(soaker, busy, period) for busy, period in soak.CHECKS]
                drifts = [
                    _cpu_round(bench, scenario, row, ready, soaker, number, float(rate)) for number in range(row.rounds)
                ]
            row.notes.append(
                "The soaker's full speed before and after a measurement differed by "
                f"{statistics.median(itertools.chain(*drifts)) * 100:.2f} % (median); the mean of the two is 100 %."
            )


def _cpu_round(
    bench: Bench, scenario: Scenario, row: Row, ready: dict[str, Ready], soaker: soak.Soaker, number: int, rate: float
) -> list[float]:
    """Each server once. Returns how far the calibrations around each measurement were apart."""
    drifts: list[float] = []
    for name in _wanted(bench, scenario):
        one = ready[peers.process_of(name)]
        _run(bench, one, replace(one.load, seconds=REWARM_S if number else WARM_S))
        load = replace(one.load, rate=rate, seconds=row.seconds, tick_us=scenario.tick_us)
        figures, drift, calm = _soaked(bench, one, load, soaker)
        for _ in range(ATTEMPTS - 1):
            if calm:
                break
            print(f"  {name}: something else ran; once more", flush=True)
            figures, drift, calm = _soaked(bench, one, load, soaker)
        if not calm:
            row.notes.append(f"DISTURBED: something else ran beside {name} in round {number + 1}.")
        drifts.append(drift)
        _note(row, name, number, figures)
    return drifts


def _soaked(bench: Bench, ready: Ready, load: Load, soaker: soak.Soaker) -> tuple[dict[str, float], float, bool]:
    """One measurement beside the soaker: its figures, how far the calibrations were apart, and whether the machine was
    calm right before and after."""
    readings: list[soak.Reading] = []
    before = soaker.calm()
    figures = _run(bench, ready, load, lambda: readings.append(soaker.read()))
    after = soaker.calibrate()
    begin, end = readings
    figures["soaked_us"] = soak.busy_us(begin, end, soak.mean(before, after)) / max(figures["requests"], 1)
    for tick in ("machine_us", "other_cpus"):
        figures.pop(tick)  # the soaker is in them
    return figures, soak.drift(before, after), soaker.is_calm(after)


def _check(soaker: soak.Soaker, busy: int, period: int) -> str:
    used, seen = soaker.check(busy, period)
    text = (
        f"Check of the method, {busy:,} us of CPU each {period:,} us: {used / 1000:.1f} ms used, {seen / 1000:.1f} ms "
        f"seen ({(seen / used - 1) * 100:+.1f} %)."
    )
    print(f"  {text}", flush=True)
    return text


def _offered(bench: Bench, ready: dict[str, Ready], like_hot_1k: bool) -> float:  # noqa: FBT001
    """The fixed rate: a share of nginx's maximum in the hot 1 KiB row of this run, else measured here."""
    fresh = like_hot_1k and "hot-1k" in bench.measured
    maximum = verdict.median(bench.results.rows["hot-1k"], "nginx", "rate") if fresh else None
    if maximum is None:
        name = next((name for name in ready if name.startswith("nginx")), next(iter(ready)))
        maximum = _sustained(bench, ready[name], ready[name].load)
    return round(maximum * scenarios.OFFERED)


def _sustained(bench: Bench, ready: Ready, load: Load) -> float:
    """Answers/s in the closed loop."""
    return statistics.median(_run(bench, ready, replace(load, seconds=1.0))["rate"] for _ in range(3))


def _cold(bench: Bench, scenario: Scenario, row: Row) -> None:
    """Every file once, from a server that was started for it: nothing is remembered from before."""
    count = int(scenarios.COLD_FILES * bench.settings.scale)
    row.rounds = min(row.rounds, 3)
    row.notes.append(f"{count:,} files; the server is started anew for each measurement.")
    for number in range(row.rounds):
        for name in _wanted(bench, scenario):
            bench.content.warm(scenario)
            with _started(bench, scenario, peers.process_of(name), FIRST_PORT) as server:
                etag = _checked(bench, scenario, server)
                load = replace(_load_of(bench, scenario, server, etag), count=count, seconds=120.0)
                _note(row, name, number, bench.meter.run(load, server.pid))
    if _missed(scenario, row):
        with _started(bench, scenario, "tux", FIRST_PORT) as server:
            load = replace(_load_of(bench, scenario, server, ""), count=count, seconds=5.0)
            _profile(bench, scenario, row, Ready(server, load, Audit(server.pid)))


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


def _echo(bench: Bench, scenario: Scenario, row: Row) -> None:
    """All servers at once, measured in turn, by the load generator for WebSockets."""
    meter = Meter(bench.wsload)
    row.notes.append("A text of 32 bytes each way; no compression; the load generator has one thread.")
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(_started(bench, scenario, name, FIRST_PORT + number))
            for number, name in enumerate(_wanted(bench, scenario))
        }
        for number in range(row.rounds):
            for name, server in servers.items():
                load = _load_of(bench, scenario, server, "")
                meter.run(replace(load, seconds=REWARM_S if number else WARM_S), server.pid)
                _note(row, name, number, meter.run(load, server.pid))


def _beside(bench: Bench, scenario: Scenario, row: Row) -> None:
    """Hits at a fixed rate: without what the row is about, and beside it."""
    path = f"/{scenario.name.removeprefix('beside-')}"
    seconds = row.seconds = bench.settings.seconds * 2
    row.notes.append(f"Hits: {scenarios.FLOOD_HOT_RATE:,}/s. The application has one process with one thread.")
    if not _wanted(bench, scenario):
        return
    with _started(bench, scenario, scenario.servers[0], FIRST_PORT) as server:
        load = _load_of(bench, scenario, server, _checked(bench, scenario, server))
        fixed = replace(load, rate=float(scenarios.FLOOD_HOT_RATE), seconds=seconds)
        busy = Load(bench.content.plain(path), server.port, 1, seconds + 5.0)
        bench.meter.run(replace(load, seconds=WARM_S), server.pid)
        for number in range(row.rounds):
            with _burning() if path == "/burn" else contextlib.nullcontext():
                alone = bench.meter.run(fixed, server.pid)
            with bench.meter.background(busy):
                beside = bench.meter.run(fixed, server.pid)
            figures = beside | {"p99_us": alone["p99_us"], "p99_beside_us": beside["p99_us"]}
            figures |= {key: alone.get(key, 0) + beside.get(key, 0) for key in FAULTS}
            _note(row, server.name, number, figures)


@contextlib.contextmanager
def _burning() -> Iterator[None]:
    """A process that burns what the application would: one processor, as long as it is let."""
    process = subprocess.Popen((sys.executable, "-c", "while True: pass"))
    try:
        yield
    finally:
        process.kill()
        process.wait()


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


def _misses(bench: Bench, scenario: Scenario, row: Row, place: Place) -> None:
    """Hits at a fixed rate, alone, and then on the same connections with as many misses among them."""
    assert scenario.size is not None
    seconds = row.seconds = bench.settings.seconds * 2
    alone = bench.content.hot(scenario.size)
    rate = scenarios.MISS_RATE
    row.notes.append(
        f"Offered: {rate:,} hits/s; then also {rate:,} misses/s, on the same connections. A miss is a path without a "
        f"file, each another: an application (ASGI, {behind.PROCESSES} processes) waits for {SLOW_S * 1000:.0f} ms "
        "and answers. The floor has no application: it answers at once."
    )
    with _all_ready(bench, scenario, place) as ready:
        for number in range(row.rounds):
            mixed = bench.content.mixed(50, number, status=200)
            for name in _wanted(bench, scenario):
                one = ready[peers.process_of(name)]
                hits = replace(one.load, requests=alone, seconds=seconds, rate=float(rate))
                both = replace(hits, requests=mixed, rate=2.0 * rate)
                _run(bench, one, replace(hits, rate=None, seconds=REWARM_S if number else WARM_S))
                before, beside = _run(bench, one, hits), _run(bench, one, both)
                figures = beside | {"p99_us": before["p99_us"], "p99_mixed_us": beside["p99_us"]}
                figures |= {"machine_alone_us": before["machine_us"]}
                figures |= {key: before.get(key, 0) + beside.get(key, 0) for key in FAULTS}
                _note(row, name, number, figures)


def _cases(bench: Bench, scenario: Scenario, row: Row, cases: Sequence[Case]) -> None:
    """The same servers for all cases of a link."""
    for link in dict.fromkeys(case.link for case in cases):
        with netns.place(link) as place, _all_ready(bench, scenario, place) as ready:
            for number in range(row.rounds):
                for index, case in enumerate(case for case in cases if case.link == link):
                    content, part = bench.content, number * len(cases) + index
                    requests = content.mixed(case.misses, part) if case.misses else content.hot(case.size)
                    for name in _wanted(bench, scenario):
                        one = ready[peers.process_of(name)]
                        warm = replace(one.load, requests=content.hot(case.size), seconds=WARM_S / 2)
                        _run(bench, one, warm)
                        load = replace(one.load, requests=requests)
                        _note(row, name, number, _run(bench, one, load), case.name)


def _foreign(bench: Bench, scenario: Scenario, row: Row) -> None:
    """What packets pay that are for other ports, on an interface with both programs."""
    if not _wanted(bench, scenario):
        return
    packets = tier.foreign_packets()
    for number in range(row.rounds):
        found = tier.foreign_ns(packets)
        empty = 2 * found.pop("")
        slowest = max(found.values())
        figures = {f"ns {name}": value for name, value in found.items()}
        figures |= {"foreign_ns": slowest - empty, "raw_ns": slowest, "empty_ns": empty, "requests": 0.0}
        _note(row, TIER, number, figures)
    row.notes.append(
        "The kind of packet that takes longest counts, less what the test runs themselves take. With that, in ns: "
        + ", ".join(f"{name}: {verdict.median(row, TIER, f'ns {name}'):.0f}" for name in packets)
        + "."
    )


def _note(row: Row, server: str, number: int, figures: dict[str, float], case: str = "") -> None:
    row.samples.append(Sample(server, number, figures, case))
    shown = ("rate", "cpu_us", "machine_us", "soaked_us", "p99_us", "p99_flood_us", "p99_mixed_us", "p50_miss_us",
             "p99_beside_us", "cpu_after_us", "memory_bytes", "foreign_ns", "raw_ns", "empty_ns")  # fmt: skip
    text = "  ".join(f"{name} {figures[name]:,.1f}" for name in shown if name in figures)
    if "kernel_share" in figures:
        text += f"  {figures['kernel_share']:.1%} from the kernel"
    if figures.get("unlogged"):
        text += f"  {figures['unlogged']:,.0f} LINES OF THE ACCESS LOG MISSING OR TOO MANY"
    label = f"{case:<14}" if case else ""
    print(f"  {number + 1}/{row.rounds} {label}{server:<22}{text}", flush=True)


def _missed(scenario: Scenario, row: Row) -> bool:
    return any(verdict.judge(row, target).verdict == "no" for target in scenario.targets)


def _profile(bench: Bench, scenario: Scenario, row: Row, ready: Ready | None) -> None:
    """Where a target was missed, say where tux spends its time, or the whole machine in a row of the kernel tier,
    which works in no process of its own; the figures are not taken from this run."""
    perf = shutil.which("perf")
    if perf is None or ready is None or not _missed(scenario, row):
        return
    server = None if scenario.needs_tier else ready.server.pid
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        row.profile = hot_symbols(server, ready.load, bench.meter, Path(folder), perf)
