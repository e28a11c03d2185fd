# SPDX-License-Identifier: MIT
"""Files that change while they are served: seen within a second, and never two versions in one answer."""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tux
from tests.corpus.reader import ClosedError, Response
from tests.e2e.client import FRESH, Client, get, is_idle, put, replace, request, stop, until

QUIET = time.time() - 1000

SIZES = pytest.mark.parametrize("size", [20, 100_000, 1_500_000], ids=["small", "large", "frozen"])
"""One that is held in memory, one that is sent from its descriptor, one that is copied into memory when it is hot."""


def remember(server: tux.Server, path: str, **fields: str) -> Response:
    """Ask until the answer comes from memory, whatever it takes."""
    with Client(server) as client:
        for _ in range(11):
            client.ask(path, **fields)
        return client.ask(path, **fields)


def expect(server: tux.Server, path: str, wanted: Callable[[Response], bool], what: str, **fields: str) -> None:
    """It is seen within the time promised (three times it, on a busy machine), and stays so. For
    servers of one worker: each sees it by itself."""

    def is_seen() -> bool:
        try:
            return all(wanted(get(server, path, **fields)) for _ in range(4))
        except ClosedError:  # the remembered file turned out to be another one after its head was sent
            return False

    until(is_seen, what, FRESH)
    assert is_seen(), f"{what}; but not any more"


