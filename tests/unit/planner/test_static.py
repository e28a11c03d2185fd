"""Static files: what a request for a path is answered with."""

from __future__ import annotations

import logging
import os
import resource
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.planner.world import NOW_NS, NOW_S, Answer, Ask, World
from tux._engine import (
    ABSENT,
    CLOSE,
    EXACT,
    FILE,
    FOLDER,
    NEXT,
    NO_BODY,
    PUBLISH,
    RANGE,
    REMEMBER,
    content_tag,
)
from tux.http.dates import format_date
from tux.planner.rules import GlobRule, HeaderRule

Write = Callable[..., Path]

KEPT = REMEMBER | PUBLISH
"""What the memo keeps, the kernel tier may give, too: all that these planners read is in the head."""


def checks_of(answer: Answer) -> list[tuple[bytes, int]]:
    return [(check.path, check.kind) for check in answer.plan.checks]


def strong_tag(content: bytes) -> str:
    return f'"{content_tag(content)}"'


# -- plain answers ------------------------------------------------------------------------------------------------


def test_a_file(world: World, write: Write) -> None:
    write("a/notes.pdf", b"content")
    answer = world.ask("/a/notes.pdf")
    assert answer.status == 200
    assert answer.body == b"content"
    assert answer.fields == {
        "server": "tux",
        "content-type": "application/pdf",
        "x-content-type-options": "nosniff",
        "accept-ranges": "bytes",
        "etag": strong_tag(b"content"),
        "last-modified": "Fri, 15 Jan 2027 07:00:00 GMT",
        "content-length": "7",
    }
    assert answer.flags == KEPT
    assert answer.plan.ttl_ms == -1
    assert checks_of(answer) == [(b"a/notes.pdf", FILE)]


def test_text_says_its_charset(world: World, write: Write) -> None:
    write("a.txt")
    assert world.ask("/a.txt").fields["content-type"] == "text/plain; charset=utf-8"


def test_an_empty_file(world: World, write: Write) -> None:
    write("empty.bin", b"")
    answer = world.ask("/empty.bin")
    assert (answer.status, answer.body, answer.fields["content-length"]) == (200, b"", "0")
    assert answer.plan.file is None


def test_a_large_file_is_sent_from_its_descriptor(world: World, write: Write) -> None:
    world.serve(small=4)
    write("small.bin", b"1234")
    assert world.ask("/small.bin").plan.file is None
    file = write("large.bin", b"12345")
    answer = world.ask("/large.bin")
    assert answer.plan.file is not None
    assert (answer.plan.body, answer.plan.offset, answer.plan.length) == (b"", 0, 5)
    assert answer.body == b"12345"
    assert answer.fields["etag"] == f'"5-{file.stat().st_mtime_ns:x}"'
    assert answer.flags == KEPT


def test_the_tag_follows_the_content_not_the_inode(world: World, write: Write) -> None:
    write("a.bin", b"same", age_s=100)
    write("b.bin", b"same", age_s=200)
    write("c.bin", b"else", age_s=100)
    a, b, c = (world.ask(path).fields["etag"] for path in ("/a.bin", "/b.bin", "/c.bin"))
    assert a == b
    assert a != c


def test_head_is_get_without_the_body(world: World, write: Write) -> None:
    write("a.txt", b"hello")
    write("big.bin", b"x" * 70000)
    for path in ("/a.txt", "/big.bin"):
        get, head = world.ask(path), world.ask(path, "HEAD")
        assert head.plan.head == get.plan.head
        assert head.flags == KEPT | NO_BODY
    missing, head = world.ask("/missing"), world.ask("/missing", "HEAD")
    assert head.plan.head == missing.plan.head
    assert head.flags == KEPT | NO_BODY


@pytest.mark.parametrize("age_s", [0, 1.9, -5])
def test_a_file_that_just_changed_is_remembered_briefly(world: World, write: Write, age_s: float) -> None:
    write("a.bin", age_s=age_s)
    answer = world.ask("/a.bin")
    assert answer.flags == KEPT
    assert answer.plan.ttl_ms == 1000
    assert answer.fields["last-modified"] == format_date(min(NOW_S, int(NOW_S - age_s))), "never later than now"


