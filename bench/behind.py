# SPDX-License-Identifier: MIT
"""Servers with something behind them: they forward to the floor server, or run an application in two processes.

The peers of applications are set as their manuals advise for production on two processors: two processes, the event
loop and the parser that they recommend, no access log.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.content import hot_path
from bench.hello import INSIDE
from tools.fetch_peers import peer

PROCESSES: Final = 2
FLOOR_PORT: Final = 8100  # rows.FIRST_PORT: the floor is the first server of every row that forwards to it
ROOT: Final = Path(__file__).resolve().parent.parent

Line = tuple[tuple[str, ...], Mapping[str, str]]
"""A command line, and what its environment needs beside ours."""


@dataclass(frozen=True, slots=True)
class Where:
    """What a server is started for."""

    www: Path
    address: str
    port: int
    scratch: Path
    size: int


def _write(where: Where, name: str, text: str) -> str:
    file = where.scratch / name
    file.write_text(text)
    return str(file)


# ---- forwarding ------------------------------------------------------------------------------------------------------


def _tux(where: Where, *options: str, env: Mapping[str, str] | None = None) -> Line:
    user = ("--user", "root") if os.geteuid() == 0 else ()
    listen = ("--listen", f"{where.address}:{where.port}", "--workers", str(PROCESSES), "--access-log", "off")
    return (sys.executable, "-m", "tux", "serve", *listen, "--kernel", "off", *user, *options), env or {}


def _tux_forward(where: Where) -> Line:
    return _tux(where, "--forward", f"http://{where.address}:{FLOOR_PORT}")


def _nginx_forward(where: Where) -> Line:
    found = peer("nginx")
    user = "user root;" if os.geteuid() == 0 else ""
    config = f"""
        daemon off; pid {where.scratch}/nginx.pid; error_log stderr error; {user}
        worker_processes {PROCESSES}; worker_rlimit_nofile 20000;
        events {{ worker_connections 8192; }}
        http {{
            tcp_nodelay on; access_log off; keepalive_timeout 300s; keepalive_requests 1000000000;
            client_body_temp_path {where.scratch}/body; proxy_temp_path {where.scratch}/proxy;
            fastcgi_temp_path {where.scratch}/fastcgi; uwsgi_temp_path {where.scratch}/uwsgi;
            scgi_temp_path {where.scratch}/scgi;
            upstream floor {{
                server {where.address}:{FLOOR_PORT}; keepalive 128; keepalive_requests 1000000000;
                keepalive_timeout 300s;
            }}
            server {{
                listen {where.address}:{where.port} reuseport backlog=4096;
                location / {{
                    proxy_pass http://floor; proxy_http_version 1.1; proxy_set_header Connection "";
                    proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                    proxy_set_header X-Forwarded-Proto $scheme; proxy_max_temp_file_size 0;
                }}
            }}
        }}
    """
    return (str(found.path), "-p", str(where.scratch), "-c", _write(where, "nginx.conf", config)), found.env


def _h2o_forward(where: Where) -> Line:
    found = peer("h2o")
    user = "user: root\n" if os.geteuid() == 0 else ""
    config = (
        f"{user}listen: {{host: {where.address}, port: {where.port}}}\n"
        f"num-threads: {PROCESSES}\nmax-connections: 8192\nhttp1-request-timeout: 300\n"
        "proxy.preserve-host: ON\nproxy.timeout.keepalive: 60000\n"
        f"hosts:\n  default:\n    paths:\n      /:\n"
        f"        proxy.reverse.url: http://{where.address}:{FLOOR_PORT}/\n"
    )
    return (str(found.path), "-m", "worker", "-c", _write(where, "h2o.conf", config)), found.env


def _lighttpd(where: Where, module: str, root: Path, lines: str) -> Line:
    """With one of its modules, and what is said to it."""
    found = peer("lighttpd")
    config = f"""
        server.modules = ( "{module}" )
        server.document-root = "{root}"
        server.bind = "{where.address}"
        server.port = {where.port}
        server.max-worker = {PROCESSES}
        server.max-fds = 16384
        server.listen-backlog = 4096
        server.max-keep-alive-requests = 65535
        server.max-keep-alive-idle = 300
        server.errorlog = "{where.scratch}/error.log"
        {lines}
    """
    modules = found.root / "usr/lib/lighttpd"
    return (str(found.path), "-D", "-m", str(modules), "-f", _write(where, "lighttpd.conf", config)), found.env


def _lighttpd_forward(where: Where) -> Line:
    to = f'(( "host" => "{where.address}", "port" => {FLOOR_PORT} ))'
    return _lighttpd(where, "mod_proxy", where.www, f'server.stream-response-body = 1\nproxy.server = ( "" => {to} )')


# ---- applications ----------------------------------------------------------------------------------------------------

APPS: Final[Mapping[str, tuple[str, str, bool]]] = {
    # kind -> (what hello.py calls it, its interface, whether that is a factory)
    "wsgi": ("wsgi", "wsgi", False),
    "flask": ("flask", "wsgi", True),
    "asgi": ("asgi", "asgi", False),
    "starlette": ("starlette", "asgi", True),
    "ws": ("echo", "asgi", False),
    "file-wrapper": ("file_wrapper", "wsgi", False),
    "pathsend": ("pathsend", "asgi", False),
}


def _tux_app(kind: str, where: Where) -> Line:
    name, _interface, factory = APPS[kind]
    options = ("--app", f"bench.hello:{name}", "--app-dir", str(ROOT), "--app-workers", str(PROCESSES))
    return _tux(where, *options, *(("--factory",) if factory else ()), env=_env(where))


def _tux_named(kind: str, where: Where) -> Line:
    """An application that names a file by a field of its answer."""
    file = where.www / hot_path(where.size)[1:]
    app = f'[app.bench]\nmodule = "bench.hello:{kind}"\ndir = "{ROOT}"\nworkers = {PROCESSES}\n'
    option = f'sendfile_root = "{where.www}"\n' if kind == "sendfile" else ""
    inside = f'[[site.route]]\npath = "{INSIDE}"\nroot = "{file.parent}"\ninternal = true\n'
    config = _write(where, "named.toml", f'{app}{option}[[site]]\napp = "bench"\n{inside}')
    return _tux(where, "--config", config, env=_env(where))


def _tux_module(kind: str, where: Where) -> Line:
    """Modules are asked first: what is compared with them is a file."""
    table = f'[module.bench]\nmodules = ["bench.modules"]\ndir = "{ROOT}"\nworkers = {PROCESSES}\n'
    site = f'[[site]]\nroot = "{where.www}"\nmodule = "bench"\ntry = ["module", "static"]\n'
    config = _write(where, "modules.toml", table + site)
    return _tux(where, "--config", config, env={**_env(where), "BENCH_MODULE": kind})


def _tux_hog(where: Where) -> Line:
    options = ("--app", "bench.hello:hog", "--app-dir", str(ROOT), "--app-workers", "1", "--app-threads", "1")
    return _tux(where, str(where.www), *options, env=_env(where))


def _granian(kind: str, where: Where) -> Line:
    name, interface, factory = APPS[kind]
    line = (
        *(sys.executable, "-m", "granian", "--interface", interface, "--host", where.address),
        *("--port", str(where.port), "--workers", str(PROCESSES), "--http", "1", "--no-log"),
        "--ws" if kind == "ws" else "--no-ws",
        *(("--factory",) if factory else ()),
        *(("--loop", "uvloop") if interface == "asgi" else ()),
        f"bench.hello:{name}",
    )
    return line, _env(where)


def _uvicorn(kind: str, where: Where) -> Line:
    name, _interface, factory = APPS[kind]
    line = (
        *(sys.executable, "-m", "uvicorn", "--host", where.address, "--port", str(where.port), "--loop", "uvloop"),
        *("--http", "httptools", "--workers", str(PROCESSES), "--no-access-log", "--log-level", "warning"),
        *("--lifespan", "off", *(("--factory",) if factory else ()), f"bench.hello:{name}"),
    )
    return line, _env(where)


def _gunicorn(kind: str, where: Where) -> Line:
    name, _interface, factory = APPS[kind]
    target = f"bench.hello:{name}()" if factory else f"bench.hello:{name}"
    line = (
        *(sys.executable, "-m", "gunicorn", "--bind", f"{where.address}:{where.port}", "--workers", str(PROCESSES)),
        *("--worker-class", "gthread", "--threads", "64", "--keep-alive", "60", "--log-level", "warning", target),
    )
    return line, _env(where)


def _fastpysgi(kind: str, where: Where) -> Line:
    name, _interface, factory = APPS[kind]
    script = f"""
