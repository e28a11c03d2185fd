"""`tux warm`: asks a running server for all that clients will ask it for."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from tux.cli import progress
from tux.errors import FAILED, USAGE, StartError

if TYPE_CHECKING:
    from tux.ahead.sources import Wanted
    from tux.ahead.warm import Address, Ask, Talk, Warmed

BROWSERS = "gzip, deflate, br, zstd"
"""Accept-Encoding of Chrome, Edge and Firefox behind a proxy that speaks TLS."""

PER_CPU = 8
"""Connections for each CPU: a connection goes to whichever worker, and so few hardly ever miss one (1 in 3,000)."""

MAX_CONNECTIONS = 1024
"""A server has room for some thousands, and others want some of it."""

SHOWN = 20
"""Errors that are listed."""

_TAKEN = ("accept-encoding", "connection", "content-length", "expect", "host", "transfer-encoding", "upgrade")
"""Fields that have an option of their own, or would make the request another one."""


@click.command(short_help="Ask a running server for what clients will ask it for.")
@click.argument("url", required=False)
@click.option(
    "--config",
    metavar="FILE",
    help="Ask the server of this configuration: at its first address, and without another source for the files of all "
    "its sites.",
)
@click.option(
    "--sitemap",
    multiple=True,
    metavar="PATH",
    help="Ask for the pages that this sitemap of the server names; can be given several times. Default, without "
    "another source: /sitemap.xml.",
)
@click.option(
    "--folder",
    multiple=True,
    metavar="DIR",
    help="Ask for the files below DIR, which the server has at /; can be given several times.",
)
@click.option(
    "--log",
    multiple=True,
    metavar="FILE",
    help="Ask for what was asked for in this access log (common, combined or json), most often first; can be given "
    "several times.",
)
@click.option("--host", metavar="NAME", help="Value of Host where a source names none. Default: the address.")
@click.option(
    "--accept-encoding",
    "codings",
    multiple=True,
    metavar="VALUE",
    help=f'Ask as clients that send this value; "" for those that send none; can be given several times. Default: '
    f"{BROWSERS}.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME:VALUE",
    help="Send this field, too, as clients do (Accept); can be given several times.",
)
@click.option(
    "--connections",
    type=click.IntRange(min=1, max=MAX_CONNECTIONS),
    metavar="N",
    help=f"Each belongs to one worker, and asks for everything twice. Default: {PER_CPU} for each CPU.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.001),
    default=30.0,
    metavar="SECONDS",
    help="How long to wait for the next bytes of an answer. Default: 30.",
)
@click.option(
    "--max-size",
    type=click.IntRange(min=0),
    default=1024 * 1024,
    metavar="BYTES",
    help="Do not read larger answers to their end, and ask for them once. Default: 1048576.",
)
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
def warm(
    url: str | None,
    *,
    config: str | None,
    sitemap: tuple[str, ...],
    folder: tuple[str, ...],
    log: tuple[str, ...],
    host: str | None,
    codings: tuple[str, ...],
    headers: tuple[str, ...],
    connections: int | None,
    timeout: float,
    max_size: int,
    quiet: bool,
) -> int:
    """Ask the server at URL (http://127.0.0.1:8080, unix:/run/tux.sock) for all that clients will ask it for, so that
    its answers are decided, compressed and remembered when they come.

    No other server is asked, whatever a sitemap says: it is the Host that is sent. The exit code is 1 when something
    was answered with an error, or not at all.
    """
    from tux.ahead import sites
    from tux.ahead.sources import MAX_URLS
    from tux.ahead.warm import Ask, Talk
    from tux.config import load
    from tux.http.head import is_value

    loaded = None if config is None else load.load(config)
    if url is None and loaded is None:
        raise StartError("expected the URL of a server, or --config FILE", USAGE)
    try:
        address = sites.parse_address(url) if url is not None else sites.address_of(loaded)  # type: ignore[arg-type]
    except ValueError as error:
        raise StartError(f"{url or config}: {error}", USAGE if url is not None else FAILED) from None
    for option, text in (("--host", host), *(("--accept-encoding", coding) for coding in codings)):
        if text is not None and not is_value(text):
            raise StartError(f"{option}: not a valid field value", USAGE)
    talk = Talk(address, host or _host_of(address), [_field(text) for text in headers], timeout, max_size)
    if loaded is not None and not (sitemap or folder or log):
        found: Iterator[Wanted] = sites.files_of(loaded, _warn)
    else:
        found = _sources(talk, sitemap if sitemap or folder or log else ("/sitemap.xml",), folder, log)
    try:
        wanted = list(dict.fromkeys(itertools.islice(found, MAX_URLS)))
        if next(found, None) is not None:
            _warn(f"only the first {MAX_URLS:,} addresses are asked for")
    except OSError as error:
        raise StartError(f"{error.filename}: {error.strerror}") from None
    asks = [Ask(one, coding) for one in wanted for coding in dict.fromkeys(codings or (BROWSERS,))]
    if not asks:
        raise StartError("the sources name nothing to ask for")
    wide = connections or min(PER_CPU * len(os.sched_getaffinity(0)), MAX_CONNECTIONS)
    return _report(_ask(talk, asks, wide, quiet=quiet), wide, max_size, quiet=quiet)


def _ask(talk: Talk, asks: list[Ask], connections: int, *, quiet: bool) -> Warmed:
    from tux.ahead.warm import ASKS
    from tux.ahead.warm import warm as run

    with progress.bar(len(asks) * connections * ASKS, "warm", quiet=quiet) as bar:
        return asyncio.run(run(talk, asks, connections=connections, say=bar.update))


def _report(warmed: Warmed, connections: int, max_size: int, *, quiet: bool) -> int:
    from tux.ahead.warm import counts

    bad = [outcome for outcome in warmed.outcomes if outcome.status == 0 or outcome.status >= 400]
    for outcome in bad[:SHOWN]:
        what = f"{outcome.status}" if outcome.status else outcome.reason
        click.echo(f"tux: error: {outcome.ask.wanted.host}{outcome.ask.wanted.target}: {what}", err=True)
    if len(bad) > SHOWN:
        click.echo(f"tux: error: and {len(bad) - SHOWN:,} more", err=True)
    if warmed.lost:
        lost = progress.count(warmed.lost, "request", "requests")
        click.echo(f"tux: warning: {lost} without an answer, so a worker may be cold: {warmed.reason}", err=True)
    if not quiet:
        answers = progress.count(len(warmed.outcomes), "answer", "answers")
        parts = [f"{number:,} x {status or 'none'}" for status, number in counts(warmed.outcomes)]
        large = sum(outcome.large for outcome in warmed.outcomes)
        more = f"; {large:,} of over {max_size} bytes asked for once" if large else ""
        over = progress.count(connections, "connection", "connections")
        click.echo(f"{answers} over {over}: {', '.join(parts)}{more}")
    return FAILED if bad else 0


def _sources(
    talk: Talk, sitemaps: tuple[str, ...], folders: tuple[str, ...], logs: tuple[str, ...]
) -> Iterator[Wanted]:
    from tux.ahead import sources
    from tux.ahead.warm import read_sitemaps

    for log in logs:
        with open(log, "rb") as lines:
            yield from sources.from_log(lines)
    if sitemaps:
        first = []
        for text in sitemaps:
            if not sources.is_target(text):
                raise StartError(f"--sitemap: expected a path on the server, as in /sitemap.xml, got {text!r}", USAGE)
            first.append(sources.Wanted(text))
        yield from asyncio.run(read_sitemaps(talk, first))
    for folder in folders:
        yield from sources.from_folder(folder)


def _field(text: str) -> str:
    from tux.http.head import render_field

    name, _, value = text.partition(":")
    if name.lower() in _TAKEN:
        raise StartError(f"--header: {name} cannot be given", USAGE)
    try:
        return render_field(name, value.strip()).decode("latin-1").removesuffix("\r\n")
    except ValueError as error:
        raise StartError(f"--header: {error}", USAGE) from None


def _warn(text: str) -> None:
    click.echo(f"tux: warning: {text}", err=True)


def _host_of(address: Address) -> str:
    return "localhost" if address.path else str(address)
