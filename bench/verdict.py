# SPDX-License-Identifier: MIT
"""Results as they are stored, and what follows from them: medians, ratios within rounds, targets reached or missed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from bench.scenarios import FLOOR, FLOOR_AGAIN, NGINX, Target

FEW_ROUNDS: Final = 3  # below: no claim is made
FAULTS: Final = 0.001  # share of wrong or missing answers above which a figure is not a figure

LATE: Final = 0.01  # share of requests that were due but never sent above which the rate was not sustained

Verdict = Literal["yes", "yes, within the spread", "no", "no, wrong answers", "not measured"]


class Sample(msgspec.Struct, frozen=True):
    """One measurement of one server in one round: figures by the names that measure.py gives them."""

    server: str
    round: int
    figures: dict[str, float]
    case: str = ""  # of a row that is a table of its own


class Row(msgspec.Struct):
    """All measurements of one scenario, made in one go."""

    rounds: int
    seconds: float
    date: str  # UTC, ISO 8601
    samples: list[Sample] = []
    profile: list[str] = []  # of tux, where a target was missed
    notes: list[str] = []
    versions: dict[str, str] = {}  # of its servers, by their first name; rows of one file may be of different days
    revision: str = ""  # of this repository, a + behind it where files were changed since


class Environment(msgspec.Struct, frozen=True):
    """The machine, and what ran on it."""

    processor: str
    processors: int
    memory_gib: float
    kernel: str
    mtu: int
    congestion: str
    compiler: str
    versions: dict[str, str]
    load_average: float  # of the machine, at the start


class Results(msgspec.Struct):
    """The contents of results.json."""

    environment: Environment
    rows: dict[str, Row] = {}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target beside what was measured. ``value`` is a ratio to the reference, or absolute for a limit."""

    target: Target
    value: float | None
    reference: str  # the server that was compared with, or ""
    verdict: Verdict


def of_case(row: Row, case: str) -> Row:
    """What belongs to one case of a row that is a table of its own."""
    return Row(row.rounds, row.seconds, row.date, [sample for sample in row.samples if sample.case == case])


def series(row: Row, server: str, metric: str) -> dict[int, float]:
    """``metric`` of ``server`` by round. The floor's is the mean of its two measurements in each round."""
    names = (FLOOR, FLOOR_AGAIN) if server == FLOOR else (server,)
    values: dict[int, list[float]] = {}
    for sample in row.samples:
        if sample.server in names and metric in sample.figures:
            values.setdefault(sample.round, []).append(sample.figures[metric])
    return {number: statistics.fmean(found) for number, found in values.items()}


def median(row: Row, server: str, metric: str) -> float | None:
    """Median over the rounds, or None when it was not measured."""
    values = series(row, server, metric)
    return statistics.median(values.values()) if values else None


def ratio(row: Row, server: str, metric: str, reference: str, reference_metric: str | None = None) -> float | None:
    """Median of the ratios within each round: what drifts between rounds cancels."""
    above = series(row, server, metric)
    below = series(row, reference, reference_metric or metric)
    ratios = [above[number] / below[number] for number in above if below.get(number)]
    return statistics.median(ratios) if ratios else None


def spread(row: Row, metric: str) -> float:
    """The A/A spread: median distance from 1 of the ratio of the floor to itself. 0 where it ran only once."""
    first = {s.round: s.figures[metric] for s in row.samples if s.server == FLOOR and metric in s.figures}
    second = {s.round: s.figures[metric] for s in row.samples if s.server == FLOOR_AGAIN and metric in s.figures}
    distances = [abs(second[number] / first[number] - 1) for number in first if number in second and first[number]]
    return statistics.median(distances) if distances else 0.0


def faulty(row: Row, server: str) -> bool:
    """Whether too many answers of ``server`` were wrong, missing, or not in its log for its figures to count."""
    figures = [sample.figures for sample in row.samples if sample.server == server]
    requests = sum(one.get("requests", 0) for one in figures)
    bad = sum(one.get(name, 0) for one in figures for name in ("wrong", "errors", "unlogged"))
    return bad > FAULTS * requests or sum(one.get("unsent", 0) for one in figures) > LATE * requests


def best(row: Row, servers: Sequence[str], target: Target) -> str | None:
    """The one of ``servers`` with the best median of the target's metric, of those that answered right."""
    medians: dict[str, float] = {}
    for server in servers:
        value = median(row, server, target.metric)
        if value is not None and not faulty(row, server):
            medians[server] = value
    if not medians:
        return None
    choose: Callable[..., str] = max if target.sense == "at least" else min
    return choose(medians, key=medians.__getitem__)


def judge(row: Row, target: Target) -> Outcome:
    """Compare what was measured with a target."""
    reference_metric: str | None = None
    reference: str | None
    match target.reference:
        case "limit":
            reference = ""
        case "nginx":
            reference = best(row, NGINX, target)
        case "best peer":
            reference = best(row, target.peers, target)
        case "own p99_us" | "own cpu_us":
            reference, reference_metric = target.subject, target.reference.removeprefix("own ")
        case "floor" | "tux" | "tux-log":
            reference = target.reference
    if reference is None:
        return Outcome(target, None, "", "not measured")
    if reference == "":
        value = median(row, target.subject, target.metric)
    else:
        value = ratio(row, target.subject, target.metric, reference, reference_metric)
    if value is None:
        return Outcome(target, None, reference, "not measured")
    if faulty(row, target.subject):
        return Outcome(target, value, reference, "no, wrong answers")
    return Outcome(target, value, reference, _compare(value, target, spread(row, target.metric)))


def _compare(value: float, target: Target, tolerance: float) -> Verdict:
    if target.sense == "at least":
        reached, near = value >= target.bound, value >= target.bound * (1 - tolerance)
    else:
        reached, near = value <= target.bound, value <= target.bound * (1 + tolerance)
    if reached:
        return "yes"
    # A limit is absolute: the spread of a ratio says nothing about it.
    return "yes, within the spread" if near and target.reference != "limit" else "no"
