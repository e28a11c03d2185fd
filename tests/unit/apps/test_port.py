"""The process's end of the rings."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.apps import engine_double as wire
from tests.unit.apps.engine_double import EngineDouble
from tux import _app
from tux._app import LengthError, Port, Request

HEAD = b"GET /a%20b?q=1 HTTP/1.1\r\nHost: example.org\r\nX-Custom: \xe4 b\r\nHOST-2: \r\n\r\n"


@dataclass
class Rig:
    port: Port
    engine: EngineDouble
    event_fd: int
    control: socket.socket

    def take(self) -> tuple[int, int, object]:
        event = self.port.take()
        assert event is not None
        return event

    def begin(self, *, tag: int = 0, serial: int = 1, method: bytes = b"GET") -> int:
        """A request is there, and was taken: its key."""
        self.engine.get(tag, serial, method=method)
        kind, key, _ = self.take()
        assert kind == _app.REQUEST
        return key

    def second(self) -> EngineDouble:
        other = EngineDouble(self.event_fd, serial=2)
        self.port.attach(other.serial, *other.descriptors)
        return other


@pytest.fixture
def rig() -> Iterator[Rig]:
    event_fd, epoll_fd = _app.wake_pair()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    port = Port(epoll_fd, theirs)
    engine = EngineDouble(event_fd)
    port.attach(engine.serial, *engine.descriptors)
    yield Rig(port, engine, event_fd, ours)
    del port
    engine.close()
    ours.close()
    theirs.close()
    os.close(event_fd)


def test_a_request_says_what_the_head_says(rig: Rig) -> None:
    rig.engine.request(HEAD, body=b"xyz", complete=False, length=10, flags=wire.UPGRADES | wire.HTTPS)
    kind, key, request = rig.take()
    assert kind == _app.REQUEST
    assert isinstance(request, Request)
    assert request.key == key
    assert (request.method, request.target, request.path, request.query) == (
        "GET", b"/a%20b?q=1", b"/a%20b", b"q=1",
    )  # fmt: skip
    assert request.headers == [(b"host", b"example.org"), (b"x-custom", b"\xe4 b"), (b"host-2", b"")]
    assert (request.minor, request.scheme, request.listener) == (1, "https", 3)
    assert request.client == ("192.0.2.7", 40000)
    assert request.server == ("192.0.2.1", 8080)
    assert (request.body, request.complete, request.length, request.upgrade) == (b"xyz", False, 10, True)
    assert rig.port.take() is None


def test_unix_sockets_have_no_client(rig: Rig) -> None:
    rig.engine.request(b"GET / HTTP/1.0\r\n\r\n", peer=("", 0), local=("/run/tux.sock", 0))
    request = rig.take()[2]
    assert isinstance(request, Request)
    assert (request.client, request.server, request.minor) == (None, ("/run/tux.sock", None), 0)
    assert (request.query, request.headers) == (b"", [])


def test_an_engine_that_always_has_more_keeps_no_other_waiting(rig: Rig) -> None:
    other = rig.second()
    for tag in range(3):
        rig.engine.request(b"GET /first HTTP/1.1\r\n\r\n", tag=tag)
        other.request(b"GET /second HTTP/1.1\r\n\r\n", tag=tag)
    paths = []
    while (event := rig.port.take()) is not None:
        assert isinstance(event[2], Request)
        paths.append(event[2].path)
    assert paths == [b"/first", b"/second"] * 3
    other.close()


def test_the_host_of_an_absolute_target_counts(rig: Rig) -> None:
    head = b"GET http://b.example/x HTTP/1.1\r\nHost: a.example\r\nA: 1\r\n\r\n"
    rig.engine.request(head, flags=wire.ABSOLUTE)
    request = rig.take()[2]
    assert isinstance(request, Request)
    assert request.headers == [(b"host", b"b.example"), (b"a", b"1")]
    assert request.path == b"/x"


def test_one_record_answers(rig: Rig) -> None:
    key = rig.begin(tag=5, serial=77)
    fields = [(b"Content-Type", b"text/plain"), (b"Connection", b"close"), (b"Transfer-Encoding", b"chunked")]
    assert rig.port.answer(key, 201, fields, body=b"hello", end=True)
    said = rig.engine.hear()
    assert (said.kind, said.status, said.tag, said.serial, said.end) == (wire.ANSWER, 201, 5, 77, True)
    assert (said.length, said.fields, said.body) == (5, b"Content-Type: text/plain\r\n", b"hello")
    assert rig.engine.hear_all() == []
    assert not rig.port.data(key, b"more")  # it is over
    assert not rig.port.answer(key, 200, [])
    assert rig.port.window(key) == 0
    assert (rig.port.open, rig.port.finished) == (0, 1)


@pytest.mark.parametrize(
    "field",
    [(b"", b"x"), (b"a b", b"x"), (b"a:", b"x"), (b"a", b"x\r\nb: y"), (b"a", b"\0"), (b"a\n", b"x"), (b"a", b"x\n")],
)
def test_no_field_splits_an_answer(rig: Rig, field: tuple[bytes, bytes]) -> None:
    key = rig.begin()
    with pytest.raises(ValueError, match="cannot be"):
        rig.port.answer(key, 200, [(b"ok", b"ok"), field], end=True)
    assert rig.engine.hear_all() == []
    assert rig.port.answer(key, 500, [], end=True)


@pytest.mark.parametrize("reason", [b"OK\r\nA: b", b"a\nb", b"\0", b"x" * 1025])
def test_no_reason_splits_an_answer(rig: Rig, reason: bytes) -> None:
    key = rig.begin()
    with pytest.raises(ValueError, match="reason"):
        rig.port.answer(key, 200, [], end=True, reason=reason)
    assert rig.engine.hear_all() == []
    assert rig.port.answer(key, 200, [(b"a", b"b")], body=b"body", end=True, reason=b"\xc7a va")
    said = rig.engine.hear()
    assert (said.reason, said.fields, said.body) == (b"\xc7a va", b"a: b\r\n", b"body")


def test_content_length_may_be_a_field(rig: Rig) -> None:
    key = rig.begin()
    assert rig.port.answer(key, 200, [(b"Content-Length", b"3"), (b"a", b"b")])
    said = rig.engine.hear()
    assert (said.length, said.fields) == (3, b"a: b\r\n")
    with pytest.raises(LengthError):
        rig.port.data(key, b"four")
    assert rig.port.data(key, b"abc", end=True)
    assert rig.engine.hear().body == b"abc"


@pytest.mark.parametrize("value", [b"-1", b"x", b"1, 1", b"9999999999999999999", b""])
def test_content_length_is_a_number(rig: Rig, value: bytes) -> None:
    key = rig.begin()
    with pytest.raises(ValueError, match="Content-Length"):
        rig.port.answer(key, 200, [(b"content-length", value)])


def test_lengths_that_differ_are_an_error(rig: Rig) -> None:
    key = rig.begin()
    with pytest.raises(LengthError):
        rig.port.answer(key, 200, [(b"content-length", b"3")], body=b"four", end=True)
    with pytest.raises(LengthError):
        rig.port.answer(key, 200, [(b"content-length", b"3")], length=4)


def test_a_body_that_ends_early_is_an_error(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    key = rig.begin()
    rig.port.answer(key, 200, [], length=10)
    rig.port.data(key, b"abc")
    with pytest.raises(LengthError, match="the body ends 6 bytes before its length"):
        rig.port.data(key, b"d", end=True)
    with file.open("rb") as opened, pytest.raises(LengthError, match="the body ends 4 bytes before its length"):
        rig.port.file(key, opened.fileno(), 0, 3)
    rig.port.data(key, b"defghij", end=True)
    assert [one.n for one in rig.engine.hear_all()] == [0, 3, 7]


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 304)])
def test_a_body_that_is_not_sent_does_not_end_early(rig: Rig, method: bytes, status: int) -> None:
    key = rig.begin(method=method)
    rig.port.answer(key, status, [], length=10)
    rig.port.data(key, b"", end=True)
    assert [(one.n, one.end) for one in rig.engine.hear_all()] == [(0, False), (0, True)]


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_answers_without_body(rig: Rig, method: bytes, status: int) -> None:
    key = rig.begin(method=method)
    assert rig.port.answer(key, status, [], body=b"dropped", end=True)
    said = rig.engine.hear()
    assert (said.length, said.body, said.end) == (-1, b"", True)


def test_large_bodies_go_in_pieces_within_the_window(rig: Rig) -> None:
    key = rig.begin()
    body = bytes(range(256)) * 4096  # 1 MiB: four windows
    assert rig.port.answer(key, 200, [], body=body, end=True)
    assert rig.port.window(key) == _app.WINDOW - len(body)
    heard = [rig.engine.hear()]
    got = heard[0].body
    for _ in range(100):
        for said in rig.engine.hear_all():
            heard.append(said)
            got += said.body
        if heard[-1].end:
            break
        assert len(got) % _app.WINDOW == 0
        rig.engine.say(wire.CREDIT, n=_app.WINDOW)
        assert rig.take()[0] == _app.CREDIT
    assert heard[0].length == len(body)
    assert got == body
    assert rig.port.open == 0


@pytest.mark.parametrize("window", [0, 10])
def test_a_small_window_is_kept_to_from_the_beginning(rig: Rig, window: int) -> None:
    rig.engine.request(b"GET / HTTP/1.1\r\n\r\n", window=window)
    key = rig.take()[1]
    assert rig.port.window(key) == window
    body = bytes(range(100))
    assert rig.port.answer(key, 200, [], body=body, end=True, remember_ms=1000)
    said = rig.engine.hear()
    assert (said.length, said.body, said.end, said.remember_ms) == (100, body[:window], False, 0)
    assert (rig.port.window(key), rig.port.open) == (window - 100, 1)
    rig.engine.say(wire.CREDIT, n=1000)
    rig.take()
    said = rig.engine.hear()
    assert (said.kind, said.body, said.end) == (wire.DATA, body[window:], True)
    assert rig.port.open == 0


def test_a_file_waits_for_a_window(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"file")
    rig.engine.request(b"GET / HTTP/1.1\r\n\r\n", window=0)
    key = rig.take()[1]
    assert rig.port.kept(key, os.fsencode(tmp_path / "file")) is None
    assert rig.port.answer(key, 200, [], length=4)
    with (tmp_path / "file").open("rb") as file:
        assert rig.port.file(key, file.fileno(), 0, 4)
    assert [said.kind for said in rig.engine.hear_all()] == [wire.ANSWER]
    rig.engine.say(wire.CREDIT, n=1)
    rig.take()
    assert [said.kind for said in rig.engine.hear_all()] == [wire.FILE]
    assert rig.port.open == 0


def test_what_is_kept_stays_in_order(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"file")
    key = rig.begin()
    assert rig.port.answer(key, 200, [], trailers=True)
    assert rig.port.data(key, bytes(_app.WINDOW - 10))
    assert rig.port.window(key) == 10
    assert rig.port.data(key, b"0123456789abc")
    with path.open("rb") as file:
        assert rig.port.file(key, file.fileno(), 0, 4, end=False)
    assert rig.port.data(key, b"last")
    assert rig.port.trailers(key, [(b"digest", b"x")])
    assert rig.port.window(key) < 0
    sent = rig.engine.hear_all()
    assert sum(said.n for said in sent) == _app.WINDOW
    assert sent[-1].body[-10:] == b"0123456789"
    rig.engine.say(wire.CREDIT, n=_app.WINDOW)
    rig.take()
    rest = rig.engine.hear_all()
    assert [said.kind for said in rest] == [wire.DATA, wire.FILE, wire.DATA, wire.TRAILER]
    assert (rest[0].body, rest[2].body, rest[3].rest) == (b"abc", b"last", b"digest: x\r\n")
    fd = rig.engine.descriptor()
    assert os.pread(fd, 10, 0) == b"file"
    os.close(fd)


def test_a_file_goes_by_its_descriptor(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    key = rig.begin()
    assert rig.port.answer(key, 200, [], length=4)
    with path.open("rb") as file:
        assert rig.port.file(key, file.fileno(), 3, 4)
    rig.engine.hear()
    said = rig.engine.hear()
    assert (said.kind, said.flags, said.file) == (wire.FILE, wire.END | wire.DESCRIPTOR, (3, 4, 1, wire.NO_HANDLE))
    fd = rig.engine.descriptor()
    assert os.pread(fd, 4, 3) == b"3456"
    os.close(fd)


def send(rig: Rig, path: Path) -> wire.Said:
    """What is said when this file is the answer."""
    key = rig.begin()
    assert rig.port.answer(key, 200, [], length=4)
    with path.open("rb") as file:
        assert rig.port.file(key, file.fileno(), 0, 4)
    *others, said = rig.engine.hear_all()
    assert [other.kind for other in others if other.kind != wire.ANSWER] in ([], [wire.FORGET])
    if said.flags & wire.DESCRIPTOR:
        os.close(rig.engine.descriptor())
    return said


def test_a_file_that_is_sent_again_is_kept_and_then_named(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"file")
    assert send(rig, path).file == (0, 4, 1, wire.NO_HANDLE)
    said = send(rig, path)
    assert (said.flags, said.file[2]) == (wire.END | wire.DESCRIPTOR, 2)
    handle = said.file[3]
    assert handle != wire.NO_HANDLE
    for _ in range(2):
        said = send(rig, path)
        assert (said.flags, said.file) == (wire.END, (0, 4, 0, handle))
    path.write_bytes(b"other")
    assert send(rig, path).file == (0, 4, 3, wire.NO_HANDLE)
    # What the engine does not want to keep is forgotten.
    said = send(rig, path)
    rig.engine.say(wire.UNUSED, n=said.file[3])
    assert rig.port.take() is None
    forget = rig.engine.hear()
    assert (forget.kind, forget.n) == (wire.FORGET, said.file[3])
    assert send(rig, path).file == (0, 4, 5, wire.NO_HANDLE)
    rig.engine.say(wire.UNUSED, n=1 << 31)
    assert rig.port.take() is None


def test_a_file_that_is_kept_is_found_by_its_path(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"file")
    send(rig, path)
    key = rig.begin()
    assert rig.port.kept(key, bytes(path)) is None
    handle = send(rig, path).file[3]
    key = rig.begin()
    for missing in (bytes(tmp_path / "absent"), bytes(path) + b"\0", bytes(path) + b"\0x", b""):
        assert rig.port.kept(key, missing) is None
    kept = rig.port.kept(key, bytes(path))
    assert kept is not None
    name, size = kept
    assert size == 4
    assert rig.port.answer(key, 200, [], length=4)
    for nothing in (-1, name - 1, name + 1, -1000, -(1 << 31)):
        with pytest.raises(ValueError, match="neither a descriptor nor"):
            rig.port.file(key, nothing, 0, 4)
    assert rig.port.file(key, name, 0, 4)
    assert rig.port.kept(key, bytes(path)) is None  # the exchange is over
    said = rig.engine.hear_all()[-1]
    assert (said.flags, said.file) == (wire.END, (0, 4, 0, handle))
    path.write_bytes(b"other")
    assert rig.port.kept(rig.begin(), bytes(path)) is None


def test_files_that_are_sent_often_are_kept(rig: Rig, tmp_path: Path) -> None:
    paths = [tmp_path / str(n) for n in range(40)]
    for path in paths:
        path.write_bytes(b"file")
        send(rig, path)
        send(rig, path)
        assert send(rig, path).flags == wire.END
        assert send(rig, paths[0]).flags == wire.END
    assert send(rig, paths[1]).flags == wire.END | wire.DESCRIPTOR


def test_bodies_of_requests_and_their_credit(rig: Rig) -> None:
    rig.engine.request(b"POST / HTTP/1.1\r\n\r\n", complete=False)
    _, key, _ = rig.take()
    rig.engine.say(wire.BODY, n=3, rest=b"abc")
    rig.engine.say(wire.BODY, n=0, flags=wire.END)
    assert rig.take() == (_app.BODY, key, (b"abc", False))
    rig.port.credit(key, _app.WINDOW // 4 - 1)
    assert rig.engine.hear_all() == []
    rig.port.credit(key, 1)
    said = rig.engine.hear()
    assert (said.kind, said.n) == (wire.CONSUMED, _app.WINDOW // 4)
    assert rig.take() == (_app.BODY, key, (b"", True))
    rig.port.credit(key, _app.WINDOW)  # nobody needs to know any more
    assert rig.engine.hear_all() == []


def test_a_client_that_is_gone(rig: Rig) -> None:
    key = rig.begin()
    rig.engine.say(wire.GONE)
    assert rig.take() == (_app.GONE, key, False)
    assert rig.port.answer(key, 200, [])
    rig.engine.say(wire.GONE, flags=wire.HARD)
    assert rig.take() == (_app.GONE, key, True)
    assert not rig.port.data(key, b"x", end=True)
    again = rig.begin(serial=2)  # the same tag
    assert again != key
    assert not rig.port.data(key, b"x")


def test_late_events_meet_no_other_exchange(rig: Rig) -> None:
    key = rig.begin(serial=8)
    rig.engine.say(wire.BODY, serial=7, n=1, rest=b"x")
    rig.engine.say(wire.CREDIT, tag=4000, serial=8, n=1)
    assert rig.port.take() is None
    assert rig.port.window(key) == _app.WINDOW


def test_small_words(rig: Rig) -> None:
    first, second, third = rig.begin(), rig.begin(tag=1, serial=2), rig.begin(tag=2, serial=3)
    assert rig.port.inform(first, 103, [(b"link", b"</a>")])
    assert rig.port.upgrade(first, [(b"Upgrade", b"websocket"), (b"Connection", b"upgrade")])
    rig.port.abort(second)
    rig.port.next(third)
    said = rig.engine.hear_all()
    assert [(one.kind, one.tag, one.status) for one in said] == [
        (wire.INFORM, 0, 103), (wire.UPGRADE, 0, 0), (wire.ABORT, 1, 0), (wire.NEXT, 2, 0),
    ]  # fmt: skip
    assert said[1].rest == b"Upgrade: websocket\r\n"
    assert rig.port.open == 1
    with pytest.raises(RuntimeError):
        rig.port.answer(first, 200, [])


def test_words_out_of_order_are_errors(rig: Rig) -> None:
    key = rig.begin()
    with pytest.raises(RuntimeError):
        rig.port.data(key, b"x")
    with pytest.raises(RuntimeError):
        rig.port.trailers(key, [])
    with pytest.raises(ValueError, match="status 100"):
        rig.port.inform(key, 100, [])
    with pytest.raises(ValueError, match="status 99"):
        rig.port.answer(key, 99, [])
    assert rig.engine.hear_all() == []


def test_engines_are_woken_when_they_sleep(rig: Rig) -> None:
    key = rig.begin()
    rig.port.answer(key, 200, [])
    rig.port.flush()
    wakes = [rig.engine.raised()]
    rig.engine.sleep()
    rig.port.data(key, b"x")
    wakes.append(rig.engine.raised())
    rig.port.flush()
    wakes.append(rig.engine.raised())
    rig.engine.sleep()
    rig.port.data(key, b"y", end=True)
    assert rig.port.sleep()
    wakes.append(rig.engine.raised())
    assert wakes == [False, False, True, True]
    assert rig.engine.load == 0


def test_the_first_record_after_a_flush_is_told(rig: Rig) -> None:
    told: list[str] = []
    rig.port.on_write(lambda: told.append("written"))
    key = rig.begin()
    rig.port.answer(key, 200, [])
    rig.port.data(key, b"x")
    assert told == ["written"]
    rig.port.flush()
    rig.port.data(key, b"y", end=True)
    assert told == ["written", "written"]


def test_the_load_is_what_is_open(rig: Rig) -> None:
    keys = [rig.begin(tag=tag) for tag in range(3)]
    assert rig.port.take() is None
    assert rig.engine.load == 3
    rig.port.answer(keys[1], 200, [], end=True)
    assert rig.port.take() is None
    assert rig.engine.load == 2


def test_the_pace_is_how_long_requests_take(rig: Rig) -> None:
    def serve(seconds: float = 0.0) -> None:
        rig.port.awake()
        key = rig.begin()
        if seconds:
            assert rig.port.sleep()  # as a coroutine that waits for a database
            time.sleep(seconds)
            rig.port.awake()
        rig.port.answer(key, 200, [], end=True)
        assert rig.port.sleep()
        rig.engine.hear_all()

    assert rig.engine.pace_us > 999_999  # nothing is known
    for _ in range(200):
        serve()
    quick = rig.engine.pace_us
    assert 0 < quick < 50_000
    for _ in range(20):
        serve(0.002)
    assert rig.engine.pace_us > 1_000
    second = rig.second()
    assert second.pace_us == rig.engine.pace_us
    second.close()


def test_waiting_ends_with_a_request(rig: Rig) -> None:
    assert not rig.port.wait(0)

    def come() -> None:
        rig.engine.get()
        rig.engine.wake()

    waker = threading.Timer(0.05, come)
    waker.start()
    assert rig.port.wait(10_000)
    waker.join()
    assert rig.take()[0] == _app.REQUEST
    rig.engine.get(1, 2)
    assert rig.port.wait(10_000)  # without a wake-up: it is there


def test_waiting_ends_with_a_signal(rig: Rig) -> None:
    seen = []
    before = signal.signal(signal.SIGUSR2, lambda number, _frame: seen.append(number))
    sender = threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGUSR2))
    sender.start()
    while not seen:
        assert not rig.port.wait(10_000)
    sender.join()
    signal.signal(signal.SIGUSR2, before)


def test_an_engine_that_dies(rig: Rig) -> None:
    key = rig.begin()
    other = rig.second()
    other.get()
    other_key = rig.take()[1]
    rig.engine.side.close()
    assert rig.port.wait(10_000)
    assert rig.take() == (_app.GONE, key, True)
    assert rig.take()[0] == _app.ENGINE_GONE
    assert rig.port.take() is None
    assert rig.control.recv(64) == struct.pack("<4sI", b"LOST", 1)
    assert not rig.port.answer(key, 200, [], end=True)
    assert rig.port.answer(other_key, 200, [], end=True)
    assert other.hear().end
    other.close()


def test_a_broken_engine_is_a_dead_one(rig: Rig) -> None:
    key = rig.begin()
    rig.engine.requests.set_word(0, 12345)
    assert rig.take() == (_app.GONE, key, True)
    assert rig.take()[0] == _app.ENGINE_GONE
    assert rig.port.links == 0


def test_leaving(rig: Rig) -> None:
    other = rig.second()
    key = rig.begin()
    rig.port.drain()
    assert rig.port.wait(10_000)
    for engine in (rig.engine, other):
        assert engine.hear().kind == wire.LEAVE
    rig.engine.get(1, 2)
    rig.engine.say(wire.DRAIN)
    assert rig.take()[0] == _app.REQUEST
    assert rig.port.take() is None
    other.say(wire.DRAIN)
    assert rig.port.take() == (_app.DRAIN, 0, None)
    assert rig.port.take() is None
    late = EngineDouble(rig.event_fd, serial=3)
    rig.port.attach(late.serial, *late.descriptors)
    assert late.hear().kind == wire.LEAVE
    assert rig.port.answer(key, 200, [], end=True)
    late.close()
    other.close()


def test_links_come_from_the_supervisor(rig: Rig) -> None:
    other = EngineDouble(rig.event_fd, serial=9)
    socket.send_fds(rig.control, [struct.pack("<4sI", b"LINK", 9)], list(other.descriptors))
    for fd in other.descriptors:
        os.close(fd)
    assert rig.port.wait(10_000)
    assert rig.port.links == 2
    other.get()
    assert rig.take()[0] == _app.REQUEST
    rig.control.send(b"DRAIN")
    rig.port.wait(10_000)
    assert other.hear().kind == wire.LEAVE
    other.close()


def test_the_end_of_the_supervisor_drains(rig: Rig) -> None:
    rig.control.close()
    rig.port.wait(10_000)
    assert rig.engine.hear().kind == wire.LEAVE


def test_a_full_ring_waits_for_the_engine(rig: Rig) -> None:
    keys = [rig.begin(tag=tag) for tag in range(8)]
    read: list[wire.Said] = []

    def engine() -> None:
        while sum(said.end for said in read) < len(keys):
            if rig.engine.raised():
                rig.engine.sleep()
            read.extend(rig.engine.hear_all())

    rig.engine.sleep()
    reader = threading.Thread(target=engine)
    reader.start()
    for key in keys:
        assert rig.port.answer(key, 200, [], body=bytes(_app.WINDOW), end=True)
    rig.port.flush()
    reader.join()
    assert sum(said.n for said in read) == len(keys) * _app.WINDOW


def test_a_full_ring_of_a_dead_engine_is_no_trap(rig: Rig) -> None:
    keys = [rig.begin(tag=tag) for tag in range(3)]
    closer = threading.Timer(0.05, rig.engine.side.close)
    closer.start()
    assert not all(rig.port.answer(key, 200, [], body=bytes(_app.WINDOW), end=True) for key in keys)
    closer.join()


def test_retirement(rig: Rig) -> None:
    retired: list[int] = []
    rig.port.limits(2, 0, lambda: retired.append(1))
    for tag in range(3):
        assert retired == [1][: max(0, tag - 1)]
        rig.port.answer(rig.begin(tag=tag), 200, [], end=True)
    assert retired == [1]


def test_a_process_that_is_too_large(rig: Rig) -> None:
    retired: list[int] = []
    rig.port.limits(0, 1, lambda: retired.append(1))
    rig.port.abort(rig.begin())
    assert retired == [1]
    rig.port.limits(0, 1 << 50, lambda: retired.append(2))
    rig.port.abort(rig.begin())
    assert retired == [1]


def test_a_hostile_or_broken_engine_only_says_nothing(rig: Rig) -> None:
    rig.engine.requests.write(b"")
    rig.engine.requests.write(b"\x01" * 15)
    rig.engine.requests.write(b"\x01" * 200)
    rig.engine.say(99)
    rig.engine.say(wire.BODY, n=100)
    assert rig.port.take() is None


def test_a_ring_that_is_none_is_refused(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4096))
    fds = [os.open(tmp_path / "file", os.O_RDWR) for _ in range(4)]
    with pytest.raises(OSError, match="Invalid"):
        rig.port.attach(1, *fds)


def test_an_object_is_named(rig: Rig) -> None:
    key = rig.begin(tag=2, serial=9)
    assert rig.port.object(key, b"/a b.html", [(b"X-A", b"1"), (b"Content-Length", b"7")], 201, close=True)
    said = rig.engine.hear()
    assert (said.kind, said.status, said.tag, said.serial, said.flags) == (wire.OBJECT, 201, 2, 9, wire.CLOSE)
    assert said.object == (b"X-A: 1\r\n", b"/a b.html")
    assert rig.port.open == 0
    assert not rig.port.object(key, b"/a")
    key = rig.begin()
    assert rig.port.object(key, b"/b")
    assert rig.engine.hear().object == (b"", b"/b")


@pytest.mark.parametrize("path", [b"", b"a", b"/a\0", b"/" + b"a" * 4095])
def test_what_is_no_path(rig: Rig, path: bytes) -> None:
    key = rig.begin()
    with pytest.raises(ValueError, match="cannot be the path"):
        rig.port.object(key, path)
    with pytest.raises(ValueError, match="cannot be the path"):
        rig.port.lookup(key, path)
    with pytest.raises(ValueError, match="status 204"):
        rig.port.object(key, b"/a", status=204)
    with pytest.raises(ValueError, match="cannot be"):
        rig.port.object(key, b"/a", [(b"a b", b"")])
    assert rig.engine.hear_all() == []
    assert rig.port.open == 1


def test_lookups_come_back_with_descriptors(rig: Rig, tmp_path: Path) -> None:
    key = rig.begin(tag=3, serial=7)
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert rig.port.lookup(key, b"/file")
    said = rig.engine.hear()
    assert (said.kind, said.tag, said.serial, said.n, said.rest) == (wire.LOOKUP, 3, 7, 5, b"/file")
    with pytest.raises(RuntimeError, match="under way"):
        rig.port.lookup(key, b"/file")
    with pytest.raises(RuntimeError, match="under way"):
        rig.port.object(key, b"/file")
    with path.open() as file:
        rig.engine.found(
            tag=3, serial=7, size=7, modified=5, fd=file.fileno(), number=1, media_type=b"text/plain", etag=b'"e"'
        )
    kind, same, found = rig.take()
    assert (kind, same) == (_app.OBJECT, key)
    assert isinstance(found, _app.Object)
    assert (found.status, found.size, found.modified) == (200, 7, 5)
    assert (found.media_type, found.etag) == (b"text/plain", b'"e"')
    assert os.pread(found.fd, 10, 0) == b"content"
    assert not os.get_inheritable(found.fd)
    os.close(found.fd)
    assert rig.port.lookup(key, b"/none")
    rig.engine.found(404, tag=3, serial=7)
    found = rig.take()[2]
    assert isinstance(found, _app.Object)
    assert (found.status, found.fd) == (404, -1)
    assert rig.port.answer(key, 200, [], end=True)


def test_a_descriptor_for_an_exchange_that_is_over_is_closed(rig: Rig, tmp_path: Path) -> None:
    key = rig.begin()
    assert rig.port.lookup(key, b"/file")
    assert rig.port.answer(key, 200, [], end=True)
    reader, writer = os.pipe()
    rig.engine.found(fd=writer, number=1)
    os.close(writer)
    assert rig.port.take() is None
    assert os.read(reader, 1) == b""
    os.close(reader)
    key = rig.begin(serial=2)
    assert rig.port.lookup(key, b"/file")
    rig.engine.found(number=2, serial=2)  # there was no room for the descriptor
    found = rig.take()[2]
    assert isinstance(found, _app.Object)
    assert (found.status, found.fd) == (503, -1)


def test_answers_say_what_may_be_remembered(rig: Rig) -> None:
    key = rig.begin()
    body = b"x" * 60_000
    assert rig.port.answer(key, 200, [], body=body, end=True, remember_ms=1500, ignore_query=True)
    said = rig.engine.hear()
    assert (said.flags, said.remember_ms, said.body) == (wire.END | wire.GENERAL, 1500, body)
    key = rig.begin()
    assert rig.port.answer(key, 200, [], body=b"x", end=True, remember_ms=1 << 40, close=True)
    said = rig.engine.hear()
    assert (said.flags, said.remember_ms) == (wire.END | wire.CLOSE, 0xFFFFFFFF)
    key = rig.begin()
    assert rig.port.answer(key, 200, [], body=b"x" * 65_537, end=True, remember_ms=10)
    first, *_, last = rig.engine.hear_all()
    assert (first.flags, first.remember_ms, last.flags) == (0, 0, wire.END)
    key = rig.begin()
    assert rig.port.answer(key, 200, [], remember_ms=10)
    assert rig.port.data(key, b"x", end=True, close=True)
    first, last = rig.engine.hear_all()
    assert (first.remember_ms, last.flags) == (0, wire.END | wire.CLOSE)


def test_declining(rig: Rig) -> None:
    rig.port.next(rig.begin())
    rig.port.next(rig.begin(), forward=True)
    assert [(said.kind, said.flags) for said in rig.engine.hear_all()] == [(wire.NEXT, 0), (wire.NEXT, wire.FORWARD)]
