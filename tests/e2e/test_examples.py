# SPDX-License-Identifier: MIT
"""The sites in `examples`: each is started by the command that it names, and does what it says."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

import tux
from tests.corpus.reader import PATIENCE
from tests.e2e.client import Client
from tests.e2e.dynamic import Ask, asking

EXAMPLES = Path(__file__).parents[2] / "examples"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63fccf50cf000008"
    "1d027b3d2f4dd30000000049454e44ae426082"
)

Run = Callable[[str], tux.Server]


@pytest.fixture(scope="module")
def run(site: Path) -> Iterator[Run]:
    """Runs the command that stands in a file of an example, in a copy of the examples."""
    copy = site / "examples"
    shutil.copytree(EXAMPLES, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o777 if path.is_dir() else path.stat().st_mode & 0o111 | 0o644)
    servers: list[tux.Server] = []

    def runner(file: str) -> tux.Server:
        command = re.search(r"tux serve (.*examples/.*)", (EXAMPLES / file).read_text())
        assert command is not None
        args = [*shlex.split(command[1]), "--listen", "127.0.0.1:0"]
        server = tux.Server(args=args, cwd=site)
        servers.append(server)
        return server.start()

    yield runner
    for server in servers:
        assert server.stop() == 0, server.stderr_text()
        assert "Traceback" not in server.stderr_text()


def form(ask: Ask, name: str, data: bytes) -> int:
    """Upload a picture as a browser does; the status."""
    page = ask("GET", "/")
    token = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', page.body)
    assert token is not None
    body = (
        b'--x\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n' + token[1] + b"\r\n"
        b'--x\r\nContent-Disposition: form-data; name="picture"; filename="' + name.encode() + b'"\r\n'
        b"Content-Type: image/png\r\n\r\n" + data + b"\r\n--x--\r\n"
    )
    cookie = page.value("set-cookie").partition(";")[0]
    return ask("POST", "/upload", body, content_type="multipart/form-data; boundary=x", cookie=cookie).status


def test_django(run: Run) -> None:
    ask = asking(run("django/tux.toml"))
    assert b"No pictures yet" in ask("GET", "/").body
    style = ask("GET", "/static/style.css")
    assert style.value("cache-control") == "max-age=3600"
    assert style.body == (EXAMPLES / "django/static/style.css").read_bytes()

    assert form(ask, "pixel.PNG", PIXEL) == 302
    assert b'src="/media/pixel.png"' in ask("GET", "/").body
    picture = ask("GET", "/media/pixel.png")  # from disk, at once
    assert (picture.value("content-type"), picture.body) == ("image/png", PIXEL)
    assert picture.value("content-security-policy") == "sandbox"
    assert ask("GET", "/export").body.endswith(b" pixel.png\n")

    assert form(ask, "page.html", b"<script>") == 400
    assert ask("POST", "/upload", b"").status == 403  # Django's protection of forms
    assert ask("GET", "/media/../gallery/settings.py").status in {400, 404}
    assert ask("GET", "/gallery/settings.py").status == 404
    assert ask("GET", "/tux.toml").status == 404


def test_flask(run: Run) -> None:
    ask = asking(run("flask/poll.py"))
    assert b"Gentoo (0)" in ask("GET", "/").body
    assert ask("GET", "/static/style.css").value("content-type").startswith("text/css")
    for _ in range(2):
        vote = ask("POST", "/vote", b"choice=Gentoo", content_type="application/x-www-form-urlencoded")
        assert (vote.status, vote.value("location")) == (303, "/")
    assert b"Gentoo (2)" in ask("GET", "/").body
    assert ask("GET", "/votes.csv").body == b"Adelie,0\nGentoo,2\nChinstrap,0\n"
    assert ask("POST", "/vote", b"choice=x", content_type="application/x-www-form-urlencoded").status == 400
    assert ask("GET", "/poll.py").status == 404


def test_cgi(run: Run) -> None:
    ask = asking(run("cgi/tux.toml"))
    assert b"visitor" in ask("GET", "/").body
    assert ask("GET", "/cgi-bin/clock.sh").value("cache-control") == "no-store"
    reply = ask("POST", "/cgi-bin/visitors.py", b"name=Ada+%3Cb%3E")
    assert (reply.status, reply.value("location")) == (303, "/cgi-bin/visitors.py")
    assert b"<li>Ada &lt;b&gt;</li>" in ask("GET", reply.value("location")).body


def test_fastapi(run: Run) -> None:
    server = run("fastapi/board.py")
    ask = asking(server)
    assert b"Notice board" in ask("GET", "/").body
    assert ask("GET", "/board.js").status == 200
    assert ask("GET", "/board.py").status == 404
    assert ask("GET", "/api/notes").json() == []
    with connect(f"ws{server.url.removeprefix('http')}/api/live", open_timeout=PATIENCE) as socket:
        posted = ask("POST", "/api/notes", b'{"text": "one"}', content_type="application/json")
        assert (posted.status, posted.json()["number"]) == (201, 1)
        assert '"text":"one"' in str(socket.recv(PATIENCE))
        socket.send("two")
        assert '"text":"two"' in str(socket.recv(PATIENCE))
    assert [note["text"] for note in ask("GET", "/api/notes").json()] == ["one", "two"]
    assert ask("POST", "/api/notes", b"{}", content_type="application/json").status == 422
    with Client(server) as client:
        client.sock.sendall(b"GET /api/events?after=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b""
        while b"id: 2\ndata: " not in received:
            data = client.sock.recv(65536)
            assert data
            received += data


def test_modules(run: Run) -> None:
    ask = asking(run("modules/guestbook.py"))
    assert b"Guest book" in ask("GET", "/").body
    assert ask("GET", "/hello").body == b"Hello, World!\n"
    assert ask("GET", "/hello?name=You").body == b"Hello, You!\n"
    assert ask("POST", "/entries", b"<b>one").status == 303
    assert ask("POST", "/entries", b" ").status == 400
    assert ask("GET", "/entries").json() == {"entries": ["&lt;b&gt;one"]}
    assert ask("GET", "/count").body.split() == [str(number).encode() for number in range(1, 1001)]
    assert ask("GET", "/ticks").body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert ask("GET", "/thread").body == b"499500\n"
    assert ask("GET", "/process").json() == {"answer": 42}
    assert ask("GET", "/backend").body == b"Hello, Module!\n"
    assert ask("GET", "/none").status == 404
