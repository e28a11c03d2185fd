"""The life of supervisor and workers: the real ones, with an engine of a few lines of Python (fake_server.py)."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tux
from tests import features
from tux.daemon import seccomp
from tux.daemon.processes import OLD_GENERATIONS

FAKE = [sys.executable, str(Path(__file__).with_name("fake_server.py"))]
PATIENCE = 10.0
"""Seconds that a condition may take to come true on a busy machine."""


@contextlib.contextmanager
def running(
    trouble: str = "", *, workers: int = 2, tier: str = "", broken: Path | str = "", **options: Any
) -> Iterator[tux.Server]:
    env = {"FAKE_TROUBLE": trouble, "FAKE_TIER": tier, "FAKE_BROKEN": str(broken)}
    server = tux.Server(command=FAKE, env=env, workers=workers, **options)
    with server:
        yield server


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what}"
        os.sched_yield()


def connect(server: tux.Server) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def begin(server: tux.Server, path: str) -> socket.socket:
    sock = connect(server)
    sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    return sock


def rest(sock: socket.socket) -> str:
    with sock, sock.makefile("rb") as file:
        return file.read().rpartition(b"\r\n\r\n")[2].decode()


def get(server: tux.Server, path: str) -> str:
    return rest(begin(server, path))


def slow(server: tux.Server) -> socket.socket:
    """A request whose answer has begun and ends when `finish` says so."""
    sock = begin(server, "/slow")
    text = b""
    while not text.endswith(b"begun "):
        text += sock.recv(100)
    return sock


def finish(sock: socket.socket) -> str:
    sock.sendall(b"x")
    return rest(sock)


def gone(pids: list[int]) -> bool:
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


class TestStart:
    def test_ready_lines_and_urls(self, tmp_path: Path) -> None:
        with running(listen=["127.0.0.1:0", f"unix:{tmp_path}/s"]) as server:
            assert server.urls[1] == f"unix:{tmp_path}/s"
            assert server.stderr_text().splitlines() == [f"tux: ready on {url}" for url in server.urls]
            assert int(get(server, "/pid")) in server.worker_pids()

    def test_the_number_of_workers(self) -> None:
        with running(workers=3) as server:
            pids = server.worker_pids()
            assert len(pids) == 3
            until(lambda: {int(get(server, "/pid")) for _ in range(20)} == set(pids), "all workers serve")

    def test_workers_cannot_make_any_system_call(self) -> None:
        features.require("seccomp")
        column = seccomp.this_machine().column
        with running() as server:
            for name in ("bpf", "ptrace", "execve"):
                assert get(server, f"/system-call/{seccomp.REFUSED[name][column]}") == str(errno.EPERM)
            assert server.stderr_text().count("\n") == 1  # the ready line

    def test_a_worker_that_cannot_start(self) -> None:
        with pytest.raises(tux.StartError) as caught:
            tux.Server(command=FAKE, env={"FAKE_TROUBLE": "start"}).start()
        assert caught.value.message == "this engine does not start"
        assert caught.value.exit_code == 1

    def test_a_port_in_use(self) -> None:
        with running() as server, pytest.raises(tux.StartError, match="already in use by another program"):
            tux.Server(command=FAKE, listen=server.url.removeprefix("http://")).start()

    def test_a_log_that_cannot_be_opened(self, tmp_path: Path) -> None:
        with pytest.raises(tux.StartError) as caught:
            tux.Server(command=FAKE, access_log=tmp_path / "none" / "log").start()
        assert caught.value.message == f"cannot open the access log {tmp_path}/none/log: No such file or directory"


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_what_is_under_way_is_finished(self, number: int) -> None:
        with running() as server:
            sock = slow(server)
            server.kill(number)
            until(lambda: refuses(server), "new connections are refused")
            assert finish(sock) == "finished"
            assert server.wait(PATIENCE) == 0

    def test_what_does_not_finish_is_cut_off_after_the_grace(self) -> None:
        with running(grace=0.2) as server, slow(server) as sock:
            assert server.stop() == 0
            assert sock.recv(100) == b""

    def test_a_deaf_worker_is_killed_after_the_grace(self) -> None:
        with running("deaf", grace=0) as server:
            pids = server.worker_pids()
            assert server.stop() == 0
            assert gone(pids)
            assert "2 workers did not finish within 0 s and are killed" in server.stderr_text()

    @pytest.mark.parametrize(
        ("first", "second", "code"), [("INT", "INT", 130), ("TERM", "TERM", 143), ("TERM", "INT", 130)]
    )
    def test_a_second_signal_ends_it_at_once(self, first: str, second: str, code: int) -> None:
        with running(grace=60) as server, slow(server):
            pids = server.worker_pids()
            server.kill(signal.Signals[f"SIG{first}"])
            until(lambda: refuses(server), "the stop has begun")
            server.kill(signal.Signals[f"SIG{second}"])
            assert server.wait(PATIENCE) == code
            assert gone(pids)

    def test_the_terminal_sends_sigint_to_all(self) -> None:
        """Workers leave it to the supervisor."""
        with running() as server:
            sock = slow(server)
            for pid in (*server.worker_pids(), server.pid):
                os.kill(pid, signal.SIGINT)
            until(lambda: refuses(server), "the stop has begun")
            assert finish(sock) == "finished"
            assert server.wait(PATIENCE) == 0

    def test_a_unix_socket_is_removed(self, tmp_path: Path) -> None:
        with running(listen=f"unix:{tmp_path}/s"):
            assert (tmp_path / "s").is_socket()
        assert not (tmp_path / "s").exists()

    def test_a_successor_can_start_while_the_last_answers_are_finished(self) -> None:
        with running() as old:
            sock = slow(old)
            old.kill(signal.SIGTERM)
            until(lambda: refuses(old), "new connections are refused")
            with running(listen=old.url.removeprefix("http://")) as new:
                assert int(get(new, "/pid")) in new.worker_pids()
                assert finish(sock) == "finished"
            assert old.wait(PATIENCE) == 0

    def test_leaks_are_reported(self) -> None:
        with running("leak", workers=1) as server:
            assert server.stop() == 3
            assert "tux: error: worker 0 leaked: buffers=2\n" in server.stderr_text()


class TestDeath:
    def test_a_killed_worker_is_replaced(self) -> None:
        with running() as server:
            before = server.worker_pids()
            os.kill(before[0], signal.SIGKILL)
            until(lambda: len(set(server.worker_pids()) - set(before)) == 1, "another worker runs")
            for _ in range(20):
                assert int(get(server, "/pid")) in server.worker_pids()
            assert (
                f"tux: error: worker 0 (pid {before[0]}) was killed by SIGKILL; it is replaced" in server.stderr_text()
            )

    def test_its_queued_connections_are_not_lost(self) -> None:
        with running(workers=1) as server:
            (pid,) = server.worker_pids()
            os.kill(pid, signal.SIGSTOP)
            until(lambda: "\nState:\tT" in Path(f"/proc/{pid}/status").read_text(), "the worker stands still")
            queued = [begin(server, "/pid") for _ in range(10)]
            os.kill(pid, signal.SIGKILL)
            answers = {int(rest(sock)) for sock in queued}
            assert answers == set(server.worker_pids())
            assert pid not in answers

    def test_one_that_crashes_again_and_again_has_to_wait(self) -> None:
        with running(workers=1) as server:
            started = time.monotonic()
            for _ in range(4):
                get(server, "/crash")
            get(server, "/pid")
            assert time.monotonic() - started >= 0.1 + 0.2 + 0.4 + 0.8
            assert server.stderr_text().count("was killed by SIGABRT") == 4

    def test_a_planner_that_fails_ends_its_worker(self) -> None:
        with running("planner", workers=1) as server:
            until(lambda: "ended with code 1; it is replaced" in server.stderr_text(), "the worker is replaced")
            assert "RuntimeError: this planner cannot plan" in server.stderr_text()

    def test_an_engine_that_fails_ends_its_worker(self) -> None:
        with running("engine", workers=1) as server:
            until(lambda: "ended with code 1; it is replaced" in server.stderr_text(), "the worker is replaced")
            assert "tux: error: the engine failed: this engine does not run" in server.stderr_text()

    def test_a_stop_while_a_worker_waits_to_be_replaced(self) -> None:
        with running("engine", workers=1) as server:
            until(lambda: server.stderr_text().count("it is replaced") >= 3, "it waits")
            server.kill(signal.SIGTERM)
            assert server.wait(PATIENCE) in (0, 1)

    def test_workers_end_when_the_supervisor_was_killed(self) -> None:
        with running() as server:
            pids = server.worker_pids()
            sock = slow(server)
            server.kill(signal.SIGKILL)
            assert server.wait(PATIENCE) == -signal.SIGKILL
            until(lambda: refuses(server), "new connections are refused")
            assert finish(sock) == "finished"
            until(lambda: gone(pids), "the workers ended")


class TestWorker:
    def test_no_stray_descriptors(self, tmp_path: Path) -> None:
        """Per worker: the standard ones, one socket per listener, its end of the control socket, the log, and what
        the worker itself made."""
        with open(os.devnull) as stray:
            os.set_inheritable(stray.fileno(), True)
            with running(listen=["127.0.0.1:0", "127.0.0.1:0"], workers=3, access_log=tmp_path / "log") as server:
                for pid in server.worker_pids():
                    targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
                    assert len(listening_inodes(pid)) == 2
                    assert targets.count(str(tmp_path / "log")) == 1
                    assert not [target for target in targets if "pidfd" in target or target.startswith("pipe:")]

    def test_signals_for_the_supervisor_do_not_hurt_a_worker(self) -> None:
        with running(workers=1) as server:
            (pid,) = server.worker_pids()
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
                os.kill(pid, number)
            assert get(server, "/pid") == str(pid)

    def test_only_the_planner_is_nice(self) -> None:
        with running(workers=1) as server:
            (pid,) = server.worker_pids()
            nice = {task: os.getpriority(os.PRIO_PROCESS, task) for task in map(int, os.listdir(f"/proc/{pid}/task"))}
            base = os.getpriority(os.PRIO_PROCESS, server.pid)
            assert nice.pop(pid) == min(19, base + 5)
            assert set(nice.values()) == {base}
            assert len(nice) == 2

    def test_a_worker_that_was_asked_to_stop_is_replaced(self) -> None:
        with running(workers=1) as server:
            (pid,) = server.worker_pids()
            os.kill(pid, signal.SIGTERM)
            until(lambda: server.worker_pids() not in ([pid], []), "another worker runs")
            assert int(get(server, "/pid")) != pid

    def test_workers_are_nobody_without_a_way_back(self) -> None:
        features.require("root")
        with running() as server:
            for pid in server.worker_pids():
                status = dict(
                    line.split(":\t", 1)
                    for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                    if ":\t" in line
                )
                assert set(status["Uid"].split()) == {"65534"}
                assert set(status["Gid"].split()) == {"65534"}
                assert set(status["Groups"].split()) <= {"65534"}
                assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == int(status["CapAmb"], 16) == 0
                assert status["NoNewPrivs"] == "1"


class TestSignals:
    def test_usr1_reopens_the_log_in_all_workers(self, tmp_path: Path) -> None:
        log, old = tmp_path / "log", tmp_path / "log.1"
        with running(access_log=log) as server:
            assert log.stat().st_mode & 0o777 == 0o640
            get(server, "/log")
            for _ in range(3):
                log.rename(old)
                server.kill(signal.SIGUSR1)
                until(log.exists, "the log is reopened")
                until(lambda: writes_only_to(server, log), "all workers write to the new one")
            assert old.read_text().count("a request\n") > 0

    def test_usr1_keeps_the_old_log_when_there_is_no_new_one(self, tmp_path: Path) -> None:
        folder = tmp_path / "logs"
        folder.mkdir()
        with running(access_log=folder / "log") as server:
            folder.rename(tmp_path / "moved")
            server.kill(signal.SIGUSR1)
            until(lambda: "cannot reopen the access log" in server.stderr_text(), "the error is reported")
            get(server, "/log")
            assert (tmp_path / "moved" / "log").read_text() == "a request\n"


def reload(server: tux.Server) -> None:
    """Returns when it has come to its end, be it good or bad."""
    done = ("reloaded the configuration\n", "the configuration was not reloaded; all goes on as before\n")
    before = sum(map(server.stderr_text().count, done))
    server.kill(signal.SIGHUP)
    until(lambda: sum(map(server.stderr_text().count, done)) > before, "it is reloaded, or not")


class TestReload:
    def test_new_workers_serve_and_the_old_ones_finish(self) -> None:
        with running() as server:
            before = server.worker_pids()
            sock = slow(server)
            reload(server)
            until(lambda: len(server.worker_pids()) == 3, "those without work have ended")
            (old,) = set(server.worker_pids()) & set(before)
            assert {int(get(server, "/pid")) for _ in range(20)} <= set(server.worker_pids()) - {old}
            assert finish(sock) == "finished"
            until(lambda: gone(before), "the last one has ended, too")
            assert len(server.worker_pids()) == 2
            assert server.stop() == 0
            assert "error" not in server.stderr_text()

    def test_connections_that_wait_to_be_accepted_are_not_lost(self) -> None:
        with running(workers=1) as server:
            (pid,) = server.worker_pids()
            os.kill(pid, signal.SIGSTOP)
            until(lambda: "\nState:\tT" in Path(f"/proc/{pid}/status").read_text(), "the worker stands still")
            queued = [begin(server, "/pid") for _ in range(10)]
            server.kill(signal.SIGHUP)
            assert pid not in {int(rest(sock)) for sock in queued}
            os.kill(pid, signal.SIGCONT)
            until(lambda: gone([pid]), "the old one ends")

    def test_what_is_wrong_changes_nothing(self, tmp_path: Path) -> None:
        broken = tmp_path / "broken"
        with running(broken=broken) as server:
            before = server.worker_pids()
            broken.touch()
            reload(server)
            assert "tux: error: reload: this configuration is broken\n" in server.stderr_text()
            assert server.worker_pids() == before
            broken.unlink()
            reload(server)
            until(lambda: gone(before), "others serve")

    @pytest.mark.parametrize("tier", ["", "on"])
    def test_workers_that_cannot_start_change_nothing(self, tmp_path: Path, tier: str) -> None:
        broken = tmp_path / "broken"
        with running("reload", broken=broken, tier=tier) as server:
            before = server.worker_pids()
            broken.touch()
            reload(server)
            assert "tux: error: reload: this engine does not start\n" in server.stderr_text()
            assert server.worker_pids() == before
            assert int(get(server, "/pid")) in before
            broken.unlink()
            os.kill(before[0], signal.SIGKILL)
            until(lambda: len(set(server.worker_pids()) - set(before)) == 1, "what ends is still replaced")
            reload(server)
            until(lambda: gone(before), "others serve")

    def test_a_stop_gives_all_the_same_grace(self) -> None:
        with running(grace=0.2) as server, slow(server) as first:
            reload(server)
            with slow(server) as second:
                assert server.stop() == 0
                assert first.recv(100) == second.recv(100) == b""

    def test_only_so_many_old_ones_are_kept(self) -> None:
        with running(grace=0.2, workers=1) as server:
            socks = []
            for _ in range(OLD_GENERATIONS + 1):
                socks.append(slow(server))
                reload(server)
            assert rest(socks[0]) == ""
            assert [finish(sock) for sock in socks[1:]] == ["finished"] * OLD_GENERATIONS
            until(lambda: len(server.worker_pids()) == 1, "they have ended")

    def test_the_place_in_the_kernel_tier_goes_to_the_new_one(self) -> None:
        with running(tier="on", workers=1) as server:
            before = server.worker_pids()
            sock = slow(server)
            reload(server)
            get(server, "/tier")
            until(lambda: "message 0 hello" in tier_said(server), "it uses it")
            assert finish(sock) == "finished"
            until(lambda: gone(before), "the old one has ended")
            assert server.stop() == 0
            calls = [line for line in tier_said(server) if not line.startswith("message") and line != "ten ticks"]
            assert calls == ["seat 0", "gone 0", "seat 0", "quiet", "gone 0", "finish 2"]


def tier_said(server: tux.Server) -> list[str]:
    """What was asked of the kernel tier, in order."""
    lines = server.stderr_text().splitlines()
    return [line.removeprefix("tier: ") for line in lines if line.startswith("tier: ")]


class TestTier:
    """The kernel tier gets its turn; what it does with it is tested in tests/unit/kernel."""

    def test_a_worker_gets_what_the_tier_has_for_it(self) -> None:
        with running(tier="on", workers=2) as server:
            what = "['/memfd:slots', '/memfd:cells'] b'key' (0,) 3 9"
            wanted = {f"{word}{more}" for word, more in (("message 0 ", what), ("message 1 ", what))}
            until(lambda: wanted <= set(tier_said(server)), "both have said what they got")
            assert tier_said(server)[0] == "seat 0"

    def test_messages_reach_it(self) -> None:
        with running(tier="on", workers=1) as server:
            for _ in range(3):
                get(server, "/tier")
            until(lambda: tier_said(server).count("message 0 hello") == 3, "they come")

    def test_a_worker_that_has_closed_its_end_goes_on(self) -> None:
        with running(tier="on", workers=1) as server:
            get(server, "/no-tier")
            until(lambda: "message 0 " in tier_said(server), "the end comes")
            assert get(server, "/pid")
            assert tier_said(server).count("message 0 ") == 1

    def test_it_is_ticked_also_when_nothing_happens(self) -> None:
        with running(tier="on", workers=1) as server:
            until(lambda: "ten ticks" in tier_said(server), "time passes")

    def test_a_worker_that_died_is_gone_before_its_successor_has_a_seat(self) -> None:
        with running(tier="on", workers=1) as server:
            os.kill(server.worker_pids()[0], signal.SIGKILL)
            until(lambda: tier_said(server).count("seat 0") == 2, "another worker runs")
            calls = [line for line in tier_said(server) if not line.startswith("message") and line != "ten ticks"]
            assert calls == ["seat 0", "gone 0", "seat 0"]

    @pytest.mark.parametrize(("tier", "why"), [("seatless", "no seat"), ("refused", "no memory")])
    def test_workers_serve_without_a_seat(self, tier: str, why: str) -> None:
        with running(tier=tier, workers=1) as server:
            assert get(server, "/pid")
            assert f"tux: error: worker 0 has no part in the kernel tier: {why}\n" in server.stderr_text()

    @pytest.mark.parametrize(("tier", "what"), [("failing", "tick"), ("deaf", "hear")])
    def test_a_mistake_in_it_does_not_end_the_server(self, tier: str, what: str) -> None:
        with running(tier=tier, workers=1) as server:
            get(server, "/tier")
            until(lambda: f"RuntimeError: this tier cannot {what}" in server.stderr_text(), "it fails")
            assert get(server, "/tier")
            assert "workers answer all requests from now on" in server.stderr_text()
            assert server.stop() == 0
            assert server.stderr_text().count("RuntimeError: ") == 1
            assert tier_said(server)[-1] == "finish 2"

    def test_a_stop_is_quiet_first_and_finished_last(self) -> None:
        with running(tier="on", workers=2) as server:
            assert server.stop() == 0
            calls = [line for line in tier_said(server) if line.split()[0] in ("quiet", "gone", "finish")]
            assert calls[0] == "quiet"
            assert sorted(calls[1:3]) == ["gone 0", "gone 1"]
            assert calls[3:] == ["finish 2"]

    def test_nothing_is_waited_for_at_a_second_signal(self) -> None:
        with running(tier="on", grace=60) as server, slow(server):
            server.kill(signal.SIGTERM)
            until(lambda: refuses(server), "the stop has begun")
            server.kill(signal.SIGTERM)
            assert server.wait(PATIENCE) == 143
            assert tier_said(server)[-1] == "finish 0"

    def test_nor_when_a_worker_cannot_start(self) -> None:
        server = tux.Server(command=FAKE, env={"FAKE_TROUBLE": "start", "FAKE_TIER": "on"})
        with pytest.raises(tux.StartError, match="this engine does not start"):
            server.start()
        assert tier_said(server)[-1] == "finish 0"

    def test_it_gets_the_new_log(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        with running(tier="on", access_log=log) as server:
            log.rename(tmp_path / "old")
            server.kill(signal.SIGUSR1)
            until(lambda: f"log {log}" in tier_said(server), "it is told")


def test_lost_records_are_reported_at_the_end() -> None:
    with running("lost", workers=1) as server:
        server.stop()
        assert "tux: warning: the access log lost 7 records" in server.stderr_text()


def refuses(server: tux.Server) -> bool:
    try:
        connect(server).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


def writes_only_to(server: tux.Server, log: Path) -> bool:
    """Twenty requests reach all workers but for one case in a million; each must add a line to this file."""
    before = log.read_text().count("\n")
    for _ in range(20):
        get(server, "/log")
    return log.read_text().count("\n") == before + 20


def listening_inodes(pid: int) -> set[str]:
    """Inodes of the listening TCP sockets that a process has open (state 0A in proc_net(5))."""
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    listening = {fields[9] for fields in map(str.split, lines) if fields[3] == "0A"}
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return {link[8:-1] for link in links if link.startswith("socket:[")} & listening
