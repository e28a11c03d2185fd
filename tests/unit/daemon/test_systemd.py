# SPDX-License-Identifier: MIT
"""What a service manager hands over, as its manual pages describe it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tux.config.listen import parse
from tux.daemon import systemd
from tux.daemon.listeners import open_listeners
from tux.errors import StartError


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    name = f"{tmp_path}/notify" if kind == "path" else f"@tux-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify = systemd.take_notifier()
        assert "NOTIFY_SOCKET" not in os.environ
        notify(systemd.READY)
        notify(systemd.reloading())
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/no/such/socket")
    systemd.take_notifier()(systemd.READY)
    assert "cannot tell the service manager: No such file or directory" in caplog.text
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.take_notifier()(systemd.READY)


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, {}),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {}),
        ({"LISTEN_PID": "me", "LISTEN_FDS": "x"}, {}),
        ({"LISTEN_PID": "me", "LISTEN_FDS": "2"}, {"unknown": [3, 4]}),
        ({"LISTEN_PID": "me", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:a"}, {"a": [3, 5], "b": [4]}),
    ],
)
def test_sockets(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], found: dict[str, list[int]]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace("me", str(os.getpid())))
    assert systemd.take_sockets() == found
    assert not [name for name in os.environ if name.startswith("LISTEN_")]


def test_a_socket_that_listens_already() -> None:
    with socket.create_server(("127.0.0.1", 0)) as made:
        with open_listeners([parse("fd:web")], 2, {"web": [os.dup(made.fileno())]}) as listeners:
            (listener,) = listeners
            assert listener.url == f"http://127.0.0.1:{made.getsockname()[1]}"
            assert listener.shared
            assert listener.inherited
            listeners.refuse()
        # It goes on, for whoever comes next.
        with socket.create_connection(made.getsockname()) as client, made.accept()[0] as accepted:
            client.send(b"x")
            assert accepted.recv(1) == b"x"


def test_a_unix_socket_stays(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"{tmp_path}/s")
        made.listen()
        with open_listeners([parse(f"fd:{os.dup(made.fileno())}")], 2) as listeners:
            assert listeners.urls == [f"unix:{tmp_path}/s"]
    assert (tmp_path / "s").is_socket()


def test_what_is_no_listening_socket(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file, socket.socket() as silent:
        for text, problem in (
            (f"fd:{file.fileno()}", "is not a socket"),
            (f"fd:{silent.fileno()}", "does not listen for connections"),
            ("fd:99999", "descriptor 99999 is not open"),
            ("fd:web", "no socket named web was handed over by a service manager (there are: none)"),
        ):
            with pytest.raises(StartError) as caught:
                open_listeners([parse(text)], 1)
            assert problem in caught.value.message
