# SPDX-License-Identifier: MIT
"""A network, a folder, the server under test with the kernel tier, and one without that says what is right."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import tux
from tests.corpus.reader import Reader, Response
from tests.e2e.client import address_of
from tests.kernel.lab import Lab, Net, Shape, open_lab, require_tier
from tests.kernel.traffic import (
    MOODS,
    Address,
    Answer,
    Catalogue,
    Reference,
    Request,
    Script,
    Tally,
    Traffic,
    head,
    scripts,
)

TIER: Final = os.environ.get("TUX_TIER") != "off"
"""TUX_TIER=off runs the tests against a server without the tier: what fails then as well is not its fault."""

HITS: Final = 2
"""How often an answer must have been asked for, so that the tests need not warm up for long."""

OPENING: Final = Request(head("/10000.bin?opening"), "miss")

WARM_SECONDS: Final = 30.0

HASTY_END: Final = "from tux.kernel import sweep\nsweep.ENDED_NS = 0"
"""A server that is stopped does not wait a second for late packets of connections that have just ended. The tests of
ends have servers that do (stops=False)."""

LARGEST: Final = 15_872
"""TUX_KERNEL_MAX_ANSWER_BYTES: more is not answered, whatever the MTU."""


@dataclass
class World:
    """All that a test of the traffic needs."""

    lab: Lab
    site: Path
    server: tux.Server
    address: Address
    reference: Reference
    catalogue: Catalogue
    has_tier: bool

    def counters(self) -> Counter[str]:
        """Of the programs, by name; all 0 without them."""
        return Counter(self.lab.status(self.server.pid).counters) if self.has_tier else Counter()

    def answered(self) -> int:
        """How many requests the tier has answered so far."""
        return self.counters()["answered"]

    def expect_more(self, before: Counter[str], **least: int) -> None:
        """Each of these counters has grown by at least so much, unless the tier was silent for a moment; nothing is
        expected without it."""
        if self.has_tier:
            now = self.counters() - before
            assert all(now[name] >= count for name, count in least.items()) or silences(now), now

    def expect_answered(self, before: Counter[str], count: float) -> None:
        """The tier has answered at least so many requests since then, or as many less as it had to leave to workers
        while it was silent; nothing is expected without it."""
        if self.has_tier:
            now = self.counters() - before
            assert now["answered"] >= count - silences(now), (count, now)

    @property
    def files(self) -> dict[str, bytes]:
        """Path -> content."""
        return self.catalogue.files

    @property
    def eligible(self) -> list[Request]:
        """Hot requests whose answers fit one segment."""
        return [r for r in self.catalogue.hot if len(self.reference.answer(r).text) <= self.largest]

    @property
    def largest(self) -> int:
        """Bytes of an answer that fits one segment."""
        return min(self.lab.net.mss, LARGEST)

    def warm(self, wanted: Sequence[Request] | None = None) -> None:
        """Ask for what is hot until the tier answers it all. Each several times in a row: with one after the other, two
        that share a place in the memo's filter would never get past it."""
        if not self.has_tier:
            return
        requests = self.eligible if wanted is None else list(wanted)
        end = time.monotonic() + WARM_SECONDS
        while True:
            self.ask_each([request for request in requests for _ in range(HITS + 2)])
            before = self.answered()
            self.ask_each(requests)
            after = self.answered()
            if after - before >= len(requests):
                return
            assert time.monotonic() < end, (
                f"not answered by the tier: {[r.data[:60] for r in requests if not self.is_answered(r)]}; "
                f"{self.counters()}; {self.server.stderr_text()}"
            )

    def is_answered(self, request: Request) -> bool:
        """Whether the tier does."""
        before = self.answered()
        self.ask_each([request])
        return self.answered() > before

    def ask_each(self, requests: Sequence[Request]) -> None:
        """Each once, one after another on one connection. Every byte is compared."""
        with Asker(self) as asker:
            for request in requests:
                asker.ask(request)

    def traffic(
        self,
        seed: int,
        requests: int,
        *,
        moods: dict[str, int] | None = None,
        hot: float = 0.85,
        at_once: int = 32,
        seconds: float = 0.0,
        drawn: Iterable[Script] | None = None,
    ) -> Tally:
        """Random traffic. The seed and the network repeat it. drawn: scripts, when they are not to be drawn here."""
        name = f"{self.lab.net} seed {seed}"
        traffic = Traffic(self.lab, self.address, self.reference, name, self.largest)
        drawn = drawn or scripts(self.catalogue, seed, moods or MOODS, hot)
        return traffic.run(drawn, requests, at_once, seconds)

    @property
    def log(self) -> Path:
        """The access log of the server, where it has one."""
        return self.lab.folder / "access.log"


