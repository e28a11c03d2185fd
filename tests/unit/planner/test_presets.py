"""Presets: names with a hash, CORS, fields of security."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.planner.world import World
from tux.config.compile import Compiled, compile_config
from tux.config.load import parse
from tux.planner import presets
from tux.planner.rules import GlobRule, HeaderRule, StaticRule

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("path", "hashed"),
    [
        ("app.3f2a1b9c.js", True),
        ("assets/app-3f2a1b9c.min.css", True),
        ("css/base.0123456789ab.css", True),
        ("main.da39a3ee5e6b4b0d3255bfef95601890afd80709.js", True),
        ("a_0a1b2c3d.woff2", True),
        ("a.0a1b2c3d.b.0a1b2c3.js", True),
        ("app.3f2a1b9.js", False),
        ("report-20261125.pdf", False),
        ("deadbeef.js", False),
        ("x.deadbeef.js", False),
        ("index-DiwrgTda.js", False),
        ("my-document.pdf", False),
        ("3f2a1b9c.js", False),
        ("app.3f2a1b9c", False),
        ("app.3f2a1b9c/x.js", False),
        ("app.3F2A1B9C.js", False),
        ("app.3f2a1b9cz.js", False),
    ],
)
def test_names_with_a_hash(world: World, write: Write, path: str, hashed: bool) -> None:
    world.serve(immutable=True, cache_control=(GlobRule("*", "no-cache"),))
    write(path)
    assert world.ask("/" + path).fields["cache-control"] == (presets.IMMUTABLE if hashed else "no-cache")


def test_judging_a_name_ends() -> None:
    """In a moment, whatever the name: exponential time would hang here."""
    for name in (b"-" * 255, b"a-" * 120 + b"x", b".0a" * 80, b"0a" * 120):
        presets.HASHED.fullmatch(name)


def test_cors(world: World, write: Write) -> None:
    write("a.txt")
    world.serve(cors=True, headers=presets.CORS)
    assert world.ask("/a.txt").fields["access-control-allow-origin"] == "*"
    fields = world.ask("/a.txt", "OPTIONS", origin="https://a.example", access_control_request_method="GET").fields
    assert fields["access-control-allow-origin"] == "*"
    assert fields["access-control-allow-methods"] == "GET, HEAD"
    assert fields["allow"] == "GET, HEAD, OPTIONS"
    world.serve(cors=True, falls_through=True)
    assert world.ask("/a.txt", "OPTIONS").fields["access-control-allow-headers"] == "*"
    world.serve()
    assert "access-control-allow-origin" not in world.ask("/a.txt", "OPTIONS").fields


def rule_for(toml: str, path: bytes = b"/") -> StaticRule:
    done: Compiled = compile_config(parse(toml.encode(), "/etc/tux.toml"))
    found = done.rules[done.table.match("", path)]
    assert isinstance(found, StaticRule)
    return found


def test_rules_win_over_presets() -> None:
    site = '[[site]]\nroot = "a"\ncors = true\nsecurity_headers = true\n'
    assert rule_for(site).headers == (*presets.CORS, *presets.SECURITY)
    found = rule_for(site + 'headers = { x-frame-options = "DENY", X-A = "1" }\n').headers
    assert [rule for rule in found if rule.name.lower() == "x-frame-options"] == [
        HeaderRule("*", "x-frame-options", "DENY")
    ]
    route = '[[site.route]]\npath = "/r"\ncors = false\nheaders = { "*.js" = { Referrer-Policy = "origin" } }\n'
    names = [rule.name for rule in rule_for(site + route, b"/r").headers]
    assert names == ["Content-Security-Policy", "X-Frame-Options", "Referrer-Policy"]
