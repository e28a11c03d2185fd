"""A configuration file -> `Config`, with the line of every error."""

from __future__ import annotations

import os
import re
from typing import Any, TypeVar

import msgspec

from tux.config import check, locate, origins
from tux.config.app import App
from tux.config.decode import decode
from tux.config.module import Module
from tux.config.origins import chain
from tux.config.processes import Processes
from tux.config.schema import Config, Server
from tux.config.site import Route, Site
from tux.config.upstream import Upstream
from tux.errors import ConfigError, Problem, StartError

P = TypeVar("P", bound=Processes)

MAX_BYTES = 1024 * 1024
"""Largest configuration file: 100 times any real one; more is a wrong file."""

_TOML_ERROR = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


def load(path: str, *, complete: bool = True) -> Config:
    """The configuration in a file, checked, its paths absolute. Relative ones are relative to the file's folder.

    complete: a configuration without a site is an error. StartError: the file cannot be read. ConfigError: all that is
    wrong in it."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise StartError(f"{path}: {_reason(error)}") from None
    return parse(data, path, complete=complete)


def parse(data: bytes, path: str, *, complete: bool = True) -> Config:
    """The configuration in `data`, as `load` does it; `path` is what errors call it, and relative paths start there."""
    text, tree = _toml(data, path)
    config: Config | None = None
    try:
        config = decode(tree, Config)
        problems = check.problems(config)
    except ConfigError as error:
        problems = list(error.problems)
    if not complete:
        problems = [problem for problem in problems if problem.place]
    if problems or config is None:
        raise ConfigError(sorted(_placed(problems, text, path), key=_order))
    return absolute(config, join(current_folder(), os.path.dirname(path)))


def current_folder() -> str:
    """Where relative paths of the command line start. StartError when that folder was removed."""
    try:
        return os.getcwd()
    except OSError:
        raise StartError("the current folder does not exist any more") from None


def join(base: str, path: str) -> str:
    """`path`, relative to `base` when it is relative. ".." stays: what it means depends on symbolic links."""
    parts = [part for part in os.path.join(base, path).split("/") if part not in ("", ".")]
    return "/" + "/".join(parts)


def absolute(config: Config, base: str) -> Config:
    """The configuration with its paths made absolute: relative ones start at the folder `base`. Applications and
    modules that sites and routes name without a table get one, since they have a path, too."""

    def folder(path: str | None) -> str | None:
        return None if path is None else join(base, path)

    def group(old: P) -> P:
        return msgspec.structs.replace(old, dir=join(base, old.dir), sendfile_root=folder(old.sendfile_root))

    apps = {name: group(app) for name, app in config.app.items()}
    modules = {name: group(module) for name, module in config.module.items()}

    def unix(address: str) -> str:
        return "unix:" + join(base, address.removeprefix("unix:")) if address.startswith("unix:") else address

    def note(source: chain.Tries) -> None:
        if source.app is not None and source.app not in apps:
            apps[source.app] = App(module=source.app, dir=base)
        if source.module is not None and source.module not in modules:
            modules[source.module] = Module(modules=(source.module,), dir=base)

    def route(old: Route) -> Route:
        keys = [key for key in origins.of(old).paths if getattr(old, key) is not None]
        new = msgspec.structs.replace(old, **{key: join(base, getattr(old, key)) for key in keys})
        if not isinstance(new, origins.static.Route):
            return new
        note(new)
        return msgspec.structs.replace(new, forward=None if new.forward is None else unix(new.forward))

    def site(old: Site) -> Site:
        root = None if old.root is None else join(base, old.root)
        forward = None if old.forward is None else unix(old.forward)
        note(old)
        return msgspec.structs.replace(old, root=root, forward=forward, route=tuple(route(r) for r in old.route))

    def upstream(old: Upstream) -> Upstream:
        servers = tuple(unix(server) for server in old.servers)
        return msgspec.structs.replace(old, servers=servers, sendfile_root=folder(old.sendfile_root))

    def server(old: Server) -> Server:
        log = old.access_log
        return msgspec.structs.replace(
            old,
            listen=tuple(unix(address) for address in old.listen),
            access_log=log if log in (None, "-", "off") else join(base, str(log)),
        )

    return Config(
        server=server(config.server),
        cgi=msgspec.structs.replace(config.cgi, sendfile_root=folder(config.cgi.sendfile_root)),
        kernel=msgspec.structs.replace(config.kernel, bpffs=join(base, config.kernel.bpffs)),
        site=tuple(site(s) for s in config.site),
        module=modules,
        app=apps,
        upstream={name: upstream(u) for name, u in config.upstream.items()},
    )


def _toml(data: bytes, path: str) -> tuple[str, dict[str, Any]]:
    import tomllib  # 20 ms, which a start without a file need not pay

    if len(data) > MAX_BYTES:
        raise ConfigError([Problem((), f"over {MAX_BYTES} bytes: not a configuration file", path)])
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError([Problem((), "not UTF-8", _at(path, data, error.start))]) from None
    try:
        return text.replace("\r\n", "\n"), tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _TOML_ERROR.fullmatch(str(error))
        message = found[1] if found else str(error)
        # At the end of the document, the line to look at is the last one.
        where = f"{path}:{found[2]}:{found[3]}" if found and found[2] else _at(path, data.rstrip(), len(data))
        raise ConfigError([Problem((), message[:1].lower() + message[1:], where)]) from None
    except RecursionError:
        raise ConfigError([Problem((), "nested too deeply", path)]) from None
    except ValueError:  # what tomllib leaves to int() and datetime
        raise ConfigError([Problem((), "not valid TOML: a number or a date is out of range", path)]) from None


def _at(path: str, data: bytes, position: int) -> str:
    newlines = data[:position].count(b"\n")
    return f"{path}:{newlines + 1}"


def _placed(problems: list[Problem], text: str, path: str) -> list[Problem]:
    found = locate.lines(text)
    placed = []
    for problem in problems:
        line = locate.line_of(found, problem.at or problem.place)
        placed.append(problem._replace(where=path if line is None else f"{path}:{line}"))
    return placed


def _order(problem: Problem) -> int:
    line = problem.where.rpartition(":")[2]
    return int(line) if line.isascii() and line.isdigit() else 0


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a configuration file"
    return (error.strerror or str(error)).lower()
