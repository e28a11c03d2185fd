"""Addresses from sitemaps, access logs and folders."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux.ahead import sources
from tux.ahead.sources import Wanted, from_folder, from_log, from_sitemap, wanted_of

SITEMAP = """<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
  <url><loc> https://example.org/a?x=1&amp;y=2 </loc><lastmod>2026-01-01</lastmod></url>
  <url><loc><![CDATA[http://example.org:8080/ä b#part]]></loc>
    <image:image><image:loc>https://example.org/image.png</image:loc></image:image></url>
  <url><loc>ftp://example.org/no</loc></url>
  <url/>
</urlset>
"""


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://example.org", Wanted("/", "example.org")),
        ("https://example.org/a%20b?c=d", Wanted("/a%20b?c=d", "example.org")),
        ("https://user:pw@example.org:80/", Wanted("/", "example.org:80")),
        ("http://[::1]:80/a", Wanted("/a", "[::1]:80")),
        ("http://[::1", None),
        ("/a", None),
        ("javascript:alert(1)", None),
        ("http://a b/", None),
        ("http://a/x\r\nX: 1", Wanted("/xX:%201", "a")),
        ("http://a/" + "x" * 2048, None),
        ("", None),
    ],
)
def test_urls(url: str, wanted: Wanted | None) -> None:
    assert wanted_of(url) == wanted


class TestSitemaps:
    def test_pages(self) -> None:
        found = from_sitemap(SITEMAP.encode())
        assert found.pages == [Wanted("/a?x=1&y=2", "example.org"), Wanted("/%C3%A4%20b", "example.org:8080")]
        assert found.sitemaps == []
        assert from_sitemap(gzip.compress(SITEMAP.encode())) == found
        assert from_sitemap(b"\xef\xbb\xbf" + SITEMAP.encode()) == found

    def test_an_index(self) -> None:
        found = from_sitemap(b"<sitemapindex><sitemap><loc>http://a/b.xml</loc></sitemap></sitemapindex>")
        assert found == ([], [Wanted("/b.xml", "a")])

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"<html/>", "expected <urlset> or <sitemapindex>, got <html>"),
            (b"not XML", "not XML"),
            (b"", "not XML"),
            (b"\xff", "codec can't decode"),
            (b'<!DOCTYPE x [<!ENTITY a "aaaa">]><urlset/>', "no document type"),
            (b"\x1f\x8b" + b"x" * 20, "not gzip"),
            (gzip.compress(b"<urlset/>")[:-4], "cut short"),
        ],
    )
    def test_what_is_none(self, data: bytes, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            from_sitemap(data)

    def test_what_unpacks_to_too_much(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "MAX_SITEMAP_BYTES", 1000)
        with pytest.raises(ValueError, match="over 1000 bytes"):
            from_sitemap(gzip.compress(b" " * 1001))


class TestLogs:
    def test_formats(self) -> None:
        lines = [
            b'127.0.0.1 - - [24/Nov/2026:21:00:00 +0000] "GET /a.txt HTTP/1.1" 200 100\n',
            b'::1 - - [24/Nov/2026:21:00:00 +0000] "HEAD /b HTTP/1.0" 304 0 "-" "curl \\x22"\n',
            b'127.0.0.1 - - [x] "GET /a\\x22b HTTP/1.1" 200 1\n',
            b'{"method":"GET","target":"/c?d=\\u0022","status":206,"host":"example.org"}\n',
        ]
        assert set(from_log(lines)) == {
            *(Wanted("/a.txt"), Wanted("/b"), Wanted('/a"b'), Wanted('/c?d="', "example.org"))
        }

    def test_the_most_frequent_come_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        line = '{"method":"GET","target":"/%s","status":200}'
        lines = [(line % name).encode() for name in "abbcccbcd"]
        assert [wanted.target for wanted in from_log(lines)][:2] == ["/c", "/b"]
        monkeypatch.setattr(sources, "MAX_URLS", 1)
        assert from_log(lines) == [Wanted("/b")], "what came late finds no room"

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"nonsense",
            b'127.0.0.1 - - [x] "POST /a HTTP/1.1" 200 1',
            b'127.0.0.1 - - [x] "GET /a HTTP/1.1" 404 1',
            b'127.0.0.1 - - [x] "GET http://b/ HTTP/1.1" 200 1',
            b'127.0.0.1 - - [x] "GET /a\\x0D\\x0AX: HTTP/1.1" 200 1',
            b'127.0.0.1 - - [x] "-" 400 1',
            b"{",
            b"{}",
            b"[" * 10000,
            b"{" + b'"a":{' * 10000,
            b'{"method":"GET","target":"/a","status":"200"}',
            b'{"method":"GET","target":["/a"],"status":200}',
            b'{"method":"GET","target":"/a\\u000d","status":200}',
            b'{"method":"PUT","target":"/a","status":200}',
        ],
    )
    def test_what_is_passed_over(self, line: bytes) -> None:
        assert from_log([line]) == []

    def test_odd_hosts_are_not_taken(self) -> None:
        line = b'{"method":"GET","target":"/a","status":200,"host":"a\\r\\nX: 1"}'
        assert from_log([line]) == [Wanted("/a")]

    @given(st.binary(max_size=100))
    def test_no_line_does_harm(self, line: bytes) -> None:
        for beginning in (b"{", b'a - - [x] "GET /'):
            for wanted in from_log([beginning + line]):
                assert wanted.target.startswith("/")
                assert wanted.target.isascii()
                assert not {" ", "\r", "\n"} & set(wanted.target + wanted.host)


class TestFolders:
    def test_files(self, tmp_path: Path) -> None:
        for name in ("index.html", "a b.txt", "a b.txt.gz", "only.gz", ".secret", "x/index.html", "x/y.html", ".git/z"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("x")
        (tmp_path / "gone").symlink_to("nothing")
        assert [wanted.target for wanted in from_folder(str(tmp_path))] == [
            *("/a%20b.txt", "/", "/only.gz", "/x/", "/x/y.html")
        ]
        found = list(from_folder(str(tmp_path), prefix="/m/", host="a", index=("none", "y.html"), clean_urls=True))
        assert [wanted.target for wanted in found] == [
            *("/m/a%20b.txt", "/m/index", "/m/only.gz", "/m/x/index", "/m/x/")
        ]
        assert {wanted.host for wanted in found} == {"a"}

    def test_without_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            list(from_folder(str(tmp_path / "none")))
