"""Options of the command line make the same configuration as a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tux.config import load
from tux.config.compile import compile_config
from tux.config.options import OPTIONS, from_options
from tux.config.schema import Config, Server
from tux.config.site import Site
from tux.errors import FAILED, USAGE, StartError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*args: Any, **options: Any) -> tuple[int, str]:
    with pytest.raises(StartError) as caught:
        from_options(*args, **options)
    return caught.value.exit_code, caught.value.message


def test_nothing_given_is_the_current_folder(folder: Path) -> None:
    assert from_options() == Config(server=Server(), site=(Site(root=str(folder)),))


def test_everything_given_is_what_a_file_would_say(folder: Path) -> None:
    (folder / "tux.toml").write_text(
        """
        [server]
        listen = ["127.0.0.1:1", "unix:a.sock"]
        workers = 2
        user = "www-data"
        grace = 1.5
        access_log = "a.log"
        log_format = "json"
        reload = true
        trusted = ["10.0.0.0/8", "unix"]
        proxy_protocol = true

        [kernel]
        mode = "off"
        interface = ["lo", "eth0"]

        [app.app]
        module = "shop.wsgi:application"
        dir = "shop"
        factory = true
        interface = "wsgi"
        workers = 3
        threads = 5

        [upstream.upstream]
        servers = ["http://127.0.0.1:8081", "unix:b.sock"]

        [[site]]
        root = "public/{host}"
        host_strip = ["www.", ".*"]
        host_default = "none"
        app = "app"
        forward = "upstream"
        route = [{ path = "/static/", root = "static" }, { path = "/a", root = "c" }]
        index = ["a.html", "b.html"]
        listing = true
        clean_urls = true
        immutable = true
        cors = true
        security_headers = true
        precompressed = false
        compress = true
        cache_control = { "*.css" = "max-age=60", "*" = "no-cache" }
        dotfiles = "allow"
        error_page = { 404 = "404.html", 502 = "down.html" }
        types = { ".log" = "text/plain; a=b", "x/*" = "image/png" }
        charset = { "old/=" = "koi8-r", "*" = "" }
        download = ["*.pdf", "files/"]

        [site.headers]
        "*" = { X-A = "1:2=3" }
        "a:b" = { X-A = "", X-B = "4" }
        """
    )
    config = from_options(
        "public/{host}",
        host_strip=("www.", ".*"),
        host_default="none",
        listen=("127.0.0.1:1", "unix:a.sock"),
        workers="2",
        user="www-data",
        grace=1.5,
        access_log="a.log",
        log_format="json",
        kernel="off",
        kernel_interface=("lo", "eth0"),
        index=("a.html", "b.html"),
        listing=True,
        clean_urls=True,
        immutable=True,
        cors=True,
        security_headers=True,
        precompressed=False,
        compress=True,
        cache_control=("*.css=max-age=60", "*=no-cache"),
        header=("*:X-A=1:2=3", "a:b:X-A=", "a:b:X-B=4"),
        dotfiles="allow",
        error_page=("404=404.html", "502=down.html"),
        type=(".log=text/plain; a=b", "x/*=image/png"),
        charset=("old/==koi8-r", ""),
        download=("*.pdf", "files/"),
        app="shop.wsgi:application",
        app_dir="shop",
        factory=True,
        app_interface="wsgi",
        app_workers="3",
        app_threads=5,
        forward=("http://127.0.0.1:8081", "unix:b.sock"),
        static=("/static/=./static", "/a=c"),
        reload=True,
        trusted=("10.0.0.0/8", "unix"),
        proxy_protocol=True,
    )
    assert config == load.load("tux.toml")


@pytest.mark.parametrize(
    "options",
    [
        {"app": "shop:app"},
        {"forward": ("http://127.0.0.1:1",)},
        {"app": "shop:app", "app_dir": "src", "forward": ("http://127.0.0.1:1",), "index": ("a.html",)},
        {"app": "shop:app", "static": ("/s/=s",)},
    ],
)
def test_with_an_application_or_a_server_no_folder_is_served_unsaid(options: dict[str, Any]) -> None:
    (site,) = from_options(**options).site
    assert site.root is None
    compiled = compile_config(from_options(**options))
    assert [os.path.basename(root) for root in compiled.roots] == ([b"s"] if "static" in options else [])


def test_static_folders_alone_are_beside_the_current_folder(folder: Path) -> None:
    (site,) = from_options(static=("/s/=s",)).site
    assert site.root == str(folder)


def test_options_of_an_application_need_one() -> None:
    assert refused(app_dir="src") == (USAGE, "--app-dir: needs --app MODULE:ATTRIBUTE")


def test_a_file_without_a_site_gets_one_by_app(folder: Path) -> None:
    (folder / "tux.toml").write_text('[app.other]\nmodule = "a:b"\n')
    config = from_options(config="tux.toml", app="shop:app")
    assert (config.site[0].app, config.site[0].root, sorted(config.app)) == ("app", None, ["app", "other"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"app": "shop:"}, '--app: expected MODULE:ATTRIBUTE, got "shop:"'),
        (
            {"app": "shop/wsgi.py:app"},
            '--app: expected MODULE:ATTRIBUTE, got "shop/wsgi.py:app"; perhaps "shop.wsgi:app"',
        ),
        ({"app": "./shop.py"}, '--app: expected MODULE:ATTRIBUTE, got "./shop.py"; perhaps "shop"'),
        (
            {"app": "a:make()"},
            '--app: expected MODULE:ATTRIBUTE, got "a:make()"; for a function that makes it: "a:make", with --factory',
        ),
        ({"reload": True}, "--reload: needs --app or --module: files are always served as they are"),
        ({"app": "a:b", "app_workers": "x"}, '--app-workers: expected an integer or "auto", got "x"'),
        (
            {"forward": ("https://a",)},
            '--forward: expected http:// (TLS to the servers behind is not supported), got "https://a"',
        ),
        ({"static": ("/s",)}, '--static: expected PREFIX=FOLDER, as in /static/=./static, got "/s"'),
        ({"static": ("s=s",)}, '--static: path: expected a path that begins with /, got "s"'),
        ({"trusted": ("x",)}, '--trusted: expected an address, a network or "unix", got "x"'),
        ({"proxy_protocol": True}, '--proxy-protocol: needs "trusted": the proxies whose word is taken'),
        ({"listen": ["80"]}, '--listen: expected HOST:PORT, [IPv6]:PORT or unix:/path, got "80"'),
        ({"listen": ["a:1", "a:1"]}, '--listen: "a:1" is listed twice'),
        ({"workers": "two"}, '--workers: expected an integer or "auto", got "two"'),
        ({"workers": 0}, "--workers: expected at least 1, got 0"),
        ({"user": ""}, "--user: must not be empty"),
        ({"kernel": "of"}, '--kernel: expected "auto", "on" or "off", got "of"'),
        ({"kernel_interface": ["lo:1"]}, '--kernel-interface: expected the name of an interface, got "lo:1"'),
        ({"grace": float("nan")}, "--grace: expected a finite number, got nan"),
        ({"access_log": ""}, "--access-log: must not be empty"),
        ({"log_format": "xml"}, '--log-format: expected "common", "combined" or "json", got "xml"'),
        ({"path": ""}, "PATH: must not be empty"),
        ({"index": ["a/b"]}, "--index: expected a file name without /"),
        ({"precompressed": "no"}, '--precompressed: expected true or false, got "no"'),
        ({"dotfiles": "no"}, '--dotfiles: expected "allow" or "deny", got "no"'),
        ({"cache_control": ["*.css"]}, '--cache-control: expected GLOB=VALUE, got "*.css"'),
        ({"cache_control": ["=a"]}, '--cache-control: expected GLOB=VALUE, got "=a"'),
        ({"cache_control": ["a=b", "a=c"]}, "--cache-control: a is given twice"),
        (
            {"cache_control": ["*.a=\n"]},
            "--cache-control: *.a: not a valid field value: no control characters, only Latin-1, no outer space",
        ),
        ({"error_page": ["404"]}, '--error-page: expected STATUS=FILE, as in 404=404.html, got "404"'),
        ({"error_page": ["404=a", "404=b"]}, "--error-page: 404 is given twice"),
        ({"error_page": ["404=../a"]}, '--error-page: 404: expected the path of a file below the root, got "../a"'),
        ({"path": "{host.1}"}, 'PATH: expected {host}, or {host:N} for its first N characters, got "{host.1}"'),
        (
            {"host_strip": ["www"], "path": "{host}"},
            '--host-strip: expected a beginning ("www."), an end (".example.org") or ".*", got "www"',
        ),
        ({"host_default": "a"}, '--host-default: needs a "root" with {host} in it'),
        ({"type": [".a"]}, '--type: expected GLOB=TYPE, as in .log=text/plain, got ".a"'),
        ({"type": [".a=b"]}, '--type: .a: expected a media type, as in text/plain, got "b"'),
        ({"charset": ["a", "*=b"]}, '--charset: expected CHARSET or GLOB=CHARSET, each GLOB once, got "*=b"'),
        ({"charset": ["a b"]}, '--charset: *: expected the name of a charset, as in utf-8, got "a b"'),
        ({"download": [""]}, "--download: the glob is empty"),
        ({"header": ["X-A=b"]}, '--header: expected GLOB:NAME=VALUE, got "X-A=b"'),
        ({"header": ["*:X-A"]}, '--header: expected GLOB:NAME=VALUE, got "*:X-A"'),
        ({"header": [":X-A=b"]}, '--header: expected GLOB:NAME=VALUE, got ":X-A=b"'),
        ({"header": ["*:A=b", "*:A=c"]}, "--header: A is given twice for *"),
        ({"header": ["*:Date=b"]}, "--header: * Date: Date cannot be set by a rule"),
        ({"grace": -1.0, "workers": 0}, "--workers: expected at least 1, got 0 (and 1 more)"),
    ],
)
def test_wrong_options_name_the_option(options: dict[str, Any], message: str) -> None:
    assert refused(**options) == (USAGE, message)


def test_options_of_the_server_win_over_the_file(folder: Path) -> None:
    (folder / "tux.toml").write_text('[server]\nworkers = 3\ngrace = 7\n[[site]]\nroot = "a"\n')
    config = from_options(config="tux.toml", workers=1, listen=["127.0.0.1:1"])
    assert config.server == Server(listen=("127.0.0.1:1",), workers=1, grace=7.0)
    assert config.site == (Site(root=f"{folder}/a"),)


def test_path_and_options_of_a_site_do_not_change_the_sites_of_a_file(folder: Path) -> None:
    (folder / "tux.toml").write_text('[[site]]\nroot = "a"\n')
    message = "PATH, --index: cannot be given with tux.toml, which has sites; change them there"
    assert refused("b", config="tux.toml", index=["x"]) == (USAGE, message)


def test_path_makes_the_site_of_a_file_that_has_none(folder: Path) -> None:
    (folder / "tux.toml").write_text("[server]\nworkers = 3\n")
    config = from_options("b", config="tux.toml", dotfiles="allow")
    assert config == Config(server=Server(workers=3), site=(Site(root=f"{folder}/b", dotfiles="allow"),))


def test_a_file_without_a_site_does_not_serve_the_current_folder_unasked(folder: Path) -> None:
    (folder / "tux.toml").write_text("[server]\nworkers = 3\n")
    assert refused(config="tux.toml") == (FAILED, 'tux.toml: no site: add [[site]] with root = "FOLDER", or give PATH')


def test_errors_of_the_file_are_not_usage_errors(folder: Path) -> None:
    (folder / "tux.toml").write_text("[server]\nworkers = 0\n")
    assert refused("b", config="tux.toml") == (FAILED, "tux.toml:2: server.workers: expected at least 1, got 0")


def test_every_key_of_server_and_site_that_has_no_option_is_listed_here() -> None:
    have = {f"{table}.{key}" for table, key in OPTIONS}
    keys = {f"server.{name}" for name in Server.__struct_fields__} | {f"site.{name}" for name in Site.__struct_fields__}
    assert keys - have == {"server.limits", "site.hosts", "site.tries", "site.tux"}
