"""A client for answers of applications, which need not have a length, and are whatever the application says."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import tux
from tests.corpus.reader import PATIENCE, ClosedError
from tests.e2e.client import address_of, open_socket, request


class Reply(NamedTuple):
    """An answer."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of a field."""
        return [value for key, value in self.fields if key.lower() == name]

    def value(self, name: str) -> str:
        """The value of a field that is there once."""
        (value,) = self.all(name)
        return value

    def json(self) -> Any:
        return json.loads(self.body)


class Ask(Protocol):
    """Sends a request, gives the answer. With `chunked` the body has no length."""

    def __call__(
        self, method: str, target: str, body: bytes = b"", *, chunked: bool = False, **fields: str
    ) -> Reply: ...


def asking(server: tux.Server) -> Ask:
    """Sends requests to this server, each on a connection of its own."""

    def ask(method: str, target: str, body: bytes = b"", *, chunked: bool = False, **fields: str) -> Reply:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=PATIENCE)
        blocks = (body[i : i + 50_000] for i in range(0, len(body), 50_000))
        try:
            connection.request(method, target, blocks if chunked else body or None, headers, encode_chunked=chunked)
            with connection.getresponse() as answer:
                return Reply(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    return ask


class Connection:
    """One connection: what is sent is said byte by byte, answers are read one after the other."""

    def __init__(self, server: tux.Server, receive_buffer: int = 0) -> None:
        self.sock = open_socket(address_of(server), receive_buffer)
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.sock.close()

    def reset(self) -> None:
        """Close it so that the server is told at once."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def send(self, path: str, body: bytes = b"", /, *, method: str = "GET", **fields: str) -> None:
        """A request, and as much of its body as is given here."""
        self.sock.sendall(request(path, method=method, **fields) + body)

    def answer(self, method: str = "GET") -> Reply:
        """The next answer, to a request with this method. ClosedError: the connection ended before it did."""
        first = self._line()
        status = int(first.split()[1])
        fields = []
        while line := self._line():
            name, _, value = line.decode("latin-1").partition(":")
            fields.append((name.lower(), value.strip()))
        reply = Reply(status, fields, b"")
        if status < 200 or status in {204, 304} or method == "HEAD":
            return reply
        if reply.all("transfer-encoding"):
            assert reply.value("transfer-encoding") == "chunked"
            assert not reply.all("content-length")
            return reply._replace(body=self._chunks())
        return reply._replace(body=self._exactly(int(reply.value("content-length"))))

    def ask(self, path: str, *, method: str = "GET", **fields: str) -> Reply:
        self.send(path, method=method, **fields)
        return self.answer(method)

    def _chunks(self) -> bytes:
        body = b""
        try:
            while size := int(self._line(), 16):
                body += self._exactly(size)
                assert self._line() == b""
            assert self._line() == b""
        except ClosedError as error:
            raise ClosedError(body + error.received) from None
        return body

    def _line(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ClosedError(line)
        return line[:-2]

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise ClosedError(data)
        return data
