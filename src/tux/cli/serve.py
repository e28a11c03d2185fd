"""`tux serve`: serve a folder, or what a configuration file says."""

from __future__ import annotations

import functools
from typing import Any

import click


@click.command(short_help="Serve a folder, or what a configuration file says.")
@click.argument("path", required=False)
@click.option(
    "--listen",
    multiple=True,
    metavar="ADDRESS",
    help="Accept connections at HOST:PORT, [IPv6]:PORT or unix:/path; can be given several times. "
    "Default: 127.0.0.1:8080. Port 0 takes a free one.",
)
@click.option("--workers", metavar="N|auto", help="Number of worker processes. Default: auto, one for each CPU.")
@click.option(
    "--config",
    metavar="FILE",
    help="Configuration file. The options of the server (listen, workers, user, grace, logs, kernel) win over "
    "it. PATH and the options of a site are possible only when the file has no site. No file is read unless it is "
    "named here.",
)
@click.option(
    "--module",
    multiple=True,
    metavar="FILE.py|NAME",
    help="Module that gets what no file answers and is for one of its paths: a file, a module of Python, or an "
    "installed entry point; can be given several times.",
)
@click.option(
    "--module-workers", metavar="N|auto", help="Processes of the modules. Default: 1; auto is one for each CPU."
)
@click.option(
    "--app",
    metavar="MODULE:ATTRIBUTE",
    help="WSGI or ASGI application that gets what no file or module answers. With it, nothing is served from disk "
    "but what PATH and --static name.",
)
@click.option("--app-dir", metavar="DIR", help="Folder that modules are looked for in first. Default: the current one.")
@click.option(
    "--factory/--no-factory", default=None, help="ATTRIBUTE is a function that returns the application. Default: no."
)
@click.option("--app-interface", metavar="auto|wsgi|asgi", help="Default: auto, which finds out.")
@click.option(
    "--app-workers", metavar="N|auto", help="Processes of the application. Default: 1; auto is one for each CPU."
)
@click.option("--app-threads", type=int, metavar="N", help="WSGI: threads in each of these processes. Default: 4.")
@click.option(
    "--forward",
    multiple=True,
    metavar="URL",
    help="Server that gets what nothing else answers: http://HOST:PORT or unix:/path. Several times: they take turns.",
)
@click.option(
    "--static",
    multiple=True,
    metavar="PREFIX=FOLDER",
    help="Serve FOLDER below PREFIX, as in /static/=./static; can be given several times.",
)
@click.option(
    "--cgi",
    multiple=True,
    metavar="PREFIX=FOLDER",
    help="Run the programs in FOLDER for requests below PREFIX (CGI/1.1), as in /cgi-bin/=./cgi-bin; can be given "
    "several times.",
)
@click.option(
    "--reload/--no-reload",
    default=None,
    help="For development: start the application and the modules anew when a file of them changes. Default: no.",
)
@click.option(
    "--trusted",
    multiple=True,
    metavar="NETWORK",
    help="Proxy in front whose X-Forwarded-For, Forwarded and so on are believed: an address, a network or unix; can "
    "be given several times.",
)
@click.option(
    "--proxy-protocol/--no-proxy-protocol",
    default=None,
    help="Connections from --trusted begin with a PROXY protocol header. Default: no.",
)
@click.option(
    "--host-strip",
    multiple=True,
    metavar="PART",
    help="Take PART off the name of the host before it stands for {host} in PATH: a beginning (www.), an end "
    '(.example.org) or the last label (".*"); can be given several times.',
)
@click.option(
    "--host-default",
    metavar="NAME",
    help="Stands for {host} in PATH when there is no folder for a host. Without it the answer is 404.",
)
@click.option(
    "--index",
    multiple=True,
    metavar="NAME",
    help="File to answer with when a folder is asked for; the first that exists, when given several times. "
    "Default: index.html.",
)
@click.option(
    "--listing/--no-listing",
    default=None,
    help="Answer a request for a folder without an index with what is in it. Default: no.",
)
@click.option(
    "--spa",
    metavar="FILE",
    help="Answer pages that are not there with this file below PATH, as in index.html, for an application in the "
    "browser. Paths with the extension of a known type stay 404.",
)
@click.option(
    "--clean-urls/--no-clean-urls",
    default=None,
    help="Answer /a with a.html when there is nothing else. Default: no.",
)
@click.option(
    "--trailing-slash",
    metavar="folders|always|never",
    help="At which path a page is; the other one leads there. Default: folders: an index at /a/, a clean URL at /a.",
)
@click.option(
    "--favicon/--no-favicon",
    default=None,
    help="Answer /favicon.ico with 204 when there is no such file. Default: no, it is 404.",
)
@click.option(
    "--robots",
    metavar="allow|deny",
    help="Answer /robots.txt, when there is no such file, with one that allows everything or nothing. Default: 404.",
)
@click.option(
    "--immutable/--no-immutable",
    default=None,
    help="Let caches keep files with a hash in their name (app.3f2a1b9c.js) for a year. Default: no.",
)
@click.option("--cors/--no-cors", default=None, help="Let scripts of all other sites read the files. Default: no.")
@click.option(
    "--security-headers/--no-security-headers",
    default=None,
    help="Send Content-Security-Policy: frame-ancestors 'self', Referrer-Policy and X-Frame-Options. Default: no.",
)
@click.option(
    "--error-page",
    multiple=True,
    metavar="STATUS=FILE",
    help="Body of errors with this status, below PATH, as in 404=404.html; can be given several times.",
)
@click.option(
    "--type",
    multiple=True,
    metavar="GLOB=TYPE",
    help="Media type of the files that match, as in .log=text/plain; a GLOB that is .EXTENSION is about the extension.",
)
@click.option(
    "--charset",
    multiple=True,
    metavar="[GLOB=]CHARSET",
    help='What the types of text say about their encoding; "" for nothing. Default: utf-8.',
)
@click.option(
    "--download",
    multiple=True,
    metavar="GLOB",
    help='Let browsers save the files that match, and not show them, as in "*.pdf" or downloads/; can be given '
    "several times.",
)
@click.option(
    "--precompressed/--no-precompressed",
    default=None,
    help="Send NAME.br, NAME.zst or NAME.gz in place of NAME to clients that accept it. Default: yes.",
)
@click.option(
    "--compress/--no-compress",
    default=None,
    help="Compress text when it is first asked for: gzip, and br and zstd where their libraries are. Default: no.",
)
@click.option(
    "--cache-control",
    multiple=True,
    metavar="GLOB=VALUE",
    help='Cache-Control of the files that match, as in "*.css=max-age=3600"; the first GLOB that matches counts. '
    "Without a slash GLOB is about the name of a file, with one about its path.",
)
@click.option(
    "--header",
    multiple=True,
    metavar="GLOB:NAME=VALUE",
    help='A field more for the files that match, as in "*:X-Frame-Options=DENY".',
)
@click.option(
    "--access-log",
    metavar="FILE|-|off",
    help="Log requests to a file, or to standard output (-). Default: standard error when it is a terminal, else off.",
)
@click.option("--log-format", metavar="FORMAT", help="common, combined or json. Default: common.")
@click.option(
    "--dotfiles",
    metavar="allow|deny",
    help="Whether names that begin with a dot are served. Default: deny; /.well-known/ is served in either case.",
)
@click.option(
    "--user", metavar="NAME", help="Run workers as this user (only root can). Default: nobody when started by root."
)
@click.option(
    "--grace",
    type=float,
    metavar="SECONDS",
    help="How long a stop waits for answers that are under way. Default: 30.",
)
@click.option(
    "--kernel",
    metavar="auto|on|off",
    help="Answer repeated requests inside Linux: where it is possible (auto), or refuse to start without it (on). "
    "Default: auto, which attaches to lo and veth interfaces only.",
)
@click.option(
    "--kernel-interface",
    multiple=True,
    metavar="IF",
    help="Attach to this interface; can be given several times. Default: those that carry the addresses.",
)
@click.option(
    "--ready-fd",
    type=click.IntRange(min=0),
    metavar="N",
    help="Write the URLs, one a line, to this file descriptor when they are served, and close it: for scripts.",
)
def serve(*, ready_fd: int | None, **options: Any) -> int:
    """Serve the folder PATH over HTTP; and, when they are given, modules, an application and a server behind.

    With {host} in PATH, as in '/srv/www/{host}', each host name has a folder of its own.

    PATH is the current folder when none of --module, --app, --forward, --cgi and --config is given.

    For each address, a line on standard error tells when connections are accepted:
    "tux: ready on http://127.0.0.1:8080".

    SIGTERM and SIGINT stop it: no new connections, what is under way is finished within the grace; a second SIGINT ends
    it at once. SIGHUP reads the configuration again, and serves by it once all of it works. SIGUSR1 opens the access
    log anew.
    """
    from tux.config.options import from_options

    read = functools.partial(from_options, **options)
    config = read()

    from tux.daemon.supervisor import run

    own = [options["config"]] if options["config"] else []
    return run(config, ready_fd, own=own, reread=read)
