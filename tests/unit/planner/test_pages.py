"""Clean URLs, and the page that stands for those that are not there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.unit.planner.world import Answer, World
from tux._engine import ABSENT, FILE, NEXT, PUBLISH, REMEMBER
from tux.planner.rules import ErrorPage, ErrorRules, GlobRule

Write = Callable[..., Path]


def looked_at(answer: Answer) -> list[tuple[bytes, int]]:
    return [(check.path, check.kind) for check in answer.plan.checks]


class TestSpa:
    @pytest.fixture(autouse=True)
    def app(self, world: World, write: Write) -> None:
        world.serve(spa=b"index.html", cache_control=(GlobRule("*.html", "no-cache"),))
        write("index.html", b"app")
        write("app.js", b"js")

    @pytest.mark.parametrize(
        "target",
        ["/users", "/users/7", "/users/john.doe", "/v1.2", "/search?q=a.png", "/a/", "/a.js/", "/x/app%2Ejs/y", "/C++"],
    )
    def test_pages(self, world: World, target: str) -> None:
        answer = world.ask(target)
        assert (answer.status, answer.body) == (200, b"app")
        assert answer.fields["content-type"] == "text/html; charset=utf-8"
        assert answer.fields["cache-control"] == "no-cache"
        assert answer.flags == REMEMBER | PUBLISH
        assert world.ask(target, if_none_match=answer.fields["etag"]).status == 304

    @pytest.mark.parametrize(
        "target", ["/missing.js", "/img/x.PNG", "/a.b.css", "/app.js.map", "/.git/config", "/.env"]
    )
    def test_missing_files_stay_missing(self, world: World, target: str) -> None:
        assert world.ask(target).status == 404

    def test_files_are_files(self, world: World) -> None:
        assert world.ask("/app.js").body == b"js"

    def test_methods(self, world: World) -> None:
        assert world.ask("/users", "HEAD").status == 200
        assert world.ask("/users", "POST").status == 405
        assert world.ask("/users", "OPTIONS").status == 204

    def test_what_it_depends_on(self, world: World) -> None:
        world.serve(spa=b"index.html", precompressed=False)
        assert looked_at(world.ask("/users")) == [(b"users", ABSENT), (b"index.html", FILE)]

    def test_without_the_file(self, world: World) -> None:
        (world.root / "index.html").unlink()
        answer = world.ask("/users")
        assert answer.status == 404
        assert looked_at(answer) == [(b"users", ABSENT), (b"index.html", ABSENT)]

    def test_before_error_pages(self, world: World, write: Write) -> None:
        write("404.html", b"none")
        world.serve(spa=b"index.html", errors=ErrorRules((ErrorPage(404, 0, b"404.html"),)))
        assert world.ask("/users").body == b"app"
        assert world.ask("/x.js").body == b"none"

    def test_below_a_mount(self, world: World) -> None:
        world.serve(spa=b"index.html", mount=b"/app")
        assert world.ask("/app/users").body == b"app"
        assert world.ask("/appusers").status == 404


class TestCleanUrls:
    @pytest.fixture(autouse=True)
    def clean(self, world: World, write: Write) -> None:
        world.serve(clean_urls=True)
        write("a.html", b"page")

    def test_a_page_without_its_suffix(self, world: World) -> None:
        answer = world.ask("/a")
        assert (answer.status, answer.body) == (200, b"page")
        assert answer.fields["content-type"] == "text/html; charset=utf-8"
        assert looked_at(answer)[:2] == [(b"a", ABSENT), (b"a.html", FILE)]
        assert world.ask("/a.html").body == b"page"
        assert world.ask("/b").status == 404

    def test_not_unless_it_is_wanted(self, world: World) -> None:
        world.serve()
        assert world.ask("/a").status == 404

    def test_a_file_of_that_name_wins(self, world: World, write: Write) -> None:
        write("a", b"file")
        assert world.ask("/a").body == b"file"

    def test_a_folder_of_that_name(self, world: World, write: Write) -> None:
        write("a/x.txt")
        assert world.ask("/a").body == b"page", "a folder that has no index is nothing to see"
        write("a/index.html", b"index")
        assert world.ask("/a").fields["location"] == "a/"
        assert world.ask("/a/").body == b"index"

    def test_a_folder_without_a_page(self, world: World, write: Write) -> None:
        write("f/x.txt")
        assert world.ask("/f").fields["location"] == "f/"
        assert world.ask("/f/").status == 404

    def test_with_a_slash_it_leads_there(self, world: World, write: Write) -> None:
        write("d/a b.html", b"page")
        answer = world.ask("/d/a%20b/?x=1")
        assert (answer.status, answer.fields["location"]) == (301, "../a%20b?x=1")
        assert world.ask("/d/a%20b").body == b"page"
        assert world.ask("/d/none/").status == 404
        assert world.ask("/").status == 404

    def test_side_files_count(self, world: World, write: Write) -> None:
        write("a.html.gz", b"small")
        answer = world.ask("/a", accept_encoding="gzip")
        assert (answer.body, answer.fields["content-encoding"]) == (b"small", "gzip")

    def test_what_is_hidden_stays_hidden(self, world: World, write: Write) -> None:
        write(".b.html")
        write("html")
        assert world.ask("/.b").status == 404
        os.symlink("/etc/passwd", world.root / "out.html")
        assert world.ask("/out").status == 404

    def test_before_what_comes_next(self, world: World, write: Write) -> None:
        world.serve(clean_urls=True, falls_through=True)
        write("f/x.txt")
        assert world.ask("/a").body == b"page"
        for target in ("/b", "/f", "/f/"):
            assert world.ask(target).flags & NEXT

    def test_the_longest_path(self, world: World) -> None:
        for length in (4080, 4085, 4090, 4095):
            assert world.ask("/" + "/".join(["x" * 200] * 30)[: length - 1]).status == 404


class TestTrailingSlash:
    """At which of two paths a page is."""

    @pytest.fixture(autouse=True)
    def files(self, write: Write) -> None:
        write("d/index.html", b"index")
        write("d/p.html", b"page")
        write("both.html", b"page of both")
        write("both/x.txt", b"x")
        write("list/x.txt", b"x")

    @pytest.mark.parametrize(
        ("policy", "at", "leads"),
        [
            ("folders", {"/d/": b"index", "/d/p": b"page", "/both": b"page of both"}, {"/d": "d/", "/d/p/": "../p"}),
            (
                "always",
                {"/d/": b"index", "/d/p/": b"page", "/both/": b"page of both"},
                {"/d": "d/", "/d/p": "p/", "/both": "both/"},
            ),
            (
                "never",
                {"/d": b"index", "/d/p": b"page", "/both": b"page of both"},
                {"/d/": "../d", "/d/p/": "../p"},
            ),
        ],
    )
    @pytest.mark.parametrize("falls_through", [False, True])
    def test_pages(
        self, world: World, policy: str, at: dict[str, bytes], leads: dict[str, str], falls_through: bool
    ) -> None:
        world.serve(clean_urls=True, trailing_slash=policy, falls_through=falls_through)
        for target, body in at.items():
            answer = world.ask(target)
            assert (target, answer.status, answer.body) == (target, 200, body)
        for target, location in leads.items():
            answer = world.ask(target + "?a=b")
            assert (target, answer.status, answer.fields["location"]) == (target, 301, location + "?a=b")
            met = world.ask(urljoin(target, location))
            assert met.status == 200, "no redirect leads to another one"

    @pytest.mark.parametrize("policy", ["folders", "always", "never"])
    def test_what_no_policy_changes(self, world: World, write: Write, policy: str) -> None:
        write("index.html", b"first")
        world.serve(clean_urls=True, trailing_slash=policy, listing=True)
        assert world.ask("/").body == b"first"
        assert world.ask("/d/p.html").body == b"page"
        assert world.ask("/d/p.html/").status == world.ask("/none/").status == world.ask("/none").status == 404
        assert world.ask("/list").fields["location"] == "list/", "links of listings need the slash"
        assert b"x.txt" in world.ask("/list/").body

    def test_an_index_without_clean_urls(self, world: World) -> None:
        world.serve(trailing_slash="never")
        assert world.ask("/d").body == b"index"
        assert world.ask("/d/").fields["location"] == "../d"
        assert world.ask("/d/p").status == world.ask("/d/p/").status == 404
        world.serve(trailing_slash="always")
        assert world.ask("/d").fields["location"] == "d/"
        assert world.ask("/d/").body == b"index"

    @pytest.mark.parametrize("policy", ["folders", "always", "never"])
    def test_the_root_of_a_route(self, world: World, write: Write, policy: str) -> None:
        write("index.html", b"first")
        world.serve(mount=b"/docs", clean_urls=True, trailing_slash=policy)
        assert world.ask("/docs").fields["location"] == "docs/"
        assert world.ask("/docs/").body == b"first"

    def test_many_slashes(self, world: World) -> None:
        world.serve(clean_urls=True)
        for target in ("/d/p//", "/d//p///", "//d/p/"):
            up = world.ask(target).fields["location"].removesuffix("p")
            folders = target.split("/")[: -1 - up.count("../")]  # RFC 3986 section 5.2.4; urljoin drops empty ones
            assert re.fullmatch(r"(\.\./)+", up)
            assert "/".join(folders).replace("//", "/").rstrip("/") == "/d"

    def test_what_it_depends_on(self, world: World, write: Write) -> None:
        world.serve(clean_urls=True, trailing_slash="always", precompressed=False)
        assert looked_at(world.ask("/d/p")) == [(b"d/p", ABSENT), (b"d/p.html", FILE)]
        assert looked_at(world.ask("/d/p/")) == [(b"d/p/index.html", ABSENT), (b"d/p.html", FILE)]
        world.serve(trailing_slash="never", precompressed=False)
        assert (b"d/index.html", FILE) in looked_at(world.ask("/d/"))


class TestUsual:
    """What browsers and robots ask for."""

    def test_plain_404_unless_wanted(self, world: World) -> None:
        assert world.ask("/favicon.ico").status == world.ask("/robots.txt").status == 404

    def test_no_icon(self, world: World, write: Write) -> None:
        world.serve(favicon=True, precompressed=False)
        for method in ("GET", "HEAD"):
            answer = world.ask("/favicon.ico", method)
            assert (answer.status, answer.fields["cache-control"]) == (204, "max-age=86400")
            assert looked_at(answer) == [(b"favicon.ico", ABSENT)]
            assert answer.flags & REMEMBER
        assert world.ask("/sub/favicon.ico").status == 404
        assert world.ask("/favicon.ico", "POST").status == 405
        write("favicon.ico", b"icon")
        assert world.ask("/favicon.ico").body == b"icon"

    @pytest.mark.parametrize(
        ("robots", "text"), [("allow", b"User-agent: *\nDisallow:\n"), ("deny", b"User-agent: *\nDisallow: /\n")]
    )
    def test_robots(self, world: World, write: Write, robots: str, text: bytes) -> None:
        world.serve(robots=robots, spa=b"index.html")
        answer = world.ask("/robots.txt")
        assert (answer.status, answer.body) == (200, text)
        assert answer.fields["content-type"] == "text/plain; charset=utf-8"
        assert world.ask("/robots.txt", "HEAD").plan.head == answer.plan.head
        assert world.ask("/robots.txt/").status == world.ask("/sub/robots.txt").status == 404
        write("robots.txt", b"mine")
        assert world.ask("/robots.txt").body == b"mine"

    def test_what_comes_next_is_asked(self, world: World) -> None:
        world.serve(robots="deny", favicon=True, falls_through=True)
        assert world.ask("/robots.txt").flags & NEXT
        assert world.ask("/favicon.ico").flags & NEXT
