# SPDX-License-Identifier: MIT
"""Paths of request targets: whatever a client sends, what is decoded names something below the root, or is refused."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from tux.http import target


def test_one_input(data: bytes) -> None:
    """One input: a path as sent, a character per byte."""
    try:
        path = target.decode_path(data.decode("latin-1"))
    except target.TargetError as error:
        assert error.status in (400, 404), error.status
        return
    assert path.startswith(b"/"), path
    assert b"\0" not in path, path
    segments = path[1:].split(b"/")
    # Only the last may be empty: the path means a folder.
    assert all(segment not in (b"", b".", b"..") for segment in segments[:-1]), path
    assert segments[-1] not in (b".", b".."), path
    # Decoded once: a percent sign that is left was sent as %25.
    assert path.count(b"%") <= data.lower().count(b"%25"), path
    assert len(path) <= len(data), path


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
