"""Redirects and rewrites."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.planner.world import NOW_NS, Answer, Ask, World
from tux._engine import EXACT, REMEMBER, RouteTable
from tux.http.target import decode_path
from tux.planner import template
from tux.planner.errors import PLAIN
from tux.planner.loop import Planner
from tux.planner.plan import Plan
from tux.planner.redirect import Redirect
from tux.planner.rules import DenyRule, RedirectRule, RewriteRule, Rule, StaticRule

Write = Callable[..., Path]


class Unused:
    """A port that nothing comes by."""


def redirected(world: World, path: str, to: str, method: str = "GET", host: str = "example.org", **rule: Any) -> Answer:
    """The answer to a request below /old, which leads to `to`."""
    view = world.view(Ask(method, path, host=host))
    redirect, decoded = Redirect(RedirectRule(prefix=b"/old", target=to, **rule), PLAIN), decode_path(view.path)
    pieces = redirect.pieces(decoded)
    plan = PLAIN.plan(view, 404) if pieces is None else redirect.plan(view, decoded, pieces)
    return Answer(plan, view)


@pytest.mark.parametrize(
    ("target", "to", "location"),
    [
        ("/old", "/new", "/new"),
        ("/old/a/b", "/new", "/new"),
        ("/old/a/b/", "/new/{rest}", "/new/a/b/"),
        ("/old", "/new/{rest}", "/new/"),
        ("/old/a%20b/%C3%A9/x%3Fy", "/new/{rest}", "/new/a%20b/%C3%A9/x%3Fy"),
        ("/old/a", "https://www.example.net{path}", "https://www.example.net/old/a"),
        ("/old/a", "https://{host}{path}", "https://example.org/old/a"),
        ("/old/a?x=1&y=%20", "/new/{rest}", "/new/a?x=1&y=%20"),
        ("/old/a?x=1", "/new?fixed=1", "/new?fixed=1"),
        ("/old/a?x=1", "/new#part", "/new?x=1#part"),
        ("/old/a?x=<\"'>", "/new", "/new?x=%3C%22'%3E"),
        ("/old/a?", "/new", "/new?"),
        ("/old/a:b", "/{rest}", "/a:b"),
    ],
)
def test_where_to(world: World, target: str, to: str, location: str) -> None:
    answer = redirected(world, target, to)
    assert (answer.status, answer.fields["location"].replace("%3A", ":")) == (301, location)
    assert answer.flags & REMEMBER


@pytest.mark.parametrize(
    ("match", "target", "to", "location"),
    [
        ("*", "/old/x", "/n/{1}", "/n/x"),
        ("*", "/old/x/y", "/n/{1}", None),
        ("*/*", "/old/x/y", "/{2}/{1}", "/y/x"),
        ("**/*.html", "/old/a/b/c.html", "/{1}{2}", "/a/b/c"),
        ("**/*.html", "/old/c.html", "/{1}{2}", "/c"),
        ("*-*.htm", "/old/2026-11-x.htm", "/{1}/{2}", "/2026/11-x"),
        ("a.b", "/old/aXb", "/n", None),
        ("a.b", "/old/a.b", "/n", "/n"),
        ("x/**", "/old/x/a/b", "/{1}", "/a/b"),
        ("x/**", "/old/y", "/{1}", None),
        ("", "/old", None, None),
    ],
)
def test_captures(world: World, match: str, target: str, to: str | None, location: str | None) -> None:
    if to is None:
        with pytest.raises(ValueError, match="glob"):
            template.compile_match(match)
        return
    answer = redirected(world, target, to, match=match)
    assert answer.fields.get("location") == location
    assert answer.status == (301 if location else 404)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_statuses_and_methods(world: World, status: int) -> None:
    for method in ("GET", "HEAD", "POST", "DELETE"):
        answer = redirected(world, "/old", "/new", method, status=status)
        assert (answer.status, answer.fields["location"]) == (status, "/new")


def test_the_query_is_part_of_it(world: World) -> None:
    assert redirected(world, "/old?a", "/new").flags & EXACT
    assert not redirected(world, "/old?a", "/new?b").flags & EXACT


@pytest.mark.parametrize("target", ["/old/", "/old/x", "/old//evil.example", "/old/%5Cevil.example", "/old/%09/evil"])
@pytest.mark.parametrize("to", ["/{1}/{2}", "/{1}{2}", "/{rest}", "/{path}/n"])
def test_it_never_leads_to_another_host(world: World, target: str, to: str) -> None:
    location = redirected(world, target, to, match="**/*").fields["location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


@pytest.mark.parametrize("to", ["/{path}", "/old/{rest}", "/old/{rest}?a=b", "/{path}#x"])
def test_it_never_leads_to_itself(world: World, to: str) -> None:
    for target in ("/old/a%20b", "/old/a//%5Cb?x"):
        answer = redirected(world, target, to)
        assert (answer.status, "location" in answer.fields) == (404, False)


@pytest.mark.parametrize("text", ["%0D%0ASet-Cookie:%20a=b", "%0d%0a%0d%0a<script>", "%E2%80%A8", "%C0%AF%2e"])
def test_nothing_of_a_path_or_a_query_is_a_line_of_its_own(world: World, text: str) -> None:
    for target in (f"/old/{text}", f"/old/x?{text}\t\x85"):
        answer = redirected(world, target, "/new/{rest}")
        assert set(answer.fields) - {"location"} == set(redirected(world, "/old", "/new").fields) - {"location"}
        assert re.fullmatch(r"[!-~]+", answer.fields["location"])


def test_the_host_in_lower_case_and_without_its_port(world: World) -> None:
    for host, expected in [
        ("A.example:80", "a.example"),
        ("a.example:", "a.example"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
    ]:
        answer = redirected(world, "/old", "https://{host}/", host=host)
        assert answer.fields["location"] == f"https://{expected}/"
    assert redirected(world, "/old", "https://{host}/", host="").status == 400


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("new", "expected /PATH, http"),
        ("//evil.example/", "expected /PATH"),
        ("ftp://a/", "expected /PATH, http"),
        ("https:///a", "expected /PATH, http"),
        ("https://{1}/a", "HOST can have {host} only"),
        ("https://a{rest}", "HOST can have {host} only"),
        ("/{2}", r"\{2\} is not one of \{path\}, \{rest\}, \{host\}, \{1\}"),
        ("/{0}", "is not one of"),
        ("/{}", "is not one of"),
        ("/a b", "characters that a URL can carry"),
        ("/\u00e9", "characters that a URL can carry"),
        ("/a\r\nX: y", "characters that a URL can carry"),
        ("/{rest", "URL can carry"),
    ],
)
def test_targets_that_are_refused(target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        template.check_target(target, 1, absolute=True)


def test_a_rewrite_is_to_a_path(world: World) -> None:
    template.check_target("/a b/{1}", 1, absolute=False)
    for target in ("https://a/", "//a", "a", "/{rest"):
        with pytest.raises(ValueError, match="expected"):
            template.check_target(target, 1, absolute=False)


@given(st.text("ab*/.", max_size=12), st.text("ab./", max_size=40))
def test_matching_ends(pattern: str, path: str) -> None:
    try:
        found = template.compile_match(pattern)
    except ValueError:
        return
    found.fullmatch(path.encode())


def test_matching_is_quick() -> None:
    assert template.compile_match("*a*a*a*a*a*a*a*a*b").fullmatch(b"a" * 8000) is None
    assert template.compile_match("**/*a*a*a*b").fullmatch(b"a/" * 4000) is None


class TestRewrites:
    @pytest.fixture
    def ask(self, world: World, write: Write) -> Callable[..., Plan]:
        write("pages/a.html", b"a")
        write("pages/sub/index.html", b"sub")
        write("é x", b"accent")
        table = RouteTable()
        site = table.add_site(["example.org"])
        rules: list[tuple[bytes, Rule]] = [
            (b"/", StaticRule(root=0)),
            (b"/p", RewriteRule(prefix=b"/p", target="/pages/{1}.html", match="*")),
            (b"/s", RewriteRule(prefix=b"/s", target="/pages/sub{rest}")),
            (b"/t", RewriteRule(prefix=b"/t", target="/pages/{rest}")),
            (b"/loop", RewriteRule(prefix=b"/loop", target="/loop/x")),
            (b"/closed", RewriteRule(prefix=b"/closed", target="/private")),
            (b"/private", DenyRule()),
            (b"/e", RewriteRule(prefix=b"/e", target="/\u00e9 x")),
        ]
        for number, (prefix, _) in enumerate(rules):
            table.add_route(site, prefix, number)
        planner = Planner(
            Unused(),  # type: ignore[arg-type]
            world.roots,
            table,
            [rule for _, rule in rules],
            clock=lambda: NOW_NS,
        )
        return lambda target, **fields: planner.decide(Ask(target=target, **fields))

    def test_files_under_other_names(self, ask: Callable[..., Plan]) -> None:
        plan = ask("/p/a")
        assert (plan.status, plan.body) == (200, b"a")
        assert plan.flags & REMEMBER
        assert ask("/e").body == b"accent"

    @pytest.mark.parametrize("target", ["/p/none", "/p/a/b", "/loop/x", "/closed", "/p/.."])
    def test_what_is_not_there(self, ask: Callable[..., Plan], target: str) -> None:
        assert ask(target).status == 404

    def test_a_folder_leads_to_the_path_that_was_asked_for(self, ask: Callable[..., Plan]) -> None:
        plan = ask("/t/sub")
        assert (plan.status, b"Location: sub/\r\n" in plan.head) == (301, True)
        assert ask("/t/sub/").body == b"sub"
