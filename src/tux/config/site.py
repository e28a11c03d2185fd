"""`[[site]]`: what is served for which host names, and what all routes have in common."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Struct, field

from tux.config.doc import Doc
from tux.config.policy import Policy

Dotfiles: TypeAlias = Literal["allow", "deny"]
TrailingSlash: TypeAlias = Literal["folders", "always", "never"]
Robots: TypeAlias = Literal["allow", "deny"]
StepName: TypeAlias = Literal["static", "module", "app", "forward"]
"""What can be tried for a request, see `Site.tries`."""

TRY_ORDER: tuple[StepName, ...] = ("static", "module", "app", "forward")
"""The order in which a site tries what it has, unless it says otherwise."""

CacheControl: TypeAlias = str | dict[str, str]
"""One value for everything, or glob -> value."""

Charset: TypeAlias = str | dict[str, str]
"""One for everything, or glob -> charset."""

Headers: TypeAlias = dict[str, str | dict[str, str]]
"""Name -> value for everything, and glob -> {name -> value}."""


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What answers the requests whose path begins with `path`; the longest `path` wins. The origin of a route is named
    by `origin`, or by the key that belongs to that origin alone (`deny = true`); without either it is static."""

    # Each origin (tux.config.origins) derives its own struct from this one.
    path: Annotated[
        str,
        Doc(
            """Prefix of the request path, decoded (`/my files`, not `/my%20files`). `/a` covers `/a` and `/a/b` but not
            `/ab`; `/a/` covers only what is below it."""
        ),
    ]


