# SPDX-License-Identifier: MIT
"""Listings as a browser shows them: on a telephone, without JavaScript."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tux
from tests import features
from tests.e2e.browser import Browser
from tests.e2e.client import put, stop

WIDTH = 360
"""CSS pixels: a small telephone."""
FINGER = 24
"""CSS pixels that a link must be high (WCAG 2.2, success criterion 2.5.8)."""
LEGIBLE = 14
"""CSS pixels of the smallest letters."""


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[tux.Server]:
    for name, size, day in (
        ("a report of many words that does not fit into one line of a telephone.pdf", 1_500_000, 3),
        ("b" * 200, 12, 2),
        ("c<script>document.title='bad'<script>.txt", 300, 1),
        ("été.html", 2048, 4),
    ):
        file = put(site / "Music & more/2026" / name, b"x" * size)
        os.utime(file, (86400 * day, 86400 * day))
    put(site / "Music & more/2026/inner/x", "")
    with tux.Server(site, workers=1, access_log="off", listing=True) as server:
        yield server
        stop(server)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    features.require("peers")
    with Browser(width=WIDTH) as browser:
        yield browser


@pytest.fixture
def page(server: tux.Server, browser: Browser) -> Browser:
    browser.open(f"{server.url}/Music%20%26%20more/2026/")
    return browser


def names(browser: Browser) -> list[str]:
    """The first letters of what is listed."""
    return [text[:2] for text in browser.texts("tbody td:first-child")]


def test_readable_on_a_telephone(page: Browser) -> None:
    assert page.evaluate("innerWidth") == WIDTH, "the page says that it fits"
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH, "nothing sticks out"
    assert page.evaluate(
        "[...document.querySelectorAll('td, th, a')].every(at => { const box = at.getBoundingClientRect();"
        f" return box.left >= 0 && box.right <= {WIDTH}; }})"
    )
    heights = page.evaluate(
        "[...document.querySelectorAll('tbody a, th a')].map(a => a.getBoundingClientRect().height)"
    )
    assert min(heights) >= FINGER
    sizes = page.evaluate(
        "[...document.querySelectorAll('td, th, h1')].map(at => parseFloat(getComputedStyle(at).fontSize))"
    )
    assert min(sizes) >= LEGIBLE
    assert "1.4 MiB" in page.texts("tbody td:nth-child(2)")
    assert "1970-01-04" in page.texts("tbody td:nth-child(3)")


def test_its_style_counts_and_nothing_runs(page: Browser) -> None:
    assert page.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
    assert page.evaluate("document.title") == "/Music & more/2026/"
    assert page.evaluate("document.scripts.length") == 0
    assert any("<script>" in text for text in page.texts("td"))


def test_sorted_by_links(page: Browser) -> None:
    assert names(page) == ["..", "in", "a ", "bb", "c<", "ét"]
    page.click("th:nth-child(2) a")
    assert names(page) == ["..", "in", "bb", "c<", "ét", "a "]
    page.click("th:nth-child(2) a")
    assert names(page) == ["..", "in", "a ", "ét", "c<", "bb"]
    page.click("th:nth-child(3) a")
    assert names(page) == ["..", "in", "c<", "bb", "a ", "ét"]
    assert page.evaluate("document.querySelector('th:nth-child(3)').getAttribute('aria-sort')") == "ascending"


def test_the_way_back(page: Browser) -> None:
    assert page.texts("h1 a") == ["/", "Music & more/"]
    page.click("h1 a:nth-child(2)")
    assert page.evaluate("document.title") == "/Music & more/"
    page.click("tbody tr:nth-child(2) a")
    assert page.evaluate("document.title") == "/Music & more/2026/"
    page.click("tbody tr:nth-child(2) a")
    assert page.evaluate("document.title") == "/Music & more/2026/inner/"
    page.click("tbody tr:first-child a")
    page.click("h1 a")
    assert page.evaluate("document.title") == "/"
