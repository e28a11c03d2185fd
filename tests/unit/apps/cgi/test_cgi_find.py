# SPDX-License-Identifier: MIT
"""From a path to a program."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.apps.fakes import FakeRequest
from tux._engine import Roots, RouteTable
from tux.apps.cgi.find import DeclinedError, Finder, NotFoundError
from tux.planner.rules import CgiRule, DenyRule, HostRule, Routes, Rule, StaticRule


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
    for host in ("a.example", "none"):
        (tmp_path / "www" / host / "public").mkdir(parents=True)
    hosts = [HostRule("{host}/public", ("www.",), default) for default in ("", "none")]
    rules: tuple[Rule, ...] = (
        CgiRule(root=0, mount=b"/bin", document_root=1),
        StaticRule(root=0),
        StaticRule(root=0),
        DenyRule(),
        *(
            CgiRule(root=0, mount=mount, document_root=1, hosts=rule)
            for mount, rule in zip((b"/h", b"/d"), hosts, strict=True)
        ),
        CgiRule(root=0, mount=b"/w", document_root=-1),
    )
    for number, prefix in enumerate((b"/bin/", b"/files", b"/both", b"/no", b"/h/", b"/d/", b"/w/")):
        table.add_route(site, prefix, number)
    roots = (str(tmp_path).encode(), str(tmp_path / "www").encode())
    return Finder(Routes(table, rules, roots, frozenset({2})), Roots(list(roots)))


def request(target: bytes, host: bytes = b"a.example") -> FakeRequest:
    return FakeRequest(1, "GET", target, [(b"host", host)])


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
    assert (script.name, script.info) == (name, info)
    assert script.document_root == str(tmp_path / "www").encode()
    assert script.path == str(tmp_path).encode() + name.removeprefix(b"/bin")
    assert script.folder == script.path.rpartition(b"/")[0]
    assert not script.nph


@pytest.mark.parametrize(
    ("target", "host", "folder"),
    [
        (b"/h/run", b"WWW.A.example:80", "www/a.example/public"),
        (b"/h/run", b"b.example", None),
        (b"/h/run", b"127.0.0.1", None),
        (b"/h/run", b"../a.example", None),
        (b"/d/run", b"a.example", "www/a.example/public"),
        (b"/d/run", b"b.example", "www/none/public"),
        (b"/d/run", b"127.0.0.1", "www/none/public"),
        (b"/w/run", b"a.example", None),
    ],
)
def test_the_folder_of_the_host(finder: Finder, tmp_path: Path, target: bytes, host: bytes, folder: str | None) -> None:
    expected = b"" if folder is None else str(tmp_path / folder).encode()
    assert finder.find(request(target, host)).document_root == expected


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


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/run.cgi", "run.cgi"),
        ("/run.cgi/a/b", "run.cgi"),
        ("/sub/deep.PL", "sub/deep.PL"),
        ("/m/run.cgi", DeclinedError),
        ("/run.sh", DeclinedError),
        ("/run.sh/x.cgi", DeclinedError),
        ("/none.cgi", DeclinedError),
        ("/sub", DeclinedError),
        ("/", DeclinedError),
        ("/.run.cgi", DeclinedError),
        ("/outward.cgi", DeclinedError),
        ("/plain.cgi", NotFoundError),
    ],
)
@pytest.mark.parametrize("hosts", [None, HostRule("{host}")])
def test_programs_among_the_files_of_a_site(
    tmp_path: Path, path: str, outcome: str | type[Exception], hosts: HostRule | None
) -> None:
    files = tmp_path if hosts is None else tmp_path / "a.example"
    for name in ("run.cgi", "sub/deep.PL", "run.sh", ".run.cgi", "plain.cgi"):
        (files / name).parent.mkdir(exist_ok=True, parents=True)
        (files / name).write_text("#!/bin/sh\n")
        (files / name).chmod(0o644 if name == "plain.cgi" else 0o755)
    (files / "outward.cgi").symlink_to("/bin/sh")
    table = RouteTable()
    table.add_route(table.add_site([""]), b"/", 0)
    rule = StaticRule(root=0, hosts=hosts, programs=frozenset({b"cgi", b"pl"}))
    roots = (str(tmp_path).encode(),)
    finder = Finder(Routes(table, (rule,), roots, frozenset({0})), Roots(list(roots)))
    if isinstance(outcome, str):
        script = finder.find(request(path.encode()))
        assert (script.path, script.name) == (str(files / outcome).encode(), f"/{outcome}".encode())
        assert (script.info, script.document_root) == (path.encode()[len(outcome) + 1 :], str(files).encode())
    else:
        with pytest.raises(outcome):
            finder.find(request(path.encode()))
        if hosts is not None:
            with pytest.raises(DeclinedError):
                finder.find(request(b"/run.cgi", b"b.example"))
