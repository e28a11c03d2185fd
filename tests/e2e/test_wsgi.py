# SPDX-License-Identifier: MIT
"""WSGI applications behind the real server: PEP 3333 without a framework, and Flask, Django and Bottle as they are."""

from __future__ import annotations

import hashlib
import os
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tux
from tests.corpus.reader import ClosedError
from tests.e2e.client import address_of, open_socket, request, until
from tests.e2e.dynamic import Ask, Connection, Reply, asking
from tests.e2e.pages import CHECKS

SITES = Path(__file__).parent / "sites"
CANNOT = {("django_site", "ranges"), ("django_site", "chunked_bodies"), ("bottle_site", "chunked_bodies")}
"""What these frameworks do not do: no Range in FileResponse; bodies end where Content-Length says, and only there."""


@pytest.fixture(scope="module")
def file(site: Path) -> Path:
    """What the applications send when a file is asked for."""
    path = site / "download.bin"
    path.write_bytes(random.Random(7).randbytes(300_001))
    return path


Start = Callable[..., tux.Server]


@pytest.fixture(scope="module")
def start(file: Path) -> Iterator[Start]:
    """start("module:attribute", threads=4, workers=1, interface="wsgi"): a server of one of `sites`, for all tests."""
    servers: list[tux.Server] = []

    def starter(module: str, *, threads: int = 4, workers: int = 1, interface: str = "wsgi") -> tux.Server:
        server = tux.Server(
            app=module,
            app_dir=SITES,
            app_interface=interface,
            args=["--app-threads", str(threads), "--app-workers", str(workers), "--workers", "2"],
            env={"SITE_FILE": str(file)},
        )
        servers.append(server)
        return server.start()

    yield starter
    for server in servers:
        assert server.stop() == 0, server.stderr_text()
        assert "leaked" not in server.stderr_text()


# Frameworks


@pytest.fixture(scope="module", params=["flask_site", "bottle_site", "django_site"])
def framework(request: pytest.FixtureRequest, start: Start) -> tuple[str, Ask]:
    name: str = request.param
    return name, asking(start(name, workers=2, interface="auto"))


@pytest.mark.parametrize("check", CHECKS)
def test_frameworks_work_as_they_are(framework: tuple[str, Ask], file: Path, check: str) -> None:
    name, ask = framework
    if (name, check) in CANNOT:
        pytest.skip(f"not a thing of {name}")
    CHECKS[check](ask, file)


# PEP 3333, behind wsgiref.validate


@pytest.fixture(scope="module")
def plain(start: Start) -> tux.Server:
    return start("plain")


@pytest.fixture(scope="module")
def alone(start: Start) -> tux.Server:
    """With one thread in one process."""
    return start("plain", threads=1)


@pytest.fixture(scope="module", params=["plain", "alone"])
def either(request: pytest.FixtureRequest) -> tux.Server:
    server: tux.Server = request.getfixturevalue(request.param)
    return server


def test_the_reason_is_the_applications(plain: tux.Server) -> None:
    with open_socket(address_of(plain)) as sock, sock.makefile("rb") as answers:
        sock.sendall(request("/reason"))
        assert answers.readline() == b"HTTP/1.1 200 It's all right, \xe7a va\r\n"


def environ(reply: Reply) -> dict[str, str]:
    return dict(line.split("=", 1) for line in reply.body.decode("latin-1").splitlines())


def test_environ(plain: tux.Server) -> None:
    found = environ(asking(plain)("POST", "/environ?a=b&c", b"abc", x_one="1", content_type="text/x", host="e.org:81"))
    assert (
        found.items()
        >= {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/environ",
            "QUERY_STRING": "a=b&c",
            "CONTENT_TYPE": "text/x",
            "CONTENT_LENGTH": "3",
            "HTTP_X_ONE": "1",
            "HTTP_HOST": "e.org:81",
            "REMOTE_ADDR": "127.0.0.1",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": plain.url.rpartition(":")[2],
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "REQUEST_URI": "/environ?a=b&c",
        }.items()
    )
    assert 0 < int(found["REMOTE_PORT"]) < 65536
    assert "HTTP_CONTENT_TYPE" not in found


