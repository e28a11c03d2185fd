# SPDX-License-Identifier: MIT
"""Many connections at once, each with a script drawn from a seed, and every byte that comes back compared with what the
server without the tier says to the same request.

`Catalogue` is what may be asked for, `Reference` knows the answers, `scripts` draws what connections do, and `Traffic`
does it. Only the Date may differ, and it must be a time between the request and the answer.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import random
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.corpus.reader import DATE_SLACK, Reader, ViolationError, parse_date
from tests.e2e.client import put
from tests.kernel.lab import Lab, Net

Address = tuple[str, int]

DATE: Final = b"\r\nDate: "
DATE_BYTES: Final = 29

PATIENCE: Final = 30.0
"""Seconds in which a connection must get on: losses are repaired with growing time-outs."""

QUIET: Final = 1_700_000_000
"""When the files were changed last, seconds since 1970: long ago."""

RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of a close that resets."""


class TrafficError(AssertionError):
    """A byte was wrong, or a connection did not get on."""


@dataclass(frozen=True)
class Request:
    """What is sent. `like`: another one that gets the very same answer, when the reference need not be asked anew."""

    data: bytes
    kind: str
    """"hot": always the same bytes, of an answer that the tier may have; else "miss"."""
    method: str = "GET"
    like: Request | None = None


@dataclass(frozen=True)
class Answer:
    """All bytes of one answer, and where its Date is."""

    text: bytes
    date: int
    closes: bool

    @property
    def before(self) -> bytes:
        return self.text[: self.date]

    @property
    def after(self) -> bytes:
        return self.text[self.date + DATE_BYTES :]


class Reference:
    """What a server without the tier answers."""

    def __init__(self, lab: Lab, address: Address) -> None:
        self._lab = lab
        self._address = address
        self._known: dict[bytes, Answer] = {}

    def answer(self, request: Request) -> Answer:
        """To this request, as the first of a connection. It is asked once."""
        wanted = request.like or request
        found = self._known.get(wanted.data)
        if found is None:
            with self._lab.connect(self._address) as sock:
                sock.sendall(wanted.data)
                response = Reader(sock).response(wanted.method)
            text = response.raw_head + b"\r\n\r\n" + response.body
            found = Answer(text, text.index(DATE) + len(DATE), response.closes)
            self._known[wanted.data] = found
        return found


CURL: Final = "User-Agent: curl/8.5.0\r\nAccept: */*\r\n"
CHROME: Final = (
    "Connection: keep-alive\r\nCache-Control: max-age=0\r\n"
    'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: "Linux"\r\n'
    "Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/130.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,"
    "image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7\r\nSec-Fetch-Site: none\r\n"
    "Sec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n"
    "Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
)

SIZES: Final = (0, 1, 100, 1000, 4000, 8000, 10_000, 60_000)
"""Bytes of the files that are hot; those around the size of a segment come to them."""

EDGES: Final = (-2, -1, 0, 1, 2)
"""How much larger than one segment some answers are."""

BIG: Final = 300_000


def head(path: str, fields: str = "", *, method: str = "GET", version: str = "1.1") -> bytes:
    """A request without a body; `fields` with their line ends."""
    host = "Host: lab.example\r\n" if version == "1.1" else ""
    return f"{method} {path} HTTP/{version}\r\n{host}{fields}\r\n".encode()


def content(name: str, size: int) -> bytes:
    """Of a file: no two positions look alike, so that a wrong offset shows."""
    return random.Random(f"{name} {size}").randbytes(size)


