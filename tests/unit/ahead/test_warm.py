"""Asking for everything: over each connection, twice, whatever the server does to connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeAlias

import pytest

from tux.ahead.sources import Wanted
from tux.ahead.warm import ASKS, Address, Ask, Outcome, Talk, Warmed, read_sitemaps, request, warm
from tux.errors import StartError

Answer: TypeAlias = Callable[[bytes, int], bytes]
"""Head of a request, number of it on its connection -> bytes; none: the connection ends."""


def ok(body: bytes = b"x", status: int = 200, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} OK\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Server:
    """Answers as it is told."""

    def __init__(self, answer: Answer) -> None:
        self.asked: Counter[str] = Counter()
        self.heads: list[bytes] = []
        self.connections = 0
        self.serving = 0
        self._answer = answer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection, number = self.connections, 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked[head.split(b" ")[1].decode()] += 1
                self.heads.append(head)
                self.serving = connection
                answer = self._answer(head, number)
                number += 1
                if not answer:
                    return
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def run(self, use: Callable[[Talk], Awaitable[object]], **talk: float) -> object:
        async def main() -> object:
            async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
                port = server.sockets[0].getsockname()[1]
                return await use(Talk(Address("127.0.0.1", port), "host.example", **talk))  # type: ignore[arg-type]

        return asyncio.run(main())

    def warm(
        self, targets: list[str], *, connections: int = 1, codings: tuple[str, ...] = ("",), **talk: float
    ) -> Warmed:
        self.said = 0

        def say(number: int) -> None:
            self.said += number

        asks = [Ask(Wanted(target), coding) for target in targets for coding in codings]
        result = self.run(lambda talk: warm(talk, asks, connections=connections, say=say), **talk)
        assert isinstance(result, Warmed)
        assert self.said == len(asks) * connections * ASKS
        return result


def statuses(warmed: Warmed) -> list[int]:
    return [outcome.status for outcome in warmed.outcomes]


def test_requests() -> None:
    talk = Talk(Address("127.0.0.1", 80), "a", ["Accept: */*"])
    assert request(talk, Ask(Wanted("/x"), "")) == (
        b"GET /x HTTP/1.1\r\nHost: a\r\nUser-Agent: tux-warm\r\nAccept: */*\r\n\r\n"
    )
    assert b"Host: b\r\n" in request(talk, Ask(Wanted("/x", "b"), "gzip"))
    assert b"Accept-Encoding: gzip\r\n" in request(talk, Ask(Wanted("/x", "b"), "gzip"))


def test_each_connection_asks_for_everything_twice() -> None:
    server = Server(lambda head, number: ok())
    targets = [f"/{number}" for number in range(100)]
    warmed = server.warm(targets, connections=3)
    assert statuses(warmed) == [200] * 100
    assert server.asked == Counter(dict.fromkeys(targets, 6))
    assert server.connections == 4, "the first one only looks whether somebody is there"
    assert (warmed.lost, warmed.reason) == (0, "")


def test_all_variants() -> None:
    server = Server(lambda head, number: ok())
    assert len(server.warm(["/a"], codings=("gzip", "")).outcomes) == 2
    assert sum(b"Accept-Encoding: gzip" in head for head in server.heads) == 2
    assert sum(b"Accept-Encoding" not in head for head in server.heads) == 2


def test_the_worst_answer_counts() -> None:
    server = Server(lambda head, number: ok(status=503 if number == 1 else 200))
    assert statuses(server.warm(["/a", "/b"])) == [503, 200]


@pytest.mark.parametrize("every", [1, 2, 7])
def test_connections_that_end(every: int) -> None:
    """With an announcement; what was sent ahead is asked for again."""

    def answer(head: bytes, number: int) -> bytes:
        return ok(more="Connection: close\r\n" if number == every - 1 else "") if number < every else b""

    server = Server(answer)
    warmed = server.warm([f"/{number}" for number in range(20)])
    assert statuses(warmed) == [200] * 20
    assert warmed.lost == 0


def test_connections_that_are_cut() -> None:
    server = Server(lambda head, number: ok() if number < 5 else b"")
    assert statuses(server.warm([f"/{number}" for number in range(20)])) == [200] * 20


def test_one_that_is_never_answered() -> None:
    """It costs its own answer, not those of others."""
    server = Server(lambda head, number: b"" if head.startswith(b"GET /bad ") else ok())
    warmed = server.warm(["/a", "/bad", "/b", "/c"])
    assert statuses(warmed) == [200, 0, 200, 200]
    assert warmed.outcomes[1].reason == "the connection ended without an answer"
    assert warmed.lost == 0


def test_a_server_that_only_hangs_up() -> None:
    server = Server(lambda head, number: b"")
    warmed = server.warm([f"/{number}" for number in range(50)])
    assert statuses(warmed) == [0] * 50
    assert server.connections < 10, "it gives up"


def test_some_connections_fail() -> None:
    server = Server(lambda head, number: ok() if server.serving < 4 else b"")
    warmed = server.warm(["/a"], connections=8)
    assert statuses(warmed) == [200]
    assert warmed.lost > 0
    assert "ended without an answer" in warmed.reason


def test_what_is_no_http() -> None:
    warmed = Server(lambda head, number: b"SSH-2.0-OpenSSH\r\n\r\n").warm(["/a"])
    assert warmed.outcomes == [Outcome(Ask(Wanted("/a"), ""), reason="what was answered is not HTTP/1")]


def test_silence() -> None:
    warmed = Server(lambda head, number: b"HTTP/1.1 200 OK\r\n").warm(["/a"], timeout=0.05)
    assert warmed.outcomes[0].reason == "no answer within 0.05 s"


def test_large_answers_are_asked_for_once() -> None:
    server = Server(lambda head, number: ok(b"x" * 200) if head.startswith(b"GET /large ") else ok())
    warmed = server.warm(["/a", "/large", "/b"], max_body=100)
    assert statuses(warmed) == [200, 200, 200]
    assert [outcome.large for outcome in warmed.outcomes] == [False, True, False]
    assert server.asked["/large"] <= 2, "and perhaps once more, that was sent ahead"


def test_nobody_listens() -> None:
    talk = Talk(Address("127.0.0.1", 1), "a")
    for use in (warm(talk, [Ask(Wanted("/"), "")], connections=1), read_sitemaps(talk, [Wanted("/s.xml")])):
        with pytest.raises(StartError, match=r"nothing answers at 127\.0\.0\.1:1 \(Connection refused\)"):
            asyncio.run(use)


class TestSitemaps:
    FILES: ClassVar = {
        "/sitemap.xml": b"<sitemapindex>"
        b"<sitemap><loc>https://a.example/1.xml</loc></sitemap><sitemap><loc>https://b.example/2.xml</loc></sitemap>"
        b"</sitemapindex>",
        "/1.xml": b"<urlset><url><loc>https://a.example/x</loc></url><url><loc>https://a.example/y</loc></url></urlset>",
        "/2.xml": b"<sitemapindex><sitemap><loc>https://b.example/2.xml</loc></sitemap></sitemapindex>",
        "/bad.xml": b"<html/>",
    }

    def read(self, *targets: str) -> object:
        def answer(head: bytes, number: int) -> bytes:
            file = self.FILES.get(head.split(b" ")[1].decode())
            return ok(status=404) if file is None else ok(file)

        self.server = Server(answer)
        return self.server.run(lambda talk: read_sitemaps(talk, [Wanted(target) for target in targets]))

    def test_an_index_and_one_that_names_itself(self) -> None:
        assert self.read("/sitemap.xml") == [Wanted("/x", "a.example"), Wanted("/y", "a.example")]
        assert sum(b"Host: b.example" in head for head in self.server.heads) == 1, "by its host, at the same server"

    def test_what_cannot_be_read(self) -> None:
        with pytest.raises(StartError, match=r"sitemap /none\.xml: the answer was 404"):
            self.read("/none.xml")
        with pytest.raises(StartError, match=r"sitemap /bad\.xml: expected <urlset>"):
            self.read("/bad.xml")
