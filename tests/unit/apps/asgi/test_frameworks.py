"""What frameworks make of it: Starlette, FastAPI, Django and Quart, as they are."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from fastapi import BackgroundTasks, FastAPI, Request, UploadFile
from quart import Quart, websocket
from quart import request as quart_request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.unit.apps.asgi.conftest import Serve
from tests.unit.apps.asgi.test_websocket import HEADERS, connect, frames_of, opened
from tests.unit.apps.asgi.ws_client import TEXT, close, frame
from tests.unit.apps.fakes import PATIENCE_S, Answer
from tests.unit.apps.running import Running
from tux.apps.asgi.scope import Application, Receive, Scope, Send

BOUNDARY = "b0undary"


def form(name: str, filename: str, data: bytes) -> bytes:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def upload(server: Running, target: str, data: bytes, *, pieces: int = 10) -> Answer:
    """A form that comes in pieces."""
    content = form("file", "a.bin", data)
    step = len(content) // pieces + 1
    answer = server.request(
        "POST",
        target,
        headers={
            "host": "a.test",
            "content-type": f"multipart/form-data; boundary={BOUNDARY}",
            "content-length": str(len(content)),
        },
        body=content[:step],
        complete=False,
        length=len(content),
    )
    for at in range(step, len(content), step):
        server.port.send_body(answer, content[at : at + step], end=at + step >= len(content))
    return answer.done()


# Starlette


class Stopped(threading.Event):
    """Set when the client was seen to be gone."""


def starlette(path: Path, stopped: threading.Event, middleware: Sequence[Middleware] = ()) -> Starlette:
    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {"greeting": "Hello"}

    async def hello(request: StarletteRequest) -> Response:
        name = request.path_params["name"]
        return PlainTextResponse(f"{request.state.greeting} {name} {request.url_for('hello', name='x').path}")

    async def file(request: StarletteRequest) -> Response:
        return FileResponse(path)

    async def events(request: StarletteRequest) -> Response:
        async def stream() -> AsyncIterator[str]:
            for n in range(10_000_000):
                yield f"data: {n}\n\n"
                await asyncio.sleep(0.001)

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def silence(request: StarletteRequest) -> Response:
        async def stream() -> AsyncIterator[str]:
            yield ": nothing follows\n\n"
            await asyncio.get_running_loop().create_future()

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def poll(request: StarletteRequest) -> Response:
        while not await request.is_disconnected():
            await asyncio.sleep(0.001)
        return PlainTextResponse("nobody reads this")

    async def socket(ws: WebSocket) -> None:
        await ws.accept()
        try:
            while True:
                await ws.send_text(await ws.receive_text() + ws.state.greeting)
        except WebSocketDisconnect as error:
            if error.code == 4001:
                stopped.set()

    async def denied(ws: WebSocket) -> None:
        await ws.send_denial_response(PlainTextResponse("who are you?", status_code=401))

    class Watched:
        """Tells when a call has ended that lasts until the client leaves."""

        def __init__(self, app: Application) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await self.app(scope, receive, send)
            finally:
                if scope.get("path") in {"/events", "/silence", "/poll"}:
                    stopped.set()

    return Starlette(
        routes=[
            Mount("/sub", routes=[Route("/hello/{name}", hello)], name="sub"),
            Route("/hello/{name}", hello, name="hello"),
            Route("/file", file),
            Route("/events", events),
            Route("/silence", silence),
            Route("/poll", poll),
            WebSocketRoute("/ws", socket),
            WebSocketRoute("/denied", denied),
        ],
        lifespan=lifespan,
        middleware=[Middleware(Watched), *middleware],
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.txt"
    path.write_bytes(b"content" * 10_000)
    return path


def test_starlette(serve: Serve, file: Path) -> None:
    server = serve(starlette(file, Stopped()))
    assert server.get("/hello/you", headers={"host": "a"}).body == b"Hello you /hello/x"
    assert server.get("/sub/hello/you", headers={"host": "a"}).body == b"Hello you /hello/x"
    assert server.get("/none").status == 404
    assert server.request("POST", "/hello/you").done().status == 405


def test_starlette_below_a_prefix(serve: Serve, file: Path) -> None:
    server = serve(starlette(file, Stopped()), root_path="/shop")
    for target in ("/hello/you", "/shop/hello/you"):
        assert server.get(target, headers={"host": "a"}).body == b"Hello you /shop/hello/x"


def test_files_of_starlette_are_sent_by_path(serve: Serve, file: Path) -> None:
    server = serve(starlette(file, Stopped()))
    answer = server.get("/file", headers={"host": "a"})
    assert (answer.length, answer.files) == (70_000, [(0, 70_000)])
    assert answer.body == file.read_bytes()
    head = server.request("HEAD", "/file").done()
    assert (head.length, head.body) == (70_000, b"")
    part = server.get("/file", headers={"host": "a", "range": "bytes=7-13"})
    assert (part.status, part.body) == (206, b"content")


@pytest.mark.parametrize(
    ("target", "middleware"),
    [
        ("/events", False),
        ("/events", True),
        ("/silence", False),
        ("/silence", True),
        ("/poll", False),  # below a middleware is_disconnected() never says so
    ],
)
def test_starlette_sees_that_the_client_is_gone(
    serve: Serve, file: Path, target: str, middleware: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def dispatch(request: StarletteRequest, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    stopped = Stopped()
    around = [Middleware(BaseHTTPMiddleware, dispatch=dispatch), Middleware(GZipMiddleware)] if middleware else []
    server = serve(starlette(file, stopped, around))
    answer = server.request("GET", target)
    if target != "/poll":
        answer.until("len(self.pieces) > 3" if target == "/events" else "self.pieces")
    server.port.hang_up(answer)
    assert stopped.wait(PATIENCE_S)
    server.end()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_websockets_of_starlette(serve: Serve, file: Path) -> None:
    stopped = Stopped()
    server = serve(starlette(file, stopped))
    answer = opened(server)
    server.port.send_body(answer, frame(TEXT, b"abc "))
    answer.until("self.body")
    assert frames_of(answer) == [(0x81, b"abc Hello")]
    server.port.send_body(answer, close(4001))
    assert stopped.wait(PATIENCE_S)
    denied = server.request("GET", "/denied", headers=[*HEADERS], upgrade=True).done()
    assert (denied.status, denied.body) == (401, b"who are you?")


# FastAPI


def fastapi(done: threading.Event) -> FastAPI:
    app = FastAPI()

    @app.post("/upload")
    async def receive(file: UploadFile) -> dict[str, Any]:
        return {"name": file.filename, "size": len(await file.read())}

    @app.get("/items/{item}")
    def item(item: int, request: Request, tasks: BackgroundTasks) -> dict[str, Any]:
        """In a thread of the framework's pool."""
        tasks.add_task(done.set)
        assert request.client is not None
        return {"item": item, "client": request.client.host}

    @app.websocket("/ws")
    async def socket(ws: WebSocket) -> None:
        await ws.accept(subprotocol="json")
        await ws.send_json({"query": dict(ws.query_params)})
        await ws.close(1001, "done")

    return app


