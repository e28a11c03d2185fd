# SPDX-License-Identifier: MIT
"""The benchmark's own logic: what it sends, how it counts, how it judges. No speed is asserted here."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import content, render
from bench.measure import tree, tree_cpu_us
from bench.scenarios import ALL, FLOOR, FLOOR_AGAIN, SCENARIOS, Target, by_name
from bench.verdict import Environment, Results, Row, Sample, judge, ratio, spread
from tools.fetch_peers import FetchError, parse_depends, peer

BENCH = Path(content.__file__).parent
ENVIRONMENT = Environment("A processor", 2, 24.0, "6.1", 1500, "reno", "gcc 12", {"tux": "0.1"}, 0.0)


def make_row(**rates: list[float]) -> Row:
    """A row of three rounds in which each server has the given answers/s, and 1000 / rate us of CPU."""
    row = Row(rounds=3, seconds=2.0, date="2026-01-01 00:00 UTC")
    for server, values in rates.items():
        for number, value in enumerate(values):
            figures = {"rate": value, "cpu_us": 1000 / value, "requests": 2 * value, "wrong": 0.0, "errors": 0.0}
            row.samples.append(Sample(server.replace("_", "-"), number, figures))
    return row


# ---- the table of scenarios ------------------------------------------------------------------------------------------


def test_every_promised_row_is_a_scenario_with_targets() -> None:
    promised = {
        "hot-100", "hot-1k", "hot-10k", "hot-100k", "hot-10m", "mix", "not-modified", "new-connections", "pipelined",
        "ranges", "cold", "flood", "idle", "fixed-rate", "access-log",
    }  # fmt: skip
    assert {scenario.name for scenario in SCENARIOS} == promised
    assert all(scenario.targets for scenario in SCENARIOS)
    assert len(SCENARIOS) == len(promised)


def test_servers_that_a_target_needs_are_measured_in_its_scenario() -> None:
    for scenario in SCENARIOS:
        for target in scenario.targets:
            assert target.subject in scenario.servers
            if target.reference == "floor":
                assert {FLOOR, FLOOR_AGAIN} <= set(scenario.servers)
            if target.reference in ("nginx", "best peer"):
                assert set(ALL) <= set(scenario.servers)


# ---- what is sent ----------------------------------------------------------------------------------------------------


def test_heads_have_the_size_of_a_browsers() -> None:
    assert 430 <= len(content.head(content.hot_path(1024))) <= 470


def test_mix_has_the_shares_of_specweb99() -> None:
    paths = content.mix_paths()
    sizes = [content.size_of(paths[index]) for index in content.mix_order(20_000)]
    assert sum(size <= 918 for size in sizes) / len(sizes) == pytest.approx(0.35, abs=0.02)
    assert sum(918 < size <= 9216 for size in sizes) / len(sizes) == pytest.approx(0.50, abs=0.02)
    assert sum(size > 92_160 for size in sizes) / len(sizes) == pytest.approx(0.01, abs=0.005)
    assert len(set(paths)) == 40 * 36


def test_flood_never_repeats_a_request(tmp_path: Path) -> None:
    heads = content.Content(tmp_path).flood(2000).heads.read_bytes().split(b"\r\n\r\n")[:-1]
    assert len(heads) == len(set(heads)) == 2000


# ---- judging ---------------------------------------------------------------------------------------------------------


def test_ratio_is_taken_within_rounds() -> None:
    # The machine slows down by ten from round to round; tux is at 0.9 of the floor in each.
    row = make_row(floor=[1000, 100, 10], tux=[900, 90, 9])
    assert ratio(row, "tux", "rate", FLOOR) == pytest.approx(0.9)


def test_floor_is_the_mean_of_both_its_measurements() -> None:
    row = make_row(floor=[90, 90, 90], floor_again=[110, 110, 110], tux=[100, 100, 100])
    assert ratio(row, "tux", "rate", FLOOR) == pytest.approx(1.0)
    assert spread(row, "rate") == pytest.approx(20 / 90)


@pytest.mark.parametrize(("tux", "verdict"), [(95.0, "yes"), (88.0, "yes, within the spread"), (70.0, "no")], ids=str)
def test_target_is_reached_missed_or_inside_the_spread(tux: float, verdict: str) -> None:
    row = make_row(floor=[102.0] * 3, floor_again=[98.0] * 3, tux=[tux] * 3)
    assert judge(row, Target("", "rate", "at least", 0.9, "floor")).verdict == verdict


def test_best_peer_is_the_best_that_answers_right() -> None:
    row = make_row(tux=[80] * 3, nginx=[50] * 3, nginx_nosendfile=[60] * 3, lighttpd=[70] * 3, h2o=[100] * 3)
    target = Target("", "rate", "at least", 1.0, "best peer")
    assert judge(row, target).reference == "h2o"
    for sample in row.samples:
        if sample.server == "h2o":
            sample.figures["wrong"] = 5.0
    assert judge(row, target).reference == "lighttpd"
    assert judge(row, Target("", "cpu_us", "at most", 1.0, "nginx")).reference == "nginx-nosendfile"


def test_wrong_answers_miss_every_target() -> None:
    row = make_row(floor=[100] * 3, tux=[200] * 3)
    row.samples[-1].figures["errors"] = 50.0
    assert judge(row, Target("", "rate", "at least", 0.9, "floor")).verdict == "no, wrong answers"


def test_what_was_not_measured_is_not_judged() -> None:
    assert judge(make_row(floor=[100] * 3), by_name("hot-1k").targets[0]).verdict == "not measured"


# ---- rendering -------------------------------------------------------------------------------------------------------


def test_page_states_reached_and_missed() -> None:
    row = make_row(floor=[100] * 3, floor_again=[100] * 3, tux=[80] * 3, nginx=[50] * 3, h2o=[60] * 3)
    row.profile = ["12.3% tux worker [.] somewhere"]
    page = render.results_page(Results(ENVIRONMENT, {"hot-1k": row}))
    assert "| hot file of 1 KiB | 0.9 x floor | 0.80 x floor | 0.0 % | **no** |" in page
    assert "| hot file of 1 KiB | CPU a request not above the best peer's | 0.75 x h2o | 0.0 % | yes |" in page
    assert "12.3% tux worker [.] somewhere" in page
    assert "| hot file of 100 B | 0.9 x floor | - | - | not measured |" in page
    assert "| tux | 80 | 12.5 | - | - | - | 0.80 | 0, 0 |" in page


def test_readme_table_replaces_only_what_is_between_the_markers() -> None:
    results = Results(ENVIRONMENT, {"hot-1k": make_row(tux=[72_000] * 3, nginx=[50_000] * 3)})
    table = render.readme_table(results)
    assert "| hot file of 1 KiB | 72,000 (0.0) | 50,000 (0.0) | - | - |" in table
    text = f"above\n{render.BEGIN}\nold\n{render.END}\nbelow\n"
    assert render.put_between_markers(text, table) == f"above\n{render.BEGIN}\n{table}\n{render.END}\nbelow\n"
    assert render.put_between_markers("no markers", table) == "no markers"


# ---- accounting and fetching -----------------------------------------------------------------------------------------


def test_cpu_of_a_process_tree_counts_children() -> None:
    with subprocess.Popen(
        ["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 60 & echo done; wait"],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "done\n"
            assert len(tree(process.pid)) == 2
            assert tree_cpu_us(process.pid) > 0
        finally:
            for pid in tree(process.pid):
                os.kill(pid, signal.SIGTERM)


def test_dependencies_are_read_as_groups_of_alternatives() -> None:
    text = """\
