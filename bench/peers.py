# SPDX-License-Identifier: MIT
"""The servers that are compared: their configurations, and how each is started, checked and stopped.

Every server gets two workers and the same folder. Peers are set as their manuals advise for speed; nothing that they
do by default for correctness is switched off.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from bench import behind
from bench.content import HOST
from bench.netns import Place
from bench.scenarios import AUTO, FLOOR, FLOOR_AGAIN, TIER, Scenario
from bench.tier import tux_has_tier
from tools.fetch_peers import FetchError, peer

WORKERS: Final = 2
START_S: Final = 20.0  # seconds until a server must accept
STOP_S: Final = 10.0
FDS: Final = 262_144  # descriptors: lighttpd keeps one for every cold file
ROOT: Final = Path(__file__).resolve().parent.parent


class StartError(Exception):
    """A server did not start, or does not serve what it should; the text is one line, or the server's own words."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a server: its command line, and what its environment needs beside ours."""

    line: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Site:
    """What a server is started for."""

    www: Path
    port: int
    scratch: Path  # an empty folder for its configuration, logs and pid file
    floor: Path  # the floor server's program
    scenario: Scenario
    place: Place
    bpffs: str  # a mounted bpffs of our own; "": there is none


def _nginx(site: Site, *, sendfile: bool, log: bool) -> Command:
    found = peer("nginx")
    access = f"{log_of(site.scratch)} combined buffer=64k flush=1s" if log else "off"
    user = "user root;" if os.geteuid() == 0 else ""
    config = f"""
        daemon off; pid {site.scratch}/nginx.pid; error_log stderr error; {user}
        worker_processes {WORKERS}; worker_rlimit_nofile {_descriptors()};
        events {{ worker_connections 32768; }}
        http {{
            types {{ text/html html; }} default_type application/octet-stream;
            sendfile {"on" if sendfile else "off"}; tcp_nopush on; tcp_nodelay on;
            open_file_cache max=20000 inactive=60s; open_file_cache_min_uses 2;
            keepalive_timeout 300s; keepalive_requests 1000000000; access_log {access};
            client_body_temp_path {site.scratch}/body; proxy_temp_path {site.scratch}/proxy;
            fastcgi_temp_path {site.scratch}/fastcgi; uwsgi_temp_path {site.scratch}/uwsgi;
            scgi_temp_path {site.scratch}/scgi;
            server {{ listen {site.place.address}:{site.port} reuseport backlog=4096; root {site.www}; }}
        }}
    """
    return Command((str(found.path), "-p", str(site.scratch), "-c", _write(site, "nginx.conf", config)), found.env)


def _lighttpd(site: Site) -> Command:
    found = peer("lighttpd")
    config = f"""
        server.document-root = "{site.www}"
        server.bind = "{site.place.address}"
        server.port = {site.port}
        server.max-worker = {WORKERS}
        server.max-fds = {_descriptors()}
        server.max-connections = {min(100_000, _descriptors() // 2)}
        server.listen-backlog = 4096
        server.max-keep-alive-requests = 65535
        server.max-keep-alive-idle = 300
        server.errorlog = "{site.scratch}/error.log"
        mimetype.assign = ( ".html" => "text/html", "" => "application/octet-stream" )
    """
    modules = found.root / "usr/lib/lighttpd"
    line = (str(found.path), "-D", "-m", str(modules), "-f", _write(site, "lighttpd.conf", config))
    return Command(line, found.env)


def _h2o(site: Site) -> Command:
    found = peer("h2o")
    user = "user: root\n" if os.geteuid() == 0 else ""
    config = (
        f"{user}listen: {{host: {site.place.address}, port: {site.port}}}\n"
        f"num-threads: {WORKERS}\nmax-connections: 32768\nhttp1-request-timeout: 300\n"
        f"hosts:\n  default:\n    paths:\n      /:\n        file.dir: {site.www}\n"
    )
    return Command((str(found.path), "-m", "worker", "-c", _write(site, "h2o.conf", config)), found.env)


def _tux(site: Site, *, log: bool, tier: str = "off") -> Command:
    """``tier``: the mode. In the row of misses it has an application for what is no file."""
    access = str(log_of(site.scratch)) if log else "off"
    user = ("--user", "root") if os.geteuid() == 0 else ()
    kernel: tuple[str, ...] = ()
    env: dict[str, str] = {}
    app: tuple[str, ...] = ()
    if site.scenario.kind == "misses":
        app = ("--app", "bench.hello:slow", "--app-dir", str(ROOT), "--app-workers", str(behind.PROCESSES))
        env = {"PYTHONPATH": str(ROOT)}
    if tier != "off":
        config = _write(site, "tux.toml", f"[kernel]\nbpffs = {json.dumps(site.bpffs)}\n")
        kernel = ("--config", config, "--kernel", tier, "--kernel-interface", site.place.interface)
    elif tux_has_tier():
        kernel = ("--kernel", "off")
    line = (sys.executable, "-m", "tux", "serve", str(site.www), "--workers", str(WORKERS),
            "--listen", f"{site.place.address}:{site.port}", "--access-log", access, *user, *kernel, *app)  # fmt: skip
    return Command(line, env)


def _floor(site: Site) -> Command:
    size = "path" if site.scenario.size is None else str(site.scenario.size)
    line = (str(site.floor), "--address", site.place.address, "--port", str(site.port), "--workers", str(WORKERS),
            "--size", size, "--status", str(site.scenario.status))  # fmt: skip
    return Command(line, {})


