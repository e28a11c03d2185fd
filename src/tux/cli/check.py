"""`tux check`: is a configuration file valid, and what does it come to?"""

from __future__ import annotations

import os

import click

from tux.errors import FAILED, ConfigError


@click.command(short_help="Check a configuration file.")
@click.argument("file", default="tux.toml")
@click.option("--print", "print_", is_flag=True, help="Show the effective configuration as TOML, defaults filled in.")
def check(file: str, *, print_: bool) -> int:
    """Check the configuration FILE (default: tux.toml in the current folder).

    Prints "FILE: ok", or the errors, one a line. The exit code is 0 when it is valid, else 1. Folders and users that
    the file names are not looked for: it may be checked on another machine.
    """
    from tux.config.load import load

    try:
        config = load(file)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"{problem}", err=True)
        return FAILED
    if print_:
        from tux.config.emit import to_toml

        text = to_toml(config)
    else:
        text = f"{file}: ok\n"
    click.echo(os.fsencode(text), nl=False)  # names of files may be any bytes
    return 0
