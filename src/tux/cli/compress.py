"""`tux compress`: compressed copies beside the files of a folder."""

from __future__ import annotations

import os

import click

from tux.cli import progress
from tux.errors import FAILED, USAGE, StartError

CODINGS = ("br", "zstd", "gzip")


@click.command(short_help="Make compressed copies beside the files of a folder.")
@click.argument("folder")
@click.option(
    "--coding",
    "-c",
    "codings",
    multiple=True,
    type=click.Choice(CODINGS),
    help="Can be given several times. Default: all that there are libraries for.",
)
@click.option(
    "--min-size",
    type=click.IntRange(min=0),
    default=256,
    metavar="BYTES",
    help="Leave smaller files alone. Default: 256.",
)
@click.option("--threads", type=click.IntRange(min=1, max=256), metavar="N", help="Default: one for each CPU.")
@click.option("--again", is_flag=True, help="Make also those that are there and not older than their file.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
def compress(
    folder: str, *, codings: tuple[str, ...], min_size: int, threads: int | None, again: bool, quiet: bool
) -> int:
    """Make NAME.br, NAME.zst and NAME.gz beside the files of FOLDER that compress, where they are missing or older.

    "tux serve" sends them to clients that accept them. br and zstd need pip install "tux-server[compress]". A copy that
    would not be smaller is not written; if there is one of an older file, it is removed. Exit code 1 when a file could
    not be read or written.
    """
    from tux.ahead import copies
    from tux.http.compress import compressors

    known = compressors(best=True)
    for coding in codings:
        if coding not in known:
            raise StartError(f'--coding {coding}: needs pip install "tux-server[compress]"', USAGE)
    chosen = [coding for coding in CODINGS if coding in (codings or known)]
    try:
        jobs = list(copies.find(folder, chosen, min_bytes=min_size, again=again))
    except OSError as error:
        raise StartError(f"{error.filename or folder}: {error.strerror}") from None
    done = copies.make(jobs, threads or len(os.sched_getaffinity(0)))
    written = before = after = failed = 0
    with progress.bar(sum(job.size for job in jobs), "compress", quiet=quiet) as bar:
        for one in done:
            bar.update(one.job.size)
            written += len(one.written)
            before += one.job.size * len(one.written)
            after += sum(one.written.values())
            if one.error:
                failed += 1
                click.echo(f"tux: error: {one.error}", err=True)
    if not quiet:
        saved = f", {(before - after) * 100 // before} % smaller" if before else ""  # never more than it is
        copies_made, files = progress.count(written, "copy", "copies"), progress.count(len(jobs), "file", "files")
        click.echo(f"{copies_made} of {files} ({', '.join(chosen)}){saved}")
    return FAILED if failed else 0
