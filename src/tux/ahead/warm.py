"""Asks a running server for many addresses, so that it has decided, read and compressed what it is asked for later.

Each worker has a memory of its own, and a connection belongs to one worker: so each of several connections asks for
everything, and twice, since an answer is remembered when it is asked for again.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tux.ahead.sources import MAX_SITEMAP_BYTES, MAX_URLS, Wanted, from_sitemap
from tux.errors import StartError
from tux.http.response import Response, Responses

ASKS = 2
"""How often one connection asks for each address."""

PIPELINE = 16
"""Requests that are sent ahead of their answers, on one connection: it need not wait for each."""

READ_BYTES = 65536

MAX_FAILURES = 3
"""Connections in a row that end without an answer, before what is left is given up."""

MAX_SITEMAPS = 1000
"""That are read; one names up to 50,000 pages."""

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


class Address(NamedTuple):
    """Where the server listens. `path`: of a unix socket, in place of host and port."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"{host}:{self.port}"


class Ask(NamedTuple):
    """One request: an address, and what the client says that it accepts."""

    wanted: Wanted
    coding: str
    """Value of Accept-Encoding; "": none is sent."""


class Outcome(NamedTuple):
    """How one ask was answered: of several answers, the one with the highest status."""

    ask: Ask
    status: int = 0
    """0: not at all."""
    reason: str = ""
    """Why not."""
    large: bool = False
    """The answer is larger than is read: it was asked for once."""


class Warmed(NamedTuple):
    """What came of it."""

    outcomes: list[Outcome]
    """By the order of the asks."""
    lost: int
    """Requests without an answer, though the same was answered on another connection."""
    reason: str
    """Of the last of these."""


class Talk(NamedTuple):
    """What all connections have in common."""

    address: Address
    host: str
    """Value of Host where an address has none."""
    fields: Sequence[str] = ()
    """Lines that all requests have besides."""
    timeout: float = 30.0
    """Seconds for a connection, and between bytes of answers."""
    max_body: int = 1024 * 1024
    """Bytes of the largest answer that is read."""


def request(talk: Talk, ask: Ask) -> bytes:
    """The bytes of a request."""
    lines = [f"GET {ask.wanted.target} HTTP/1.1", f"Host: {ask.wanted.host or talk.host}", "User-Agent: tux-warm"]
    if ask.coding:
        lines.append(f"Accept-Encoding: {ask.coding}")
    return "\r\n".join([*lines, *talk.fields, "", ""]).encode("latin-1")


async def fetch(talk: Talk, wanted: Wanted) -> Response:
    """One answer with its body. StartError: nobody listens. OSError, ValueError: there was none."""
    reader, writer = await _connect_first(talk)
    responses = Responses(max_body=talk.max_body, keep=True)
    try:
        writer.write(request(talk, Ask(wanted, "")))
        while True:  # ends: by an answer, by the end of the connection, or by the time-out
            async with asyncio.timeout(talk.timeout):
                data = await reader.read(READ_BYTES)
            responses.feed(data)
            response = responses.take() or (None if data else responses.end())
            if response is not None:
                return response
            if not data:
                raise OSError("the connection ended without an answer")
    finally:
        writer.close()


async def read_sitemaps(talk: Talk, first: Sequence[Wanted]) -> list[Wanted]:
    """The pages that these sitemaps of the server name, and those that they name. StartError: one cannot be read."""
    talk = talk._replace(max_body=MAX_SITEMAP_BYTES)
    known = dict.fromkeys(first)
    waiting = deque(known)
    pages: dict[Wanted, None] = {}
    while waiting and len(pages) < MAX_URLS:
        one = waiting.popleft()
        try:
            response = await fetch(talk, one)
            if response.status != 200 or not response.whole:
                raise ValueError(f"the answer was {response.status}" if response.whole else "it is too large")
            found = from_sitemap(response.body)
        except (OSError, ValueError) as error:
            raise StartError(f"sitemap {one.target}: {error}") from None
        pages.update(dict.fromkeys(found.pages))
        new = [wanted for wanted in found.sitemaps if wanted not in known][: MAX_SITEMAPS - len(known)]
        known.update(dict.fromkeys(new))
        waiting.extend(new)
    return list(pages)