def test_environ_of_odd_requests(plain: tux.Server) -> None:
    with Connection(plain) as client:
        client.sock.sendall(
            b"GET http://e.org/%65nviron?%C3 HTTP/1.1\r\nHost: e.org\r\nCookie: a=1\r\nX_A: 1\r\nProxy: x\r\n"
            b"Cookie: b\r\nX-A: 2\r\nX-A: 3\r\nX-B: caf\xe9\r\n\r\n"
        )
        found = environ(client.answer())
    assert found["PATH_INFO"] == "/environ"
    assert found["HTTP_HOST"] == "e.org"
    assert found["QUERY_STRING"] == "%C3"
    assert found["HTTP_COOKIE"] == "a=1; b"
    assert found["HTTP_X_A"] == "2,3"
    assert found["HTTP_X_B"] == "caf\xe9"
    assert "HTTP_PROXY" not in found


def test_environ_behind_proxies_and_by_a_unix_socket(site: Path) -> None:
    options = {"app": "plain", "app_dir": SITES, "app_interface": "wsgi"}
    with tux.Server(**options, args=["--trusted", "127.0.0.1"]) as server:  # type: ignore[arg-type]
        found = environ(asking(server)("GET", "/environ", x_forwarded_for="192.0.2.1", x_forwarded_proto="https"))
        assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == ("192.0.2.1", "https")
        assert found["HTTPS"] == "on"
    socket_path = site / "wsgi.sock"
    with tux.Server(**options, listen=f"unix:{socket_path}") as server, Connection(server) as client:  # type: ignore[arg-type]
        found = environ(client.ask("/environ", x_forwarded_for="192.0.2.1", x_forwarded_proto="https"))
        assert (found["REMOTE_ADDR"], found["REMOTE_PORT"], found["wsgi.url_scheme"]) == ("", "", "http")
        assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("localhost", "80")


def test_chunked_body_that_is_short_has_a_length(plain: tux.Server) -> None:
    found = environ(asking(plain)("POST", "/environ", b"abcde", chunked=True))
    assert "HTTP_TRANSFER_ENCODING" not in found
    assert found.get("CONTENT_LENGTH", "5") == "5"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 65_536, 5_000_000])
def test_bodies_arrive_whole(either: tux.Server, size: int, chunked: bool) -> None:
    data = random.Random(size).randbytes(size)
    reply = asking(either)("POST", "/digest", data, chunked=chunked)
    assert reply.body.decode() == f"{size} {hashlib.sha256(data).hexdigest()}"


def test_body_streams_both_ways(either: tux.Server) -> None:
    """The application answers while it reads: neither side may wait for the other's end."""
    data = random.Random(3).randbytes(4_000_000)
    with Connection(either) as client:
        client.send("/echo", method="POST", content_length=str(len(data)))
        sender = threading.Thread(target=client.sock.sendall, args=(data,))
        sender.start()
        answer = client.answer("POST")
        sender.join()
    assert answer.value("transfer-encoding") == "chunked"
    assert answer.body == data


def test_expect_continue(either: tux.Server) -> None:
    with Connection(either) as client:
        client.send("/digest", method="POST", content_length="3", expect="100-continue")
        assert client.answer().status == 100
        client.sock.sendall(b"abc")
        assert client.answer("POST").body.startswith(b"3 ")


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_body_need_not_be_read(either: tux.Server, size: int) -> None:
    assert asking(either)("POST", "/unread", b"x" * 100).status == 413
    assert asking(either)("GET", "/written").status == 200


def test_write_and_blocks(either: tux.Server) -> None:
    assert asking(either)("GET", "/written").body == b"by write, by blocks"


def test_keep_alive_and_pipelining(either: tux.Server) -> None:
    with Connection(either) as client:
        client.sock.sendall(
            request("/written") + request("/missing") + request("/pid", method="HEAD") + request("/pid")
        )
        answers = [client.answer(method) for method in ("GET", "GET", "HEAD", "GET")]
        assert [answer.status for answer in answers] == [200, 404, 200, 200]
        assert answers[1].body == b"no such page"
        assert answers[3].body.isdigit()


def test_http_1_0_gets_blocks_until_the_end(either: tux.Server) -> None:
    with open_socket(address_of(either)) as sock:
        sock.sendall(b"GET /large?20 HTTP/1.0\r\n\r\n")
        data = b""
        while block := sock.recv(1 << 20):
            data += block
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"0123456789abcdef" * 4096 * 20


def test_slow_reader_gets_all(either: tux.Server) -> None:
    with Connection(either, receive_buffer=4096) as client:
        client.send("/large?100")
        assert client.answer().body == b"0123456789abcdef" * 4096 * 100


