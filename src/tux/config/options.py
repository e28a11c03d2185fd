"""Command-line options, and the arguments of `tux.serve`, -> `Config`: the same structs and checks as for a file."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tux.config import check, load
from tux.config.decode import decode
from tux.config.schema import Config, Kernel, Server, Site
from tux.errors import USAGE, ConfigError, Problem, StartError

OPTIONS = {
    ("server", "listen"): "--listen",
    ("server", "workers"): "--workers",
    ("server", "user"): "--user",
    ("server", "grace"): "--grace",
    ("server", "access_log"): "--access-log",
    ("server", "log_format"): "--log-format",
    ("kernel", "mode"): "--kernel",
    ("kernel", "interface"): "--kernel-interface",
    ("site", "root"): "PATH",
    ("site", "index"): "--index",
    ("site", "precompressed"): "--precompressed",
    ("site", "cache_control"): "--cache-control",
    ("site", "headers"): "--header",
    ("site", "dotfiles"): "--dotfiles",
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
    index: Sequence[str] = (),
    precompressed: bool | None = None,
    cache_control: Sequence[str] = (),
    header: Sequence[str] = (),
    dotfiles: str | None = None,
) -> Config:
    """The configuration that the options of `tux serve` describe; None and () stand for options that were not given.

    Without `config`: one site for all hosts, the folder `path` (default: the current one). With `config`: the file,
    where options of the server and of the kernel tier win over its values. Its sites are as they are: `path` and
    options of a site are an error, unless the file has no site; then they make one, and `path` must be given.

    cache_control: "GLOB=VALUE"; header: "GLOB:NAME=VALUE". Relative paths start at the current folder.
    StartError (ConfigError is one): exit code 2 for what is wrong in the options, 1 for what is wrong in the file."""
    server = _given(
        listen=tuple(listen) or None,
        workers=int(workers) if isinstance(workers, str) and workers.isascii() and workers.isdigit() else workers,
        user=user,
        grace=grace,
        access_log=access_log,
        log_format=log_format,
    )
    tier = _given(mode=kernel, interface=tuple(kernel_interface) or None)
    site = _given(
        root=path,
        index=tuple(index) or None,
        precompressed=precompressed,
        cache_control=_cache_control(cache_control) or None,
        headers=_headers(header) or None,
        dotfiles=dotfiles,
    )
    # What the options say is judged by itself, so that an error names the option.
    ours = _decode(server, tier, site)
    if config is None:
        return ours
    file = load.load(config, complete=False)
    if file.site and site:
        named = ", ".join(OPTIONS["site", key] for key in site)
        raise StartError(f"{named}: cannot be given with {config}, which has sites; change them there", USAGE)
    if not file.site and path is None:
        raise StartError(f'{config}: no site: add [[site]] with root = "FOLDER", or give PATH')
    return Config(
        server=msgspec.structs.replace(file.server, **{key: getattr(ours.server, key) for key in server}),
        kernel=msgspec.structs.replace(file.kernel, **{key: getattr(ours.kernel, key) for key in tier}),
        site=file.site or ours.site,
    )


def _given(**values: object) -> dict[str, object]:
    return {key: value for key, value in values.items() if value is not None}


def _cache_control(options: Sequence[str]) -> dict[str, str]:
    table: dict[str, str] = {}
    for text in options:
        glob, equals, value = text.partition("=")
        if not equals or not glob:
            raise StartError(f'--cache-control: expected GLOB=VALUE, got "{text}"', USAGE)
        if glob in table:
            raise StartError(f"--cache-control: {glob} is given twice", USAGE)
        table[glob] = value
    return table


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


def _decode(server: dict[str, object], tier: dict[str, object], site: dict[str, object]) -> Config:
    try:
        decoded = Config(
            server=decode(server, Server, ("server",)),
            kernel=decode(tier, Kernel, ("kernel",)),
            site=(decode({"root": ".", **site}, Site, ("site", 0)),),
        )
    except ConfigError as error:
        raise ConfigError([_as_option(problem) for problem in error.problems], USAGE) from None
    problems = check.problems(decoded)
    if problems:
        raise ConfigError([_as_option(problem) for problem in problems], USAGE)
    return load.absolute(decoded, load.current_folder())


def _as_option(problem: Problem) -> Problem:
    table, key, *inner = [part for part in problem.place if isinstance(part, str)]
    detail = " ".join(inner)  # the glob, and the name of a field
    return Problem((), f"{detail}: {problem.message}" if detail else problem.message, OPTIONS[table, key])