class TestWithinASecond:
    @SIZES
    def test_it_is_written_anew(self, site: Path, server: tux.Server, size: int) -> None:
        file = put(site / f"written-{size}", b"a" * size, QUIET)
        before = remember(server, f"/{file.name}")
        file.write_bytes(b"b" * size)
        expect(server, f"/{file.name}", lambda now: now.body == b"b" * size, "the new content")
        assert get(server, f"/{file.name}")["ETag"] != before["ETag"]
        assert get(server, f"/{file.name}", if_none_match=before["ETag"]).status == 200

    @SIZES
    def test_it_is_replaced(self, site: Path, server: tux.Server, size: int) -> None:
        file = put(site / f"replaced-{size}", b"a" * size, QUIET)
        remember(server, f"/{file.name}")
        replace(file, b"b" * size)
        expect(server, f"/{file.name}", lambda now: now.body == b"b" * size, "the new file")

    @SIZES
    def test_it_is_replaced_by_one_of_the_same_size_and_time(self, site: Path, server: tux.Server, size: int) -> None:
        """As by `cp -p` or rsync: another inode is enough."""
        file = put(site / f"same-time-{size}", b"a" * size, QUIET)
        remember(server, f"/{file.name}")
        put(site / "new", b"b" * size, QUIET).replace(file)
        expect(server, f"/{file.name}", lambda now: now.body == b"b" * size, "the new file")

    @SIZES
    def test_it_is_cut(self, site: Path, server: tux.Server, size: int) -> None:
        file = put(site / f"cut-{size}", b"a" * size, QUIET)
        remember(server, f"/{file.name}")
        os.truncate(file, 3)
        expect(server, f"/{file.name}", lambda now: now.body == b"aaa", "the shorter file")

    @SIZES
    def test_it_grows(self, site: Path, server: tux.Server, size: int) -> None:
        file = put(site / f"growing-{size}", b"a" * size, QUIET)
        remember(server, f"/{file.name}")
        with file.open("ab") as end:
            end.write(b"b")
        expect(server, f"/{file.name}", lambda now: now.body == b"a" * size + b"b", "the longer file")

    @SIZES
    def test_it_becomes_empty(self, site: Path, server: tux.Server, size: int) -> None:
        file = put(site / f"emptied-{size}", b"a" * size, QUIET)
        remember(server, f"/{file.name}")
        os.truncate(file, 0)
        expect(server, f"/{file.name}", lambda now: (now.status, now.body) == (200, b""), "the empty file")

    @SIZES
    def test_it_is_deleted(self, site: Path, server: tux.Server, size: int) -> None:
        file = put(site / f"deleted-{size}", b"a" * size, QUIET)
        remember(server, f"/{file.name}")
        file.unlink()
        expect(server, f"/{file.name}", lambda now: now.status == 404, "404")

    @SIZES
    def test_it_is_closed_to_us(self, site: Path, server: tux.Server, size: int) -> None:
        file = put(site / f"closed-{size}", b"a" * size, QUIET)
        remember(server, f"/{file.name}")
        file.chmod(0)
        expect(server, f"/{file.name}", lambda now: now.status == 403, "403")

    @SIZES
    def test_conditions_and_ranges_of_it(self, site: Path, server: tux.Server, size: int) -> None:
        """Answers that are remembered apart from that to the plain request."""
        file = put(site / f"answers-{size}", b"a" * size, QUIET)
        path = f"/{file.name}"
        tag = get(server, path)["ETag"]
        assert remember(server, path, if_none_match=tag).status == 304
        assert remember(server, path, range="bytes=0-4").body == b"aaaaa"
        assert remember(server, path, range="bytes=0-0,4-4").status == 206
        assert remember(server, path, range=f"bytes={size}-").status == 416
        replace(file, b"b" * (size + 1))
        expect(server, path, lambda now: now.status == 200, "no 304", if_none_match=tag)
        expect(server, path, lambda now: now.body == b"bbbbb", "the new range", range="bytes=0-4")
        expect(server, path, lambda now: now.body.count(b"\r\n\r\nb\r\n") == 2, "the new ranges", range="bytes=0-0,4-4")
        expect(server, path, lambda now: now.body == b"b", "206", range=f"bytes={size}-")

    def test_it_appears(self, site: Path, server: tux.Server) -> None:
        assert remember(server, "/appears.txt").status == 404
        put(site / "appears.txt", "here")
        expect(server, "/appears.txt", lambda now: now.body == b"here", "the file")

    def test_it_appears_in_a_folder_that_appears(self, site: Path, server: tux.Server) -> None:
        assert remember(server, "/new/folder/appears.txt").status == 404
        put(site / "new/folder/appears.txt", "here")
        expect(server, "/new/folder/appears.txt", lambda now: now.body == b"here", "the file")

    def test_a_folder_is_renamed(self, site: Path, server: tux.Server) -> None:
        put(site / "old-name/file.txt", "x", QUIET)
        remember(server, "/old-name/file.txt")
        assert remember(server, "/new-name/file.txt").status == 404
        (site / "old-name").rename(site / "new-name")
        expect(server, "/old-name/file.txt", lambda now: now.status == 404, "404 at the old place")
        expect(server, "/new-name/file.txt", lambda now: now.body == b"x", "the file at the new place")

    def test_a_folder_is_closed_to_us(self, site: Path, server: tux.Server) -> None:
        put(site / "open/file.txt", "x", QUIET)
        remember(server, "/open/file.txt")
        (site / "open").chmod(0)
        try:
            expect(server, "/open/file.txt", lambda now: now.status == 403, "403")
        finally:
            (site / "open").chmod(0o755)

    def test_a_file_becomes_a_folder_and_a_file_again(self, site: Path, server: tux.Server) -> None:
        put(site / "either", "file", QUIET)
        remember(server, "/either")
        (site / "either").unlink()
        put(site / "either/index.html", "folder", QUIET)
        expect(server, "/either", lambda now: now.status == 301, "301")
        assert remember(server, "/either/").body == b"folder"
        (site / "either/index.html").unlink()
        (site / "either").rmdir()
        put(site / "either", "file", QUIET)
        expect(server, "/either/", lambda now: now.status == 404, "404")
        expect(server, "/either", lambda now: now.body == b"file", "the file")

    def test_an_index_appears_and_disappears(self, site: Path, server: tux.Server) -> None:
        put(site / "some/file.txt", "x", QUIET)
        assert remember(server, "/some/").status == 404
        put(site / "some/index.html", "index", QUIET)
        expect(server, "/some/", lambda now: now.body == b"index", "the index")
        remember(server, "/some/")
        (site / "some/index.html").unlink()
        expect(server, "/some/", lambda now: now.status == 404, "404")

    def test_a_side_file_appears_and_disappears(self, site: Path, server: tux.Server) -> None:
        put(site / "style.css", "x", QUIET)
        assert "Content-Encoding" not in remember(server, "/style.css", accept_encoding="gzip")
        assert "Vary" not in remember(server, "/style.css")
        put(site / "style.css.gz", gzip.compress(b"x"), QUIET)
        expect(server, "/style.css", lambda now: "Content-Encoding" in now, "gzip", accept_encoding="gzip")
        expect(server, "/style.css", lambda now: "Vary" in now, "Vary, without gzip too")
        (site / "style.css.gz").unlink()
        expect(server, "/style.css", lambda now: "Content-Encoding" not in now, "no gzip", accept_encoding="gzip")

    def test_the_file_becomes_newer_than_its_side_file(self, site: Path, server: tux.Server) -> None:
        put(site / "newer.css", "old", QUIET)
        put(site / "newer.css.gz", gzip.compress(b"old"), QUIET)
        assert "Content-Encoding" in remember(server, "/newer.css", accept_encoding="gzip")
        put(site / "newer.css", "new")
        expect(server, "/newer.css", lambda now: now.body == b"new", "the new file", accept_encoding="gzip")

    def test_a_link_is_led_elsewhere(self, site: Path, server: tux.Server) -> None:
        for name in ("one", "two"):
            put(site / f"{name}/file.txt", name, QUIET)
        (site / "link").symlink_to("one")
        assert remember(server, "/link/file.txt").body == b"one"
        (site / "link-new").symlink_to("two")
        (site / "link-new").replace(site / "link")
        expect(server, "/link/file.txt", lambda now: now.body == b"two", "the other file")
        (site / "link-new").symlink_to("/etc")
        (site / "link-new").replace(site / "link")
        expect(server, "/link/file.txt", lambda now: now.status == 404, "404 outside of the root")


