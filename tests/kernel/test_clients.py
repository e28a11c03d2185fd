# SPDX-License-Identifier: MIT
"""Programs that people use, in front of the kernel tier: they see no difference, and most of what they ask for is
answered by it."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import features
from tests.e2e.browser import chromium
from tests.e2e.client import put, until
from tests.kernel.lab import Net
from tests.kernel.world import World, open_world, silences
from tools import fetch_peers

CLIENT_SECONDS: Final = 60

COUNT: Final = 2000
"""Requests of each load generator."""

WARM_RUNS: Final = 5
"""In which what is asked for must be published, where it can be: one is enough by far, as a rule."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world(Net(), workers=2) as world:
        yield world


def url(world: World, path: str = "/1000.bin") -> str:
    return f"http://{world.address[0]}:{world.address[1]}{path}"


def run(world: World, command: list[str], *, env: dict[str, str] | None = None, stdin: str = "") -> str:
    """Run a program where the clients are: what it says."""
    with world.lab.client:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=CLIENT_SECONDS,
            env={**os.environ, **(env or {})},
        )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
    return done.stdout


def peer(name: str) -> fetch_peers.Peer:
    features.require("peers")
    try:
        return fetch_peers.peer(name)
    except fetch_peers.FetchError as error:
        pytest.skip(str(error))


def run_warm(world: World, command: list[str], peer: fetch_peers.Peer) -> tuple[str, int]:
    """What the command says, and how many requests the tier answered meanwhile, those included that came while it was
    silent. All is published by then: before, they are the worker's, and how many those are is a matter of how soon the
    supervisor gets a processor."""
    for _ in range(WARM_RUNS):
        before = world.counters()
        run(world, command, env=peer.env)
        if world.answered() > before["answered"]:
            break
    before = world.counters()
    said = run(world, command, env=peer.env)
    now = world.counters() - before
    return said, now["answered"] + silences(now)


def test_curl(world: World) -> None:
    """Several files on one connection, over and over, each whole."""
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    before = world.counters()
    paths = ["/100.bin", "/1000.bin", "/big.bin", "/0.bin"] * 25
    with tempfile.TemporaryDirectory() as folder:
        command = ["curl", "--silent", "--show-error", "--fail"]
        for number, path in enumerate(paths):
            command += ["--output", f"{folder}/{number}", url(world, path)]
        run(world, command)
        for number, path in enumerate(paths):
            assert (Path(folder) / str(number)).read_bytes() == world.files[path], (number, path)
    world.expect_answered(before, 50)


def test_http_client(world: World) -> None:
    """Of Python."""
    before = world.counters()
    with world.lab.client:
        connection = http.client.HTTPConnection(*world.address, timeout=CLIENT_SECONDS)
        connection.connect()
    for _ in range(50):
        for path in ("/1000.bin", "/100.bin", "/big.bin", "/none"):
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            assert (response.status, body) == ((404, body) if path == "/none" else (200, world.files[path]))
            connection.request("HEAD", path)
            response = connection.getresponse()
            assert response.read() == b""
    connection.close()
    world.expect_answered(before, 200)


NODE: Final = """
const http = require("http"), crypto = require("crypto");
const [host, port, rounds] = [process.argv[2], process.argv[3], 60];
const agent = new http.Agent({keepAlive: true, maxSockets: 4});
const get = (path) => new Promise((resolve, reject) => {
  http.get({host, port, path, agent}, (response) => {
    const hash = crypto.createHash("sha256");
    response.on("data", (piece) => hash.update(piece));
    response.on("end", () => resolve([path, response.statusCode, hash.digest("hex")].join(" ")));
    response.on("aborted", () => reject(new Error("aborted")));
  }).on("error", reject);
});
(async () => {
  const lines = new Set();
  for (let i = 0; i < rounds; i++)
    for (const line of await Promise.all(["/1000.bin", "/100.bin", "/big.bin", "/1000.bin"].map(get)))
      lines.add(line);
  console.log(JSON.stringify([...lines].sort()));
  agent.destroy();
})();
"""


def test_node(world: World) -> None:
    """Its agent with several connections; whatever it sees of a file is always the same, and right."""
    if shutil.which("node") is None:
        pytest.skip("no node")
    before = world.counters()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "client.js"
        script.write_text(NODE)
        said = json.loads(run(world, ["node", str(script), world.address[0], str(world.address[1])]))
    paths = ("/100.bin", "/1000.bin", "/big.bin")
    assert said == [f"{path} 200 {hashlib.sha256(world.files[path]).hexdigest()}" for path in paths]
    world.expect_answered(before, 100)


