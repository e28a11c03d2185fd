# SPDX-License-Identifier: MIT
"""ASGI applications behind the whole server: frameworks, WebSockets, stopping, and the example."""

from __future__ import annotations

import ast
import contextlib
import http.client
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import tux
from tests.corpus.reader import PATIENCE
from tests.e2e.client import Client, address_of, put, stop, until
from tests.e2e.dynamic import Connection
from tux.errors import StartError

STARTS_FOREVER = """
import asyncio, os, pathlib

async def app(scope, receive, send):
    await receive()
    pathlib.Path("starting").symlink_to(str(os.getpid()))
    await asyncio.sleep(3600)
"""

STARLETTE = """
import asyncio, contextlib, os, pathlib

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

HERE = pathlib.Path(__file__).parent


@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"greeting": "Hello"}
    (HERE / "stopped").touch()


async def hello(request):
    return PlainTextResponse(f"{request.state.greeting} {request.path_params['name']}")


async def pid(request):
    return PlainTextResponse(str(os.getpid()))


async def upload(request):
    async with request.form() as form:
        return JSONResponse({name: file.size for name, file in form.items()})


async def length(request):
    total = 0
    async for piece in request.stream():
        total += len(piece)
    return PlainTextResponse(str(total))


async def large(request):
    async def pieces():
        for n in range(300):
            yield bytes([n % 256]) * 100_000
    return StreamingResponse(pieces())


async def file(request):
    return FileResponse(HERE / "large.bin")


async def later(request):
    async def work():
        await asyncio.sleep(0.01)
        (HERE / "worked").touch()
    return PlainTextResponse("answered", background=BackgroundTask(work))


async def events(request):
    async def stream():
        n = 0
        while True:
            yield f"data: {n}\\n\\n"
            n += 1
            if n == 10:
                await asyncio.get_running_loop().create_future()
    return StreamingResponse(stream(), media_type="text/event-stream")


async def fail(request):
    raise ZeroDivisionError("by what?")


async def slow(request):
    (HERE / "slow").touch()
    await asyncio.sleep(0.5)
    return PlainTextResponse("slow, but whole")


async def socket(ws):
    await ws.accept()
    async for text in ws.iter_text():
        await ws.send_text(text)


async def denied(ws):
    await ws.send_denial_response(PlainTextResponse("who are you?", status_code=401))


class Watched:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        try:
            await self.app(scope, receive, send)
        finally:
            if scope.get("path") == "/events":
                (HERE / "left").touch()


app = Starlette(
    middleware=[Middleware(Watched)],
    routes=[
        Route("/hello/{name}", hello), Route("/pid", pid), Route("/upload", upload, methods=["POST"]),
        Route("/length", length, methods=["POST"]), Route("/large", large), Route("/file", file),
        Route("/later", later), Route("/events", events), Route("/slow", slow), Route("/fail", fail),
        WebSocketRoute("/ws", socket), WebSocketRoute("/denied", denied),
    ],
    lifespan=lifespan,
)


@contextlib.asynccontextmanager
async def failing(app):
    raise ConnectionError("no database")
    yield


broken = Starlette(lifespan=failing)
"""

QUART = """
from quart import Quart, request, websocket

app = Quart(__name__)


@app.route("/hello/<name>", methods=["GET", "POST"])
async def hello(name):
    return f"Hello {name} {len(await request.get_data())}"


@app.websocket("/ws")
async def socket():
    while True:
        await websocket.send(await websocket.receive())
"""

SCOPE = """
async def app(scope, receive, send):
    told = repr({name: scope[name] for name in (
        "type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "client", "server",
        "headers",
    ) if name in scope}).encode()
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": told})
    elif scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": told})
"""

EXTENSIONS = """
import pathlib

HERE = pathlib.Path(__file__).parent
END = {"type": "http.response.body"}


def start(*fields, **more):
    return {"type": "http.response.start", "status": 200, "headers": list(fields), **more}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            scope["state"]["greeting"] = "Hello"
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"].removeprefix(scope["root_path"])
    if path == "/hint":
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await send(start())
        await send({**END, "body": b"hinted"})
    elif path == "/trailers":
        await send(start((b"trailer", b"x-sum"), trailers=True))
        await send({**END, "body": b"summed"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"42")]})
    elif path == "/pathsend":
        await send(start())
        await send({"type": "http.response.pathsend", "path": str(HERE / "large.bin")})
    elif path == "/zerocopysend":
        await send(start())
        with open(HERE / "large.bin", "rb") as file:
            await send({"type": "http.response.zerocopysend", "file": file, "offset": 10, "count": 1_000_000})
    else:
        greeting = scope["state"]["greeting"]
        scope["state"]["greeting"] = "seen by nobody else"
        await send(start())
        await send({**END, "body": f"{greeting} {scope['root_path']} {scope['path']}".encode()})
"""

