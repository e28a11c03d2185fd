# SPDX-License-Identifier: MIT
"""Files on disk, and what is answered for them: RFC 9110 on real files. The corpus has the odd requests."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from pathlib import Path

import pytest

import tux
from tests.corpus.reader import parse_date
from tests.e2e.client import FRESH, Client, get, put, stop, until

QUIET = time.time() - 1000
"""A time of change that is long ago: the answer is remembered without a time to live."""

GIB = 1 << 30


class TestMediaTypes:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("a.html", "text/html; charset=utf-8"),
            ("a.htm", "text/html; charset=utf-8"),
            ("a.HTML", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript"),
            ("a.mjs", "text/javascript"),
            ("a.json", "application/json"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.md", "text/markdown; charset=utf-8"),
            ("a.xml", "application/xml"),
            ("a.svg", "image/svg+xml"),
            ("a.png", "image/png"),
            ("a.jpg", "image/jpeg"),
            ("a.jpeg", "image/jpeg"),
            ("a.webp", "image/webp"),
            ("a.avif", "image/avif"),
            ("a.ico", "image/x-icon"),
            ("a.woff2", "font/woff2"),
            ("a.wasm", "application/wasm"),
            ("a.pdf", "application/pdf"),
            ("a.mp4", "video/mp4"),
            ("a.zip", "application/zip"),
            ("a.b.txt", "text/plain; charset=utf-8"),
            ("a.txt.unknown", "application/octet-stream"),
            ("a", "application/octet-stream"),
            ("txt", "application/octet-stream"),
        ],
    )
    def test_by_name(self, site: Path, server: tux.Server, name: str, kind: str) -> None:
        put(site / "types" / name, "x")
        response = get(server, f"/types/{name}")
        assert response["Content-Type"] == kind
        assert response["X-Content-Type-Options"] == "nosniff"


class TestSizes:
    """The bounds between bodies in memory and in files, and between slices of the latter."""

    @pytest.mark.parametrize(
        "size", [0, 1, 65535, 65536, 65537, 512 * 1024 - 1, 512 * 1024, 512 * 1024 + 1, 3_000_000], ids=str
    )
    def test_every_byte_arrives_each_time(self, site: Path, server: tux.Server, size: int) -> None:
        data = os.urandom(size)
        put(site / f"sizes/{size}.bin", data, QUIET)
        with Client(server) as client:
            for _ in range(4):  # planned, admitted, remembered, remembered
                response = client.ask(f"/sizes/{size}.bin")
                assert response.status == 200
                assert response["Content-Length"] == str(size)
                assert response.body == data
            assert client.ask(f"/sizes/{size}.bin", method="HEAD")["Content-Length"] == str(size)
            for first, last in [(0, 0), (0, size // 2), (size // 2, size - 1), (size - 1, size - 1), (65535, 65536)]:
                if not 0 <= first <= last < size:
                    continue
                for _ in range(3):
                    part = client.ask(f"/sizes/{size}.bin", range=f"bytes={first}-{last}")
                    assert part["Content-Range"] == f"bytes {first}-{last}/{size}"
                    assert part.body == data[first : last + 1]
            client.finish()


class TestHead:
    @pytest.mark.parametrize("path", ["/head/a.txt", "/head/big.bin", "/head/", "/head", "/head/none", "/head/empty"])
    def test_as_get_without_the_body(self, site: Path, server: tux.Server, path: str) -> None:
        for name, data in [("a.txt", b"a"), ("big.bin", bytes(100_000)), ("index.html", b"index"), ("empty", b"")]:
            if not (site / "head" / name).exists():
                put(site / "head" / name, data, QUIET)
        with Client(server) as client:
            for _ in range(3):
                answer, head = client.ask(path), client.ask(path, method="HEAD")
                assert (head.status, head.body) == (answer.status, b"")
                assert head.stable_head == answer.stable_head


class TestFolders:
    def test_the_index(self, site: Path, server: tux.Server) -> None:
        put(site / "with-index/index.html", "the index\n")
        response = get(server, "/with-index/")
        assert (response.status, response.body) == (200, b"the index\n")
        assert response["Content-Type"] == "text/html; charset=utf-8"

    def test_without_its_slash(self, site: Path, server: tux.Server) -> None:
        put(site / "without-slash/index.html", "x")
        response = get(server, "/without-slash?a=b", host="elsewhere.example")
        assert (response.status, response["Location"]) == (301, "without-slash/?a=b")

    def test_without_an_index(self, site: Path, server: tux.Server) -> None:
        put(site / "bare/secret-name.txt", "x")
        response = get(server, "/bare/")
        assert response.status == 404
        assert b"secret-name" not in response.body

    def test_an_index_that_is_a_folder(self, site: Path, server: tux.Server) -> None:
        put(site / "odd/index.html/file.txt", "x")
        assert get(server, "/odd/").status == 404

    def test_other_names_of_the_index(self, site: Path) -> None:
        put(site / "two/first.htm", "first")
        put(site / "two/second.htm", "second")
        put(site / "one/second.htm", "second")
        put(site / "one/index.html", "not asked for")
        with tux.Server(site, workers=1, index=["first.htm", "second.htm"]) as server:
            assert get(server, "/two/").body == b"first"
            assert get(server, "/one/").body == b"second"
            stop(server)


class TestConditions:
    def test_validators(self, site: Path, server: tux.Server) -> None:
        put(site / "validators.txt", "x", 784111777)
        response = get(server, "/validators.txt")
        assert response["Last-Modified"] == "Sun, 06 Nov 1994 08:49:37 GMT"
        assert response["ETag"].startswith('"')
        assert response["ETag"].endswith('"')

    @pytest.mark.parametrize("size", [10, 100_000])
    def test_304(self, site: Path, server: tux.Server, size: int) -> None:
        put(site / f"conditions-{size}.html", bytes(size), QUIET)
        path = f"/conditions-{size}.html"
        with Client(server) as client:
            full = client.ask(path)
            for _ in range(3):
                for fields in (
                    {"if_none_match": full["ETag"]},
                    {"if_none_match": f'"x", W/{full["ETag"]}'},
                    {"if_none_match": "*"},
                    {"if_modified_since": full["Last-Modified"]},
                ):
                    response = client.ask(path, **fields)
                    assert response.status == 304
                    # RFC 9110 section 15.4.5: those that a 200 would have had, and no metadata of the representation.
                    assert response.fields.keys() == {"date", "server", "etag"}
                    assert response["ETag"] == full["ETag"]
                assert client.ask(path, if_none_match='"x"').body == bytes(size)
                assert client.ask(path, if_modified_since="Sun, 06 Nov 1994 08:49:37 GMT").body == bytes(size)

    @pytest.mark.parametrize("size", [10, 100_000])
    def test_412(self, site: Path, server: tux.Server, size: int) -> None:
        put(site / f"failed-{size}.txt", bytes(size), QUIET)
        path = f"/failed-{size}.txt"
        full = get(server, path)
        for fields in ({"if_match": '"x"'}, {"if_unmodified_since": "Sun, 06 Nov 1994 08:49:37 GMT"}):
            response = get(server, path, **fields)
            assert response.status == 412
            assert response.get("ETag") == full["ETag"]
        assert get(server, path, if_match=full["ETag"]).status == 200
        assert get(server, path, if_unmodified_since=full["Last-Modified"]).status == 200

    def test_a_304_with_what_the_200_would_have_said(self, site: Path) -> None:
        put(site / "fresh.css", "x", QUIET)
        put(site / "fresh.css.gz", gzip.compress(b"x"), QUIET)
        with tux.Server(site, workers=1, cache_control={"*.css": "max-age=60"}) as server:
            full = get(server, "/fresh.css")
            response = get(server, "/fresh.css", if_none_match=full["ETag"])
            assert response.status == 304
            assert response["Cache-Control"] == full["Cache-Control"] == "max-age=60"
            assert response["Vary"] == full["Vary"] == "Accept-Encoding"
            stop(server)

    def test_a_time_in_the_future(self, site: Path, server: tux.Server) -> None:
        """Last-Modified is never later than Date (section 8.8.2.1); the reader checks that. And it is no strong
        validator."""
        put(site / "future.txt", "abc", time.time() + 10_000)
        response = get(server, "/future.txt")
        assert response.status == 200
        assert get(server, "/future.txt", range="bytes=0-0", if_range=response["Last-Modified"]).status == 200
        assert get(server, "/future.txt", range="bytes=0-0", if_range=response["ETag"]).status == 206

    def test_a_time_before_1970(self, site: Path, server: tux.Server) -> None:
        put(site / "past.txt", "abc", -10_000)
        assert get(server, "/past.txt")["Last-Modified"] == "Thu, 01 Jan 1970 00:00:00 GMT"


class TestTags:
    def test_the_same_content_has_the_same_tag(self, site: Path, server: tux.Server) -> None:
        """On each of several machines, too, and though the times of change differ."""
        put(site / "tag/a.txt", "same", QUIET)
        put(site / "tag/b.txt", "same", QUIET - 50)
        put(site / "tag/c.txt", "else", QUIET)
        a, b, c = (get(server, f"/tag/{name}.txt")["ETag"] for name in "abc")
        assert a == b != c

    def test_of_large_files(self, site: Path, server: tux.Server) -> None:
        """Size and time of change; a copy that keeps the time has the same."""
        put(site / "tag/big-a.bin", os.urandom(100_000), QUIET)
        shutil.copy2(site / "tag/big-a.bin", site / "tag/big-b.bin")
        put(site / "tag/big-c.bin", bytes(100_000), QUIET + 1)
        put(site / "tag/big-d.bin", bytes(100_001), QUIET)
        tags = [get(server, f"/tag/big-{name}.bin")["ETag"] for name in "abcd"]
        assert tags[0] == tags[1]
        assert len({tags[0], tags[2], tags[3]}) == 3


class TestRanges:
    def test_over_4_gib(self, site: Path, server: tux.Server) -> None:
        size = 5 * GIB + 3
        path = site / "sparse.bin"
        with path.open("wb") as file:
            file.truncate(size)
            for at, text in [(0, b"first"), (4 * GIB - 4, b"boundary"), (size - 4, b"last")]:
                file.seek(at)
                file.write(text)
        path.chmod(0o644)
        with Client(server) as client:
            assert client.ask("/sparse.bin", method="HEAD")["Content-Length"] == str(size)
            for _ in range(3):
                for asked, first, body in [
                    ("0-4", 0, b"first"),
                    (f"{4 * GIB - 4}-{4 * GIB + 3}", 4 * GIB - 4, b"boundary"),
                    (f"{4 * GIB}-{4 * GIB + 3}", 4 * GIB, b"dary"),
                    ("-4", size - 4, b"last"),
                    (f"{size - 4}-", size - 4, b"last"),
                    (f"{size - 4}-{100 * GIB}", size - 4, b"last"),
                ]:
                    response = client.ask("/sparse.bin", range=f"bytes={asked}")
                    assert response.status == 206
                    assert response["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{size}"
                    assert response.body == body
                assert client.ask("/sparse.bin", range=f"bytes={size}-")["Content-Range"] == f"bytes */{size}"
                several = client.ask("/sparse.bin", range=f"bytes=0-4,{4 * GIB - 4}-{4 * GIB + 3},-4")
                assert several["Content-Type"].startswith("multipart/byteranges; boundary=")
                for part in (b"/5368709123\r\n\r\nfirst\r\n", b"\r\n\r\nboundary\r\n", b"\r\n\r\nlast\r\n"):
                    assert part in several.body
            client.finish()

    def test_a_download_that_is_continued(self, site: Path, server: tux.Server) -> None:
        data = os.urandom(1_000_000)
        put(site / "continued.bin", data, QUIET)
        with Client(server) as client:
            whole = client.ask("/continued.bin")
            got = b""
            while len(got) < len(data):
                part = client.ask(
                    "/continued.bin", range=f"bytes={len(got)}-{len(got) + 150_000}", if_range=whole["ETag"]
                )
                assert part.status == 206
                assert part["ETag"] == whole["ETag"]
                got += part.body
            assert got == data

    def test_of_another_version_all_is_sent(self, site: Path, server: tux.Server) -> None:
        put(site / "version.txt", "0123456789", QUIET)
        old = get(server, "/version.txt")
        put(site / "version.txt", "abcdefghij", QUIET + 5)
        until(lambda: get(server, "/version.txt")["ETag"] != old["ETag"], "the change is seen", FRESH)
        for condition in (old["ETag"], old["Last-Modified"]):
            response = get(server, "/version.txt", range="bytes=5-", if_range=condition)
            assert (response.status, response.body) == (200, b"abcdefghij")


class TestSideFiles:
    CSS = b"body { color: black }\n" * 100

    def test_what_is_sent_decodes_to_the_file(self, site: Path, server: tux.Server) -> None:
        put(site / "side/a.css", self.CSS, QUIET)
        put(site / "side/a.css.gz", gzip.compress(self.CSS), QUIET)
        plain = get(server, "/side/a.css")
        coded = get(server, "/side/a.css", accept_encoding="gzip")
        assert (plain.body, plain.get("Content-Encoding")) == (self.CSS, None)
        assert (gzip.decompress(coded.body), coded["Content-Encoding"]) == (self.CSS, "gzip")
        assert plain["Vary"] == coded["Vary"] == "Accept-Encoding"
        assert plain["ETag"] != coded["ETag"]
        assert get(server, "/side/a.css", accept_encoding="gzip", if_none_match=coded["ETag"]).status == 304
        assert get(server, "/side/a.css", if_none_match=coded["ETag"]).status == 200

    def test_large_ones(self, site: Path, server: tux.Server) -> None:
        text = os.urandom(50_000).hex().encode() * 2
        put(site / "side/large.js", text, QUIET)
        put(site / "side/large.js.gz", gzip.compress(text), QUIET)
        coded = get(server, "/side/large.js", accept_encoding="gzip")
        assert coded["Content-Encoding"] == "gzip"
        assert gzip.decompress(coded.body) == text
        assert get(server, "/side/large.js").body == text

    def test_never_older_than_the_file(self, site: Path, server: tux.Server) -> None:
        put(site / "side/old.css", "new", QUIET)
        put(site / "side/old.css.gz", gzip.compress(b"old"), QUIET - 1)
        assert get(server, "/side/old.css", accept_encoding="gzip").body == b"new"
        assert "Content-Encoding" not in get(server, "/side/old.css", accept_encoding="gzip")

    def test_nor_by_a_nanosecond(self, site: Path, server: tux.Server) -> None:
        for name, data in (("ns.css", b"new"), ("ns.css.gz", gzip.compress(b"old"))):
            put(site / "side" / name, data)
        os.utime(site / "side/ns.css", ns=(10**18 + 1, 10**18 + 1))
        os.utime(site / "side/ns.css.gz", ns=(10**18, 10**18))
        assert get(server, "/side/ns.css", accept_encoding="gzip").body == b"new"

    def test_a_side_file_alone_is_not_the_file(self, site: Path, server: tux.Server) -> None:
        put(site / "side/alone.css.gz", gzip.compress(b"x"))
        assert get(server, "/side/alone.css", accept_encoding="gzip").status == 404

    def test_a_folder_is_no_side_file(self, site: Path, server: tux.Server) -> None:
        put(site / "side/folder.css", "x", QUIET)
        put(site / "side/folder.css.gz/y", "x")
        response = get(server, "/side/folder.css", accept_encoding="gzip")
        assert (response.status, response.body) == (200, b"x")

    def test_of_the_index(self, site: Path, server: tux.Server) -> None:
        put(site / "side-index/index.html", "x", QUIET)
        put(site / "side-index/index.html.gz", gzip.compress(b"x"), QUIET)
        assert get(server, "/side-index/", accept_encoding="gzip")["Content-Encoding"] == "gzip"

    def test_they_can_be_switched_off(self, site: Path) -> None:
        put(site / "side/off.css", "x", QUIET)
        put(site / "side/off.css.gz", gzip.compress(b"x"), QUIET)
        with tux.Server(site, workers=1, precompressed=False) as server:
            response = get(server, "/side/off.css", accept_encoding="gzip")
            assert response.body == b"x"
            assert "Vary" not in response
            stop(server)


class TestHeaders:
    def test_of_the_command_line(self, site: Path) -> None:
        put(site / "headers/a.html", "x")
        put(site / "headers/a.css", "x")
        with tux.Server(
            site,
            workers=1,
            cache_control={"*.html": "no-cache", "*": "max-age=3600"},
            headers={"X-Frame-Options": "DENY", "*.css": {"Access-Control-Allow-Origin": "*"}},
        ) as server:
            html, css = get(server, "/headers/a.html"), get(server, "/headers/a.css")
            assert (html["Cache-Control"], css["Cache-Control"]) == ("no-cache", "max-age=3600")
            assert html["X-Frame-Options"] == css["X-Frame-Options"] == "DENY"
            assert (html.get("Access-Control-Allow-Origin"), css["Access-Control-Allow-Origin"]) == (None, "*")
            assert "Cache-Control" not in get(server, "/headers/none")
            stop(server)


class TestDate:
    def test_it_goes_on(self, site: Path, server: tux.Server) -> None:
        """A remembered answer has the Date of now, not of then. That each is right is checked by the reader."""
        put(site / "date.txt", "x", QUIET)
        seen: list[int] = []
        with Client(server) as client:
            while len(set(seen)) < 3:
                seen.append(parse_date(client.ask("/date.txt")["Date"]))
        assert seen == sorted(seen)