def test_wrk(world: World) -> None:
    wrk = peer("wrk")
    said, answered = run_warm(world, [str(wrk.path), "-t1", "-c16", "-d1s", url(world)], wrk)
    found = re.search(r"(\d+) requests in", said)
    assert found is not None, said
    assert "Socket errors" not in said
    assert "Non-2xx" not in said
    # Some are still under way when it stops.
    assert answered >= 0.9 * int(found[1])


@pytest.mark.parametrize("path", ["/1000.bin", "/big.bin"])
def test_h2load(world: World, path: str) -> None:
    h2load = peer("h2load")
    count = COUNT if path != "/big.bin" else COUNT // 10
    command = [str(h2load.path), "--h1", f"-n{count}", "-c8", url(world, path)]
    said, answered = run_warm(world, command, h2load)
    assert f"{count} succeeded, 0 failed, 0 errored" in said, said
    assert f"{len(world.files[path]) * count}) data" in said.replace(",", ""), said
    assert path == "/big.bin" or answered >= 0.9 * count  # that one fits no packet


def test_ab(world: World) -> None:
    """HTTP/1.0 with keep-alive."""
    ab = peer("ab")
    said, answered = run_warm(world, [str(ab.path), "-k", f"-n{COUNT}", "-c8", url(world)], ab)
    assert re.search(r"Complete requests: +2000\n", said), said
    assert re.search(r"Failed requests: +0\n", said), said
    assert re.search(r"Keep-Alive requests: +2000\n", said), said
    assert "Non-2xx" not in said, said
    assert f"HTML transferred:       {1000 * COUNT} bytes" in said, said
    assert answered >= 0.9 * COUNT


NGINX: Final = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream tux {{ server {host}:{port}; keepalive 8; }}
    server {{
        listen unix:{folder}/nginx.sock;
        location / {{ proxy_pass http://tux; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


def test_nginx_in_front(world: World) -> None:
    """A reverse proxy that keeps its connections: it must never mix up two answers."""
    nginx = peer("nginx")
    before = world.counters()
    with tempfile.TemporaryDirectory(prefix="tux-nginx-") as folder:
        Path(folder).chmod(0o755)
        config = Path(folder) / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, host=world.address[0], port=world.address[1]))
        with world.lab.client:
            process = subprocess.Popen(
                [nginx.path, "-c", config, "-p", folder], env={**os.environ, **nginx.env}, stderr=subprocess.DEVNULL
            )
        try:
            until((Path(folder) / "nginx.sock").exists, "nginx listens")
            wrong: list[str] = []
            threads = [threading.Thread(target=ask_proxy, args=(world, folder, seed, wrong)) for seed in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(CLIENT_SECONDS)
            assert wrong == []
        finally:
            process.terminate()
            process.wait()
        assert (Path(folder) / "error.log").read_text() == ""
    world.expect_answered(before, 300)


def ask_proxy(world: World, folder: str, seed: int, wrong: list[str]) -> None:
    """Ask for one file after another, and note what is not as it should be."""
    paths = ["/100.bin", "/1000.bin", "/big.bin", "/1.bin", "/4000.bin"]
    for number in range(150):
        path = paths[(number + seed) % len(paths)]
        done = subprocess.run(
            ["curl", "--silent", "--fail", "--unix-socket", f"{folder}/nginx.sock", *[f"http://lab.example{path}"] * 3],
            capture_output=True,
        )
        if done.stdout != world.files[path] * 3:
            wrong.append(f"{path}: {len(done.stdout)} bytes, exit code {done.returncode}")


PAGE: Final = """<!doctype html><title>page</title><script>
let n = 0;
const next = () => fetch("/1000.bin", {cache: "no-store"}).then((answer) => answer.arrayBuffer()).then((body) => {
  if (body.byteLength !== 1000) document.title = "wrong";
  if (++n < 100) return next();
  document.title += " done";
});
next();
</script>
"""


def test_chromium(world: World) -> None:
    """A page that asks for a file again and again, with the heads of a browser."""
    program, env = chromium()
    put(world.site / "page.html", PAGE)
    before = world.counters()
    with tempfile.TemporaryDirectory(prefix="tux-chromium-") as folder:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
        said = run(world, [program, *options, f"--user-data-dir={folder}", url(world, "/page.html")], env=env)
    assert "<title>page done</title>" in said
    world.expect_answered(before, 80)
