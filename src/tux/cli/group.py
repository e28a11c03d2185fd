"""The program `tux`: finds the commands, and turns every error into one line and an exit code."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NoReturn

import click

from tux.errors import USAGE, StartError

COMMANDS = ("serve", "check", "compress", "warm", "convert", "kernel")
"""Each is a module here with a click command of the same name, imported when it is used."""

INTERRUPTED = 130
"""Exit code after a SIGINT before anything was served: 128 and the number of the signal, as shells have it."""


class Group(click.Group):
    """A group whose errors are one line on standard error, `tux: error: ...`; exit code 2 for the usage, else 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as in the base class
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"tux.cli.{cmd_name}"), cmd_name)
        return command if isinstance(command, click.Command) else None

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run as a program: ends with SystemExit. Arguments are those of `click.Command.main`."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except click.ClickException as error:
            code = _failed(_one_line(error.format_message()), error.exit_code)
        except StartError as error:
            code = _failed(error.message, error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            code = INTERRUPTED
        sys.exit(code)


def _failed(message: str, code: int) -> int:
    click.echo(f"tux: error: {message}", err=True)
    return code


def _one_line(message: str) -> str:
    """A message of click in our form: it begins with a capital, may have several lines, and ends with a full stop."""
    text = " ".join(message.split()).removesuffix(".")
    return text[:1].lower() + text[1:]


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001
    if not value or ctx.resilient_parsing:
        return
    from tux.cli.version import text

    click.echo(text(), nl=False)
    ctx.exit()


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.pass_context
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and what was built in, and exit.",
)
def tux(ctx: click.Context) -> None:
    """Tux serves folders over HTTP.

    `tux COMMAND --help` explains a command.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)
