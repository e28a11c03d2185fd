"""The server as a process: start, signals, privileges, crashes. With the real engine, from outside."""

from __future__ import annotations

import contextlib
import http.client
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tux
from tests import features

PATIENCE = 10.0
"""Seconds that a condition may take to come true on a busy machine."""

START_SECONDS = 0.3
"""The promise from the start to the ready line; three times as much is tested."""

BIG = 64 * 1024 * 1024
"""Bytes of a file that fits in no socket buffer."""

TUX = [sys.executable, "-m", "tux"]

HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def site() -> Iterator[Path]:
    """A folder that everybody may read (pytest's own are closed to other users)."""
    folder = Path(tempfile.mkdtemp(prefix="tux-site-"))
    folder.chmod(0o755)
    (folder / "index.html").write_text("hello\n")
    yield folder
    shutil.rmtree(folder)


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what}"
        os.sched_yield()


def address(server: tux.Server) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return host.strip("[]"), int(port)


def get(server: tux.Server, path: str = "/") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address(server), timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def refuses(server: tux.Server) -> bool:
    try:
        socket.create_connection(address(server), timeout=PATIENCE).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


@contextlib.contextmanager
def download(server: tux.Server, site: Path) -> Iterator[http.client.HTTPResponse]:
    """An answer of BIG bytes that is under way: its first bytes have arrived, most are not sent yet."""
    if not (site / "big").exists():
        with open(site / "big", "wb") as file:
            file.truncate(BIG)
    connection = http.client.HTTPConnection(*address(server), timeout=PATIENCE)
    connection.request("GET", "/big")
    with connection.getresponse() as response:
        assert response.read(1000) == bytes(1000)
        yield response
    connection.close()


def gone(pids: list[int]) -> bool:
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def run(*arguments: str, command: list[str] = TUX) -> tuple[int, str]:
    """A command that is expected to end by itself: exit code and standard error."""
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
    assert not done.stdout
    return done.returncode, done.stderr


class TestStart:
    def test_one_ready_line_per_listener(self, site: Path) -> None:
        with tux.Server(site, listen=["127.0.0.1:0", f"unix:{site}/s"], kernel="off") as server:
            lines = server.stderr_text().splitlines()
            assert re.fullmatch(r"tux: ready on http://127\.0\.0\.1:[1-9][0-9]*", lines[0])
            assert lines[1:] == [f"tux: ready on unix:{site}/s"]
            assert get(server) == (200, b"hello\n")
            assert server.stop() == 0
            assert server.stderr_text().splitlines() == lines

    def test_ipv6(self, site: Path) -> None:
        features.require("ipv6")
        with tux.Server(site, listen="[::1]:0", kernel="off") as server:
            assert server.stderr_text() == f"tux: ready on http://[::1]:{address(server)[1]}\n"
            assert get(server) == (200, b"hello\n")

    def test_a_unix_socket_answers(self, site: Path) -> None:
        with tux.Server(site, listen=f"unix:{site}/s"), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(f"{site}/s")
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            with sock.makefile("rb") as file:
                assert file.read().endswith(b"\r\n\r\nhello\n")

    def test_ready_fd(self, site: Path) -> None:
        reader, writer = os.pipe()
        arguments = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
            "--kernel",
            "off",
            "--ready-fd",
            str(writer),
            str(site),
        ]
        with subprocess.Popen([*TUX, *arguments], pass_fds=[writer], stderr=subprocess.PIPE, text=True) as process:
            os.close(writer)
            with open(reader) as pipe:
                urls = pipe.read().splitlines()  # ends when the server closes it
            process.terminate()
            assert process.stderr is not None
            assert process.stderr.read().splitlines() == [f"tux: ready on {url}" for url in urls]
            assert len(urls) == 2
        assert process.returncode == 0

    def test_a_ready_fd_that_is_not_open(self, site: Path) -> None:
        code, said = run("serve", "--ready-fd", "977", str(site))
        assert (code, said) == (2, "tux: error: --ready-fd 977 is not an open descriptor\n")

    def test_how_long_it_takes(self, site: Path) -> None:
        times = []
        for _ in range(3):
            begin = time.monotonic()
            with tux.Server(site):
                times.append(time.monotonic() - begin)
        assert min(times) < 3 * START_SECONDS

    def test_python_dash_m_is_the_same(self, site: Path) -> None:
        program = Path(sys.executable).with_name("tux")
        if not program.exists():
            pytest.skip("tux is not installed beside this Python")
        with tux.Server(site, command=[str(program)]) as server:
            assert get(server) == (200, b"hello\n")