def test_times_before_1970(world: World, write: Write) -> None:
    os.utime(write("a.bin"), ns=(-(10**9), -(10**9)))
    answer = world.ask("/a.bin")
    assert answer.fields["last-modified"] == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert world.ask("/a.bin", if_modified_since=answer.fields["last-modified"]).status == 304


# -- methods --------------------------------------------------------------------------------------------------------


def test_options(world: World) -> None:
    answer = world.ask("/whatever", "OPTIONS")
    assert (answer.status, answer.fields) == (204, {"server": "tux", "allow": "GET, HEAD, OPTIONS"})
    assert answer.flags == KEPT | NO_BODY


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "MKCOL", "QUERY"])
def test_methods_that_no_file_takes(world: World, write: Write, method: str) -> None:
    write("a.txt")
    answer = world.ask("/a.txt", method)
    assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("method", ["get", "FOO", "GETS", "PRI"])
def test_methods_that_nobody_knows(world: World, write: Write, method: str) -> None:
    write("a.txt")
    answer = world.ask("/a.txt", method)
    assert answer.status == 501
    assert not answer.flags & CLOSE


def test_connect_ends_the_connection(world: World) -> None:
    answer = world.ask("/", "CONNECT")
    assert answer.status == 501
    assert answer.flags & CLOSE


def test_an_expectation_that_nobody_knows(world: World, write: Write) -> None:
    write("a.txt")
    answer = world.answer(Ask(target="/a.txt", expect_other=True))
    assert (answer.status, answer.flags) == (417, 0)


def test_a_request_with_a_body_is_answered_and_not_remembered(world: World, write: Write) -> None:
    write("a.txt")
    answer = world.answer(Ask(target="/a.txt", has_body=True))
    assert (answer.status, answer.flags) == (200, 0)


# -- folders --------------------------------------------------------------------------------------------------------


def test_a_folder_is_answered_by_its_index(world: World, write: Write) -> None:
    write("index.html", b"home")
    write("docs/index.html", b"docs")
    assert world.ask("/").body == b"home"
    answer = world.ask("/docs/")
    assert answer.body == b"docs"
    assert answer.fields["content-type"] == "text/html; charset=utf-8"
    assert checks_of(answer)[0] == (b"docs/index.html", FILE)


def test_index_names_are_tried_in_order(world: World, write: Write) -> None:
    world.serve(index=(b"index.html", b"index.txt"), precompressed=False)
    write("a/index.txt", b"text")
    answer = world.ask("/a/")
    assert answer.body == b"text"
    assert checks_of(answer) == [(b"a/index.html", ABSENT), (b"a/index.txt", FILE)]
    write("a/index.html", b"html")
    assert world.ask("/a/").body == b"html"


def test_an_index_name_that_is_a_folder_is_passed_over(world: World, write: Write) -> None:
    world.serve(index=(b"index.html", b"index.txt"))
    (world.root / "index.html").mkdir()
    write("index.txt", b"text")
    answer = world.ask("/")
    assert answer.body == b"text"
    assert checks_of(answer)[:2] == [(b"index.html", FOLDER), (b"index.txt", FILE)]


def test_a_folder_without_index(world: World) -> None:
    (world.root / "a").mkdir()
    answer = world.ask("/a/")
    assert (answer.status, checks_of(answer)) == (404, [(b"a/index.html", ABSENT)])
    world.serve(index=())
    assert world.ask("/a/").status == 404


def test_a_file_is_no_folder(world: World, write: Write) -> None:
    write("a.css")
    for path in ("/a.css/", "/a.css/b", "/a.css/.."):
        assert world.ask(path).status == 404


