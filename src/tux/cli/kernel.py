"""`tux kernel`: what the kernel tier does at this moment, and how to remove it."""

from __future__ import annotations

import json

import click

from tux.errors import FAILED, USAGE

_bpffs = click.option(
    "--bpffs",
    default="/sys/fs/bpf",
    metavar="DIR",
    help="Where the file system for eBPF objects is mounted. Default: /sys/fs/bpf.",
)


@click.group(
    short_help="Show or remove the kernel tier.", invoke_without_command=True, subcommand_metavar="COMMAND [ARGS]..."
)
@click.pass_context
def kernel(ctx: click.Context) -> None:
    """Show what the kernel tier of the servers on this machine does, or remove it. Both need root, or the capabilities
    of `tux serve --kernel on`.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)


@kernel.command(short_help="Show the kernel tier of each server.")
@click.option("--json", "json_", is_flag=True, help="One JSON object for each server, one a line.")
@_bpffs
def status(*, json_: bool, bpffs: str) -> int:
    """Show, for each server: where it is attached, what it answered and passed on, its connections and its memory.

    It is read from what is pinned in DIR/tux, so it also shows what a server left behind that was killed. The exit code
    is 0 also when there is none.
    """
    from tux.kernel import status as states

    found = states.read_all(bpffs)
    for one in found:
        click.echo(json.dumps(one.as_json()) if json_ else one.as_text(), nl=json_)
    if not found and not json_:
        click.echo(f"no kernel tier below {bpffs}")
    return 0


@kernel.command(short_help="Remove the kernel tier.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    metavar="SECONDS",
    help="How long to wait for connections that were answered by it. Default: 30.",
)
@click.option("--force", is_flag=True, help="Remove it at once. Connections that were answered by it break.")
@_bpffs
def detach(*, timeout: float, force: bool, bpffs: str) -> int:
    """Stop answering from the kernel, wait until the connections that were answered have ended, and remove the
    programs. Servers go on without.

    Also removes what a server left behind that was killed. The exit code is 1 when connections remained; their programs
    are still attached then, and answer nothing.
    """
    from tux.kernel import status as states

    left = states.detach_all(bpffs, timeout=0.0 if force else timeout, force=force, say=click.echo)
    return FAILED if left else 0
