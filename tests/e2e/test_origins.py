# SPDX-License-Identifier: MIT
"""The order of origins: what a file answers, and what goes on to the server behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tux
from tests.e2e.backend import OK, Backend, Peer
from tests.e2e.client import FRESH, Client, stop

BEHIND = b"from behind\n"


def says_so(peer: Peer) -> None:
    """Answers everything, and says what was asked."""
    while (request := peer.request()) is not None:
        body = BEHIND + request.line.encode("latin-1") + b"\n"
        peer.send(OK, b"Content-Length: %d\r\n\r\n" % len(body), b"" if request.line.startswith("HEAD ") else body)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend(says_so) as backend:
        yield backend


@pytest.fixture(scope="module")
def served(site: Path, backend: Backend) -> Iterator[Client]:
    """A connection to a folder, with a server behind it."""
    root = site / "origins"
    (root / "folder").mkdir(parents=True)
    (root / "indexed").mkdir()
    (root / "a.txt").write_text("a file\n")
    (root / ".env").write_text("secret\n")
    (root / "folder" / "b.txt").write_text("b\n")
    (root / "indexed" / "index.html").write_text("index\n")
    server = tux.Server(root, forward=backend.url, workers=1, kernel="off")
    server.start()
    with Client(server) as client:
        yield client
    stop(server)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_file_answers_first(served: Client, method: str) -> None:
    for _ in range(4):  # decided, remembered, replayed
        answer = served.ask("/a.txt", method=method)
        assert BEHIND not in answer.body
        assert answer.status == (204 if method == "OPTIONS" else 200)
        assert method != "GET" or answer.body == b"a file\n"


@pytest.mark.parametrize(
    "path", ["/", "/absent", "/folder", "/folder/", "/a.txt/", "/.env", "/x/y?q=1", "/a%2Fb", "/%ff"]
)
def test_what_no_file_answers_goes_on(served: Client, path: str) -> None:
    """Also again and again, when it is remembered that there is none."""
    for _ in range(4):
        answer = served.ask(path)
        assert (answer.status, answer.body) == (200, BEHIND + f"GET {path} HTTP/1.1\n".encode())


@pytest.mark.parametrize("path", ["/%", "/a/../../b", "/%00"])
def test_what_names_nothing_is_refused_before(served: Client, path: str) -> None:
    assert served.ask(path).status == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_not_for_files(served: Client, method: str) -> None:
    assert served.ask("/a.txt", method=method).body == BEHIND + f"{method} /a.txt HTTP/1.1\n".encode()


def test_a_folder_with_an_index(served: Client) -> None:
    assert served.ask("/indexed/").body == b"index\n"
    answer = served.ask("/indexed")
    assert (answer.status, answer["location"]) == (301, "indexed/")


def test_files_come_and_go(served: Client, site: Path) -> None:
    """An upload is served within a second, and after it is gone, the server behind has its turn again."""
    path = site / "origins" / "upload.txt"

    def becomes(condition: Callable[[bytes], bool]) -> bool:
        end = time.monotonic() + FRESH
        while time.monotonic() < end:
            if condition(served.ask("/upload.txt").body):
                return True
        return False

    assert served.ask("/upload.txt").body.startswith(BEHIND)
    path.write_text("uploaded\n")
    assert becomes(lambda body: body == b"uploaded\n")
    path.unlink()
    assert becomes(lambda body: body.startswith(BEHIND))


def test_the_order_can_be_another(site: Path, backend: Backend) -> None:
    """The server behind is asked first; it answers everything, also what there is a file for."""
    root = site / "origins"
    config = site / "order.toml"
    config.write_text(
        f"""
        [server]
        listen = ["127.0.0.1:0"]
        workers = 1
        [[site]]
        root = "{root}"
        forward = "{backend.url}"
        try = ["forward", "static"]
        [[site.route]]
        path = "/files/"
        root = "{root}"
        [[site.route]]
        path = "/folder"
        try = ["static", "forward"]
        [[site.route]]
        path = "/folder/only"
        try = ["static"]
        [[site.route]]
        path = "/a.txt"
        deny = true
        """
    )
    server = tux.Server(config=config)
    with server, Client(server) as client:
        assert client.ask("/").body.startswith(BEHIND)
        assert client.ask("/folder/b.txt").body == b"b\n", "a route has an order of its own"
        assert client.ask("/folder/absent").body.startswith(BEHIND)
        assert client.ask("/folder/only/absent").status == 404
        assert client.ask("/files/a.txt").body == b"a file\n"
        assert client.ask("/files/absent").status == 404  # this route has files only
        assert client.ask("/a.txt").status == 403


@pytest.mark.parametrize("options", [{}, {"static": {"/s/": "static"}}])
def test_nothing_is_served_from_disk_unsaid(site: Path, backend: Backend, options: dict[str, dict[str, str]]) -> None:
    """The folder that it is started in is full of source."""
    folder = site / "source"
    (folder / "static").mkdir(parents=True, exist_ok=True)
    (folder / "settings.py").write_text("SECRET = 1\n")
    (folder / "static" / "style.css").write_text("p {}\n")
    static = {prefix: folder / name for prefix, name in options.get("static", {}).items()}
    server = tux.Server(forward=backend.url, cwd=folder, workers=1, static=static)
    with server, Client(server) as client:
        for path in ("/settings.py", "/static/style.css", "/", "/s/../settings.py"):
            assert client.ask(path).body.startswith(BEHIND)
        if static:
            assert client.ask("/s/style.css").body == b"p {}\n"
            assert client.ask("/s/settings.py").status == 404
