# SPDX-License-Identifier: MIT
"""The folder that the corpus is about."""

from __future__ import annotations

import os
from pathlib import Path

MODIFIED = 1704164645
"""Of all files but those named otherwise: Tue, 02 Jan 2024 03:04:05 GMT."""

OLDER = MODIFIED - 3600

LETTERS = b"abcdefghijklmnopqrstuvwxyz"
BIG = b"".join(b"%07d\n" % number for number in range(25_000))
"""200,000 bytes: too large to be held in memory, so it is sent from its file."""

FILES: dict[bytes, bytes] = {
    b"index.html": b"home\n",
    b"hello.txt": b"hello\n",
    b"tail.txt": b"tail\n",
    b"letters.txt": LETTERS,
    b"empty.txt": b"",
    b"big.bin": BIG,
    b"folder/index.html": b"in folder\n",
    b"folder/page.html": b"page in folder\n",
    b"folder/deep/file.txt": b"deep\n",
    b"bare/file.txt": b"bare\n",
    b"evil.example/index.html": b"not evil\n",
    b"line\r\nbreak/index.html": b"odd name\n",
    b"a:b/index.html": b"colon\n",
    b"50% off/index.html": b"percent\n",
    b".hidden": b"hidden\n",
    b".git/config": b"secret\n",
    b".well-known/security.txt": b"contact\n",
    b".well-known/.secret": b"secret\n",
    b"a b.txt": b"space\n",
    b"100%.txt": b"percent\n",
    b"semi;colon.txt": b"semicolon\n",
    b"back\\slash.txt": b"backslash\n",
    b"plus+.txt": b"plus\n",
    b"query?.txt": b"question mark\n",
    b"hash#.txt": b"hash\n",
    b"star*.txt": b"star\n",
    b'quote".txt': b"quote\n",
    b"two..dots.txt": b"dots\n",
    b"three...txt": b"three\n",
    b"dot.": b"dot at the end\n",
    "\u00fc.txt".encode(): b"umlaut\n",
    b"\xfc.txt": b"umlaut in Latin-1\n",
    b"\xc0\xaf.txt": b"overlong\n",
    b"%2e%2e.txt": b"percent signs in the name\n",
    b"page.html": b"plain page\n",
    b"page.html.br": b"page by br\n",
    b"page.html.zst": b"page by zstd\n",
    b"page.html.gz": b"page by gzip\n",
    b"style.css": b"plain style\n",
    b"style.css.gz": b"style by gzip\n",
    b"stale.js": b"plain script\n",
    b"stale.js.gz": b"script by gzip, too old\n",
    b"picture.png": b"plain picture\n",
    b"picture.png.gz": b"picture by gzip, of no use\n",
}

SIDE_IS_OLDER = (b"stale.js.gz",)


def make(folder: Path) -> None:
    """Write all of it below an existing folder."""
    root = os.fsencode(folder)
    for name, content in FILES.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        seconds = OLDER if name in SIDE_IS_OLDER else MODIFIED
        os.utime(path, (seconds, seconds))
