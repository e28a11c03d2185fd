# SPDX-License-Identifier: MIT
"""Results as Markdown: RESULTS.md, and the table in the README between its two markers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.scenarios import FLOOR, FLOOR_AGAIN, NGINX, SCENARIOS, TIER, Scenario, Target
from bench.verdict import FEW_ROUNDS, Outcome, Results, Row, best, faulty, judge, median, of_case, ratio, spread

BEGIN: Final = "<!-- bench:begin -->"
END: Final = "<!-- bench:end -->"
README_ROWS: Final = ("hot-1k", "hot-10k", "hot-100k", "mix", "not-modified", "new-connections", "pipelined")

# Columns of the table of each kind of scenario: heading, figure, digits after the point.
_SPEED: Final = (
    ("answers/s", "rate", 0),
    ("CPU us, server", "cpu_us", 1),
    ("CPU us, machine", "machine_us", 1),
    ("CPU us, client", "client_us", 1),
    ("MB/s", "mbytes", 0),
)
_COLUMNS: Final = {
    "throughput": _SPEED,
    "cold": _SPEED,
    "rate": (*_SPEED[:4], ("p50 us", "p50_us", 0), ("p99 us", "p99_us", 0)),
    "cpu": (
        ("answers/s", "rate", 0),
        ("CPU us, machine, by soaking", "soaked_us", 2),
        ("CPU us, server", "cpu_us", 2),
        ("CPU us, client", "client_us", 2),
        ("p50 us", "p50_us", 0),
    ),
    "flood": (
        ("p99 us, alone", "p99_us", 0),
        ("p99 us, beside the flood", "p99_flood_us", 0),
        ("CPU us a hit, before", "cpu_us", 1),
        ("CPU us a hit, after", "cpu_after_us", 1),
    ),
    "idle": (("bytes a connection", "memory_bytes", 0),),
    "misses": (
        ("p99 us of hits, alone", "p99_us", 0),
        ("p99 us of hits, among misses", "p99_mixed_us", 0),
        ("p50 us of misses", "p50_miss_us", 0),
        ("p99 us of misses", "p99_miss_us", 0),
        ("CPU us, machine, among misses", "machine_us", 1),
    ),
    "echo": (*_SPEED[:4], ("p50 us", "p50_us", 0), ("p99 us", "p99_us", 0)),
    "beside": (
        ("p99 us, without", "p99_us", 0),
        ("p99 us, beside the application", "p99_beside_us", 0),
        ("CPU us, server", "cpu_us", 1),
    ),
    "foreign": (
        ("ns a packet, both programs", "foreign_ns", 0),
        ("ns of two test runs with them", "raw_ns", 0),
        ("ns of two test runs of a program that does nothing", "empty_ns", 0),
    ),
}
EVEN: Final = 0.05  # a difference in answers/s under which the tier neither pays nor harms

_METHOD: Final = """\
All servers run on this machine with two workers each, in a network namespace with a loopback of MTU 1500 (rows of the
kernel tier: as their titles say; "lo" alone has its usual MTU of 65536 there, and veth 1500). In every
round each server is measured once, one after the other; the floor server twice. Figures are medians over the rounds.
Ratios are medians of the ratios within each round; only they can be compared between runs. A target that is missed by
less than the A/A spread (how much the floor differs from itself) counts as reached, and is marked so. nginx is the
better of its two configurations, "best peer" the best of nginx, lighttpd and h2o in that row. CPU is microseconds per
answer: of the server's process tree, of the whole machine (interrupts and load generator included), and of the load
generator. p99 is taken at a fixed offered rate only, from the moment a request was due. "tux" and "tux-log" have the
kernel tier off, "tux-kernel" has it on, "tux-auto" its default mode, both with an access log as "tux-log" has.
[README.md](README.md) has the method in full. Rows may be of different runs: each says when it was measured, and with
which revision of this repository."""


def results_page(results: Results) -> str:
    """RESULTS.md as text."""
    parts = [
        "# Results", "", "Rendered by `bench/run.py` from results.json; do not edit.", "", _METHOD, "",
        *_environment(results), "", "## Targets", "", *_targets(results), "",
        *_missed(results), "## Figures", "",
    ]  # fmt: skip
    for scenario in SCENARIOS:
        row = results.rows.get(scenario.name)
        if row is not None and row.samples:
            table = _cases if scenario.kind in ("sizes", "miss-ratio") else _figures
            parts += [*table(scenario, row, results), ""]
    return "\n".join(parts)


def readme_table(results: Results) -> str:
    """The table for the README: answers/s and CPU per answer, a line per scenario."""
    servers = ("tux", "nginx", "lighttpd", "h2o")
    lines = [_line(("answers/s (CPU us per answer)", *servers)), _rule(len(servers) + 1)]
    for scenario in SCENARIOS:
        row = results.rows.get(scenario.name)
        if scenario.name not in README_ROWS or row is None:
            continue
        cells = [_speed(row, name) for name in ("tux", _better_nginx(row), "lighttpd", "h2o")]
        lines.append(_line((scenario.title, *cells)))
    return "\n".join(lines)


def put_between_markers(text: str, table: str) -> str:
    """``text`` with what is between the markers replaced by ``table``; unchanged when it has no markers."""
    before, begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        return text
    return f"{before}{begin}\n{table}\n{end}{after}"


def _environment(results: Results) -> list[str]:
    found = results.environment
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    return [
        f"- Machine: {found.processor}, {found.processors} processors, {found.memory_gib:.0f} GiB",
        f"- Load average at the start: {found.load_average:.2f}",
        f"- Linux {found.kernel}; loopback MTU {found.mtu}, congestion control {found.congestion}; {found.compiler}",
        f"- {versions}",
    ]


def _targets(results: Results) -> list[str]:
    lines = [_line(("scenario", "target", "measured", "A/A spread", "reached", "when, of what")), _rule(6)]
    few = False
    for scenario in SCENARIOS:
        row = results.rows.get(scenario.name)
        for target in scenario.targets:
            outcome = None if row is None else judge(row, target)
            mark = ""
            if row is not None and row.rounds < FEW_ROUNDS and scenario.kind != "idle":
                few, mark = True, " *"
            lines.append(_line((
                scenario.title, target.text, _measured(outcome), _spread(row, target),
                ("not measured" if outcome is None else _bold(outcome.verdict)) + mark,
                "-" if row is None else _origin(row),
            )))  # fmt: skip
    if few:
        lines += ["", f"\\* fewer than {FEW_ROUNDS} rounds: no claim."]
    return lines


def _missed(results: Results) -> list[str]:
    lines: list[str] = []
    for scenario in SCENARIOS:
        row = results.rows.get(scenario.name)
        if row is None or not any(judge(row, target).verdict.startswith("no,") or judge(row, target).verdict == "no"
                                  for target in scenario.targets):  # fmt: skip
            continue
        lines += [f"### {scenario.title}", ""]
        if row.profile:
            lines += ["Where tux spends its CPU in this row (perf, share of samples: thread, object, symbol):", ""]
            lines += ["```", *row.profile, "```", ""]
        else:
            lines += ["No profile was taken.", ""]
    return ["## Missed targets", "", *lines] if lines else []


def _figures(scenario: Scenario, row: Row, results: Results) -> list[str]:
    columns = _COLUMNS[scenario.kind]
    relative = scenario.kind in ("throughput", "cold") and FLOOR in scenario.servers
    tier = scenario.needs_tier and scenario.kind != "foreign"
    headings = ["server", *(heading for heading, _, _ in columns), *(["x floor"] if relative else []),
                *(["from the kernel"] if tier else []), "wrong, errors"]  # fmt: skip
    lines = [
        f"### {scenario.title}", "",
        f"{_conditions(scenario, row)} {_origin(row)}.{_other_versions(row, results)}", "",
        _line(headings), _rule(len(headings)),
    ]  # fmt: skip
    for server in scenario.servers:
        if server == FLOOR_AGAIN or median(row, server, columns[0][1]) is None:
            continue
        cells = [server, *(_number(median(row, server, metric), digits) for _, metric, digits in columns)]
        if relative:
            cells.append(_number(ratio(row, server, "rate", FLOOR), 2))
        if tier:
            cells.append(_share(row, server))
        cells.append(_faults(row, server))
        lines.append(_line(cells))
    return [*lines, *(f"\n{note}" for note in (*row.notes, *_peer_notes(scenario, row)))]


def _cases(scenario: Scenario, row: Row, results: Results) -> list[str]:
    """A line for each case, with what the tier gains or costs."""
    servers = [server for server in scenario.servers if median(row, server, "rate") is not None]
    headings = ["", *(f"{server}, answers/s" for server in servers), "tier on / off", "CPU us, machine, off",
                "CPU us, machine, on", "on / off", "from the kernel", "the tier", "wrong, errors"]  # fmt: skip
    lines = [
        f"### {scenario.title}", "",
        f"{_conditions(scenario, row)} {_origin(row)}.{_other_versions(row, results)}", "",
        _line(headings), _rule(len(headings)),
    ]  # fmt: skip
    for case in dict.fromkeys(sample.case for sample in row.samples):
        part = of_case(row, case)
        gain = ratio(part, TIER, "rate", "tux-log")
        lines.append(_line((
            case,
            *(_number(median(part, server, "rate"), 0) for server in servers),
            _number(gain, 2),
            *(_number(median(part, server, "machine_us"), 1) for server in ("tux-log", TIER)),
            _number(ratio(part, TIER, "machine_us", "tux-log"), 2),
            _share(part, TIER),
            _pays(gain),
            "; ".join(dict.fromkeys(_faults(part, server) for server in servers)),
        )))  # fmt: skip
    return [*lines, *(f"\n{note}" for note in row.notes)]


def _pays(gain: float | None) -> str:
    if gain is None:
        return "-"
    return "pays" if gain > 1 + EVEN else "costs" if gain < 1 - EVEN else "even"


def _share(row: Row, server: str) -> str:
    """Which part of its answers came from the kernel."""
    share = median(row, server, "kernel_share")
    return "-" if share is None else f"{share * 100:.1f} %"


def _conditions(scenario: Scenario, row: Row) -> str:
    rounds = f"{row.rounds} round{'s' if row.rounds > 1 else ''}"
    if scenario.kind in ("idle", "foreign"):
        return f"{rounds}."
    length = "" if scenario.kind == "cold" else f" of {row.seconds:g} s"
    return f"{rounds}{length}, {scenario.connections} connections."


def _origin(row: Row) -> str:
    """When a row was measured, and with which revision of this repository."""
    return f"{row.date}, {row.revision}" if row.revision else row.date


def _other_versions(row: Row, results: Results) -> str:
    """What was measured in this row, where that is not what the head of the page says."""
    page = results.environment.versions
    other = [f"{name} {version}" for name, version in row.versions.items() if page.get(name) != version]
    return f" With {', '.join(other)}." if other else ""


def _peer_notes(scenario: Scenario, row: Row) -> list[str]:
    """For an absolute target: what the best peer does, and how far tux is from it."""
    notes: list[str] = []
    for target in scenario.targets:
        leader = best(row, target.peers, target) if target.reference == "limit" else None
        if leader is None:
            continue
        note = f"Best peer: {leader} with {_number(median(row, leader, target.metric), 1)}"
        times = ratio(row, target.subject, target.metric, leader)
        notes.append(note + ("." if times is None else f"; tux takes {times:.2f} times as much."))
    return notes


def _measured(outcome: Outcome | None) -> str:
    if outcome is None or outcome.value is None:
        return "-"
    if outcome.target.reference == "limit":
        return _number(outcome.value, 1)
    against = {"best peer": outcome.reference, "nginx": outcome.reference}.get(outcome.target.reference)
    return f"{outcome.value:.2f} x {against or outcome.target.reference}"


def _spread(row: Row | None, target: Target) -> str:
    if row is None or FLOOR_AGAIN not in {sample.server for sample in row.samples} or target.reference == "limit":
        return "-"
    return f"{spread(row, target.metric) * 100:.1f} %"


def _faults(row: Row, server: str) -> str:
    figures = [sample.figures for sample in row.samples if sample.server == server]
    wrong, errors = (int(sum(one.get(name, 0) for one in figures)) for name in ("wrong", "errors"))
    unsent = int(sum(one.get("unsent", 0) for one in figures))
    unlogged = int(sum(one.get("unlogged", 0) for one in figures))
    text = f"{wrong}, {errors}" + (f"; {unsent} never sent" if unsent else "")
    text += f"; {unlogged} not in the log" if unlogged else ""
    return f"**{text}**" if faulty(row, server) else text


def _better_nginx(row: Row) -> str:
    return best(row, NGINX, Target("", "rate", "at least", 1.0, "nginx")) or "nginx"


def _speed(row: Row, server: str) -> str:
    rate = median(row, server, "rate")
    return "-" if rate is None else f"{_number(rate, 0)} ({_number(median(row, server, 'cpu_us'), 1)})"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _bold(verdict: str) -> str:
    return f"**{verdict}**" if verdict.startswith("no") and verdict != "not measured" else verdict


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns
