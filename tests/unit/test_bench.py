# SPDX-License-Identifier: MIT
"""The benchmark's own logic: what it sends, how it counts, how it judges. No speed is asserted here."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import content, render, run, soak, tier
from bench.measure import tree, tree_cpu_us
from bench.rows import Settings
from bench.scenarios import ALL, AUTO, FLOOR, FLOOR_AGAIN, MISS_RATIOS, MISSES, NGINX, SCENARIOS, TIER, Target, by_name
from bench.tier import Audit, Log, foreign_packets
from bench.verdict import Environment, Results, Row, Sample, faulty, judge, of_case, ratio, spread
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
        "kernel-hot-1k-lo", "kernel-hot-1k-lo-1500", "kernel-hot-10k-lo", "kernel-hot-10k-lo-1500",
        "forward-1k", "forward-100k", "forward-10m", "wsgi-hello", "flask-hello", "asgi-hello", "starlette-hello",
        "file-wrapper", "pathsend", "sendfile", "accel", "beside-sleep", "beside-burn", "websocket-echo",
        "module-hello", "module-cached", "module-object", "cgi",
        "kernel-hot-1k-veth", "kernel-cpu-1k", "kernel-misses", "kernel-close-1k", "kernel-foreign",
    }  # fmt: skip
    tables = {"kernel-sizes", "kernel-miss-ratio"}  # they show where the tier does not pay, and promise nothing
    assert {scenario.name for scenario in SCENARIOS} == promised | tables
    assert {scenario.name for scenario in SCENARIOS if not scenario.targets} == tables
    assert len(SCENARIOS) == len(promised | tables)


def test_every_row_can_be_shown() -> None:
    rows = {scenario.name: make_row(tux=[1.0, 2.0, 3.0]) for scenario in SCENARIOS}
    page = render.results_page(Results(ENVIRONMENT, rows))
    assert all(scenario.title in page for scenario in SCENARIOS)


def test_servers_that_a_target_needs_are_measured_in_its_scenario() -> None:
    for scenario in SCENARIOS:
        for target in scenario.targets:
            assert target.subject in scenario.servers
            if target.reference == "floor":
                assert {FLOOR, FLOOR_AGAIN} <= set(scenario.servers)
            if target.reference == "best peer":
                assert set(target.peers) <= set(scenario.servers)
            if target.reference == "nginx" and not scenario.needs_tier:
                assert set(ALL) <= set(scenario.servers)
            if target.reference == "nginx":
                assert len(set(NGINX) & set(scenario.servers)) == 2  # with sendfile and without: the better one counts


def test_rows_of_the_kernel_tier_compare_like_with_like() -> None:
    """Access logs on everywhere but in the floor, and a row of MTU 1500 beside each of the larger loopback."""
    rows = [scenario for scenario in SCENARIOS if scenario.name.startswith("kernel-")]
    assert rows == [scenario for scenario in SCENARIOS if scenario.needs_tier or TIER in scenario.servers]
    for scenario in rows:
        logged = {FLOOR, FLOOR_AGAIN, TIER, AUTO, "tux-log", "nginx-log", "nginx-nosendfile-log"}
        assert set(scenario.servers) <= logged
        subject = AUTO if AUTO in scenario.servers else TIER
        assert all(target.subject == subject for target in scenario.targets)
    for name in ("kernel-hot-1k-lo", "kernel-hot-10k-lo"):
        assert (by_name(name).link, by_name(f"{name}-1500").link) == ("lo-65536", "lo")
        assert by_name(name).size == by_name(f"{name}-1500").size


# ---- CPU of the whole machine ----------------------------------------------------------------------------------------


def test_what_a_soaker_did_not_get_was_used_by_others() -> None:
    """Two processors for 2 s, of which one turns 10 rounds a microsecond and the other 20: 0.5 s and 0.2 s are gone."""
    before = soak.Reading(1e6, (100, 200))
    after = soak.Reading(3e6, (100 + 15_000_000, 200 + 36_000_000))
    assert soak.speeds(before, after) == (7.5, 18.0)
    assert soak.busy_us(before, after, (10.0, 20.0)) == pytest.approx(700_000)
    assert soak.busy_us(before, after, (7.5, 18.0)) == pytest.approx(0)
    assert soak.busy_us(before, after, (7.5, 9.0)) == pytest.approx(-2e6)  # an error of the calibration is not hidden


def test_calibrations_before_and_after() -> None:
    assert soak.mean((10.0, 20.0), (12.0, 20.0)) == (11.0, 20.0)
    assert soak.drift((10.0, 20.0), (13.0, 20.0)) == pytest.approx(0.1)
    assert soak.drift((13.0, 20.0), (10.0, 20.0)) == pytest.approx(1 - 30 / 33)


def test_a_soaker_gets_what_nobody_wants(tmp_path: Path) -> None:
    """It runs, counts on every processor, and ends with whoever started it. How fast it is says nothing here."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None, "the tests need a C compiler, like the build"
    program = tmp_path / "soak"
    subprocess.run((compiler, "-std=gnu11", "-O2", "-pthread", str(BENCH / "soak.c"), "-o", str(program)), check=True)
    with soak.running(program, tmp_path / "counts") as soaker:
        seen = first = soaker.read()
        while not all(now > then for now, then in zip(seen.counts, first.counts, strict=True)):
            seen = soaker.read()  # bounded by the time limit of the test: other work has precedence
        assert len(seen.counts) == os.cpu_count()
    burnt = subprocess.run((str(program), "--burn", "100", "1000", "0.01"), capture_output=True, text=True, check=True)
    assert int(burnt.stdout) >= 900_000  # ten times 100 us, in ns, less the last which may not begin