def test_length_that_is_too_small_cuts_the_body(either: tux.Server) -> None:
    reply = asking(either)("GET", "/length?3")
    assert (reply.value("content-length"), reply.body) == ("3", b"fiv")
    until(lambda: "gave 5 bytes or more, after a Content-Length of 3" in either.stderr_text(), "the error is logged")


def test_length_that_is_too_large_cuts_the_connection(either: tux.Server) -> None:
    with Connection(either) as client:
        client.send("/length?6")
        with pytest.raises(ClosedError):
            client.answer()
    until(lambda: "gave 5 bytes, after a Content-Length of 6" in either.stderr_text(), "the error is logged")


def test_error_before_the_first_byte(either: tux.Server) -> None:
    reply = asking(either)("GET", "/breaks?early")
    assert reply.status == 500
    assert b"purpose" not in reply.body
    until(lambda: "GET /breaks?early: the application failed" in either.stderr_text(), "it is logged")
    assert 'raise RuntimeError("broken on purpose")' in either.stderr_text()


def test_error_after_the_first_byte(either: tux.Server) -> None:
    with Connection(either) as client:
        client.send("/breaks?late")
        with pytest.raises(ClosedError) as caught:
            client.answer()
        assert b"some" in caught.value.received
    assert asking(either)("GET", "/written").status == 200


def test_responses_cannot_be_split(either: tux.Server) -> None:
    reply = asking(either)("GET", "/splits")
    assert reply.status == 500
    assert reply.all("x-injected") == []


def test_application_that_exits_does_not(either: tux.Server) -> None:
    ask = asking(either)
    before = ask("GET", "/pid").body
    assert ask("GET", "/leaves").status == 500
    assert ask("GET", "/pid").body == before


@pytest.mark.parametrize(("status", "length"), [("204+No+Content", []), ("304+Not+Modified", []), ("200+OK", ["0"])])
def test_statuses_without_body(either: tux.Server, status: str, length: list[str]) -> None:
    with Connection(either) as client:
        for _ in range(2):  # the connection goes on
            answer = client.ask(f"/nothing?{status}")
            assert (answer.status, answer.body) == (int(status[:3]), b"")
            assert answer.all("content-length") == length
            assert answer.all("transfer-encoding") == []


def test_head_is_without_body(either: tux.Server) -> None:
    with Connection(either) as client:
        for path in ("/large?1", "/written", "/environ"):
            assert client.ask(path, method="HEAD").body == b""
        assert client.ask("/pid").body.isdigit()


# Clients that leave


def test_client_that_leaves_ends_the_answer(either: tux.Server) -> None:
    client = Connection(either)
    client.send("/closes")
    assert client.sock.recv(100_000)
    client.reset()
    until(lambda: "endless was closed" in either.stderr_text(), "close() is called")
    assert asking(either)("GET", "/written").status == 200


def test_client_that_leaves_ends_the_body(either: tux.Server) -> None:
    client = Connection(either)
    client.send("/digest", b"abc", method="POST", content_length="1000")
    client.reset()
    assert asking(either)("POST", "/digest", b"abc").body.startswith(b"3 ")
    assert "POST /digest" not in either.stderr_text()  # no error of the application


# Threads


def test_threads_work_at_the_same_time(plain: tux.Server) -> None:
    ask = asking(plain)
    sleepers = [threading.Thread(target=ask, args=("GET", "/sleeps?1")) for _ in range(3)]
    before = plain.stderr_text().count("asleep")
    for sleeper in sleepers:
        sleeper.start()
    until(lambda: plain.stderr_text().count("asleep") == before + 3, "all of them are at work")
    assert ask("GET", "/written").status == 200
    assert all(sleeper.is_alive() for sleeper in sleepers)
    for sleeper in sleepers:
        sleeper.join()


@pytest.mark.parametrize("threads", [1, 3])
def test_uploads_that_wait_do_not_hold_up_others_for_long(start: Start, threads: int) -> None:
    """All threads wait for bodies; whoever sends his gets his answer, in whatever order they come."""
    server = start("plain", threads=threads)
    clients = [Connection(server) for _ in range(threads)]
    for client in clients:
        client.send("/digest", b"ab", method="POST", content_length="3")
    for client in reversed(clients):
        client.sock.sendall(b"c")
        assert client.answer("POST").body.startswith(b"3 ")
        client.close()