import fastpysgi
import bench.hello
fastpysgi.server.backlog = 4096
application = bench.hello.{name}{"()" if factory else ""}
fastpysgi.run(application, host={where.address!r}, port={where.port}, workers={PROCESSES}, loglevel=0)
"""
    return (sys.executable, "-c", script), _env(where)


def _env(where: Where) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "BENCH_FILE": str(where.www / hot_path(where.size)[1:])}


_RUNNERS: Final[Mapping[str, Callable[[str, Where], Line]]] = {
    "tux": _tux_app, "granian": _granian, "uvicorn": _uvicorn, "gunicorn": _gunicorn, "fastpysgi": _fastpysgi,
}  # fmt: skip


# ---- CGI -------------------------------------------------------------------------------------------------------------


def _scripts(where: Where) -> Path:
    """A folder with the program, as /hello of all three servers. Others must reach it: Apache does not run as root."""
    folder = where.scratch / "scripts"
    where.scratch.chmod(0o755)
    folder.mkdir(exist_ok=True)
    compiler = os.environ.get("CC", "gcc")
    line = (compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-static", str(ROOT / "bench/cgi.c"), "-o")
    subprocess.run((*line, str(folder / "hello")), check=True)
    return folder


def _tux_cgi(where: Where) -> Line:
    return _tux(where, "--cgi", f"/={_scripts(where)}")


def _lighttpd_cgi(where: Where) -> Line:
    return _lighttpd(where, "mod_cgi", _scripts(where), 'cgi.assign = ( "" => "" )')


def _apache_cgi(where: Where) -> Line:
    """Content-Length of scripts is believed, as the others do: chunks are what the load generator does not read."""
    found = peer("apache2")
    modules = found.root / "usr/lib/apache2/modules"
    loaded = "\n".join(
        f"LoadModule {name}_module {modules}/mod_{name}.so"
        for name in ("mpm_event", "authz_core", "alias", "env", "cgid")
    )
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    scripts = _scripts(where)
    config = f"""
{loaded}
{user}
ServerRoot {where.scratch}
PidFile {where.scratch}/apache.pid
DefaultRuntimeDir {where.scratch}
ScriptSock {where.scratch}/cgid
ErrorLog {where.scratch}/error.log
Listen {where.address}:{where.port}
ServerName localhost
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 300
StartServers {PROCESSES}
ServerLimit {PROCESSES}
ThreadsPerChild 64
MaxRequestWorkers {PROCESSES * 64}
DocumentRoot {scripts}
ScriptAlias / {scripts}/
SetEnv ap_trust_cgilike_cl 1
<Directory "{scripts}">
Require all granted
</Directory>
"""
    return (str(found.path), "-DFOREGROUND", "-f", _write(where, "apache.conf", config)), found.env


def _bind(runner: Callable[[str, Where], Line], kind: str) -> Callable[[Where], Line]:
    return lambda where: runner(kind, where)


SERVERS: Final[Mapping[str, Callable[[Where], Line]]] = {
    "tux-hog": _tux_hog,
    "tux-module": lambda where: _tux_module("", where),
    "tux-module-cached": lambda where: _tux_module("cached", where),
    "tux-module-object": lambda where: _tux_module("object", where),
    "tux-sendfile": _bind(_tux_named, "sendfile"),
    "tux-accel": _bind(_tux_named, "accel"),
    "tux-forward": _tux_forward,
    "nginx-forward": _nginx_forward,
    "h2o-forward": _h2o_forward,
    "lighttpd-forward": _lighttpd_forward,
    "tux-cgi": _tux_cgi,
    "lighttpd-cgi": _lighttpd_cgi,
    "apache2-cgi": _apache_cgi,
    **{f"{name}-{kind}": _bind(runner, kind) for name, runner in _RUNNERS.items() for kind in APPS},
}
"""Every server that a row may name, whether or not it can do that: rows name only what can."""
