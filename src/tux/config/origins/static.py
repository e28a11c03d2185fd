"""Origin `static`: files below a folder, and what gets the requests for which there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal, cast

from msgspec import field

from tux.config import hosts, media, pages
from tux.config import site as sites
from tux.config.doc import Doc
from tux.config.origins.base import Origin, Place
from tux.config.origins.chain import chain_of, check_tries
from tux.config.site import Site
from tux.errors import Problem
from tux.http.head import is_value
from tux.planner import presets
from tux.planner.rules import (
    ErrorPage,
    ErrorRules,
    GlobRule,
    HeaderRule,
    MediaRules,
    NotFoundRule,
    Rule,
    StaticRule,
    check_field,
    is_general,
)


class Route(sites.Route, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files, modules, an application, a forwarded server, or several of them. What is not set here is taken from the
    site."""

    origin: Annotated[Literal["static"], Doc("Names this origin; may be left out.")] = "static"
    root: Annotated[
        str | None,
        Doc(
            """A folder of its own, in which what follows `path` is looked up: with `path = "/docs"` and
            `root = "/srv/manual"`, `/docs/a.html` is `/srv/manual/a.html`. Not set: the whole request path is looked up
            below the site's root. `{host}` as for a site.""",
            min_length=1,
        ),
    ] = None
    module: Annotated[
        str | None,
        Doc(
            """As for a site. A route that names any of `root`, `module`, `app` and `forward` tries these and nothing
            else; one that names none of them tries what the site does.""",
            min_length=1,
        ),
    ] = None
    app: Annotated[str | None, Doc("As for a site.", min_length=1)] = None
    forward: Annotated[str | None, Doc("As for a site.", min_length=1)] = None
    tries: Annotated[
        tuple[sites.StepName, ...],
        Doc(
            """As for a site. A route that names none of `root`, `module`, `app` and `forward` can choose among those of
            the site, in an order of its own: `try = ["app"]` passes over the files."""
        ),
    ] = field(default=(), name="try")
    internal: Annotated[
        bool,
        Doc(
            """Not for clients: the files are sent only when an application or a forwarded server answers with
            `X-Accel-Redirect: PATH`, for those it lets have them."""
        ),
    ] = False
    index: Annotated[tuple[str, ...] | None, Doc("In place of the site's.")] = None
    listing: Annotated[bool | None, Doc("In place of the site's.")] = None
    spa: Annotated[
        str | None, Doc("For files of the route's `root`. Empty: none. Not set: the site's, for files of the site's.")
    ] = None
    clean_urls: Annotated[bool | None, Doc("In place of the site's.")] = None
    trailing_slash: Annotated[sites.TrailingSlash | None, Doc("In place of the site's.")] = None
    precompressed: Annotated[bool | None, Doc("In place of the site's.")] = None
    compress: Annotated[bool | None, Doc("In place of the site's.")] = None
    dotfiles: Annotated[sites.Dotfiles | None, Doc("In place of the site's.")] = None
    cache_control: Annotated[
        sites.CacheControl,
        Doc("Counts before the site's: a string for all files of the route, or a table from globs to values."),
    ] = field(default_factory=dict)
    headers: Annotated[
        sites.Headers,
        Doc("Beside the site's. A field that the route names, for whatever glob, is not taken from the site."),
    ] = field(default_factory=dict)
    types: Annotated[dict[str, str], Doc("Counts before the site's.")] = field(default_factory=dict)
    charset: Annotated[sites.Charset, Doc("Counts before the site's.")] = field(default_factory=dict)
    download: Annotated[tuple[str, ...] | None, Doc("In place of the site's.")] = None
    immutable: Annotated[bool | None, Doc("In place of the site's.")] = None
    cors: Annotated[bool | None, Doc("In place of the site's.")] = None
    security_headers: Annotated[bool | None, Doc("In place of the site's.")] = None
    error_page: Annotated[
        dict[str, str], Doc("Counts before the site's: files below the route's `root`, or the site's when it has none.")
    ] = field(default_factory=dict)


