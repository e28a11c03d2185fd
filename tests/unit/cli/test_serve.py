"""`tux serve`: each option arrives in the configuration. What values mean is tested in tests/unit/config."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run, Supervisor
from tux.config.app import App
from tux.config.module import Module
from tux.config.origins import cgi, static
from tux.config.schema import Config, Kernel, Server
from tux.config.site import Site
from tux.config.upstream import Upstream


def test_without_arguments(run: Run, supervisor: Supervisor, folder: Path) -> None:
    assert run("serve").exit_code == 0
    assert supervisor.config == Config(site=(Site(root=str(folder)),))
    assert supervisor.ready_fd is None
    assert supervisor.own == []


def test_with_every_option(run: Run, supervisor: Supervisor, folder: Path) -> None:
    result = run(
        *("serve", "public/{host}"),
        *("--listen", "127.0.0.1:0", "--listen", "[::1]:80", "--listen", "unix:/run/tux.sock"),
        *("--workers", "3", "--user", "www-data", "--grace", "1.5"),
        *("--access-log", "-", "--log-format", "json"),
        *("--index", "a.html", "--index", "b.html", "--no-precompressed", "--dotfiles", "allow"),
        *(
            "--listing",
            "--compress",
            "--spa",
            "app.html",
            "--clean-urls",
            "--trailing-slash",
            "never",
            "--favicon",
            "--robots",
            "deny",
            "--immutable",
            "--cors",
            "--security-headers",
            "--error-page",
            "404=404.html",
        ),
        *("--host-strip", "www.", "--host-strip", ".a", "--host-default", "none"),
        *("--type", ".log=text/plain", "--charset", "utf-8", "--charset", "old/=koi8-r", "--download", "*.pdf"),
        *("--cache-control", "*.css=max-age=60", "--cache-control", "*=no-cache"),
        *("--header", "*:X-A=1", "--header", "img/*.png:X-B=c:d=e"),
        *("--kernel", "on", "--kernel-interface", "lo", "--kernel-interface", "eth0"),
        *("--ready-fd", "1"),
    )
    assert result.output == ""
    assert supervisor.config == Config(
        server=Server(
            listen=("127.0.0.1:0", "[::1]:80", "unix:/run/tux.sock"),
            workers=3,
            user="www-data",
            grace=1.5,
            access_log="-",
            log_format="json",
        ),
        kernel=Kernel(mode="on", interface=("lo", "eth0")),
        site=(
            Site(
                root=f"{folder}/public/{{host}}",
                host_strip=("www.", ".a"),
                host_default="none",
                index=("a.html", "b.html"),
                listing=True,
                compress=True,
                spa="app.html",
                clean_urls=True,
                trailing_slash="never",
                favicon=True,
                robots="deny",
                immutable=True,
                cors=True,
                security_headers=True,
                error_page={"404": "404.html"},
                types={".log": "text/plain"},
                charset={"*": "utf-8", "old/": "koi8-r"},
                download=("*.pdf",),
                precompressed=False,
                dotfiles="allow",
                cache_control={"*.css": "max-age=60", "*": "no-cache"},
                headers={"*": {"X-A": "1"}, "img/*.png": {"X-B": "c:d=e"}},
            ),
        ),
    )
    assert supervisor.ready_fd == 1


def test_with_every_option_of_what_is_behind(run: Run, supervisor: Supervisor, folder: Path) -> None:
    result = run(
        *("serve", "--app", "shop:app", "--app-dir", "src", "--factory", "--app-interface", "asgi"),
        *("--module", "hello.py", "--module", "shop.hooks", "--module-workers", "2"),
        *("--app-workers", "auto", "--app-threads", "2", "--static", "/static/=./static", "--static", "/media/=media"),
        *("--forward", "http://127.0.0.1:8081", "--forward", "unix:/run/b.sock", "--reload"),
        *("--cgi", "/cgi-bin/=./cgi-bin"),
        *("--trusted", "10.0.0.0/8", "--trusted", "unix", "--proxy-protocol"),
    )
    assert result.output == ""
    assert supervisor.config == Config(
        server=Server(reload=True, trusted=("10.0.0.0/8", "unix"), proxy_protocol=True),
        module={"module": Module(modules=("hello.py", "shop.hooks"), dir=str(folder), workers=2)},
        app={
            "app": App(
                module="shop:app", dir=f"{folder}/src", factory=True, interface="asgi", workers="auto", threads=2
            )
        },
        upstream={"upstream": Upstream(servers=("http://127.0.0.1:8081", "unix:/run/b.sock"))},
        site=(
            Site(
                module="module",
                app="app",
                forward="upstream",
                route=(
                    static.Route(path="/static/", root=f"{folder}/static"),
                    static.Route(path="/media/", root=f"{folder}/media"),
                    cgi.Route(path="/cgi-bin/", cgi=f"{folder}/cgi-bin"),
                ),
            ),
        ),
    )


def test_what_is_off_by_default_can_be_said(run: Run, supervisor: Supervisor) -> None:
    result = run("serve", "--app", "a:b", "--no-factory", "--no-reload", "--no-proxy-protocol")
    assert result.exit_code == 0
    assert supervisor.config is not None
    assert supervisor.config.app["app"].factory is supervisor.config.server.reload is False


@pytest.mark.parametrize(
    "option",
    [
        "--no-listing",
        "--no-compress",
        "--no-clean-urls",
        "--no-favicon",
        "--no-immutable",
        "--no-cors",
        "--no-security-headers",
    ],
)
def test_what_is_off_can_be_said_to_be_off(run: Run, supervisor: Supervisor, option: str) -> None:
    assert run("serve", option).exit_code == 0
    assert supervisor.config is not None
    assert getattr(supervisor.config.site[0], option.removeprefix("--no-").replace("-", "_")) is False


def test_workers_auto_and_precompressed_can_be_said(run: Run, supervisor: Supervisor) -> None:
    assert run("serve", "--workers", "auto", "--precompressed").exit_code == 0
    assert supervisor.config is not None
    assert supervisor.config.server.workers == "auto"
    assert supervisor.config.site[0].precompressed is True


def test_a_configuration_file_is_read_only_when_it_is_named(run: Run, supervisor: Supervisor, folder: Path) -> None:
    (folder / "tux.toml").write_text('[server]\nworkers = 7\n[kernel]\nhits = 2\n[[site]]\nroot = "elsewhere"\n')
    run("serve")
    assert supervisor.config == Config(site=(Site(root=str(folder)),))
    run("serve", "--config", "tux.toml", "--grace", "0", "--kernel", "off")
    assert supervisor.config == Config(
        server=Server(workers=7, grace=0.0),
        kernel=Kernel(mode="off", hits=2),
        site=(Site(root=f"{folder}/elsewhere"),),
    )
    assert supervisor.own == ["tux.toml"]


def test_a_bad_file_is_one_line_with_file_line_and_place(run: Run, supervisor: Supervisor, folder: Path) -> None:
    (folder / "tux.toml").write_text('[[site]]\nroot = "a"\n[[site.route]]\npath = "/"\ncache_control = 3\n')
    result = run("serve", "--config", "tux.toml")
    message = "tux: error: tux.toml:5: site[0].route[0].cache_control: expected a string, got 3\n"
    assert (result.exit_code, result.stderr) == (1, message)
    assert supervisor.config is None


def test_a_bad_option_is_one_line(run: Run, supervisor: Supervisor) -> None:
    result = run("serve", "--listen", "8080")
    message = 'tux: error: --listen: expected HOST:PORT, [IPv6]:PORT or unix:/path, got "8080"\n'
    assert (result.exit_code, result.stderr) == (2, message)
    result = run("serve", "--kernel", "yes")
    message = 'tux: error: --kernel: expected "auto", "on" or "off", got "yes"\n'
    assert (result.exit_code, result.stderr) == (2, message)
    assert supervisor.config is None


def test_the_exit_code_is_that_of_the_server(run: Run, supervisor: Supervisor) -> None:
    supervisor.result = 3
    assert run("serve").exit_code == 3
