"""`tux.Server` as a manager of a process, and how options become arguments. (What it serves: tests/e2e.)"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import tux
from tux import api
from tux.daemon import processes


def program(code: str, **more: Any) -> tux.Server:
    """A server that is a few lines of Python, with its arguments in sys.argv and the ready descriptor as `ready`."""
    return tux.Server(
        command=[sys.executable, "-c", f"import os, sys, time; ready = int(sys.argv[-1])\n{code}"], **more
    )


SERVE = "os.write(ready, b'http://127.0.0.1:1\\nunix:/s\\n'); os.close(ready); time.sleep(1000)"


class TestServer:
    def test_urls(self) -> None:
        with program(SERVE) as server:
            assert server.url == "http://127.0.0.1:1"
            assert server.urls == ["http://127.0.0.1:1", "unix:/s"]
            os.kill(server.pid, 0)
        with pytest.raises(ProcessLookupError):
            os.kill(server.pid, 0)

    def test_a_start_that_fails(self) -> None:
        with pytest.raises(tux.StartError) as caught:
            program("print('tux: warning: x\\ntux: error: no such folder: /x', file=sys.stderr); sys.exit(2)").start()
        assert (caught.value.message, caught.value.exit_code) == ("no such folder: /x", 2)

    def test_a_start_that_says_nothing(self) -> None:
        with pytest.raises(tux.StartError, match="ended with code -9 and said nothing"):
            program("os.kill(os.getpid(), 9)").start()

    def test_a_start_that_takes_too_long(self) -> None:
        server = program("print('tux: thinking', file=sys.stderr, flush=True); time.sleep(1000)", timeout=1.0)
        with pytest.raises(tux.StartError, match=r"not ready within 1 s; it said: '(tux: thinking\\n)?'"):
            server.start()
        with pytest.raises(ProcessLookupError):
            os.kill(server.pid, 0)

    def test_a_program_that_cannot_be_run(self) -> None:
        with pytest.raises(FileNotFoundError):
            tux.Server(command=["/no/such/program"]).start()

    def test_a_stop_that_takes_too_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(api, "STOP_MARGIN", 0.1)
        server = program(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SERVE}", grace=0.1).start()
        with pytest.raises(TimeoutError, match="did not stop within"):
            server.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(server.pid, 0)

    def test_exit_code_of_stop_and_wait(self) -> None:
        server = program(SERVE).start()
        assert server.stop() == -signal.SIGTERM
        assert server.stop() == 0
        server.start()
        server.kill()
        assert server.wait(10) == -signal.SIGKILL

    def test_what_it_said_can_be_read_afterwards(self) -> None:
        with program(f"print('one', file=sys.stderr, flush=True)\n{SERVE}") as server:
            assert server.stderr_text() == "one\n"
        assert server.stderr_text() == "one\n"
        with server:
            assert server.stderr_text() == "one\none\n"

    def test_environment_and_folder(self, tmp_path: Path) -> None:
        code = f"print(os.environ['X'], 'PATH' in os.environ, os.getcwd(), file=sys.stderr, flush=True)\n{SERVE}"
        with program(code, env={"X": "y"}, cwd=tmp_path) as server:
            assert server.stderr_text() == f"y True {tmp_path}\n"

    def test_a_start_twice(self) -> None:
        with program(SERVE) as server, pytest.raises(RuntimeError):
            server.start()


def arguments(path: str | None = None, **options: Any) -> list[str]:
    return tux.Server(path, **options)._arguments()


class TestArguments:
    def test_a_free_port_is_the_default(self) -> None:
        assert arguments() == ["serve", "--listen=127.0.0.1:0"]
        assert arguments(config="tux.toml") == ["serve", "--config=tux.toml"]

    def test_a_path_that_looks_like_an_option(self) -> None:
        assert arguments("-x", args=["--grace", "1"]) == ["serve", "--listen=127.0.0.1:0", "--grace", "1", "--", "-x"]

    def test_values(self) -> None:
        assert arguments(
            listen=["127.0.0.1:1", "unix:/s"],
            workers="auto",
            grace=0.5,
            host_strip=".a",
            host_default="none",
            index="a.html",
            listing=True,
            spa="app.html",
            clean_urls=False,
            immutable=True,
            cors=True,
            security_headers=True,
            error_page={404: "404.html"},
            types={".log": "text/plain; x=1"},
            charset={"old/": "koi8-r"},
            download="*.pdf",
            precompressed=False,
            compress=True,
            access_log=Path("/l"),
            log_format="json",
            cache_control={"*.css": "max-age=1", "*": "no-store"},
            headers={"X-A": "1", "*.js": {"X-B": "2"}},
            dotfiles="allow",
            kernel="on",
            kernel_interface="lo",
        ) == [
            "serve",
            "--listen=127.0.0.1:1",
            "--listen=unix:/s",
            "--workers=auto",
            "--grace=0.5",
            "--host-strip=.a",
            "--host-default=none",
            "--index=a.html",
            "--listing",
            "--spa=app.html",
            "--no-clean-urls",
            "--immutable",
            "--cors",
            "--security-headers",
            "--error-page=404=404.html",
            "--charset=old/=koi8-r",
            "--download=*.pdf",
            "--no-precompressed",
            "--compress",
            "--access-log=/l",
            "--log-format=json",
            "--cache-control=*.css=max-age=1",
            "--cache-control=*=no-store",
            "--dotfiles=allow",
            "--kernel=on",
            "--kernel-interface=lo",
            "--type=.log=text/plain; x=1",
            "--header=*:X-A=1",
            "--header=*.js:X-B=2",
        ]

    def test_one_cache_control_for_all(self) -> None:
        assert "--cache-control=*=no-cache" in arguments(cache_control="no-cache")


class TestAlone:
    """Where a server must not be started, because it forks."""

    def test_from_another_thread(self) -> None:
        caught: list[str] = []

        def start() -> None:
            with pytest.raises(tux.StartError) as error:
                processes.check_alone()
            caught.append(error.value.message)

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        assert caught == ["the server must be started by the main thread; from other threads use tux.Server"]

    def test_beside_another_thread(self) -> None:
        end = threading.Event()
        thread = threading.Thread(target=end.wait)
        thread.start()
        try:
            with pytest.raises(tux.StartError, match="this process has several threads"):
                processes.check_alone()
        finally:
            end.set()
            thread.join()
