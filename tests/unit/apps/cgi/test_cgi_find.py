# SPDX-License-Identifier: MIT
"""From a path to a program."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.apps.fakes import FakeRequest
from tux._engine import Roots, RouteTable
from tux.apps.cgi.find import Finder, NotFoundError
from tux.planner.rules import CgiRule, DenyRule, Routes, StaticRule


@pytest.fixture
def finder(tmp_path: Path) -> Finder:
    for name in ("run", "sub/run", ".hidden"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    (tmp_path / "plain").write_text("text")
    (tmp_path / "outward").symlink_to("/bin/sh")
    (tmp_path / "inward").symlink_to("sub/run")
    table = RouteTable()
    site = table.add_site([""])
    rules = (CgiRule(root=0, mount=b"/bin", document_root=b"/www/"), StaticRule(root=0), StaticRule(root=0), DenyRule())
    for number, prefix in enumerate((b"/bin/", b"/files", b"/both", b"/no")):
        table.add_route(site, prefix, number)
    root = str(tmp_path).encode()
    return Finder(Routes(table, rules, (root,), frozenset({2})), Roots([root]))


def request(target: bytes) -> FakeRequest:
    return FakeRequest(1, "GET", target, [(b"host", b"a.example")])


@pytest.mark.parametrize(
    ("target", "name", "info"),
    [
        (b"/bin/run", b"/bin/run", b""),
        (b"/bin/run/", b"/bin/run", b"/"),
        (b"/bin/run/a%20b//c", b"/bin/run", b"/a b/c"),
        (b"/bin/sub/run/x", b"/bin/sub/run", b"/x"),
        (b"/bin/inward", b"/bin/inward", b""),
        (b"/bin/x/../run", b"/bin/run", b""),
    ],
)
def test_programs(finder: Finder, tmp_path: Path, target: bytes, name: bytes, info: bytes) -> None:
    script = finder.find(request(target))
    assert (script.name, script.info, script.document_root) == (name, info, b"/www")
    assert script.path == str(tmp_path).encode() + name.removeprefix(b"/bin")
    assert script.folder == script.path.rpartition(b"/")[0]
    assert not script.nph


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/bin/", 404),
        (b"/bin/sub", 404),
        (b"/bin/sub/", 404),
        (b"/bin/missing", 404),
        (b"/bin/missing/run", 404),
        (b"/bin/.hidden", 404),
        (b"/bin/outward", 404),
        (b"/bin/plain", 403),
        (b"/bin/sub%2Frun", 404),
        (b"/bin/%00", 400),
        (b"/bin/../../run", 400),
        (b"/files/run", 404),
        (b"*", 400),
    ],
)
def test_no_programs(finder: Finder, target: bytes, status: int) -> None:
    with pytest.raises(NotFoundError) as caught:
        finder.find(request(target))
    assert caught.value.status == status
    assert bool(str(caught.value)) == (target == b"/bin/plain")


def test_where_only_files_answer(finder: Finder) -> None:
    def only(target: bytes) -> bool:
        number, rule, _ = finder.route(request(target))
        return finder.has_only_files(number, rule)

    assert [only(target) for target in (b"/files/a", b"/both/a", b"/bin/a", b"/no/a", b"/else")] == [True, *[False] * 4]
