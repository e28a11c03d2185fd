# SPDX-License-Identifier: MIT
"""SIGHUP: the configuration is read again, and nobody who has asked for something notices."""

from __future__ import annotations

import functools
import http.client
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tux
from tests.corpus.reader import PATIENCE
from tests.e2e.backend import Backend, Peer
from tests.e2e.client import Client, end, put, stop, until
from tux.config.schema import Config

APP = """
import os, time

def app(environ, start_response):
    if environ["PATH_INFO"] == "/sleep":
        open("asleep", "w").close()
        while os.path.exists("asleep"):
            time.sleep(0.01)
    body = VERSION.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Content-Type-Options", "nosniff"),
                              ("Content-Length", str(len(body)))])
    return [body]

VERSION = os.environ["SHOP"]
"""

Serve = Callable[..., tux.Server]


@pytest.fixture
def folder(site: Path, request: pytest.FixtureRequest) -> Path:
    folder = site / str(request.node.name).replace("[", "-").replace("]", "")
    put(folder / "one" / "x", "one\n")
    put(folder / "two" / "x", "two\n")
    put(folder / "shop.py", APP)
    folder.chmod(0o777)
    return folder


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Writes the configuration: the first call starts a server, further ones change what it would read."""
    servers: list[tux.Server] = []

    def serve(sites: str, server: str = "") -> tux.Server:
        config = put(folder / "tux.toml", f'[server]\nlisten = ["127.0.0.1:0"]\nworkers = 2\n{server}\n{sites}\n')
        if not servers:
            servers.append(tux.Server(config=config).start())
        return servers[0]

    yield serve
    for one in servers:
        end(one)


def reload(server: tux.Server) -> str:
    """Returns when it has come to its end, with what was said meanwhile: whoever connects now meets the new workers."""
    before = len(server.stderr_text())
    server.kill(signal.SIGHUP)
    until(lambda: "reloaded" in server.stderr_text()[before:], "it is reloaded, or not", within=3 * PATIENCE)
    return server.stderr_text()[before:]


def ask(server: tux.Server, path: str) -> bytes:
    with Client(server) as client:
        answer = client.ask(path)
        return answer.body if answer.status == 200 else b"%d" % answer.status


def test_sites_and_routes(serve: Serve) -> None:
    server = serve('[[site]]\nroot = "one"')
    assert ask(server, "/x") == b"one\n"
    serve('[[site]]\nroot = "two"\n[[site.route]]\npath = "/below/"\nroot = "one"')
    assert "error" not in reload(server)
    assert {ask(server, path) for path in ["/x"] * 20} == {b"two\n"}
    assert ask(server, "/below/x") == b"one\n"
    stop(server)


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        ('[[site]]\nrot = "one"', "rot"),
        ("[[site", "tux.toml:5"),
        ('[[site]]\nroot = "three"', "no such folder"),
        ('[[site]]\nroot = "one"\napp = "none:app"', "could not start: its process ended with code 3"),
        ('[[site]]\nforward = "http://none.invalid"', "cannot find the address of none.invalid"),
    ],
    ids=["key", "syntax", "folder", "app", "upstream"],
)
def test_a_wrong_configuration_changes_nothing(serve: Serve, sites: str, said: str) -> None:
    server = serve('[[site]]\nroot = "one"')
    workers = server.worker_pids()
    serve(sites)
    text = reload(server)
    assert said in text
    assert text.endswith("tux: error: the configuration was not reloaded; all goes on as before\n")
    assert server.worker_pids() == workers
    assert ask(server, "/x") == b"one\n"
    serve('[[site]]\nroot = "two"')
    reload(server)
    assert ask(server, "/x") == b"two\n"


def test_what_needs_a_restart_is_named(serve: Serve) -> None:
    server = serve('[[site]]\nroot = "one"')
    serve('[kernel]\nhits = 9\n[[site]]\nroot = "two"', 'access_log = "log"\nlog_format = "json"')
    said = reload(server)
    assert '"access_log" has changed, which needs a restart' in said
    assert "[kernel] has changed, which needs a restart" in said
    assert ask(server, "/x") == b"two\n"


def test_every_key_of_the_server_is_taken_over_or_named() -> None:
    """A new one must be thought of."""
    from tux.daemon.supervisor import FIXED

    taken_over = {"user", "grace", "limits", "reload", "trusted", "proxy_protocol", "log_format"}  # the last if no tier
    assert taken_over | set(FIXED) == set(Config().server.__struct_fields__)


def test_applications(serve: Serve, folder: Path) -> None:
    """The old processes answer until the new ones have loaded the application, and finish what they have."""

    def shop(version: str) -> str:
        return f'[app.shop]\nmodule = "shop:app"\nenv = {{ SHOP = "{version}" }}\n[[site]]\napp = "shop"'

    server = serve(shop("one"))
    with Client(server) as client:
        client.sock.sendall(b"GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n")
        until((folder / "asleep").exists, "a request is at work")
        serve(shop("two"))
        assert "error" not in reload(server)
        assert {ask(server, "/") for _ in range(20)} == {b"two"}
        (folder / "asleep").unlink()
        assert client.reader.response("GET").body == b"one"
    until(lambda: len(server.worker_pids()) == 3, "the old ones end")  # two workers, one application
    stop(server)


def test_an_application_that_hangs_over_its_start(serve: Serve, folder: Path) -> None:
    """All goes on as before, until the next reload makes a new start."""
    server = serve('[[site]]\nroot = "one"')
    put(folder / "hangs.py", "open('hangs', 'w').close()\nimport time\ntime.sleep(3600)\n")
    serve('[[site]]\nroot = "two"\napp = "hangs:app"')
    server.kill(signal.SIGHUP)
    until((folder / "hangs").exists, "it starts")
    assert ask(server, "/x") == b"one\n"
    serve('[[site]]\nroot = "two"')
    reload(server)
    assert ask(server, "/x") == b"two\n"
    until(lambda: len(server.worker_pids()) == 2, "what hung has ended")


def test_upstreams(serve: Serve) -> None:
    def named(name: bytes) -> Callable[[Peer], None]:
        def script(peer: Peer) -> None:
            while peer.request() is not None:
                peer.ok(name)

        return script

    with Backend(named(b"one")) as one, Backend(named(b"two")) as two:
        server = serve(f'[[site]]\nforward = "{one.url}"')
        assert ask(server, "/") == b"one"
        serve(f'[[site]]\nforward = "{two.url}"')
        reload(server)
        assert {ask(server, "/") for _ in range(20)} == {b"two"}
        stop(server)


def test_a_download_goes_on(serve: Serve, folder: Path) -> None:
    """For longer than the grace, which is for stops."""
    data = os.urandom(20_000_000)
    put(folder / "one" / "large", data)
    server = serve('[[site]]\nroot = "one"', "grace = 0.1")
    with Client(server, receive_buffer=4096) as client:
        client.sock.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        serve('[[site]]\nroot = "two"', "grace = 0.1")
        reload(server)
        until(lambda: len(server.worker_pids()) == 3, "one of the old ones has something to do")
        assert client.reader.response("GET").body == data
    until(lambda: len(server.worker_pids()) == 2, "it has ended")


def has_all(answers: dict[bytes, int], least: dict[bytes, int]) -> bool:
    return all(answers.get(body, 0) > count for body, count in least.items())


def test_under_load_nothing_is_lost(serve: Serve) -> None:
    """New connections, and such that stay: those may be closed between two requests, as everywhere, but not in one."""
    sites = '[app.shop]\nmodule = "shop:app"\nenv = {{ SHOP = "{0}" }}\n[[site]]\nroot = "{0}"\napp = "shop"'
    server = serve(sites.format("one"))
    host, _, port = server.url.removeprefix("http://").partition(":")
    ended = threading.Event()
    wrong: list[object] = []
    answers: dict[bytes, int] = {}

    def load(path: str, *, stays: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        asked = 0
        while not ended.is_set():
            if connection is None:
                connection, asked = http.client.HTTPConnection(host, int(port), timeout=PATIENCE), 0
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
                asked += 1
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                if asked == 0:  # a new connection must be served
                    wrong.append(error)
                connection.close()
                connection = None
                continue
            except Exception as error:  # noqa: BLE001 (it is looked at below)
                wrong.append(error)
                break
            if answer.status != 200:
                wrong.append((answer.status, body))
            answers[body] = answers.get(body, 0) + 1
            if not stays or answer.will_close:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    threads = [
        threading.Thread(target=load, args=(path,), kwargs={"stays": stays})
        for path in ("/x", "/")
        for stays in (True, False)
    ]
    for thread in threads:
        thread.start()
    for version in ("two", "one", "two"):
        serve(sites.format(version))
        assert "error" not in reload(server)
        enough = {body: answers.get(body, 0) + 50 for body in (f"{version}\n".encode(), version.encode())}
        until(functools.partial(has_all, answers, enough), "the new ones answer")
    ended.set()
    for thread in threads:
        thread.join()
    assert not wrong
    until(lambda: len(server.worker_pids()) == 3, "the old ones end")
    stop(server)
