"""Media types, charsets and downloads by rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.unit.planner.world import World
from tux.config.compile import Compiled, compile_config
from tux.config.load import parse
from tux.planner.rules import GlobRule, HeaderRule, MediaRules, StaticRule

Write = Callable[..., Path]


def content_type(world: World, write: Write, path: str) -> str:
    write(path)
    return world.ask("/" + path).fields["content-type"]


def test_types(world: World, write: Write) -> None:
    types = (
        GlobRule(".log", "text/x-log"),
        GlobRule("feed/*", "application/rss+xml"),
        GlobRule(".html", "text/html; charset=koi8-r"),
        GlobRule("*", "application/x-own"),
    )
    world.serve(media=MediaRules(types[:3]))
    assert content_type(world, write, "a.log") == "text/x-log; charset=utf-8"
    assert content_type(world, write, "a.b.LOG") == "text/x-log; charset=utf-8"
    assert content_type(world, write, "feed/a.log") == "text/x-log; charset=utf-8", "the first that matches"
    assert content_type(world, write, "feed/all") == "application/rss+xml"
    assert content_type(world, write, "a.html") == "text/html; charset=koi8-r"
    assert content_type(world, write, "log") == "application/octet-stream"
    assert content_type(world, write, "a.txt") == "text/plain; charset=utf-8"
    world.serve(media=MediaRules(types))
    assert content_type(world, write, "a.txt") == "application/x-own"


def test_side_files_are_looked_for_when_a_type_of_ones_own_compresses(world: World, write: Write) -> None:
    write("a.own")
    write("a.own.gz", b"packed")
    write("a.txt")
    write("a.txt.gz", b"packed")
    world.serve(media=MediaRules((GlobRule(".own", "text/x-own"), GlobRule(".txt", "image/png"))))
    assert world.ask("/a.own", accept_encoding="gzip").fields["content-encoding"] == "gzip"
    assert "content-encoding" not in world.ask("/a.txt", accept_encoding="gzip").fields


def test_charsets(world: World, write: Write) -> None:
    charsets = (GlobRule("old/", "koi8-r"), GlobRule("*.txt", ""))
    world.serve(media=MediaRules(charsets=charsets))
    assert content_type(world, write, "old/a.txt") == "text/plain; charset=koi8-r"
    assert content_type(world, write, "a.txt") == "text/plain"
    assert content_type(world, write, "a.html") == "text/html; charset=utf-8"
    assert content_type(world, write, "old/a.js") == "text/javascript"
    world.serve(media=MediaRules(charsets=charsets), headers=(HeaderRule("*.txt", "Content-Type", "text/own"),))
    assert content_type(world, write, "a.txt") == "text/own", "the field has the last word"


def test_downloads(world: World, write: Write) -> None:
    write("files/naïve.txt")
    write("files/naïve.txt.gz", b"packed")
    write("a.txt")
    world.serve(download=("files/",))
    field = "attachment; filename=\"na_ve.txt\"; filename*=UTF-8''na%C3%AFve.txt"
    answer = world.ask("/files/na%C3%AFve.txt", accept_encoding="gzip")
    assert answer.fields["content-encoding"] == "gzip"
    assert answer.fields["content-disposition"] == field, "of the file itself"
    assert world.ask("/files/na%C3%AFve.txt", range="bytes=0-1").fields["content-disposition"] == field
    assert world.ask("/files/na%C3%AFve.txt", range="bytes=0-1,3-3").fields["content-disposition"] == field
    assert world.ask("/files/na%C3%AFve.txt", "HEAD").fields["content-disposition"] == field
    unchanged = world.ask("/files/na%C3%AFve.txt", if_none_match="*")
    assert (unchanged.status, "content-disposition" in unchanged.fields) == (304, False)
    assert unchanged.fields["vary"] == "Accept-Encoding"
    assert "content-disposition" not in world.ask("/a.txt").fields


def test_a_download_without_copies_does_not_vary(world: World, write: Write) -> None:
    write("a.png")
    world.serve(download=("*",))
    assert "vary" not in world.ask("/a.png", if_none_match="*").fields


def test_a_field_of_ones_own_replaces_that_of_downloads(world: World, write: Write) -> None:
    write("a.txt")
    world.serve(download=("*",), headers=(HeaderRule("*", "Content-Disposition", "inline"),))
    assert world.ask("/a.txt").fields["content-disposition"] == "inline"


def test_names_that_are_no_text(world: World) -> None:
    """They exist; the field is sound."""
    name = b'a\r\nX: 1"\xff.txt'
    (world.root / name.decode("utf-8", "surrogateescape")).write_bytes(b"x")
    world.serve(download=("*",))
    answer = world.ask("/a%0D%0AX:%201%22%FF.txt")
    assert answer.status == 200
    assert answer.fields["content-disposition"] == (
        "attachment; filename=\"a__X: 1__.txt\"; filename*=UTF-8''a__X%3A%201%22%EF%BF%BD.txt"
    )


def test_the_globs_that_a_rule_depends_on() -> None:
    rule = StaticRule(
        root=0,
        cache_control=(GlobRule("a", "x"),),
        headers=(HeaderRule("b", "X", "x"),),
        media=MediaRules((GlobRule(".x", "a/b"), GlobRule("c", "a/b"), GlobRule("*.x", "a/b")), (GlobRule("d", ""),)),
        download=("e",),
    )
    assert rule.globs == ("c", "*.x", "a", "d", "b", "e")


def test_routes_count_before_sites() -> None:
    compiled: Compiled = compile_config(
        parse(
            b"""
            [[site]]
            root = "a"
            types = { ".a" = "text/a" }
            charset = "koi8-r"
            download = ["*.zip"]
            error_page = { 404 = "404.html" }
            [[site.route]]
            path = "/b"
            types = { ".b" = "text/b" }
            charset = "utf-8"
            download = []
            [[site.route]]
            path = "/c"
            """,
            "/etc/tux.toml",
        )
    )
    of_route, of_site = compiled.rules[0], compiled.rules[1]
    assert isinstance(of_route, StaticRule)
    assert isinstance(of_site, StaticRule)
    assert of_route.media == MediaRules(
        (GlobRule(".b", "text/b"), GlobRule(".a", "text/a")), (GlobRule("*", "utf-8"), GlobRule("*", "koi8-r"))
    )
    assert of_route.download == ()
    assert of_site.media == MediaRules((GlobRule(".a", "text/a"),), (GlobRule("*", "koi8-r"),))
    assert of_site.download == ("*.zip",)
    assert of_site.errors.media == of_site.media


def test_the_usual_charset_needs_no_rule() -> None:
    rule = compile_config(parse(b'[[site]]\nroot = "a"\n', "/etc/tux.toml")).rules[0]
    assert isinstance(rule, StaticRule)
    assert rule.media == MediaRules()
