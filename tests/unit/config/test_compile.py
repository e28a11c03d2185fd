"""Configuration -> route table, rules, limits."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from tests.unit.config.conftest import limits_of_header
from tux.config import load
from tux.config.compile import Compiled, compile_config, engine_limits
from tux.config.schema import Limits
from tux.planner.rules import DenyRule, ErrorRules, GlobRule, HeaderRule, RedirectRule, RewriteRule, Rule, StaticRule

pytestmark = pytest.mark.usefixtures("limits")


def compiled(toml: str) -> Compiled:
    return compile_config(load.parse(toml.encode(), "/etc/tux.toml"))


def rule(done: Compiled, host: str, path: str) -> Rule | None:
    number = done.table.match(host, path.encode())
    return None if number < 0 else done.rules[number]


def test_one_folder_for_all_hosts() -> None:
    done = compiled('[[site]]\nroot = "public"\n')
    assert done.roots == (b"/etc/public",)
    assert done.rules == (StaticRule(root=0),)
    assert done.limits == {}
    assert done.significant == ()
    for host in ("", "example.org", "[::1]:80"):
        assert rule(done, host, "/any/path") == StaticRule(root=0)


def test_hosts_and_prefixes_choose_the_rule() -> None:
    done = compiled(
        """
        [[site]]
        hosts = ["A.example", "*.a.example."]
        root = "a"
        [[site.route]]
        path = "/no"
        deny = true
        [[site.route]]
        path = "/no/but"
        root = "b"
        [[site]]
        hosts = ["only.example"]
        [[site.route]]
        path = "/x/"
        root = "/etc/a"
        [[site]]
        root = "c"
        [[site.route]]
        path = "/"
        deny = true
        """
    )
    assert sorted(done.roots) == [b"/etc/a", b"/etc/b"]
    a, b = done.roots.index(b"/etc/a"), done.roots.index(b"/etc/b")
    assert rule(done, "a.example:80", "/") == StaticRule(root=a)
    assert rule(done, "x.y.A.example", "/nobody") == StaticRule(root=a)
    assert rule(done, "a.example", "/no") == DenyRule()
    assert rule(done, "a.example", "/no/x") == DenyRule()
    assert rule(done, "a.example", "/no/but/x") == StaticRule(root=b, mount=b"/no/but")
    assert rule(done, "only.example", "/x/y") == StaticRule(root=a, mount=b"/x")
    assert rule(done, "only.example", "/y") is None
    assert rule(done, "else.example", "/y") == DenyRule()


def test_a_route_takes_over_what_it_does_not_set() -> None:
    done = compiled(
        """
        [[site]]
        root = "a"
        index = ["i"]
        listing = true
        spa = "a.html"
        clean_urls = true
        precompressed = false
        dotfiles = "allow"
        cache_control = "site"
        headers = { "*.x" = { X-Glob = "site" }, X-All = "site", X-Own = "site" }
        [[site.route]]
        path = "/same"
        [[site.route]]
        path = "/own"
        root = "b"
        index = []
        listing = false
        clean_urls = false
        precompressed = true
        dotfiles = "deny"
        cache_control = { "*.y" = "route", "*" = "rest" }
        headers = { "*.z" = { x-own = "route" } }
        """
    )
    same = rule(done, "", "/same")
    assert same == StaticRule(
        root=done.roots.index(b"/etc/a"),
        index=(b"i",),
        listing=True,
        spa=b"a.html",
        clean_urls=True,
        precompressed=False,
        dotfiles=True,
        cache_control=(GlobRule("*", "site"),),
        headers=(
            HeaderRule("*", "X-All", "site"),
            HeaderRule("*", "X-Own", "site"),
            HeaderRule("*.x", "X-Glob", "site"),
        ),
        errors=ErrorRules(headers=(HeaderRule("*", "X-All", "site"), HeaderRule("*", "X-Own", "site"))),
    )
    assert rule(done, "", "/") == same
    assert rule(done, "", "/own") == StaticRule(
        root=done.roots.index(b"/etc/b"),
        mount=b"/own",
        index=(),
        precompressed=True,
        dotfiles=False,
        cache_control=(GlobRule("*.y", "route"), GlobRule("*", "rest"), GlobRule("*", "site")),
        headers=(
            HeaderRule("*.z", "x-own", "route"),
            HeaderRule("*", "X-All", "site"),
            HeaderRule("*.x", "X-Glob", "site"),
        ),
        errors=ErrorRules(headers=(HeaderRule("*", "X-All", "site"),)),
    )


def test_limits_in_the_units_of_the_engine() -> None:
    done = compiled(
        """
        [server.limits]
        head_timeout = 0.5
        idle_timeout = 65
        memo_bytes = "1MiB"
        fields = 7
        [[site]]
        root = "a"
        """
    )
    assert done.limits == {"head_timeout_ms": 500, "memo_bytes": 2**20, "fields": 7}


def test_the_defaults_of_the_limits_are_those_of_the_engine(limits: dict[str, int]) -> None:
    ours = {}
    for name in Limits.__struct_fields__:
        value = getattr(Limits(), name)
        ours[f"{name}_ms" if name.endswith("_timeout") else name] = value * 1000 if name.endswith("_timeout") else value
    header = limits_of_header()
    assert ours == {name: header[name] for name in ours}
    assert ours == {name: limits[name] for name in ours}


@pytest.mark.parametrize("bound", ["ge", "le"])
def test_the_engine_accepts_every_limit_at_its_bounds(bound: str) -> None:
    engine_module = pytest.importorskip("tux._engine")
    if not hasattr(engine_module, "Engine"):
        pytest.skip("the engine is not built")
    values = {field.name: getattr(get_args(field.type)[1], bound) for field in msgspec.structs.fields(Limits)}
    engine = engine_module.Engine(key=bytes(16), limits=engine_limits(Limits(**values)))
    assert not any(engine.close().values())


def test_what_a_redirect_does_not_match_is_what_there_is_without_it() -> None:
    done = compiled(
        """
        [[site]]
        root = "a"
        forward = "http://127.0.0.1:1"
        try = ["static", "forward"]
        [[site.route]]
        path = "/"
        match = "*.htm"
        redirect = "/{1}"
        [[site.route]]
        path = "/files"
        root = "b"
        [[site.route]]
        path = "/files/old"
        match = "*.htm"
        redirect = "/{1}"
        [[site.route]]
        path = "/files/old/er"
        match = "*.asp"
        rewrite = "/files/{1}"
        [[site.route]]
        path = "/files/all"
        redirect = "/"
        """
    )
    first, files, old, older, everything = (
        rule(done, "", at) for at in ("/x", "/files", *(f"/files/{name}" for name in ("old", "old/er", "all")))
    )
    assert isinstance(first, RedirectRule)
    assert first.otherwise == -1, "a server behind is asked by the engine, not by the planner"
    assert isinstance(old, RedirectRule)
    assert done.rules[old.otherwise] == files == StaticRule(root=done.roots.index(b"/etc/b"), mount=b"/files")
    assert isinstance(older, RewriteRule)
    other = done.rules[older.otherwise]
    assert isinstance(other, RedirectRule)
    assert (other.prefix, done.rules[other.otherwise]) == (b"/files/old", files)
    assert isinstance(everything, RedirectRule)
    assert everything.otherwise == -1


def test_a_redirect_for_everything_leaves_the_files_of_its_site() -> None:
    done = compiled('[[site]]\nroot = "a"\n[[site.route]]\npath = "/"\nmatch = "*.htm"\nredirect = "/{1}"\n')
    found = rule(done, "", "/")
    assert isinstance(found, RedirectRule)
    assert done.rules[found.otherwise] == StaticRule(root=0)
