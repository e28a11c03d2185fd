# SPDX-License-Identifier: MIT
"""A server behind the server, played by the test: it says byte by byte what its script says."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.corpus.reader import PATIENCE

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Content-Type-Options: nosniff\r\n"
"""The begin of a response that the tests' strict client takes, once it says how long it is."""


@dataclass(frozen=True)
class Received:
    """A request as it arrived. Names of fields are in lower case; a repeated one has its values joined with ", "."""

    line: str
    fields: dict[str, str]
    body: bytes
    raw_head: bytes

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


class Peer:
    """One connection from the forwarder."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        """How many connections there were before it."""
        self._held = b""

    def head(self) -> Received | None:
        """The next request, without its body; None at the end of the connection."""
        while b"\r\n\r\n" not in self._held:
            if not self._more():
                assert not self._held, "the forwarder ended in a head"
                return None
        raw, _, self._held = self._held.partition(b"\r\n\r\n")
        line, *rest = raw.decode("latin-1").split("\r\n")
        fields: dict[str, str] = {}
        for text in rest:
            name, _, value = text.partition(": ")
            key = name.lower()
            fields[key] = f"{fields[key]}, {value}" if key in fields else value
        return Received(line, fields, b"", raw)

    def body_of(self, request: Received) -> bytes:
        """All of its body."""
        if request.fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.line(), 16):
                body += self.take(size)
                assert self.line() == b""
            assert self.line() == b""
            return body
        return self.take(int(request.fields.get("content-length", "0")))

    def request(self) -> Received | None:
        """The next request, with its body."""
        found = self.head()
        return found and Received(found.line, found.fields, self.body_of(found), found.raw_head)

    def line(self) -> bytes:
        while b"\r\n" not in self._held:
            assert self._more(), "the forwarder ended in a line"
        line, _, self._held = self._held.partition(b"\r\n")
        return line

    def take(self, size: int) -> bytes:
        pieces = [self._held[:size]]
        size -= len(pieces[0])
        self._held = self._held[len(pieces[0]) :]
        while size > 0:
            piece = self.sock.recv(min(size, 1 << 20))
            assert piece, "the forwarder ended in a body"
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def ended(self) -> bool:
        """Wait for its end: True when nothing came before that."""
        with contextlib.suppress(ConnectionError):
            return not self._held and not self.sock.recv(1)
        return True

    def send(self, *texts: bytes) -> None:
        self.sock.sendall(b"".join(texts))

    def ok(self, body: bytes = b"hello", *fields: bytes) -> None:
        lines = b"".join(line + b"\r\n" for line in (b"Content-Length: %d" % len(body), *fields))
        self.send(OK, lines, b"\r\n", body)

    def reset(self) -> None:
        """Close it so that the other side gets a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _more(self) -> bool:
        piece = self.sock.recv(65536)
        self._held += piece
        return bool(piece)


Script = Callable[[Peer], None]


def echo(peer: Peer) -> None:
    """Answer every request with its own head and body."""
    while (request := peer.request()) is not None:
        peer.ok(request.raw_head + b"\r\n\r\n" + request.body)


@dataclass
class Backend:
    """Listens as soon as it is made; each connection runs the script in a thread of its own, and is closed after it."""

    script: Script = echo
    where: str = "127.0.0.1"
    """An address, or the path of a unix socket."""
    backlog: int = 128
    accepted: int = 0
    errors: list[Exception] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        if "/" in self.where:
            Path(self.where).unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self.where)
            Path(self.where).chmod(0o777)
            self.url = f"unix:{self.where}"
        else:
            family = socket.AF_INET6 if ":" in self.where else socket.AF_INET
            self._listener = socket.socket(family)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((self.where, 0))
            host = f"[{self.where}]" if family == socket.AF_INET6 else self.where
            self.url = f"http://{host}:{self._listener.getsockname()[1]}"
        self._listener.listen(self.backlog)
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    @property
    def authority(self) -> str:
        return self.url.removeprefix("http://")

    def close(self) -> None:
        """Stop listening, end all connections, and say what went wrong in the scripts."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(PATIENCE)
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        if self.errors:
            raise self.errors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE)
            self._open.add(sock)
            thread = threading.Thread(target=self._run, args=(sock, self.accepted))
            self.accepted += 1
            self._threads.append(thread)
            thread.start()

    def _run(self, sock: socket.socket, number: int) -> None:
        try:
            self.script(Peer(sock, number))
        except (ConnectionError, OSError) as error:
            if not self._closing and isinstance(error, TimeoutError):
                self.errors.append(error)
        except Exception as error:  # noqa: BLE001  # close() raises it
            self.errors.append(error)
        finally:
            self._open.discard(sock)
            sock.close()


def config_of(path: Path, *urls: str, workers: int = 1, **options: Any) -> Path:
    """A configuration that forwards everything to these servers. Options are those of `[upstream.NAME]`."""
    lines = ["[server]", f"workers = {workers}", 'listen = ["127.0.0.1:0"]', 'access_log = "off"', "[upstream.back]"]
    lines.append(f"servers = [{', '.join(repr(url) for url in urls)}]")
    lines += [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    path.write_text("\n".join([*lines, "[[site]]", 'forward = "back"', ""]))
    return path
