# SPDX-License-Identifier: MIT
"""What the end-to-end tests share: a strict client, and waiting for conditions."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import tux
from tests.corpus.reader import PATIENCE, Reader, Response

PROMISE = 1.0
"""Seconds after which a change on disk must be seen."""

FRESH = 3 * PROMISE
"""Seconds that tests wait for it: the machine may be busy."""

EAGER = 0.001
"""Seconds between two looks of `until`; so long it does not sleep at all."""

Address = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""


def address_of(server: tux.Server, number: int = 0) -> Address:
    """The address of a server's listener."""
    url = server.urls[number]
    if url.startswith("unix:"):
        return url.removeprefix("unix:")
    host, _, port = url.removeprefix("http://").rpartition(":")
    return host.strip("[]"), int(port)


def open_socket(address: Address, receive_buffer: int = 0) -> socket.socket:
    """A connected socket with a time-out. receive_buffer: bytes, for clients that take little."""
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
    else:
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    sock.settimeout(PATIENCE)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def request(
    path: str = "/", *, method: str = "GET", host: str = "a.example", version: str = "1.1", **fields: str
) -> bytes:
    """A request without a body. Names of fields are written with underscores: if_none_match="*"."""
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Client:
    """One connection."""

    def __init__(self, server: tux.Server, number: int = 0, receive_buffer: int = 0) -> None:
        self.sock = open_socket(address_of(server, number), receive_buffer)
        self.reader = Reader(self.sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def ask(
        self, path: str = "/", *, method: str = "GET", host: str = "a.example", version: str = "1.1", **fields: str
    ) -> Response:
        """Send a request, and read its answer."""
        self.sock.sendall(request(path, method=method, host=host, version=version, **fields))
        return self.reader.response(method)

    def finish(self) -> None:
        """End our side; the server must end its own, without another byte."""
        self.sock.shutdown(socket.SHUT_WR)
        self.reader.expect_end()


def get(
    server: tux.Server, path: str = "/", *, method: str = "GET", host: str = "a.example", **fields: str
) -> Response:
    """The answer to one request, on a connection of its own that must end properly."""
    with Client(server) as client:
        response = client.ask(path, method=method, host=host, **fields)
        client.finish()
        return response


def until(condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    """Wait until the condition holds; fail after so many seconds. What is not there at once is left the processor that
    it may need."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < within, f"not within {within} s: {what}"
        if waited < EAGER:
            os.sched_yield()
        else:
            time.sleep(EAGER)


def put(path: Path, data: bytes | str, mtime: float | None = None) -> Path:
    """Write a file that everybody may read, and the folders above it. mtime: seconds since 1970."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return path


def replace(path: Path, data: bytes | str) -> None:
    """Replace a file atomically, as careful programs do."""
    new = path.with_name(f".{path.name}.new")
    put(new, data)
    new.replace(path)


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time that these processes have used so far (proc_pid_stat(5))."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def stop(server: tux.Server) -> str:
    """Stop the server, and return all it has said. Its workers must have ended well: not so if something leaked."""
    code = server.stop()
    said = server.stderr_text()
    assert code == 0, said
    assert "leaked" not in said
    assert "Traceback" not in said
    return said


def end(server: tux.Server) -> None:
    """Stop the server: nothing has leaked, whatever it had to report."""
    server.stop()
    assert "leaked" not in server.stderr_text()


def is_idle(server: tux.Server) -> bool:
    """Whether all threads of all workers sleep: there is nothing that they could do now."""
    return all(
        task.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "S"
        for pid in server.worker_pids()
        for task in Path(f"/proc/{pid}/task").iterdir()
    )
