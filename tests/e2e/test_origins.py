# SPDX-License-Identifier: MIT
"""The order of origins: what a file answers, and what goes on to the server behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tux
from tests.e2e.backend import OK, Backend, Peer
from tests.e2e.client import FRESH, Client, put, stop
from tests.e2e.dynamic import Connection, asking

BEHIND = b"from behind\n"
SHOP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Content-Type-Options", "nosniff")])
    return [b"the app"]
"""


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


@pytest.mark.parametrize("what", ["app", "app and static", "module", "cgi", "config"])
def test_the_source_of_an_application_is_not_published(site: Path, what: str) -> None:
    """It lies in the folder that the server is started in, as it does where people develop."""
    folder = put(site / "programs" / "shop.py", SHOP).parent
    put(folder / "static" / "style.css", "p {}\n")
    put(folder / "guests.py", "import tux\n\n\n@tux.module('/api/*')\ndef api(req):\n    return 'a module'\n")
    put(folder / "tux.toml", '[server]\nlisten = ["127.0.0.1:0"]\n[[site]]\napp = "shop:app"\n')
    args = {
        "app": ["--app", "shop:app"],
        "app and static": ["--app", "shop:app", "--static", "/static/=./static"],
        "module": ["--module", "guests.py"],
        "cgi": ["--cgi", "/cgi-bin/=./static"],
        "config": ["--config", "tux.toml"],
    }[what]
    answers = {"app": b"the app", "app and static": b"the app", "config": b"the app"}
    with tux.Server(args=args, cwd=folder, workers=1) as server, Client(server) as client:
        for path in ("/shop.py", "/guests.py", "/tux.toml", "/static/../shop.py", "/programs/shop.py", "/"):
            answer = client.ask(path)
            if what in answers:
                assert (answer.status, answer.body) == (200, answers[what])
            else:
                assert answer.status == 404
        style = client.ask("/static/style.css")
        if what == "app and static":
            assert (style.status, style.body) == (200, b"p {}\n")
            assert client.ask("/static/absent").status == 404
        else:
            assert style.body != b"p {}\n"


PARTS = """
import asyncio


def wsgi(environ, start_response):
    body = environ["wsgi.input"].read() if environ["PATH_INFO"] in ("/read", "/mine") else b""
    status = "200 OK" if environ["PATH_INFO"] == "/mine" else "404 Not Found"
    start_response(status, [("Content-Type", "text/plain")])
    return [b"app %d" % len(body)]


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    size, more = 0, scope["path"] in ("/read", "/mine")
    if scope["path"] == "/asked":  # as Quart does
        task = asyncio.create_task(receive())
        await asyncio.sleep(0)
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200 if scope["path"] == "/mine" else 404})
    await send({"type": "http.response.body", "body": b"app %d" % size})
"""


def counts(peer: Peer) -> None:
    while (request := peer.request()) is not None:
        peer.ok(b"behind %d" % len(request.body))


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_what_an_application_does_not_know_goes_on_with_its_body(site: Path, interface: str) -> None:
    """As when one application takes over the paths of another step by step; its forms are posted."""
    put(site / "parts" / "parts.py", PARTS)
    with (
        Backend(counts) as behind,
        tux.Server(app=f"parts:{interface}", forward=behind.url, cwd=site / "parts", workers=1) as server,
    ):
        ask = asking(server)
        for size in (0, 3, 20_000, 1_000_000):
            for chunked in (False, True):
                for path, who in (("/mine", "app"), ("/other", "behind")):
                    reply = ask("POST", path, bytes(size), chunked=chunked)
                    assert (reply.status, reply.body.decode()) == (200, f"{who} {size}")
        reply = ask("POST", "/read", bytes(20_000))
        assert (reply.status, reply.body) == (404, b"app 20000"), "what was read is not there any more"
        if interface == "asgi":
            with Connection(server) as connection:  # whether any of it has come, or not
                connection.send("/asked", method="POST", Content_Length="3")
                assert connection.answer().status == 404
        stop(server)