MAX_INDEX_NAMES = 16
"""Each is looked for, with its side files, at every new request for a folder, and again at every check."""


def check_shared(settings: Site | Route, place: Place) -> Iterator[Problem]:
    """What is wrong with the values that sites and static routes have in common."""
    index = settings.index or ()
    if len(index) > MAX_INDEX_NAMES:
        yield Problem((*place, "index"), f"expected at most {MAX_INDEX_NAMES} names, got {len(index)}")
    for i, name in enumerate(index):
        if name in ("", ".", "..") or "/" in name:
            yield Problem((*place, "index", i), "expected a file name without /")
    for glob, value in _globs(settings.cache_control).items():
        whole = isinstance(settings.cache_control, str)
        inner: Place = (*place, "cache_control") if whole else (*place, "cache_control", glob)
        if not glob.strip("/"):
            yield Problem(inner, "the glob is empty")
        if not value or not is_value(value):
            yield Problem(inner, "not a valid field value: no control characters, only Latin-1, no outer space")
    yield from media.problems(settings, place)
    yield from _header_problems(settings.headers, place)


def _header_problems(headers: sites.Headers, place: Place) -> Iterator[Problem]:
    for key, entry in headers.items():
        if isinstance(entry, dict) and not key.strip("/"):
            yield Problem((*place, "headers", key), "the glob is empty")
        for name, value in entry.items() if isinstance(entry, dict) else ((key, entry),):
            inner = (*place, "headers", key, name) if isinstance(entry, dict) else (*place, "headers", key)
            if "*" in name:
                yield Problem(inner, f'expected a table for a glob: "{name}" = {{ Name = "value" }}')
                continue
            if name.lower() == "cache-control":
                yield Problem(inner, "use the key cache_control")
                continue
            try:
                check_field(name, value)
            except ValueError as error:
                yield Problem(inner, str(error))


def _check(site: Site, route: sites.Route, place: Place) -> Iterator[Problem]:
    route = cast(Route, route)
    steps = chain_of(site, route).steps
    if not steps:
        yield Problem(place, '"root", "module", "app" or "forward" is missing, and the site has none')
    elif "static" not in steps:
        for key in (
            "index",
            "listing",
            "spa",
            "clean_urls",
            "types",
            "charset",
            "download",
            "trailing_slash",
            "immutable",
            "cors",
            "security_headers",
            "precompressed",
            "compress",
            "dotfiles",
            "cache_control",
            "headers",
        ):
            if getattr(route, key) not in (None, {}):
                yield Problem((*place, key), "is about files, but this route has none: it has no root")
        if route.internal:
            yield Problem((*place, "internal"), "is about files, but this route has none: it has no root")
    yield from check_tries(route, place, site)
    yield from pages.spa_problems(route.spa, steps, site, place)
    yield from pages.problems(route.error_page, route.root or site.root, place)
    yield from check_shared(route, place)
    yield from hosts.problems(route.root, place)


