"""Servers that are forwarded to: names become addresses, options those of the engine."""

from __future__ import annotations

import errno
import socket

import msgspec
import pytest

from tux._engine import Engine
from tux.config.upstream import Upstream
from tux.daemon import upstreams
from tux.errors import StartError


def servers_of(*servers: str, weights: tuple[int, ...] = ()) -> tuple[tuple[str, str, int], ...]:
    (group,) = upstreams.resolve([("back", Upstream(servers=servers, weights=weights))])
    return group.servers


def test_addresses() -> None:
    assert servers_of("http://127.0.0.1:8081/", "http://[::1]", "unix:/run/x.sock", weights=(1, 2, 3)) == (
        ("127.0.0.1:8081", "127.0.0.1:8081", 1),
        ("[::1]:80", "[::1]", 2),
        ("unix:/run/x.sock", "localhost", 3),
    )


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(host: str, port: int, **_: object) -> list[object]:
        assert (host, port) == ("name.example", 81)
        return [(0, 0, 0, "", (ip, port)) for ip in ("192.0.2.1", "2001:db8::1", "192.0.2.1")]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    expected = (("192.0.2.1:81", "Name.example:81", 5), ("[2001:db8::1]:81", "Name.example:81", 5))
    assert servers_of("http://Name.example:81", weights=(5,)) == expected


def test_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(host: str, port: int, **_: object) -> list[object]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(StartError, match='upstream "back": cannot find the address of nowhere: Name or service'):
        servers_of("http://nowhere:80")


def test_the_engine_takes_them() -> None:
    engine = Engine(key=bytes(16))
    pair = [("a", Upstream(servers=("http://127.0.0.1:1",))), ("b", Upstream(servers=("unix:/x",), host="server"))]
    groups = upstreams.resolve(pair)
    upstreams.add_to(engine, groups)
    assert engine.upstream(groups[0].servers) == 2
    assert engine.close() == {"objects": 0, "plans": 0}


def test_defaults_are_those_of_the_engine() -> None:
    """The binding's documentation says them, too."""
    (group,) = upstreams.resolve([("a", Upstream(servers=("http://127.0.0.1:1",)))])
    assert group.options["keepalive_timeout_ms"] == 4000
    assert set(group.options) | {"servers", "weights"} >= {
        name.replace("_timeout", "_timeout_ms")
        for name in msgspec.structs.asdict(Upstream(servers=("x",)))
        if not name.startswith("health_")
    }
    assert group.health is None


class Failures:
    """In place of an engine: one server of two has failed so often."""

    def __init__(self) -> None:
        self.counts = {"connect": 0, "closed": 0}

    def upstream_failures(self, group: int, server: int) -> tuple[dict[str, int], int]:
        return (dict(self.counts) if (group, server) == (0, 1) else {"connect": 0, "closed": 0}), errno.ECONNREFUSED


def test_failures_are_said(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    groups = upstreams.resolve([("back", Upstream(servers=("http://127.0.0.1:1", "unix:/x")))])
    reporter = upstreams.Reporter(failures, groups)
    reporter.report()
    assert caplog.messages == []
    failures.counts = {"connect": 1, "closed": 3}
    reporter.report()
    assert caplog.messages == [
        'upstream "back", unix:/x: no connection: Connection refused (once)',
        'upstream "back", unix:/x: closed without an answer (3 times)',
    ]
    reporter.report()
    failures.counts = {"connect": 3, "closed": 3}
    reporter.report()
    assert caplog.messages[2:] == ['upstream "back", unix:/x: no connection: Connection refused (2 times)']


def test_every_failure_has_words() -> None:
    engine = Engine(key=bytes(16))
    engine.upstream([("127.0.0.1:1", "x", 1)])
    counts, error = engine.upstream_failures(0, 0)
    assert set(counts) == set(upstreams.FAILURES)
    assert (set(counts.values()), error) == ({0}, 0)
    assert engine.close() == {"objects": 0, "plans": 0}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"servers": []}, ValueError),
        ({"servers": [("name:80", "x", 1)]}, ValueError),
        ({"servers": [("127.0.0.1:80\0", "x", 1)]}, ValueError),
        ({"servers": [("127.0.0.1:80", "x", 0)]}, ValueError),
        ({"servers": [("127.0.0.1:80", "x" * 300, 1)]}, ValueError),
        ({"balance": "random"}, ValueError),
        ({"idle_timeout_ms": 0}, ValueError),
        ({"colour": "red"}, TypeError),
    ],
)
def test_misuse(change: dict[str, object], error: type[Exception]) -> None:
    engine = Engine(key=bytes(16))
    arguments: dict[str, object] = {"servers": [("127.0.0.1:80", "x", 1)], **change}
    with pytest.raises(error):
        engine.upstream(**arguments)  # type: ignore[arg-type]
    assert engine.close() == {"objects": 0, "plans": 0}
