# SPDX-License-Identifier: MIT
"""Servers of others, unaltered, for the tests of forwarding. Each serves a folder with files, or says what it got:
`X-Seen` of its responses is the method, the target and the host, and if it can read bodies, the length of the body and
its CRC-32."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.corpus.reader import PATIENCE
from tests.e2e.client import until
from tools.fetch_peers import FetchError, peer

Command = tuple[list[str], Mapping[str, str]]

_WSGI = """
import zlib
def app(environ, start_response):
    body = environ["wsgi.input"].read()
    seen = [environ["REQUEST_METHOD"], environ["RAW_URI"], environ.get("HTTP_HOST", "")]
    seen += [str(len(body)), str(zlib.crc32(body))]
    start_response("200 OK", [("X-Seen", " ".join(seen)), ("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""
_ASGI = """
import zlib
async def app(scope, receive, send):
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    host = dict(scope["headers"]).get(b"host", b"")
    seen = b" ".join([scope["method"].encode(), target, host, b"%d %d" % (len(body), zlib.crc32(body))])
    headers = [(b"x-seen", seen), (b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
"""
_NODE = """
const http = require("http");
const crc = (() => {
  const table = Array.from({length: 256}, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n >>> 0;
  });
  return (bytes) => {
    let c = 0xffffffff;
    for (const b of bytes) c = table[(c ^ b) & 255] ^ (c >>> 8);
    return (c ^ 0xffffffff) >>> 0;
  };
})();
http.createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const body = Buffer.concat(pieces);
    const seen = [request.method, request.url, request.headers.host || "", body.length, crc(body)].join(" ");
    response.writeHead(200, {"X-Seen": seen, "Content-Type": "text/plain", "Content-Length": 2});
    response.end("ok");
  });
}).listen(Number(process.argv[2]), "127.0.0.1");
"""


def _nginx(folder: Path, port: int) -> Command:
    found = peer("nginx")
    user = "user root;" if os.geteuid() == 0 else ""
    paths = " ".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; {user} worker_processes 1;\n"
        f"events {{ worker_connections 512; }}\nhttp {{ access_log off; {paths} default_type text/plain;\n"
        f"server {{ listen 127.0.0.1:{port}; root {folder}/files; large_client_header_buffers 8 64k;\n"
        'add_header X-Seen "$request_method $request_uri $http_host" always;\n'
        'location / { return 200 "ok"; } location /files/ { rewrite ^/files(.*) $1 break; } } }\n'
    )
    return [str(found.path), "-p", str(folder), "-c", str(config)], found.env


def _apache(folder: Path, port: int) -> Command:
    found = peer("apache2")
    modules = found.root / "usr/lib/apache2/modules"
    wanted = ("mpm_event", "authz_core", "headers", "alias", "rewrite", "dir")
    there = [name for name in wanted if (modules / f"mod_{name}.so").exists()]
    lines = [f"LoadModule {name}_module {modules}/mod_{name}.so" for name in there]
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    config = folder / "apache.conf"
    config.write_text(
        "\n".join(lines) + f"\nServerRoot {folder}\nPidFile {folder}/apache.pid\nDefaultRuntimeDir {folder}\n"
        f"Listen 127.0.0.1:{port}\nServerName localhost\nErrorLog {folder}/error.log\n{user}\n"
        "HttpProtocolOptions Strict\nLimitRequestLine 65536\nLimitRequestFieldSize 65536\n"
        f"DocumentRoot {folder}/files\nAlias /files/ {folder}/files/\n"
        'Header always set X-Seen "expr=%{THE_REQUEST} %{HTTP_HOST}"\n'
        f'<Directory "{folder}/files">\nRequire all granted\n</Directory>\n'
        "RewriteEngine On\nRewriteCond %{REQUEST_URI} !^/files/\nRewriteRule . - [R=204,L]\n"
    )
    return [str(found.path), "-X", "-f", str(config)], found.env


def _lighttpd(folder: Path, port: int) -> Command:
    found = peer("lighttpd")
    config = folder / "lighttpd.conf"
    config.write_text(
        f'server.document-root = "{folder}/files"\nserver.bind = "127.0.0.1"\nserver.port = {port}\n'
        f'server.errorlog = "{folder}/error.log"\nmimetype.assign = ( "" => "text/plain" )\n'
        'server.modules = ( "mod_alias" )\n'
        f'alias.url = ( "/files/" => "{folder}/files/" )\n'
    )
    modules = found.root / "usr/lib/lighttpd"
    return [str(found.path), "-D", "-m", str(modules), "-f", str(config)], found.env


def _gunicorn(folder: Path, port: int) -> Command:
    (folder / "seen_wsgi.py").write_text(_WSGI)
    options = ["--bind", f"127.0.0.1:{port}", "--threads", "4", "--keep-alive", "30", "--limit-request-line", "0"]
    options += ["--limit-request-field_size", "0", "--chdir", str(folder), "--no-control-socket"]
    return [sys.executable, "-m", "gunicorn", *_known(options), "seen_wsgi:app"], {}


def _known(options: list[str]) -> list[str]:
    """Without what this version of gunicorn does not know."""
    text = subprocess.run([sys.executable, "-m", "gunicorn", "--help"], capture_output=True, text=True).stdout
    return [option for option in options if option != "--no-control-socket" or option in text]


def _uvicorn(folder: Path, port: int) -> Command:
    (folder / "seen_asgi.py").write_text(_ASGI)
    options = ["--host", "127.0.0.1", "--port", str(port), "--app-dir", str(folder), "--log-level", "warning"]
    return [sys.executable, "-m", "uvicorn", *options, "--http", "h11", "--lifespan", "off", "seen_asgi:app"], {}


def _node(folder: Path, port: int) -> Command:
    program = shutil.which("node") or shutil.which("nodejs")
    if program is None:
        raise FetchError("no node (Debian: nodejs)")
    (folder / "seen.js").write_text(_NODE)
    return [program, "--max-http-header-size=65536", str(folder / "seen.js"), str(port)], {}


SERVERS: Final[dict[str, Callable[[Path, int], Command]]] = {
    "nginx": _nginx,
    "apache": _apache,
    "lighttpd": _lighttpd,
    "gunicorn": _gunicorn,
    "uvicorn": _uvicorn,
    "node": _node,
}


@contextlib.contextmanager
def running(name: str, folder: Path) -> Iterator[str]:
    """The server, at work: its URL. `folder` is empty and the server's own; files to be served below /files/ go into
    folder/files. FetchError: it is not to be had on this machine."""
    (folder / "files").mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command, env = SERVERS[name](folder, port)
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            command, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=folder
        )
    try:
        until(lambda: process.poll() is not None or _answers(port), f"{name} listens", within=3 * PATIENCE)
        assert process.poll() is None, (folder / "said").read_text(errors="replace")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except OSError:
        return False
    return True
