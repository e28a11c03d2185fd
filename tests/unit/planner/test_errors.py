"""Pages for errors."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.planner.world import NOW_NS, Ask, World
from tux._engine import ABSENT, FILE, NEXT, NO_BODY, REMEMBER, RouteTable
from tux.config.pages import STATUSES
from tux.http.errors import page
from tux.planner.errors import Errors
from tux.planner.loop import ENGINE_ERRORS, Planner, canned_answers
from tux.planner.rules import DenyRule, ErrorPage, ErrorRules, GlobRule, HeaderRule, NotFoundRule, StaticRule

Write = Callable[..., Path]


class Unused:
    """A port that nothing comes by."""


@pytest.fixture
def serve(world: World) -> Callable[..., None]:
    """Serve with these pages: status -> path."""

    def serve_pages(pages: dict[int, bytes], headers: tuple[HeaderRule, ...] = (), **rule: Any) -> None:
        found = tuple(ErrorPage(status, 0, path) for status, path in pages.items())
        world.serve(errors=ErrorRules(found, headers), headers=headers, **rule)

    return serve_pages


def test_the_page_of_a_status(world: World, write: Write, serve: Callable[..., None]) -> None:
    write("errors/404.html", b"<h1>gone</h1>")
    serve({404: b"errors/404.html"})
    answer = world.ask("/none")
    assert answer.status == 404
    assert answer.body == b"<h1>gone</h1>"
    assert answer.fields == {
        "server": "tux",
        "x-content-type-options": "nosniff",
        "content-type": "text/html; charset=utf-8",
        "content-length": "13",
    }
    assert answer.flags & REMEMBER
    assert answer.plan.ttl_ms == -1
    assert [(check.path, check.kind) for check in answer.plan.checks] == [(b"none", ABSENT), (b"errors/404.html", FILE)]


def test_head(world: World, write: Write, serve: Callable[..., None]) -> None:
    write("404.html", b"gone")
    serve({404: b"404.html"})
    get, head = world.ask("/none"), world.ask("/none", "HEAD")
    assert head.plan.head == get.plan.head
    assert (head.body, head.flags & NO_BODY) == (b"", NO_BODY)


def test_the_page_itself_is_a_file(world: World, write: Write, serve: Callable[..., None]) -> None:
    write("404.html", b"gone")
    serve({404: b"404.html"})
    assert world.ask("/404.html").status == 200


def test_no_caching_surprises(world: World, write: Write, serve: Callable[..., None]) -> None:
    """What holds for the file does not hold for what is missing: no tags, no rule of caching, no ranges, no 304."""
    write("404.html", b"gone")
    serve({404: b"404.html"}, cache_control=(GlobRule("*", "max-age=31536000, immutable"),))
    etag = world.ask("/404.html").fields["etag"]
    answer = world.ask("/none", if_none_match=etag, range="bytes=0-1")
    assert (answer.status, answer.body) == (404, b"gone")
    assert {"etag", "last-modified", "cache-control", "accept-ranges"}.isdisjoint(answer.fields)


def test_header_rules_count(world: World, write: Write, serve: Callable[..., None]) -> None:
    write("404.html", b"gone")
    rules = (HeaderRule("*.html", "X-A", "1"), HeaderRule("*.txt", "X-B", "2"), HeaderRule("*", "Server", "mine"))
    serve({404: b"404.html"}, rules)
    fields = world.ask("/none.txt").fields
    assert (fields["x-a"], fields["server"]) == ("1", "mine")
    assert "x-b" not in fields


def test_fields_of_the_status_stay(world: World, write: Write, serve: Callable[..., None]) -> None:
    write("e.txt", b"error")
    write("a.txt", b"12345")
    serve({405: b"e.txt", 412: b"e.txt", 416: b"e.txt", 417: b"e.txt"})
    assert world.ask("/a.txt", "POST").fields["allow"] == "GET, HEAD, OPTIONS"
    assert world.ask("/a.txt", range="bytes=9-10, 11-12").fields["content-range"] == "bytes */5"
    assert world.ask("/a.txt", if_match='"x"').fields["etag"] == world.ask("/a.txt").fields["etag"]
    answers = [
        world.ask("/a.txt", "POST"),
        world.ask("/a.txt", range="bytes=9-10, 11-12"),
        world.ask("/a.txt", if_match='"x"'),
        world.answer(Ask("GET", "/a.txt", expect_other=True)),
    ]
    assert [(answer.status, answer.body) for answer in answers] == [
        (status, b"error") for status in (405, 416, 412, 417)
    ]


def test_a_page_that_cannot_be_sent(
    world: World, write: Write, serve: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    serve({404: b"404.html", 405: b"large.html", 412: b"own.html"})
    with caplog.at_level(logging.WARNING):
        answer = world.ask("/none")
        assert (answer.status, answer.body) == (404, page(404))
        world.ask("/none")
    assert [record.getMessage() for record in caplog.records] == [
        "the error page '404.html' is not sent: not there, or not to be served"
    ]
    assert [check.path for check in answer.plan.checks] == [b"none", b"404.html"], "seen when it appears"
    write("large.html", b"x" * 65537)
    with caplog.at_level(logging.WARNING):
        assert world.ask("/none", "POST").body == page(405)
    assert "more than 65536 bytes" in caplog.text


def test_an_own_file_is_no_page(world: World, write: Write) -> None:
    found = os.stat(write("own.html"))
    errors = Errors([ErrorPage(404, 0, b"own.html")], roots=world.roots, own=frozenset({(found.st_dev, found.st_ino)}))
    assert errors.render(404)[1] == page(404)


def test_the_first_page_of_a_status_counts(world: World, write: Write) -> None:
    write("a", b"a")
    write("b", b"b")
    errors = Errors([ErrorPage(404, 0, b"a"), ErrorPage(404, 0, b"b")], roots=world.roots)
    assert errors.render(404)[1] == b"a"


def test_what_the_next_origin_answers_has_none(world: World, write: Write, serve: Callable[..., None]) -> None:
    write("404.html", b"gone")
    serve({404: b"404.html"}, falls_through=True)
    answer = world.ask("/none")
    assert answer.flags & NEXT
    assert answer.body == page(404)


def test_routes_without_files_have_them_too(world: World, write: Write) -> None:
    write("404.html", b"gone")
    write("403.html", b"closed")
    rules = ErrorRules((ErrorPage(404, 0, b"404.html"), ErrorPage(403, 0, b"403.html")))
    table = RouteTable()
    site = table.add_site(["example.org"])
    table.add_route(site, b"/app", 0)
    table.add_route(site, b"/private", 1)
    table.add_route(site, b"/", 2)
    all_rules = (NotFoundRule(errors=rules), DenyRule(errors=rules), StaticRule(root=0, errors=rules))
    planner = Planner(Unused(), world.roots, table, all_rules, clock=lambda: NOW_NS)  # type: ignore[arg-type]
    answers = [planner.decide(Ask(target=target)) for target in ("/app/x", "/private/x", "/none")]
    assert [(answer.status, answer.body) for answer in answers] == [(404, b"gone"), (403, b"closed"), (404, b"gone")]
    assert planner.decide(Ask(target="/", host="else.example")).body == page(404)


def test_the_engine_gets_them(world: World, write: Write) -> None:
    write("502.html", b"down")
    write("503.html", b"busy")
    pages = [ErrorPage(502, 0, b"502.html"), ErrorPage(503, 0, b"503.html"), ErrorPage(400, 0, b"none.html")]
    assert set(canned_answers()) == set(ENGINE_ERRORS) <= STATUSES
    canned = canned_answers(Errors(pages, roots=world.roots))
    assert set(canned) == {502, 503}  # the others are as they are everywhere
    assert canned[502][1] == b"down"
    assert b"Retry-After: 1\r\n" in canned[503][0]


def test_small_pages_have_the_fields_that_all_files_have() -> None:
    rules = (
        HeaderRule("*", "X-All", "1"),
        HeaderRule("/**", "X-Below", "2"),
        HeaderRule("*.html", "X-Page", "3"),
        HeaderRule("*", "Expires", "Thu, 31 Dec 2037 23:55:55 GMT"),
        HeaderRule("*", "CDN-Cache-Control", "max-age=3600"),
        HeaderRule("*", "Content-Disposition", "attachment"),
    )
    canned = canned_answers(Errors(headers=rules))
    assert set(canned) == set(ENGINE_ERRORS)
    for status, (head, body) in canned.items():
        plain, small = canned_answers()[status]
        assert body == small
        assert set(head.split(b"\r\n")) == {*plain.split(b"\r\n"), b"X-All: 1", b"X-Below: 2"}


def test_a_field_that_is_sent_anyway_is_replaced_once() -> None:
    rules = (HeaderRule("*", "server", "mine"), HeaderRule("*", "Content-Type", "text/plain"))
    head = canned_answers(Errors(headers=rules))[404][0].lower()
    assert head.count(b"server: ") == 1
    assert b"server: mine\r\n" in head
    assert b"content-type: text/html; charset=utf-8\r\n" in head  # it is what the page is


def test_errors_without_a_route_are_those_of_the_site(world: World, write: Write) -> None:
    write("400.html", b"ours")
    write("404.html", b"nothing")
    rules = ErrorRules((ErrorPage(400, 0, b"400.html"), ErrorPage(404, 0, b"404.html")))
    table = RouteTable()
    site = table.add_site(["example.org"])
    table.set_pages(site, 1)
    table.add_route(site, b"/a", 0)
    table.add_site([""])
    pages = (ErrorRules(), rules)
    planner = Planner(Unused(), world.roots, table, (NotFoundRule(),), clock=lambda: NOW_NS, pages=pages)  # type: ignore[arg-type]
    for target, body in (("/%zz", b"ours"), ("/none", b"nothing"), ("/x%2Fy", b"nothing"), ("/a", page(404))):
        assert planner.decide(Ask(target=target)).body == body
    assert planner.decide(Ask(target="/%zz", host="else.example")).body == page(400)
    with pytest.raises(ValueError, match="no site 7"):
        table.set_pages(7, 1)