def test_crash_is_a_502_and_the_next_process_answers(start: Start) -> None:
    server = start("plain")
    ask = asking(server)
    before = ask("GET", "/pid").body
    assert ask("GET", "/dies").status == 502
    assert ask("GET", "/pid").body not in {before, b""}


def test_body_is_not_taken_faster_than_it_is_read(plain: tux.Server) -> None:
    size = 200_000_000
    with Connection(plain) as client:
        client.send("/sleeps?3", method="POST", content_length=str(size))
        client.sock.settimeout(0.5)
        sent = 0
        try:
            while sent < size:
                sent += client.sock.send(bytes(1_000_000))
        except TimeoutError:
            pass
        assert sent < 64_000_000  # what the windows and the buffers of two sockets take


def test_everybody_gets_his_own(plain: tux.Server) -> None:
    """Many clients, each with requests of all kinds, one after the other on its connection."""
    failures: list[str] = []

    def client(number: int) -> None:
        dice = random.Random(number)
        with Connection(plain) as connection:
            for i in range(60):
                mark = f"{number}.{i}"
                data = dice.randbytes(dice.choice([0, 10, 30_000, 200_000]))
                match dice.randrange(4):
                    case 0:
                        found = environ(connection.ask(f"/environ?{mark}"))["QUERY_STRING"]
                    case 1:
                        connection.send("/digest", data, method="POST", content_length=str(len(data)))
                        found = mark if connection.answer().body.endswith(_digest(data)) else "another's digest"
                    case 2:
                        connection.send("/echo", data, method="POST", content_length=str(len(data)))
                        found = mark if connection.answer().body == data else "another's bytes"
                    case _:
                        found = mark if connection.ask("/missing").status == 404 else "another's status"
                if found != mark:
                    failures.append(f"{mark}: {found}")

    clients = [threading.Thread(target=client, args=(number,)) for number in range(12)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert failures == []


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


# Files


@pytest.fixture(scope="module")
def files(start: Start) -> tux.Server:
    return start("plain:files")


@pytest.mark.parametrize("offset", [0, 1, 300_000, 300_001])
def test_file_by_the_server(files: tux.Server, file: Path, offset: int) -> None:
    reply = asking(files)("GET", f"/?{offset}")
    assert reply.value("content-length") == str(300_001 - offset)
    assert reply.body == file.read_bytes()[offset:]


def test_file_and_head(files: tux.Server, file: Path) -> None:
    with Connection(files) as client:
        for method in ("HEAD", "GET", "HEAD"):
            answer = client.ask("/", method=method)
            assert answer.value("content-length") == "300001"
        client.sock.sendall(request("/") * 5)
        for _ in range(5):
            assert client.answer().body == file.read_bytes()


def test_files_are_open_once(files: tux.Server) -> None:
    """The engine keeps one that is sent again, and the application none."""
    ask = asking(files)
    for _ in range(50):
        ask("GET", "/")
    pids = {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and str(files.pid) in _parents(int(entry.name))
    }
    assert pids
    until(lambda: all(_open_files(pid).count("download.bin") <= 1 for pid in pids), "the others are closed")


def _parents(pid: int) -> set[str]:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return set()
    return set(re.findall(r"^PPid:\t(\d+)$", status, re.MULTILINE))


def _open_files(pid: int) -> str:
    try:
        return " ".join(os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return ""


# Stopping


def test_stop_finishes_what_was_begun(start: Start) -> None:
    server = start("plain")
    with Connection(server) as client:
        client.send("/sleeps?0.7")
        until(lambda: "asleep" in server.stderr_text(), "the request is at work")
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        assert client.answer().body == b"slept"
        stopper.join()


def test_stop_does_not_cut_off_a_file(start: Start, file: Path) -> None:
    server = start("plain:files")
    with Connection(server, receive_buffer=4096) as client:
        client.send("/")
        stopper = threading.Thread(target=server.stop)
        until(lambda: client.sock.recv(1, socket.MSG_PEEK), "the answer has begun")
        stopper.start()
        assert client.answer().body == file.read_bytes()
        stopper.join()


def test_start_that_fails_shows_why() -> None:
    """The server itself may have started by then: files are served while an application takes its time."""
    server = tux.Server(app="flask_sites", app_dir=SITES)
    try:
        server.start()
        until(lambda: "could not start" in server.stderr_text(), "it gives up")
    except tux.StartError:
        pass
    finally:
        server.stop()
    assert re.search("there is no module flask_sites .*; perhaps flask_site", server.stderr_text())
