"""HTTP dates: three forms in, one out (RFC 9110 section 5.6.7)."""

from __future__ import annotations

import calendar
import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux.http.dates import format_date, parse_date

THE_DATE = 784111777  # the example of RFC 9110
IN_2026 = calendar.timegm((2026, 11, 24, 12, 0, 0))


def never() -> int:
    raise AssertionError("the clock was read")


@pytest.mark.parametrize(
    "text", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_the_three_forms(text: str) -> None:
    assert parse_date(text, lambda: IN_2026) == THE_DATE


def test_only_the_two_digit_year_reads_the_clock() -> None:
    assert parse_date("Sun, 06 Nov 1994 08:49:37 GMT", never) == THE_DATE
    assert parse_date("Sun Nov 16 08:49:37 1994", never) == THE_DATE + 10 * 86400
    with pytest.raises(AssertionError):
        parse_date("Sunday, 06-Nov-94 08:49:37 GMT", never)


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("Friday, 24-Nov-26 12:00:00 GMT", 2026),
        ("Friday, 24-Nov-27 12:00:00 GMT", 2027),
        ("Friday, 24-Nov-76 12:00:00 GMT", 2076),  # 50 years ahead: not more than 50
        ("Friday, 24-Nov-76 12:00:01 GMT", 1976),  # a second more
        ("Friday, 01-Jan-77 00:00:00 GMT", 1977),
        ("Friday, 01-Jan-99 00:00:00 GMT", 1999),
        ("Friday, 01-Jan-00 00:00:00 GMT", 2000),
        ("Friday, 29-Feb-76 00:00:00 GMT", 2076),
    ],
)
def test_two_digit_years(text: str, year: int) -> None:
    found = parse_date(text, lambda: IN_2026)
    assert found is not None
    assert format_date(found)[12:16] == str(year)


def test_two_digit_years_across_a_century() -> None:
    in_2080 = calendar.timegm((2080, 1, 1, 0, 0, 0))
    assert parse_date("Friday, 01-Jan-10 00:00:00 GMT", lambda: in_2080) == calendar.timegm((2110, 1, 1, 0, 0, 0))
    assert parse_date("Friday, 01-Jan-60 00:00:00 GMT", lambda: in_2080) == calendar.timegm((2060, 1, 1, 0, 0, 0))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "784111777",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +00",
        "sun, 06 nov 1994 08:49:37 gmt",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37GMT",
        "Xxx, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Xxx 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 1995 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 -8:49:37 GMT",
        "Sun, 06 Nov 1994 +8:49:37 GMT",
        "Sun, 06 Nov 1_94 08:49:37 GMT",
        "Sun, 06 Nov 199\u0664 08:49:37 GMT",
        "Sun Nov 06  08:49:37 1994",
        "Sun Nov  6 08:49:37 94",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06-Nov-9x 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
    ],
)
def test_no_date(text: str) -> None:
    assert parse_date(text, lambda: IN_2026) is None


def test_leap_second() -> None:
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT", never) == calendar.timegm((2016, 12, 31, 23, 59, 59))


@given(st.integers(0, 253402300799))
def test_written_as_the_standard_library_does_and_read_again(seconds: int) -> None:
    assert format_date(seconds) == email.utils.formatdate(seconds, usegmt=True)
    assert parse_date(format_date(seconds), never) == seconds


def test_out_of_bounds() -> None:
    assert format_date(-1) == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert format_date(10**15) == "Fri, 31 Dec 9999 23:59:59 GMT"


@given(st.text(max_size=40))
def test_any_text_is_a_date_or_none(text: str) -> None:
    parse_date(text, lambda: IN_2026)
