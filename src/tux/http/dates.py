"""HTTP dates (RFC 9110 section 5.6.7): three forms are read, one is written. Times are whole seconds since 1970."""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable
from datetime import date
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS = frozenset(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"))
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, 1)}
_EPOCH = date(1970, 1, 1).toordinal()
LATEST = calendar.timegm((9999, 12, 31, 23, 59, 59))
"""The last second that the form can carry; its years have four digits."""


@lru_cache(maxsize=4096)
def format_date(seconds: int) -> str:
    """IMF-fixdate, "Sun, 06 Nov 1994 08:49:37 GMT". Times before 1970 or after 9999 are moved to that bound."""
    t = time.gmtime(min(max(seconds, 0), LATEST))
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04} "
        f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT"
    )


def parse_date(text: str, now: Callable[[], int]) -> int | None:
    """Seconds since 1970 (negative before) of a date in any of the three forms, None when it is none.

    `now` (seconds since 1970) is only called for the form with a year of two digits, whose meaning depends on it: "a
    timestamp that appears to be more than 50 years in the future" is the most recent year in the past with the same
    digits. The day of the week must be one, but need not be the right one.
    """
    if len(text) == 29 and text[3:5] == ", ":  # Sun, 06 Nov 1994 08:49:37 GMT
        if text[:3] not in _DAYS or text[7] != " " or text[11] != " " or text[16] != " " or text[25:] != " GMT":
            return None
        return _seconds(text[12:16], text[8:11], text[5:7], text[17:25])
    if len(text) == 24 and text[:3] in _DAYS:  # Sun Nov  6 08:49:37 1994
        if text[3] != " " or text[7] != " " or text[10] != " " or text[19] != " ":
            return None
        day = "0" + text[9] if text[8] == " " else text[8:10]
        return _seconds(text[20:24], text[4:7], day, text[11:19])
    weekday, comma, rest = text.partition(", ")  # Sunday, 06-Nov-94 08:49:37 GMT
    if not comma or weekday not in _LONG_DAYS or len(rest) != 22:
        return None
    if rest[2] != "-" or rest[6] != "-" or rest[9] != " " or rest[18:] != " GMT":
        return None
    return _two_digit_year(rest, now())


def _two_digit_year(rest: str, now: int) -> int | None:
    """`rest`: "06-Nov-94 08:49:37 GMT". The latest year with these digits that is at most 50 years ahead."""
    if not _digits(rest[7:9]):
        return None
    today = time.gmtime(now)
    bound = calendar.timegm((today.tm_year + 50, *today[1:6]))
    year = today.tm_year - today.tm_year % 100 + int(rest[7:9])
    for candidate in (year + 100, year, year - 100):
        found = _seconds(f"{candidate:04}", rest[3:6], rest[:2], rest[10:18])
        if found is not None and found <= bound:
            return found
    return None


def _seconds(year: str, month: str, day: str, clock: str) -> int | None:
    hour, minute, second = clock[:2], clock[3:5], clock[6:8]
    number = _MONTH_NUMBERS.get(month)
    if number is None or clock[2] != ":" or clock[5] != ":":
        return None
    if not _digits(year + day + hour + minute + second):
        return None
    h, m, s = int(hour), int(minute), int(second)
    if h > 23 or m > 59 or s > 60:  # 60: a leap second
        return None
    try:
        days = date(int(year), number, int(day)).toordinal() - _EPOCH
    except ValueError:
        return None
    return days * 86400 + h * 3600 + m * 60 + min(s, 59)


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
