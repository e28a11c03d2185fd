"""The loop between the rings and the planners."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.planner.world import NOW_NS, Ask, World
from tux._engine import CLOSE, NO_BODY, PUBLISH, REMEMBER, Found, Recipe, RouteTable
from tux.http.errors import error_head
from tux.planner.loop import ENGINE_ERRORS, MAX_BATCH, Planner, canned_answers
from tux.planner.rules import DenyRule, StaticRule
from tux.planner.static import StaticPlanner


class FakePort:
    """The planner's end of the rings; asks are put in, replies are kept."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.replies: dict[int, dict[str, Any]] = {}
        self.gone = False
        self.refuse: Exception | None = None
        self.calls: list[str] = []
        self._read, self._write = os.pipe()

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)

    def put(self, *asks: Ask) -> None:
        self.asks += asks
        os.write(self._write, b"x")

    def fileno(self) -> int:
        return self._read

    def take(self) -> Ask | None:
        return self.asks.pop(0) if self.asks else None

    def sleep(self) -> bool:
        self.calls.append("sleep")
        return not self.asks

    def awake(self) -> None:
        self.calls.append("awake")
        os.set_blocking(self._read, False)
        try:
            os.read(self._read, 100)
        except BlockingIOError:
            pass

    def reply(
        self,
        ask_id: int,
        status: int,
        head: bytes,
        *,
        body: bytes = b"",
        body_len: int = -1,
        file: Found | None = None,
        offset: int = 0,
        flags: int = 0,
        ttl_ms: int = -1,
        checks: Sequence[Found] = (),
        recipe: Recipe | None = None,
    ) -> bool:
        if self.refuse is not None:
            error, self.refuse = self.refuse, None
            raise error
        self.replies[ask_id] = {
            "status": status, "head": head, "body": body, "body_len": body_len, "file": file, "offset": offset,
            "flags": flags, "ttl_ms": ttl_ms, "checks": checks, "recipe": recipe,
        }  # fmt: skip
        return not self.gone


@pytest.fixture
def port() -> Iterator[FakePort]:
    port = FakePort()
    yield port
    port.close()


@pytest.fixture
def planner(world: World, port: FakePort, write: Callable[..., Path]) -> Planner:
    """example.org: the root, and two refused places; docs.example: the same root below /manual/."""
    write("index.html", b"home")
    write("a.bin", b"0123456789")
    table = RouteTable()
    site = table.add_site(["example.org"])
    table.add_route(site, b"/", 0)
    table.add_route(site, b"/private", 1)
    docs = table.add_site(["*.docs.example"])
    table.add_route(docs, b"/manual", 2)
    rules = (StaticRule(root=0), DenyRule(), StaticRule(root=0, mount=b"/manual"))
    return Planner(port, world.roots, table, rules, small_body_bytes=5, clock=lambda: NOW_NS)


@pytest.mark.parametrize(
    ("host", "target", "status"),
    [
        ("example.org", "/", 200),
        ("example.org:8080", "/", 200),
        ("example.org", "/a.bin", 200),
        ("example.org", "/missing", 404),
        ("example.org", "/private", 403),
        ("example.org", "/private/a.bin", 403),
        ("example.org", "/x/../private/a.bin", 403),
        ("example.org", "//private", 403),
        ("example.org", "/%70rivate", 403),
        ("example.org", "/privateer", 404),
        ("example.org", "/../etc/passwd", 400),
        ("example.org", "/a%2fb", 404),
        ("example.org", "/%00", 400),
        ("x.docs.example", "/manual/a.bin", 200),
        ("x.docs.example", "/a.bin", 404),
        ("unknown.example", "/", 404),
    ],
)
def test_routes(planner: Planner, port: FakePort, host: str, target: str, status: int) -> None:
    port.put(Ask(target=target, host=host, id=7))
    assert planner.serve_pending() == 1
    assert port.replies[7]["status"] == status
    assert port.replies[7]["flags"] & REMEMBER
    if status == 200:
        assert port.replies[7]["flags"] & PUBLISH
    if status in (400, 403):
        assert not port.replies[7]["flags"] & PUBLISH, "of static files only"


