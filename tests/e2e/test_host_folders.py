# SPDX-License-Identifier: MIT
"""A folder for each host: which one answers, attacks by Host, folders that come and go, very many hosts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import tux
from tests.e2e.backend import Backend, Peer
from tests.e2e.client import FRESH, Client, get, put, stop, until
from tests.e2e.dynamic import asking

MANY = 10_000
"""Distinct hosts."""

GROWTH_BYTES = 1024 * 1024
"""Memory that a worker may take for them once its tables of fixed size are full: less than 105 bytes for each."""


@pytest.fixture(scope="module")
def hosts(site: Path) -> Iterator[tux.Server]:
    put(site / "www/a.org/index.html", "a")
    put(site / "www/b.org/index.html", "b")
    put(site / "www/none/index.html", "none")
    put(site / "www/none/404.html", "none 404")
    put(site / "www/b.org/404.html", "b 404")
    put(site / "secret.txt", "secret")
    (site / "www/a.org/b.txt").symlink_to("../b.org/index.html")
    (site / "www/alias.org").symlink_to("a.org")
    with tux.Server(
        f"{site}/www/{{host}}",
        workers=1,
        access_log="off",
        host_strip="www.",
        host_default="none",
        error_page={404: "404.html"},
    ) as server:
        yield server
        stop(server)


@pytest.mark.parametrize(
    ("host", "body"),
    [
        ("a.org", "a"),
        ("A.ORG", "a"),
        ("a.org:8080", "a"),
        ("a.org.", "a"),
        ("www.a.org", "a"),
        ("WWW.a.Org.:80", "a"),
        ("alias.org", "a"),
        ("b.org", "b"),
        ("c.org", "none"),
        ("sub.a.org", "none"),
        ("www.org", "none"),
        ("127.0.0.1", "none"),
        ("[::1]:8080", "none"),
    ],
)
def test_the_host_decides(hosts: tux.Server, host: str, body: str) -> None:
    for _ in range(3):  # asked twice, then remembered
        assert get(hosts, "/", host=host).body == body.encode()


@pytest.mark.parametrize(
    "host",
    [
        "../../etc",
        "..",
        ".",
        "...",
        ".a.org",
        "a.org/..",
        "a.org/",
        "/",
        "a.org//",
        "..%2f..%2fetc",
        "%2e%2e",
        "a.org%00",
        "a.org\\..",
        "-",
        "~",
        "*",
        "{host}",
        "a" * 64,
        "a." * 126 + "org",
        "a" * 255,
        "\xe4.org",
    ],
)
def test_attacks_by_host(hosts: tux.Server, host: str) -> None:
    """Refused as malformed, or a host without a folder; the answer never comes from anywhere else."""
    for path in ("/", "/secret.txt", "/a.org/index.html"):
        for _ in range(3):
            with Client(hosts) as client:
                answer = client.ask(path, host=host)
            assert answer.status in (200, 400, 404)
            if answer.status == 200:
                assert (path, answer.body) == ("/", b"none")
            elif answer.status == 404:
                assert answer.body == b"none 404"


def test_folders_are_closed_against_each_other(hosts: tux.Server) -> None:
    assert get(hosts, "/b.txt", host="a.org").status == 404
    assert get(hosts, "/../b.org/index.html", host="a.org").status == 400
    assert get(hosts, "/%2e%2e/b.org/index.html", host="a.org").status == 400
    assert get(hosts, "http://b.org/", host="a.org").body == b"b"


def test_error_pages_are_those_of_the_host(hosts: tux.Server) -> None:
    for _ in range(3):
        assert get(hosts, "/x", host="b.org").body == b"b 404"
        assert get(hosts, "/x", host="c.org").body == b"none 404"
        assert b"404 Not Found" in get(hosts, "/x", host="a.org").body, "it has none"


def test_folders_come_and_go(site: Path, hosts: tux.Server) -> None:
    with Client(hosts) as client:
        for _ in range(3):
            assert client.ask("/", host="new.org").body == b"none"
        put(site / "www/.new/index.html", "new")
        (site / "www/.new").rename(site / "www/new.org")
        until(lambda: client.ask("/", host="new.org").body == b"new", "the new folder", FRESH)
        put(site / "www/.new/index.html", "newer")
        (site / "www/new.org").rename(site / "www/.old")
        (site / "www/.new").rename(site / "www/new.org")
        until(lambda: client.ask("/", host="new.org").body == b"newer", "another folder in its place", FRESH)
        for _ in range(3):
            assert client.ask("/none", host="new.org").body != b"none 404"
        shutil.rmtree(site / "www/new.org")
        until(lambda: client.ask("/", host="new.org").body == b"none", "the default again", FRESH)
        until(lambda: client.ask("/none", host="new.org").body == b"none 404", "for what is not there, too", FRESH)
        client.finish()


def test_very_many_hosts(site: Path, hosts: tux.Server) -> None:
    """They cost neither descriptors nor memory that stays."""
    (worker,) = hosts.worker_pids()
    with Client(hosts) as client:
        for number in range(MANY):
            assert client.ask("/", host=f"before{number}.example").body == b"none"
        descriptors, memory = len(os.listdir(f"/proc/{worker}/fd")), resident(worker)
        for number in range(0, MANY, 20):
            put(site / f"www/h{number}.example/index.html", str(number))
        for number in range(MANY):
            body = client.ask("/", host=f"h{number}.example").body
            assert body == (b"none" if number % 20 else str(number).encode())
        assert len(os.listdir(f"/proc/{worker}/fd")) == descriptors
        assert resident(worker) - memory < GROWTH_BYTES
        client.finish()


def resident(pid: int) -> int:
    """Bytes of a process that are in memory (proc_pid_statm(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_hashed_folders_below_a_route(site: Path) -> None:
    put(site / "users/s/so/some.example/pub/a.txt", "some")
    put(site / "users/x/x/x.txt", "not reached")
    put(site / "plain/index.html", "plain")
    config = f"""
        [server]
        workers = 1
        listen = ["127.0.0.1:0"]
        access_log = "off"
        [[site]]
        root = "{site}/plain"
        host_strip = [".users.test", ".*"]
        [[site.route]]
        path = "/u"
        root = "{site}/users/{{host:1}}/{{host:2}}/{{host}}/pub"
        types = {{ ".txt" = "text/x-own" }}
        listing = true
        """
    with tux.Server(config=put(site / "hashed.toml", config)) as server:
        for _ in range(3):
            assert get(server, "/", host="some.example.users.test").body == b"plain"
            found = get(server, "/u/a.txt", host="some.example.org")
            assert (found.body, found["Content-Type"]) == (b"some", "text/x-own; charset=utf-8")
            assert get(server, "/u", host="some.example.org")["Location"] == "u/"
            assert b"a.txt" in get(server, "/u/", host="some.example.org").body
            assert get(server, "/u/x.txt", host="x.org").status == 404
            assert get(server, "/u/a.txt", host="127.0.0.1").status == 404
        stop(server)


def protected(peer: Peer) -> None:
    """Lets clients have a file that only it may name, or what is not there."""
    while (request := peer.request()) is not None:
        peer.ok(b"", b"X-Accel-Redirect: /inside/a.txt" if request.target == "/file" else b"X-Said: forwarded")


def test_with_something_behind(site: Path) -> None:
    """What has no folder is its turn, and files that it names are those of the host that was asked."""
    put(site / "behind/a.org/index.html", "a")
    put(site / "inside/a.org/a.txt", "inside a")
    put(site / "inside/b.org/a.txt", "inside b")
    with Backend(protected) as backend:
        config = f"""
            [server]
            workers = 1
            listen = ["127.0.0.1:0"]
            access_log = "off"
            [[site]]
            root = "{site}/behind/{{host}}"
            forward = "{backend.url}"
            [[site.route]]
            path = "/inside"
            root = "{site}/inside/{{host}}"
            internal = true
            """
        with tux.Server(config=put(site / "behind.toml", config)) as server:
            for _ in range(3):
                assert get(server, "/", host="a.org").body == b"a"
                assert "X-Said" in get(server, "/", host="b.org")
                assert "X-Said" in get(server, "/none", host="a.org")
                assert get(server, "/file", host="a.org").body == b"inside a"
                assert get(server, "/file", host="B.ORG:80").body == b"inside b"
                assert get(server, "/file", host="c.org").status == 404
                assert get(server, "/inside/a.txt", host="a.org").status == 404
            put(site / "behind/b.org/index.html", "b")
            until(lambda: get(server, "/", host="b.org").body == b"b", "the new folder", FRESH)
            stop(server)


WHERE = """#!/bin/sh
printf 'Content-Type: text/plain\\n\\n%s %s' "$DOCUMENT_ROOT" "$PATH_TRANSLATED"
"""


def test_scripts_are_told_the_folder_of_the_host(site: Path) -> None:
    put(site / "told/a.org/index.html", "a")
    put(site / "told/none/index.html", "none")
    put(site / "bin/where", WHERE).chmod(0o755)
    config = f"""
        [server]
        workers = 1
        listen = ["127.0.0.1:0"]
        access_log = "off"
        [[site]]
        root = "{site}/told/{{host}}"
        host_default = "none"
        [[site.route]]
        path = "/bin/"
        cgi = "{site}/bin"
        """
    with tux.Server(config=put(site / "told.toml", config)) as server:
        ask = asking(server)
        for host, folder in (("A.org:80", "a.org"), ("b.org", "none"), ("127.0.0.1", "none")):
            told = ask("GET", "/bin/where/x", Host=host).body.decode()
            assert told == f"{site}/told/{folder} {site}/told/{folder}/x", host
        (site / "told/b.org").mkdir()
        assert ask("GET", "/bin/where", Host="b.org").body.decode() == f"{site}/told/b.org "
        stop(server)


def test_only_what_all_hosts_have_in_common_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(tux.StartError, match=r"no such folder: .*/none"):
        tux.Server(f"{tmp_path}/none/{{host}}").start()