def _behind(name: str, site: Site) -> Command:
    """Servers with something behind them (behind.py)."""
    where = behind.Where(site.www, site.place.address, site.port, site.scratch, site.scenario.size or 0)
    line, env = behind.SERVERS[name](where)
    return Command(line, env)


SERVERS: Final[Mapping[str, Callable[[Site], Command]]] = {
    FLOOR: _floor,
    "tux": lambda site: _tux(site, log=False),
    "tux-log": lambda site: _tux(site, log=True),
    TIER: lambda site: _tux(site, log=True, tier="on"),
    AUTO: lambda site: _tux(site, log=True, tier="auto"),
    "nginx": lambda site: _nginx(site, sendfile=True, log=False),
    "nginx-nosendfile": lambda site: _nginx(site, sendfile=False, log=False),
    "nginx-log": lambda site: _nginx(site, sendfile=True, log=True),
    "nginx-nosendfile-log": lambda site: _nginx(site, sendfile=False, log=True),
    "lighttpd": _lighttpd,
    "h2o": _h2o,
    **{name: functools.partial(_behind, name) for name in behind.SERVERS},
}


def process_of(server: str) -> str:
    """The server that must run to measure ``server``: both measurements of the floor are of one process."""
    return FLOOR if server == FLOOR_AGAIN else server


def log_of(scratch: Path) -> Path:
    """The access log of a server with that folder, where it writes one."""
    return scratch / "access.log"


def _descriptors() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_descriptor_limit() -> int:
    """Allow us and the servers as many descriptors as possible, up to FDS; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (FDS, hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
            return wanted
    return soft


def _write(site: Site, name: str, text: str) -> str:
    file = site.scratch / name
    file.write_text(text)
    return str(file)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts connections on ``port``; ``pid`` is the root of its process tree."""

    name: str
    pid: int
    port: int
    address: str
    scratch: Path


@contextlib.contextmanager
def running(name: str, site: Site) -> Iterator[Running]:
    """Start server ``name`` and stop it at exit. Raises StartError."""
    try:
        command = SERVERS[name](site)
    except FetchError as error:
        raise StartError(str(error)) from None
    with (site.scratch / "output").open("w+") as output:
        process = subprocess.Popen(
            (*site.place.enter, *command.line), env={**os.environ, **command.env}, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output,
            cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        try:
            _wait_accepting(name, process, (site.place.address, site.port), output)
            yield Running(name, process.pid, site.port, site.place.address, site.scratch)
        finally:
            _stop(process)
            _wait_refused(name, (site.place.address, site.port))


def _wait_accepting(name: str, process: subprocess.Popen[bytes], address: tuple[str, int], output: IO[str]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            output.seek(0)
            raise StartError(f"{name} ended with code {process.returncode}: {output.read().strip()[-400:]}")
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
            return
        time.sleep(0.02)
    raise StartError(f"{name} did not accept a connection within {START_S:.0f} s")


def _wait_refused(name: str, address: tuple[str, int]) -> None:
    """Wait until nobody listens: a dying worker would else accept what is meant for the next server."""
    end = time.monotonic() + STOP_S
    while time.monotonic() < end:
        try:
            socket.create_connection(address, timeout=1).close()
        except ConnectionRefusedError:
            return
        except OSError:
            pass
        time.sleep(0.01)
    raise StartError(f"{name} still listens after its end")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and all that it started: they are a process group of their own."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the server itself when it did not end, and workers that outlived it
    process.wait()


@dataclass(frozen=True, slots=True)
class Probe:
    """One answer, as http.client reads it."""

    status: int
    fields: Mapping[str, str]  # names in lower case
    length: int
    sha256: str


def probe(server: Running, path: str, fields: Mapping[str, str]) -> Probe:
    """Ask once for ``path``. Raises StartError when there is no answer."""
    connection = http.client.HTTPConnection(server.address, server.port, timeout=10)
    try:
        connection.request("GET", path, headers={"Connection": "close", **fields})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise StartError(f"no answer for {path}: {error!r}") from None
    finally:
        connection.close()
    names = {name.lower(): value for name, value in answer.getheaders()}
    return Probe(answer.status, names, len(body), hashlib.sha256(body).hexdigest())


def check(server: Running, path: str, expected: bytes, start: int | None = None, *, static: bool = True) -> str:
    """See that ``server`` serves ``expected`` at ``path`` with the fields that belong to a file (``static``); returns
    its ETag.

    With ``start``, the range of these bytes from there on is asked for. Raises StartError naming what differs.
    """
    fields, status = {"Host": HOST, "Accept-Encoding": "gzip, deflate"}, 200
    if start is not None:
        fields["Range"], status = f"bytes={start}-{start + len(expected) - 1}", 206
    got = probe(server, path, fields)
    wanted = {"status": status, "length": len(expected), "sha256": hashlib.sha256(expected).hexdigest()}
    for name, value in wanted.items():
        if getattr(got, name) != value:
            raise StartError(f"{server.name}: {path}: {name} is {getattr(got, name)}, expected {value}")
    for name in ("etag", "last-modified", "content-type") if static else ():
        if name not in got.fields:
            raise StartError(f"{server.name}: {path}: the answer has no {name}")
    return got.fields.get("etag", "")
