"""Folders of hosts: which one is looked in, and that nothing leads out of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.planner.world import Ask, World
from tux._engine import ABSENT, FOLDER, NEXT, REMEMBER
from tux.config.compile import Compiled, compile_config
from tux.config.load import parse
from tux.planner.hosts import folder_of, name_of
from tux.planner.rules import CgiRule, ErrorPage, ErrorRules, GlobRule, HostRule, StaticRule

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("example.org", "example.org"),
        ("example.org:8080", "example.org"),
        ("example.org:", "example.org"),
        ("example.org.", "example.org"),
        ("example.org.:80", "example.org"),
        ("localhost", "localhost"),
        ("_dmarc.a_b.org", "_dmarc.a_b.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("", ""),
        (":80", ""),
        (".", ""),
        ("..", ""),
        ("../../etc", ""),
        ("..%2f..%2fetc", ""),
        ("a.%2e%2e.b", ""),
        (".example.org", ""),
        ("example.org..", ""),
        ("a..b", ""),
        ("a/b", ""),
        ("a\\b", ""),
        ("a\0b", ""),
        ("-a.org", ""),
        ("a-.org", ""),
        ("a.org\n", ""),
        ("b\u00fccher.example", ""),
        ("127.0.0.1", ""),
        ("127.0.0.1:80", ""),
        ("2130706433", ""),
        ("1.2.3", ""),
        ("[::1]", ""),
        ("[::1]:80", ""),
        ("a" * 64 + ".org", ""),
        ("a" * 63 + ".org", "a" * 63 + ".org"),
        (".".join(["a" * 49] * 5) + ".bcd", ".".join(["a" * 49] * 5) + ".bcd"),
        (".".join(["a" * 49] * 5) + ".bcde", ""),
        ("a" * 100_000, ""),
    ],
)
def test_names(host: str, name: str) -> None:
    assert name_of(host) == name


@pytest.mark.parametrize(
    ("host", "strip", "name"),
    [
        ("www.a.example.org", ["www.", ".example.org"], "a"),
        ("www.www.a.org", ["www."], "www.a.org"),
        ("www.org", ["www."], "org"),
        ("example.org", [".example.org"], "example.org"),
        ("notexample.org", [".example.org"], "notexample.org"),
        ("a.org", [".*"], "a"),
        ("a.b.org", [".*.*"], "a"),
        ("b.org", [".*.*"], "b.org"),
        ("localhost", [".*"], "localhost"),
        ("127.0.0.1", [".*"], ""),
    ],
)
def test_what_is_stripped(host: str, strip: list[str], name: str) -> None:
    assert name_of(host, strip) == name


@pytest.mark.parametrize(
    ("template", "name", "folder"),
    [
        ("{host}", "a.org", b"a.org"),
        ("{host:1}/{host:2}/{host:3}/{host}/public", "some.org", b"s/so/som/some.org/public"),
        ("{host:3}/{host}", "a", b"a/a"),
        ("site-{host}", "a.org", b"site-a.org"),
    ],
)
def test_templates(template: str, name: str, folder: bytes) -> None:
    assert folder_of(template, name) == folder


@given(
    st.text(st.sampled_from("ab.-_/%:\0[]0129~ \u00e9"), max_size=40),
    st.lists(st.sampled_from(["www.", "a.", ".b", ".a.b", ".*", ".*.*"]), max_size=4),
    st.sampled_from(["{host}", "{host:1}/{host}", "{host:2}/{host:3}/{host}/www"]),
)
def test_no_host_leads_anywhere_else(host: str, strip: list[str], template: str) -> None:
    name = name_of(host.lower(), strip)
    if name:
        segments = folder_of(template, name).split(b"/")
        assert len(segments) == template.count("/") + 1
        assert not any(segment in (b"", b".", b"..") or segment.startswith(b".") for segment in segments)


HOSTS = HostRule("{host}/public")
WITH_DEFAULT = HostRule("{host}/public", ("www.",), "none")


def body(world: World, host: str, target: str = "/a.txt") -> bytes | int:
    answer = world.answer(Ask(target=target, host=host))
    return answer.body if answer.status == 200 else answer.status


class TestFolders:
    def test_each_host_has_its_own(self, world: World, write: Write) -> None:
        world.serve(hosts=HOSTS)
        write("a.org/public/a.txt", b"a")
        write("b.org/public/a.txt", b"b")
        write("b.org/public/b/index.html", b"index")
        assert body(world, "a.org") == b"a"
        assert body(world, "B.ORG:8080") == b"b"
        assert body(world, "b.org.") == b"b"
        assert body(world, "b.org", "/b/") == b"index"
        redirect = world.answer(Ask(target="/b", host="b.org"))
        assert (redirect.status, redirect.fields["location"]) == (301, "b/")
        for host in ("c.org", "public", "a.org/public", "..", "", "127.0.0.1", "[::1]"):
            assert body(world, host) == 404

    def test_without_a_default_nothing_more_is_looked_at(self, world: World, write: Write) -> None:
        world.serve(hosts=HOSTS)
        write("a.org/public/a.png", b"a")
        answer = world.answer(Ask(target="/a.png", host="a.org"))
        assert [found.path for found in answer.plan.checks] == [b"a.org/public//a.png"]
        assert answer.flags & REMEMBER

    def test_the_default(self, world: World, write: Write) -> None:
        world.serve(hosts=WITH_DEFAULT)
        write("none/public/a.txt", b"none")
        write("a.org/public/b.txt", b"b")
        for host in ("c.org", "127.0.0.1", "[::1]:80", "", "../x"):
            assert body(world, host) == b"none"
        answer = world.answer(Ask(target="/a.txt", host="www.c.org"))
        assert [(found.path, found.kind) for found in answer.plan.checks[:1]] == [(b"c.org/public", ABSENT)]
        assert answer.flags & REMEMBER, "the check tells when the folder appears"
        answer = world.answer(Ask(target="/a.txt", host="a.org"))
        assert answer.status == 404, "its folder is there"
        assert [(found.path, found.kind) for found in answer.plan.checks[:1]] == [(b"a.org/public", FOLDER)]

    def test_without_a_folder_for_the_default(self, world: World) -> None:
        world.serve(hosts=WITH_DEFAULT)
        assert body(world, "c.org") == 404
        assert body(world, "") == 404

    def test_something_else_gets_what_no_folder_has(self, world: World) -> None:
        world.serve(hosts=HOSTS, falls_through=True)
        assert world.answer(Ask(target="/a.txt", host="[::1]")).flags & NEXT
        assert world.answer(Ask(target="/a.txt", host="c.org")).flags & NEXT

    def test_mounted(self, world: World, write: Write) -> None:
        world.serve(hosts=HOSTS, mount=b"/m")
        write("a.org/public/a.txt", b"a")
        assert body(world, "a.org", "/m/a.txt") == b"a"
        assert body(world, "a.org", "/a.txt") == 404
        assert world.answer(Ask(target="/m", host="a.org")).fields["location"] == "m/"


class TestLinks:
    def test_hosts_cannot_reach_each_other(self, world: World, write: Write) -> None:
        """Whoever may write in one folder must not get the files of another."""
        world.serve(hosts=HOSTS, listing=True)
        write("a.org/public/a.txt", b"a")
        write("b.org/secret.txt", b"secret")
        public = world.root / "a.org/public"
        (public / "up.txt").symlink_to("../../b.org/secret.txt")
        (public / "own.txt").symlink_to("../private.txt")
        write("a.org/private.txt", b"private")
        (public / "all").symlink_to("../..")
        (public / "same.txt").symlink_to("a.txt")
        (public / "a.txt.gz").symlink_to("../../b.org/secret.txt")
        for target in ("/up.txt", "/own.txt", "/all", "/all/", "/all/b.org/secret.txt"):
            assert body(world, "a.org", target) == 404
        assert body(world, "a.org", "/same.txt") == b"a"
        packed = world.answer(Ask(target="/a.txt", host="a.org", fields={"accept-encoding": "gzip"}))
        assert packed.body == b"a"
        names = world.answer(Ask(target="/", host="a.org", fields={"accept": "application/json"})).body
        assert b"same.txt" in names
        assert b"secret" not in names
        assert b"up.txt" not in names

    def test_a_link_is_another_name(self, world: World, write: Write) -> None:
        world.serve(hosts=HOSTS)
        write("a.org/public/a.txt", b"a")
        (world.root / "alias.org").symlink_to("a.org")
        (world.root / "out.org").symlink_to("/tmp")
        (world.root / "up.org").symlink_to("..")
        assert body(world, "alias.org") == b"a"
        assert body(world, "out.org") == 404
        assert body(world, "up.org") == 404


class TestWhatRulesSeeOfPaths:
    def test_globs_and_side_files(self, world: World, write: Write) -> None:
        world.serve(hosts=HOSTS, cache_control=(GlobRule("a.txt", "name"), GlobRule("/b/*", "path")))
        write("a.org/public/a.txt", b"a")
        write("a.org/public/a.txt.gz", b"packed")
        write("a.org/public/b/c.txt", b"c")
        answer = world.answer(Ask(target="/a.txt", host="a.org", fields={"accept-encoding": "gzip"}))
        assert (answer.body, answer.fields["cache-control"]) == (b"packed", "name")
        assert world.answer(Ask(target="/b/c.txt", host="a.org")).fields["cache-control"] == "path"

    def test_pages(self, world: World, write: Write) -> None:
        world.serve(hosts=HOSTS, clean_urls=True, spa=b"index.html")
        write("a.org/public/index.html", b"index")
        write("a.org/public/about.html", b"about")
        assert body(world, "a.org", "/about") == b"about"
        assert body(world, "a.org", "/other") == b"index"
        assert body(world, "b.org", "/other") == 404

    def test_error_pages_are_those_of_the_host(self, world: World, write: Write) -> None:
        rules = ErrorRules((ErrorPage(404, 0, b"404.html", WITH_DEFAULT),))
        world.serve(hosts=WITH_DEFAULT, errors=rules)
        write("a.org/public/404.html", b"a")
        write("none/public/404.html", b"none")
        assert world.answer(Ask(target="/x", host="a.org")).body == b"a"
        assert world.answer(Ask(target="/x", host="b.org")).body == b"none"
        world.serve(hosts=HOSTS, errors=ErrorRules((ErrorPage(404, 0, b"404.html", HOSTS),)))
        assert b"404 Not Found" in world.answer(Ask(target="/x", host="[::1]")).body

    def test_paths_that_no_file_can_have(self, world: World) -> None:
        world.serve(hosts=HOSTS)
        assert body(world, "a.org", "/" + "a/" * 2000) == 404


def test_compiled() -> None:
    compiled: Compiled = compile_config(
        parse(
            b"""
            [[site]]
            root = "/srv/{host:1}/{host}/public/"
            host_strip = ["WWW."]
            host_default = "none"
            error_page = { 404 = "404.html" }
            [[site.route]]
            path = "/plain"
            root = "/srv/plain"
            [[site.route]]
            path = "/cgi-bin/"
            cgi = "/srv/cgi"
            """,
            "/etc/tux.toml",
        )
    )
    plain, cgi, files = compiled.rules
    rule = HostRule("{host:1}/{host}/public", ("www.",), "none")
    assert isinstance(files, StaticRule)
    assert isinstance(plain, StaticRule)
    assert compiled.roots[files.root] == b"/srv"
    assert files.hosts == rule
    assert files.errors.pages == (ErrorPage(404, files.root, b"404.html", rule),)
    assert plain.hosts is None
    assert [(page.root, page.hosts) for page in plain.errors.pages] == [(files.root, rule)]
    assert isinstance(cgi, CgiRule)
    assert (cgi.document_root, cgi.hosts) == (files.root, rule)
