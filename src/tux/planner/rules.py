"""What a route of the configuration is compiled to. Frozen: a reload builds new rules, none is changed in place."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from tux.http.head import is_token, is_value
from tux.planner.globs import NO_FILE, compile_glob, is_extension

RESERVED_FIELDS = frozenset(
    (
        "accept-ranges",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "date",
        "etag",
        "keep-alive",
        "last-modified",
        "location",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
    )
)
"""Fields that a header rule may not set: they follow from the answer itself, or have a rule of their own."""


FIELDS_OF_FILES = frozenset(
    (
        "content-digest",
        "content-disposition",
        "content-language",
        "content-location",
        "content-md5",
        "digest",
        "expires",
        "repr-digest",
        "surrogate-control",
        "surrogate-key",
    )
)
"""Fields that are not sent without the file that they are about."""


class GlobRule(msgspec.Struct, frozen=True):
    """A value for the files that match `glob`. Of several rules about one thing the first that matches counts."""

    glob: str
    value: str


class HeaderRule(msgspec.Struct, frozen=True):
    """One field more for the files that match `glob`. All rules that match a file count, in their order; a field that
    Tux sends anyway (Content-Type, Server, X-Content-Type-Options) is replaced."""

    glob: str
    name: str
    value: str


class MediaRules(msgspec.Struct, frozen=True):
    """What Content-Type says, where it is not what `tux.http.media` does."""

    types: tuple[GlobRule, ...] = ()
    """Media types. A glob like `.log` is about an extension (`is_extension`)."""
    charsets: tuple[GlobRule, ...] = ()
    """Of types of text; "": none is said."""


AS_KNOWN = MediaRules()


class HostRule(msgspec.Struct, frozen=True):
    """The folder of a host, below a root (`tux.planner.hosts`)."""

    template: str
    """Its path: "{host}" is the name, "{host:2}" are the first two characters of it."""
    strip: tuple[str, ...] = ()
    """Taken off the name, in this order: a beginning ("www."), an end (".example.org"), as many labels (".*")."""
    default: str = ""
    """The name that stands for those that have no folder; "": none does."""


class ErrorPage(msgspec.Struct, frozen=True):
    """The file that is the body of answers with a status."""

    status: int
    root: int
    """Index of the root in `tux._engine.Roots`."""
    path: bytes
    """Below that root, or below the folder of the host in it."""
    hosts: HostRule | None = None


class ErrorRules(msgspec.Struct, frozen=True):
    """How errors are answered. Of several pages for one status the first counts."""

    pages: tuple[ErrorPage, ...] = ()
    headers: tuple[HeaderRule, ...] = ()
    """Those that count for the files of pages, too."""
    media: MediaRules = AS_KNOWN


class StaticRule(msgspec.Struct, frozen=True, kw_only=True):
    """A route that is answered with files below a root."""

    root: int
    """Index of the root in `tux._engine.Roots`."""
    hosts: HostRule | None = None
    """The files are in a folder of the host, below the root."""
    mount: bytes = b""
    """Decoded path that is taken off before the lookup below the root: b"/docs" (no slash at the end), or b""."""
    index: tuple[bytes, ...] = (b"index.html",)
    """Names tried in a folder, in this order; none: folders are not answered."""
    dotfiles: bool = False
    """Serve paths with a segment that begins with "."; without it only those below /.well-known/."""
    precompressed: bool = True
    """Serve NAME.br, NAME.zst and NAME.gz in place of NAME to clients that accept them."""
    listing: bool = False
    """Say what is in a folder without an index."""
    compress: bool = False
    """Compress what compresses, when there is no side file."""
    immutable: bool = False
    """Files with a hash in their name never change."""
    cors: bool = False
    """Preflight requests are answered, too; the field of files is among `headers`."""
    spa: bytes = b""
    """The file below the root that stands for pages that are not there; b"": none does."""
    clean_urls: bool = False
    """NAME.html is also at NAME."""
    trailing_slash: Literal["folders", "always", "never"] = "folders"
    """Where the index of a folder NAME, and the page NAME.html, are: at NAME/ and NAME, both at NAME/, both at NAME."""
    favicon: bool = False
    """There is an empty answer where there is no /favicon.ico."""
    robots: Literal["", "allow", "deny"] = ""
    """What is said where there is no /robots.txt; "": nothing."""
    cache_control: tuple[GlobRule, ...] = ()
    """Values of Cache-Control."""
    headers: tuple[HeaderRule, ...] = ()
    media: MediaRules = AS_KNOWN
    download: tuple[str, ...] = ()
    """Files that match one of these globs are to be saved, not shown."""
    internal: bool = False
    """Not for clients: only for what backends answer with X-Accel-Redirect."""
    falls_through: bool = False
    """Something else is tried for what is not there: the plan is then `TUX_PLAN_NEXT` and not 404."""
    redirected: frozenset[bytes] = frozenset()
    """Extensions, in lower case, of files that are as if they were not there."""
    programs: frozenset[bytes] = frozenset()
    """Those of them that the process of `[cgi]`, which is tried next, runs."""
    mode_allowed: int = 0
    """Files need one of these bits; 0: none."""
    mode_forbidden: int = 0
    """Files with one of these are refused."""
    refused_next: bool = False
    """Something else is tried for what is refused, too."""
    errors: ErrorRules = ErrorRules()

    @property
    def globs(self) -> tuple[str, ...]:
        """All by which the answer for a file depends on more of its name than the extension."""
        types = [rule for rule in self.media.types if not is_extension(rule.glob)]
        rules = (*types, *self.cache_control, *self.media.charsets)
        return (*(rule.glob for rule in rules), *(rule.glob for rule in self.headers), *self.download)


class NotFoundRule(msgspec.Struct, frozen=True, kw_only=True):
    """A route without files: what reaches the planner is answered with 404."""

    errors: ErrorRules = ErrorRules()


class CgiRule(msgspec.Struct, frozen=True, kw_only=True):
    """A route whose requests are answered by programs below a root. What reaches the planner is answered with 404."""

    root: int
    """Index of the root in `tux._engine.Roots`. Files in it are never sent, by whatever route."""
    mount: bytes
    """Decoded path that is taken off before the lookup below the root; no slash at the end."""
    document_root: int
    """Index of the root of the site, which PATH_INFO is translated by; -1: it has none."""
    hosts: HostRule | None = None
    """The site's files are in a folder of the host, below that root."""
    errors: ErrorRules = ErrorRules()


