"""TUXAPI_handle_events() as a state machine: turns, moves, and what the client gets."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import Any, ClassVar

import pytest

from tests.unit.compat.fakes import FakeFace, Handler, play
from tux.compat import *
from tux.compat import live as live_module
from tux.compat import mimetypes, sock
from tux.compat.request import user_req_t

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"


def steps(*actions: Any) -> Handler:
    """Each event's action: a number, bytes to send, or a function of the request."""

    def handle_events(req: user_req_t) -> int:
        step = actions[req.event]
        req.event += 1
        if isinstance(step, bytes):
            req.set_buffer(step)
            return tux(TUX_ACTION_SEND_BUFFER, req)
        if callable(step):
            return int(step(req))
        return tux(step, req)

    return handle_events


class TestAnswers:
    def test_the_minimal_reply(self) -> None:
        face = play(steps(HEAD + b"Hello\n", TUX_ACTION_FINISH_REQ))
        assert (face.status, face.fields, bytes(face.sent)) == (200, [(b"Content-Type", b"text/plain")], b"Hello\n")
        assert (face.length, face.end) == (-1, "keep")

    def test_finish_close(self) -> None:
        assert play(steps(HEAD, TUX_ACTION_FINISH_CLOSE_REQ)).end == "close"
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        assert play(steps(head, TUX_ACTION_FINISH_REQ)).end == "close"

    def test_a_head_may_come_in_pieces(self) -> None:
        whole = HEAD + b"Hello"
        face = play(steps(*[whole[i : i + 1] for i in range(len(whole))], TUX_ACTION_FINISH_REQ))
        assert (face.status, bytes(face.sent)) == (200, b"Hello")

    def test_nothing_but_a_status(self) -> None:
        def not_found(req: user_req_t) -> int:
            req.http_status = 404
            return tux(TUX_ACTION_FINISH_REQ, req)

        face = play(not_found)
        assert (face.status, face.end) == (404, "keep")

    @pytest.mark.parametrize("head", [b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n"])
    def test_what_has_no_body_gets_none(self, head: bytes) -> None:
        assert play(steps(head + b"body", TUX_ACTION_FINISH_REQ), method="HEAD").sent == b""
        face = play(steps(head + b"body", TUX_ACTION_FINISH_REQ), method="HEAD")
        assert (bytes(face.sent), face.end) == (b"", "keep")

    @pytest.mark.parametrize(
        ("actions", "message", "status"),
        [
            ((b"Hello", 9), "the answer does not begin with a status line, as in HTTP/1.1 200 OK", 500),
            ((b"HTTP/1.1 200 OK\r\n", 9), "the answer is finished within its head: the empty line is missing", 500),
            ((9,), "the answer is finished without a byte of it sent, and http_status is 0", 500),
            (
                (HEAD[:-2] + b"Content-Length: 1\r\n\r\n" + b"ab", 9),
                "the answer is longer than its Content-Length",
                200,
            ),
            (
                (HEAD[:-2] + b"Content-Length: 3\r\n\r\n" + b"ab", 9),
                "the answer is shorter than its Content-Length",
                200,
            ),
        ],
    )
    def test_wrong_answers(self, actions: Any, message: str, status: int, caplog: pytest.LogCaptureFixture) -> None:
        face = play(steps(*actions))
        assert (face.status, face.end) == (status, "keep" if status == 500 else "cut")
        assert f"module demo.tux: GET /demo.tux: {message}" in caplog.text

    def test_no_action(self, caplog: pytest.LogCaptureFixture) -> None:
        assert play(lambda req: 0).status == 500
        assert "returned without an action that enters the event loop (event 0)" in caplog.text

    def test_the_event_loop_drops_the_request(self) -> None:
        assert play(steps(TUX_ACTION_EVENTLOOP)).status == 500
        assert play(steps(HEAD, TUX_ACTION_EVENTLOOP)).end == "cut"

    def test_an_exception_comes_out(self) -> None:
        with pytest.raises(ZeroDivisionError):
            play(lambda req: 1 // 0)

    def test_redirect(self) -> None:
        assert play(steps(TUX_ACTION_REDIRECT_REQ)).end == "redirect"

    def test_the_state_is_kept(self) -> None:
        seen = []

        def handle_events(req: user_req_t) -> int:
            seen.append((req.event, req.priv, req.bytes_sent, req.error))
            req.event += 10
            req.priv = {"n": req.event}
            if req.event == 30:
                return tux(TUX_ACTION_FINISH_REQ, req)
            req.set_buffer(HEAD if req.event == 10 else b"abc")
            return tux(TUX_ACTION_SEND_BUFFER, req)

        play(handle_events)
        assert seen == [(0, 0, 0, 0), (10, {"n": 10}, 0, 0), (20, {"n": 20}, 3, 0)]


class TestRequest:
    def test_its_fields(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(TUXAPI_modulename_array, 1, "demo.tux")
        seen: list[user_req_t] = []

        def handle_events(req: user_req_t) -> int:
            seen.append(req)
            assert req.objectlen == 4
            assert (CGI_REQUEST_METHOD(req), CGI_SERVER_PROTOCOL(req)) == ("POST", "HTTP/1.0")
            assert (CGI_SCRIPT_NAME(req), CGI_SERVER_PORT(req), CGI_QUERY_STRING(req)) == ("demo.tux", 8080, "a=b%20c")
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        fields = [
            (b"host", b"example.org"),
            (b"cookie", b"a=1"),
            (b"cookie", b"b=2"),
            (b"accept", b"text/html"),
            (b"accept", b"*/*"),
            (b"user-agent", b"x" * 300),
            (b"if-modified-since", b"caf\xe9"),
        ]
        play(
            handle_events,
            method="POST",
            objectname="grün.tux".encode(),
            query=b"a=b%20c",
            minor=0,
            headers=fields,
            body=b"body",
        )
        (req,) = seen
        assert (req.http_version, req.http_method, req.keep_alive) == (HTTP_1_0, METHOD_POST, 0)
        assert (req.objectname, req.query) == ("grün.tux", "a=b%20c")
        assert (req.cookies, req.cookies_len) == ("a=1; b=2", 8)
        assert req.accept == "text/html, */*"
        assert req.user_agent == "x" * 300
        assert req.if_modified_since.encode("utf-8", "surrogateescape") == b"caf\xe9"
        assert socket.inet_ntoa(req.client_host.to_bytes(4, "little")) in {"192.0.2.7", "7.2.0.192"}
        assert req.id > 0

    def test_every_request_has_its_own_id(self) -> None:
        ids = set()

        def handle_events(req: user_req_t) -> int:
            ids.add(req.id)
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        for _ in range(3):
            play(handle_events)
        assert len(ids) == 3

    def test_an_ipv6_client_has_no_number(self) -> None:
        def handle_events(req: user_req_t) -> int:
            assert req.client_host == 0
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        play(handle_events, client="2001:db8::1")

    def test_read_headers(self) -> None:
        def handle_events(req: user_req_t) -> int:
            assert tux(TUX_ACTION_READ_HEADERS, req) == 0
            assert req.object_addr == b"GET /demo.tux?x HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n"
            assert req.objectlen == len(req.object_addr)
            small = req.object_addr = bytearray(10)
            assert tux(TUX_ACTION_READ_HEADERS, req) == -errno.EINVAL
            assert small == bytes(10)
            large = req.object_addr = bytearray(100)
            assert tux(TUX_ACTION_READ_HEADERS, req) == 0
            assert large.startswith(b"GET /demo.tux?x HTTP/1.1\r\n")
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        play(handle_events, target=b"/demo.tux?x", headers=[(b"host", b"a"), (b"x", b"y")])

    def test_read_post_data(self) -> None:
        def handle_events(req: user_req_t) -> int:
            buffer = req.object_addr = bytearray(6)
            req.objectlen = 4
            assert tux(TUX_ACTION_READ_POST_DATA, req) == 0
            assert (bytes(buffer), req.objectlen) == (b"name\0\0", 4)
            req.objectlen = 7
            assert tux(TUX_ACTION_READ_POST_DATA, req) == -errno.EFAULT
            buffer = req.object_addr = bytearray(20)
            req.objectlen = 20
            assert tux(TUX_ACTION_READ_POST_DATA, req) == 0
            assert (bytes(buffer[: req.objectlen]), req.objectlen) == (b"name=value", 10)
            req.object_addr = None
            assert tux(TUX_ACTION_READ_POST_DATA, req) == 0
            assert req.object_addr == b"name=value"
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        play(handle_events, method="POST", body=b"name=value")


def get(name: str) -> Handler:
    """A step: GET_OBJECT."""

    def step(req: user_req_t) -> int:
        req.objectname = name
        return tux(TUX_ACTION_GET_OBJECT, req)

    return step


class TestObjects:
    FILES: ClassVar = {b"page.html": b"<h1>Page</h1>", b"empty": b"", b"large": bytes(range(256)) * 1000}

    def test_with_own_head(self) -> None:
        def head(req: user_req_t) -> int:
            assert (req.error, req.objectlen, req.objectname) == (0, 13, "page.html")
            req.set_buffer(f"HTTP/1.1 200 OK\r\nX-Mine: yes\r\nContent-Length: {req.objectlen}\r\n\r\n")
            return tux(TUX_ACTION_SEND_BUFFER, req)

        face = play(steps(get("page.html"), head, TUX_ACTION_SEND_OBJECT, TUX_ACTION_FINISH_REQ), files=self.FILES)
        assert (face.fields, face.length, bytes(face.sent)) == ([(b"X-Mine", b"yes")], 13, b"<h1>Page</h1>")
        assert face.end == "keep"

    def test_without_a_head_the_answer_is_the_sites(self) -> None:
        face = play(steps(get("page.html"), TUX_ACTION_SEND_OBJECT, TUX_ACTION_FINISH_REQ), files=self.FILES)
        assert (face.end, face.fields, bytes(face.sent)) == ("object page.html", [], b"<h1>Page</h1>")

    def test_after_a_complete_answer_only_finish_is_left(self, caplog: pytest.LogCaptureFixture) -> None:
        def again(req: user_req_t) -> int:
            assert tux(TUX_ACTION_SEND_OBJECT, req) == -errno.EINVAL
            return tux(TUX_ACTION_FINISH_REQ, req)

        play(steps(get("page.html"), TUX_ACTION_SEND_OBJECT, again), files=self.FILES)
        assert "tux(SEND_OBJECT): called for a request whose answer is complete" in caplog.text

    def test_two_objects(self) -> None:
        face = play(
            steps(HEAD, get("page.html"), TUX_ACTION_SEND_OBJECT, get("large"), TUX_ACTION_SEND_OBJECT, 9),
            files=self.FILES,
        )
        assert bytes(face.sent) == self.FILES[b"page.html"] + self.FILES[b"large"]

    def test_there_is_none(self) -> None:
        def missing(req: user_req_t) -> int:
            assert (req.error, req.objectlen) == (-errno.ENOENT, 0)
            assert tux(TUX_ACTION_SEND_OBJECT, req) == -errno.EINVAL
            assert tux(TUX_ACTION_READ_OBJECT, req) == -errno.EINVAL
            req.http_status = 404
            return tux(TUX_ACTION_FINISH_REQ, req)

        assert play(steps(get("none"), missing)).status == 404

    @pytest.mark.parametrize("name", ["page.html", "empty", "large"])
    def test_read(self, name: str) -> None:
        expected = self.FILES[name.encode()]

        def read(req: user_req_t) -> int:
            buffer = req.object_addr = bytearray(req.objectlen)
            assert tux(TUX_ACTION_READ_OBJECT, req) == 0
            assert buffer == expected
            req.object_addr = None
            assert tux(TUX_ACTION_READ_OBJECT, req) == 0
            assert req.object_addr == expected
            mapped = TUXAPI_alloc_read_objectbuf(req, 0)
            assert bytes(mapped) == expected
            TUXAPI_free_objectbuf(req, mapped)
            if expected:
                req.object_addr = bytearray(len(expected) - 1)
                assert tux(TUX_ACTION_READ_OBJECT, req) == -errno.EINVAL
                req.object_addr = bytes(len(expected))
                assert tux(TUX_ACTION_READ_OBJECT, req) == -errno.EFAULT
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        play(steps(get(name), read), files=self.FILES)

    def test_no_descriptor_is_left(self) -> None:
        before = os.listdir("/proc/self/fd")
        play(steps(get("page.html"), get("large"), get("none"), get("empty"), HEAD, 9), files=self.FILES)
        assert os.listdir("/proc/self/fd") == before

    def test_registered_types(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mimetypes, "_types", {})
        req = user_req_t(objectname="html", object_addr="text/x-mine; charset=utf-8", cache_control="60")
        assert tux(TUX_ACTION_REGISTER_MIMETYPE, req) == 0
        face = play(steps(get("page.html"), TUX_ACTION_SEND_OBJECT, TUX_ACTION_FINISH_REQ), files=self.FILES)
        assert face.fields == [(b"content-type", b"text/x-mine; charset=utf-8"), (b"cache-control", b"max-age=60")]


class TestSock:
    """What is written to req.sock goes to the client."""

    def test_bytes_come_before_those_of_the_next_action(self) -> None:
        def write(req: user_req_t) -> int:
            os.write(req.sock, HEAD)
            os.write(req.sock, b"one ")
            req.set_buffer(b"two")
            return tux(TUX_ACTION_SEND_BUFFER, req)

        def finish(req: user_req_t) -> int:
            os.write(req.sock, b" three")
            return tux(TUX_ACTION_FINISH_REQ, req)

        face = play(steps(write, finish))
        assert (face.status, bytes(face.sent), face.end) == (200, b"one two three", "keep")

    def test_it_does_not_block_the_loop(self) -> None:
        def write(req: user_req_t) -> int:
            blocked = False
            while not blocked:
                try:
                    os.write(req.sock, bytes(65536))
                except BlockingIOError:
                    blocked = True
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        assert play(write).status == 500  # zeros are no status line

    def test_it_cannot_be_read(self) -> None:
        def read(req: user_req_t) -> int:
            assert os.read(req.sock, 1) == b""
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        assert play(read).end == "redirect"

    def test_it_is_gone_with_the_request(self) -> None:
        kept: list[user_req_t] = []

        def keep(req: user_req_t) -> int:
            kept.append(req)
            assert req.sock > 0
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        play(keep)
        assert kept[0].sock == -1

    def test_a_module_that_closes_it(self) -> None:
        def close(req: user_req_t) -> int:
            os.write(req.sock, HEAD)
            os.close(req.sock)
            return tux(TUX_ACTION_FINISH_REQ, req)

        before = os.listdir("/proc/self/fd")
        face = play(close)
        assert (face.status, face.end) == (200, "keep")
        assert os.listdir("/proc/self/fd") == before


class TestPostponed:
    def test_a_helper_thread_answers_and_continues(self) -> None:
        threads = []

        def work(fd: int) -> None:
            os.write(fd, HEAD + b"slow " + bytes(1_000_000))  # more than the socket holds: it blocks here, not the loop
            assert tux(TUX_ACTION_CONTINUE_REQ, fd) == 0
            os.close(fd)

        def postpone(req: user_req_t) -> int:
            assert tux(TUX_ACTION_POSTPONE_REQ, req) == 0
            thread = threading.Thread(target=work, args=(os.dup(req.sock),))
            threads.append(thread)
            thread.start()
            return tux(TUX_ACTION_EVENTLOOP, req)

        def finish(req: user_req_t) -> int:
            assert (req.error, req.bytes_sent) == (0, 1_000_005)
            return tux(TUX_ACTION_FINISH_REQ, req)

        face = play(steps(postpone, finish))
        threads[0].join()
        assert (face.status, len(face.sent), face.end) == (200, 1_000_005, "keep")

    def test_a_helper_process_answers_and_continues(self) -> None:
        def postpone(req: user_req_t) -> int:
            fd = req.sock
            req.priv = os.fork()
            if not req.priv:
                os.write(fd, HEAD + b"from another process")
                os._exit(-tux(TUX_ACTION_CONTINUE_REQ, fd))
            return tux(TUX_ACTION_POSTPONE_REQ, req)

        def finish(req: user_req_t) -> int:
            assert os.waitpid(req.priv, 0)[1] == 0
            return tux(TUX_ACTION_FINISH_REQ, req)

        face = play(steps(postpone, finish))
        assert (bytes(face.sent), face.end) == (b"from another process", "keep")

    def test_before_the_handler_returns(self) -> None:
        def postpone(req: user_req_t) -> int:
            assert tux(TUX_ACTION_POSTPONE_REQ, req) == 0
            assert tux(TUX_ACTION_CONTINUE_REQ, req) == 0
            return tux(TUX_ACTION_EVENTLOOP, req)

        assert play(steps(postpone, HEAD, TUX_ACTION_FINISH_REQ)).end == "keep"

    def test_twice(self) -> None:
        def postpone(req: user_req_t) -> int:
            assert tux(TUX_ACTION_POSTPONE_REQ, req) == 0
            return tux(TUX_ACTION_CONTINUE_REQ, req)

        assert play(steps(postpone, postpone, HEAD, TUX_ACTION_FINISH_REQ)).end == "keep"

    def test_nobody_continues(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        monkeypatch.setattr(live_module, "POSTPONE_SECONDS", 0.05)

        def finish(req: user_req_t) -> int:
            assert req.error == -errno.ETIMEDOUT
            req.http_status = 504
            return tux(TUX_ACTION_FINISH_REQ, req)

        assert play(steps(TUX_ACTION_POSTPONE_REQ, finish)).status == 504
        assert "nobody has called CONTINUE_REQ" in caplog.text

    def test_everybody_has_closed_it(self, caplog: pytest.LogCaptureFixture) -> None:
        def postpone(req: user_req_t) -> int:
            assert tux(TUX_ACTION_POSTPONE_REQ, req) == 0
            os.close(req.sock)
            return 0

        def finish(req: user_req_t) -> int:
            assert req.error == -errno.EBADF
            req.http_status = 500
            return tux(TUX_ACTION_FINISH_REQ, req)

        assert play(steps(postpone, finish)).status == 500

    def test_actions_must_wait(self, caplog: pytest.LogCaptureFixture) -> None:
        def postpone(req: user_req_t) -> int:
            assert tux(TUX_ACTION_POSTPONE_REQ, req) == 0
            assert tux(TUX_ACTION_FINISH_REQ, req) == -errno.EINVAL
            return tux(TUX_ACTION_CONTINUE_REQ, req)

        play(steps(postpone, TUX_ACTION_REDIRECT_REQ))
        assert "tux(FINISH_REQ): called for a request that is postponed" in caplog.text

    def test_a_late_continue(self) -> None:
        kept: list[int] = []

        def keep(req: user_req_t) -> int:
            kept.append(os.dup(req.sock))
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        play(keep)
        assert tux(TUX_ACTION_CONTINUE_REQ, kept[0]) == -errno.EPIPE
        os.close(kept[0])

    def test_what_is_no_descriptor_of_ours(self) -> None:
        reader, writer = os.pipe()
        assert tux(TUX_ACTION_CONTINUE_REQ, writer) == -errno.EINVAL
        os.close(reader)
        os.close(writer)
        assert tux(TUX_ACTION_CONTINUE_REQ, writer) == -errno.EBADF
        assert tux(TUX_ACTION_CONTINUE_REQ, None) == -errno.EFAULT
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            assert tux(TUX_ACTION_CONTINUE_REQ, other) == -errno.EINVAL

    def test_descriptors_that_come_are_closed(self) -> None:
        pair = sock.SockPair(blocking=False)
        before = os.listdir("/proc/self/fd")
        with socket.socket(fileno=os.dup(pair.theirs.fileno())) as theirs:
            socket.send_fds(theirs, [b"ab\0"], [pair.theirs.fileno()] * 3)
        assert pair.read() == (b"ab", True, False)
        assert os.listdir("/proc/self/fd") == before
        pair.close()


class TestBackEnd:
    def test_watch_and_wait(self) -> None:
        ours, theirs = socket.socketpair()

        def watch(req: user_req_t) -> int:
            req.object_addr = ours.fileno()
            assert tux(TUX_ACTION_WATCH_PROXY_SOCKET, req) == 0
            threading.Timer(0.02, theirs.sendall, (b"from behind",)).start()
            return tux(TUX_ACTION_WAIT_PROXY_SOCKET, req)

        def answer(req: user_req_t) -> int:
            assert req.error == 0
            req.set_buffer(HEAD + ours.recv(100))
            return tux(TUX_ACTION_SEND_BUFFER, req)

        with ours, theirs:
            face = play(steps(watch, answer, TUX_ACTION_FINISH_REQ))
        assert bytes(face.sent) == b"from behind"

    def test_data_that_is_there(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.close()  # the end counts, too

            def watch(req: user_req_t) -> int:
                req.object_addr = ours
                assert tux(TUX_ACTION_WATCH_PROXY_SOCKET, req) == 0
                return tux(TUX_ACTION_WAIT_PROXY_SOCKET, req)

            assert play(steps(watch, TUX_ACTION_REDIRECT_REQ)).end == "redirect"

    def test_it_does_not_wait_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_module, "WAIT_SECONDS", 0.05)
        ours, theirs = socket.socketpair()

        def watch(req: user_req_t) -> int:
            req.object_addr = ours
            assert tux(TUX_ACTION_WATCH_PROXY_SOCKET, req) == 0
            return tux(TUX_ACTION_WAIT_PROXY_SOCKET, req)

        def late(req: user_req_t) -> int:
            assert req.error == -errno.ETIMEDOUT
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        with ours, theirs:
            assert play(steps(watch, late)).end == "redirect"

    def test_misuse(self) -> None:
        def watch(req: user_req_t) -> int:
            assert tux(TUX_ACTION_WAIT_PROXY_SOCKET, req) == -errno.EINVAL
            for wrong in (0xFFFFFF, -1, None, "x"):
                req.object_addr = wrong
                assert tux(TUX_ACTION_WATCH_PROXY_SOCKET, req) == -errno.EINVAL
            with open(os.devnull, "rb") as file:
                req.object_addr = file
                assert tux(TUX_ACTION_WATCH_PROXY_SOCKET, req) == -errno.EINVAL
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        assert play(watch).end == "redirect"


class TestMisuse:
    """A negative number, and a line in the error log."""

    def test_two_actions_in_one_turn(self, caplog: pytest.LogCaptureFixture) -> None:
        def twice(req: user_req_t) -> int:
            req.set_buffer(HEAD)
            assert tux(TUX_ACTION_SEND_BUFFER, req) == TUX_CONTINUE_EVENTLOOP
            assert tux(TUX_ACTION_FINISH_REQ, req) == -errno.EINVAL
            return tux(TUX_ACTION_SEND_BUFFER, req)

        face = play(steps(twice, TUX_ACTION_FINISH_REQ))
        assert (face.status, face.end) == (200, "keep")
        assert (
            "module demo.tux: tux(FINISH_REQ): called for a request that waits for its next event "
            "(objectname 'demo.tux', event 1)" in caplog.text
        )

    def test_finish_twice(self, caplog: pytest.LogCaptureFixture) -> None:
        def twice(req: user_req_t) -> int:
            tux(TUX_ACTION_FINISH_REQ, req)
            return tux(TUX_ACTION_FINISH_REQ, req)

        play(steps(HEAD, twice))
        assert "tux(FINISH_REQ): called for a request that is over" in caplog.text

    def test_redirect_after_bytes(self, caplog: pytest.LogCaptureFixture) -> None:
        def redirect(req: user_req_t) -> int:
            assert tux(TUX_ACTION_REDIRECT_REQ, req) == -errno.EINVAL
            return tux(TUX_ACTION_FINISH_REQ, req)

        assert play(steps(HEAD, redirect)).end == "keep"
        assert "tux(REDIRECT_REQ): called for a request whose answer has begun" in caplog.text

    def test_a_request_of_the_past(self) -> None:
        kept: list[user_req_t] = []

        def keep(req: user_req_t) -> int:
            kept.append(req)
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        play(keep)
        assert tux(TUX_ACTION_FINISH_REQ, kept[0]) == -errno.EINVAL

    @pytest.mark.parametrize(
        ("buffer", "size", "number"),
        [
            (b"abc", 0, errno.EINVAL),
            (b"abc", 4, errno.EINVAL),
            (None, 3, errno.EFAULT),
            ("abc", 3, errno.EFAULT),
            (7, 3, errno.EFAULT),
        ],
    )
    def test_wrong_buffers(self, buffer: Any, size: int, number: int) -> None:
        def send(req: user_req_t) -> int:
            req.object_addr, req.objectlen = buffer, size
            assert tux(TUX_ACTION_SEND_BUFFER, req) == -number
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        assert play(send).end == "redirect"

    @pytest.mark.parametrize("name", ["", "/", "a\0b"])
    def test_wrong_names(self, name: str) -> None:
        def look(req: user_req_t) -> int:
            req.objectname = name
            assert tux(TUX_ACTION_GET_OBJECT, req) == -errno.EINVAL
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        assert play(look).end == "redirect"

    @pytest.mark.parametrize("wrong", [None, 7, b"x"])
    def test_what_is_no_structure(self, wrong: Any) -> None:
        def call(req: user_req_t) -> int:
            assert tux(TUX_ACTION_FINISH_REQ, wrong) == -errno.EFAULT
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        assert play(call).end == "redirect"

    def test_actions_of_the_server(self, caplog: pytest.LogCaptureFixture) -> None:
        def call(req: user_req_t) -> int:
            assert tux(TUX_ACTION_STARTUP, None) == -errno.EINVAL
            assert tux(TUX_ACTION_SHUTDOWN, None) == -errno.EPERM
            assert tux(TUX_ACTION_STARTTHREAD, req) == -errno.EINVAL
            assert tux(TUX_ACTION_STOPTHREAD, req) == -errno.EPERM
            assert tux(0, req) == -errno.EINVAL
            assert tux(MAX_TUX_ACTION, req) == -errno.EINVAL
            return tux(TUX_ACTION_REDIRECT_REQ, req)

        assert play(call).end == "redirect"
        assert "tux(24): there is no such action" in caplog.text
        assert "tux(STARTUP): the server is up already" in caplog.text

    @pytest.mark.parametrize("action", range(1, MAX_TUX_ACTION))
    def test_without_a_request(self, action: int) -> None:
        allowed: dict[int, int] = {TUX_ACTION_QUERY_VERSION: 3 << 24}
        number = tux(action, user_req_t())
        assert number == allowed.get(action, number)
        assert number < 0 or action in allowed


class TestWithoutRequest:
    def test_query_version(self) -> None:
        assert tux(TUX_ACTION_QUERY_VERSION, None) == 0x03000000

    def test_current_date(self) -> None:
        req = user_req_t(new_date="Sun, 06 Nov 1994 08:49:37 GMT")
        assert tux(TUX_ACTION_CURRENT_DATE, req) == 0
        for wrong in ("", "yesterday", "Sun, 06 Nov 1994 08:49:37 GMT" * 2):
            req.new_date = wrong
            assert tux(TUX_ACTION_CURRENT_DATE, req) == -errno.EINVAL

    @pytest.mark.parametrize(
        ("fields", "number"),
        [
            ({"objectname": "", "object_addr": "a/b"}, errno.EINVAL),
            ({"objectname": "x", "object_addr": "ab"}, errno.EINVAL),
            ({"objectname": "x", "object_addr": "a/b\r\n"}, errno.EINVAL),
            ({"objectname": "x", "object_addr": "a/b", "cache_control": "1s"}, errno.EINVAL),
            ({"objectname": "x"}, errno.EFAULT),
        ],
    )
    def test_wrong_types(self, fields: dict[str, Any], number: int) -> None:
        assert tux(TUX_ACTION_REGISTER_MIMETYPE, user_req_t(**fields)) == -number

    def test_types_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mimetypes, "_types", {})
        monkeypatch.setattr(mimetypes, "MAX_TYPES", 2)
        req = user_req_t(object_addr=b"a/b")
        for name, number in (("a", 0), ("b", 0), ("c", -errno.ENOMEM), ("a", 0)):
            req.objectname = name
            assert tux(TUX_ACTION_REGISTER_MIMETYPE, req) == number


def test_the_face_of_a_test_is_one() -> None:
    from tux.compat.face import Face

    face: Face = FakeFace()
    assert face.method == "GET"