def test_replies(planner: Planner, port: FakePort) -> None:
    port.put(Ask(target="/", id=1), Ask("HEAD", "/a.bin", id=2), Ask(target="/a.bin", id=3))
    assert planner.serve_pending() == 3
    small, head, large = (port.replies[ask_id] for ask_id in (1, 2, 3))
    assert (small["body"], small["body_len"], small["file"]) == (b"home", -1, None)
    assert (head["body"], head["file"], head["flags"]) == (b"", None, REMEMBER | NO_BODY | PUBLISH)
    assert large["body"] == b""
    assert large["body_len"] == 10
    assert large["file"] is not None
    assert [check.path for check in large["checks"]] == [b"a.bin"]


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("OPTIONS", "*", 204), ("GET", "*", 400), ("CONNECT", "example.org:443", 501), ("OPTIONS", "/", 204)],
)
def test_targets_that_are_no_paths(planner: Planner, method: str, target: str, status: int) -> None:
    assert (
        planner.decide(Ask(method, target, host="unknown.example" if target == "*" else "example.org")).status == status
    )


def test_a_bug_costs_one_request_and_one_traceback(
    planner: Planner, port: FakePort, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: object, view: object, path: bytes) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(StaticPlanner, "plan", broken)
        port.put(*(Ask(id=ask_id) for ask_id in range(5)))
        assert planner.serve_pending() == 5
    assert [reply["status"] for reply in port.replies.values()] == [500] * 5
    assert {reply["flags"] for reply in port.replies.values()} == {0}, "never remembered"
    assert [record.exc_info is not None for record in caplog.records] == [True]
    port.put(Ask(id=9))
    planner.serve_pending()
    assert port.replies[9]["status"] == 200


def test_an_answer_that_the_ring_refuses(planner: Planner, port: FakePort, caplog: pytest.LogCaptureFixture) -> None:
    port.put(Ask(id=1))
    port.refuse = ValueError("too large")
    planner.serve_pending()
    assert (port.replies[1]["status"], port.replies[1]["flags"]) == (500, CLOSE)
    assert caplog.records[0].levelno == logging.ERROR


def test_run_ends_by_its_descriptor(planner: Planner, port: FakePort) -> None:
    stop_read, stop_write = os.pipe()
    thread = threading.Thread(target=planner.run, args=(stop_read,))
    thread.start()
    port.put(*(Ask(id=ask_id) for ask_id in range(2 * MAX_BATCH)))
    os.write(stop_write, b"x")
    thread.join(timeout=30)
    assert not thread.is_alive()
    os.close(stop_read)
    os.close(stop_write)
    assert port.calls.count("awake") >= 0


def test_run_answers_what_comes_while_it_sleeps(planner: Planner, port: FakePort) -> None:
    stop_read, stop_write = os.pipe()
    answered = threading.Event()
    reply = port.reply

    def reply_and_tell(*args: Any, **kwargs: Any) -> bool:
        alive = reply(*args, **kwargs)
        answered.set()
        return alive

    port.reply = reply_and_tell  # type: ignore[method-assign]
    thread = threading.Thread(target=planner.run, args=(stop_read,))
    thread.start()
    for ask_id in range(10):
        answered.clear()
        port.put(Ask(id=ask_id))
        assert answered.wait(30)
    os.write(stop_write, b"x")
    thread.join(timeout=30)
    assert not thread.is_alive()
    os.close(stop_read)
    os.close(stop_write)
    assert len(port.replies) == 10


def test_run_ends_when_the_engine_is_gone(planner: Planner, port: FakePort) -> None:
    port.gone = True
    port.put(Ask(id=1), Ask(id=2))
    never_read, never_write = os.pipe()
    planner.run(never_read)
    os.close(never_read)
    os.close(never_write)
    assert list(port.replies) == [1]


def test_answers_for_the_engine_itself() -> None:
    canned = canned_answers()
    assert set(canned) == set(ENGINE_ERRORS)
    for status, (head, body) in canned.items():
        assert head == error_head(status)
        assert b"\r\nContent-Length: %d\r\n" % len(body) in head
    assert b"\r\nRetry-After: 1\r\n" in canned[503][0]
