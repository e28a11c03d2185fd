"""A guest book by modules, which shows most of what they can do:

tux serve examples/modules/public --module examples/modules/guestbook.py
"""

from __future__ import annotations

import asyncio
import html
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import tux


@tux.module("/hello", cache=1)
def hello(req: tux.Request) -> str:
    """The least. Remembered for a second: no process is asked meanwhile."""
    return f"Hello, {req.params.get('name', 'World')}!\n"


@tux.module("/entries")
class Entries:
    """State lives in an instance, one for each process."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def get(self, _req: tux.Request) -> dict[str, Any]:
        return {"entries": self.entries}

    def post(self, req: tux.Request) -> Any:
        text = req.body.decode("utf-8", "replace").strip()
        if not text:
            return 400, "An entry needs a text.\n"
        self.entries.append(html.escape(text))
        return 303, {"Location": "/"}, None


@tux.module("/count")
def count(_req: tux.Request) -> Iterator[str]:
    """A body that is made as the client reads it."""
    for number in range(1, 1001):
        yield f"{number}\n"


@tux.module("/ticks")
async def ticks(req: tux.Request) -> AsyncIterator[str]:
    """Three events for an EventSource, some time apart."""
    req.start(200, {"Content-Type": "text/event-stream"})
    for number in range(3):
        yield f"data: {number}\n\n"
        await asyncio.sleep(0.05)


@tux.module("/thread")
def thread(req: tux.Request) -> Any:
    """Slow work in a thread: the loop goes on, and the request is continued from there."""

    def work() -> None:
        req.resume(f"{sum(range(1000))}\n")

    threading.Thread(target=work).start()
    return req.postpone()


HELPER = "import sys, tux; tux.resume(sys.argv[1], {'answer': 6 * 7})"


@tux.module("/process")
async def process(req: tux.Request) -> Any:
    """Slow work in another process, which continues the request by its token."""
    subprocess.Popen([sys.executable, "-c", HELPER, req.token])
    return await req.postpone(timeout=10)


@tux.module("/backend")
async def backend(req: tux.Request) -> bytes:
    """A socket of the handler's own; a resolver or a database would be at its other end."""
    host, port = req.server
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /hello?name=Module HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]