class TestRoot:
    def test_a_release_is_swapped(self, site: Path) -> None:
        """The served folder is itself a link, which is replaced: how many sites are deployed."""
        for number in "12":
            put(site / f"releases/{number}/index.html", number, QUIET)
            put(site / f"releases/{number}/only-{number}.txt", number, QUIET)
        current, new = site / "current", site / "current-new"
        current.symlink_to("releases/1")
        with tux.Server(current, workers=1, access_log="off") as server:
            assert remember(server, "/").body == b"1"
            assert remember(server, "/only-1.txt").status == 200
            assert remember(server, "/only-2.txt").status == 404
            new.symlink_to("releases/2")
            new.replace(current)
            expect(server, "/", lambda now: now.body == b"2", "the new release")
            expect(server, "/only-1.txt", lambda now: now.status == 404, "404")
            expect(server, "/only-2.txt", lambda now: now.status == 200, "the new file")
            stop(server)

    def test_it_disappears_and_appears(self, site: Path) -> None:
        put(site / "root/index.html", "1", QUIET)
        with tux.Server(site / "root", workers=1, access_log="off") as server:
            assert remember(server, "/").body == b"1"
            (site / "root").rename(site / "root-away")
            expect(server, "/", lambda now: now.status in (404, 503), "an error")
            put(site / "root/index.html", "2", QUIET)
            expect(server, "/", lambda now: now.body == b"2", "the new folder")
            stop(server)


@contextlib.contextmanager
def doing(what: Callable[[int], None]) -> Iterator[None]:
    """Within: it is done again and again, with a number, in another thread."""
    done = threading.Event()
    failed: list[Exception] = []

    def loop() -> None:
        number = 0
        try:
            while not done.is_set():
                what(number)
                number += 1
        except Exception as error:  # noqa: BLE001 (raised again below)
            failed.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if failed:
        raise failed[0]


def version(number: int, size: int) -> bytes:
    """Content that tells whether it is of one version: one letter, and a length that belongs to the letter."""
    letter = number % 26
    return bytes([ord("a") + letter]) * (size + letter)


def is_whole(body: bytes, size: int) -> bool:
    return bool(body) and body == version(body[0] - ord("a"), size)


class TestOneVersion:
    @pytest.mark.parametrize("size", [1000, 60_000, 100_000, 3_000_000])
    def test_while_it_is_replaced_all_the_time(self, site: Path, server: tux.Server, size: int) -> None:
        file = put(site / f"versions-{size}", version(0, size))
        tags: dict[str, bytes] = {}
        letters: set[int] = set()
        asked = 0
        end = time.monotonic() + 1
        with doing(lambda number: replace(file, version(number, size))), Client(server) as client:
            while time.monotonic() < end or len(letters) < 3:
                assert time.monotonic() < end + 3 * FRESH, "only one version was seen"
                response = client.ask(f"/{file.name}")
                assert response.status == 200
                assert is_whole(response.body, size)
                assert tags.setdefault(response["ETag"], response.body) == response.body
                letters.add(response.body[0])
                asked += 1
        assert asked > 10

    @pytest.mark.parametrize("size", [1000, 100_000])
    def test_ranges_while_it_is_replaced_all_the_time(self, site: Path, server: tux.Server, size: int) -> None:
        """The range is of the version that Content-Range and ETag are of."""
        file = put(site / f"ranges-{size}", version(0, size))
        letters: set[int] = set()
        end = time.monotonic() + 1
        with doing(lambda number: replace(file, version(number, size))), Client(server) as client:
            while time.monotonic() < end or len(letters) < 3:
                assert time.monotonic() < end + 3 * FRESH, "only one version was seen"
                response = client.ask(f"/{file.name}", range="bytes=5-104")
                assert response.status == 206
                assert response.body == response.body[:1] * 100
                letter = response.body[0] - ord("a")
                assert response["Content-Range"] == f"bytes 5-104/{size + letter}"
                letters.add(letter)

    def test_side_files_while_both_are_replaced(self, site: Path, server: tux.Server) -> None:
        file, side = site / "both.css", site / "both.css.gz"

        def write(number: int) -> None:
            content = version(number, 5000)
            replace(file, content)
            replace(side, gzip.compress(content))

        write(0)
        codings: set[str | None] = set()
        end = time.monotonic() + 1
        with doing(write), Client(server) as client:
            while time.monotonic() < end:
                response = client.ask("/both.css", accept_encoding="gzip")
                assert response.status == 200
                coding = response.get("Content-Encoding")
                codings.add(coding)
                assert is_whole(gzip.decompress(response.body) if coding else response.body, 5000)
        assert codings <= {None, "gzip"}

    def test_while_it_is_deleted_and_made_again(self, site: Path, server: tux.Server) -> None:
        file = site / "on-and-off"

        def write(number: int) -> None:
            replace(file, version(number, 1000))
            file.unlink()

        statuses: set[int] = set()
        end = time.monotonic() + 1
        with doing(write), Client(server) as client:
            while time.monotonic() < end:
                response = client.ask("/on-and-off")
                statuses.add(response.status)
                assert response.status == 404 or is_whole(response.body, 1000)
        assert statuses <= {200, 404}


