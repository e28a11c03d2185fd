"""The threads on the real port, with the engine's end of the rings in plain Python."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.unit.apps.engine_double import (
    ANSWER,
    BODY,
    CONSUMED,
    CREDIT,
    DATA,
    DRAIN,
    END,
    GONE,
    HARD,
    LEAVE,
    EngineDouble,
)
from tests.unit.apps.fakes import PATIENCE_S
from tux import _app
from tux.apps.options import AppOptions
from tux.apps.wsgi.pool import Pool


@dataclass
class Got:
    """What an exchange got."""

    status: int = 0
    body: bytes = b""
    ended: bool = False
    consumed: int = 0


@dataclass
class Engine:
    """An engine with clients that read what they get, unless `reads` is False."""

    link: EngineDouble
    got: dict[int, Got] = field(default_factory=dict)
    reads: bool = True
    left: bool = False

    def look(self) -> None:
        for said in self.link.hear_all():
            if said.kind == LEAVE:
                self.left = True
                self.link.say(DRAIN)
                self.link.wake()
                continue
            got = self.got.setdefault(said.tag, Got())
            if said.kind == ANSWER:
                assert not got.status
                got.status = said.status
            if said.kind in {ANSWER, DATA}:
                got.body += said.body
                got.ended = said.end
                if said.n and self.reads and not said.end:
                    self.link.say(CREDIT, said.tag, n=said.n)
                    self.link.wake()
            elif said.kind == CONSUMED:
                got.consumed += said.n

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.got
            self.look()
            time.sleep(0.0005)  # its thread has to run

    def ended(self, tag: int) -> Got:
        self.until(lambda: tag in self.got and self.got[tag].ended)
        return self.got[tag]


@pytest.fixture(params=[1, 3])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/digest":
            data = environ["wsgi.input"].read()
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"%d" % len(data)]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * 1_000_000] if environ["PATH_INFO"] == "/big" else [b"hello"]

    event_fd, epoll_fd = _app.wake_pair()
    port = _app.Port(epoll_fd)
    engine = Engine(EngineDouble(event_fd))
    port.attach(1, *engine.link.descriptors)
    pool = Pool(port, application, AppOptions(name="test", module="test", threads=request.param))
    thread = threading.Thread(target=pool.serve, daemon=True)
    thread.start()
    yield engine
    port.drain()
    engine.until(lambda: not thread.is_alive())
    assert engine.left
    assert port.open == 0
    engine.link.close()


def test_hello(engine: Engine) -> None:
    for tag in range(50):
        engine.link.get(tag)
        engine.link.wake()
        if tag % 7 == 0:
            assert engine.ended(tag).body == b"hello"
    for tag in range(50):
        assert engine.ended(tag).status == 200


def test_body_in_pieces(engine: Engine) -> None:
    engine.link.request(b"POST /digest HTTP/1.1\r\nHost: a\r\n\r\n", body=b"abc", complete=False, length=400_003)
    got = engine.got.setdefault(0, Got())
    for i in range(40):
        engine.until(lambda: i * 10_000 - got.consumed <= _app.WINDOW - 20_000)  # noqa: B023 (called at once)
        engine.link.say(BODY, n=10_000, rest=b"y" * 10_000, flags=END if i == 39 else 0)
        engine.link.wake()
    assert engine.ended(0).body == b"400003"


def test_answer_larger_than_the_window(engine: Engine) -> None:
    engine.link.get(path=b"/big")
    engine.link.wake()
    assert len(engine.ended(0).body) == 1_000_000


def test_client_that_leaves(engine: Engine) -> None:
    engine.reads = False
    engine.link.get(path=b"/big")
    engine.link.wake()
    engine.until(lambda: 0 in engine.got and len(engine.got[0].body) == _app.WINDOW)
    engine.link.say(GONE, flags=HARD)
    engine.link.get(1)
    engine.link.wake()
    assert engine.ended(1).body == b"hello"