def silences(counters: Counter[str]) -> int:
    """How many requests came while the tier was silent: the supervisor or a worker had not got a processor for most of
    a second, as happens on a busy machine."""
    return counters["pass_quiet"] + counters["pass_stale"]


class Asker:
    """One connection that asks one request after another, and compares all that comes."""

    def __init__(self, world: World, *, opened: bool = True, **options: Any) -> None:
        """opened: it has already got an answer of several full segments, without which the tier answers nothing: the
        first request of a connection is the daemon's, and no answer is larger than what has arrived before."""
        self.sock = world.lab.connect(world.address, **options)
        self.reader = Reader(self.sock)
        self._reference = world.reference
        if opened:
            self.ask(OPENING)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.sock.close()

    @property
    def port(self) -> int:
        port = self.sock.getsockname()[1]
        assert isinstance(port, int)
        return port

    def send(self, *requests: Request) -> None:
        """In one write."""
        self.sock.sendall(b"".join(request.data for request in requests))

    def receive(self, *requests: Request) -> None:
        """Their answers, which must be right."""
        for request in requests:
            check(self.reader.response(request.method), self._reference.answer(request), request)

    def ask(self, request: Request) -> None:
        self.send(request)
        self.receive(request)

    def finish(self) -> None:
        """Everything has been answered, and the server has nothing to add."""
        self.sock.shutdown(socket.SHUT_WR)
        self.reader.expect_end()


def check(response: Response, answer: Answer, request: Request) -> None:
    """Equal but for the Date, which the reader has looked at."""
    text = response.raw_head + b"\r\n\r\n" + response.body
    date = slice(answer.date, answer.date + 29)
    same = text[: date.start] + text[date.stop :] == answer.before + answer.after
    assert same, f"{request.data[:300]!r}\n  wanted {answer.text[:400]!r}\n  got    {text[:400]!r}"


@contextlib.contextmanager
def open_world(
    net: Net,
    *,
    tier: bool = TIER,
    warm: bool = True,
    kernel: str = "",
    stops: bool = True,
    log: bool = False,
    **options: Any,
) -> Iterator[World]:
    """Everything, ready. Skips where it cannot be had. kernel: lines for the table [kernel]; log: it has an access log,
    in JSON; options: of the server, and those of `Lab.serve`."""
    if tier:
        require_tier()
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(open_lab(net))
        site = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tux-site-")))
        site.chmod(0o755)
        plain = stack.enter_context(lab.serve(site, tier=False))
        reference = Reference(lab, tcp_address(plain))
        catalogue = Catalogue(site, net, reference)
        for request in catalogue.all:
            reference.answer(request)
        # A head that is lost in parts several times over may take longer than the daemon's patience, and is then a 408.
        options.setdefault("config", "limits = { head_timeout = 60 }")
        if log:
            options |= {"access_log": str(lab.folder / "access.log"), "log_format": "json"}
        if stops:
            options.setdefault("altered", HASTY_END)
        hits = "" if "hits" in kernel else f"hits = {HITS}\n"
        server = stack.enter_context(lab.serve(site, tier=tier, kernel=hits + kernel, stops=stops, **options))
        world = World(lab, site, server, tcp_address(server), reference, catalogue, tier)
        if warm:
            world.warm()
        yield world


def tcp_address(server: tux.Server) -> Address:
    address = address_of(server)
    assert isinstance(address, tuple)
    return address


WIRE: Final = Net(Shape.WIRE, offloads=False)
"""With a wire, and packets as on a cable."""
