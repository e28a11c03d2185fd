"""wsgi.input: all of PEP 3333's methods, on bodies that are here and on those that come in pieces."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.apps.fakes import Answer, FakePort
from tests.unit.apps.wsgi.conftest import Serve
from tux.apps.wsgi.exchange import ClientGoneError

BODY = b"first line\nsecond\n\nlast, without end"

Errors = Callable[[], list[str]]


def reads(how: Callable[[Any], Any], seen: list[Any]) -> Any:
    """An application that notes what `how` makes of wsgi.input."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            seen.append(how(environ["wsgi.input"]))
        except OSError as error:
            seen.append(error)
            raise
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    return application


def send(port: FakePort, pieces: list[bytes], *, length: int = -1, at_once: bool = False) -> Answer:
    """The first piece comes with the head; the others, one by one, when somebody waits for them."""
    answer = port.request("POST", body=pieces[0], complete=len(pieces) == 1, length=length)
    for i, piece in enumerate(pieces[1:], 2):
        if not at_once:
            answer.until("self._port.waits and not self._port._events")
        port.send_body(answer, piece, end=i == len(pieces))
    return answer.done()


HOW: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda stream: stream.read(), BODY),
    (lambda stream: stream.read(-1), BODY),
    (lambda stream: stream.read(10**6), BODY),
    (
        lambda stream: (stream.read(5), stream.read(7), stream.read(0), stream.read()),
        (BODY[:5], BODY[5:12], b"", BODY[12:]),
    ),
    (lambda stream: [stream.read(7) for _ in range(7)], [BODY[i : i + 7] for i in range(0, 49, 7)]),
    (list, BODY.splitlines(keepends=True)),
    (lambda stream: stream.readlines(), BODY.splitlines(keepends=True)),
    (lambda stream: stream.readlines(1), [b"first line\n"]),
    (lambda stream: (stream.readline(), stream.readline(3), stream.readline(100)), (b"first line\n", b"sec", b"ond\n")),
    (
        lambda stream: [*iter(stream.readline, b""), stream.readline(), stream.read()],
        [*BODY.splitlines(keepends=True), b"", b""],
    ),
    (lambda stream: (next(stream), stream.read(3), stream.read()), (b"first line\n", b"sec", BODY[14:])),
]


@pytest.mark.parametrize(("how", "result"), HOW)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "pieces",
    [
        [BODY],
        [b"", BODY],
        [BODY[:3], BODY[3:]],
        [BODY, b""],
        [BODY[i : i + 1] for i in range(len(BODY))],
    ],
    ids=["whole", "later", "halves", "end alone", "bytes"],
)
def test_reading(serving: Serve, how: Any, result: Any, pieces: list[bytes], threads: int) -> None:
    seen: list[Any] = []
    port = serving(reads(how, seen), threads=threads, validate=False)
    answer = send(port, pieces, at_once=len(pieces) > 2)
    assert seen == [result]
    assert answer.body == b"ok"


@pytest.mark.parametrize("how", [lambda stream: stream.read(3), lambda stream: stream.readline(), list])
@pytest.mark.parametrize("pieces", [[BODY], [BODY[:3], BODY[3:]]])
def test_reading_behind_the_validator(serving: Serve, how: Any, pieces: list[bytes]) -> None:
    assert send(serving(reads(how, []), threads=1), pieces).body == b"ok"


def test_no_body_ends_at_once(serving: Serve) -> None:
    seen: list[Any] = []
    serving(
        reads(lambda stream: (stream.read(), stream.readline(), list(stream)), seen), validate=False
    ).request().done()
    assert seen == [(b"", b"", [])]


def test_what_was_taken_is_credited(serving: Serve) -> None:
    seen: list[Any] = []
    port = serving(reads(lambda stream: stream.read(), seen), threads=1, validate=False)
    assert send(port, [b"ab", b"cde", b"f"]).credited == 6
    assert send(port, [b"all here"]).credited == 0


def test_large_body_in_odd_pieces(serving: Serve) -> None:
    dice = random.Random(4)
    pieces = [dice.randbytes(dice.randrange(1, 40000)) for _ in range(60)]

    def digest(stream: Any) -> str:
        found = hashlib.sha256()
        while block := stream.read(dice.randrange(1, 100000)):
            found.update(block)
        return found.hexdigest()

    seen: list[Any] = []
    send(serving(reads(digest, seen), validate=False), pieces, at_once=True)
    assert seen == [hashlib.sha256(b"".join(pieces)).hexdigest()]


def test_body_need_not_be_read(serving: Serve) -> None:
    port = serving(reads(lambda stream: None, []), threads=1)
    first = port.request("POST", body=b"x" * 100, complete=False, length=200).done()
    port.send_body(first, b"x" * 100, end=True)  # on its way when the answer went out
    assert port.request().done().body == b"ok"


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_client_leaves_before_the_end(serving: Serve, errors: Errors, threads: int, hard: bool) -> None:
    seen: list[Any] = []
    port = serving(reads(lambda stream: stream.read(), seen), threads=threads, validate=False)
    answer = port.request("POST", body=b"ab", complete=False, length=100)
    answer.until("self._port.waits and not self._port._events")
    port.hang_up(answer, hard=hard)
    assert port.request(body=b"abc").done().body == b"ok"
    error = next(found for found in seen if not isinstance(found, bytes))
    assert isinstance(error, ClientGoneError)
    assert errors() == []


def test_half_closed_client_gets_its_answer(serving: Serve) -> None:
    seen: list[Any] = []
    port = serving(reads(lambda stream: stream.read(), seen), threads=1, validate=False)
    answer = port.request("POST", complete=False, length=3)
    answer.until("self._port.waits and not self._port._events")
    port.send_body(answer, b"abc", end=True)
    port.hang_up(answer, hard=False)
    assert answer.done().body == b"ok"
    assert seen == [b"abc"]
