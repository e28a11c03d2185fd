"""Listening sockets, without any worker."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import features
from tux.config.listen import parse
from tux.daemon.listeners import Listeners, open_listeners
from tux.errors import StartError


@contextlib.contextmanager
def listening(*addresses: str, workers: int = 1) -> Iterator[Listeners]:
    with open_listeners([parse(address) for address in addresses], workers) as listeners:
        yield listeners


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def connect(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(url)), timeout=5)


def _connect_until_accepted(port: int) -> socket.socket:
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), timeout=5)


def accept_all(sock: socket.socket) -> list[socket.socket]:
    accepted = []
    with contextlib.suppress(BlockingIOError):
        while True:
            accepted.append(sock.accept()[0])
    return accepted


def refusal(*addresses: str) -> str:
    with pytest.raises(StartError) as caught:  # noqa: SIM117
        with listening(*addresses):
            pass
    assert caught.value.exit_code == 1
    assert "\n" not in caught.value.message
    return caught.value.message


class TestTcp:
    def test_every_worker_has_a_socket_and_all_get_connections(self) -> None:
        with listening("127.0.0.1:0", workers=3) as listeners, contextlib.ExitStack() as opened:
            for _ in range(120):
                opened.enter_context(connect(listeners.urls[0]))
            counts = []
            for sock in listeners.items[0].sockets:
                accepted = [opened.enter_context(one) for one in accept_all(sock)]
                counts.append(len(accepted))
            assert sum(counts) == 120
            assert min(counts) > 0

    def test_port_0_is_the_same_free_port_for_all(self) -> None:
        with listening("127.0.0.1:0", "127.0.0.1:0", workers=2) as listeners:
            ports = [{sock.getsockname()[1] for sock in item.sockets} for item in listeners]
            assert [len(some) for some in ports] == [1, 1]
            assert ports[0] != ports[1]
            assert [{port_of(url)} for url in listeners.urls] == ports

    def test_accepted_sockets_inherit_nodelay(self) -> None:
        with listening("127.0.0.1:0") as listeners, connect(listeners.urls[0]):
            (accepted,) = accept_all(listeners.items[0].sockets[0])
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1

    def test_port_of_another_server_that_would_share_it(self) -> None:
        with listening("127.0.0.1:0", workers=2) as listeners:
            address = listeners.urls[0].removeprefix("http://")
            assert refusal(address) == (f"{address} is already in use by another program; choose another with --listen")

    def test_port_taken_on_all_addresses(self) -> None:
        with listening("0.0.0.0:0") as listeners:
            assert "already in use" in refusal(f"127.0.0.1:{port_of(listeners.urls[0])}")

    def test_a_client_that_comes_while_it_starts_is_not_reset(self) -> None:
        """Whoever gets through the handshake is in the queue of a socket that stays."""
        for _ in range(20):
            with listening("127.0.0.1:0") as free:
                address = free.urls[0].removeprefix("http://")
            with concurrent.futures.ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as opened:
                tried = pool.submit(_connect_until_accepted, port_of(address))
                opened.enter_context(listening(address, workers=2))
                client = opened.enter_context(tried.result(timeout=10))
                client.setblocking(False)
                with pytest.raises(BlockingIOError):
                    client.recv(1)

    def test_two_starts_at_the_same_moment(self) -> None:
        """Never both: the port is not shared in any interleaving."""
        with listening("127.0.0.1:0") as free:
            address = free.urls[0].removeprefix("http://")
        barrier = threading.Barrier(2)
        reasons: list[str] = []

        def start(_: int) -> Listeners | None:
            barrier.wait()
            try:
                return open_listeners([parse(address)], 2)
            except StartError as error:
                reasons.append(error.message)
                return None

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for _ in range(100):
                opened = [listeners for listeners in pool.map(start, range(2)) if listeners is not None]
                assert len(opened) <= 1
                for listeners in opened:
                    listeners.close()
        assert reasons
        assert all("already in use" in reason for reason in reasons)

    def test_an_address_covered_by_another_of_ours(self) -> None:
        with listening("127.0.0.1:0") as free:
            port = port_of(free.urls[0])
        assert refusal(f"0.0.0.0:{port}", f"127.0.0.1:{port}") == (
            f"127.0.0.1:{port} and http://0.0.0.0:{port} overlap; give only one of them with --listen"
        )

    def test_an_address_of_another_machine(self) -> None:
        assert refusal("192.0.2.1:8080") == "192.0.2.1:8080 is not an address of this machine"

    def test_a_name_that_does_not_exist(self) -> None:
        assert refusal("no-such-host.invalid:80").startswith("cannot find the host of no-such-host.invalid:80: ")

    def test_nothing_stays_bound_after_an_error(self) -> None:
        with listening("127.0.0.1:0") as listeners:
            free = port_of(listeners.urls[0])
        refusal(f"127.0.0.1:{free}", "192.0.2.1:1234")
        with listening(f"127.0.0.1:{free}"):
            pass

    def test_a_name_stands_for_all_its_addresses_once(self) -> None:
        with listening("localhost:0") as listeners:
            port = port_of(listeners.urls[0])
            assert {port_of(url) for url in listeners.urls} == {port}
            assert f"http://127.0.0.1:{port}" in listeners.urls
        with listening("127.0.0.1:0") as first:
            port = port_of(first.urls[0])
        with listening(f"127.0.0.1:{port}", f"localhost:{port}") as both:
            assert both.urls.count(f"http://127.0.0.1:{port}") == 1

    def test_a_refusal_frees_the_address_while_the_sockets_are_open(self) -> None:
        with listening("127.0.0.1:0", workers=2) as old:
            address = old.urls[0].removeprefix("http://")
            old.refuse()
            with pytest.raises(ConnectionRefusedError):
                connect(old.urls[0])
            old.refuse()  # no error
            with listening(address), connect(old.urls[0]):
                pass


class TestIpv6:
    @pytest.fixture(autouse=True)
    def ipv6(self) -> None:
        features.require("ipv6")

    def test_url_has_brackets(self) -> None:
        with listening("[::1]:0") as listeners:
            assert listeners.urls[0] == f"http://[::1]:{listeners.items[0].sockets[0].getsockname()[1]}"

    def test_both_wildcards_on_one_port(self) -> None:
        with listening("0.0.0.0:0") as four:
            port = port_of(four.urls[0])
            with listening(f"[::]:{port}") as six:
                assert [*four.urls, *six.urls] == [f"http://0.0.0.0:{port}", f"http://[::]:{port}"]

    def test_in_use(self) -> None:
        with listening("[::1]:0") as listeners:
            address = listeners.urls[0].removeprefix("http://")
            assert refusal(address).startswith(f"{address} is already in use")


class TestUnix:
    def test_everybody_may_connect_and_it_is_removed_at_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with listening(f"unix:{path}", workers=4) as listeners:
            (item,) = listeners
            assert item.url == f"unix:{path}"
            assert item.shared
            assert len(item.sockets) == 1
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert not path.exists()

    def test_a_stale_one_is_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        before = path.stat().st_ino
        with listening(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert path.stat().st_ino != before or os.listdir(tmp_path) == ["s"]

    @pytest.mark.parametrize("backlog", [0, 5])
    def test_a_living_one_is_not(self, tmp_path: Path, backlog: int) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as alive, contextlib.ExitStack() as opened:
            alive.bind(str(path))
            alive.listen(backlog)
            while backlog == 0:  # until its queue is full, too
                client = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
                if client.connect_ex(str(path)) == errno.EAGAIN:
                    break
            assert refusal(f"unix:{path}") == (
                f"unix:{path} is already in use by another program; choose another with --listen"
            )
            assert path.exists()

    def test_a_file_is_not_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "precious"
        path.write_text("data")
        assert refusal(f"unix:{path}").startswith(f"{path} exists and is not a socket")
        assert path.read_text() == "data"

    def test_no_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "none"
        assert refusal(f"unix:{folder}/s") == f"cannot create unix:{folder}/s: there is no folder {folder}"

    def test_a_path_that_became_too_long_when_made_absolute(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / ("d" * 100)
        folder.mkdir()
        monkeypatch.chdir(folder)
        assert "too long for a unix socket: at most 107 bytes" in refusal("unix:s")

    def test_a_successor_is_not_removed(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with listening(f"unix:{path}") as old:
            old.refuse()
            with listening(f"unix:{path}"):
                old.close()
                assert path.exists()
            assert not path.exists()

    def test_a_refusal_holds_for_all_processes(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with listening(f"unix:{path}") as listeners, socket.socket(socket.AF_UNIX) as client:
            listeners.refuse()
            with pytest.raises(ConnectionRefusedError):
                client.connect(str(path))


def test_a_worker_keeps_its_own_sockets(tmp_path: Path) -> None:
    with listening("127.0.0.1:0", f"unix:{tmp_path}/s", workers=3) as listeners:
        tcp, unix = listeners.items
        mine = tcp.sockets[1]
        others = [tcp.sockets[0], tcp.sockets[2]]
        assert listeners.keep(1) == [mine, unix.sockets[0]]
        assert [sock.fileno() for sock in others] == [-1, -1]
        assert mine.fileno() >= 0
