"""What a configuration says about warming its server."""

from __future__ import annotations

from pathlib import Path

import pytest

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
        root = "{tmp_path}/{{host}}"
        """
    assert [tuple(wanted) for wanted in files_of(parse(text.encode(), "/t.toml"))] == [
        ("/", ""),
        ("/x/1.txt", ""),
        ("/docs/4.txt", ""),
        ("/6", "b.example"),
        ("/6", "www.b.example"),
    ]
