"""Clean URLs, and the page that stands for those that are not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

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