# ---- parts of a run --------------------------------------------------------------------------------------------------


def test_rows_of_other_runs_say_when_and_of_what() -> None:
    old, new = make_row(tux=[900] * 3, floor=[1000] * 3), make_row(tux=[950] * 3, floor=[1000] * 3)
    old.versions = {"tux": "0.0.9", "floor": "(floor.c)"}
    new.date, new.revision, new.versions = "2026-02-02 00:00 UTC", "abc1234+", {"tux": "0.1"}
    page = render.results_page(Results(ENVIRONMENT, {"hot-1k": old, "hot-10k": new}))
    assert "2026-01-01 00:00 UTC. With tux 0.0.9, floor (floor.c)." in page
    assert "2026-02-02 00:00 UTC, abc1234+.\n" in page
    assert "| yes | 2026-02-02 00:00 UTC, abc1234+ |" in page


def test_only_the_servers_of_the_chosen_rows_are_needed() -> None:
    assert {"lighttpd", "h2o", "nginx", "tux"} <= run._settings(run._parse(["--quick"])).servers
    some = run._settings(run._parse(["--quick", "--only", "kernel-*"])).servers
    assert some == set(by_name("kernel-close-1k").servers) - {FLOOR_AGAIN}
    one = run._parse(["--quick", "--only", "kernel-*", "--servers", "tux-kernel,h2o"])
    assert run._settings(one).servers == {TIER}


def test_results_that_cannot_be_read_are_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert run._load(file) is None
    file.write_text('{"rows": 7}')
    with pytest.raises(msgspec.MsgspecError):
        run._load(file)


def test_results_are_stored_and_read_again(tmp_path: Path) -> None:
    settings = Settings(rounds=1, seconds=1.0, scale=1.0, servers=frozenset(), output=tmp_path, readme=None)
    results = Results(ENVIRONMENT, {"hot-1k": make_row(tux=[1.0])})
    run._store(results, settings)
    assert run._load(tmp_path / "results.json") == results
    assert {file.name for file in tmp_path.iterdir()} == {"results.json", "RESULTS.md"}


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


@pytest.mark.parametrize("percent", [case.misses for case in MISS_RATIOS], ids=str)
def test_misses_have_their_share_and_none_comes_twice(percent: int) -> None:
    order = content.mixed_order(percent)
    misses = [index for index in order if index]
    assert len(misses) == len(set(misses)) <= MISSES
    assert len(misses) / len(order) == pytest.approx(percent / 100, abs=0.001)


def test_hits_and_misses_are_told_apart_by_their_place(tmp_path: Path) -> None:
    files = content.Content(tmp_path)
    others = set(files.mixed(50, 1).heads.read_bytes().split(b"\r\n\r\n")[1:-1])
    made = files.mixed(50, 2)
    heads = made.heads.read_bytes().split(b"\r\n\r\n")[:-1]
    assert not others & set(heads)
    assert made.second == 1
    assert heads[0] + b"\r\n\r\n" == content.head(content.hot_path(1024))
    assert len(set(heads)) == len(heads) == 1 + MISSES
    assert made.order is not None
    assert made.order.stat().st_size == 4 * 2 * MISSES


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


def test_lines_that_the_access_log_lacks_miss_every_target() -> None:
    row = make_row(floor=[100] * 3, tux_kernel=[300] * 3)
    row.samples[-1].figures["unlogged"] = 5.0
    assert faulty(row, TIER)
    assert judge(row, Target("", "rate", "at least", 1.5, "floor", TIER)).verdict == "no, wrong answers"


def test_cases_of_a_table_are_judged_apart() -> None:
    row = Row(rounds=1, seconds=2.0, date="")
    for case, on in (("100 B", 200.0), ("15 kB", 50.0)):
        row.samples += [Sample("tux-log", 0, {"rate": 100.0}, case), Sample(TIER, 0, {"rate": on}, case)]
    assert ratio(of_case(row, "100 B"), TIER, "rate", "tux-log") == 2.0
    assert ratio(of_case(row, "15 kB"), TIER, "rate", "tux-log") == 0.5


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