DJANGO = """
import django.core.asgi
from django.conf import settings
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)


async def hello(request):
    return HttpResponse(f"Hello {request.get_host()} {request.META['REMOTE_ADDR']}")


def upload(request):
    return JsonResponse({name: file.size for name, file in request.FILES.items()})


async def stream(request):
    async def pieces():
        for n in range(5):
            yield str(n)
    return StreamingHttpResponse(pieces())


urlpatterns = [path("hello", hello), path("upload", upload), path("stream", stream)]
application = django.core.asgi.get_asgi_application()
"""

Start = Callable[..., tux.Server]


@pytest.fixture(scope="module")
def folder(site: Path) -> Path:
    """A folder with applications, which may write there, and files."""
    folder = site / "apps"
    put(folder / "star.py", STARLETTE)
    put(folder / "scop.py", SCOPE)
    put(folder / "ext.py", EXTENSIONS)
    put(folder / "qua.py", QUART)
    put(folder / "djan.py", DJANGO)
    put(folder / "large.bin", os.urandom(3_000_000))
    put(folder / "public" / "file.txt", "a file\n")
    folder.chmod(0o777)
    return folder


@contextlib.contextmanager
def serving(folder: Path, module: str, **options: Any) -> Iterator[tux.Server]:
    config = folder / f"{module.replace(':', '-')}.toml"
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())
    config.write_text(
        '[server]\nlisten = ["127.0.0.1:0"]\nworkers = 2\ngrace = 20\naccess_log = "off"\n'
        f'[app.shop]\nmodule = "{module}"\ndir = "."\n{lines}\n[[site]]\nroot = "public"\napp = "shop"\n'
    )
    with tux.Server(config=config) as server:
        yield server
        stop(server)


@pytest.fixture(scope="module")
def star(folder: Path) -> Iterator[tux.Server]:
    with serving(folder, "star:app") as server:
        yield server


def address(server: tux.Server) -> tuple[str, int]:
    found = address_of(server)
    assert isinstance(found, tuple)
    return found


@contextlib.contextmanager
def connected(server: tux.Server) -> Iterator[http.client.HTTPConnection]:
    host, port = address(server)
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    with contextlib.closing(connection):
        yield connection