class Site(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answers for a set of host names."""

    hosts: Annotated[
        tuple[str, ...],
        Doc(
            """Names of this site, without a port: `example.org`, or `*.example.org` for every name below it. An exact
            name wins over a wildcard, a longer wildcard over a shorter one. No names: this is the default site, for all
            hosts that no other site names; there can be one."""
        ),
    ] = ()
    root: Annotated[
        str | None,
        Doc(
            """The folder that is served; relative to the folder of the configuration file. May be left out when
            `module`, `app`, `forward` or routes bring all that is needed: what nothing covers is then 404. With
            `{host}` in it, as in `/srv/www/{host}/public`, each host name has a folder of its own; `{host:2}` are the
            first two characters of the name.""",
            min_length=1,
        ),
    ] = None
    host_strip: Annotated[
        tuple[str, ...],
        Doc(
            """What is taken off the name before it stands for `{host}`, in this order: a beginning (`"www."`), an end
            (`".example.org"`), or the last labels, whatever they are (`".*"`, `".*.*"`)."""
        ),
    ] = ()
    host_default: Annotated[
        str,
        Doc(
            """The name that stands for `{host}` when there is no such folder, and for addresses. Empty: the answer is
            404."""
        ),
    ] = ""
    module: Annotated[
        str | None,
        Doc(
            """The modules that get what no file answers, when it is for one of their paths: the NAME of a
            `[module.NAME]`, `FILE.py`, or the name of a module of Python.""",
            min_length=1,
        ),
    ] = None
    app: Annotated[
        str | None,
        Doc(
            """The application that gets what neither a file nor a module answers: the NAME of an `[app.NAME]`, or
            `MODULE:ATTRIBUTE`.""",
            min_length=1,
        ),
    ] = None
    forward: Annotated[
        str | None,
        Doc(
            """The server that gets what nothing else answers: the NAME of an `[upstream.NAME]`,
            `http://HOST:PORT` or `unix:/path`.""",
            min_length=1,
        ),
    ] = None
    tries: Annotated[
        tuple[StepName, ...],
        Doc(
            """The order in which `root` (`"static"`), `module`, `app` and `forward` are tried, when it is not this one.
            The next one gets a request for which there is no file or no module, or which the application answers with
            404. Empty: the usual
            order."""
        ),
    ] = field(default=(), name="try")
    index: Annotated[
        tuple[str, ...],
        Doc("File names tried, in this order, for a request for a folder. Empty: none is, and the answer is 404."),
    ] = ("index.html",)
    listing: Annotated[
        bool,
        Doc(
            """Answer a request for a folder without an index with what is in it: a page, or JSON when `Accept` asks for
            `application/json`."""
        ),
    ] = False
    spa: Annotated[
        str | None,
        Doc(
            """The page of an application in the browser (`"index.html"`, below `root`): the answer, with status 200,
            for pages that are not there. A path that ends in the extension of a known type (`.js`, `.png`) is no page,
            and stays 404. Files must be what is tried last.""",
            min_length=1,
        ),
    ] = None
    clean_urls: Annotated[
        bool,
        Doc(
            """Answer `/a` with `a.html` when there is nothing else at `/a`; `/a/` leads there when there is no such
            folder."""
        ),
    ] = False
    trailing_slash: Annotated[
        TrailingSlash,
        Doc(
            """At which of the two paths a page is; the other one leads there. `folders`: the index of a folder is at
            `/a/`, a page of `clean_urls` at `/a`. `always`: both are at `/a/`. `never`: both are at `/a`. Listings are
            always at `/a/`, files with their extension never."""
        ),
    ] = "folders"
    favicon: Annotated[
        bool,
        Doc(
            """Answer `/favicon.ico`, which browsers ask for by themselves, with 204, for a day, when there is no such
            file. Without, it is 404. Where files are the last that is tried."""
        ),
    ] = False
    robots: Annotated[
        Robots | None,
        Doc(
            """Answer `/robots.txt`, when there is no such file, with one that lets robots have everything (`allow`) or
            nothing (`deny`). Not set: it is 404, which robots take for `allow`."""
        ),
    ] = None
    precompressed: Annotated[
        bool,
        Doc(
            """Send `name.br`, `name.zst` or `name.gz` in place of `name` to clients that accept it, when it is there
            and not older."""
        ),
    ] = True
    compress: Annotated[
        bool,
        Doc(
            """Compress text and other types that compress, of up to 512 KiB, when they are first asked for and there is
            no such copy: gzip, and br and zstd where `pip install "tux-server[compress]"` was done. The result is
            remembered."""
        ),
    ] = False
    dotfiles: Annotated[
        Dotfiles,
        Doc(
            """Whether names that begin with a dot are served. `deny` answers 404; `/.well-known/` is served in either
            case."""
        ),
    ] = "deny"
    cache_control: Annotated[
        CacheControl,
        Doc(
            """Value of `Cache-Control` for files: a string for all of them, or a table from globs to values, of which
            the first that matches counts."""
        ),
    ] = field(default_factory=dict)
    headers: Annotated[
        Headers,
        Doc(
            """Fields added to the answers for files: `Name = "value"` for all of them, or a table from globs to such
            tables. All globs that match a file count. Fields for all files are on redirects and errors of Tux, too,
            unless they are about the file or for caches."""
        ),
    ] = field(default_factory=dict)
    types: Annotated[
        dict[str, str],
        Doc(
            """Media types of files, before those that Tux knows: extension or glob -> type, as in
            `{ ".log" = "text/plain", "feed/*" = "application/rss+xml" }`. The first that matches counts."""
        ),
    ] = field(default_factory=dict)
    charset: Annotated[
        Charset,
        Doc(
            """What the types of text say about their encoding, where `types` does not: a string for all of them, or a
            table from globs to such strings, of which the first that matches counts. `""`: nothing is said."""
        ),
    ] = "utf-8"
    download: Annotated[
        tuple[str, ...],
        Doc(
            """Globs of the files that browsers are to save, under their names, and not to show:
            `Content-Disposition: attachment`."""
        ),
    ] = ()
    immutable: Annotated[
        bool,
        Doc(
            """Files with a hash in their name (`app.3f2a1b9c.js`: eight or more hexadecimal digits) may be kept for a
            year without a question, before all rules of `cache_control`."""
        ),
    ] = False
    cors: Annotated[
        bool,
        Doc("Scripts of all other sites may read the files: `Access-Control-Allow-Origin: *`, and preflight requests."),
    ] = False
    security_headers: Annotated[
        bool,
        Doc(
            """`Content-Security-Policy: frame-ancestors 'self'`, `Referrer-Policy: strict-origin-when-cross-origin` and
            `X-Frame-Options: SAMEORIGIN`, where `headers` has no other value."""
        ),
    ] = False
    error_page: Annotated[
        dict[str, str],
        Doc(
            """Pages for errors: status -> file below `root`, as in `{ 404 = "404.html" }`. The status stays what it is,
            and what `cache_control` says of the file does not count. They are for the errors that Tux itself finds, not
            for those of applications and forwarded servers. What is wrong before the Host is known has the page of the
            default site, or of the only one."""
        ),
    ] = field(default_factory=dict)
    tux: Annotated[Policy, Doc("Which files are served, in the words of the original.")] = Policy()
    route: Annotated[tuple[Route, ...], Doc("Exceptions below path prefixes.")] = ()
