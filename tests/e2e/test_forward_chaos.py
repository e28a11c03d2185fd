# SPDX-License-Identifier: MIT
"""Servers that misbehave in every way at once, and many clients: nobody ever gets what is somebody else's."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import zlib
from pathlib import Path

import tux
from tests.e2e.backend import Backend, Peer, config_of
from tests.e2e.client import address_of, open_socket, stop
from tux._engine import decode_chunked, scan_response

CLIENTS = 8
REQUESTS = 150
"""Of each client."""
FAULTS = (
    "length",
    "chunked",
    "close",
    "pieces",
    "hints",
    "surplus",
    "later",
    "end",
    "reset",
    "cut",
    "early",
    "nonsense",
)


def answer_of(target: str, body: bytes) -> bytes:
    """What a request must get, if it gets anything: it depends on all of the request, and is long at times."""
    seed = zlib.crc32(target.encode() + body)
    return f"{target} {zlib.crc32(body)} ".encode() * (1 + seed % 50 if seed % 20 else 5000)


def misbehave(peer: Peer) -> None:
    chance = random.Random(peer.number)
    while (head := peer.head()) is not None:
        fault = chance.choice(FAULTS)
        if fault == "early":
            peer.ok(answer_of(head.target, b"") if head.line.startswith("GET") else b"too early")
            if not head.line.startswith("GET"):
                return
            continue
        text = answer_of(head.target, peer.body_of(head))
        if fault == "end":
            return
        if fault == "reset":
            peer.reset()
            return
        if fault == "nonsense":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nevil")
            return
        if fault == "close":
            peer.send(b"HTTP/1.0 200 OK\r\n\r\n", text)
            return
        if fault == "cut":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(text) + 10), text)
            return
        if fault == "hints":
            peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: <%s>\r\n\r\n" % head.target.encode())
        if fault == "chunked":
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for i in range(0, len(text), 777):
                peer.send(b"%x\r\n%s\r\n" % (len(text[i : i + 777]), text[i : i + 777]))
            peer.send(b"0\r\nX-Of: %s\r\n\r\n" % head.target.encode())
        elif fault == "pieces":
            whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
            for i in range(0, min(len(whole), 200), 13):
                peer.send(whole[i : min(i + 13, 200)])
            peer.send(whole[200:])
        elif fault == "surplus" and len(text) < 5000:
            # In one segment: what comes later, when the next request is there, cannot be told from its answer.
            evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text), text, evil)
        else:
            peer.ok(text)
        if fault == "later":
            peer.sock.shutdown(socket.SHUT_WR)


class Client:
    """Sends requests, and sorts what comes into its own answers, errors, and what it should never have got."""

    def __init__(self, server: tux.Server, number: int) -> None:
        self.server = server
        self.number = number
        self.good = self.failed = 0
        self.wrong: list[bytes] = []
        self._sock: socket.socket | None = None

    def run(self) -> None:
        chance = random.Random(self.number)
        for i in range(REQUESTS):
            target = f"/{self.number}/{i}"
            method = chance.choice(["GET", "GET", "GET", "PUT", "POST"])
            body = chance.randbytes(chance.choice([0, 10, 3000, 100_000])) if method != "GET" else b""
            head = f"{method} {target} HTTP/1.1\r\nHost: a\r\n" + (f"Content-Length: {len(body)}\r\n" if body else "")
            self._ask(target, head.encode() + b"\r\n", body)
        if self._sock is not None:
            self._sock.close()

    def _ask(self, target: str, head: bytes, body: bytes) -> None:
        received = b""
        if self._sock is None:
            self._sock = open_socket(address_of(self.server))
        ended = False
        with contextlib.suppress(ConnectionError):
            self._sock.sendall(head + body)
        whole = False
        while not (ended or whole):
            try:
                piece = self._sock.recv(1 << 18)
            except ConnectionError:
                piece = b""
            ended = not piece
            received += piece
            whole = self._judge(target, body, received, ended)
        if ended or b"\r\nConnection: close\r\n" in received:
            self._sock.close()
            self._sock = None

    def _judge(self, target: str, body: bytes, received: bytes, ended: bool) -> bool:
        """Whether there is a final response, or none will come."""
        while (head := scan_response(received))["outcome"] == "done":
            assert isinstance(head["length"], int)
            rest = received[head["length"] :]
            if head["status"] == 103:
                if f"<{target}>".encode() not in received[: head["length"]]:
                    self.wrong.append(received[:300])
                received = rest
                continue
            if head["framing"] == "chunked":
                outcome, text, used = decode_chunked(rest)
                more = rest[used:]
            else:
                length = int(str(head["content_length"]))
                outcome, text, more = ("done" if len(rest) >= length else "more"), rest[:length], rest[length:]
            if outcome != "done" and not ended:
                return False
            expected = answer_of(target, body)
            if head["status"] == 200 and text != b"too early" and (text != expected[: len(text)] or more):
                self.wrong.append(received[:300])
            if head["status"] == 200 and outcome == "done" and text == expected:
                self.good += 1
            else:
                self.failed += 1
            return True
        if ended:
            self.failed += 1
        return ended


def test_nothing_is_mixed_up(site: Path) -> None:
    with Backend(misbehave) as first, Backend(misbehave) as second:
        config = config_of(site / "chaos.toml", first.url, second.url, max_fails=0, retries=1)
        with tux.Server(config=config) as server:
            clients = [Client(server, number) for number in range(CLIENTS)]
            threads = [threading.Thread(target=client.run) for client in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [wrong for client in clients for wrong in client.wrong] == []
            good, failed = sum(client.good for client in clients), sum(client.failed for client in clients)
            assert good + failed == CLIENTS * REQUESTS
            assert good > CLIENTS * REQUESTS / 3, "most faults harm nobody"
            assert failed > 0
            stop(server)