def ask(
    server: tux.Server, target: str, *, method: str = "GET", body: Any = None, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    with connected(server) as connection:
        connection.request(method, target, body=body, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()


def form(size: int) -> tuple[bytes, str]:
    """A body with one file of that size, and its type."""
    head = b'--edge\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
    return head + bytes(size) + b"\r\n--edge--\r\n", "multipart/form-data; boundary=edge"


def websocket(server: tux.Server, target: str = "/ws", **options: Any) -> ClientConnection:
    host, port = address(server)
    client: ClientConnection = connect(f"ws://{host}:{port}{target}", open_timeout=PATIENCE, **options)
    return client


# Starlette


def test_routes_and_files(star: tux.Server) -> None:
    assert ask(star, "/hello/you")[1] == b"Hello you"
    assert ask(star, "/file.txt")[1] == b"a file\n"
    answer, _ = ask(star, "/none")
    assert (answer.status, answer.headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
    answer, content = ask(star, "/hello/you", method="HEAD")
    assert (answer.status, answer.headers["Content-Length"], content) == (200, "9", b"")


def test_uploads(star: tux.Server) -> None:
    body, kind = form(5_000_000)
    _answer, content = ask(star, "/upload", method="POST", body=body, **{"Content-Type": kind})
    assert json.loads(content) == {"a": 5_000_000}
    pieces = iter([bytes(10_000)] * 100)
    assert ask(star, "/length", method="POST", body=pieces)[1] == b"1000000"


def test_streams(star: tux.Server) -> None:
    answer, content = ask(star, "/large")
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert content == b"".join(bytes([n % 256]) * 100_000 for n in range(300))


def test_files_of_the_application(star: tux.Server, folder: Path) -> None:
    data = (folder / "large.bin").read_bytes()
    answer, content = ask(star, "/file")
    assert content == data
    answer, content = ask(star, "/file", Range="bytes=100-199")
    assert (answer.status, content) == (206, data[100:200])


def test_work_after_the_answer(star: tux.Server, folder: Path) -> None:
    assert ask(star, "/later")[1] == b"answered"
    until((folder / "worked").exists, "the background task has run")


def test_events_end_with_the_client(star: tux.Server, folder: Path) -> None:
    with connected(star) as connection:
        connection.request("GET", "/events")
        answer = connection.getresponse()
        assert answer.read(18) == b"data: 0\n\ndata: 1\n\n"
        answer.close()
    until((folder / "left").exists, "the application has seen that the client is gone")


@pytest.mark.parametrize("compression", ["deflate", None])
def test_websockets(star: tux.Server, compression: str | None) -> None:
    with websocket(star, compression=compression, max_size=None) as client:
        for text in ("", "h\u00e9", "x" * 100_000, "y" * 1_000_000):
            client.send(text)
            assert client.recv(PATIENCE) == text
        assert client.ping().wait(PATIENCE)
    with pytest.raises(InvalidStatus) as caught:
        websocket(star, "/denied")
    assert caught.value.response.status_code == 401
    assert caught.value.response.body == b"who are you?"
    with pytest.raises(InvalidStatus) as caught:
        websocket(star, "/none")
    assert caught.value.response.status_code == 403


def test_a_crash_ends_websockets_and_the_next_process_serves(star: tux.Server) -> None:
    with websocket(star) as client:
        client.send("a")
        assert client.recv(PATIENCE) == "a"
        os.kill(int(ask(star, "/pid")[1]), signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            client.recv(PATIENCE)
    assert ask(star, "/hello/you")[1] == b"Hello you"


def test_a_stop_finishes_requests_and_closes_websockets(folder: Path) -> None:
    answers = []
    with serving(folder, "star:app", workers=2) as server, websocket(server) as client:
        asking = threading.Thread(target=lambda: answers.append(ask(server, "/slow")[1]))
        asking.start()
        until((folder / "slow").exists, "the application works on it")
        server.stop()
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(PATIENCE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012
        asking.join(PATIENCE)
        assert answers == [b"slow, but whole"]
    assert (folder / "stopped").exists()


def test_a_lifespan_that_fails(folder: Path) -> None:
    """The application's own traceback is shown, and the server ends."""
    (folder / "broken.toml").write_text('[server]\nlisten = ["127.0.0.1:0"]\n[[site]]\napp = "star:broken"\n')
    server = tux.Server(config=folder / "broken.toml", access_log="off")
    try:
        server.start()  # it may be ready before it is known
        code, text = server.wait(PATIENCE), server.stderr_text()
    except StartError as error:
        code, text = error.exit_code, error.message
    assert code == 1
    assert "ConnectionError: no database" in text or "could not start" in text


def test_a_start_that_hangs_does_not_keep_up_the_stop(folder: Path) -> None:
    """Nor do requests that wait for it: there is nobody who could answer them any more."""
    put(folder / "starts.py", STARTS_FOREVER)
    with serving(folder, "starts:app", workers=1) as server, Client(server) as client:
        until((folder / "starting").is_symlink, "it starts")
        client.sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        server.kill(signal.SIGTERM)
        assert client.reader.response("GET").status == 503
        assert server.wait(PATIENCE) == 0
        assert "error" not in server.stderr_text()
    (folder / "starting").unlink()


def test_a_start_that_hangs_can_be_terminated(folder: Path) -> None:
    """By whoever sends the signal to its process."""
    put(folder / "starts.py", STARTS_FOREVER)
    with serving(folder, "starts:app", workers=1) as server:
        until((folder / "starting").is_symlink, "it starts")
        os.kill(int(os.readlink(folder / "starting")), signal.SIGTERM)
        assert server.wait(PATIENCE) == 1
        assert "app shop could not start: its process was killed by SIGTERM" in server.stderr_text()
    (folder / "starting").unlink()


def test_errors_of_the_application_are_in_the_error_log(folder: Path) -> None:
    with tux.Server(app="star:app", app_dir=folder) as server:
        assert ask(server, "/fail")[0].status == 500
        assert ask(server, "/hello/you")[1] == b"Hello you"
        assert server.stop() == 0
        said = server.stderr_text()
    assert "tux: error: app app: GET /fail: the application failed\nTraceback" in said
    assert "asgi/http.py" not in said
    assert "ZeroDivisionError: by what?" in said


def test_a_message_over_the_limit(folder: Path) -> None:
    with serving(folder, "star:app", ws_max_size=1000) as server, websocket(server) as client:
        client.send("x" * 1001)
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(PATIENCE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


def test_extensions(folder: Path) -> None:
    """As an application uses them: each of them reaches the client."""
    data = (folder / "large.bin").read_bytes()
    with serving(folder, "ext:app", root_path="/shop") as server:
        with Connection(server) as client:
            for _ in range(2):
                hint = client.ask("/hint")
                assert (hint.status, hint.value("link")) == (103, "</a.css>; rel=preload")
                assert client.answer().body == b"hinted"
                assert client.ask("/state").body == b"Hello /shop /shop/state", "each request has a state of its own"
        with Connection(server) as client:
            client.send("/trailers", TE="trailers", Connection="TE, close")
            received = b"".join(iter(lambda: client.sock.recv(65536), b""))
            assert received.endswith(b"summed\r\n0\r\nx-sum: 42\r\n\r\n")
        assert ask(server, "/pathsend")[1] == data
        assert ask(server, "/zerocopysend")[1] == data[10:1_000_010]


# The scope


def test_the_scope_behind_a_trusted_proxy(folder: Path) -> None:
    with tux.Server(app="scop:app", app_dir=folder, args=["--trusted", "127.0.0.1"]) as server:
        fields = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
        scope = ast.literal_eval(ask(server, "/caf%C3%A9%2Fb?q=%41", **fields)[1].decode())
        assert (scope["client"][0], scope["scheme"]) == ("203.0.113.7", "https")
        assert (scope["path"], scope["raw_path"]) == ("/caf\u00e9/b", b"/caf%C3%A9%2Fb")
        assert (scope["query_string"], scope["method"], scope["http_version"]) == (b"q=%41", "GET", "1.1")
        assert tuple(scope["server"]) == address(server)
        with websocket(server, additional_headers=fields) as client:
            scope = ast.literal_eval(bytes(client.recv(PATIENCE)).decode())  # type: ignore[arg-type]
        assert (scope["type"], scope["scheme"], scope["client"][0]) == ("websocket", "wss", "203.0.113.7")
        stop(server)


def test_the_scope_of_who_is_not_trusted(folder: Path) -> None:
    with serving(folder, "scop:app", root_path="/shop") as server:
        fields = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
        scope = ast.literal_eval(ask(server, "/a", **fields)[1].decode())
        assert (scope["client"][0], scope["scheme"]) == ("127.0.0.1", "http")
        assert (scope["root_path"], scope["path"]) == ("/shop", "/shop/a")


def test_the_scope_by_a_unix_socket(folder: Path) -> None:
    path = folder / "asgi.sock"
    with tux.Server(app="scop:app", app_dir=folder, listen=f"unix:{path}") as server, Client(server) as client:
        client.sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        received = b""
        while data := client.sock.recv(65536):
            received += data
        scope = ast.literal_eval(received.partition(b"\r\n\r\n")[2].decode())
        assert (scope["client"], scope["http_version"]) == (None, "1.0")
        assert scope["server"][1] is None


# Others


def test_quart(folder: Path) -> None:
    with serving(folder, "qua:app") as server:
        assert ask(server, "/hello/you")[1] == b"Hello you 0"
        assert ask(server, "/hello/you", method="POST", body=bytes(1_000_000))[1] == b"Hello you 1000000"
        with websocket(server) as client:
            client.send("abc")
            assert client.recv(PATIENCE) == "abc"


def test_django(folder: Path) -> None:
    with serving(folder, "djan:application") as server:
        assert ask(server, "/hello", Host="a.example")[1] == b"Hello a.example 127.0.0.1"
        body, kind = form(5_000_000)
        _answer, content = ask(server, "/upload", method="POST", body=body, **{"Content-Type": kind})
        assert json.loads(content) == {"a": 5_000_000}
        assert ask(server, "/stream")[1] == b"01234"
