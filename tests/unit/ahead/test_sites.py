"""What a configuration says about warming its server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tux.ahead import sites
from tux.ahead.sites import address_of, files_of, parse_address
from tux.ahead.warm import Address
from tux.config.load import parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("http://localhost:8080/", Address("localhost", 8080)),
        ("http://example.org", Address("example.org", 80)),
        ("[::1]:8080", Address("::1", 8080)),
        ("http://[::1]", Address("::1", 80)),
        ("0.0.0.0:80", Address("127.0.0.1", 80)),
        ("unix:/run/tux.sock", Address(path="/run/tux.sock")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "https://a:1", "http://a:1/b", "http://a:x", "http://a b:1", "unix:"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_address(text)


def config(folder: Path, text: str) -> str:
    return text.replace("FOLDER", str(folder))


def test_the_address_of_a_configuration() -> None:
    site = '[[site]]\nroot = "a"\n'
    listening = parse(f'[server]\nlisten = ["127.0.0.1:0", "fd:3", "[::]:80", "unix:/a"]\n{site}'.encode(), "/t.toml")
    assert address_of(listening) == Address("::1", 80)
    with pytest.raises(ValueError, match="give the URL, too"):
        address_of(parse(f'[server]\nlisten = ["127.0.0.1:0"]\n{site}'.encode(), "/t.toml"))


def test_the_files_of_all_sites(tmp_path: Path) -> None:
    for name in ("a/index.html", "a/x/1.txt", "a/deny/2.txt", "a/docs/3.txt", "docs/4.txt", "in/5.txt", "b/6.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    text = f"""
        [[site]]
        root = "{tmp_path}/a"
        [[site.route]]
        path = "/deny"
        deny = true
        [[site.route]]
        path = "/x"
        listing = true
        [[site.route]]
        path = "/docs"
        root = "{tmp_path}/docs"
        [[site.route]]
        path = "/in"
        root = "{tmp_path}/in"
        internal = true
        [[site]]
        hosts = ["b.example", "www.b.example", "*.c.example"]
        root = "{tmp_path}/b"
        clean_urls = true
        [[site]]
        hosts = ["*.d.example"]
        root = "{tmp_path}/b"
        [[site]]
        hosts = ["e.example"]
        root = "{tmp_path}/none/{{host}}"
        """
    (tmp_path / "none").mkdir()
    left: list[str] = []
    assert [tuple(wanted) for wanted in files_of(parse(text.encode(), "/t.toml"), left.append)] == [
        ("/", ""),
        ("/x/1.txt", ""),
        ("/docs/4.txt", ""),
        ("/6", "b.example"),
        ("/6", "www.b.example"),
    ]
    assert left == ["site *.d.example: it has only wildcards, so which names clients use is not known"]


def wanted_of(folder: Path, text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """What would be asked for, as (Host, target), and what is left out."""
    left: list[str] = []
    found = files_of(parse(text.replace("FOLDER", str(folder)).encode(), "/t.toml"), left.append)
    return [(wanted.host, wanted.target) for wanted in found], left


def test_the_folders_of_hosts(tmp_path: Path) -> None:
    for name in ("a.example/public", "b.example/public", "b.example/private", ".hidden/public", "UP.example/public"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "index.html").write_text("x")
    (tmp_path / "c.example").write_text("no folder")
    asked = wanted_of(tmp_path, '[[site]]\nroot = "FOLDER/{host}/public"')
    assert asked == ([("a.example", "/"), ("b.example", "/")], [])


def test_the_folders_of_hosts_with_a_beginning_before_them(tmp_path: Path) -> None:
    for name in ("a/al/alpha.example", "b/be/beta.example", "a/al/beta.example", "a/x/gamma.example"):
        (tmp_path / "sites" / name / "htdocs").mkdir(parents=True)
        (tmp_path / "sites" / name / "htdocs/x.txt").write_text("x")
    text = '[[site]]\nroot = "FOLDER/sites/{host:1}/{host:2}/{host}/htdocs"\nhost_default = "beta.example"'
    assert wanted_of(tmp_path, text) == ([("alpha.example", "/x.txt"), ("beta.example", "/x.txt")], [])


def test_the_host_that_leads_to_a_folder(tmp_path: Path) -> None:
    for name in ("shop", "other.example"):
        (tmp_path / "sites" / name).mkdir(parents=True)
        (tmp_path / "sites" / name / "x.txt").write_text("x")
    site = '[[site]]\nroot = "FOLDER/sites/{host}"\nhost_strip = ["www.", ".example.org"]\n'
    of_wildcard = wanted_of(tmp_path, site + 'hosts = ["*.example.org"]')
    assert of_wildcard == (
        [("other.example.example.org", "/x.txt"), ("shop.example.org", "/x.txt")],
        [],
    )
    asked, left = wanted_of(tmp_path, site + 'hosts = ["*.example.com"]')
    assert (asked, len(left)) == ([], 2)
    assert left[1] == f"site *.example.com: no Host is known that leads to {tmp_path}/sites/shop"
    taken = '[[site]]\nhosts = ["other.example"]\nroot = "FOLDER/none"'
    (tmp_path / "none").mkdir()
    assert wanted_of(tmp_path, site + taken)[0] == [("other.example.example.org", "/x.txt"), ("shop", "/x.txt")]


def test_folders_of_hosts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "MAX_HOSTS", 2)
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("x")
    asked, left = wanted_of(tmp_path, '[[site]]\nroot = "FOLDER/{host}"')
    assert asked == [("a", "/x"), ("b", "/x")]
    assert left == [f"site without hosts: only the first 2 folders of hosts in {tmp_path}/{{host}} are asked for"]
