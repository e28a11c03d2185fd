# SPDX-License-Identifier: MIT
"""The modules that are measured, each with what it is compared with: WSGI's hello, a hot file, a file of 100 KiB."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import tux
from bench.hello import FILE, HELLO

CACHE_S: Final = 3600.0
KIND: Final = os.environ.get("BENCH_MODULE", "")


@tux.module("/hello", type="text/plain; charset=utf-8")
def hello(_req: tux.Request) -> bytes:
    """The least."""
    return HELLO


def cached(_req: tux.Request) -> tuple[int, dict[str, str], bytes]:
    """A whole file as an answer that the engine remembers."""
    fields = {"Content-Type": "text/html", "ETag": '"file"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
    return 200, fields, Path(FILE).read_bytes()


def sent(req: tux.Request) -> None:
    """The file that was asked for, as an object of the site."""
    req.send_object(req.path)


# All of a site is one of them: which, says the row.
if KIND == "cached":
    tux.module("/*", cache=CACHE_S)(cached)
elif KIND == "object":
    tux.module("/*")(sent)
