# SPDX-License-Identifier: MIT
"""The applications that are measured: the least that each interface and framework can do, and a file."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

HELLO: Final = b"Hello, World!"
_HEADERS: Final = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(HELLO)))]
_RAW: Final = [(name.lower().encode(), value.encode()) for name, value in _HEADERS]
INSIDE: Final = "/inside"
"""The route that `accel` names."""
HOG_S: Final = 0.05
SLOW_S: Final = 0.02
FILE: Final = os.environ.get("BENCH_FILE", "")
"""The file that the applications below send, whatever is asked for."""


def wsgi(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI, without a framework."""
    start_response("200 OK", _HEADERS)
    return [HELLO]


async def asgi(scope: dict[str, Any], _receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """ASGI, without a framework."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": _RAW})
    await send({"type": "http.response.body", "body": HELLO})


async def echo(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """ASGI, a WebSocket that says what it hears."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def hog(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI that keeps its process busy: /sleep waits, /burn computes, for HOG_S each."""
    if environ["PATH_INFO"] == "/burn":
        burn(HOG_S)
    else:
        time.sleep(HOG_S)
    start_response("200 OK", _HEADERS)
    return [HELLO]


async def slow(scope: dict[str, Any], _receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """ASGI that waits for SLOW_S, as for a database, and needs no CPU for that."""
    assert scope["type"] == "http"
    await asyncio.sleep(SLOW_S)
    await send({"type": "http.response.start", "status": 200, "headers": _RAW})
    await send({"type": "http.response.body", "body": HELLO})


def burn(seconds: float) -> None:
    """Compute for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def flask() -> Any:
    """A factory of a Flask application."""
    from flask import Flask, Response

    app = Flask(__name__)

    @app.get("/hello")
    def hello() -> Response:
        return Response(HELLO, mimetype="text/plain")

    return app


def starlette() -> Any:
    """A factory of a Starlette application."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def hello(_request: Request) -> PlainTextResponse:
        return PlainTextResponse(HELLO)

    return Starlette(routes=[Route("/hello", hello)])


def file_wrapper(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI, a file by wsgi.file_wrapper."""
    file = open(FILE, "rb")  # noqa: SIM115 (the server closes it)
    headers = [("Content-Type", "text/html"), ("Content-Length", str(os.fstat(file.fileno()).st_size))]
    start_response("200 OK", [*headers, ("ETag", '"file"'), ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file, 65536)
    return wrapped


def sendfile(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI, a file by X-Sendfile: its path."""
    start_response("200 OK", [("Content-Type", "text/html"), ("X-Sendfile", FILE)])
    return []


def accel(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI, a file by X-Accel-Redirect: where the site has it, for nobody but its applications."""
    start_response(
        "200 OK", [("Content-Type", "text/html"), ("X-Accel-Redirect", f"{INSIDE}/{os.path.basename(FILE)}")]
    )
    return []


async def pathsend(scope: dict[str, Any], _receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """ASGI, a file by the extension http.response.pathsend."""
    assert scope["type"] == "http"
    headers = [
        (b"content-type", b"text/html"),
        (b"content-length", str(os.stat(FILE).st_size).encode()),
        (b"etag", b'"file"'),
        (b"last-modified", b"Thu, 01 Jan 2026 00:00:00 GMT"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.pathsend", "path": FILE})