def test_page_shows_where_the_tier_pays_and_where_it_costs() -> None:
    row = Row(rounds=3, seconds=2.0, date="")
    for case, on in zip(("lo, 100 B", "lo, 1,024 B", "veth, 100 B"), (200.0, 101.0, 50.0), strict=True):
        for number in range(3):
            row.samples.append(Sample("tux-log", number, {"rate": 100.0, "machine_us": 10.0}, case))
            row.samples.append(Sample(TIER, number, {"rate": on, "machine_us": 5.0, "kernel_share": 0.999}, case))
    page = render.results_page(Results(ENVIRONMENT, {"kernel-sizes": row}))
    assert "| lo, 100 B | 100 | 200 | 2.00 | 10.0 | 5.0 | 0.50 | 99.9 % | pays | 0, 0 |" in page
    assert "| lo, 1,024 B | 100 | 101 | 1.01 | 10.0 | 5.0 | 0.50 | 99.9 % | even | 0, 0 |" in page
    assert "| veth, 100 B | 100 | 50 | 0.50 | 10.0 | 5.0 | 0.50 | 99.9 % | costs | 0, 0 |" in page


def test_page_shows_what_came_from_the_kernel() -> None:
    row = make_row(floor=[100] * 3, floor_again=[100] * 3, tux_log=[90] * 3, tux_kernel=[200] * 3, nginx_log=[50] * 3)
    for sample in row.samples:
        if sample.server == TIER:
            sample.figures.update({"kernel_share": 0.75, "unlogged": 0.0})
    page = render.results_page(Results(ENVIRONMENT, {"kernel-hot-1k-lo": row}))
    assert "| kernel tier: hot file of 1 KiB, lo | 2.0 x nginx | 4.00 x nginx-log | 0.0 % | yes |" in page
    assert "| tux-kernel | 200 | 5.0 | - | - | - | 2.00 | 75.0 % | 0, 0 |" in page
    assert "| tux-log | 90 | 11.1 | - | - | - | 0.90 | - | 0, 0 |" in page


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


# ---- the kernel tier's own checks ------------------------------------------------------------------------------------


def test_lines_of_the_log_are_counted_and_the_file_emptied(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    with file.open("ab", buffering=0) as writer:
        writer.write(b"of a check\n")
        log = Log(file)
        log.rest()
        assert file.stat().st_size == 0
        writer.write(b"one\ntwo\nthr")
        assert log.count() == 2
        writer.write(b"ee\n")
        assert log.settle(3) == 3
        writer.write(b"four\n")  # it goes on at the new end
        assert log.settle(1) == 1
        assert file.stat().st_size == 0


@pytest.mark.parametrize(("lines", "unlogged"), [(10, 0), (9, 1), (11, 1)])
def test_audit_counts_what_is_not_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int, unlogged: int
) -> None:
    """Nine right answers and a wrong one are ten lines; and the tier's own counter says that five came from it."""
    monkeypatch.setattr(tier, "SETTLE_S", 0.1)
    answers = iter((100, 105))
    monkeypatch.setattr(tier, "counters", lambda _bpffs, _server: {"answered": next(answers), "pass_busy": 3})
    file = tmp_path / "access.log"
    file.touch()

    def run() -> dict[str, float]:
        with file.open("ab") as writer:
            writer.write(b"line\n" * lines)
        return {"requests": 9.0, "wrong": 1.0}

    figures = Audit(1, Log(file), "/bpffs").around(run)
    assert figures == {"requests": 9.0, "wrong": 1.0, "unlogged": float(unlogged), "kernel_share": 0.5}


def test_packets_of_others_are_whole_and_for_another_port() -> None:
    for name, frame in foreign_packets().items():
        packet = frame[14:]
        if name.startswith("IPv4"):
            assert frame[12:14] == b"\x08\x00"
            assert struct.unpack("!H", packet[2:4])[0] == len(packet)
            head = 20
        else:
            assert frame[12:14] == b"\x86\xdd"
            assert struct.unpack("!H", packet[4:6])[0] == len(packet) - 40
            head = 40
        assert tier.PORT not in struct.unpack("!HH", packet[head : head + 4])
        assert len(packet) <= 1500


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
        ("one", ("--rate", "20000", "--tick", "250")),
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


def test_latencies_of_the_second_class_are_counted_apart(programs: Path, floor: int) -> None:
    """Heads 1 and 2 of three are the second class: two of three answers."""
    result = load(programs, floor, "three", *COUNT, "--histogram", "--second", "1")
    assert (result["completed"], result["wrong"], result["errors"]) == (1000, 0, 0)
    assert sum(count for _, count in result["histogram_us"]) == 334
    assert result["second_us"]["max"] >= result["second_us"]["p50"] > 0


def test_server_is_looked_for_at_the_address(programs: Path) -> None:
    with socket.socket() as finder:
        finder.bind(("127.0.0.77", 0))
        port = int(finder.getsockname()[1])
    where = ("--address", "127.0.0.77")
    with subprocess.Popen([str(programs / "floor"), *where, "--port", str(port)]) as process:
        while True:  # until it accepts; pytest's time-out bounds it
            assert process.poll() is None
            try:
                socket.create_connection(("127.0.0.77", port), timeout=1).close()
                break
            except ConnectionRefusedError:
                continue
        assert load(programs, port, "one", *COUNT, *where)["completed"] == 1000
        process.terminate()


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