class Catalogue:
    """The files of a folder, and what is asked for."""

    def __init__(self, site: Path, net: Net, reference: Reference) -> None:
        self.reference = reference
        self.files: dict[str, bytes] = {}
        self._site = site
        for size in SIZES:
            self._put(f"/{size}.bin", size)
        self._put("/big.bin", BIG)
        self._put("/folder/index.html", 500)
        self._put_edges(net.mss)
        self.hot = list(self._hot())
        self.misses = list(self._misses())
        for path, data in self.files.items():
            assert reference.answer(Request(head(path), "miss")).text.endswith(b"\r\n\r\n" + data), path

    def _put(self, path: str, size: int) -> None:
        self.files[path] = content(path, size)
        put(self._site / path[1:], self.files[path], QUIET)

    def _put_edges(self, mss: int) -> None:
        """Answers of exactly a segment, and a little less and more. A head is as long as that of any file whose size
        has as many digits, and whose name has the same end."""
        self._put("/edge.bin", mss - 300)
        answer = self.reference.answer(Request(head("/edge.bin"), "miss"))
        overhead = len(answer.text) - (mss - 300)
        for more in EDGES:
            self._put(f"/edge{more:+}.bin", mss - overhead + more)

    def _hot(self) -> Iterator[Request]:
        for path in self.files:
            if path != "/big.bin":
                yield from (Request(head(path, fields), "hot") for fields in ("", CURL, CHROME))
        etag = self.tag("/1000.bin")
        yield Request(head("/folder/", CHROME), "hot")
        for fields in ("", CHROME):
            yield Request(head("/1000.bin", fields, method="HEAD"), "hot", "HEAD")
            yield Request(head("/60000.bin", fields, method="HEAD"), "hot", "HEAD")
            yield Request(head("/1000.bin", f"{fields}If-None-Match: {etag}\r\n"), "hot")
            yield Request(head("/none", fields), "hot")
            yield Request(head("/folder", fields), "hot")  # 301
        yield Request(head("/1000.bin", "Connection: keep-alive\r\n", version="1.0"), "hot")

    def _misses(self) -> Iterator[Request]:
        yield Request(head("/big.bin"), "miss")
        yield Request(head("/big.bin", CHROME), "miss")
        for first, last in ((0, 0), (5, 1004), (BIG - 7000, BIG - 1)):
            yield Request(head("/big.bin", f"Range: bytes={first}-{last}\r\n"), "miss")
        yield Request(head("/1000.bin", "Range: bytes=5000-\r\n"), "miss")
        yield from (Request(head(f"/100.bin?n={number}"), "miss") for number in range(20))
        yield Request(head("/%2e%2e/1000.bin"), "miss")
        yield Request(head("/1000.bin", "Expect: 200-maybe\r\n"), "miss")
        yield Request(head("*", method="OPTIONS"), "miss", "OPTIONS")
        for size in (0, 10, 3000, 20_000):
            yield Request(head("/1000.bin", f"Content-Length: {size}\r\n", method="POST") + bytes(size), "miss", "POST")
            yield Request(head("/1000.bin", f"Content-Length: {size}\r\n") + b"G" * size, "miss")
        chunks = b"5\r\nGET /\r\n10\r\n" + b"x" * 16 + b"\r\n0\r\nTrailer: a\r\n\r\n"
        yield Request(head("/1000.bin", "Transfer-Encoding: chunked\r\n", method="POST") + chunks, "miss", "POST")
        yield Request(head("/1000.bin", "X: " + "y" * 3000 + "\r\n"), "miss")

    @property
    def all(self) -> list[Request]:
        return self.hot + self.misses

    def tag(self, path: str) -> str:
        text = self.reference.answer(Request(head(path), "miss")).text
        return text.partition(b"\r\nETag: ")[2].partition(b"\r\n")[0].decode()

    def variant(self, rng: random.Random) -> Request:
        """A hot path, asked with a head that nobody has used before."""
        like = self.hot[rng.randrange(len(self.hot))]
        return Request(like.data[:-2] + f"X-Nonce: {rng.getrandbits(64):x}\r\n\r\n".encode(), "miss", like.method, like)

    def closing(self, rng: random.Random) -> Request:
        """One after which the server closes."""
        path = rng.choice(list(self.files))
        if rng.random() < 0.3:
            return Request(head(path, version="1.0"), "miss")
        return Request(head(path, "Connection: close\r\n"), "miss")


@dataclass(frozen=True)
class Send:
    """Each piece by a write of its own: with TCP_NODELAY, in a segment of its own."""

    pieces: tuple[bytes, ...]


@dataclass(frozen=True)
class Wait:
    """Until so many answers have come, counted from the start of the connection."""

    answers: int


@dataclass(frozen=True)
class Yield:
    """Let the other connections get on first."""


@dataclass(frozen=True)
class Finish:
    """Shut our direction down; the server must then end its own, after all answers."""


@dataclass(frozen=True)
class Abort:
    """Reset the connection, whatever is under way."""


Step = Send | Wait | Yield | Finish | Abort


@dataclass
class Script:
    """What one connection does."""

    mood: str
    requests: list[Request] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    receive_buffer: int = 0
    clamp: int = 0
    read_bytes: int = 1 << 18
    read_pause: float = 0.0
    """Seconds between two reads."""


MOODS: Final = {
    "steady": 30, "pipelined": 14, "split": 14, "mixed": 12, "half": 6, "abort": 8, "close": 8, "tiny": 4, "slow": 4,
}  # fmt: skip
"""What connections are like, and how often."""

