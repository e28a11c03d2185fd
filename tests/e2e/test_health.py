# SPDX-License-Identifier: MIT
"""Active health checks, end to end: a server that fails them gets no requests until it passes one."""

from __future__ import annotations

from pathlib import Path

import tux
from tests.e2e.backend import Backend, Peer
from tests.e2e.client import Client, stop, until


class Sick:
    """A server whose checks are answered with `status`, and which says its name to all else."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.status = 200
        self.checks = 0

    def __call__(self, peer: Peer) -> None:
        while (request := peer.request()) is not None:
            if request.target == "/health":
                self.checks += 1
                peer.send(b"HTTP/1.1 %d Status\r\nContent-Length: 0\r\n\r\n" % self.status)
            else:
                peer.ok(self.name)


def test_a_server_that_is_not_well_is_left_out(site: Path) -> None:
    one, two = Sick(b"one"), Sick(b"two")
    with Backend(one) as first, Backend(two) as second:
        config = site / "health.toml"
        config.write_text(
            '[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\naccess_log = "off"\n'
            f'[upstream.back]\nservers = ["{first.url}", "{second.url}"]\n'
            'health_path = "/health"\nhealth_interval = 0.02\n[[site]]\nforward = "back"\n'
        )
        server = tux.Server(config=config)
        server.start()
        with Client(server) as client:

            def answers() -> set[bytes]:
                return {client.ask("/x").body for _ in range(4)}

            until(lambda: answers() == {b"one", b"two"}, "both work")
            one.status = 503
            until(lambda: answers() == {b"two"}, "the first is left out")
            assert all(answers() == {b"two"} for _ in range(10))
            two.status = 500
            until(lambda: client.ask("/x").status == 503, "both are left out")
            checks = two.checks
            until(lambda: two.checks >= checks + 3, "it is still asked")
            assert client.ask("/x").status == 503
            one.status = 200
            until(lambda: client.ask("/x").body == b"one", "the first is back")
            two.status = 204
            until(lambda: answers() == {b"one", b"two"}, "both are back")
        said = stop(server)
    for address in (first.authority, second.authority):
        assert f'upstream "back", {address}: works again' in said
    assert f'upstream "back", {first.authority}: left out: the check was answered with 503' in said
    assert f'upstream "back", {second.authority}: left out: the check was answered with 500' in said


def test_a_server_that_hangs_does_not_keep_up_the_stop(site: Path) -> None:
    def silent(peer: Peer) -> None:
        while peer.request() is not None:
            pass

    with Backend(silent) as backend:
        config = site / "health-silent.toml"
        config.write_text(
            '[server]\nworkers = 1\nlisten = ["127.0.0.1:0"]\naccess_log = "off"\n'
            f'[upstream.back]\nservers = ["{backend.url}"]\n'
            'health_path = "/health"\nhealth_timeout = 3600\n[[site]]\nforward = "back"\n'
        )
        server = tux.Server(config=config)
        server.start()
        until(lambda: backend.accepted == 1, "it is checked")
        stop(server)