class TestErrors:
    def test_no_such_folder(self, site: Path) -> None:
        assert run("serve", f"{site}/none") == (1, f"tux: error: no such folder: {site}/none\n")

    def test_a_port_in_use(self, site: Path) -> None:
        with tux.Server(site) as server:
            name = server.url.removeprefix("http://")
            assert run("serve", "--listen", name, str(site)) == (
                1,
                f"tux: error: {name} is already in use by another program; choose another with --listen\n",
            )
            assert get(server) == (200, b"hello\n")

    def test_a_port_without_permission(self, site: Path) -> None:
        command = TUX
        if os.geteuid() == 0:
            # In a network of its own, where the limit is the usual one; without the capability, though it is root.
            features.require("netns")
            command = ["unshare", "--net", "setpriv", "--bounding-set", "-net_bind_service", *TUX]
        elif int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80:
            pytest.skip("everybody may listen on port 80 here")
        code, said = run("serve", "--listen", "0.0.0.0:80", str(site), command=command)
        assert code == 1
        assert said.startswith("tux: error: no permission to listen on 0.0.0.0:80: ports below 1024 need root or ")
        assert said.count("\n") == 1

    def test_a_folder_that_nobody_cannot_read(self, site: Path) -> None:
        features.require("root")
        site.chmod(0o700)
        code, said = run("serve", "--listen", "127.0.0.1:0", str(site))
        assert code == 1
        assert said == (
            f"tux: error: user nobody cannot read the folder {site}; choose another user with --user NAME, "
            f"or allow it with chmod o+x {site}\n"
        )

    def test_a_user_that_does_not_exist(self, site: Path) -> None:
        assert run("serve", "--user", "no-such-user", str(site)) == (
            1,
            "tux: error: there is no user no-such-user; name another with --user\n",
        )

    def test_an_access_log_that_cannot_be_opened(self, site: Path) -> None:
        code, said = run("serve", "--access-log", f"{site}/none/log", str(site))
        assert (code, said) == (
            1,
            f"tux: error: cannot open the access log {site}/none/log: No such file or directory\n",
        )


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_download_under_way_is_finished(self, site: Path, number: int) -> None:
        with tux.Server(site) as server, download(server, site) as response:
            server.kill(number)
            until(lambda: refuses(server), "new connections are refused")
            assert len(response.read()) == BIG - 1000
            assert server.wait(PATIENCE) == 0

    def test_a_download_is_cut_off_after_the_grace(self, site: Path) -> None:
        with tux.Server(site, grace=0.3) as server, download(server, site) as response:
            begin = time.monotonic()
            assert server.stop() == 0
            assert 0.3 <= time.monotonic() - begin < 3 * 0.3 + 1
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                response.read()

    def test_idle_connections_do_not_delay_it(self, site: Path) -> None:
        with tux.Server(site) as server:
            connection = http.client.HTTPConnection(*address(server), timeout=PATIENCE)
            connection.request("GET", "/")
            connection.getresponse().read()
            server.kill(signal.SIGTERM)
            assert server.wait(PATIENCE) == 0
            connection.close()

    @pytest.mark.parametrize(("second", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_second_signal_ends_it_at_once(self, site: Path, second: int, code: int) -> None:
        with tux.Server(site) as server, download(server, site):
            pids = server.worker_pids()
            server.kill(signal.SIGINT)
            until(lambda: refuses(server), "the stop has begun")
            server.kill(second)
            assert server.wait(PATIENCE) == code
            assert gone(pids)

    def test_a_unix_socket_is_removed(self, site: Path) -> None:
        with tux.Server(site, listen=f"unix:{site}/s"):
            assert (site / "s").is_socket()
        assert not (site / "s").exists()

    def test_sighup_without_a_file_starts_all_anew(self, site: Path) -> None:
        with tux.Server(site) as server:
            before = server.worker_pids()
            server.kill(signal.SIGHUP)
            until(lambda: "reloaded the configuration" in server.stderr_text(), "a line says so")
            assert get(server) == (200, b"hello\n")
            until(lambda: not set(before) & set(server.worker_pids()), "other workers serve")


def test_under_a_service_manager(site: Path, tmp_path: Path) -> None:
    """Its socket is served; it is told of start, reload and stop; and neither is any business of others."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, socket.create_server(("127.0.0.1", 0)) as made:
        manager.bind(f"{tmp_path}/notify")
        manager.settimeout(PATIENCE)
        command = [sys.executable, "-c", HAND_OVER, str(made.fileno()), *TUX, "serve", str(site)]
        environment = {**os.environ, "NOTIFY_SOCKET": f"{tmp_path}/notify"}
        process = subprocess.Popen(
            [*command, "--listen", "fd:web", "--workers", "2"], env=environment, pass_fds=[made.fileno()]
        )
        try:
            assert manager.recv(100) == b"READY=1"
            port = made.getsockname()[1]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as answer:
                assert answer.read() == b"hello\n"
            process.send_signal(signal.SIGHUP)
            assert manager.recv(100).startswith(b"RELOADING=1\n")
            assert manager.recv(100) == b"READY=1"
            process.send_signal(signal.SIGTERM)
            assert manager.recv(100) == b"STOPPING=1"
            assert process.wait(PATIENCE) == 0
            # What comes now waits for the next start.
            with socket.create_connection(("127.0.0.1", port), PATIENCE):
                made.settimeout(PATIENCE)
                made.accept()[0].close()
        finally:
            process.kill()
            process.wait()


def test_every_thread_of_a_worker_has_the_filter_of_system_calls(site: Path) -> None:
    features.require("seccomp")
    with tux.Server(site, workers=2, access_log=site / "log") as server:
        assert get(server) == (200, b"hello\n")
        threads = [task for pid in server.worker_pids() for task in Path(f"/proc/{pid}/task").iterdir()]
        assert len(threads) >= 2 * 4  # planner, engine, helper, log
        for task in threads:
            assert "\nSeccomp:\t2\n" in task.joinpath("status").read_text()  # proc(5): SECCOMP_MODE_FILTER


class TestCrash:
    def test_a_killed_worker_is_replaced_and_its_sockets_stay(self, site: Path) -> None:
        with tux.Server(site, workers=2) as server:
            before = server.worker_pids()
            sockets = listening(server.pid)
            os.kill(before[0], signal.SIGKILL)
            until(lambda: len(set(server.worker_pids()) - set(before)) == 1, "another worker runs")
            for _ in range(50):
                assert get(server) == (200, b"hello\n")
            assert listening(server.pid) == sockets
            assert len(sockets) == 2
            assert f"worker 0 (pid {before[0]}) was killed by SIGKILL; it is replaced" in server.stderr_text()

    def test_a_crash_loses_its_own_connections_only(self, site: Path) -> None:
        """Downloads from both workers; one worker dies; the others' downloads are complete."""
        with tux.Server(site, workers=2) as server, contextlib.ExitStack() as opened:
            responses = [opened.enter_context(download(server, site)) for _ in range(8)]
            victim = server.worker_pids()[0]
            of_victim = connections(victim, server)
            os.kill(victim, signal.SIGKILL)
            complete = 0
            for response in responses:
                with contextlib.suppress(http.client.IncompleteRead, ConnectionResetError):
                    complete += len(response.read()) == BIG - 1000
            assert complete == 8 - len(of_victim)

    def test_workers_end_with_their_supervisor(self, site: Path) -> None:
        with tux.Server(site, workers=2) as server:
            pids = server.worker_pids()
            assert len(pids) == 2
            server.kill(signal.SIGKILL)
            assert server.wait(PATIENCE) == -signal.SIGKILL
            until(lambda: gone(pids), "the workers ended")
            assert refuses(server)

    def test_a_stale_unix_socket_is_replaced(self, site: Path) -> None:
        with tux.Server(site, listen=f"unix:{site}/s") as server:
            pids = server.worker_pids()
            server.kill(signal.SIGKILL)
            server.wait(PATIENCE)
            until(lambda: gone(pids), "the workers ended")
        assert (site / "s").is_socket()
        with tux.Server(site, listen=f"unix:{site}/s"):
            code, said = run("serve", "--listen", f"unix:{site}/s", str(site))
            assert code == 1
            assert said.startswith(f"tux: error: unix:{site}/s is already in use by another program")


class TestWorkers:
    def test_they_are_nobody(self, site: Path) -> None:
        features.require("root")
        with tux.Server(site, workers=2) as server:
            for pid in server.worker_pids():
                status = Path(f"/proc/{pid}/status").read_text()
                uid = pwd.getpwnam("nobody").pw_uid
                assert re.search(rf"^Uid:\t{uid}\t{uid}\t{uid}\t{uid}$", status, re.MULTILINE)
                assert re.search(r"^CapPrm:\t0+$", status, re.MULTILINE)
                assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)

    def test_they_hold_no_stray_descriptors(self, site: Path) -> None:
        """Standard ones, one socket per listener, the control socket, the log, and what each made for itself. No pipe,
        none of the ready descriptor, and none that the program which started the server has left open."""
        with open(site / "index.html") as stray:
            os.set_inheritable(stray.fileno(), True)
            with tux.Server(site, workers=3, listen=["127.0.0.1:0"] * 2, access_log=site / "log") as server:
                for pid in server.worker_pids():
                    assert len(listening(pid)) == 2
                    targets = [link for fd, link in descriptors(pid).items() if fd > 2]
                    assert {link for link in targets if link.startswith("/") and "memfd" not in link} == {f"{site}/log"}
                    assert not [link for link in targets if link.startswith("pipe:") or "pidfd" in link]

    def test_as_many_descriptors_as_allowed(self, site: Path) -> None:
        command = ["prlimit", "--nofile=64:512", *TUX]
        with tux.Server(site, command=command, workers=1) as server:
            (pid,) = server.worker_pids()
            limits = Path(f"/proc/{pid}/limits").read_text()
            soft = int(re.search(r"^Max open files +(\d+)", limits, re.MULTILINE)[1])  # type: ignore[index]
            assert soft >= 512


class TestAccessLog:
    def test_it_is_reopened(self, site: Path) -> None:
        log, old = site / "log", site / "log.1"
        with tux.Server(site, workers=2, access_log=log) as server:
            get(server, "/first")
            until(lambda: "/first" in log.read_text(), "the request is logged")
            log.rename(old)
            server.kill(signal.SIGUSR1)
            until(log.exists, "the log is reopened")
            # A worker may still be about to hear of it.
            until(lambda: get(server, "/second")[0] == 404 and "/second" in log.read_text(), "the new one is in use")
            assert "/first" not in log.read_text()

    def test_it_is_never_served(self, site: Path) -> None:
        log = site / "log"
        # As root, if we are: to others a log of root is unreadable anyway.
        with tux.Server(site, access_log=log, user=str(os.geteuid())) as server:
            assert get(server, "/log")[0] == 404
            log.rename(site / "old")
            server.kill(signal.SIGUSR1)
            until(lambda: "reopened the access log" in server.stderr_text(), "the log is reopened")
            assert get(server, "/old")[0] == 404
            until(lambda: get(server, "/log")[0] == 404, "the new one is known")

    def test_nor_is_the_configuration(self, site: Path) -> None:
        (site / "tux.toml").write_text('[server]\nlisten = ["127.0.0.1:0"]\n[[site]]\nroot = "."\n')
        with tux.Server(config=site / "tux.toml") as server:
            assert get(server, "/tux.toml")[0] == 404
            assert get(server) == (200, b"hello\n")


class TestFromPython:
    def test_serve_blocks_until_it_is_stopped(self, site: Path) -> None:
        """And leaves signal handlers, descriptors and the log as they were."""
        program = f"""
import logging, os, signal, sys, tux
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
before = sorted(os.listdir("/proc/self/fd"))
code = tux.serve({str(site)!r}, listen="127.0.0.1:0", workers=1, kernel="off")
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
assert signal.set_wakeup_fd(-1) == -1
assert sorted(os.listdir("/proc/self/fd")) == before
assert not logging.getLogger("tux").handlers
assert callable(tux.serve)
print("returned", code)
"""
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stderr.readline().startswith("tux: ready on http://127.0.0.1:")
            process.send_signal(signal.SIGINT)
            assert process.stdout.read() == "returned 0\n"
            assert process.stderr.read() == ""
        assert process.returncode == 0

    def test_errors_are_exceptions(self, site: Path) -> None:
        with pytest.raises(tux.StartError, match="no such folder"):
            tux.Server(site / "none").start()

    def test_options_are_judged_like_those_of_the_command_line(self, site: Path) -> None:
        with pytest.raises(tux.StartError) as caught:
            tux.Server(site, workers=0).start()
        assert caught.value.exit_code == 2


def descriptors(pid: int) -> dict[int, str]:
    """Number -> what it refers to, as /proc shows it."""
    return {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}


def sockets(pid: int, state: str) -> dict[str, tuple[str, str]]:
    """TCP sockets that a process has open and that are in a state (two hexadecimal digits, proc_net(5)): by inode,
    local and remote address."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    inodes = {link[8:-1] for link in descriptors(pid).values() if link.startswith("socket:[")}
    return {fields[9]: (fields[1], fields[2]) for fields in lines if fields[3] == state and fields[9] in inodes}


def listening(pid: int) -> set[str]:
    return set(sockets(pid, "0A"))


def connections(pid: int, server: tux.Server) -> list[str]:
    """Established connections of a worker to the server's first address."""
    port = f":{address(server)[1]:04X}"
    return [inode for inode, (local, _) in sockets(pid, "01").items() if local.endswith(port)]