BIG = 64 * 1024 * 1024
"""Bytes that fit into no socket buffers."""


@contextlib.contextmanager
def download(server: tux.Server, path: str) -> Iterator[Client]:
    """An answer that is under way: most of it is not sent, and the server waits for the client."""
    with Client(server) as client:
        client.sock.sendall(request(path))
        client.sock.recv(1, 2)  # MSG_PEEK: it has begun
        until(lambda: is_idle(server), "the server waits for the client")
        yield client


def received(client: Client) -> bytes:
    """The part of the body that comes until the server ends the connection, which it must do before the end."""
    with pytest.raises((ClosedError, ConnectionResetError)) as caught:
        client.reader.response()
    raw = caught.value.received if isinstance(caught.value, ClosedError) else client.reader.held
    return raw.partition(b"\r\n\r\n")[2]


class TestChangedWhileItIsSent:
    @pytest.fixture
    def file(self, site: Path) -> Path:
        return put(site / f"sent-{random.getrandbits(64):x}", b"a" * BIG, QUIET)

    def check(self, server: tux.Server, file: Path, change: Callable[[], object]) -> None:
        with download(server, f"/{file.name}") as client:
            change()
            body = received(client)
            assert 0 < len(body) < BIG
            assert body == b"a" * len(body)
        file.unlink()

    def test_cut(self, server: tux.Server, file: Path) -> None:
        self.check(server, file, lambda: os.truncate(file, 1000))

    def test_cut_to_nothing(self, server: tux.Server, file: Path) -> None:
        self.check(server, file, lambda: os.truncate(file, 0))

    def test_cut_by_one_byte(self, server: tux.Server, file: Path) -> None:
        self.check(server, file, lambda: os.truncate(file, BIG - 1))

    def test_grown(self, server: tux.Server, file: Path) -> None:
        def grow() -> None:
            with file.open("ab") as end:
                end.write(b"b")

        self.check(server, file, grow)

    def test_written_in_place(self, server: tux.Server, file: Path) -> None:
        def write() -> None:
            with file.open("r+b") as whole:
                whole.write(b"b" * BIG)

        self.check(server, file, write)

    def test_cut_and_written(self, server: tux.Server, file: Path) -> None:
        self.check(server, file, lambda: file.write_bytes(b"b" * BIG))

    @pytest.mark.parametrize("how", ["replaced", "deleted"])
    def test_the_old_version_is_sent_to_its_end(self, server: tux.Server, file: Path, how: str) -> None:
        """Its descriptor is open, and its content cannot change any more."""
        with download(server, f"/{file.name}") as client:
            if how == "deleted":
                file.unlink()
            else:
                replace(file, b"b" * BIG)
            assert client.reader.response().body == b"a" * BIG
        expect(server, f"/{file.name}", lambda now: now.body[:1] != b"a", "the present state")
        file.unlink(missing_ok=True)

    def test_many_clients_while_it_is_written_in_place(self, site: Path, server: tux.Server) -> None:
        """Whatever the moment: an answer is complete, or the connection ends before."""
        size = 2_000_000
        file = put(site / "in-place", b"a" * size)

        def write(number: int) -> None:
            with file.open("r+b") as whole:
                whole.write(bytes([ord("a") + number % 26]) * size)

        complete = 0
        end = time.monotonic() + 1
        with doing(write):
            while time.monotonic() < end:
                try:
                    with Client(server) as client:
                        response = client.ask("/in-place")
                except (ClosedError, ConnectionResetError):
                    continue
                complete += 1
                # The time of change is the same for some milliseconds (the tick of the file system's clock): what is
                # written within them cannot be told from what was there before.
                assert len(response.body) == size
        content = file.read_bytes()
        expect(server, "/in-place", lambda now: now.body == content, "what was written last")
