"""`tux convert`: a configuration of nginx or NGINX Unit -> tux.toml."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from tux.errors import FAILED, StartError

if TYPE_CHECKING:
    from tux.convert.result import Result


@click.command(short_help="Convert a configuration of nginx or NGINX Unit to tux.toml.")
@click.argument("file")
@click.option("--output", "-o", metavar="FILE", help="Write it there, which must not exist. Default: standard output.")
@click.option(
    "--from", "source", type=click.Choice(["nginx", "unit"]), help="Default: by the first character, { is Unit's."
)
@click.option("--strict", is_flag=True, help="Exit code 1 when something is not supported.")
@click.option("--verbose", is_flag=True, help="Name also what is not needed.")
def convert(file: str, *, output: str | None, source: str | None, strict: bool, verbose: bool) -> int:
    """Convert FILE, an nginx.conf with what it includes, or the JSON of NGINX Unit, to tux.toml.

    What Tux does not support is listed, one a line, on standard error and at the top of the result. Look through it
    before you use it; "tux check" says whether it is valid. Reading nginx.conf needs crossplane: pip install
    "tux-server[convert]".
    """
    from tux.convert.result import header

    result = _converter(source or _guess(file))(file)
    for note in result.notes:
        if verbose or note.kind != "needless":
            click.echo(str(note), err=True)
    problems = list(result.problems(os.getcwd()))
    for problem in problems:
        click.echo(problem, err=True)
    text = os.fsencode(f"{header(result, file)}\n{result.toml()}")
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            with open(output, "xb") as target:
                target.write(text)
        except OSError as error:
            raise StartError(f"--output {output}: {error.strerror}") from None
    is_lost = any(note.kind == "lost" for note in result.notes)
    return FAILED if problems or (strict and is_lost) else 0


def _guess(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            return "unit" if opened.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "nginx"
    except OSError as error:
        raise StartError(f"{file}: {error.strerror}") from None


def _converter(source: str) -> Callable[[str], Result]:
    from tux.convert import nginx, unit

    return {"nginx": nginx.convert, "unit": unit.convert}[source]