def test_fastapi(serve: Serve) -> None:
    done = threading.Event()
    server = serve(fastapi(done))
    answer = server.get("/items/3", headers={"host": "a"})
    assert json.loads(answer.body) == {"item": 3, "client": "192.0.2.7"}
    assert done.wait(PATIENCE_S)
    assert server.get("/items/x", headers={"host": "a"}).status == 422
    assert json.loads(upload(server, "/upload", bytes(200_000)).body) == {"name": "a.bin", "size": 200_000}
    assert "paths" in json.loads(server.get("/openapi.json").body)


def test_websockets_of_fastapi(serve: Serve) -> None:
    server = serve(fastapi(threading.Event()))
    answer = connect(server, (b"sec-websocket-protocol", b"json")).until("len(self.pieces) == 2")
    assert frames_of(answer) == [(0x81, b'{"query":{"a":"1"}}'), (0x88, b"\x03\xe9done")]
    server.port.send_body(answer, close(1001))
    answer.done()


# Django


@pytest.fixture(scope="session")
def django() -> Any:
    from django.core.asgi import get_asgi_application
    from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
    from django.urls import path

    async def hello(request: HttpRequest) -> HttpResponseBase:
        return HttpResponse(f"{request.path} {request.path_info} {request.get_host()}")

    def sync(request: HttpRequest) -> HttpResponseBase:
        return JsonResponse({name: file.size for name, file in request.FILES.items()})

    async def stream(request: HttpRequest) -> HttpResponseBase:
        async def pieces() -> AsyncIterator[bytes]:
            for n in range(5):
                yield b"%d" % n
                await asyncio.sleep(0)

        return StreamingHttpResponse(pieces())

    async def fail(request: HttpRequest) -> HttpResponseBase:
        raise ValueError("no view")

    if not settings.configured:
        settings.configure(SECRET_KEY="x", ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None)
    import sys
    import types

    urls = types.ModuleType("tux_test_asgi_urls")
    urls.urlpatterns = [  # type: ignore[attr-defined]
        path("hello", hello),
        path("upload", sync),
        path("stream", stream),
        path("fail", fail),
    ]
    sys.modules[urls.__name__] = urls
    settings.ROOT_URLCONF = urls.__name__
    return get_asgi_application()


def test_django(serve: Serve, django: Any) -> None:
    server = serve(django, root_path="/shop")
    assert server.get("/hello", headers={"host": "a.test"}).body == b"/shop/hello /hello a.test"
    assert json.loads(upload(server, "/upload", bytes(3_000_000)).body) == {"file": 3_000_000}
    assert server.get("/stream", headers={"host": "a"}).body == b"01234"
    assert server.get("/none", headers={"host": "a"}).status == 404
    assert server.get("/fail", headers={"host": "a"}).status == 500


# Quart


def quart(greetings: list[str]) -> Quart:
    app = Quart("shop", root_path="/")

    @app.before_serving
    async def start() -> None:
        greetings.append("Hello")

    @app.after_serving
    async def stop() -> None:
        greetings.append("Bye")

    @app.route("/hello/<name>", methods=["GET", "POST"])
    async def hello(name: str) -> str:
        data = await quart_request.get_data()
        return f"{greetings[0]} {name} {len(data)}"

    @app.websocket("/ws")
    async def socket() -> None:
        while True:
            await websocket.send(await websocket.receive())

    return app


def test_quart(serve: Serve) -> None:
    greetings: list[str] = []
    server = serve(quart(greetings))
    assert server.get("/hello/you", headers={"host": "a"}).body == b"Hello you 0"
    answer = server.request("POST", "/hello/you", headers={"host": "a"}, complete=False)
    for n in range(10):
        server.port.send_body(answer, bytes(1000), end=n == 9)
    assert answer.done().body == b"Hello you 10000"
    socket = opened(server)
    server.port.send_body(socket, frame(TEXT, b"abc"))
    socket.until("self.body")
    assert frames_of(socket) == [(0x81, b"abc")]
    server.port.send_body(socket, close())
    socket.done()
    server.end()
    assert greetings == ["Hello", "Bye"]
