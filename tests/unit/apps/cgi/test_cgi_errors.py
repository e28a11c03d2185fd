# SPDX-License-Identifier: MIT
"""What scripts write to standard error, in the error log: lines of bounded length and number, without tricks."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tux.apps.cgi.errors import BURST_LINES, MAX_LINE_BYTES, ErrorLog, Lines


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tux.app")


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_lines(caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines(ErrorLog(), "1-2", b"/cgi-bin/\xff\n")
    for piece in (b"one\ntw", b"o\n\n  \nthr", b"ee"):
        lines.feed(piece)
    lines.end()
    assert texts(caplog) == [rf"cgi: 1-2 /cgi-bin/\xff\x0a: {text}" for text in ("one", "two", "three")]


def test_control_characters_are_told(caplog: pytest.LogCaptureFixture) -> None:
    Lines(ErrorLog(), "1", b"/x").feed(b"\x1b[31m red \r\x07 \xc2\x9b \xe2\x80\xa8 \xe2\x80\xae \xe4\n")
    assert texts(caplog) == [r"cgi: 1 /x: \x1b[31m red \x0d\x07 \x9b \x2028 \x202e \xe4"]


def test_a_long_line_is_cut_once(caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines(ErrorLog(), "1", b"/x")
    for _ in range(100):
        lines.feed(b"y" * 1000)
    lines.feed(b"\nnext\n")
    assert texts(caplog) == [f"cgi: 1 /x: {'y' * MAX_LINE_BYTES}...", "cgi: 1 /x: next"]


def test_a_flood_is_counted(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    log = ErrorLog()
    lines = Lines(log, "1", b"/x")
    lines.feed(b"line\n" * (BURST_LINES + 7))
    assert len(caplog.records) == BURST_LINES
    now += 1
    lines.feed(b"last\n")
    assert texts(caplog)[-2:] == ["cgi: 7 lines of scripts were dropped", "cgi: 1 /x: last"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=50), max_size=10))
def test_pieces_do_not_matter(caplog: pytest.LogCaptureFixture, pieces: list[bytes]) -> None:
    found = []
    for parts in (pieces, [b"".join(pieces)]):
        caplog.clear()
        lines = Lines(ErrorLog(), "1", b"/x")
        for piece in parts:
            lines.feed(piece)
        lines.end()
        found.append(texts(caplog))
    assert found[0] == found[1]
    assert all(text.isprintable() for text in found[0])