LOSSLESS: Final = {mood: share for mood, share in MOODS.items() if mood != "abort"}
"""Those that get all of their answers."""

STEADY: Final = {"steady": 1}


def scripts(
    catalogue: Catalogue, seed: object, moods: dict[str, int] | None = None, hot: float = 0.85
) -> Iterator[Script]:
    """Scripts without end; `hot`: share of requests that the tier could answer."""
    shares = moods or MOODS
    names, weights = list(shares), list(shares.values())
    for number in itertools.count():
        rng = random.Random(f"{seed} {number}")
        yield _script(catalogue, rng, rng.choices(names, weights)[0], hot)


def _draw(catalogue: Catalogue, rng: random.Random, hot: float) -> Request:
    if rng.random() < hot:
        return (
            catalogue.hot[min(int(rng.expovariate(0.1)), len(catalogue.hot) - 1)]
            if rng.random() < 0.5
            else (rng.choice(catalogue.hot))
        )
    return catalogue.variant(rng) if rng.random() < 0.3 else rng.choice(catalogue.misses)


def _script(catalogue: Catalogue, rng: random.Random, mood: str, hot: float) -> Script:
    script = Script(mood)
    count = rng.randint(1, 40) if mood == "steady" else rng.randint(1, 12)
    wanted = [_draw(catalogue, rng, hot) for _ in range(count)]
    wanted = [request for request in wanted if not catalogue.reference.answer(request).closes] or [catalogue.hot[0]]
    if mood in ("tiny", "slow"):
        # Their pace is the client's; a large file would take minutes.
        wanted = [request for request in wanted if len(catalogue.reference.answer(request).text) < 70_000][:4]
        wanted = wanted or [catalogue.hot[0]]
    if mood == "close":
        wanted.append(catalogue.closing(rng))
    script.requests = wanted
    if mood in ("steady", "close"):
        _one_by_one(script, wanted)
    else:
        _in_groups(script, wanted, rng, mood)
    if mood == "half":
        script.steps.append(Finish())
    elif mood == "abort":
        del script.steps[rng.randint(1, len(script.steps)) :]
        script.steps.append(Abort())
    elif mood == "tiny":
        script.receive_buffer = rng.choice((1, 2304, 4096, 8192))
        script.clamp = rng.choice((0, 0, 600, 1500, 3000))
    elif mood == "slow":
        script.read_bytes = rng.choice((100, 1000, 5000))
        script.read_pause = rng.choice((0.001, 0.003, 0.01))
        script.receive_buffer = rng.choice((0, 4096))
    return script


def _one_by_one(script: Script, wanted: Sequence[Request]) -> None:
    for number, request in enumerate(wanted, 1):
        script.steps += [Send((request.data,)), Wait(number)]


def _in_groups(script: Script, wanted: Sequence[Request], rng: random.Random, mood: str) -> None:
    """Several requests before their answers are read: in one segment, in one each, or cut anywhere."""
    done = 0
    while done < len(wanted):
        size = rng.randint(1, 5)
        group = wanted[done : done + size]
        data = b"".join(request.data for request in group)
        done += len(group)
        way = "split" if mood == "split" else rng.choice(("whole", "each", "split"))
        if way == "whole":
            script.steps.append(Send((data,)))
        elif way == "each":
            script.steps.append(Send(tuple(request.data for request in group)))
        else:
            cuts = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(rng.randint(1, 4)))})
            for first, last in itertools.pairwise(cuts):
                script.steps.append(Send((data[first:last],)))
                if rng.random() < 0.5:
                    script.steps.append(Yield())
        if rng.random() < 0.8:
            script.steps.append(Wait(done))
    script.steps.append(Wait(done))


@dataclass
class Tally:
    """What a run did."""

    answers: int = 0
    """Received completely, and right."""
    hot: int = 0
    """Of the answers, those to hot requests."""
    due: int = 0
    """Of the hot ones, those that were asked for one by one, and fit a segment of a size that had arrived before on the
    same connection: the tier should have given most."""
    connections: int = 0
    moods: Counter[str] = field(default_factory=Counter)
    answer_bytes: int = 0
    seconds: float = 0.0


