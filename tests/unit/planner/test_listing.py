"""Listings of folders."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.planner.world import NOW_S, Answer, World
from tux._engine import ABSENT, EXACT, FOLDER, NEXT, NO_BODY, PUBLISH, REMEMBER
from tux.planner import entries, listing
from tux.planner.entries import Entry
from tux.planner.listing import Wish
from tux.planner.rules import GlobRule, HeaderRule

Write = Callable[..., Path]
JSON = "application/json"


class Page(HTMLParser):
    """The references of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.text = ""
        self.tags: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "a":
            self.hrefs.append(dict(attrs)["href"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(autouse=True)
def listed(world: World) -> None:
    world.serve(listing=True)


def rows(answer: Answer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(answer.body)
    return found


def names(world: World, target: str = "/") -> list[str]:
    return [row["name"] for row in rows(world.ask(target, accept=JSON))]


def test_a_folder_without_an_index_is_listed(world: World, write: Write) -> None:
    write("docs/a.txt", b"x" * 2048)
    (world.root / "docs/sub").mkdir()
    answer = world.ask("/docs/")
    assert answer.status == 200
    assert answer.fields["content-type"] == "text/html; charset=utf-8"
    assert answer.fields["cache-control"] == "no-cache"
    assert answer.fields["vary"] == "Accept"
    assert answer.fields["x-content-type-options"] == "nosniff"
    assert answer.fields["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    page = Page(answer.body.decode())
    assert page.hrefs[-3:] == ["../", "sub/", "a.txt"]
    assert "2.0 KiB" in page.text
    assert "2027-01-15 07:00" in page.text
    assert "script" not in page.tags


def test_what_it_depends_on(world: World, write: Write) -> None:
    write("docs/a.txt")
    answer = world.ask("/docs/")
    assert answer.flags == REMEMBER | EXACT | PUBLISH, "of the query, too"
    assert 0 < answer.plan.ttl_ms <= 1000
    assert [(check.path, check.kind) for check in answer.plan.checks] == [
        (b"docs/index.html", ABSENT),
        (b"docs/", FOLDER),
    ]


def test_without_the_rule_it_is_404(world: World, write: Write) -> None:
    world.serve()
    write("docs/a.txt")
    assert world.ask("/docs/").status == 404


def test_an_index_wins(world: World, write: Write) -> None:
    write("docs/index.html", b"index")
    assert world.ask("/docs/").body == b"index"


def test_the_path_without_a_slash_leads_to_it(world: World, write: Write) -> None:
    world.serve(listing=True, falls_through=True)
    write("docs/a.txt")
    assert world.ask("/docs").fields["location"] == "docs/"
    assert world.ask("/docs/").status == 200
    assert world.ask("/none/").flags & NEXT


@pytest.mark.parametrize("target", ["/none/", "/a.txt/", "/.git/"])
def test_what_is_no_folder_or_hidden_is_not_found(world: World, write: Write, target: str) -> None:
    write("a.txt")
    write(".git/config")
    assert world.ask(target).status == 404


def test_a_folder_that_cannot_be_read_is_refused(world: World, write: Write) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    write("docs/a.txt")
    (world.root / "docs").chmod(0o311)
    assert world.ask("/docs/").status == 403
    (world.root / "docs").chmod(0o755)


def test_only_what_would_be_served_is_listed(world: World, write: Write) -> None:
    write("a.txt")
    write(".hidden")
    write("own.log")
    write("script.php")
    write("closed.txt").chmod(0o640)
    os.mkfifo(world.root / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(world.root / "socket"))
    os.symlink("a.txt", world.root / "link")
    os.symlink("/etc/passwd", world.root / "out")
    os.symlink("../..", world.root / "up")
    os.symlink("loop", world.root / "loop")
    os.symlink("nothing", world.root / "dangling")
    (world.root / "sub").mkdir()
    os.symlink("sub", world.root / "linked")
    found = os.stat(world.root / "own.log")
    world.serve(
        listing=True,
        own=frozenset({(found.st_dev, found.st_ino)}),
        redirected=frozenset({b"php"}),
        mode_allowed=0o004,
    )
    assert names(world) == ["linked", "sub", "a.txt", "link"]
    (folder,) = [row for row in rows(world.ask("/", accept=JSON)) if row["name"] == "linked"]
    assert folder == {"name": "linked", "url": "linked/", "type": "directory"}, "its time is not known"


def test_dotfiles_when_they_are_served(world: World, write: Write) -> None:
    world.serve(listing=True, dotfiles=True)
    write(".a")
    assert names(world) == [".a"]


_TABLE = ("table", "thead", "tbody", "tr", "th", "td", "span", "time")
NASTY = [
    b"<script>alert(1)<script>",
    b'"><img src=x onerror=y>.png',
    b"a&b=c?d#e%20.txt",
    b"javascript:alert(1)",
    b"caf\xc3\xa9 \xff\xfe",
    b"\xe2\x80\xaetxt.exe",
    b"new\nline\r\t",
    b"'single'",
    b"a:b",
    b"-",
    b"x" * 255,
]


def test_every_name_is_escaped_and_leads_to_its_file(world: World, write: Write) -> None:
    for number, name in enumerate(NASTY):
        (world.root / "d").mkdir(exist_ok=True)
        Path(os.fsdecode(bytes(world.root) + b"/d/" + name)).write_bytes(b"%d" % number)
    page = Page(world.ask("/d/").body.decode())
    assert {"script", "img"}.isdisjoint(page.tags)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", page.text)
    for hrefs in (page.hrefs[-len(NASTY) :], [row["url"] for row in rows(world.ask("/d/", accept=JSON))]):
        found = {urljoin("http://h/d/", href) for href in hrefs}
        assert {unquote_to_bytes(url.removeprefix("http://h/d/")) for url in found} == set(NASTY)
        for url in found:
            assert world.ask(url.removeprefix("http://h")).body == b"%d" % NASTY.index(
                unquote_to_bytes(url.removeprefix("http://h/d/"))
            )


@given(st.lists(st.binary(min_size=1, max_size=40).filter(lambda name: b"/" not in name and b"\0" not in name)))
def test_no_name_changes_the_page_around_it(found: list[bytes]) -> None:
    """Whatever bytes it has: there are as many rows, the references lead to the names, and nothing else is there."""
    made = [Entry(name, False, 1, 0, 0o644, 1, number) for number, name in enumerate(found)]
    page = Page(listing.as_html(b"/d/", 0, made, Wish(), 1, complete=True).decode("utf-8"))
    assert page.tags.count("tr") == len(found) + 2
    assert set(page.tags) <= {*("html", "head", "meta", "title", "style", "body", "h1", "a", "bdi", "p"), *_TABLE}
    references = page.hrefs[len(page.hrefs) - len(found) :]
    assert [unquote_to_bytes(href) for href in references] == found
    for href in references:
        assert re.fullmatch(r"[!$%'()*+,;=@~\-._0-9A-Za-z&]+", href)
        assert urljoin("http://h/d/", href).startswith("http://h/d/") or unquote_to_bytes(href) in (b".", b"..")
    rows = json.loads(listing.as_json(made))
    assert [unquote_to_bytes(row["url"]) for row in rows] == found


def test_a_name_of_the_path_is_escaped(world: World, write: Write) -> None:
    write("<b>&/x")
    body = world.ask("/%3Cb%3E&/").body.decode()
    assert "b" not in Page(body).tags
    assert "<title>/&lt;b&gt;&amp;/</title>" in body


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("", ["sub", "A.txt", "b.txt", "c.txt"]),
        ("?sort=name&order=desc", ["sub", "c.txt", "b.txt", "A.txt"]),
        ("?sort=size", ["sub", "b.txt", "c.txt", "A.txt"]),
        ("?sort=size&order=desc", ["sub", "A.txt", "c.txt", "b.txt"]),
        ("?sort=date", ["sub", "c.txt", "A.txt", "b.txt"]),
        ("?order=desc&sort=date", ["sub", "b.txt", "A.txt", "c.txt"]),
        ("?sort=%6Eame&order=desc", ["sub", "c.txt", "b.txt", "A.txt"]),
        ("?sort=bogus&order=up&page=x", ["sub", "A.txt", "b.txt", "c.txt"]),
        ("?" + "a=1&" * 20 + "sort=size", ["sub", "A.txt", "b.txt", "c.txt"]),
        ("?page=99", ["sub", "A.txt", "b.txt", "c.txt"]),
        ("?page=-1", ["sub", "A.txt", "b.txt", "c.txt"]),
        ("?page=\xb2", ["sub", "A.txt", "b.txt", "c.txt"]),
    ],
)
def test_sorted_by_the_query(world: World, write: Write, query: str, order: list[str]) -> None:
    write("A.txt", b"xxx", age_s=200)
    write("b.txt", b"x", age_s=100)
    write("c.txt", b"xx", age_s=300)
    (world.root / "sub").mkdir()
    assert names(world, "/" + query) == order


def test_the_heads_of_columns_toggle(world: World, write: Write) -> None:
    write("a.txt")
    heads = Page(world.ask("/").body.decode()).hrefs[:3]
    assert heads == ["?sort=name&order=desc", "?sort=size&order=asc", "?sort=date&order=asc"]
    body = world.ask("/?sort=size").body.decode()
    assert Page(body).hrefs[:3] == ["?sort=name&order=asc", "?sort=size&order=desc", "?sort=date&order=asc"]
    assert 'aria-sort="ascending"><a href="?sort=size&amp;order=desc">Size' in body


def test_json(world: World, write: Write) -> None:
    write("a b.txt", b"12345")
    answer = world.ask("/", accept=JSON)
    assert answer.fields["content-type"] == "application/json"
    assert answer.fields["vary"] == "Accept"
    assert "content-security-policy" not in answer.fields
    assert rows(answer) == [
        {"name": "a b.txt", "url": "a%20b.txt", "type": "file", "mtime": "2027-01-15T07:00:00Z", "size": 5}
    ]


def test_pages(world: World, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE_ENTRIES", 2)
    for name in "abcde":
        write(name)
    first = world.ask("/?sort=name", accept=JSON)
    assert first.fields["link"] == '<?sort=name&order=asc&page=2>; rel="next"'
    assert [names(world, f"/?page={number}") for number in (1, 2, 3)] == [["a", "b"], ["c", "d"], ["e"]]
    assert "link" not in world.ask("/?page=3", accept=JSON).fields
    page = Page(world.ask("/?page=2").body.decode())
    assert page.hrefs[-2:] == ["?sort=name&order=asc", "?sort=name&order=asc&page=3"]
    assert "page 2 of 3" in page.text


def test_a_bound_on_entries_is_told(world: World, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        write(name)
    assert "There is more" not in world.ask("/").body.decode()
    assert "tux-listing-incomplete" not in world.ask("/", accept=JSON).fields
    monkeypatch.setattr(entries, "MAX_ENTRIES", 2)
    monkeypatch.setattr(listing, "MAX_ENTRIES", 2)
    world.serve(listing=True)
    answer = world.ask("/")
    assert "There is more in this folder: only 2 entries" in answer.body.decode()
    assert len(names(world)) == 2
    for accept in (JSON, "text/html"):  # programs are told, too
        for method in ("GET", "HEAD"):
            assert world.ask("/", method=method, accept=accept).fields["tux-listing-incomplete"] == "limit=2"


def test_an_empty_folder(world: World) -> None:
    assert "This folder is empty." in Page(world.ask("/").body.decode()).text
    assert rows(world.ask("/", accept=JSON)) == []


def test_breadcrumbs_lead_up(world: World, write: Write) -> None:
    write("a/b/c/x")
    page = Page(world.ask("/a/b/c/").body.decode())
    assert page.hrefs[:3] == ["../../../", "../../", "../"]
    assert [urljoin("http://h/a/b/c/", href) for href in page.hrefs[:3]] == [
        "http://h/",
        "http://h/a/",
        "http://h/a/b/",
    ]


def test_below_a_mount_they_end_there(world: World, write: Write) -> None:
    world.serve(listing=True, mount=b"/files")
    write("a/x")
    page = Page(world.ask("/files/a/").body.decode())
    assert page.hrefs[0] == "../"
    assert page.hrefs[-2:] == ["../", "x"]
    assert Page(world.ask("/files/").body.decode()).hrefs[-1] == "a/"
    assert "../" not in Page(world.ask("/files/").body.decode()).hrefs


def test_tags(world: World, write: Write) -> None:
    write("a.txt")
    answer = world.ask("/")
    again = world.ask("/", if_none_match=answer.fields["etag"])
    assert again.status == 304
    assert again.fields["etag"] == answer.fields["etag"]
    assert again.fields["vary"] == "Accept"
    assert "content-type" not in again.fields
    assert 0 < again.plan.ttl_ms <= 1000
    assert world.ask("/", accept=JSON).fields["etag"] != answer.fields["etag"]
    assert world.ask("/", if_match='"other"').status == 412
    assert world.ask("/", if_modified_since="Fri, 15 Jan 2037 07:00:00 GMT").status == 200, "there is no Last-Modified"


def test_head_and_ranges(world: World, write: Write) -> None:
    write("a.txt")
    get, head = world.ask("/"), world.ask("/", "HEAD")
    assert head.plan.head == get.plan.head
    assert head.flags & NO_BODY
    assert world.ask("/", range="bytes=0-1").status == 200
    assert "accept-ranges" not in get.fields


def test_header_rules_count_and_cache_rules_do_not(world: World, write: Write) -> None:
    world.serve(
        listing=True,
        cache_control=(GlobRule("*", "max-age=31536000, immutable"),),
        headers=(
            HeaderRule("*", "X-A", "1"),
            HeaderRule("*", "Content-Type", "text/plain"),
            HeaderRule("*", "Server", "mine"),
            HeaderRule("*.txt", "X-B", "2"),
            HeaderRule("*", "Content-Security-Policy", "default-src 'self'"),
        ),
    )
    write("d/a.txt")
    fields = world.ask("/d/").fields
    assert fields["cache-control"] == "no-cache"
    assert fields["content-type"] == "text/html; charset=utf-8"
    assert (fields["x-a"], fields["server"]) == ("1", "mine")
    assert "x-b" not in fields
    assert fields["content-security-policy"] == f"{listing.POLICY}, default-src 'self'", "both hold"


def test_what_was_read_is_kept_for_a_second(world: World, write: Write) -> None:
    now = 0
    folders = entries.Folders(world.roots, lambda name, entry: True, clock=lambda: now)

    def read() -> list[bytes]:
        return sorted(entry.name for entry in folders.read(world.roots.open_folder(0, b"")).entries)

    write("a")
    assert read() == [b"a"]
    write("b")
    now = entries.KEEP_NS - 1
    assert read() == [b"a"]
    now += 1
    assert read() == [b"a", b"b"]
    for number in range(entries.MAX_KEPT + 1):
        write(f"{number}/x")
        folders.read(world.roots.open_folder(0, b"%d" % number))
    assert len(folders._kept) == entries.MAX_KEPT


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 1024**3 // 2, "2.5 GiB"),
        (2**63, "8.0 EiB"),
    ],
)
def test_sizes(size: int, shown: str) -> None:
    assert listing._size(size) == shown


def test_times_out_of_bounds() -> None:
    entry = Entry(b"x", False, 0, -(10**18), 0, 0, 0)
    assert json.loads(listing.as_json([entry]))[0]["mtime"] == "1970-01-01T00:00:00Z"
    entry = entry._replace(mtime_ns=10**22)
    assert json.loads(listing.as_json([entry]))[0]["mtime"] == "9999-12-31T23:59:59Z"


def test_the_largest_page_fits_a_reply() -> None:
    worst = [Entry(b'"' * 255, False, 2**63, NOW_S * 10**9, 0, 0, n) for n in range(listing.PAGE_ENTRIES)]
    assert len(listing.as_html(b"/", 0, worst, Wish(), 2, complete=True)) < 1_500_000
    assert len(listing.as_json(worst)) < 1_500_000


def test_a_flood_of_queries_is_one_look_and_one_page(
    world: World, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a query says beyond what is understood: nothing is read, sorted or rendered again."""
    for number in range(20):
        write(f"{number}.txt")
    work: list[str] = []

    def counted(name: str) -> None:
        does = getattr(listing, name)

        def counts(*args: Any, **more: Any) -> Any:
            work.append(name)
            return does(*args, **more)

        monkeypatch.setattr(listing, name, counts)

    for name in ("in_order", "as_html", "as_json"):
        counted(name)
    bodies = {world.ask(f"/?x={number}&page={number}&order=asc").body for number in range(100)}
    assert (len(bodies), work) == (1, ["in_order", "as_html"])
    world.ask("/?y", accept=JSON)
    world.ask("/?z", accept=JSON)
    assert work == ["in_order", "as_html", "as_json"]
    world.ask("/?order=desc")
    assert work[3:] == ["in_order", "as_html"]


def test_what_is_kept_of_listings_is_bounded(world: World, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "KEPT_BYTES", 5000)
    monkeypatch.setattr(listing, "KEPT_ENTRIES", 3 * (10 + listing.ITSELF))
    world.serve(listing=True)
    for number in range(10):
        for name in range(10):
            write(f"{number}/{name}.txt")
        world.ask(f"/{number}/")
    made = world.static._listing
    assert made is not None
    assert made._bodies.total <= 5000
    assert (made._orders.total, len(made._orders)) == (3 * (10 + listing.ITSELF), 3)


def test_the_same_folder_at_two_paths(world: World, write: Write) -> None:
    write("d/x")
    os.symlink("d", world.root / "e")
    assert b"<title>/d/</title>" in world.ask("/d/").body
    assert b"<title>/e/</title>" in world.ask("/e/").body


def test_the_time_for_listings_is_bounded(world: World, write: Write) -> None:
    """A flood of requests for ever other folders, pages and orders leaves the planner to the others."""
    write("a/x")
    write("b/x")
    made = world.static._listing
    assert made is not None
    answer = world.ask("/a/")
    made._allowance.spend(2 * entries.BURST_NS)
    assert world.ask("/a/?x").body == answer.body, "what is kept costs nothing"
    for target in ("/a/?sort=size", "/b/"):
        busy = world.ask(target)
        assert (busy.status, busy.fields["retry-after"]) == (503, "1")
        assert not busy.flags & REMEMBER
    made._allowance.spend(-2 * entries.BURST_NS)
    assert world.ask("/a/?sort=size").status == world.ask("/b/").status == 200