async def warm(
    talk: Talk, asks: Sequence[Ask], *, connections: int, say: Callable[[int], None] = lambda _: None
) -> Warmed:
    """Ask for all over each of several connections. say: called with the number of requests that are done with, of
    `len(asks) * connections * ASKS`. StartError: nobody listens."""
    _, writer = await _connect_first(talk)
    writer.close()
    results = _Results(asks, say)
    starts = [len(asks) * number // connections for number in range(connections)]  # not all at the same place
    async with asyncio.TaskGroup() as group:
        for start in starts:
            group.create_task(_Connection(talk, asks, start, results).run())
    outcomes = [results.found[number] for number in range(len(asks))]
    silent = sum(outcome.status == 0 for outcome in outcomes)
    return Warmed(outcomes, max(results.lost - silent * ASKS * connections, 0), results.reason)


class _Results:
    """What was answered so far."""

    def __init__(self, asks: Sequence[Ask], say: Callable[[int], None]) -> None:
        self._asks = asks
        self.say = say
        self.found: dict[int, Outcome] = {}
        self.lost = 0
        self.reason = ""

    def answered(self, number: int, response: Response) -> None:
        before = self.found.get(number)
        if before is None or response.status > before.status:
            self.found[number] = Outcome(self._asks[number], response.status, large=not response.whole)
        self.say(1)

    def failed(self, number: int, reason: str) -> None:
        self.found.setdefault(number, Outcome(self._asks[number], reason=reason))
        self.lost += 1
        self.reason = reason
        self.say(1)

    def is_large(self, number: int) -> bool:
        return number in self.found and self.found[number].large


class _Connection:
    """Asks for everything, over one connection as long as that is possible."""

    def __init__(self, talk: Talk, asks: Sequence[Ask], start: int, results: _Results) -> None:
        self._talk = talk
        self._asks = asks
        self._results = results
        self._later: deque[int] = deque()  # what an ended connection left unanswered
        self._next = self._order(start)

    def _order(self, start: int) -> Iterator[int]:
        for number in range(len(self._asks)):
            yield from [(start + number) % len(self._asks)] * ASKS

    def _take(self) -> int | None:
        """What is to be asked for next."""
        while True:  # ends: there is less left after each round
            number = self._later.popleft() if self._later else next(self._next, None)
            if number is None or not self._results.is_large(number):
                return number
            self._results.say(1)

    async def run(self) -> None:
        failures, reason = 0, ""
        while failures < MAX_FAILURES:
            first = self._take()
            if first is None:
                return
            self._later.appendleft(first)
            answered = 0
            try:
                answered = await self._talk_once()
                reason = "the connection ended without an answer"
            except (OSError, ValueError) as error:  # TimeoutError, too
                reason = str(error) or f"no answer within {self._talk.timeout:g} s"
            if answered:
                failures = 0
                continue
            failures += 1
            refused = self._take()
            if refused is not None:
                self._results.failed(refused, reason)
        while (number := self._take()) is not None:
            self._results.failed(number, reason)

    async def _talk_once(self) -> int:
        """Ask until the connection or the work ends: the number of answers. After an error, too, what was not answered
        is asked for again."""
        reader, writer = await _connect(self._talk)
        responses = Responses(max_body=self._talk.max_body)
        flight: deque[int] = deque()
        answered = 0
        try:
            while True:  # ends: each round sends, reads, or returns
                while len(flight) < PIPELINE and (number := self._take()) is not None:
                    writer.write(request(self._talk, self._asks[number]))
                    flight.append(number)
                if not flight:
                    return answered
                async with asyncio.timeout(self._talk.timeout):
                    data = await reader.read(READ_BYTES)
                responses.feed(data)
                while flight and (response := responses.take() or (None if data else responses.end())):
                    number = flight.popleft()
                    answered += 1
                    self._results.answered(number, response)
                    if response.closes:
                        return answered
                if not data:
                    return answered
        except (OSError, ValueError):
            if not answered:
                raise
            return answered
        finally:
            self._later.extendleft(reversed(flight))
            writer.close()


async def _connect_first(talk: Talk) -> tuple[Reader, Writer]:
    try:
        return await _connect(talk)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else f"no connection within {talk.timeout:g} s"
        raise StartError(f"nothing answers at {talk.address} ({reason}); start the server first") from None


async def _connect(talk: Talk) -> tuple[Reader, Writer]:
    address = talk.address
    async with asyncio.timeout(talk.timeout):
        if address.path:
            return await asyncio.open_unix_connection(address.path)
        return await asyncio.open_connection(address.host, address.port)


def counts(outcomes: Sequence[Outcome]) -> list[tuple[int, int]]:
    """Status -> how many were answered with it, the most frequent first; 0: not at all."""
    return Counter(outcome.status for outcome in outcomes).most_common()