@pytest.mark.parametrize(
    ("target", "location", "flags"),
    [
        ("/docs", "docs/", KEPT | EXACT),
        ("//docs", "docs/", KEPT | EXACT),
        ("/docs?a=1&b=%20", "docs/?a=1&b=%20", KEPT | EXACT),
        ("/docs?", "docs/?", KEPT | EXACT),
        ("/docs?<\xe9\\", "docs/?%3C%E9%5C", KEPT | EXACT),
        ("/docs/sub", "sub/", KEPT | EXACT),
        ("/docs/x/../sub", "sub/", KEPT | EXACT),
        ("/d%6Fcs", "docs/", KEPT | EXACT),
        ("/a%20b", "a%20b/", KEPT | EXACT),
        ("/javascript:alert", "javascript%3Aalert/", KEPT | EXACT),
        ("/%0d%0aSet-Cookie:x", "%0D%0ASet-Cookie%3Ax/", KEPT | EXACT),
        ("/\\evil.example", "%5Cevil.example/", KEPT | EXACT),
    ],
)
def test_a_folder_without_its_slash(world: World, target: str, location: str, flags: int) -> None:
    """The Location is relative, so it depends on neither host nor scheme, and cannot lead to another host."""
    for name in ("docs/sub", "a b", "javascript:alert", "\r\nSet-Cookie:x", "\\evil.example"):
        (world.root / name).mkdir(parents=True)
    answer = world.ask(target)
    assert (answer.status, answer.fields["location"], answer.flags) == (301, location, flags)
    assert [kind for _, kind in checks_of(answer)] == [FOLDER]


def test_a_root_below_a_prefix(world: World, write: Write) -> None:
    world.serve(mount=b"/docs")
    write("index.html", b"home")
    write("a.txt", b"a")
    write("x/a.txt", b"xa")
    assert world.ask("/docs/").body == b"home"
    assert world.ask("/docs/a.txt").body == b"a"
    assert world.ask("/docs").fields["location"] == "docs/"
    # never a piece of a segment (nginx: "alias traversal")
    for path in ("/docsa.txt", "/docs../a.txt", "/docsx/a.txt", "/a.txt", "/"):
        assert world.ask(path).status == 404


# -- what is not served ---------------------------------------------------------------------------------------------


def test_absent(world: World) -> None:
    answer = world.ask("/missing.png")
    assert (answer.status, answer.flags) == (404, KEPT)
    assert checks_of(answer) == [(b"missing.png", ABSENT)]
    assert answer.fields["content-type"] == "text/html; charset=utf-8"
    assert b"missing" not in answer.body


@pytest.mark.parametrize("path", ["/" + "a" * 300, "/" + "a/" * 3000 + "b", "/%01", "/a b", "/" + "%ff" * 200])
def test_odd_names_are_absent(world: World, path: str) -> None:
    assert world.ask(path).status == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/.git/config", 404),
        ("/.env", 404),
        ("/a/.htpasswd", 404),
        ("/a/%2Ehtpasswd", 404),
        ("/.hidden/", 404),
        ("/.hidden", 404),  # not a redirect, which would tell that it exists
        ("/.well-known/acme-challenge/token", 200),
        ("/.well-known/.secret", 404),
        ("/.well-knownx", 404),
        ("/a/.well-known/token", 404),
        ("/...", 404),
    ],
)
def test_dotfiles(world: World, write: Write, path: str, status: int) -> None:
    for name in (".git/config", ".env", "a/.htpasswd", ".hidden/index.html", ".well-known/acme-challenge/token"):
        write(name)
    for name in (".well-known/.secret", ".well-knownx", "a/.well-known/token", "..."):
        write(name)
    assert world.ask(path).status == status
    world.serve(dotfiles=True)
    assert world.ask(path).status == (301 if path == "/.hidden" else 200)


def test_what_belongs_to_tux_is_not_served(world: World, write: Write) -> None:
    status = write("tux.toml", b"secret").stat()
    write("index.html")
    os.link(world.root / "tux.toml", world.root / "alias.txt")
    os.symlink("tux.toml", world.root / "link.txt")
    os.link(world.root / "tux.toml", world.root / "index.html.gz")
    world.serve(own=frozenset(((status.st_dev, status.st_ino),)))
    for path in ("/tux.toml", "/alias.txt", "/link.txt", "/index.html.gz"):
        answer = world.ask(path)
        assert answer.status == 404
        assert b"secret" not in answer.body
    assert world.ask("/", accept_encoding="gzip").body == b"hello\n"


def test_relative_links_inside_the_root_are_followed(world: World, write: Write) -> None:
    write("real/a.txt", b"a")
    os.symlink("real", world.root / "folder")
    os.symlink("../real/a.txt", world.root / "real" / "b.txt")
    assert world.ask("/folder/a.txt").body == b"a"
    assert world.ask("/real/b.txt").body == b"a"