class Connection:
    """One connection that follows its script."""

    def __init__(self, number: int, script: Script, sock: socket.socket, answers: Sequence[Answer]) -> None:
        self.number = number
        self.script = script
        self.sock = sock
        self.port = sock.getsockname()[1]
        self.answers = answers
        self.began = time.time()
        self.touched = time.monotonic()
        self.done = 0
        """Answers that have come."""
        self.received = 0
        """Bytes in all."""
        self.proven = 0
        """Bytes of the largest answer: as large a segment is known to arrive."""
        self.is_over = False
        self.wants_write = True
        self._buffer = bytearray()
        self._steps = iter(script.steps)
        self._step: Step | None = next(self._steps, None)
        self._pending: list[bytes] = []
        self._expects_end = script.mood == "close"
        self._finished = False

    def advance(self) -> None:
        """Do as many steps as can be done now."""
        self.wants_write = False
        while not self.is_over:
            step = self._step
            if self._pending or isinstance(step, Send):
                if not self._pending and isinstance(step, Send):
                    self._pending = [piece for piece in step.pieces if piece]
                if not self._write():
                    self.wants_write = True
                    return
            elif isinstance(step, Wait):
                if self.done < step.answers:
                    return
            elif isinstance(step, Finish):
                self.sock.shutdown(socket.SHUT_WR)
                self._finished = self._expects_end = True
            elif isinstance(step, Abort):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self._check_part()
                self.close()
                return
            elif step is None:
                if not self._expects_end:
                    self._check_surplus()
                    self.close()
                return
            self._step = next(self._steps, None)
            if isinstance(step, Yield):
                self.wants_write = True  # the next turn goes on at once
                return

    def _write(self) -> bool:
        while self._pending:
            try:
                sent = self.sock.send(self._pending[0])
            except BlockingIOError:
                return False
            except OSError as error:
                raise self.error(f"send: {errno.errorcode.get(error.errno or 0)}") from None
            if sent < len(self._pending[0]):
                self._pending[0] = self._pending[0][sent:]
                return False
            del self._pending[0]
        return True

    def read(self) -> None:
        """Take what has come, and compare it."""
        try:
            data = self.sock.recv(self.script.read_bytes)
        except BlockingIOError:
            return
        except OSError as error:
            raise self.error(f"recv: {errno.errorcode.get(error.errno or 0)}") from None
        self.touched = time.monotonic()
        if data:
            self.received += len(data)
            self._buffer += data
            self._compare()
            return
        if not self._expects_end or self.done < len(self.answers) or self._buffer:
            self._check_part()
            raise self.error("the server closed")
        self.close()

    def _compare(self) -> None:
        while self.done < len(self.answers) and len(self._buffer) >= len(self.answers[self.done].text):
            answer = self.answers[self.done]
            got = bytes(self._buffer[: len(answer.text)])
            del self._buffer[: len(answer.text)]
            date = got[answer.date : answer.date + DATE_BYTES]
            if got[: answer.date] != answer.before or got[answer.date + DATE_BYTES :] != answer.after:
                raise self.difference(got, answer)
            if not self.began - 1 - DATE_SLACK < seconds_of(date) <= time.time():
                raise self.error(f"Date is {date!r}, the connection began at {time.ctime(self.began)}")
            self.done += 1
        if self.done == len(self.answers):
            self._check_surplus()

    def _check_surplus(self) -> None:
        if self._buffer and self.done == len(self.answers):
            raise self.error(f"bytes after the last answer: {bytes(self._buffer[:300])!r}")

    def _check_part(self) -> None:
        """What has come of an answer must be its beginning."""
        if self._buffer and self.done < len(self.answers):
            answer = self.answers[self.done]
            got = bytes(self._buffer)
            rest = slice(answer.date + DATE_BYTES, len(got))
            if got[: answer.date] != answer.before[: len(got)] or got[rest] != answer.text[rest]:
                raise self.difference(got, answer)

    def close(self) -> None:
        self.is_over = True
        self.sock.close()

    def difference(self, got: bytes, answer: Answer) -> TrafficError:
        date = slice(answer.date, answer.date + DATE_BYTES)
        same = next(
            (
                at
                for at, (a, b) in enumerate(zip(got, answer.text, strict=False))
                if a != b and not date.start <= at < date.stop
            ),
            min(len(got), len(answer.text)),
        )
        near = slice(max(0, same - 100), same + 300)
        return self.error(
            f"byte {same} of {len(answer.text)} is wrong\n  wanted ...{answer.text[near]!r}\n  got    ...{got[near]!r}"
        )

    def error(self, what: str) -> TrafficError:
        asked = self.script.requests[self.done].data[:200] if self.done < len(self.script.requests) else b""
        return TrafficError(
            f"connection {self.number} ({self.script.mood}, port {self.port}), answer {self.done + 1} of "
            f"{len(self.answers)}, byte {self.received} of the stream: {what}\n  asked: {asked!r}\n"
            f"  step: {self._step}\n  held: {bytes(self._buffer[:200])!r}"
        )


