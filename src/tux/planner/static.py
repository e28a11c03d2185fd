"""Plans for static files: what GET and HEAD of a path below a root are answered with.

The rules that are Tux's own choice, where the RFCs leave one:
- A folder is answered by its index file, at the path with a slash; without one, and unless it is listed, it is 404,
  like everything that cannot be served for a reason that is nobody's business: dotfiles, devices, links that leave the
  root, files of Tux itself.
- With clean URLs, what is at "/a.html" is also at "/a", unless there is something of that name, or a folder with an
  index.
- The file that stands for missing pages (`spa`) does not stand for missing files: paths that end in the extension of a
  known media type.
- Side files (.br .zst .gz) are looked for with compressible types only, and then for every request, whatever its
  Accept-Encoding: all variants of one URL say the same in Vary.
- Range is ignored on an empty representation, and with HEAD (RFC 9110 section 14.2 defines it for GET).
"""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from hashlib import blake2b

import msgspec

from tux._engine import (
    DENIED,
    ERROR,
    ESCAPE,
    FILE,
    FOLDER,
    LIMITS,
    NEXT,
    NO_BODY,
    RANGE,
    Found,
    Roots,
    content_tag,
    state_tag,
)
from tux.http import media
from tux.http.coding import SIDE_SUFFIXES, acceptable
from tux.http.conditions import CONDITIONS, Outcome, evaluate, if_range
from tux.http.dates import format_date
from tux.http.disposition import attachment
from tux.http.ranges import Span, content_range, resolve, unsatisfied_range
from tux.http.target import encode_query, encode_segment
from tux.planner.allowance import Allowance
from tux.planner.coder import Coded, Coder
from tux.planner.entries import Entry
from tux.planner.errors import PLAIN, Errors, method_plan
from tux.planner.globs import is_extension
from tux.planner.hosts import Hosts
from tux.planner.listing import Listings
from tux.planner.looks import Looks
from tux.planner.notices import QUIET_S, Notices, logger
from tux.planner.plan import Plan
from tux.planner.presets import CORS_PREFLIGHT
from tux.planner.recipe import Recipes
from tux.planner.rules import StaticRule
from tux.planner.shape import Shape, Shapes
from tux.planner.usual import FAVICON, ROBOTS, ROBOTS_TEXTS, favicon_plan, robots_plan
from tux.planner.view import View

MAX_PATH_BYTES = 4095
"""The longest path that Linux looks up: PATH_MAX less its NUL (path_resolution(7))."""

MAX_MULTIPART_BYTES = 1024 * 1024
"""A body of several parts is built in memory; if it would be larger than this, the whole file is sent instead."""

_MAX_SUFFIX_BYTES = max(map(len, SIDE_SUFFIXES.values()))
_SIDES = tuple((coding, suffix.encode("ascii")) for coding, suffix in SIDE_SUFFIXES.items())


PAGE_SUFFIX = b".html"
"""What a path without it may stand for, when URLs are clean."""

ANY_MODE = -1
"""Every file has one of these bits."""


