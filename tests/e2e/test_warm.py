# SPDX-License-Identifier: MIT
"""`tux warm` against the real server: what it asked for is remembered by all workers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import tux
from tests.e2e.client import get, put, stop, until

TEXT = "many words, many words, " * 100
CODINGS = "gzip, deflate, br, zstd"


def warm(*args: str) -> str:
    done = subprocess.run([sys.executable, "-m", "tux", "warm", *args], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def tiers(log: Path, after: int) -> list[str]:
    return [json.loads(line)["tier"] for line in log.read_text().splitlines()[after:]]


def test_all_workers_remember(site: Path, tmp_path: Path) -> None:
    for number in range(20):
        put(site / f"warm/{number}.html", TEXT + str(number))
    sitemap = "".join(f"<url><loc>https://a.example/{number}.html</loc></url>" for number in range(20))
    put(site / "warm/sitemap.xml", f"<urlset>{sitemap}</urlset>")
    log = tmp_path / "access.log"
    with tux.Server(
        site / "warm", workers=2, access_log=log, log_format="json", compress=True, kernel="off", user="root"
    ) as server:
        # 64 connections miss one of two workers once in 10^19 times.
        assert warm(server.url, "--connections", "64") == "20 answers over 64 connections: 20 x 200\n"
        until(lambda: len(log.read_text().splitlines()) == 1 + 20 * 64 * 2, "the log")
        asked = len(log.read_text().splitlines())
        for _ in range(3):
            for number in range(20):
                answer = get(server, f"/{number}.html", accept_encoding=CODINGS)
                assert answer["Content-Encoding"] in CODINGS
        until(lambda: len(log.read_text().splitlines()) == asked + 60, "the log")
        assert tiers(log, asked) == ["memo"] * 60
        stop(server)


def test_by_a_unix_socket_and_a_folder(site: Path, tmp_path: Path) -> None:
    put(site / "warm-unix/index.html", "index")
    put(site / "warm-unix/large.bin", b"x" * 2_000_000)
    with tux.Server(site / "warm-unix", workers=1, access_log="off", listen=f"unix:{tmp_path}/s") as server:
        said = warm(server.url, "--folder", str(site / "warm-unix"), "--connections", "2")
        assert said == "2 answers over 2 connections: 2 x 200; 1 of over 1048576 bytes asked for once\n"
        stop(server)


def test_the_folders_of_hosts(site: Path, tmp_path: Path) -> None:
    put(site / "warm-hosts/shop/index.html", "of the shop")
    put(site / "warm-hosts/blog/index.html", "of the blog")
    listen = f"unix:{tmp_path}/s"
    config = put(
        tmp_path / "tux.toml",
        f"""
        [server]
        listen = ["{listen}"]
        workers = 1
        access_log = "off"
        [[site]]
        hosts = ["*.a.example"]
        root = "{site}/warm-hosts/{{host}}"
        host_strip = [".a.example"]
        """,
    )
    with tux.Server(config=config) as server:
        assert warm("--config", str(config), "--connections", "2") == "2 answers over 2 connections: 2 x 200\n"
        assert get(server, "/", host="shop.a.example").body == b"of the shop"
        stop(server)
