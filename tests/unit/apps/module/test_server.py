"""What handlers return, do and do wrong, and what their clients get."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.unit.apps.fakes import PATIENCE_S, WINDOW_BYTES, Answer
from tests.unit.apps.module.conftest import Serve, until
from tests.unit.apps.running import Running
from tux.apps.load import LoadError
from tux.modules import ClientGoneError, MisuseError, Request, mime, register_mime
from tux.modules import request as requests
from tux.modules.tokens import resume

TEXT = "text/plain; charset=utf-8"


def read_all(server: Running, answer: Answer) -> None:
    """The client takes what comes, to the end."""
    while not answer.ended:
        server.port.read(answer.until("self.unread or self.ended"), WINDOW_BYTES)


# -- what is returned ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "status", "kind", "body"),
    [
        ("Grüße", 200, TEXT, "Grüße".encode()),
        (b"\x00\x01", 200, "application/octet-stream", b"\x00\x01"),
        (bytearray(b"ab"), 200, "application/octet-stream", b"ab"),
        ({"a": [1, None]}, 200, "application/json", b'{"a":[1,null]}'),
        ([1, 2], 200, "application/json", b"[1,2]"),
        (None, 204, None, b""),
        ((404, "gone"), 404, TEXT, b"gone"),
        ((201, {"x-a": "b"}, {"n": 1}), 201, "application/json", b'{"n":1}'),
        ((200, {"Content-Type": "text/html"}, "<p>"), 200, "text/html", b"<p>"),
        ((200, [("x-a", "b"), ("x-a", "c")], b""), 200, "application/octet-stream", b""),
        ((302, {"location": "/b"}, None), 302, None, b""),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_return_is_the_answer(
    serve: Serve, result: Any, status: int, kind: str | None, body: bytes, is_async: bool
) -> None:
    def plain(_req: Request) -> Any:
        return result

    async def coroutine(_req: Request) -> Any:
        await asyncio.sleep(0)
        return result

    answer = serve(coroutine if is_async else plain).get()
    assert (answer.status, answer.value("content-type"), answer.body) == (status, kind, body)


@pytest.mark.parametrize("result", [object(), 7, ("200", {}, "x"), (200, {}, "x", 1), (200, {"a b": "c"}, "")])
def test_what_cannot_be_sent_is_500(serve: Serve, result: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert serve(lambda req: result).get().status == 500
    assert "GET /: the handler" in caplog.text


def test_type_is_that_of_text_and_bytes(serve: Serve) -> None:
    server = serve({"/": (lambda req: "<p>", {"media_type": "text/html"})})
    assert server.get().value("content-type") == "text/html"


def test_head_has_the_length_and_no_body(serve: Serve) -> None:
    answer = serve(lambda req: "Hello").request("HEAD").done()
    assert (answer.status, answer.length, answer.body) == (200, 5, b"")


def test_an_error_is_500_and_a_traceback_of_the_handler_alone(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def divide(req: Request) -> float:
        return 1 / len(req.query)

    server = serve({"/a": divide, "/b": lambda req: "well"})
    assert server.get("/a").refusal() == 500
    assert "module shop: GET /a: the handler" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "tux/apps/module" not in caplog.text
    assert server.get("/b").body == b"well"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
def test_nothing_that_is_raised_ends_the_process(serve: Serve, error: type[BaseException]) -> None:
    def plain(req: Request) -> None:
        raise error

    async def coroutine(req: Request) -> None:
        raise error

    server = serve({"/a": plain, "/b": coroutine, "/c": lambda req: "well"})
    assert [server.get(path).status for path in ("/a", "/b", "/c")] == [500, 500, 200]


# -- which handler -------------------------------------------------------------------------------------------------


def test_paths(serve: Serve) -> None:
    server = serve({"/a": lambda req: "a", "/a/*": lambda req: f"below {req.path}", "/a/b/*": lambda req: "deep"})
    assert server.get("/a?x").body == b"a"
    assert server.get("/%61").body == b"a"
    assert server.get("//a").body == b"a"
    assert server.get("/a/").body == b"below /a/"
    assert server.get("/a/%C3%A4").body == "below /a/ä".encode()
    assert server.get("/a/b/c").body == b"deep"
    for path in ("/", "/b", "/ab", "/a%2Fb", "*"):
        answer = server.get(path)
        assert server.port.given[answer.key] == "next"


def test_methods(serve: Serve) -> None:
    server = serve({"/": (lambda req: req.method, {"methods": ["GET", "put"]})})
    assert [server.request(method).done().status for method in ("GET", "HEAD", "PUT", "POST")] == [200, 200, 200, 405]
    refused = server.request("POST")
    assert (refused.refusal(), refused.value("allow")) == (405, "GET, PUT, HEAD")


def test_a_class_is_made_once_and_has_state(serve: Serve) -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = itertools.count(1)

        def __call__(self, req: Request) -> str:
            return str(next(self.count))

    server = serve(Counter)
    assert [server.get().body for _ in range(3)] == [b"1", b"2", b"3"]


def test_a_class_with_a_method_for_each_method(serve: Serve) -> None:
    class Thing:
        def get(self, req: Request) -> str:
            return "got"

        async def post(self, req: Request) -> bytes:
            return await req.read()

    server = serve(Thing)
    assert server.get().body == b"got"
    assert server.request("POST", body=b"abc").done().body == b"abc"
    refused = server.request("DELETE").done()
    assert (refused.status, refused.value("allow")) == (405, "GET, POST, HEAD")


def test_a_class_that_cannot_be_made_is_no_start(serve: Serve) -> None:
    class Broken:
        def __init__(self) -> None:
            raise OSError("no database")

    with pytest.raises(LoadError, match="no database"):
        serve(Broken).end()


# -- what was asked ------------------------------------------------------------------------------------------------


def test_what_a_request_has(serve: Serve) -> None:
    seen: dict[str, Any] = {}

    def look(req: Request) -> None:
        names = [
            "method",
            "path",
            "query",
            "params",
            "target",
            "version",
            "host",
            "cookies",
            "client",
            "client_port",
            "server",
            "scheme",
            "head",
        ]
        seen.update({name: getattr(req, name) for name in names})
        seen["headers"] = dict(req.headers)
        seen["accept"] = req.headers["ACCEPT"]
        seen["none"] = req.headers.get("x-none")
        seen["all"] = req.headers.all("accept")
        seen["in"] = "Accept" in req.headers

    serve({"/a b": look}).get(
        "/a%20b?x=1&y=%C3%A4",
        headers=[
            (b"host", b"Example.ORG"),
            (b"accept", b"a"),
            (b"accept", b"b"),
            (b"cookie", b'a=1; b="x y"; a=2; junk'),
        ],
    )
    assert seen == {
        "method": "GET",
        "path": "/a b",
        "query": "x=1&y=%C3%A4",
        "params": {"x": "1", "y": "ä"},
        "target": "/a%20b?x=1&y=%C3%A4",
        "version": "1.1",
        "host": "example.org",
        "cookies": {"a": "1", "b": '"x y"'},
        "client": "192.0.2.7",
        "client_port": 40000,
        "server": ("127.0.0.1", 8000),
        "scheme": "http",
        "head": b"GET /a%20b?x=1&y=%C3%A4 HTTP/1.1\r\nhost: Example.ORG\r\naccept: a\r\naccept: b\r\n"
        b'cookie: a=1; b="x y"; a=2; junk\r\n\r\n',
        "headers": {"host": "Example.ORG", "accept": "a, b", "cookie": 'a=1; b="x y"; a=2; junk'},
        "accept": "a, b",
        "none": None,
        "all": ["a", "b"],
        "in": True,
    }


def test_a_plain_function_is_called_with_the_whole_body(serve: Serve) -> None:
    server = serve(lambda req: req.body)
    answer = server.request("POST", body=b"one ", complete=False)
    server.port.send_body(answer, b"two ")
    server.port.send_body(answer, b"three", end=True)
    assert answer.done().body == b"one two three"
    assert answer.credited == 8


@pytest.mark.parametrize("body", ["plain", "read"])
def test_a_body_over_the_limit_is_413(serve: Serve, body: str) -> None:
    async def read(req: Request) -> bytes:
        return await req.read()

    server = serve((lambda req: req.body) if body == "plain" else read, max_body=8)
    assert server.request("POST", body=b"123456789").refusal() == 413
    assert server.request("POST", complete=False, length=9).done().status == 413
    chunked = server.request("POST", body=b"12345678", complete=False)
    server.port.send_body(chunked, b"9")
    assert chunked.done().status == 413
    assert server.request("POST", body=b"12345678").done().body == b"12345678"


def test_a_body_is_streamed_and_told_when_taken(serve: Serve) -> None:
    pieces = []

    async def take(req: Request) -> str:
        pieces.extend([piece async for piece in req.stream()])
        return "taken"

    server = serve(take)
    answer = server.request("POST", body=b"one", complete=False)
    answer.until("self.credited == 3")
    server.port.send_body(answer, b"two")
    answer.until("self.credited == 6")
    server.port.send_body(answer, b"", end=True)
    assert answer.done().body == b"taken"
    assert pieces == [b"one", b"two"]


# -- streams -------------------------------------------------------------------------------------------------------


def test_a_generator_is_the_body_and_waits_for_the_client(serve: Serve) -> None:
    asked: list[int] = []

    def stream(req: Request) -> Iterator[bytes]:
        for n in range(8):
            asked.append(n)
            yield b"x" * 65536

    server = serve(stream, reads=False)
    answer = server.request().until("self.unread >= 131072")
    assert server.get("/none").aborted  # a turn later
    assert asked == [0, 1]
    read_all(server, answer)
    assert answer.done().body == b"x" * 8 * 65536
    assert answer.value("content-type") == "application/octet-stream"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_generator_of_small_pieces_lets_others_have_their_turn(serve: Serve, is_async: bool) -> None:
    """Its client takes all at once: there would always be room for one more."""
    over = threading.Event()

    def plain(req: Request) -> Iterator[bytes]:
        while not over.is_set():
            yield b"x"

    async def coroutine(req: Request) -> AsyncIterator[bytes]:
        for piece in plain(req):
            yield piece

    async def other(req: Request) -> str:
        await asyncio.sleep(0)
        return "other"

    server = serve({"/flood": coroutine if is_async else plain, "/other": other})
    answer = server.request(target="/flood").until("self.pieces")
    try:
        assert server.get("/other").body == b"other"
        assert not answer.ended
    finally:
        over.set()
    assert set(answer.done().pieces) == {b"x"}


def test_an_async_generator_waits_for_the_client(serve: Serve) -> None:
    asked: list[int] = []

    async def stream(req: Request) -> AsyncIterator[str]:
        for n in range(4):
            asked.append(n)
            yield "y" * WINDOW_BYTES

    server = serve(stream, reads=False)
    answer = server.request().until("self.unread >= 131072")
    assert server.get("/none").aborted
    assert asked == [0]
    read_all(server, answer)
    assert len(answer.done().body) == 4 * WINDOW_BYTES
    assert answer.value("content-type") == TEXT


def test_a_stream_can_have_a_head(serve: Serve) -> None:
    def returned(req: Request) -> Any:
        return 203, {"x-a": "b"}, iter(["a", "b"])

    def started(req: Request) -> Iterator[str]:
        req.start(203, {"x-a": "b"})
        yield from ("a", "b")

    server = serve({"/a": returned, "/b": started})
    for path in ("/a", "/b"):
        answer = server.get(path)
        assert (answer.status, answer.value("x-a"), answer.body) == (203, "b", b"ab")


def test_a_stream_that_fails_is_cut(serve: Serve) -> None:
    def stream(req: Request) -> Iterator[str]:
        yield "half"
        raise OSError

    async def astream(req: Request) -> AsyncIterator[str]:
        yield "half"
        raise OSError

    server = serve({"/a": stream, "/b": astream})
    for path in ("/a", "/b"):
        answer = server.get(path)
        assert answer.aborted
        assert answer.body == b"half"


def test_a_generator_is_closed_when_the_client_goes(serve: Serve) -> None:
    closed = threading.Event()

    def stream(req: Request) -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * WINDOW_BYTES
        finally:
            closed.set()

    server = serve(stream, reads=False)
    answer = server.request().until("self.unread")
    server.port.hang_up(answer)
    assert closed.wait(PATIENCE_S)


def test_start_write_finish(serve: Serve) -> None:
    async def handler(req: Request) -> None:
        req.start(201, {"x-a": "b"}, length=6)
        await req.write("abc")
        await req.write(memoryview(b"def"))
        req.finish()

    answer = serve(handler).get()
    assert (answer.status, answer.length, answer.body, answer.value("x-a")) == (201, 6, b"abcdef", "b")


def test_a_file_is_sent_by_its_descriptor(serve: Serve) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789")
        file.flush()

        def handler(req: Request) -> None:
            req.write("<")
            req.write_file(file, 2, 3)
            req.write_file(file.fileno(), 8)

        answer = serve(handler).get()
    assert answer.body == b"<23489"
    assert answer.files == [(2, 3), (8, 2)]


@pytest.mark.parametrize(
    ("offset", "length", "said"),
    [
        (0, 11, "the file has 10 bytes: there are no 11 from 0 on"),
        (8, 3, "there are no 3 from 8 on"),
        (11, -1, "there are no 0 from 11 on"),
        (-1, 2, "there are no 2 from -1 on"),
    ],
)
def test_bytes_that_a_file_does_not_have(
    serve: Serve, caplog: pytest.LogCaptureFixture, offset: int, length: int, said: str
) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789")
        file.flush()
        assert serve(lambda req: req.write_file(file, offset, length)).get().status == 500
    assert said in caplog.text


def test_what_is_no_regular_file_is_not_sent(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    try:
        assert serve(lambda req: req.write_file(reader)).get().status == 500
    finally:
        os.close(reader)
        os.close(writer)
    assert "only regular files" in caplog.text


def test_finish_can_close(serve: Serve) -> None:
    def late(req: Request) -> None:
        req.write("x")
        req.finish(close=True)

    server = serve({"/a": lambda req: req.send("x", close=True), "/b": late, "/c": lambda req: "x"})
    answers = [server.get(path) for path in ("/a", "/b", "/c")]
    assert [answer.key in server.port.closed for answer in answers] == [True, True, False]


def test_write_without_waiting_has_a_bound(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(requests, "MAX_KEPT_BYTES", 4 * WINDOW_BYTES)

    def flood(req: Request) -> None:
        while True:
            req.write(b"x" * WINDOW_BYTES)

    assert serve(flood, reads=False).request().until("self.aborted").aborted
    assert "await req.write()" in caplog.text


# -- misuse --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    [
        lambda req: (req.send("a"), req.send("b")),
        lambda req: (req.send("a"), req.write("b")),
        lambda req: (req.finish(), req.finish()),
        lambda req: (req.start(), req.start()),
        lambda req: (req.start(), req.send_object("/a")),
        lambda req: (req.decline(), req.redirect_to_server()),
    ],
)
def test_misuse_says_what_is_wrong(serve: Serve, what: Callable[[Request], Any]) -> None:
    errors: list[BaseException] = []

    def handler(req: Request) -> None:
        try:
            what(req)
        except MisuseError as error:
            errors.append(error)

    serve(handler).get()
    assert len(errors) == 1


def test_an_answer_and_a_return_are_two(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def handler(req: Request) -> str:
        req.send("one")
        return "two"

    assert serve(handler).get().body == b"one"
    assert "MisuseError: the request is answered already" in caplog.text


def test_a_body_that_was_not_read(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(req: Request) -> bytes:
        return req.body

    assert serve(handler).request("POST", complete=False).done().status == 500
    assert "await req.read()" in caplog.text


# -- objects, other origins ----------------------------------------------------------------------------------------


def test_objects(serve: Serve) -> None:
    async def handler(req: Request) -> bytes:
        with await req.get_object("page.html") as page:
            assert (page.path, page.size, page.type, page.etag) == ("page.html", 5, "text/plain", '"e"')
            return bytes(page.memory[1:3]) + page.read(2, 3)

    with tempfile.TemporaryFile() as file:
        file.write(b"01234")
        file.flush()
        server = serve(handler)
        answer = server.request()
        assert server.port.found(os.dup(file.fileno()), size=5) == b"/page.html"
        assert answer.done().body == b"1234"


def test_an_object_that_is_not_there(serve: Serve) -> None:
    async def handler(req: Request) -> str:
        try:
            await req.get_object("/none")
        except FileNotFoundError:
            return "none"
        return "some"

    server = serve(handler)
    answer = server.request()
    server.port.found(status=404)
    assert answer.done().body == b"none"


def test_send_object(serve: Serve) -> None:
    async def awaited(req: Request) -> None:
        await req.send_object("b.html", {"x-a": "b"}, status=203)

    server = serve({"/a": lambda req: req.send_object("/a.html"), "/b": awaited})
    for path, sent in (("/a", (b"/a.html", [], 0)), ("/b", (b"/b.html", [(b"x-a", b"b")], 203))):
        assert server.port.objects[server.get(path).key] == sent


def test_registered_types(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mime, "_types", {})
    for extension, kind in ((".gmi", "text/gemini"), ("gmi", "gemini"), ("gmi", "text/a\nb"), ("", "a/b")):
        with pytest.raises(ValueError, match="expected"):
            register_mime(extension, kind)
    register_mime("GMI", "text/gemini")

    async def look(req: Request) -> str:
        with await req.get_object("a.gmi") as found:
            return found.type

    own = {"Content-Type": "text/x"}
    server = serve(
        {"/a": lambda req: req.send_object("a.gmi"), "/b": lambda req: req.send_object("a.gmi", own), "/c": look}
    )
    assert server.port.objects[server.get("/a").key][1] == [(b"content-type", b"text/gemini")]
    assert server.port.objects[server.get("/b").key][1] == [(b"Content-Type", b"text/x")]
    answer = server.request("GET", "/c")
    with tempfile.TemporaryFile() as file:
        server.port.found(os.dup(file.fileno()))
    assert answer.done().body == b"text/gemini"


def test_redirect_and_decline(serve: Serve) -> None:
    server = serve({"/a": lambda req: req.redirect_to_server(), "/b": lambda req: req.decline()})
    assert [server.port.given[server.get(path).key] for path in ("/a", "/b")] == ["forward", "next"]


# -- postponed -----------------------------------------------------------------------------------------------------


def test_a_body_is_asked_for_when_it_is_read(serve: Serve) -> None:
    async def read(req: Request) -> str:
        return str(len(await req.read()))

    async def stream(req: Request) -> str:
        return str(sum([len(piece) async for piece in req.stream()]))

    async def declined(req: Request) -> Any:
        return req.decline()

    server = serve({"/read": read, "/stream": stream, "/plain": lambda req: str(len(req.body)), "/declined": declined})
    for path in ("/read", "/stream", "/plain"):
        answer = server.request("POST", target=path, complete=False)
        until(functools.partial(server.port.accepted.__contains__, answer.key))
        server.port.send_body(answer, b"abc", end=True)
        assert answer.done().body == b"3"
    for path in ("/declined", "/none"):
        answer = server.request("POST", target=path, complete=False).done()
        assert server.port.given[answer.key] == "next"
        assert answer.key not in server.port.accepted


def test_a_postponed_request_is_continued_by_a_thread(serve: Serve) -> None:
    def work(req: Request) -> None:
        req.resume("from a thread")

    async def awaits(req: Request) -> str:
        threading.Thread(target=work, args=(req,)).start()
        return f"awaited {await req.postpone(PATIENCE_S)}"

    def returns(req: Request) -> Any:
        threading.Thread(target=work, args=(req,)).start()
        return req.postpone()

    def then(req: Request) -> Any:
        req.resume(1)
        return req.postpone(then=lambda req, value: {"value": value})

    server = serve({"/a": awaits, "/b": returns, "/c": then})
    assert server.get("/a").body == b"awaited from a thread"
    assert server.get("/b").body == b"from a thread"
    assert server.get("/c").body == b'{"value":1}'


def test_a_postponed_request_is_continued_by_a_process(serve: Serve) -> None:
    async def handler(req: Request) -> Any:
        code = f"import tux; tux.resume({req.token!r}, {{'from': 'a process'}})"
        subprocess.run([sys.executable, "-c", code], check=True)
        return await req.postpone(PATIENCE_S)

    assert serve(handler).get().body == b'{"from":"a process"}'


def test_tokens_that_are_worth_nothing(serve: Serve) -> None:
    tokens: list[str] = []

    def handler(req: Request) -> Any:
        tokens.append(req.token)
        return req.postpone()

    server = serve(handler)
    answer = server.request()
    until(lambda: tokens)
    with pytest.raises(ValueError, match="no token"):
        resume("abc")
    other = tokens[0][:-8] + ("AAAAAAAA" if not tokens[0].endswith("AAAAAAAA") else "BBBBBBBB")
    resume(other, "guessed")
    with pytest.raises(ValueError, match="65538 bytes"):
        resume(tokens[0], "x" * 65535)
    resume(tokens[0], "right")
    assert answer.done().body == b"right"
    resume(tokens[0], "over")  # nothing happens
    server.end()
    with pytest.raises(ConnectionError):
        resume(tokens[0])


def test_a_postponed_request_can_time_out(serve: Serve) -> None:
    async def handler(req: Request) -> str:
        try:
            await req.postpone(0.01)
        except TimeoutError:
            return "late"
        return "in time"

    assert serve(handler).get().body == b"late"


def test_whoever_waits_hears_that_the_client_is_gone(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []
    left, right = socket.socketpair()

    def watch(name: str, wait: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def handler(req: Request) -> None:
            try:
                await wait(req)
            except ClientGoneError:
                heard.append(name)
                raise

        return handler

    waits: dict[str, Callable[[Request], Any]] = {
        "postpone": lambda req: req.postpone(),
        "read": lambda req: req.read(),
        "object": lambda req: req.get_object("a"),
        "socket": lambda req: req.wait_readable(left),
        "write": lambda req: req.write(b"x" * 2 * WINDOW_BYTES),
    }
    server = serve({f"/{name}": watch(name, wait) for name, wait in waits.items()}, reads=False)
    answers = [server.request("POST", f"/{name}", complete=False) for name in waits]
    answers[4].until("self.unread")
    for answer in answers:
        server.port.hang_up(answer)
    until(lambda: len(heard) == len(waits))
    assert sorted(heard) == sorted(waits)
    assert not caplog.text
    left.close()
    right.close()


def test_a_socket_of_its_own(serve: Serve) -> None:
    left, right = socket.socketpair()
    waiting = threading.Event()

    async def handler(req: Request) -> bytes:
        waiting.set()
        await req.wait_readable(left)
        return left.recv(100)

    server = serve(handler)
    answer = server.request()
    assert waiting.wait(PATIENCE_S)
    right.send(b"from the back end")
    assert answer.done().body == b"from the back end"
    left.close()
    right.close()


# -- answers that are remembered -----------------------------------------------------------------------------------


def fields(req: Request) -> str:
    return req.headers.get("accept", "") + req.host


@pytest.mark.parametrize(
    ("handler", "ignores_query"),
    [
        (lambda req: "constant", True),
        (lambda req: (404, "not here"), True),
        (lambda req: req.path + req.method, True),
        (fields, True),
        (lambda req: req.query, False),
        (lambda req: str(req.params), False),
    ],
)
def test_an_answer_is_remembered(serve: Serve, handler: Any, ignores_query: bool) -> None:
    server = serve({"/": (handler, {"cache": 1.5})})
    assert server.port.said[server.get().key] == {"remember_ms": 1500, "ignore_query": ignores_query}


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (lambda req: str(req.cookies), "cookie"),
        (lambda req: str(req.client), "the client's address"),
        (lambda req: req.headers.get("User-Agent", ""), "user-agent"),
        (lambda req: str(dict(req.headers)), "all fields"),
        (lambda req: req.head, "the raw head"),
        (lambda req: req.scheme, "the scheme"),
        (lambda req: (200, {"Set-Cookie": "a=b"}, "x"), "Set-Cookie"),
    ],
)
def test_an_answer_that_is_not_remembered_is_told_once(
    serve: Serve, handler: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve({"/": (handler, {"cache": 1})})
    assert server.port.said[server.get().key] == {}
    assert server.port.said[server.get().key] == {}
    assert caplog.text.count("not remembered") == 1
    assert caplog.text.strip().endswith(f"looks at {name}")


def test_what_is_never_remembered(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def broken(req: Request) -> Any:
        return 503, "busy"

    server = serve({"/a": (lambda req: req.body, {"cache": 1}), "/b": (broken, {"cache": 1}), "/c": lambda req: "c"})
    assert server.port.said[server.request("POST", "/a", body=b"x").done().key] == {}
    assert server.port.said[server.get("/b").key] == {}
    assert server.port.said[server.get("/c").key] == {}
    assert not caplog.text


# -- the end, and what blocks --------------------------------------------------------------------------------------


def test_what_is_at_work_is_finished(serve: Serve) -> None:
    go = threading.Event()

    async def slow(req: Request) -> str:
        await asyncio.get_running_loop().run_in_executor(None, go.wait)
        return "slow"

    server = serve(slow)
    answer = server.request()
    server.port.drain()
    go.set()
    assert answer.done().body == b"slow"
    server.end()


def test_the_grace_ends_what_does_not(serve: Serve) -> None:
    async def never(req: Request) -> None:
        await asyncio.Event().wait()

    server = serve({"/a": never, "/b": lambda req: req.postpone()}, grace=0.05)
    answers = [server.request(target=path) for path in ("/a", "/b")]
    server.end()
    assert [answer.refusal() for answer in answers] == [503, 503]
