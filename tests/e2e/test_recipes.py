# SPDX-License-Identifier: MIT
"""Recipes from outside: what the engine makes by itself is what the planner would have said, byte for byte; and what is
not like the other files of its type is left to the planner.

The planner is asked by the same request with an If-Range, which means nothing without a Range (RFC 9110 section 13.1.5)
and keeps a recipe from being used."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import tux
from tests.corpus.reader import Response
from tests.e2e.client import FRESH, Client, put, replace, request, stop, until

OLD = 1_700_000_000
TO_THE_PLANNER = {"if_range": '"none"'}

_NAMES = """
a.html b.html c.html d.js e.js f.css g.png h.png i.min.js j.tar.gz k.gz l m n.HTML o.HTML p.x. q.bin r.bin
app.3f2a1b9c.js lib.0a1b2c3d4e5f.js z-00aa11bb.min.css y-00aa11bb.css r-20261125.pdf s-20261126.pdf
ü.html u%.html v+.html w..html x.log y.log .hidden.html z~ 0.unknown 1.unknown 2.webmanifest 3.a-very-long-extension
"""
NAMES = [*_NAMES.split(), "s t.html"]
SIZES = (0, 1, 100, 2048, 2048, 2048, 65535, 65536, 65537, 300_000)
_ODD_TARGETS = f"""
/ /d/ /d /A.HTML /a.html/ /d/../a.html /./b.html //c.html /%61.html /d%2fa.html /a.html%00 /%2e%2e/a.html
/d.html /d.html/a.html /fifo.html /device.html /out.html /in.html /broken.html /loop.html /locked.html /up/a.html
/none.html /d/none.html /a.html?x=1 /a.html? /x.html/../a.html /.hidden.html /d/d.html http://a.example/b.html
/mounted/a.html /mounted /mounted/../a.html /{"n" * 300}.html /{"n/" * 1500}a.html
"""
ODD_TARGETS = _ODD_TARGETS.split()
FIELDS: tuple[dict[str, str], ...] = (
    {}, {}, {}, {"accept_encoding": "gzip, br, zstd"}, {"accept_encoding": "identity;q=0"}, {"cookie": "a=b"},
    {"authorization": "Basic eDp5"}, {"connection": "close"}, {"if_none_match": "*"}, {"if_match": '"x"'},
    {"if_modified_since": "Tue, 14 Nov 2023 22:13:20 GMT"}, {"range": "bytes=0-9"}, {"range": "bytes=0-1,4-5"},
)  # fmt: skip

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "headers": {"cache_control": {"*.html": "no-cache"}, "headers": {"X-All": "1", "*.min.js": {"X-Min": "2"}}},
    "folders": {"cache_control": {"assets/*": "immutable"}},
    "deep": {
        "cache_control": {"d/": "immutable", "*.html": "no-cache"},
        "headers": {"d/e/": {"X-Deep": "1"}, "**/e/*.js": {"X-Script": "1"}, "more/*.html": {"X-More": "1"}},
        "download": ["assets/*.css"],
    },
    "policy": {"tux": {"mode_forbidden": 0o1111, "redirect": ["log"]}, "dotfiles": "allow", "precompressed": False},
    "pages": {"spa": "index.html", "clean_urls": True, "listing": True, "cors": True, "security_headers": True},
    "slashes": {"trailing_slash": "never", "clean_urls": True, "favicon": True, "robots": "deny"},
    "compress": {"compress": True},
    "types": {"types": {".js": "text/plain"}, "charset": {"*.css": "latin-1"}, "download": ["*.png", "*.gz"]},
    "routes": {
        "route": [
            {"path": "/d/", "redirect": "/more/{1}", "match": "e/*.html"},
            {"path": "/d/e/", "rewrite": "/more/1.html", "match": "c*"},
            {"path": "/more/", "redirect": "/{1}", "match": "1*.html"},
            {"path": "/assets/", "root": "{root}", "cache_control": "immutable"},
        ]
    },
    "immutable": {"immutable": True},
}  # fmt: skip


@pytest.fixture
def place(site: Path) -> Path:
    """An empty folder that the server may read."""
    folder = site / str(len(list(site.iterdir())))
    folder.mkdir()
    return folder


def make_tree(root: Path, seed: int) -> list[str]:
    """Files of all kinds; their targets."""
    source = random.Random(seed)
    targets = list(ODD_TARGETS)
    for folder in ("", "d/", "assets/", "d/e/"):
        for name in NAMES:
            if source.random() < 0.15:
                continue
            age = source.choice((OLD, OLD, OLD, OLD + 0.123456789, 0, 1, -5, OLD + 0.999999999))
            file = put(root / folder / name, source.randbytes(source.choice(SIZES)), age)
            if source.random() < 0.15:
                file.chmod(source.choice((0o755, 0o604, 0o1644)))
            if source.random() < 0.1:
                put(
                    file.with_name(name + source.choice((".br", ".zst", ".gz"))),
                    b"side",
                    source.choice((OLD - 9, OLD + 9)),
                )
            targets.append("/" + folder + "".join(c if c.isalnum() or c in "./+~-" else quoted(c) for c in name))
    put(root / "index.html", "index", OLD)
    put(root / "real/a.html", "in a mount", OLD)
    for number in range(30):  # so that types have several, and one folder nothing but files
        put(root / f"more/{number}.html", f"more {number}", OLD)
        targets += [f"/more/{number}.html", f"/more/{number}.css"]
    (root / "d.html").mkdir(exist_ok=True)
    os.mkfifo(root / "fifo.html")
    (root / "in.html").symlink_to("a.html")
    (root / "out.html").symlink_to("/etc/passwd")
    (root / "broken.html").symlink_to("nowhere")
    (root / "loop.html").symlink_to("loop.html")
    (root / "up").symlink_to("..")
    (root / "device.html").symlink_to("/dev/zero")
    put(root / "locked.html", "secret", OLD).chmod(0)
    return targets


def quoted(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def write_config(file: Path, root: Path, values: dict[str, Any]) -> Path:
    def toml(value: object) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + " }"
        if isinstance(value, list):
            return "[" + ", ".join(map(toml, value)) + "]"
        return json.dumps(value).replace("{root}", str(root))

    (root / "real").mkdir(exist_ok=True)
    route = [*values.get("route", ()), {"path": "/mounted", "root": "{root}/real"}]
    lines = [f"{key} = {toml(value)}" for key, value in {"root": "{root}", **values, "route": route}.items()]
    file.write_text("\n".join(["[[site]]", *lines]))
    return file


def same(answer: Response, planned: Response, what: object) -> None:
    assert answer.status == planned.status, what
    assert answer.stable_head == planned.stable_head, what
    assert answer.body == planned.body, what


def tiers_of(log: Path, count: int) -> Counter[str]:
    until(lambda: log.exists() and log.read_bytes().count(b"\n") >= count, "the log is written")
    return Counter(json.loads(line)["tier"] for line in log.read_text().splitlines())


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_engine_says_what_the_planner_would(place: Path, tmp_path: Path, name: str, seed: int) -> None:
    targets = make_tree(place, seed)
    config = write_config(tmp_path / "tux.toml", place, CONFIGS[name])
    log = tmp_path / "access.log"
    source = random.Random(seed)
    source.shuffle(targets)
    if name == "plain":
        settle(place / "more")
    asked = 0
    with tux.Server(config=config, listen="127.0.0.1:0", workers=1, access_log=log, log_format="json") as server:
        for target in targets:
            for fields in source.sample(FIELDS, 3):
                method = source.choice(("GET", "GET", "HEAD"))
                version = source.choice(("1.1", "1.1", "1.0"))
                with Client(server) as client:
                    answer = client.ask(target, method=method, version=version, **fields)
                    answers = [answer]
                    if "connection" not in fields and version == "1.1":
                        answers.append(client.ask(target, method=method, version=version, **fields))
                with Client(server) as client:
                    planned = client.ask(target, method=method, version=version, **fields, **TO_THE_PLANNER)
                if "range" in fields:
                    continue  # then If-Range does mean something
                for one in answers:
                    same(one, planned, (target, method, version, fields))
                asked += len(answers) + 1
        tiers = tiers_of(log, asked)
        stop(server)
    if name in ("plain", "policy", "headers", "deep", "immutable"):
        assert tiers["recipe"] > 50, tiers


def test_pipelined(place: Path, tmp_path: Path) -> None:
    """Answers leave in the order of their requests, whoever makes them."""
    for number in range(50):
        put(place / f"{number}.html", f"page {number}", OLD)
        put(place / f"{number}.png", bytes(100 * number), OLD)
    log = tmp_path / "access.log"
    with tux.Server(place, workers=1, access_log=log, log_format="json") as server, Client(server) as client:
        client.ask("/0.html")
        client.ask("/0.png")
        names = [f"{number}.{kind}" for number in range(50) for kind in ("html", "png", "none")]
        client.sock.sendall(b"".join(request(f"/{name}") for name in names))
        for name in names:
            answer = client.reader.response("GET")
            if name.endswith("none"):
                assert answer.status == 404
            else:
                assert answer.body == (place / name).read_bytes()
        assert tiers_of(log, 152)["recipe"] > 90


def test_what_was_made_is_remembered(place: Path, tmp_path: Path) -> None:
    put(place / "a.html", "a", OLD)
    put(place / "b.html", "b", OLD)
    log = tmp_path / "access.log"
    with tux.Server(place, workers=1, access_log=log, log_format="json") as server, Client(server) as client:
        client.ask("/a.html")
        for _ in range(5):
            assert client.ask("/b.html").body == b"b"
        assert tiers_of(log, 6) == {"planned": 1, "recipe": 2, "memo": 3}
        replace(place / "b.html", "new")
        until(lambda: client.ask("/b.html").body == b"new", "the new file is sent", FRESH)


def settle(folder: Path) -> None:
    """Wait until the folder has not changed for a while: only then is it believed to be as it was read."""
    until(lambda: time.time() - folder.stat().st_ctime > 2.1, "the folder is settled")


def test_what_appears_in_a_folder(place: Path) -> None:
    """Of which it was known that there is nothing odd in it."""
    for number in range(60):
        put(place / f"{number}.html", "x" * 1000, OLD)
    settle(place)
    with tux.Server(place, workers=1) as server, Client(server) as client:
        for number in range(30):
            assert client.ask(f"/{number}.html", accept_encoding="gzip").get("content-encoding") is None
        for number in range(60):
            put(place / f"{number}.html.gz", "small", OLD + 1)
        for number in range(59):
            until(
                lambda number=number: client.ask(f"/{number}.html", accept_encoding="gzip").body == b"small",  # type: ignore[misc]
                "the side file is sent",
                FRESH,
            )
        os.mkfifo(place / "fifo.html")
        (place / "out.html").symlink_to("/etc/passwd")
        (place / "59.html").unlink()
        (place / "59.html").mkdir()
        assert [client.ask(f"/{name}.html").status for name in ("fifo", "out", "59")] == [404, 404, 301]


def test_files_of_the_server_itself(place: Path) -> None:
    """Whatever other files of the same types are."""
    for name in ("a.log", "b.log", "a.toml", "b.toml"):
        put(place / name, name, OLD)
    config = write_config(place / "tux.toml", place, {})
    os.utime(config, (OLD, OLD))
    log = place / "access.log"
    with tux.Server(config=config, listen="127.0.0.1:0", workers=1, access_log=log) as server, Client(server) as client:
        for name in ("a.log", "b.log", "a.toml", "b.toml"):
            assert client.ask(f"/{name}").body == name.encode()
        until(lambda: log.stat().st_size > 0, "the log is written")
        os.utime(log, (OLD, OLD))
        log.chmod(0o644)
        for _ in range(3):
            assert client.ask("/tux.toml").status == 404
            assert client.ask("/access.log").status == 404
        log.rename(place / "old.log")
        server.kill(signal.SIGUSR1)
        until(log.exists, "there is a new log")
        until(lambda: client.ask("/a.log").status == 200 and log.stat().st_size > 0, "the new log is written")
        for name in ("access.log", "old.log"):
            os.utime(place / name, (OLD, OLD))
            (place / name).chmod(0o644)
            assert client.ask(f"/{name}").status == 404


def test_files_that_are_replaced_meanwhile(place: Path) -> None:
    """Each answer is of one version, and says which."""
    versions = {f"{number} ".encode() * 700: number for number in range(20)}
    bodies = list(versions)
    for number in range(200):
        put(place / f"{number}.html", bodies[0], OLD)
    done = threading.Event()

    def write() -> None:
        source = random.Random(3)
        while not done.is_set():
            file = place / f"{source.randrange(200)}.html"
            body = source.choice(bodies)
            new = put(file.with_name(".new"), body, OLD + versions[body])
            new.replace(file)

    writer = threading.Thread(target=write)
    tags: dict[str, bytes] = {}
    with tux.Server(place, workers=1) as server, Client(server) as client:
        writer.start()
        try:
            for number in [*range(200)] * 10:
                answer = client.ask(f"/{number}.html")
                assert answer.status == 200
                assert answer.body in versions
                tag = answer.fields["etag"]
                assert tags.setdefault(tag, answer.body) == answer.body
                second = f"{20 + versions[answer.body]}".zfill(2)
                assert answer.fields["last-modified"].endswith(f":13:{second} GMT")
        finally:
            done.set()
            writer.join()
