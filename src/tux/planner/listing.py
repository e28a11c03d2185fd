"""Listings of folders, as a page of HTML and as JSON.

The page works without JavaScript, and brings all that it needs: it is sorted by links with a query (?sort=name, size or
date; &order=asc or desc). Folders come first, whatever the order. A listing is remembered for a second: sizes and times
of files change unnoticed by any check of the folder.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from html import escape
from typing import Literal, NamedTuple, cast
from urllib.parse import parse_qsl

from tux._engine import NO_BODY, Found, Roots, content_tag
from tux.http.accept import prefers_json
from tux.http.conditions import Outcome, evaluate
from tux.http.dates import LATEST
from tux.http.head import render_field, render_status
from tux.http.target import encode_segment
from tux.planner.allowance import Allowance, BusyError
from tux.planner.entries import BURST_NS, KEEP_NS, MAX_ENTRIES, Entries, Entry, Folders
from tux.planner.errors import Errors, method_plan
from tux.planner.kept import Kept
from tux.planner.plan import Plan
from tux.planner.shape import Shapes
from tux.planner.view import View

Sort = Literal["name", "size", "date"]
Order = Literal["asc", "desc"]

PAGE_ENTRIES = 500
"""Entries of one page; a body stays under 1.5 MB with the longest names that there can be."""
KEPT_ENTRIES = 16 * MAX_ENTRIES
"""Of lists in some order that are kept: a reference each."""
KEPT_BYTES = 8 * 1024 * 1024
"""Of pages that are kept, for as long as what was read is true."""
ITSELF = 512
"""What an empty one costs, in either unit."""
MAX_QUERY_FIELDS = 16
"""A query with more is ignored: none of ours has more than three."""

INCOMPLETE = "Tux-Listing-Incomplete"
"""The field that tells programs that a folder has more entries than are listed, and how many are looked at."""

_COLUMNS: tuple[tuple[Sort, str], ...] = (("name", "Name"), ("size", "Size"), ("date", "Modified"))
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}"
    "h1{font-size:1.25rem;overflow-wrap:anywhere}"
    "table{width:100%;border-collapse:collapse}"
    "th,td{padding:.4rem .5rem;text-align:right;white-space:nowrap;border-bottom:1px solid #8884}"
    "th:first-child,td:first-child{text-align:left;white-space:normal;overflow-wrap:anywhere;width:99%}"
    "a{text-decoration:none}a:hover,a:focus{text-decoration:underline}"
    "th a,td a{display:block}"
    "nav{margin:1rem 0}nav a{padding:.5rem 0}"
    "@media(max-width:40rem){time span{display:none}th,td{padding:.6rem .25rem}body{padding:.5rem}}"
)
_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy of a page: nothing is loaded or run."""

_UNSHOWN = dict.fromkeys((*range(32), *range(127, 160), 8232, 8233), "�")
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class Wish(NamedTuple):
    """What the query says."""

    sort: Sort = "name"
    order: Order = "asc"
    page: int = 1


class Body(NamedTuple):
    """A listing as it is sent."""

    data: bytes
    etag: str
    more: tuple[tuple[str, str], ...]
    """Fields that go with it."""