def test_links_out_of_the_root_are_named_in_the_log_once(
    world: World, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.txt").write_bytes(b"secret")
    (world.root / "sub").mkdir()
    os.symlink(outside, world.root / "sub" / "abs")
    os.symlink(os.path.relpath(outside, world.root), world.root / "rel\n")
    os.symlink("loop", world.root / "loop")
    os.symlink("/etc/passwd", world.root / "passwd")
    with caplog.at_level(logging.WARNING, "tux.planner"):
        for path in ("/sub/abs/secret.txt", "/sub/abs/other", "/sub/abs", "/rel%0A/secret.txt", "/loop", "/passwd"):
            for _ in range(2):
                answer = world.ask(path)
                assert answer.status == 404
                assert answer.flags == KEPT
                assert b"secret" not in answer.body
    named = [record.getMessage().split("'")[1] for record in caplog.records]
    assert named == ["sub/abs", "rel\\n", "loop", "passwd"]


def test_special_files_never_hang(world: World) -> None:
    os.mkfifo(world.root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(world.root / "socket"))
        for path in ("/fifo", "/socket"):
            assert world.ask(path).status == 404


@pytest.fixture
def unprivileged_world() -> Iterator[World]:
    """A root whose files this process may not read when their mode says so, also when the tests run as root."""
    nobody = 65534
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        world = World(Path(folder))
        (world.root / "a.txt").write_bytes(b"secret")
        (world.root / "d").mkdir()
        (world.root / "d" / "index.html").write_bytes(b"secret")
        (world.root / "a.txt").chmod(0)
        (world.root / "d").chmod(0)
        as_root = os.geteuid() == 0
        if as_root:
            os.seteuid(nobody)
        try:
            yield world
        finally:
            if as_root:
                os.seteuid(0)
            (world.root / "d").chmod(0o755)


@pytest.mark.parametrize("path", ["/a.txt", "/d/", "/d/x"])
def test_unreadable(unprivileged_world: World, path: str) -> None:
    answer = unprivileged_world.ask(path)
    assert (answer.status, answer.flags) == (403, KEPT)
    assert b"secret" not in answer.body


def test_trouble_is_503_and_not_remembered(
    world: World, write: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No descriptors are left, as the kernel says it."""
    write("a.bin")
    world.ask("/a.bin")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        answers = [world.ask("/a.bin") for _ in range(3)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for answer in answers:
        assert (answer.status, answer.flags, answer.fields["retry-after"]) == (503, 0, "1")
        assert answer.plan.checks == ()
    assert len(caplog.records) == 1, "one line, whatever the number of requests"
    assert world.ask("/a.bin").status == 200


# -- conditions -----------------------------------------------------------------------------------------------------


def test_not_modified(world: World, write: Write) -> None:
    world.serve(cache_control=(GlobRule("*", "max-age=60"),), headers=(HeaderRule("*", "X-A", "b"),))
    write("a.bin", b"content")
    full = world.ask("/a.bin")
    for fields in (
        {"if_none_match": full.fields["etag"]},
        {"if_none_match": "*"},
        {"if_none_match": f'"x", W/{full.fields["etag"]}'},
        {"if_modified_since": full.fields["last-modified"]},
    ):
        answer = world.ask("/a.bin", **fields)
        assert answer.status == 304
        assert answer.fields == {
            "server": "tux",
            "etag": full.fields["etag"],
            "cache-control": "max-age=60",
            "x-a": "b",
        }
        assert answer.flags == KEPT | NO_BODY
        assert checks_of(answer) == checks_of(full)
        assert world.ask("/a.bin", "HEAD", **fields).plan.head == answer.plan.head


def test_modified(world: World, write: Write) -> None:
    write("a.bin", b"content")
    assert world.ask("/a.bin", if_none_match='"other"').status == 200
    assert world.ask("/a.bin", if_modified_since=format_date(NOW_S - 3601)).status == 200
    assert world.ask("/a.bin", if_modified_since="yesterday").status == 200


def test_preconditions(world: World, write: Write) -> None:
    write("a.bin", b"content")
    full = world.ask("/a.bin")
    assert world.ask("/a.bin", if_match=full.fields["etag"]).status == 200
    assert world.ask("/a.bin", if_unmodified_since=full.fields["last-modified"]).status == 200
    for fields in ({"if_match": '"other"'}, {"if_unmodified_since": format_date(NOW_S - 3601)}):
        answer = world.ask("/a.bin", **fields)
        assert (answer.status, answer.fields["etag"]) == (412, full.fields["etag"])
        assert answer.flags == KEPT


def test_conditions_are_about_what_exists(world: World) -> None:
    for fields in ({"if_match": "*"}, {"if_none_match": "*"}, {"range": "bytes=0-1"}):
        assert world.ask("/missing", **fields).status == 404


def test_a_two_digit_year_depends_on_the_clock(world: World, write: Write) -> None:
    write("a.bin")
    answer = world.ask("/a.bin", if_modified_since="Friday, 15-Jan-27 07:00:00 GMT")
    assert (answer.status, answer.plan.ttl_ms) == (304, 1000)


# -- ranges ---------------------------------------------------------------------------------------------------------

CONTENT = bytes(range(100))


def test_a_plain_range_is_a_template(world: World, write: Write) -> None:
    """The engine takes the numbers from each asker, and adds Content-Range and Content-Length."""
    for small in (65536, 10):
        world.serve(small=small)
        write("a.bin", CONTENT)
        one = world.ask("/a.bin", range="bytes=0-9")
        for value in ("bytes=50-", "bytes=-1", "bytes=99-1000"):
            other = world.ask("/a.bin", range=value)
            assert other.plan.head == one.plan.head
        assert one.status == 206
        assert one.flags == KEPT | RANGE
        assert one.body == CONTENT, "the whole representation"
        assert one.fields["content-type"] == "application/octet-stream"
        assert one.fields["etag"] == world.ask("/a.bin").fields["etag"]


def test_an_unsatisfiable_range(world: World, write: Write) -> None:
    write("a.bin", CONTENT)
    answer = world.ask("/a.bin", range="bytes=100-")
    assert (answer.status, answer.fields["content-range"]) == (416, "bytes */100")
    assert answer.flags == KEPT | EXACT, "other numbers, other answer"


@pytest.mark.parametrize("small", [65536, 10])
def test_one_part_in_other_words(world: World, write: Write, small: int) -> None:
    world.serve(small=small)
    write("a.bin", CONTENT)
    answer = world.ask("/a.bin", range="Bytes = 10-19, 15-29")
    assert (answer.status, answer.fields["content-range"]) == (206, "bytes 10-29/100")
    assert answer.body == CONTENT[10:30]
    assert answer.flags == KEPT


@pytest.mark.parametrize("small", [65536, 10])
def test_several_parts(world: World, write: Write, small: int) -> None:
    world.serve(small=small)
    write("a.pdf", CONTENT)
    answer = world.ask("/a.pdf", range="bytes=90-,0-9")
    assert answer.status == 206
    kind, _, boundary = answer.fields["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert "content-range" not in answer.fields
    before, *parts, after = answer.body.split(b"\r\n--" + boundary.encode())
    assert (before, after) == (b"", b"--\r\n")
    expected = [("90-99", CONTENT[90:]), ("0-9", CONTENT[:10])]
    for part, (span, content) in zip(parts, expected, strict=True):
        head = f"\r\nContent-Type: application/pdf\r\nContent-Range: bytes {span}/100\r\n\r\n".encode()
        assert part == head + content
    assert answer.flags == (KEPT if small > 100 else 0), "the memo holds small bodies only"
    assert world.ask("/a.pdf", range="bytes=90-,0-9").plan.body == answer.plan.body


def test_the_boundary_cannot_be_foreseen(world: World, write: Write) -> None:
    write("a.pdf", CONTENT)
    one = world.ask("/a.pdf", range="bytes=0-1,4-5").fields["content-type"]
    world.serve()
    assert world.ask("/a.pdf", range="bytes=0-1,4-5").fields["content-type"] != one


def test_parts_that_are_too_large_together(world: World, write: Write) -> None:
    write("a.bin", b"x" * 2_000_000)
    answer = world.ask("/a.bin", range="bytes=0-999999,1000001-")
    assert (answer.status, answer.plan.length) == (200, 2_000_000)


def test_a_large_file_that_changes_is_not_sent_in_parts(
    world: World, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve(small=10)
    file = write("a.bin", CONTENT)
    pread = os.pread

    def pread_and_change(fd: int, length: int, offset: int) -> bytes:
        data = pread(fd, length, offset)
        file.write_bytes(b"y" * 100)
        return data

    monkeypatch.setattr(os, "pread", pread_and_change)
    assert world.ask("/a.bin", range="bytes=0-9,20-29").status == 200
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: b"")
    assert world.ask("/a.bin", range="bytes=0-9,20-29").status == 200


def test_ranges_that_are_ignored(world: World, write: Write) -> None:
    write("a.bin", CONTENT)
    write("empty.bin", b"")
    for value in ("lines=0-1", "bytes=5-1", "bytes=x", "bytes=" + ",".join(f"{i}-{i}" for i in range(0, 80, 2))):
        answer = world.ask("/a.bin", range=value)
        assert (answer.status, answer.body) == (200, CONTENT)
    empty = world.ask("/empty.bin", range="bytes=0-")
    assert (empty.status, empty.flags) == (200, KEPT), "whatever the numbers"
    head = world.ask("/a.bin", "HEAD", range="bytes=0-1")
    assert (head.status, head.fields["content-length"], head.flags) == (200, "100", KEPT | NO_BODY)


def test_if_range(world: World, write: Write) -> None:
    write("a.bin", CONTENT)
    full = world.ask("/a.bin")
    etag, date = full.fields["etag"], full.fields["last-modified"]
    for value, status in ((etag, 206), (date, 206), ('"x"', 200), (f"W/{etag}", 200), (format_date(NOW_S), 200)):
        answer = world.ask("/a.bin", range="bytes=0-1", if_range=value)
        assert answer.status == status
        assert not answer.flags & EXACT, "the numbers were not looked at, or are the engine's"
    # A date is no strong validator while the file may change again within that second.
    write("a.bin", CONTENT, age_s=1)
    date = world.ask("/a.bin").fields["last-modified"]
    answer = world.ask("/a.bin", range="bytes=0-1", if_range=date)
    assert (answer.status, answer.plan.ttl_ms) == (200, 1000)


def test_a_condition_stands_above_the_range(world: World, write: Write) -> None:
    write("a.bin", CONTENT)
    etag = world.ask("/a.bin").fields["etag"]
    assert world.ask("/a.bin", range="bytes=0-1", if_none_match=etag).status == 304
    assert world.ask("/a.bin", range="bytes=0-1", if_match='"x"').status == 412


def test_files_over_4_gib(world: World) -> None:
    with open(world.root / "big.bin", "wb") as file:
        file.truncate(5_000_000_000)
        file.seek(4_999_999_990)
        file.write(b"0123456789")
    os.utime(world.root / "big.bin", (NOW_S - 10, NOW_S - 10))
    assert world.ask("/big.bin", "HEAD").fields["content-length"] == "5000000000"
    answer = world.ask("/big.bin", range="bytes=4999999990-4999999994,4999999992-")
    assert (answer.body, answer.fields["content-range"]) == (b"0123456789", "bytes 4999999990-4999999999/5000000000")


# -- side files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sides(write: Write) -> Write:
    """a.css with all three side files, made after it."""
    write("a.css", b"plain", age_s=100)
    write("a.css.br", b"BR", age_s=99)
    write("a.css.zst", b"ZSTD", age_s=100)
    write("a.css.gz", b"GZIP", age_s=50)
    return write


@pytest.mark.parametrize(
    ("accept", "coding", "body"),
    [
        (None, None, b"plain"),
        ("", None, b"plain"),
        ("identity", None, b"plain"),
        ("gzip", "gzip", b"GZIP"),
        ("gzip, br, zstd", "br", b"BR"),
        ("gzip, zstd", "zstd", b"ZSTD"),
        ("gzip, br;q=0.9", "gzip", b"GZIP"),
        ("*", "br", b"BR"),
        ("*;q=0.1, br;q=0", "zstd", b"ZSTD"),
        ("identity;q=0", None, b"plain"),
        ("*;q=0", None, b"plain"),
        ("identity, gzip;q=0.5", None, b"plain"),
    ],
)
def test_side_files(world: World, sides: Write, accept: str | None, coding: str | None, body: bytes) -> None:
    fields = {} if accept is None else {"accept_encoding": accept}
    answer = world.ask("/a.css", **fields)
    assert answer.body == body
    assert answer.fields.get("content-encoding") == coding
    assert answer.fields["content-type"] == "text/css; charset=utf-8"
    assert answer.fields["vary"] == "Accept-Encoding", "whatever the variant"
    assert [path for path, _ in checks_of(answer)] == [b"a.css", b"a.css.br", b"a.css.zst", b"a.css.gz"]
    assert answer.flags == KEPT


def test_each_variant_has_its_own_validators(world: World, sides: Write) -> None:
    sides("a.css.gz", b"plain", age_s=50)  # the same bytes, read in another way
    accepted = ("identity", "br", "zstd", "gzip")
    answers = {coding: world.ask("/a.css", accept_encoding=coding) for coding in accepted}
    assert len({answer.fields["etag"] for answer in answers.values()}) == 4
    assert answers["gzip"].fields["last-modified"] == format_date(NOW_S - 50)
    for coding, answer in answers.items():
        for other in accepted:
            again = world.ask("/a.css", accept_encoding=other, if_none_match=answer.fields["etag"])
            assert again.status == (304 if other == coding else 200)
            assert again.fields["vary"] == "Accept-Encoding"


def test_large_variants_differ_in_their_tags(world: World, write: Write) -> None:
    world.serve(small=1)
    write("a.css", b"plain", age_s=100)
    write("a.css.gz", b"gzip!", age_s=100)
    one, other = (world.ask("/a.css", accept_encoding=value).fields["etag"] for value in ("gzip", ""))
    assert one != other


def test_a_side_file_is_never_older_than_the_original(world: World, write: Write) -> None:
    write("a.css", b"new", age_s=100)
    write("a.css.gz", b"old", age_s=100.001)
    answer = world.ask("/a.css", accept_encoding="gzip")
    assert answer.body == b"new"
    assert "vary" not in answer.fields, "it is no variant at all"
    assert (b"a.css.gz", FILE) in checks_of(answer)


def test_the_original_must_exist(world: World, write: Write) -> None:
    write("a.css.gz")
    assert world.ask("/a.css", accept_encoding="gzip").status == 404


def test_a_side_file_asked_for_by_name_is_a_file(world: World, sides: Write) -> None:
    answer = world.ask("/a.css.gz", accept_encoding="gzip")
    assert answer.body == b"GZIP"
    assert answer.fields["content-type"] == "application/gzip"
    assert "content-encoding" not in answer.fields


def test_side_files_that_are_not_looked_for(world: World, sides: Write) -> None:
    sides("a.png", b"png")
    sides("a.png.gz", b"GZIP")
    answer = world.ask("/a.png", accept_encoding="gzip")
    assert (answer.body, checks_of(answer)) == (b"png", [(b"a.png", FILE)])
    world.serve(precompressed=False)
    answer = world.ask("/a.css", accept_encoding="gzip")
    assert (answer.body, checks_of(answer)) == (b"plain", [(b"a.css", FILE)])


def test_side_files_that_are_no_files(world: World, write: Write, caplog: pytest.LogCaptureFixture) -> None:
    write("a.css", b"plain", age_s=100)
    (world.root / "a.css.br").mkdir()
    os.mkfifo(world.root / "a.css.zst")
    os.symlink("/etc/passwd", world.root / "a.css.gz")
    answer = world.ask("/a.css", accept_encoding="br, zstd, gzip")
    assert answer.body == b"plain"
    assert ["a.css.gz" in record.getMessage() for record in caplog.records] == [True]


def test_ranges_are_of_the_chosen_variant(world: World, sides: Write) -> None:
    answer = world.ask("/a.css", accept_encoding="gzip", range="bytes=1-2")
    assert (answer.status, answer.body, answer.fields["content-encoding"]) == (206, b"GZIP", "gzip")
    answer = world.ask("/a.css", accept_encoding="gzip", range="bytes=4-")
    assert (answer.status, answer.fields["content-range"]) == (416, "bytes */4")


# -- rules ----------------------------------------------------------------------------------------------------------


def test_cache_control_by_the_first_glob_that_matches(world: World, write: Write) -> None:
    world.serve(
        cache_control=(
            GlobRule("assets/**", "max-age=31536000, immutable"),
            GlobRule("*.html", "no-cache"),
            GlobRule("*", "max-age=60"),
        )
    )
    for name in ("assets/x/a.html", "index.html", "a.png"):
        write(name)
    assert world.ask("/assets/x/a.html").fields["cache-control"] == "max-age=31536000, immutable"
    assert world.ask("/").fields["cache-control"] == "no-cache", "the file's name counts, not the request's"
    assert world.ask("/a.png").fields["cache-control"] == "max-age=60"
    assert "cache-control" not in world.ask("/missing").fields


def test_headers_by_globs(world: World, write: Write) -> None:
    world.serve(
        headers=(
            HeaderRule("*", "X-Frame-Options", "DENY"),
            HeaderRule("*.wasm", "Cross-Origin-Opener-Policy", "same-origin"),
            HeaderRule("*.log", "Content-Type", "text/x-log"),
            HeaderRule("*", "server", "mine"),
        )
    )
    for name in ("a.wasm", "b.log", "c.png"):
        write(name)
    for path, coop in (("/a.wasm", "same-origin"), ("/c.png", None)):
        for fields in ({}, {"range": "bytes=0-1"}):
            answer = world.ask(path, **fields)
            assert answer.fields["x-frame-options"] == "DENY"
            assert answer.fields.get("cross-origin-opener-policy") == coop
            assert answer.fields["server"] == "mine"
    assert world.ask("/b.log").fields["content-type"] == "text/x-log"


def test_plans_are_made_again_from_nothing_but_the_disk(world: World, write: Write) -> None:
    """Nothing about files is kept in Python."""
    write("a.bin", b"one")
    assert world.ask("/a.bin").body == b"one"
    write("a.bin", b"two")
    assert world.ask("/a.bin").body == b"two"
    (world.root / "a.bin").unlink()
    assert world.ask("/a.bin").status == 404
    world.now_ns = NOW_NS + 1
    assert world.ask("/a.bin").status == 404


@pytest.mark.parametrize("length", [4096, 5000, 8000])
def test_a_path_longer_than_linux_looks_up(world: World, length: int) -> None:
    """404 without a look: its name would not even fit into a check."""
    answer = world.ask("/" + "a/" * (length // 2))
    assert answer.status == 404
    assert not answer.plan.checks


def test_the_longest_path_is_looked_up(world: World) -> None:
    answer = world.ask("/" + "a/" * 2039 + "b")  # room for an index name and a suffix is left
    assert answer.status == 404
    assert answer.plan.checks


# -- the policy of the original -------------------------------------------------------------------------------------


def test_redirected_extensions_are_as_if_not_there(world: World, write: Write) -> None:
    write("a.php")
    write("a.PHP")
    write("d/index.php")
    write("a.txt")
    world.serve(redirected=frozenset({b"php"}), index=(b"index.php",))
    assert [world.ask(path).status for path in ("/a.php", "/a.PHP", "/d/", "/a.txt")] == [404, 404, 404, 200]
    world.serve(redirected=frozenset({b"php"}), falls_through=True)
    answer = world.ask("/a.php")
    assert answer.flags & NEXT
    assert not answer.flags & PUBLISH


def test_permission_bits_allow_and_forbid(world: World, write: Write) -> None:
    write("open.txt").chmod(0o644)
    write("closed.txt").chmod(0o640)
    write("script.txt").chmod(0o755)
    world.serve(mode_allowed=0o004, mode_forbidden=0o111)
    assert [world.ask(f"/{name}.txt").status for name in ("open", "closed", "script")] == [200, 403, 403]
    assert not world.ask("/closed.txt").flags & NEXT
    world.serve(mode_allowed=0o004, falls_through=True, refused_next=True)
    assert world.ask("/closed.txt").flags & NEXT
    world.serve(mode_allowed=0o004, falls_through=True)
    assert world.ask("/closed.txt").flags & NEXT == 0


def test_a_side_file_obeys_the_policy_too(world: World, write: Write) -> None:
    write("a.txt").chmod(0o644)
    write("a.txt.gz").chmod(0o640)
    world.serve(mode_allowed=0o004)
    answer = world.ask("/a.txt", accept_encoding="gzip")
    assert "content-encoding" not in answer.fields
