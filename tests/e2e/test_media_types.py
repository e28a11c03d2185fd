# SPDX-License-Identifier: MIT
"""Media types, charsets and downloads, by the real server, which repeats what was decided once."""

from __future__ import annotations

from pathlib import Path

import tux
from tests.e2e.client import Client, put, stop


def test_types_charsets_and_downloads(site: Path) -> None:
    put(site / "a.own", "own")
    put(site / "old/a.txt", "old")
    put(site / "files/a b\u00ef.txt", "saved")
    put(site / "404.html", "none")
    with tux.Server(
        site,
        workers=1,
        access_log="off",
        types={".own": "text/x-own"},
        charset={"old/": "koi8-r", "404.html": ""},
        download="files/",
        error_page={404: "404.html"},
    ) as server:
        with Client(server) as client:
            for _ in range(3):  # planned, admitted, remembered
                assert client.ask("/a.own")["Content-Type"] == "text/x-own; charset=utf-8"
                assert client.ask("/old/a.txt")["Content-Type"] == "text/plain; charset=koi8-r"
                saved = client.ask("/files/a%20b%C3%AF.txt")
                assert saved.body == b"saved"
                assert saved["Content-Disposition"] == (
                    "attachment; filename=\"a b_.txt\"; filename*=UTF-8''a%20b%C3%AF.txt"
                )
                assert client.ask("/missing")["Content-Type"] == "text/html"
            client.finish()
        stop(server)
