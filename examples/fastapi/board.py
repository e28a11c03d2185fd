"""A notice board: notes by HTTP, and who is watching gets them at once, by a WebSocket or as events.

    tux serve examples/fastapi/public --app board:app --app-dir examples/fastapi

The page and its script are files: Tux answers for them without asking this program.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

MAX_NOTES = 100


class NewNote(BaseModel):
    text: str = Field(min_length=1, max_length=500)


class Note(NewNote):
    number: int
    posted: datetime


class Board:
    """The notes of this process. Several processes (--app-workers) would need a database in its place."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.changed = asyncio.Condition()
        self.count = 0

    async def post(self, text: str) -> Note:
        async with self.changed:
            self.count += 1
            note = Note(text=text, number=self.count, posted=datetime.now(UTC))
            self.notes = [*self.notes[1 - MAX_NOTES :], note]
            self.changed.notify_all()
        return note

    async def watch(self, after: int) -> AsyncIterator[Note]:
        """The notes after that number, and each further one when it comes."""
        while True:
            async with self.changed:
                while self.count <= after:
                    await self.changed.wait()
                new = [note for note in self.notes if note.number > after]
                after = self.count
            for note in new:
                yield note


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Board]]:
    yield {"board": Board()}


app = FastAPI(title="Notice board", lifespan=lifespan, docs_url="/api/docs", openapi_url="/api/openapi.json")


@app.get("/api/notes")
async def notes(request: Request) -> list[Note]:
    board: Board = request.state.board
    return board.notes


@app.post("/api/notes", status_code=201)
async def post(request: Request, note: NewNote) -> Note:
    board: Board = request.state.board
    return await board.post(note.text)


@app.get("/api/events")
async def events(request: Request, after: int = 0) -> StreamingResponse:
    """For EventSource: ends when the client leaves."""
    board: Board = request.state.board

    async def stream() -> AsyncIterator[str]:
        async for note in board.watch(after):
            yield f"id: {note.number}\ndata: {note.model_dump_json()}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.websocket("/api/live")
async def live(socket: WebSocket) -> None:
    """Notes both ways: each text that comes is posted, each note that is posted goes out."""
    board: Board = socket.state.board
    await socket.accept()

    async def tell() -> None:
        async for note in board.watch(board.count):
            await socket.send_text(note.model_dump_json())

    telling = asyncio.create_task(tell())
    try:
        async for text in socket.iter_text():
            await board.post(text)
    except WebSocketDisconnect:
        pass
    finally:
        telling.cancel()