def _compile(site: Site, route: sites.Route, root_index: Callable[[str], int]) -> Rule:
    route = cast(Route, route)
    steps, source = chain_of(site, route)
    headers = header_rules(route.headers)
    own = {rule.name.lower() for rule in headers}
    headers += tuple(rule for rule in header_rules(site.headers) if rule.name.lower() not in own)
    cors = site.cors if route.cors is None else route.cors
    secure = site.security_headers if route.security_headers is None else route.security_headers
    headers = _with_presets(headers, cors=cors, secure=secure)
    error_pages = pages.compiled(route.error_page, route.root or site.root, site, root_index)
    error_pages += pages.of_site(site, root_index)
    media_rules = media.compiled(route, site)
    errors = _errors(error_pages, headers, media_rules)
    if "static" not in steps or source.root is None:
        return NotFoundRule(errors=errors)
    root = hosts.compiled(source.root, site, root_index)
    index = site.index if route.index is None else route.index
    spa = site.spa if route.spa is None and route.root is None else route.spa
    return StaticRule(
        root=root.number,
        hosts=root.hosts,
        mount=b"" if route.root is None else route.path.encode().rstrip(b"/"),
        index=tuple(name.encode("utf-8", "surrogateescape") for name in index),
        dotfiles=(route.dotfiles or site.dotfiles) == "allow",
        listing=site.listing if route.listing is None else route.listing,
        immutable=site.immutable if route.immutable is None else route.immutable,
        cors=cors,
        spa=(spa or "").strip("/").encode("utf-8", "surrogateescape") if steps[-1] == "static" else b"",
        clean_urls=site.clean_urls if route.clean_urls is None else route.clean_urls,
        trailing_slash=route.trailing_slash or site.trailing_slash,
        favicon=site.favicon,
        robots=site.robots or "",
        precompressed=site.precompressed if route.precompressed is None else route.precompressed,
        compress=site.compress if route.compress is None else route.compress,
        cache_control=_cache_rules(route.cache_control) + _cache_rules(site.cache_control),
        headers=headers,
        media=media_rules,
        download=site.download if route.download is None else route.download,
        internal=route.internal,
        falls_through=steps[-1] != "static" or bool(site.tux.cgi),
        redirected=_extensions(site.tux.redirect + site.tux.cgi),
        programs=_extensions(site.tux.cgi),
        mode_allowed=site.tux.mode_allowed,
        mode_forbidden=site.tux.mode_forbidden,
        refused_next=site.tux.refused_next and steps[-1] != "static",
        errors=errors,
    )


def _extensions(names: tuple[str, ...]) -> frozenset[bytes]:
    return frozenset(name.lower().encode("utf-8", "surrogateescape") for name in names)


def errors_of(site: Site, root_index: Callable[[str], int]) -> ErrorRules:
    """The errors of what has no pages but the site's."""
    found = pages.of_site(site, root_index)
    headers = _with_presets(header_rules(site.headers), cors=site.cors, secure=site.security_headers)
    return _errors(found, headers, media.compiled(site))


def _errors(pages: tuple[ErrorPage, ...], headers: tuple[HeaderRule, ...], media: MediaRules) -> ErrorRules:
    """The rules, without those that say nothing where there are no pages: equal ones are kept once."""
    if pages:
        return ErrorRules(pages, headers, media)
    return ErrorRules(headers=tuple(rule for rule in headers if is_general(rule)))


def _with_presets(headers: tuple[HeaderRule, ...], *, cors: bool, secure: bool) -> tuple[HeaderRule, ...]:
    """With the fields of presets that no rule names, for whatever glob."""
    own = {rule.name.lower() for rule in headers}
    usual = (*(presets.CORS if cors else ()), *(presets.SECURITY if secure else ()))
    return tuple(rule for rule in usual if rule.name.lower() not in own) + headers


def _globs(cache: sites.CacheControl) -> dict[str, str]:
    return {"*": cache} if isinstance(cache, str) else cache


def _cache_rules(cache: sites.CacheControl) -> tuple[GlobRule, ...]:
    return tuple(GlobRule(glob, value) for glob, value in _globs(cache).items())


def header_rules(headers: sites.Headers) -> tuple[HeaderRule, ...]:
    """Those for all files first, whatever the order in the file: TOML tables must be written after plain keys, too."""
    everywhere = [HeaderRule("*", name, value) for name, value in headers.items() if isinstance(value, str)]
    for glob, fields in headers.items():
        if isinstance(fields, dict):
            everywhere += [HeaderRule(glob, name, value) for name, value in fields.items()]
    return tuple(everywhere)


ORIGIN = Origin(name="static", key=None, route=Route, check=_check, paths=("root",), compile=_compile)