class RedirectRule(msgspec.Struct, frozen=True, kw_only=True):
    """A route that leads elsewhere. `target` and `match`: see `tux.planner.template`."""

    prefix: bytes
    """Decoded path of the route."""
    target: str
    match: str = "**"
    status: int = 301
    otherwise: int = -1
    """The rule for what does not match; -1: there is none, and it is 404."""
    errors: ErrorRules = ErrorRules()


class RewriteRule(msgspec.Struct, frozen=True, kw_only=True):
    """A route whose paths stand for others of the same site, which have files."""

    prefix: bytes
    """Decoded path of the route."""
    target: str
    match: str = "**"
    otherwise: int = -1
    """As for a redirect."""
    errors: ErrorRules = ErrorRules()


class DenyRule(msgspec.Struct, frozen=True, kw_only=True):
    """A route that is always refused with 403."""

    errors: ErrorRules = ErrorRules()


Rule: TypeAlias = StaticRule | NotFoundRule | CgiRule | DenyRule | RedirectRule | RewriteRule


class Table(Protocol):
    """The compiled routes (`tux._engine.RouteTable`)."""

    def match(self, host: str, path: bytes, /) -> int: ...


class Routes(NamedTuple):
    """The routes of the server: the process finds the one that the engine has found."""

    table: Table
    rules: tuple[Rule, ...]
    """By the numbers that `table` gives."""
    roots: tuple[bytes, ...]
    """Folders, by the numbers that rules name."""
    shared: frozenset[int] = frozenset()
    """Rules beside which their route tries something else: an application, a forwarded server."""


def check_field(name: str, value: str) -> None:
    """ValueError when a header rule may not send this field: a text for the user, without the place."""
    if not is_token(name):
        raise ValueError(f"{name!r} is not a field name")
    if name.lower() in RESERVED_FIELDS:
        raise ValueError(f"{name} cannot be set by a rule")
    if not is_value(value):
        raise ValueError(f"the value of {name} has a character that fields cannot carry")


def is_general(rule: HeaderRule) -> bool:
    """Whether a header rule is about answers without a file, too: small pages of errors, redirects. Those for all files
    are, unless they say something of the file, or to caches, which are not to keep a mistake."""
    name = rule.name.lower()
    return (
        name not in FIELDS_OF_FILES
        and not name.endswith("cache-control")
        and compile_glob(rule.glob).fullmatch(NO_FILE) is not None
    )