class StaticPlanner:
    """Plans for one static route. Used by one thread, like its `Roots`."""

    def __init__(
        self,
        rule: StaticRule,
        roots: Roots,
        *,
        own: AbstractSet[tuple[int, int]] = frozenset(),
        notices: Notices | None = None,
        errors: Errors = PLAIN,
        coder: Coder | None = None,
        allowance: Allowance | None = None,
        small_body_bytes: int = LIMITS["small_body_bytes"],
    ) -> None:
        """`own`: (device, inode) of files that belong to Tux itself and are never served. `coder`: None for one of its
        own. `allowance`: for listings. `small_body_bytes`: larger files are sent from a descriptor."""
        self._root = rule.root
        self._mount = rule.mount
        self._index = rule.index
        self._dotfiles = rule.dotfiles
        self._precompressed = rule.precompressed
        self._falls_through = rule.falls_through
        self._internal = rule.internal
        self._redirected = rule.redirected
        self._preflight = CORS_PREFLIGHT if rule.cors else ()
        self._spa = rule.spa
        self._clean_urls = rule.clean_urls
        self._trailing_slash = rule.trailing_slash
        self._favicon = rule.favicon
        self._robots = ROBOTS_TEXTS.get(rule.robots, b"")
        self._mode_allowed = rule.mode_allowed or ANY_MODE
        self._mode_forbidden = rule.mode_forbidden
        self._refused_next = rule.refused_next and rule.falls_through
        self._shapes = Shapes(
            rule.cache_control,
            rule.headers,
            immutable=rule.immutable,
            media=rule.media,
            download=rule.download,
        )
        own_types = {glob.glob[1:].lower().encode() for glob in rule.media.types if is_extension(glob.glob)}
        self._types = media.TABLE.keys() | own_types
        self._roots = roots
        self._listing = None
        if rule.listing:
            self._listing = Listings(rule.mount, roots, self._shapes, self._is_listed, errors, allowance)
        self._own = own
        self._errors = errors
        self._coder = (coder or Coder()) if rule.compress else None
        self._notices = notices if notices is not None else Notices()
        self._limit = small_body_bytes
        self._recipes = Recipes(rule, small_body_bytes=small_body_bytes, guarded=roots.guarded)
        # What is looked up is the path without its slash, with an index name or the suffix of a page behind it, and the
        # suffix of a side file behind that.
        behind = (*rule.index, PAGE_SUFFIX) if rule.clean_urls else rule.index
        self._longest_path = MAX_PATH_BYTES + 1 - max(map(len, behind), default=0) - _MAX_SUFFIX_BYTES
        self._hosts = None if rule.hosts is None else Hosts(rule.hosts)
        if self._hosts is not None:
            self._longest_path -= self._hosts.longest
        self._secret = os.urandom(16)  # so that no file can contain the boundary of its own multipart answer

    def plan(
        self, view: View, path: bytes, *, inside: bool = False, asked: bytes | None = None, example: bool = False
    ) -> Plan:
        """The answer to a request for `path`, the decoded and normalised path of its target. inside: it is a backend
        that wants the file to be sent. asked: the path of the request, when `path` is what it stands for. example: the
        path leads straight to this route, so that the answer may say what other files' are (`tux.planner.recipe`)."""
        view.publish = True  # which statuses the kernel tier takes, the engine knows
        if self._internal and not inside:
            return self._absent(view)
        if view.expect_other:
            return self._errors.plan(view, 417)
        if view.method not in ("GET", "HEAD") and not (self._falls_through and view.method == "OPTIONS"):
            return method_plan(view, (), self._errors, self._preflight)
        relative = path
        if self._mount:
            relative = path[len(self._mount) :]
            if not path.startswith(self._mount) or relative[:1] not in (b"", b"/"):
                return self._absent(view)  # b"/docsx" is not below b"/docs"
        if len(relative) > self._longest_path:
            return self._absent(view)  # no file can have that name
        if b"/." in relative and not self._dotfiles and is_hidden(relative):
            return self._absent(view)
        looks = Looks(self._roots, self._root, self._limit)
        if self._hosts is not None and not self._hosts.enter(looks, view.host):
            return self._absent(view, tuple(looks.found))
        plan = self._find(view, path if asked is None else asked, relative, looks, example=example)
        if plan is None and self._spa and media.extension(relative) not in self._types:
            plan = self._only_file(view, self._spa, looks)
        if plan is None and not self._falls_through:
            if self._favicon and path == FAVICON:
                return favicon_plan(view, looks.found)
            if self._robots and path == ROBOTS:
                return robots_plan(view, self._robots, looks.found)
        return plan or self._absent(view, tuple(looks.found))

    def _find(self, view: View, path: bytes, relative: bytes, looks: Looks, *, example: bool) -> Plan | None:
        """The answer, when there is something; path: that was asked for. example: see `plan`."""
        if relative.endswith(b"/"):
            return self._find_below(view, path, relative, looks)
        found = looks.load(relative[1:])
        if found.kind == FILE:
            plan = self._file(view, found, looks)
            if plan is None or not example:
                return plan
            recipe = self._recipes.of(view, found.path, plan, self._shapes.of(found.path))
            return plan if recipe is None else msgspec.structs.replace(plan, recipe=recipe)
        if found.kind != FOLDER:
            plan = self._refusal(view, found, looks)
            return plan or self._page(view, path, relative, looks)
        has_index: bool | None = None  # not known
        if relative and (self._clean_urls or self._trailing_slash == "never"):
            has_index = self._has_index(relative[1:] + b"/", looks)
            if has_index and self._trailing_slash == "never":
                return self._folder(view, path, relative[1:] + b"/", looks)
            plan = None if has_index else self._page(view, path, relative, looks)
            if plan is not None:
                return plan
        if self._falls_through and not self._listing:
            if has_index is None:
                has_index = self._has_index(relative[1:] + b"/", looks)
            if not has_index:
                return None
        return self._redirect(view, b"", path.rpartition(b"/")[2], b"/", looks.found)

    def _find_below(self, view: View, path: bytes, relative: bytes, looks: Looks) -> Plan | None:
        """As `_find`, for a path that ends in a slash: a folder, or what would be there without that."""
        below = len(relative) > 1  # the root itself has no name
        name = path[:-1].rpartition(b"/")[2]
        if below and self._trailing_slash != "folders":
            has_index = self._has_index(relative[1:], looks)
            if has_index and self._trailing_slash == "never":
                return self._redirect(view, _up(view), name, b"", looks.found)
            if not has_index and self._trailing_slash == "always" and self._clean_urls:
                plan = self._only_file(view, relative[1:-1] + PAGE_SUFFIX, looks)
                if plan is not None:
                    return plan
        plan = self._folder(view, path, relative[1:], looks)
        if plan is None and below and self._clean_urls and self._has_page(relative[1:-1], looks):
            return self._redirect(view, _up(view), name, b"", looks.found)
        return plan

    def _redirect(self, view: View, before: bytes, segment: bytes, after: bytes, checks: list[Found]) -> Plan:
        """301 to a segment, with these around it, by a relative reference: it depends on neither scheme nor host, and
        cannot lead to another host, as "//host/" would (its first segment is not empty)."""
        location = before.decode("ascii") + encode_segment(segment) + after.decode("ascii")
        query = view.query
        if query is not None:
            location += "?" + encode_query(query)
        return self._errors.plan(view, 301, ("Location", location), checks=checks)

    def _page(self, view: View, path: bytes, relative: bytes, looks: Looks) -> Plan | None:
        """What is said at a clean URL without a slash: the page, or that it is at the one with a slash."""
        if not self._clean_urls or not relative:
            return None
        if self._trailing_slash != "always":
            return self._only_file(view, relative[1:] + PAGE_SUFFIX, looks)
        if not self._has_page(relative[1:], looks):
            return None
        return self._redirect(view, b"", path.rpartition(b"/")[2], b"/", looks.found)

    def _only_file(self, view: View, name: bytes, looks: Looks) -> Plan | None:
        """The answer for the file of this name, which stands for what was asked for."""
        found = looks.load(name)
        return self._file(view, found, looks) if found.kind == FILE else self._refusal(view, found, looks)

    def _has_page(self, relative: bytes, looks: Looks) -> bool:
        return looks.look(relative + PAGE_SUFFIX).kind == FILE

    def _folder(self, view: View, path: bytes, folder: bytes, looks: Looks) -> Plan | None:
        """The answer for a folder, below the root: its index, or what is in it."""
        for name in self._index:
            found = looks.load(folder + name)
            if found.kind == FILE:
                return self._file(view, found, looks)
            if found.kind in (DENIED, ESCAPE, ERROR):
                return self._refusal(view, found, looks)
        if self._listing is None:
            return None
        found = looks.open_folder(folder)
        if found.kind != FOLDER or found.hidden:
            return self._refusal(view, found, looks)
        return self._listing.plan(view, path, found, tuple(looks.found))

    # -- what cannot be served ----------------------------------------------------------------------------------

    def _has_index(self, folder: bytes, looks: Looks) -> bool:
        return any(looks.look(folder + name).kind == FILE for name in self._index)

    def _absent(self, view: View, checks: tuple[Found, ...] = ()) -> Plan:
        """There is nothing here: 404, or the next origin's turn."""
        if not self._falls_through:
            return self._errors.plan(view, 404, checks=checks)
        view.publish = False  # the kernel tier knows of no other origins
        return PLAIN.plan(view, 404, checks=checks, more_flags=NEXT)

    def _refusal(self, view: View, found: Found, looks: Looks) -> Plan | None:
        """What is said about something that is no file: None, when that is nothing."""
        if found.kind == DENIED:
            return self._refused(view, looks)
        if found.kind == ERROR:
            view.forget()
            if self._notices.due(("error", found.error), QUIET_S):
                logger.error("cannot read %a: %s", os.fsdecode(found.path), os.strerror(found.error))
            return self._errors.plan(view, 503)
        if found.kind == ESCAPE:
            self._report_link(found)
        return None

    def _refused(self, view: View, looks: Looks) -> Plan:
        """403, or the next origin's turn."""
        if not self._refused_next:
            return self._errors.plan(view, 403, checks=looks.found)
        view.publish = False
        return PLAIN.plan(view, 403, checks=looks.found, more_flags=NEXT)

    def _is_allowed(self, mode: int) -> bool:
        """Whether a file with these permission bits is served."""
        return bool(mode & self._mode_allowed) and not mode & self._mode_forbidden

    def _is_listed(self, name: bytes, entry: Entry) -> bool:
        """Whether a name in a folder is told to clients: what they would not get is not."""
        if name.startswith(b".") and not self._dotfiles:
            return False
        if entry.folder:
            return True
        if self._redirected and media.extension(name) in self._redirected:
            return False
        return (entry.dev, entry.ino) not in self._own and self._is_allowed(entry.mode)

    def _report_link(self, found: Found) -> None:
        """Name the link that leaves the root, once: the first part of the path that cannot be followed."""
        link, slash, rest = found.path.partition(b"/")
        while slash and self._roots.look(found.root, link).kind != ESCAPE:
            segment, slash, rest = rest.partition(b"/")
            link += b"/" + segment
        if self._notices.due(("link", found.root, link)):
            logger.warning(
                "not served: %a is a symbolic link that is absolute, leads out of its root, or loops", os.fsdecode(link)
            )

    # -- what can -----------------------------------------------------------------------------------------------

    def _file(self, view: View, found: Found, looks: Looks) -> Plan | None:
        """The answer for an existing file, the last that was looked at. None: it is as if it were not there."""
        if found.hidden or (self._own and (found.dev, found.ino) in self._own):
            return None
        if self._redirected and media.extension(found.path) in self._redirected:
            return None
        if not self._is_allowed(found.mode):
            return self._refused(view, looks)
        if view.method == "OPTIONS":
            return method_plan(view, tuple(looks.found), self._errors, self._preflight)
        shape = self._shapes.of(found.path)
        tag_suffix, more = "", ""
        body: Found | Coded = found
        if shape.compressible and self._precompressed:
            sides = self._side_files(found, looks)
            if sides:
                more = "Vary: Accept-Encoding\r\n"
                for coding in acceptable(view.field("accept-encoding")):
                    if coding not in sides:
                        continue
                    side = looks.load_again(sides[coding])
                    if side.kind == ERROR:
                        return self._refusal(view, side, looks)
                    if side.kind == FILE and not side.hidden and side.mtime_ns >= found.mtime_ns:
                        body, tag_suffix = side, SIDE_SUFFIXES[coding]
                        more += f"Content-Encoding: {coding}\r\n"
                        break
        if body is found and shape.compressible and self._coder is not None and self._coder.takes(found):
            more = "Vary: Accept-Encoding\r\n"  # for whatever client
            coded = self._coder.code(view, found, acceptable(view.field("accept-encoding")))
            if coded is not None:
                more += f"Content-Encoding: {coded[0]}\r\n"
                body = coded[1]
        if shape.attached:
            more += f"Content-Disposition: {attachment(found.path.rpartition(b'/')[2])}\r\n"
        return self._representation(view, body, looks.found, shape, more, tag_suffix)

    def _representation(
        self, view: View, found: Found | Coded, checks: list[Found], shape: Shape, more: str, tag_suffix: str
    ) -> Plan:
        """The answer with these bytes. more: fields that say how they were chosen and coded (Vary first), and what is
        to be done with them."""
        data, size = found.data, found.size
        if data is not None:
            tag = content_tag(data)
        else:
            tag = state_tag(size, found.mtime_ns)
        etag = f'"{tag}{tag_suffix}"'
        modified = max(found.mtime_ns // 1_000_000_000, 0)
        if not view.settled(found.mtime_ns):
            modified = min(modified, view.now())  # RFC 9110 section 8.8.2.1: never later than the Date beside it

        if view.has_any(CONDITIONS):
            outcome = evaluate(view.method, view.field, etag, modified, view.now)
            if outcome is Outcome.NOT_MODIFIED:
                vary = "Vary: Accept-Encoding\r\n" if more.startswith("Vary:") else ""
                head = shape.not_modified + f"{vary}ETag: {etag}\r\n".encode("ascii")
                return Plan(status=304, head=head, flags=view.flags(NO_BODY), ttl_ms=view.ttl_ms, checks=tuple(checks))
            if outcome is Outcome.FAILED:
                return self._errors.plan(view, 412, ("ETag", etag), checks=tuple(checks))

        more += f"ETag: {etag}\r\nLast-Modified: {format_date(modified)}\r\n"
        flags = 0
        if view.method == "HEAD":
            data, flags = b"", NO_BODY  # and no descriptor
        elif size and view.has_range:
            condition = view.field("if-range")
            if condition is None or if_range(condition, etag, modified, lambda: view.settled(found.mtime_ns), view.now):
                partial = self._partial(view, found, checks, shape.partial, shape.content_type, more)
                if partial is not None:
                    return partial
        return Plan(
            status=200,
            head=shape.ok + f"{more}Content-Length: {size}\r\n".encode("ascii"),
            body=data or b"",
            file=found if data is None and isinstance(found, Found) else None,
            length=size if data is None else 0,
            flags=view.flags(flags),
            ttl_ms=view.ttl_ms,
            checks=tuple(checks),
        )

    def _may_stand(self, side: Found) -> bool:
        return (side.dev, side.ino) not in self._own and self._is_allowed(side.mode)

    def _side_files(self, original: Found, looks: Looks) -> dict[str, int]:
        """The side files that may stand for the original: coding -> number of the look at it."""
        sides: dict[str, int] = {}
        path = original.path[len(looks.below) :]
        for coding, suffix in _SIDES:
            side = looks.look(path + suffix)
            if side.kind == ESCAPE:
                self._report_link(side)
            elif side.kind == FILE and side.mtime_ns >= original.mtime_ns and self._may_stand(side):
                sides[coding] = len(looks.found) - 1
        return sides

    # -- ranges -------------------------------------------------------------------------------------------------

    def _partial(
        self, view: View, found: Found | Coded, checks: list[Found], prefix: bytes, content_type: str, more: str
    ) -> Plan | None:
        """206 or 416; None: the whole representation is to be sent."""
        size, data = found.size, found.data
        spans = resolve(view.field("range") or "", size)
        if spans is None:
            return None
        if not spans:
            return self._errors.plan(view, 416, ("Content-Range", unsatisfied_range(size)), checks=tuple(checks))
        if len(spans) > 1:
            return self._multipart(view, found, checks, prefix, content_type, more, spans)
        start, length = spans[0]
        head = f"Content-Type: {content_type}\r\n{more}"
        flags = RANGE
        if view.plain_range:  # the engine adds what depends on the numbers, to this request and to others like it
            start, length = 0, size
        else:
            head += f"Content-Range: {content_range(spans[0], size)}\r\nContent-Length: {length}\r\n"
            flags = 0
        return Plan(
            status=206,
            head=prefix + head.encode("latin-1"),
            body=data[start : start + length] if data is not None else b"",
            file=found if data is None and isinstance(found, Found) else None,
            offset=start if data is None else 0,
            length=length if data is None else 0,
            flags=view.flags(flags),
            ttl_ms=view.ttl_ms,
            checks=tuple(checks),
        )

    def _multipart(
        self,
        view: View,
        found: Found | Coded,
        checks: list[Found],
        prefix: bytes,
        content_type: str,
        more: str,
        spans: list[Span],
    ) -> Plan | None:
        """multipart/byteranges (RFC 9110 section 14.6), built in memory; None when that would be too much."""
        if sum(length for _, length in spans) > MAX_MULTIPART_BYTES:
            return None
        boundary = blake2b(f"{more}{spans}".encode("latin-1"), digest_size=15, key=self._secret).hexdigest()
        pieces: list[bytes] = []
        for span in spans:
            part = _read(found, span)
            if part is None:
                return None
            range_line = f"Content-Range: {content_range(span, found.size)}\r\n\r\n"
            pieces.append(f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\n{range_line}".encode("latin-1"))
            pieces.append(part)
        if found.data is None and _changed(found):
            return None  # the engine notices, too, and ends the connection
        pieces.append(f"\r\n--{boundary}--\r\n".encode("latin-1"))
        body = b"".join(pieces)
        if len(body) > self._limit:
            view.forget()  # the memo holds small bodies only
        head = f"Content-Type: multipart/byteranges; boundary={boundary}\r\n{more}Content-Length: {len(body)}\r\n"
        return Plan(
            status=206,
            head=prefix + head.encode("latin-1"),
            body=body,
            flags=view.flags(),
            ttl_ms=view.ttl_ms,
            checks=tuple(checks),
        )


def is_hidden(path: bytes) -> bool:
    """Whether a segment of the path begins with a dot, but for a first one that is ".well-known" (RFC 8615)."""
    if path.startswith(b"/.well-known/") or path == b"/.well-known":
        path = path[len(b"/.well-known") :]
    return b"/." in path


def _up(view: View) -> bytes:
    """The reference that leads out of the folder of a path, whatever number of slashes it ends in."""
    return b"../" * (len(view.path) - len(view.path.rstrip("/")))


def _read(found: Found | Coded, span: Span) -> bytes | None:
    """The bytes of a part; None when the file has become shorter."""
    start, length = span
    if found.data is not None:
        return found.data[start : start + length]
    part = os.pread(found.fd, length, start)
    return part if len(part) == length else None


def _changed(found: Found | Coded) -> bool:
    """Whether the open file is not any more what it was when it was found."""
    now = os.fstat(found.fd)
    return now.st_size != found.size or now.st_mtime_ns != found.mtime_ns
