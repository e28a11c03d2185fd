"""Recipes: for which files the planner tells the engine what to do, and that both write the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.planner.world import NOW_NS, Ask, World
from tux._engine import Recipe, Roots, RouteTable, content_tag, http_date, is_hashed, state_tag
from tux.http.coding import SIDE_SUFFIXES
from tux.http.dates import format_date
from tux.planner.globs import compile_glob
from tux.planner.loop import AskPort, Planner
from tux.planner.plan import Plan
from tux.planner.presets import HASHED
from tux.planner.recipe import READS, SCOPES, Scope, decides, exact_extension
from tux.planner.rules import (
    GlobRule,
    HeaderRule,
    HostRule,
    MediaRules,
    RedirectRule,
    RewriteRule,
    StaticRule,
)
from tux.planner.static import StaticPlanner

Write = Callable[..., Path]

# -- globs ---------------------------------------------------------------------------------------------------------

GLOBS = (
    "*", "**", "*.html", "**.html", "*.HTML", "*html", "*l", ".html", "a.html", "a*.html", "*.min.js", "*.tar.gz",
    "*.gz", "assets/*", "assets/**", "/*", "/*.html", "**/*.html", "assets/", "README", "*README", "*.", "a*", "*a*",
    "*.*", "*.h*l", "[a].html",
)  # fmt: skip
EXTENSIONS = (b"html", b"HTML", b"js", b"gz", b"l", b"", b"README", b"h-l", b"\xff")
PIECES = st.sampled_from(
    ["a", "b.min", "assets", "README", "x.tar", ".", "..", "a.", "html", "ö", "b html", "-", "l", ""]
)


@settings(max_examples=1500)
@given(
    pattern=st.sampled_from(GLOBS),
    extension=st.sampled_from(EXTENSIONS),
    folders=st.lists(PIECES.filter(lambda piece: piece not in ("", ".", "..")), max_size=2),
    stems=st.lists(PIECES, min_size=1, max_size=2),
)
def test_what_a_glob_decides(pattern: str, extension: bytes, folders: list[str], stems: list[str]) -> None:
    """If it says that all names with an extension are alike, they are."""
    if not decides(pattern, extension):
        return
    glob = compile_glob(pattern)
    names = ["".join(stems).replace("/", "").encode(), b"q", b"a"]
    paths = ["/".join(folders).encode() + b"/" if folders else b"", b""]
    found = set()
    for path in paths:
        for name in names:
            whole = path + (name + b"." + extension if extension else name.replace(b".", b"") or b"n")
            assert exact_extension(whole) == extension
            found.add(glob.fullmatch(whole) is not None)
    assert len(found) == 1


FOLDER_GLOBS = (
    *GLOBS, "/**", "/*", "/a.css", "a/", "a/**", "a/*", "a/*.css", "a/**/*.css", "**/a/*.css", "**/a/**", "**/*.css",
    "**/**", "a/**/**", "*/b/", "a/b/", "a*/**/b/*.js", "a/b/*.js", "**/b/x.js", "a//b", "b/**/x*",
)  # fmt: skip
FOLDERS = ("", "a/", "b/", "ab/", "a/b/", "a/b/a/", "b/a/", "c/a/b/", "a/c/b/", "ab/b/")


@settings(max_examples=3000)
@given(
    pattern=st.sampled_from(FOLDER_GLOBS),
    extension=st.sampled_from((b"css", b"js", b"map", b"")),
    scope=st.sampled_from(SCOPES),
    example=st.sampled_from(FOLDERS),
)
def test_what_a_glob_decides_of_folders(pattern: str, extension: bytes, scope: Scope, example: str) -> None:
    """If it says that all files of a scope with an extension are alike, they are."""
    if (scope == "below" and not example) or not decides(pattern, extension, scope, example.encode()):
        return
    glob = compile_glob(pattern)
    folders: tuple[str, ...]
    if scope == "all":
        folders = FOLDERS
    elif scope == "beside":
        folders = (example,)
    else:
        folders = tuple(folder for folder in FOLDERS if folder.partition("/")[0] == example.partition("/")[0])
    stems = ("x", "a", "b", "xx", "x.min")
    names = [stem.encode() + (b"." + extension if extension else b"") for stem in stems if extension or "." not in stem]
    assert len({glob.fullmatch(folder.encode() + name) is not None for folder in folders for name in names}) == 1


@pytest.mark.parametrize(
    ("globs", "path", "scope"),
    [
        (["assets/", "*.html"], "assets/x/a.css", "below"),
        (["assets/", "*.html"], "blog/2026/a.css", "below"),
        (["assets/", "*.html"], "a.css", "beside"),
        (["assets/*.css"], "assets/a.css", "beside"),
        (["assets/*.css"], "assets/a.js", "all"),
        (["assets/**/*.css"], "assets/x/a.css", "below"),
        (["**/img/"], "a/img/b.png", "beside"),
        (["*.min.js"], "a/b.js", None),
        (["a/x.css"], "a/b.css", None),
    ],
)
def test_of_which_files_the_usual_globs_decide(globs: list[str], path: str, scope: str | None) -> None:
    folder, extension = path[: path.rfind("/") + 1].encode(), exact_extension(path.encode())
    scopes: list[Scope] = [one for one in SCOPES if folder or one != "below"]
    found = [one for one in scopes if all(decides(glob, extension, one, folder) for glob in globs)]
    assert next(iter(found), None) == scope


@settings(max_examples=2000)
@given(
    st.lists(
        st.sampled_from(
            ["a", "f", "0", "9", "-", ".", "_", "/", "3f2a1b9c", "js", "20261125", "g", "A", "\n", "0a" * 32]
        ),
        max_size=8,
    )
)
def test_names_with_a_hash_are_the_same_for_both(pieces: list[str]) -> None:
    path = "".join(pieces).encode()
    assert is_hashed(path) == (HASHED.fullmatch(path) is not None)


@pytest.mark.parametrize(
    ("pattern", "extension", "decided"),
    [
        ("*", b"html", True),
        ("*", b"", True),
        ("*.html", b"html", True),
        ("*.html", b"js", True),
        ("*.html", b"HTML", True),
        ("*.min.js", b"css", True),
        ("*.min.js", b"js", False),
        ("a.html", b"html", False),
        ("a.html", b"js", True),
        ("assets/*", b"js", False),
        ("assets/*.css", b"js", True),
        ("README", b"", False),
        ("README", b"md", True),
    ],
)
def test_usual_globs(pattern: str, extension: bytes, *, decided: bool) -> None:
    assert decides(pattern, extension) is decided


# -- which files -----------------------------------------------------------------------------------------------------


def recipe_of(world: World, target: str = "/a.html", method: str = "GET", /, **fields: str) -> Recipe | None:
    plan: Plan = world.ask(target, method, **fields).plan
    return plan.recipe


def test_the_usual_file(world: World, write: Write) -> None:
    write("a.html")
    recipe = recipe_of(world)
    assert recipe is not None
    head = world.ask("/a.html").plan.head
    assert head[recipe.head_len :].startswith(b"ETag: ")
    assert b"Content-Type: text/html" in head[: recipe.head_len]
    assert recipe.absent == READS
    assert recipe.sides


def test_head_and_get_are_alike(world: World, write: Write) -> None:
    write("a.html")
    assert recipe_of(world, "/a.html", "HEAD") is recipe_of(world) is not None


def test_a_type_that_is_not_compressed_has_no_side_files(world: World, write: Write) -> None:
    write("a.png")
    recipe = recipe_of(world, "/a.png")
    assert recipe is not None
    assert not recipe.sides


@pytest.mark.parametrize(
    ("rule", "has"),
    [
        ({}, True),
        ({"precompressed": False}, True),
        ({"internal": True}, False),
        ({"immutable": True}, True),
        ({"compress": True}, False),
        ({"mode_forbidden": 0o111}, True),
        ({"falls_through": True}, True),
        ({"spa": b"a.html", "clean_urls": True, "listing": True}, True),
        ({"redirected": frozenset((b"php",))}, True),
        ({"cache_control": (GlobRule("*", "no-cache"),)}, True),
        ({"cache_control": (GlobRule("*.html", "no-cache"), GlobRule("*", "private"))}, True),
        ({"cache_control": (GlobRule("a*", "no-cache"),)}, False),
        ({"headers": (HeaderRule("*.html", "A", "b"),)}, True),
        ({"headers": (HeaderRule("docs/*", "A", "b"),)}, True),
        ({"headers": (HeaderRule("docs/a.html", "A", "b"), HeaderRule("/a.html", "A", "b"))}, False),
        ({"media": MediaRules(types=(GlobRule(".html", "text/x-own"),))}, True),
        ({"media": MediaRules(types=(GlobRule("a*", "text/x-own"),))}, False),
        ({"media": MediaRules(charsets=(GlobRule("docs/**", "utf-16"),))}, True),
        ({"download": ("*.html",)}, False),
        ({"download": ("*.pdf",)}, True),
        ({"download": ("docs/**",)}, True),
        ({"download": ("docs/**", "a.*")}, False),
        ({"trailing_slash": "always", "clean_urls": True}, True),
        ({"favicon": True, "robots": "deny"}, True),
    ],
)
def test_rules(world: World, write: Write, rule: dict[str, Any], *, has: bool) -> None:
    write("a.html")
    world.serve(**rule)
    assert (recipe_of(world) is not None) is has


def test_what_is_not_compressed_on_the_fly(world: World, write: Write) -> None:
    """Only types that compress are."""
    write("a.png")
    world.serve(compress=True)
    assert recipe_of(world, "/a.png") is not None


@pytest.mark.parametrize(
    ("target", "method", "fields"),
    [
        ("/", "GET", {}),
        ("/folder", "GET", {}),
        ("/none.html", "GET", {}),
        ("/a.html", "OPTIONS", {}),
        ("/a.html", "GET", {"if_none_match": "*"}),
        ("/a.html", "GET", {"range": "bytes=0-1"}),
        ("/a.html", "GET", {"range": "bytes=0-1,3-4"}),
        ("/old.html", "GET", {}),  # a side file
        ("/page", "GET", {}),  # of page.html
    ],
)
def test_other_requests(world: World, write: Write, target: str, method: str, fields: dict[str, str]) -> None:
    for name in ("index.html", "a.html", "folder/index.html", "old.html", "old.html.gz", "page.html"):
        write(name)
    world.serve(falls_through=True, clean_urls=True)
    assert recipe_of(world, target, method, **fields) is None


def test_a_page_that_stands_for_a_file_that_is_not_served(world: World, write: Write) -> None:
    """The answer is 200, the file at the path exists, and its extension has still no recipe."""
    write("x.php")
    write("index.html")
    world.serve(redirected=frozenset((b"php",)), spa=b"index.html")
    answer = world.ask("/x.php")
    assert answer.status == 200
    assert answer.plan.recipe is None


@pytest.mark.parametrize(
    ("target", "has"),
    [
        ("/a.html", True),
        ("/moved/a.html", False),
        ("/written/x.html", False),
        ("/written/a.txt", False),
        ("/deep/a.html", True),
    ],
)
def test_only_what_the_table_leads_to(world: World, write: Write, target: str, *, has: bool) -> None:
    """The engine knows the routes of paths by the table alone; a redirect or a rewrite looks at more of them."""
    for name in ("a.html", "moved/a.html", "moved/b.html", "written/a.txt", "deep/a.html"):
        write(name)
    table = RouteTable()
    site = table.add_site([""])
    for number, prefix in enumerate((b"/", b"/moved/", b"/written/", b"/deep/")):
        table.add_route(site, prefix, number)
    rules = (
        StaticRule(root=0),
        RedirectRule(prefix=b"/moved/", target="/b", match="b*", otherwise=0),
        RewriteRule(prefix=b"/written/", target="/a.html", match="x*", otherwise=0),
        StaticRule(root=0),
    )
    planner = Planner(cast(AskPort, None), world.roots, table, rules, clock=lambda: NOW_NS)
    plan = planner.decide(Ask(target=target))
    assert plan.status == 200
    assert (plan.recipe is not None) is has


def test_folders_of_hosts(world: World, write: Write) -> None:
    """The engine would look below the root itself."""
    write("example.org/a.html")
    world.serve(hosts=HostRule(template="{host}"))
    assert world.ask("/a.html").status == 200
    assert recipe_of(world) is None


def test_hidden_files_are_told_by_python_only(world: World, write: Write) -> None:
    write("a.html")
    roots = Roots([bytes(world.root)], lambda _fd: False)
    static = StaticPlanner(StaticRule(root=0), roots)
    assert static.plan(world.view(Ask(target="/a.html")), b"/a.html", example=True).recipe is None


def test_what_is_read_of_a_request(world: World, write: Write) -> None:
    """A plan for which something else was looked at says nothing about other requests."""
    write("a.html")
    view = world.view(Ask(target="/a.html"))
    view.field("accept")
    assert world.static.plan(view, b"/a.html", example=True).recipe is None


# -- what both write ---------------------------------------------------------------------------------------------------


@given(seconds=st.one_of(st.integers(-(2**62), 2**62), st.integers(0, 260_000_000_000), st.integers(0, 2**32)))
@example(seconds=951_782_400)  # 29 February 2000
@example(seconds=4_107_542_399)  # the last second of February 2100, which has 28 days
@example(seconds=253_402_300_799)
@example(seconds=0)
@example(seconds=-1)
def test_dates(seconds: int) -> None:
    assert http_date(seconds) == format_date(seconds)


def xxh64(data: bytes) -> int:
    """XXH64 with seed 0, word for word after doc/xxhash_spec.md of the xxHash project."""
    full = 2**64 - 1
    p1, p2, p3, p4, p5 = (
        0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
    )  # fmt: skip

    def left(word: int, bits: int) -> int:
        return (word << bits | word >> (64 - bits)) & full

    def mixed(acc: int, lane: int) -> int:
        return left((acc + lane * p2) & full, 31) * p1 & full

    def word(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    at, acc = 0, p5
    if len(data) >= 32:
        lanes = [(p1 + p2) & full, p2, 0, -p1 & full]
        while at + 32 <= len(data):
            lanes = [mixed(lane, word(at + 8 * number, 8)) for number, lane in enumerate(lanes)]
            at += 32
        acc = sum(left(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & full
        for lane in lanes:
            acc = ((acc ^ mixed(0, lane)) * p1 + p4) & full
    acc = (acc + len(data)) & full
    while at + 8 <= len(data):
        acc = (left(acc ^ mixed(0, word(at, 8)), 27) * p1 + p4) & full
        at += 8
    if at + 4 <= len(data):
        acc = (left(acc ^ word(at, 4) * p1 & full, 23) * p2 + p3) & full
        at += 4
    for byte in data[at:]:
        acc = left(acc ^ byte * p5 & full, 11) * p1 & full
    acc = (acc ^ acc >> 33) * p2 & full
    acc = (acc ^ acc >> 29) * p3 & full
    return acc ^ acc >> 32


@given(body=st.one_of(st.binary(max_size=1000), st.integers(0, 1030).map(lambda n: b"x" * n)))
@example(body=b"")
@example(body=bytes(range(32)))
@example(body=bytes(range(31)))
@example(body=bytes(range(200)))
@example(body=bytes(65536))
def test_tags_of_content(body: bytes) -> None:
    assert content_tag(body) == f"{xxh64(body):016x}"


@given(size=st.integers(0, 2**63 - 1), mtime_ns=st.integers(-(2**63), 2**63 - 1))
def test_tags_of_state(size: int, mtime_ns: int) -> None:
    assert state_tag(size, mtime_ns) == f"{size:x}-{mtime_ns:x}"


def test_the_order_of_side_files() -> None:
    """The engine (recipe.c:side_suffixes) looks for them in the same order, so that equal plans are held once."""
    assert tuple(SIDE_SUFFIXES.values()) == (".br", ".zst", ".gz")


def test_a_field_that_the_engine_does_not_know() -> None:
    with pytest.raises(ValueError, match="dnt"):
        Recipe(1, root=0, mount_len=0, absent=("dnt",), sides=False, mode_allowed=1, mode_forbidden=0, small_bytes=0)


def test_a_file_of_another_user(world: World, write: Write) -> None:
    """What the planner refuses is no example."""
    os.chmod(write("a.html"), 0o644)
    world.serve(mode_forbidden=0o004)
    answer = world.ask("/a.html")
    assert answer.status == 403
    assert answer.plan.recipe is None