h2o
  Depends: libc6
 |Depends: libssl3
  Depends: libssl3t64
  PreDepends: <virtual>
    provider:amd64
"""
    assert parse_depends(text) == [["libc6"], ["libssl3", "libssl3t64"], ["provider"]]


def test_unknown_peer_is_named() -> None:
    with pytest.raises(FetchError, match="no peer is called 'iis'; known: nginx"):
        peer("iis")


# ---- load generator and floor, for real ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``load`` and ``floor``, compiled with every warning an error."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None, "the tests need a C compiler, like the build"
    folder = tmp_path_factory.mktemp("bench")
    for name in ("load", "floor"):
        command = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-pthread"]
        subprocess.run([*command, str(BENCH / f"{name}.c"), "-o", str(folder / name)], check=True)
    (folder / "one").write_bytes(content.head("/page-1024.html"))
    (folder / "last").write_bytes(content.head("/page-1024.html", close=True))
    (folder / "large").write_bytes(content.head("/page-200000.html"))
    (folder / "three").write_bytes(b"".join(content.head(f"/page-{size}.html") for size in (0, 10, 200_000)))
    return folder


@pytest.fixture(scope="module")
def floor(programs: Path) -> Iterator[int]:
    """Port of a floor server that answers with the length in the path."""
    with socket.socket() as finder:
        finder.bind(("127.0.0.1", 0))
        port = int(finder.getsockname()[1])
    with subprocess.Popen([str(programs / "floor"), "--port", str(port), "--size", "path"]) as process:
        while True:  # until it accepts; pytest's time-out bounds it
            assert process.poll() is None
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except ConnectionRefusedError:
                continue
        yield port
        process.terminate()


def load(programs: Path, port: int, requests: str, *options: str) -> dict[str, Any]:
    command = [str(programs / "load"), "--port", str(port), "--requests", str(programs / requests), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


MEAN_SIZE = {"one": 1024, "last": 1024, "large": 200_000, "three": 200_010 / 3}
COUNT = ("--count", "1000", "--duration", "60", "--connections", "8")


@pytest.mark.parametrize(
    ("requests", "options"),
    [
        ("one", ()),
        ("one", ("--threads", "2")),
        ("one", ("--pipeline", "16")),
        ("one", ("--rate", "20000")),
        ("last", ("--requests-per-connection", "1")),
        ("three", ()),
        ("large", ("--pipeline", "5")),
    ],
)
def test_every_request_is_answered_and_counted(
    programs: Path, floor: int, requests: str, options: tuple[str, ...]
) -> None:
    result = load(programs, floor, requests, *COUNT, *options, "--expect-status", "200", "--expect-length", "path")
    assert (result["completed"], result["wrong"], result["errors"]) == (1000, 0, 0), result["first_wrong"]
    assert result["body_bytes"] == pytest.approx(1000 * MEAN_SIZE[requests], rel=0.01)
    if requests == "last":
        assert result["reconnects"] >= 1000 - 8


def test_wrong_status_and_wrong_length_are_counted(programs: Path, floor: int) -> None:
    status = load(programs, floor, "one", *COUNT, "--expect-status", "404,304")
    assert (status["completed"], status["wrong"]) == (0, 1000)
    assert status["first_wrong"] == "status 200, expected 404"
    assert load(programs, floor, "one", *COUNT, "--expect-length", "1023")["wrong"] == 1000


def test_percentiles_belong_to_the_histogram(programs: Path, floor: int) -> None:
    result = load(programs, floor, "one", *COUNT, "--histogram")
    buckets = result["histogram_us"]
    assert sum(count for _, count in buckets) == 1000
    for name, fraction in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)):
        rank, seen = math.ceil(1000 * fraction), 0
        for top, count in buckets:
            seen += count
            if seen >= rank:
                assert result["latency_us"][name] == pytest.approx(min(top, result["latency_us"]["max"]))
                break


def test_latency_counts_from_the_moment_a_request_was_due(programs: Path) -> None:
    """A server that never answers: every request that was due is late by what is left of the run, sent or not."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = int(mute.getsockname()[1])
        result = load(programs, port, "one", "--rate", "1000", "--duration", "0.2", "--connections", "1")
    assert result["completed"] == 0
    assert result["errors"] == 1  # the one that was sent and not answered
    assert 190 <= result["unsent"] <= 200
    assert 90_000 <= result["latency_us"]["p50"] <= 110_000


def test_broken_answers_are_errors(programs: Path) -> None:
    """Two lengths: whoever accepted that would measure nothing."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        command = [str(programs / "load"), "--port", str(port), "--requests", str(programs / "one"),
                   "--connections", "1", "--count", "1", "--duration", "60"]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                output, _ = process.communicate()
    result = json.loads(output)
    assert (result["completed"], result["errors"], result["first_wrong"]) == (0, 1, "head not understood (-)")
