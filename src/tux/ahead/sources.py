"""What is asked for to warm a server: the addresses in a sitemap, in an access log, or of the files of a folder."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

from tux.http.coding import SIDE_SUFFIXES
from tux.http.target import encode_segment

MAX_URLS = 200_000
"""More answers than the largest memory that is likely holds; of a log those that were asked for most."""

MAX_SITEMAP_BYTES = 50 * 1024 * 1024
"""The protocol's own bound, unpacked (sitemaps.org)."""

MAX_TARGET_BYTES = 2048
"""Longer ones are cut in the access log, and in sitemaps they are not allowed."""

_TARGET = re.compile(r"/[!-~]*")
_HOST = re.compile(r"[A-Za-z0-9._~:\[\]-]{1,255}")
_COMMON = re.compile(rb'\S+ \S+ \S+ \[[^\]]*\] "(?:GET|HEAD) (\S+) HTTP/1\.[01]" (\d{3}) ')
_ESCAPED = re.compile(rb"\\x([0-9A-F]{2})")
_SIDES = tuple(SIDE_SUFFIXES.values())


class Wanted(NamedTuple):
    """One address."""

    target: str
    """Path and query, as they are sent."""
    host: str = ""
    """Value of Host; "": the one that counts for all."""


class Sitemap(NamedTuple):
    pages: list[Wanted]
    sitemaps: list[Wanted]
    """Further ones that it names."""


def wanted_of(url: str) -> Wanted | None:
    """The address in a URL of a sitemap; None: it is none of HTTP."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return None
    target = quote(parts.path or "/", safe="/%!$&'()*+,;=:@~-._")
    if parts.query:
        target += "?" + quote(parts.query, safe="/?%!$&'()*+,;=:@~-._[]")
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme not in ("http", "https") or not is_target(target) or not _HOST.fullmatch(host):
        return None
    return Wanted(target, host)


def from_sitemap(data: bytes) -> Sitemap:
    """What a sitemap, or an index of sitemaps, names. ValueError: it is none."""
    if data.startswith(b"\x1f\x8b"):
        data = _unpacked(data)
    text = data.decode("utf-8-sig")  # UnicodeDecodeError is a ValueError
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("a sitemap has no document type")  # and so no entities that grow
    try:
        root = ET.fromstring(text)  # noqa: S314 - see above
    except ET.ParseError as error:
        raise ValueError(f"not XML: {error}") from None
    name = _local(root.tag)
    if name not in ("urlset", "sitemapindex"):
        raise ValueError(f"expected <urlset> or <sitemapindex>, got <{name}>")
    found: list[Wanted] = []
    for entry in root:
        for item in entry:
            wanted = wanted_of(item.text or "") if _local(item.tag) == "loc" else None
            if wanted is not None:
                found.append(wanted)
    return Sitemap(found, []) if name == "urlset" else Sitemap([], found)


def from_log(lines: Iterable[bytes]) -> list[Wanted]:
    """What was asked for by GET and HEAD, and answered well, most often first. Lines in the formats of the access log:
    common, combined, json; others are passed over."""
    seen: Counter[Wanted] = Counter()
    for line in lines:
        wanted = _of_json(line) if line.startswith(b"{") else _of_common(line)
        if wanted is not None and (wanted in seen or len(seen) < 2 * MAX_URLS):
            seen[wanted] += 1
    return [wanted for wanted, _ in seen.most_common(MAX_URLS)]


def from_folder(
    folder: str, *, prefix: str = "/", host: str = "", index: Sequence[str] = ("index.html",), clean_urls: bool = False
) -> Iterator[Wanted]:
    """The addresses of the files below a folder, which is served at `prefix`; of an index the address of its folder.
    Names that begin with a dot, and compressed copies, are left alone. OSError: the folder cannot be read."""
    os.stat(folder)

    def failed(error: OSError) -> None:
        raise error

    for here, folders, names in os.walk(os.fsencode(folder), onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith(b"."))
        below = os.path.relpath(here, os.fsencode(folder))
        segments = [] if below == b"." else [encode_segment(name) + "/" for name in below.split(b"/")]
        base = prefix.rstrip("/") + "/" + "".join(segments)
        there = set(names)
        shown = next((name for name in index if os.fsencode(name) in there), None)
        for name in sorted(names):
            if name.startswith(b".") or _is_copy(name, there) or not os.path.isfile(os.path.join(here, name)):
                continue
            last = "" if shown is not None and name == os.fsencode(shown) else encode_segment(name)
            if clean_urls and last.endswith(".html"):
                last = last.removesuffix(".html")
            if is_target(base + last):
                yield Wanted(base + last, host)


def is_target(target: str) -> bool:
    """Whether this can be asked for: a path, and a query, as they are sent."""
    return len(target) <= MAX_TARGET_BYTES and _TARGET.fullmatch(target) is not None


def _is_copy(name: bytes, there: set[bytes]) -> bool:
    return any(name.endswith(suffix.encode()) and name[: -len(suffix)] in there for suffix in _SIDES)


def _local(tag: str) -> str:
    """The name without its namespace."""
    return tag.rpartition("}")[2]


def _unpacked(data: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    try:
        text = stream.decompress(data, MAX_SITEMAP_BYTES)
    except zlib.error as error:
        raise ValueError(f"not gzip: {error}") from None
    if stream.unconsumed_tail or not stream.eof:
        raise ValueError(f"cut short, or over {MAX_SITEMAP_BYTES} bytes unpacked")
    return text


def _of_common(line: bytes) -> Wanted | None:
    found = _COMMON.match(line)
    if found is None or found[2] >= b"400":
        return None
    target = _ESCAPED.sub(lambda byte: bytes([int(byte[1], 16)]), found[1]).decode("latin-1")
    return Wanted(target) if is_target(target) else None


def _of_json(line: bytes) -> Wanted | None:
    try:
        entry = json.loads(line)
        method, target, host, status = entry["method"], entry["target"], entry.get("host", ""), entry["status"]
    except (ValueError, KeyError, RecursionError):
        return None
    if method not in ("GET", "HEAD") or not isinstance(status, int) or status >= 400:
        return None
    if not isinstance(target, str) or not is_target(target):
        return None
    return Wanted(target, host if isinstance(host, str) and _HOST.fullmatch(host) else "")