class Listings:
    """Plans for the folders of one static route."""

    def __init__(
        self,
        mount: bytes,
        roots: Roots,
        shapes: Shapes,
        is_listed: Callable[[bytes, Entry], bool],
        errors: Errors,
        allowance: Allowance | None = None,
    ) -> None:
        """mount: of the route. is_listed: whether a name in a folder may be told. allowance: of the processor's time;
        None for one of its own."""
        self._mount = mount
        self._shapes = shapes
        self._errors = errors
        self._allowance = allowance or Allowance(BURST_NS)
        self._folders = Folders(roots, is_listed, allowance=self._allowance)
        # Only the query of a request is unbounded: what it asks for is made once, in whatever words.
        self._orders: Kept[tuple[object, ...], list[Entry]] = Kept(KEPT_ENTRIES, lambda chosen: len(chosen) + ITSELF)
        self._bodies: Kept[tuple[object, ...], Body] = Kept(KEPT_BYTES, lambda body: len(body.data) + ITSELF)

    def plan(self, view: View, path: bytes, folder: Found, checks: tuple[Found, ...]) -> Plan:
        """The listing of an open folder at the request's path, which ends in a slash."""
        if view.method == "OPTIONS":
            return method_plan(view, checks)
        try:
            entries = self._folders.read(folder)
            body = self._body(view, path, folder, entries)
        except (OSError, BusyError):
            view.forget()
            return self._errors.plan(view, 503)
        view.expire(max(KEEP_NS - (time.monotonic_ns() - entries.read_ns), 0))
        return self._answer(view, folder, checks, body)

    def _body(self, view: View, path: bytes, folder: Found, entries: Entries) -> Body:
        """What is wished, made or kept. BusyError."""
        wish = parse(view.query)
        pages = max(-(-len(entries.entries) // PAGE_ENTRIES), 1)
        wish = wish._replace(page=min(wish.page, pages))
        is_json = prefers_json(view.field("accept"))
        read = (folder.dev, folder.ino, entries.read_ns)
        key = (read, wish, is_json, b"" if is_json else path)
        body = self._bodies.get(key)
        if body is not None:
            return body
        with self._allowance.work():
            chosen = self._orders.get((read, wish.sort, wish.order))
            if chosen is None:
                chosen = in_order(entries.entries, wish)
                self._orders.put((read, wish.sort, wish.order), chosen)
            body = self._make(path, chosen, wish, pages, is_json=is_json, complete=entries.complete)
        self._bodies.put(key, body)
        return body

    def _make(
        self, path: bytes, chosen: Sequence[Entry], wish: Wish, pages: int, *, is_json: bool, complete: bool
    ) -> Body:
        part = chosen[(wish.page - 1) * PAGE_ENTRIES : wish.page * PAGE_ENTRIES]
        more: tuple[tuple[str, str], ...]
        if is_json:
            data = as_json(part)
            more = (("Content-Type", "application/json"),)
        else:
            data = as_html(path, len(self._mount), part, wish, pages, complete=complete)
            more = (("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", POLICY))
        if not complete:
            more += ((INCOMPLETE, f"limit={MAX_ENTRIES}"),)
        if wish.page < pages:
            more += (("Link", f'<{query_of(wish._replace(page=wish.page + 1))}>; rel="next"'),)
        etag = f'"{content_tag(data)}"'
        return Body(data, etag, more)

    def _answer(self, view: View, folder: Found, checks: tuple[Found, ...], made: Body) -> Plan:
        body, etag, more = made
        # There is no Last-Modified, so conditions with dates are ignored (RFC 9110 section 13.1.3).
        outcome = evaluate(
            view.method, lambda name: view.field(name) if name.endswith("-match") else None, etag, 0, view.now
        )
        if outcome is Outcome.FAILED:
            return self._errors.plan(view, 412, ("ETag", etag), checks=checks)
        status = 304 if outcome is Outcome.NOT_MODIFIED else 200
        fields = (*more, ("ETag", etag), ("Vary", "Accept"), ("Cache-Control", "no-cache"))
        if status == 304:
            fields = fields[len(more) :]
        head = render_status(status) + self._shapes.fields(folder.path, fields)
        if status == 200:
            head += render_field("Content-Length", str(len(body)))
        bare = status == 304 or view.method == "HEAD"
        return Plan(
            status=status,
            head=head,
            body=b"" if bare else body,
            flags=view.flags(NO_BODY if bare else 0),
            ttl_ms=view.ttl_ms,
            checks=checks,
        )


def parse(query: str | None) -> Wish:
    """What a query asks for; what is not understood is not asked for."""
    try:
        given = dict(parse_qsl(query or "", max_num_fields=MAX_QUERY_FIELDS))
    except ValueError:
        return Wish()
    sort, order, page = given.get("sort"), given.get("order"), given.get("page", "")
    return Wish(
        sort=cast(Sort, sort) if sort in ("name", "size", "date") else "name",
        order=cast(Order, order) if order in ("asc", "desc") else "asc",
        page=max(int(page), 1) if page.isascii() and page.isdigit() and len(page) < 7 else 1,
    )


def query_of(wish: Wish) -> str:
    """The reference that asks for this."""
    page = f"&page={wish.page}" if wish.page > 1 else ""
    return f"?sort={wish.sort}&order={wish.order}{page}"


def in_order(entries: Sequence[Entry], wish: Wish) -> list[Entry]:
    """Folders first; what is equal by size or time is in the order of its name."""
    found = sorted(entries, key=lambda entry: (entry.name.lower(), entry.name), reverse=wish.order == "desc")
    if wish.sort == "size":
        found.sort(key=lambda entry: entry.size, reverse=wish.order == "desc")
    elif wish.sort == "date":
        found.sort(key=lambda entry: entry.mtime_ns or 0, reverse=wish.order == "desc")
    found.sort(key=lambda entry: not entry.folder)
    return found


def as_json(entries: Sequence[Entry]) -> bytes:
    """An array of objects, as nginx has them, with `url`: the reference that leads there, whatever bytes a name has."""
    rows = []
    for entry in entries:
        row: dict[str, object] = {
            "name": entry.name.decode("utf-8", "replace"),
            "url": _reference(entry),
            "type": "directory" if entry.folder else "file",
        }
        if entry.mtime_ns is not None:
            row["mtime"] = _time(entry.mtime_ns, "%Y-%m-%dT%H:%M:%SZ")
        if not entry.folder:
            row["size"] = entry.size
        rows.append(row)
    return json.dumps(rows, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def as_html(path: bytes, mount_len: int, entries: Sequence[Entry], wish: Wish, pages: int, *, complete: bool) -> bytes:
    """The page. mount_len: the part of the path above which there is nothing of this route."""
    title = escape(_shown(path))
    out = [
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{title}</title>\n<style>{_STYLE}</style></head>\n<body>\n<h1>{_crumbs(path, mount_len)}</h1>\n",
        "<table>\n<thead><tr>",
    ]
    for sort, label in _COLUMNS:
        active = wish.sort == sort
        order: Order = "desc" if active and wish.order == "asc" else "asc"
        state = f' aria-sort="{"ascending" if wish.order == "asc" else "descending"}"' if active else ""
        arrow = (" ↑" if wish.order == "asc" else " ↓") if active else ""
        href = escape(query_of(Wish(sort, order)))
        out.append(f'<th scope="col"{state}><a href="{href}">{label}{arrow}</a></th>')
    out.append("</tr></thead>\n<tbody>\n")
    if len(path) > mount_len + 1:
        out.append('<tr><td><a href="../">../</a></td><td></td><td></td></tr>\n')
    out += [_row(entry) for entry in entries]
    out.append("</tbody>\n</table>\n")
    if not entries:
        out.append("<p>This folder is empty.</p>\n")
    if pages > 1:
        out.append(_pages(wish, pages))
    if not complete:
        out.append(f"<p>There is more in this folder: only {MAX_ENTRIES:,} entries were looked at.</p>\n")
    out.append("</body>\n</html>\n")
    return "".join(out).encode()


def _row(entry: Entry) -> str:
    slash = "/" if entry.folder else ""
    # The name is isolated: it may be written from right to left, or say that it is.
    name = f'<a href="{escape(_reference(entry))}"><bdi>{escape(_shown(entry.name))}</bdi>{slash}</a>'
    size = "" if entry.folder else f'<span title="{entry.size} bytes">{_size(entry.size)}</span>'
    when = ""
    if entry.mtime_ns is not None:
        date, clock = _time(entry.mtime_ns, "%Y-%m-%d %H:%M").split(" ")
        machine = _time(entry.mtime_ns, "%Y-%m-%dT%H:%M:%SZ")
        when = f'<time datetime="{machine}">{date}<span> {clock}</span></time>'
    return f"<tr><td>{name}</td><td>{size}</td><td>{when}</td></tr>\n"


def _crumbs(path: bytes, mount_len: int) -> str:
    """The path, with a link for each folder above the last one."""
    names = path[mount_len:].strip(b"/").split(b"/") if len(path) > mount_len + 1 else []
    first = _shown(path[:mount_len] + b"/")
    parts = [(first, "../" * len(names))]
    parts += [(_shown(name) + "/", "../" * (len(names) - number)) for number, name in enumerate(names, 1)]
    linked = [f'<a href="{up}"><bdi>{escape(text)}</bdi></a>' for text, up in parts[:-1]]
    return "".join([*linked, f"<bdi>{escape(parts[-1][0])}</bdi>"])


def _pages(wish: Wish, pages: int) -> str:
    parts = []
    if wish.page > 1:
        parts.append(f'<a rel="prev" href="{escape(query_of(wish._replace(page=wish.page - 1)))}">← previous</a>')
    parts.append(f"page {wish.page} of {pages}")
    if wish.page < pages:
        parts.append(f'<a rel="next" href="{escape(query_of(wish._replace(page=wish.page + 1)))}">next →</a>')
    return f"<nav>{' · '.join(parts)}</nav>\n"


def _reference(entry: Entry) -> str:
    return encode_segment(entry.name) + ("/" if entry.folder else "")


def _shown(name: bytes) -> str:
    """As text, without what would change the page around it."""
    return name.decode("utf-8", "replace").translate(_UNSHOWN)


def _size(size: int) -> str:
    if size < 1024:
        return f"{size} B"
    value, unit = size / 1024, 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:  # 1023.95 would be shown as 1024.0
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}"


def _time(mtime_ns: int, form: str) -> str:
    """In UTC. Times before 1970 or after 9999 are moved to that bound."""
    return time.strftime(form, time.gmtime(min(max(mtime_ns // 1_000_000_000, 0), LATEST)))
