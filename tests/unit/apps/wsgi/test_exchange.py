"""Answers: what applications may do, what they do wrong, and what reaches the client."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.apps.fakes import WINDOW_BYTES
from tests.unit.apps.wsgi.conftest import Serve
from tux.apps.wsgi.exchange import SMALL_BYTES, ClientGoneError

TEXT = [("Content-Type", "text/plain")]

Errors = Callable[[], list[str]]
Start = Callable[..., Callable[[bytes], None]]
Environ = dict[str, Any]


class Blocks:
    """An answer that notes its end."""

    def __init__(self, *blocks: Any) -> None:
        self.blocks = iter(blocks)
        self.closed = 0

    def __iter__(self) -> Blocks:
        return self

    def __next__(self) -> bytes:
        block = next(self.blocks)
        if isinstance(block, BaseException):
            raise block
        return block() if callable(block) else block  # type: ignore[no-any-return]

    def close(self) -> None:
        self.closed += 1


def gives(result: Any, status: str = "200 OK", headers: list[tuple[str, str]] | None = None) -> Any:
    """An application that answers with this."""

    def application(environ: Environ, start_response: Start) -> Any:
        start_response(status, list(TEXT if headers is None else headers))
        return result

    return application


# Framing


def test_one_block_has_a_length(serving: Serve) -> None:
    answer = serving(gives([b"hello"]), validate=False).request().done()
    assert (answer.status, answer.fields, answer.length) == (200, [(b"Content-Type", b"text/plain")], 5)
    assert answer.pieces == [b"hello"]


def test_one_block_has_a_length_whatever_says_that_it_is_one(serving: Serve) -> None:
    assert serving(gives((b"hello",)), validate=False).request().done().length == 5


def test_several_blocks_are_sent_one_by_one(serving: Serve) -> None:
    answer = serving(gives([b"a", b"", b"bc"])).request().done()
    assert answer.length == -1
    assert answer.body == b"abc"
    assert answer.pieces == [b"a", b"bc"]


def test_nothing_is_an_empty_body(serving: Serve) -> None:
    for result in ([], [b""], [b"", b""]):
        answer = serving(gives(result)).request().done()
        assert (answer.status, answer.length, answer.body) == (200, 0, b"")


def test_length_that_was_announced_ends_the_answer(serving: Serve) -> None:
    port = serving(gives([b"ab", b"c", b""], headers=[*TEXT, ("Content-Length", "3")]))
    answer = port.request().done()
    assert (answer.length, answer.pieces) == (3, [b"ab", b"c"])
    assert answer.value("content-length") is None


def test_block_leaves_before_the_next_is_made(serving: Serve) -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", list(TEXT))
        yield b"first"
        answer.until("self.body == b'first'")
        yield b"second"

    port = serving(application)
    with port.changed:
        answer = port.request()
    assert answer.done().body == b"firstsecond"


def test_start_response_may_be_late(serving: Serve) -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("202 Accepted", list(TEXT))
        yield b""
        yield b"x"

    assert serving(application).request().done().status == 202


@pytest.mark.parametrize("size", [SMALL_BYTES, SMALL_BYTES + 1, 3 * WINDOW_BYTES + 7])
def test_large_blocks_pass_the_window(serving: Serve, size: int) -> None:
    block = bytes(range(256)) * (size // 256 + 1)
    port = serving(gives([block[:size]]), validate=False, reads=False)
    answer = port.request()
    while not answer.ended:
        answer.until("self.unread or self.ended")
        port.read(answer, WINDOW_BYTES // 3)
    assert answer.body == block[:size]
    assert answer.length == size


@pytest.mark.parametrize("threads", [1, 2])
def test_other_requests_go_on_while_a_client_does_not_read(serving: Serve, threads: int) -> None:
    def application(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", list(TEXT))  # (its length is not known behind wsgiref.validate)
        return [b"x" * (2 * WINDOW_BYTES)] if environ["PATH_INFO"] == "/big" else [b"small"]

    port = serving(application, reads=False, threads=threads)
    big = port.request(target="/big").until(f"self.unread == {WINDOW_BYTES}")
    small = port.request()
    if threads > 1:
        assert small.done().body == b"small"
    port.read(big, WINDOW_BYTES)
    assert len(big.done().body) == 2 * WINDOW_BYTES
    assert small.done().body == b"small"


# HEAD, 204, 304


def test_head_has_no_body_but_its_length(serving: Serve) -> None:
    def application(environ: Environ, start_response: Start) -> Any:
        length = [("Content-Length", "7")] if environ["PATH_INFO"] == "/said" else []
        start_response("200 OK", [*TEXT, *length])
        return [] if environ["PATH_INFO"] == "/empty" else [b"1234567"]

    port = serving(application, validate=False)  # which forbids bodies here; most applications do not know
    for target, length in (("/", 7), ("/said", 7), ("/empty", -1)):
        answer = port.request("HEAD", target).done()
        assert (answer.status, answer.length, answer.body) == (200, length, b"")


def test_head_does_not_wait_for_all_blocks(serving: Serve) -> None:
    def forever() -> Iterator[bytes]:
        while True:
            yield b"x"

    answer = serving(gives(forever()), validate=False).request("HEAD").done()
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(("status", "length"), [("204 No Content", -1), ("304 Not Modified", 4)])
@pytest.mark.parametrize("result", [[], [b""], [b"xxxx"], [b"xx", b"xx"]])
def test_statuses_without_body(serving: Serve, errors: Errors, status: str, length: int, result: Any) -> None:
    port = serving(gives(result, status, [("Content-Length", "4")]), validate=False)
    answer = port.request().done()
    assert (answer.status, answer.length, answer.body) == (int(status[:3]), length, b"")
    assert errors() == []


# write()


def test_write_comes_before_the_blocks(serving: Serve) -> None:
    def application(environ: Environ, start_response: Start) -> Any:
        write = start_response("200 OK", list(TEXT))
        write(b"a")
        answer.until("self.body == b'a'")
        write(b"")
        write(b"b")
        return [b"c"]

    port = serving(application)
    with port.changed:
        answer = port.request()
    assert answer.done().body == b"abc"
    assert answer.length == -1


def test_all_may_be_written(serving: Serve) -> None:
    def application(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", [*TEXT, ("Content-Length", "2")])(b"ab")
        return []

    answer = serving(application).request().done()
    assert (answer.length, answer.body, answer.aborted) == (2, b"ab", False)


# exc_info


def test_exc_info_replaces_a_head_that_was_not_sent(serving: Serve) -> None:
    def application(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", [*TEXT, ("Content-Length", "100")])
        try:
            raise KeyError("x")
        except KeyError:
            start_response("503 Busy", [("Content-Type", "text/x")], sys.exc_info())
        return [b"busy"]

    answer = serving(application).request().done()
    assert (answer.status, answer.fields, answer.length) == (503, [(b"Content-Type", b"text/x")], -1)


def test_exc_info_is_raised_once_the_head_was_sent(serving: Serve, errors: Errors) -> None:
    raised = []

    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", list(TEXT))
        yield b"a"
        try:
            raise KeyError("x")
        except KeyError:
            try:
                start_response("500 Sorry", list(TEXT), sys.exc_info())
            except KeyError as error:
                raised.append(error)
                raise

    answer = serving(application).request().done()
    assert (answer.status, answer.body, answer.aborted) == (200, b"a", True)
    assert len(raised) == 1
    assert errors() == ["test: GET /: the application failed"]


# What applications do wrong


def twice(environ: Environ, start_response: Start) -> Any:
    start_response("200 OK", list(TEXT))
    start_response("200 OK", list(TEXT))
    return [b""]


def never(environ: Environ, start_response: Start) -> Any:
    return [b"x"]


def never_empty(environ: Environ, start_response: Start) -> Any:
    return []


def ends_the_process(environ: Environ, start_response: Start) -> Any:
    sys.exit(3)


class OddError(BaseException):
    """Like those of gevent and asyncio, which are no Exception."""


def raises(error: BaseException) -> Any:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", list(TEXT))
        yield b""
        raise error

    return application


@pytest.mark.parametrize(
    ("application", "reason"),
    [
        (twice, "start_response was called again, without exc_info"),
        (never, "before it called start_response"),
        (never_empty, "did not call start_response"),
        (gives(None), "'NoneType' object is not iterable"),
        (gives(["text"]), "expected bytes as a part of the answer, not str"),
        (gives([""]), "expected bytes as a part of the answer, not str"),
        (gives("text"), "expected bytes"),
        (gives([3]), "expected bytes"),
        (gives([b"x"], "100 Continue"), "100 is no status of an answer"),
        (gives([b"x"], "200 OK", [("Connection", "close")]), "Connection is the server's"),
        (gives([b"x"], "200 OK", [("X-A", "a\r\nX-B: b")]), "X-A"),
        (gives([b"x"], "200 OK", [("X A", "a")]), "X A"),
        (gives([], "200 OK", [("Content-Length", "3")]), "gave nothing, after a Content-Length of 3"),
        (raises(ZeroDivisionError("here")), "here"),
        (ends_the_process, "3"),
        (raises(KeyboardInterrupt("now")), "now"),
        (raises(OddError("odd")), "odd"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_error_before_the_first_byte_is_a_500(
    serving: Serve, caplog: pytest.LogCaptureFixture, application: Any, reason: str, method: str
) -> None:
    port = serving(application, validate=False)
    answer = port.request(method).done()
    if method == "HEAD" and "gave nothing" in reason:
        assert answer.status == 200  # that is how HEAD is answered
        return
    assert (answer.status, answer.value("x-content-type-options"), answer.aborted) == (500, "nosniff", False)
    assert answer.value("content-type") == "text/html; charset=utf-8"
    assert answer.length > 50
    assert len(answer.body) == (answer.length if method == "GET" else 0)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith(f"test: {method} /: the application failed")
    assert record.exc_info is not None
    assert reason in str(record.exc_info[1])
    assert port.request("PUT", "/again").done().ended  # it goes on


def test_traceback_is_the_applications(serving: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def application(environ: Environ, start_response: Start) -> Any:
        raise RuntimeError("on purpose")

    serving(application, validate=False).request(target="/a?b\xe9").done()
    (record,) = caplog.records
    assert record.getMessage() == "test: GET /a?b\\xe9: the application failed"
    assert record.exc_text is not None
    assert 'raise RuntimeError("on purpose")' in record.exc_text
    assert "/exchange.py" not in record.exc_text


@pytest.mark.parametrize("blocks", [(b"ab", ZeroDivisionError()), (b"ab", "text"), (b"ab", SystemExit())])
def test_error_after_the_first_byte_cuts(serving: Serve, errors: Errors, blocks: Any) -> None:
    result = Blocks(*blocks)
    answer = serving(gives(result), validate=False).request().done()
    assert (answer.status, answer.body, answer.aborted, answer.ended) == (200, b"ab", True, False)
    assert len(errors()) == 1


def test_too_few_bytes_cut(serving: Serve, errors: Errors) -> None:
    answer = serving(gives([b"ab"], headers=[*TEXT, ("Content-Length", "3")])).request().done()
    assert (answer.body, answer.length, answer.aborted) == (b"ab", 3, True)
    assert errors() == ["test: GET / gave 2 bytes, after a Content-Length of 3"]


@pytest.mark.parametrize("blocks", [[b"abcd"], [b"ab", b"cd"], [b"abc", b"", b"d", b"e"]])
def test_surplus_is_cut_off(serving: Serve, errors: Errors, blocks: Any) -> None:
    result = Blocks(*blocks)
    port = serving(gives(result, headers=[*TEXT, ("Content-Length", "3")]), validate=False)
    answer = port.request().done()
    assert (answer.body, answer.length, answer.aborted) == (b"abc", 3, False)
    port.request().done()
    assert errors()[0] == "test: GET / gave 4 bytes or more, after a Content-Length of 3"
    assert result.closed >= 1


def test_surplus_that_is_written_is_cut_off_and_said_once(serving: Serve, errors: Errors) -> None:
    def application(environ: Environ, start_response: Start) -> Any:
        write = start_response("200 OK", [*TEXT, ("Content-Length", "3")])
        for _ in range(3):
            write(b"ab")
        return [b"cd"]

    port = serving(application)
    assert port.request().done().body == b"aba"
    port.drain()
    assert len(errors()) <= 1


# close()


@pytest.mark.parametrize(
    ("method", "blocks", "length"),
    [
        ("GET", (b"a", b"b"), ""),
        ("HEAD", (b"a", b"b"), ""),
        ("GET", (), ""),
        ("GET", (b"a", ZeroDivisionError()), ""),
        ("GET", (ZeroDivisionError(),), ""),
        ("GET", (b"a",), "3"),
        ("GET", (b"aaaa",), "3"),
        ("GET", ("text",), ""),
    ],
)
def test_close_is_called_once(serving: Serve, method: str, blocks: Any, length: str) -> None:
    result = Blocks(*blocks)
    port = serving(
        gives(result, headers=[*TEXT, ("Content-Length", length)] if length else TEXT), validate=False, threads=1
    )
    port.request(method).done()
    port.request("HEAD").done()  # the thread is through with the first
    assert result.closed in {1, 2}


def test_error_of_close_is_logged(serving: Serve, errors: Errors) -> None:
    class Bad(Blocks):
        def close(self) -> None:
            raise RuntimeError("too late")

    port = serving(gives(Bad(b"abc")), validate=False, threads=1)
    answer = port.request().done()
    assert (answer.body, answer.aborted) == (b"abc", False)
    port.request().done()
    assert errors()[0] == "test: GET /: close() of the answer failed"


# The client is gone


def test_client_that_is_gone_ends_the_blocks(serving: Serve, errors: Errors) -> None:
    made = []

    def application(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", list(TEXT))
        return result

    def block() -> bytes:
        made.append(1)
        if len(made) == 2:
            port.hang_up(answer)
        return b"x"

    result = Blocks(*[block] * 1000)
    port = serving(application, validate=False, threads=1)
    with port.changed:
        answer = port.request()
    answer.until("self.gone")
    port.request("HEAD").done()
    assert 2 <= len(made) <= 4
    assert result.closed == 2
    assert errors() == []


def test_client_that_is_gone_is_an_oserror_of_write(serving: Serve, errors: Errors) -> None:
    seen: list[Any] = []

    def application(environ: Environ, start_response: Start) -> Any:
        write = start_response("200 OK", list(TEXT))
        write(b"x")
        if environ["PATH_INFO"] != "/":
            return []
        port.hang_up(answer)
        for _ in range(2):
            try:
                write(b"x" * (2 * WINDOW_BYTES))
            except OSError as error:
                seen.append(error)
        raise seen[0]

    port = serving(application, reads=False, threads=1)
    with port.changed:
        answer = port.request()
    answer.until("self.gone")
    port.request(target="/2").done()
    assert [type(error) for error in seen[:2]] == [ClientGoneError] * 2
    assert errors() == []


def test_client_leaves_while_the_window_is_closed(serving: Serve) -> None:
    result = Blocks(b"x" * (2 * WINDOW_BYTES))
    port = serving(gives(result), validate=False, reads=False)
    answer = port.request().until(f"self.unread == {WINDOW_BYTES}")
    port.hang_up(answer)
    port.drain()
    answer.until("self.gone")


def test_client_that_is_gone_before_the_start(serving: Serve) -> None:
    calls = []

    def application(environ: Environ, start_response: Start) -> Any:
        calls.append(environ["PATH_INFO"])
        environ["wsgi.input"].read(1)
        return gives([b"ok"])(environ, start_response)

    port = serving(application, threads=1)
    first = port.request("POST", "/1", complete=False, length=1).until("self._port.waits")
    second = port.request(target="/2")  # waits, for there is one thread
    port.hang_up(second)
    port.send_body(first, b"x", end=True)
    first.done()
    port.request(target="/3").done()
    assert calls == ["/1", "/3"]


def test_errors_stream_is_standard_error(serving: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    def application(environ: Environ, start_response: Start) -> Any:
        environ["wsgi.errors"].write("a line\n")
        environ["wsgi.errors"].flush()
        return gives([b"ok"])(environ, start_response)

    serving(application).request().done()
    assert capsys.readouterr().err == "a line\n"