_SECONDS: dict[bytes, int] = {}


def seconds_of(date: bytes) -> int:
    """Of a Date; -1: it is none."""
    known = _SECONDS.get(date)
    if known is None:
        try:
            known = parse_date(date.decode("latin-1"))
        except ViolationError:
            known = -1
        _SECONDS[date] = known
    return known


class Traffic:
    """Runs scripts against a server."""

    def __init__(self, lab: Lab, address: Address, reference: Reference, name: str, largest: int) -> None:
        """name: what is needed to repeat the run; it is in every error. largest: bytes of an answer that fits one
        segment."""
        self._lab = lab
        self._address = address
        self._reference = reference
        self._name = name
        self._largest = largest
        self._poll = select.epoll()
        self._open: dict[int, Connection] = {}
        self._sleeping: list[tuple[float, int, Connection]] = []
        self.tally = Tally()

    def run(self, drawn: Iterable[Script], requests: int, at_once: int = 32, seconds: float = 0.0) -> Tally:
        """Open connections until so many requests have been answered, or the seconds (0: any) are over, and bring all
        to their end. TrafficError."""
        began = time.monotonic()
        source = iter(drawn)
        try:
            while True:
                over = self.tally.answers >= requests or (seconds and time.monotonic() - began > seconds)
                while not over and len(self._open) < at_once:
                    self._start(next(source))
                if over and not self._open:
                    break
                self._turn()
        except TrafficError as error:
            raise TrafficError(f"{self._name}: {error}{self._packets(error)}") from None
        finally:
            for connection in self._open.values():
                connection.sock.close()
            self._open.clear()
            self._poll.close()
        self.tally.seconds = time.monotonic() - began
        return self.tally

    def _start(self, script: Script) -> None:
        sock = self._lab.connect(
            self._address, receive_buffer=script.receive_buffer, clamp=script.clamp, blocking=False
        )
        answers = [self._reference.answer(request) for request in script.requests]
        connection = Connection(self.tally.connections, script, sock, answers)
        self.tally.connections += 1
        self.tally.moods[script.mood] += 1
        self._open[sock.fileno()] = connection
        self._poll.register(sock.fileno(), select.EPOLLOUT)

    def _turn(self) -> None:
        now = time.monotonic()
        while self._sleeping and self._sleeping[0][0] <= now:
            connection = heapq.heappop(self._sleeping)[2]
            if not connection.is_over:
                self._watch(connection)
        left = self._sleeping[0][0] - now if self._sleeping else PATIENCE / 10
        for fd, events in self._poll.poll(max(0.0, min(left, PATIENCE / 10))):
            self._serve(fd, self._open[fd], events)
        limit = time.monotonic() - PATIENCE
        if now - limit > PATIENCE - 1:
            for connection in self._open.values():
                if connection.touched < limit:
                    raise connection.error(f"nothing has come for {PATIENCE:g} s")

    def _serve(self, fd: int, connection: Connection, events: int) -> None:
        before = connection.done
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            connection.read()
        if not connection.is_over:
            connection.advance()
        for answer, request in zip(
            connection.answers[before : connection.done],
            connection.script.requests[before : connection.done],
            strict=True,
        ):
            self.tally.answers += 1
            self.tally.hot += request.kind == "hot"
            self.tally.due += (
                request.kind == "hot"
                and connection.script.mood == "steady"
                and len(answer.text) <= min(self._largest, connection.proven)
            )
            connection.proven = max(connection.proven, len(answer.text))
            self.tally.answer_bytes += len(answer.text)
        if connection.is_over:
            del self._open[fd]  # closing took it out of the epoll
        elif connection.script.read_pause and connection.done < len(connection.answers) and events & select.EPOLLIN:
            self._poll.modify(fd, 0)
            wake = time.monotonic() + connection.script.read_pause
            heapq.heappush(self._sleeping, (wake, connection.number, connection))
        else:
            self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        self._poll.modify(connection.sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if connection.wants_write else 0))

    def _packets(self, error: TrafficError) -> str:
        """The last packets of the connection that failed, where there is a wire."""
        text = str(error)
        if self._lab.wire is None or ", port " not in text:
            return ""
        port = int(text.partition(", port ")[2].partition(")")[0])
        return "\n  packets:\n    " + "\n    ".join(self._lab.wire.log(port)[-60:])
