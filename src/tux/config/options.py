"""Command-line options, and the arguments of `tux.serve`, -> `Config`: the same structs and checks as for a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tux.config import check, load
from tux.config.app import App
from tux.config.decode import decode
from tux.config.module import Module
from tux.config.schema import Config, Kernel, Server
from tux.config.site import Site
from tux.config.upstream import Upstream
from tux.errors import USAGE, ConfigError, Problem, StartError

_MODULE = "module"
_APP = "app"
_UPSTREAM = "upstream"
"""Names of the modules, the application and the servers that the command line describes."""

OPTIONS = {
    ("server", "listen"): "--listen",
    ("server", "workers"): "--workers",
    ("server", "user"): "--user",
    ("server", "grace"): "--grace",
    ("server", "access_log"): "--access-log",
    ("server", "log_format"): "--log-format",
    ("server", "reload"): "--reload",
    ("server", "trusted"): "--trusted",
    ("server", "proxy_protocol"): "--proxy-protocol",
    ("module", "modules"): "--module",
    ("module", "workers"): "--module-workers",
    ("app", "module"): "--app",
    ("app", "dir"): "--app-dir",
    ("app", "factory"): "--factory",
    ("app", "interface"): "--app-interface",
    ("app", "workers"): "--app-workers",
    ("app", "threads"): "--app-threads",
    ("upstream", "servers"): "--forward",
    ("kernel", "mode"): "--kernel",
    ("kernel", "interface"): "--kernel-interface",
    ("site", "root"): "PATH",
    ("site", "module"): "--module",
    ("site", "app"): "--app",
    ("site", "forward"): "--forward",
    ("site", "route"): "--static or --cgi",
    ("site", "host_strip"): "--host-strip",
    ("site", "host_default"): "--host-default",
    ("site", "index"): "--index",
    ("site", "listing"): "--listing",
    ("site", "types"): "--type",
    ("site", "charset"): "--charset",
    ("site", "download"): "--download",
    ("site", "precompressed"): "--precompressed",
    ("site", "compress"): "--compress",
    ("site", "cache_control"): "--cache-control",
    ("site", "headers"): "--header",
    ("site", "dotfiles"): "--dotfiles",
    ("site", "spa"): "--spa",
    ("site", "clean_urls"): "--clean-urls",
    ("site", "trailing_slash"): "--trailing-slash",
    ("site", "favicon"): "--favicon",
    ("site", "robots"): "--robots",
    ("site", "immutable"): "--immutable",
    ("site", "cors"): "--cors",
    ("site", "security_headers"): "--security-headers",
    ("site", "error_page"): "--error-page",
}
"""Table and key of the configuration -> the option that sets it."""


def from_options(
    path: str | None = None,
    *,
    config: str | None = None,
    listen: Sequence[str] = (),
    workers: int | str | None = None,
    user: str | None = None,
    grace: float | None = None,
    access_log: str | None = None,
    log_format: str | None = None,
    kernel: str | None = None,
    kernel_interface: Sequence[str] = (),
    host_strip: Sequence[str] = (),
    host_default: str | None = None,
    index: Sequence[str] = (),
    listing: bool | None = None,
    spa: str | None = None,
    clean_urls: bool | None = None,
    trailing_slash: str | None = None,
    favicon: bool | None = None,
    robots: str | None = None,
    immutable: bool | None = None,
    cors: bool | None = None,
    security_headers: bool | None = None,
    error_page: Sequence[str] = (),
    type: Sequence[str] = (),  # noqa: A002 (the option's name)
    charset: Sequence[str] = (),
    download: Sequence[str] = (),
    precompressed: bool | None = None,
    compress: bool | None = None,
    cache_control: Sequence[str] = (),
    header: Sequence[str] = (),
    dotfiles: str | None = None,
    module: Sequence[str] = (),
    module_workers: int | str | None = None,
    app: str | None = None,
    app_dir: str | None = None,
    app_interface: str | None = None,
    app_workers: int | str | None = None,
    app_threads: int | None = None,
    factory: bool | None = None,
    forward: Sequence[str] = (),
    static: Sequence[str] = (),
    cgi: Sequence[str] = (),
    reload: bool | None = None,
    trusted: Sequence[str] = (),
    proxy_protocol: bool | None = None,
) -> Config:
    """The configuration that the options of `tux serve` describe; None and () stand for options that were not given.

    Without `config`: one site for all hosts: the folder `path`, the modules `module`, the application `app`, the
    servers `forward`, the programs of `cgi`. When none of them is given, it is the current folder; otherwise nothing is
    served from disk but what `path` and `static` name. With `config`: the file, where options of the server and of the
    kernel tier win over its values. Its sites are as they are: `path` and options of a site are an error, unless the
    file has no site; then they make one.

    cache_control: "GLOB=VALUE"; charset: "CHARSET" or "GLOB=CHARSET"; error_page: "STATUS=FILE"; header:
    "GLOB:NAME=VALUE"; static, cgi: "PREFIX=FOLDER"; type: "GLOB=TYPE".
    Relative paths start at the current folder.
    StartError (ConfigError is one): exit code 2 for what is wrong in the options, 1 for what is wrong in the file."""
    server = _given(
        listen=tuple(listen) or None,
        workers=_number(workers),
        user=user,
        grace=grace,
        access_log=access_log,
        log_format=log_format,
        reload=reload,
        trusted=tuple(trusted) or None,
        proxy_protocol=proxy_protocol,
    )
    modules = _given(modules=tuple(module) or None, workers=_number(module_workers))
    if modules and not module:
        raise StartError("--module-workers: needs --module FILE.py", USAGE)
    application = _given(
        module=app,
        dir=app_dir,
        factory=factory,
        interface=app_interface,
        workers=_number(app_workers),
        threads=app_threads,
    )
    if application and app is None:
        raise StartError(f"{OPTIONS['app', next(iter(application))]}: needs --app MODULE:ATTRIBUTE", USAGE)
    if reload and app is None and not module and config is None:
        raise StartError("--reload: needs --app or --module: files are always served as they are", USAGE)
    tier = _given(mode=kernel, interface=tuple(kernel_interface) or None)
    site = _given(
        root=path,
        module=_MODULE if module else None,
        app=None if app is None else _APP,
        forward=_UPSTREAM if forward else None,
        route=_routes("static", static, "root") + _routes("cgi", cgi, "cgi") or None,
        host_strip=tuple(host_strip) or None,
        host_default=host_default,
        index=tuple(index) or None,
        listing=listing,
        spa=spa,
        clean_urls=clean_urls,
        trailing_slash=trailing_slash,
        favicon=favicon,
        robots=robots,
        immutable=immutable,
        cors=cors,
        security_headers=security_headers,
        precompressed=precompressed,
        compress=compress,
        types=_table("--type", "GLOB=TYPE, as in .log=text/plain", type) or None,
        charset=_charset(charset),
        download=tuple(download) or None,
        cache_control=_table("--cache-control", "GLOB=VALUE", cache_control) or None,
        headers=_headers(header) or None,
        dotfiles=dotfiles,
        error_page=_table("--error-page", "STATUS=FILE, as in 404=404.html", error_page) or None,
    )
    # What the options say is judged by itself, so that an error names the option.
    if config is None and path is None and app is None and not module and not forward and not cgi:
        site["root"] = "."
    ours = _decode(server, tier, modules, application, tuple(forward), site)
    if config is None:
        return ours
    file = load.load(config, complete=False)
    if file.site and site:
        named = ", ".join(OPTIONS["site", key] for key in site)
        raise StartError(f"{named}: cannot be given with {config}, which has sites; change them there", USAGE)
    if not file.site and not (path or module or app or forward or cgi):
        raise StartError(f'{config}: no site: add [[site]] with root = "FOLDER", or give PATH')
    return Config(
        server=msgspec.structs.replace(file.server, **{key: getattr(ours.server, key) for key in server}),
        cgi=file.cgi,
        kernel=msgspec.structs.replace(file.kernel, **{key: getattr(ours.kernel, key) for key in tier}),
        site=file.site or ours.site,
        module={**file.module, **ours.module},
        app={**file.app, **ours.app},
        upstream={**file.upstream, **ours.upstream},
    )


def _given(**values: object) -> dict[str, object]:
    return {key: value for key, value in values.items() if value is not None}


def _number(value: int | str | None) -> int | str | None:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def _routes(option: str, texts: Sequence[str], key: str) -> list[dict[str, str]]:
    routes = []
    for text in texts:
        # The first "=" ends the prefix: paths of folders have one more often than prefixes of URLs do.
        prefix, equals, folder = text.partition("=")
        if not equals or not prefix or not folder:
            example = f"/{option}/=./{option}"
            raise StartError(f'--{option}: expected PREFIX=FOLDER, as in {example}, got "{text}"', USAGE)
        routes.append({"path": prefix, key: folder})
    return routes


def _table(option: str, form: str, texts: Sequence[str]) -> dict[str, str]:
    table: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            raise StartError(f'{option}: expected {form}, got "{text}"', USAGE)
        if key in table:
            raise StartError(f"{option}: {key} is given twice", USAGE)
        table[key] = value
    return table


def _charset(texts: Sequence[str]) -> str | dict[str, str] | None:
    table: dict[str, str] = {}
    for text in texts:
        glob, equals, charset = text.rpartition("=")
        if not equals:
            glob = "*"
        if not glob or glob in table:
            raise StartError(f'--charset: expected CHARSET or GLOB=CHARSET, each GLOB once, got "{text}"', USAGE)
        table[glob] = charset
    return table or None


def _headers(options: Sequence[str]) -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = {}
    for text in options:
        # A name has no colon and no equals sign: the first "=" ends it, and the last colon before that begins it.
        left, equals, value = text.partition("=")
        glob, colon, name = left.rpartition(":")
        if not equals or not colon or not glob:
            raise StartError(f'--header: expected GLOB:NAME=VALUE, got "{text}"', USAGE)
        fields = table.setdefault(glob, {})
        if name in fields:
            raise StartError(f"--header: {name} is given twice for {glob}", USAGE)
        fields[name] = value
    return table


def _decode(
    server: dict[str, object],
    tier: dict[str, object],
    modules: dict[str, object],
    application: dict[str, object],
    forward: tuple[str, ...],
    site: dict[str, object],
) -> Config:
    try:
        decoded = Config(
            server=decode(server, Server, ("server",)),
            kernel=decode(tier, Kernel, ("kernel",)),
            module={_MODULE: decode(modules, Module, ("module", _MODULE))} if modules else {},
            app={_APP: decode(application, App, ("app", _APP))} if application else {},
            upstream={_UPSTREAM: decode({"servers": forward}, Upstream, ("upstream", _UPSTREAM))} if forward else {},
            site=(decode(site, Site, ("site", 0)),) if site else (),
        )
    except ConfigError as error:
        raise ConfigError([_as_option(problem, site) for problem in error.problems], USAGE) from None
    problems = [problem for problem in check.problems(decoded) if problem.place]
    if problems:
        raise ConfigError([_as_option(problem, site) for problem in problems], USAGE)
    return load.absolute(decoded, load.current_folder())


def _as_option(problem: Problem, site: Mapping[str, Any]) -> Problem:
    table, *parts = [part for part in problem.place if isinstance(part, str)]
    key, *inner = parts[1:] if table in ("module", "app", "upstream") else parts or ["root"]
    detail = " ".join(inner)  # the glob, and the name of a field
    option = OPTIONS[table, key]
    if key == "route":
        number = next(part for part in problem.place[2:] if isinstance(part, int))
        option = "--cgi" if "cgi" in site["route"][number] else "--static"
    return Problem((), f"{detail}: {problem.message}" if detail else problem.message, option)
