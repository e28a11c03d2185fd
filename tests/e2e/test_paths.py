# SPDX-License-Identifier: MIT
"""What lies in a served folder, or outside of it: links, devices, hidden and unreadable things."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tux
from tests import features
from tests.e2e.client import FRESH, Client, get, put, request, stop, until

SECRET = b"outside of the root\n"
INSIDE = b"inside\n"

QUIET = time.time() - 1000


@pytest.fixture(scope="module")
def outside() -> Iterator[Path]:
    """A folder beside the served one, which everybody may read: only the root keeps clients from it."""
    with tempfile.TemporaryDirectory(prefix="tux-outside-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        put(folder / "secret.txt", SECRET)
        put(folder / "index.html", SECRET)
        yield folder


def expect_refused_link(server: tux.Server, path: str, link: str) -> None:
    """404, and one line that names the link, however often it is asked for."""
    for _ in range(3):
        response = get(server, path)
        assert response.status == 404
        assert SECRET not in response.body
    lines = [line for line in server.stderr_text().splitlines() if f"'{link}'" in line]
    assert lines == [
        f"tux: warning: not served: '{link}' is a symbolic link that is absolute, leads out of its root, or loops"
    ]


class TestLinks:
    def test_to_a_file_beside_it(self, site: Path, server: tux.Server) -> None:
        put(site / "links/file.txt", INSIDE)
        (site / "links/beside.txt").symlink_to("file.txt")
        assert get(server, "/links/beside.txt").body == INSIDE

    def test_to_a_file_above_it_but_inside(self, site: Path, server: tux.Server) -> None:
        put(site / "links/file.txt", INSIDE)
        put(site / "links/deep/x", "")
        (site / "links/deep/up.txt").symlink_to("../../links/file.txt")
        assert get(server, "/links/deep/up.txt").body == INSIDE

    def test_to_a_folder(self, site: Path, server: tux.Server) -> None:
        put(site / "links/folder/index.html", INSIDE)
        (site / "links/alias").symlink_to("folder")
        assert get(server, "/links/alias")["Location"] == "alias/"
        assert get(server, "/links/alias/").body == INSIDE

    def test_to_a_link(self, site: Path, server: tux.Server) -> None:
        put(site / "links/end.txt", INSIDE)
        (site / "links/chain-2.txt").symlink_to("end.txt")
        (site / "links/chain-1.txt").symlink_to("chain-2.txt")
        assert get(server, "/links/chain-1.txt").body == INSIDE

    def test_to_nothing(self, site: Path, server: tux.Server) -> None:
        put(site / "links/x", "")
        (site / "links/dangling.txt").symlink_to("nowhere.txt")
        assert get(server, "/links/dangling.txt").status == 404

    def test_relative_to_the_outside(self, site: Path, server: tux.Server, outside: Path) -> None:
        (site / "out.txt").symlink_to(f"../{outside.name}/secret.txt")
        assert (site / "out.txt").read_bytes() == SECRET
        expect_refused_link(server, "/out.txt", "out.txt")

    def test_absolute_to_the_outside(self, site: Path, server: tux.Server, outside: Path) -> None:
        (site / "absolute.txt").symlink_to(outside / "secret.txt")
        assert (site / "absolute.txt").read_bytes() == SECRET
        expect_refused_link(server, "/absolute.txt", "absolute.txt")

    def test_absolute_to_the_inside(self, site: Path, server: tux.Server) -> None:
        """Refused all the same: where it leads depends on where the root lies."""
        put(site / "target.txt", SECRET)
        (site / "absolute-inside.txt").symlink_to(site / "target.txt")
        expect_refused_link(server, "/absolute-inside.txt", "absolute-inside.txt")

    def test_a_folder_outside(self, site: Path, server: tux.Server, outside: Path) -> None:
        (site / "out").symlink_to(f"../{outside.name}")
        expect_refused_link(server, "/out/secret.txt", "out")
        for path in ("/out", "/out/", "/out/index.html", "/out/none"):
            response = get(server, path)
            assert (response.status, SECRET in response.body) == (404, False)

    def test_a_folder_outside_far_down(self, site: Path, server: tux.Server, outside: Path) -> None:
        put(site / "far/down/x", "")
        (site / "far/down/away").symlink_to(f"../../../{outside.name}")
        expect_refused_link(server, "/far/down/away/secret.txt", "far/down/away")

    def test_a_loop(self, site: Path, server: tux.Server) -> None:
        (site / "loop-1").symlink_to("loop-2")
        (site / "loop-2").symlink_to("loop-1")
        expect_refused_link(server, "/loop-1", "loop-1")

    def test_out_and_in_again(self, site: Path, server: tux.Server) -> None:
        """It leaves the root on its way."""
        put(site / "home.txt", SECRET)
        (site / "detour.txt").symlink_to(f"../{site.name}/home.txt")
        expect_refused_link(server, "/detour.txt", "detour.txt")

    def test_the_index(self, site: Path, server: tux.Server, outside: Path) -> None:
        put(site / "linked-index/x", "")
        (site / "linked-index/index.html").symlink_to(f"../../{outside.name}/index.html")
        expect_refused_link(server, "/linked-index/", "linked-index/index.html")

    def test_a_side_file(self, site: Path, server: tux.Server, outside: Path) -> None:
        put(site / "linked-side.css", INSIDE, QUIET)
        (site / "linked-side.css.gz").symlink_to(f"../{outside.name}/secret.txt")
        response = get(server, "/linked-side.css", accept_encoding="gzip")
        assert (response.status, response.body) == (200, INSIDE)

    def test_a_name_for_terminals(self, site: Path, server: tux.Server) -> None:
        """What is written to the log cannot move the cursor of whoever reads it."""
        (site / "\x1b[2Jlink\n").symlink_to("/etc/passwd")
        assert get(server, "/%1b[2Jlink%0a").status == 404
        assert "\x1b" not in server.stderr_text()
        assert r"'\x1b[2Jlink\n'" in server.stderr_text()

    def test_a_link_that_changes_all_the_time(self, site: Path, server: tux.Server, outside: Path) -> None:
        """Between a check and its use there is no gap: the kernel follows and checks in one step."""
        put(site / "race/inside.txt", INSIDE)
        link, new = site / "race/link.txt", site / "race/new"
        link.symlink_to("inside.txt")
        done = threading.Event()

        def swap() -> None:
            targets = ["inside.txt", f"../../{outside.name}/secret.txt", str(outside / "secret.txt")]
            turn = 0
            while not done.is_set():
                new.symlink_to(targets[turn % 3])
                new.replace(link)
                turn += 1

        swapper = threading.Thread(target=swap)
        swapper.start()
        seen: set[int] = set()
        try:
            with Client(server) as client:
                # Another query each time: none of it is remembered.
                for number in range(1500):
                    response = client.ask(f"/race/link.txt?{number}", range=f"bytes=0-{number},-1")
                    assert SECRET not in response.body
                    seen.add(response.status)
        finally:
            done.set()
            swapper.join()
        assert seen <= {200, 206, 404, 503}


class TestSpecialFiles:
    """None of them is opened: opening alone can hang, or do things."""

    def test_a_fifo(self, site: Path, server: tux.Server) -> None:
        os.mkfifo(site / "fifo", 0o666)
        assert get(server, "/fifo").status == 404
        assert get(server, "/fifo/").status == 404

    def test_a_fifo_does_not_wake_its_writer(self, site: Path, server: tux.Server) -> None:
        os.mkfifo(site / "waited", 0o666)
        assert get(server, "/waited").status == 404
        with pytest.raises(OSError, match="No such device or address"):  # nobody has it open to read
            os.close(os.open(site / "waited", os.O_WRONLY | os.O_NONBLOCK))

    def test_a_fifo_as_index_and_side_file(self, site: Path, server: tux.Server) -> None:
        put(site / "fifos/a.css", "x", QUIET)
        os.mkfifo(site / "fifos/index.html", 0o666)
        os.mkfifo(site / "fifos/a.css.gz", 0o666)
        assert get(server, "/fifos/").status == 404
        assert get(server, "/fifos/a.css", accept_encoding="gzip").body == b"x"

    def test_a_socket(self, site: Path, server: tux.Server) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(os.fspath(site / "socket"))
            assert get(server, "/socket").status == 404

    def test_devices(self, site: Path, server: tux.Server) -> None:
        features.require("root")
        for name, kind, number in [
            ("null", stat.S_IFCHR, (1, 3)),
            ("zero", stat.S_IFCHR, (1, 5)),
            ("ram", stat.S_IFBLK, (1, 0)),
        ]:
            try:
                os.mknod(site / name, kind | 0o666, os.makedev(*number))
            except PermissionError:
                pytest.skip("no device can be made here")
            (site / name).chmod(0o666)
            assert get(server, f"/{name}").status == 404


@pytest.fixture(scope="module")
def hidden(site: Path) -> None:
    put(site / ".htpasswd", SECRET)
    put(site / ".git/HEAD", SECRET)
    put(site / "deep/.env", SECRET)
    put(site / ".well-known/acme-challenge/token", INSIDE)
    put(site / ".well-known/.htpasswd", SECRET)
    put(site / "deep/.well-known/token", SECRET)


@pytest.mark.usefixtures("hidden")
class TestHidden:
    HIDDEN = (
        "/.htpasswd",
        "/.git/HEAD",
        "/.git/",
        "/.git",
        "/deep/.env",
        "/.well-known/.htpasswd",
        "/deep/.well-known/token",
    )

    @pytest.mark.parametrize("path", HIDDEN)
    def test_hidden(self, server: tux.Server, path: str) -> None:
        for spelling in (path, path.replace("/.", "//."), path.replace("/.", "/%2e"), path.replace("/.", "/x/../.")):
            response = get(server, spelling)
            assert (response.status, SECRET in response.body) == (404, False)

    def test_well_known(self, server: tux.Server) -> None:
        assert get(server, "/.well-known/acme-challenge/token").body == INSIDE
        assert get(server, "/%2ewell-known/acme-challenge/token").body == INSIDE

    def test_they_can_be_allowed(self, site: Path) -> None:
        with tux.Server(site, workers=1, dotfiles="allow") as server:
            for path in ("/.htpasswd", "/.git/HEAD", "/deep/.env"):
                assert get(server, path).body == SECRET
            stop(server)


class TestUnreadable:
    def test_a_file(self, site: Path, server: tux.Server) -> None:
        put(site / "closed.txt", SECRET).chmod(0)
        for method in ("GET", "HEAD"):
            assert get(server, "/closed.txt", method=method).status == 403

    def test_a_folder(self, site: Path, server: tux.Server) -> None:
        put(site / "closed/file.txt", SECRET)
        (site / "closed").chmod(0)
        try:
            assert get(server, "/closed/file.txt").status == 403
            assert get(server, "/closed/").status == 403
        finally:
            (site / "closed").chmod(0o755)

    def test_a_folder_that_can_only_be_passed(self, site: Path, server: tux.Server) -> None:
        put(site / "passed/file.txt", INSIDE)
        (site / "passed").chmod(0o711)
        assert get(server, "/passed/file.txt").body == INSIDE

    def test_it_becomes_readable(self, site: Path, server: tux.Server) -> None:
        file = put(site / "opened.txt", INSIDE)
        file.chmod(0)
        assert get(server, "/opened.txt").status == 403
        assert get(server, "/opened.txt").status == 403
        file.chmod(0o644)
        until(lambda: get(server, "/opened.txt").body == INSIDE, "it is served", FRESH)


# ---- Spellings.

_SEGMENTS = r"""
.. .. . a deep file.txt %2e%2e .%2e %2e ..%2f.. %2f ..%5c \..\ %252e%252e ..; %c0%ae%c0%ae ..%00 %00 ... ~ out link
secret.txt %2e%2e%2f%2e%2e ..%c0%af %u002e%u002e
"""
SEGMENTS = st.sampled_from(["", *_SEGMENTS.split()])


@pytest.fixture(scope="module")
def served_inside(outside: Path) -> Iterator[tuple[tux.Server, str]]:
    """A server of a folder that lies in the folder with the secret, and the name of that one."""
    root = outside / "root"
    put(root / "deep/file.txt", INSIDE)
    (root / "link").symlink_to("..")
    with tux.Server(root, workers=1, access_log="off") as server:
        yield server, outside.name
        stop(server)


@settings(max_examples=300)
@given(st.lists(SEGMENTS, min_size=1, max_size=9), st.sampled_from(["", "", "secret.txt", "index.html"]))
@example(["..", ".."], "secret.txt")
@example(["link"], "secret.txt")
@example(["deep", "..", "..", "secret.txt"], "")
def test_no_spelling_leads_out(served_inside: tuple[tux.Server, str], segments: list[str], name: str) -> None:
    server, _ = served_inside
    path = "/" + "/".join([*segments, name] if name else segments)
    response = get(server, path)
    assert response.status in (200, 301, 400, 404)
    assert SECRET not in response.body
    if response.status == 200:
        assert response.body == INSIDE


def test_names_of_every_byte(site: Path, server: tux.Server) -> None:
    """A file name may have any byte but "/" and NUL, and each can be asked for."""
    folder = os.fsencode(site / "names")
    os.makedirs(folder, exist_ok=True)
    with Client(server) as client:
        for byte in range(1, 256):
            if byte == ord("/"):
                continue
            with open(os.path.join(folder, b"x" + bytes([byte])), "wb") as file:
                file.write(b"%d" % byte)
            assert client.ask(f"/names/x%{byte:02x}").body == b"%d" % byte
        client.finish()


def test_the_longest_name(site: Path, server: tux.Server) -> None:
    put(site / ("n" * 251 + ".txt"), INSIDE)
    assert get(server, "/" + "n" * 251 + ".txt").body == INSIDE
    assert get(server, "/" + "n" * 252 + ".txt").status == 404


@pytest.mark.parametrize("length", [3000, 4094, 4095, 4096, 4097, 5000, 8000])
def test_long_paths(server: tux.Server, length: int) -> None:
    """Longer than the kernel takes (PATH_MAX), and still a valid request: such a file cannot be there."""
    path = ("/" + "p" * 200) * (length // 201 + 1)
    with Client(server) as client:
        client.sock.sendall(request(path[:length]))
        assert client.reader.response().status == 404
