"""Content-Disposition for files of any name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux.http.disposition import attachment
from tux.http.head import is_value

FIELD = re.compile(
    r"""attachment; filename="([ !#$&-\[\]-~]*)"(; filename\*=UTF-8''((?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})*))?"""
)
"""What RFC 6266 allows of it, less what clients read differently."""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"report.pdf", 'attachment; filename="report.pdf"'),
        (b"annual report (1).pdf", 'attachment; filename="annual report (1).pdf"'),
        ("naïve.txt".encode(), "attachment; filename=\"na_ve.txt\"; filename*=UTF-8''na%C3%AFve.txt"),
        ("日本.zip".encode(), "attachment; filename=\"__.zip\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.zip"),
        (b'a"b;c=d.txt', "attachment; filename=\"a_b;c=d.txt\"; filename*=UTF-8''a%22b%3Bc%3Dd.txt"),
        (b"back\\slash.txt", "attachment; filename=\"back_slash.txt\"; filename*=UTF-8''back%5Cslash.txt"),
        (b"100%41.txt", "attachment; filename=\"100_41.txt\"; filename*=UTF-8''100%2541.txt"),
        (b"it's.txt", 'attachment; filename="it\'s.txt"'),
        (b"a\r\nSet-Cookie: x=1.txt", 'attachment; filename="a__Set-Cookie: x=1.txt"'),
        (b"a\x00\x7f\t.txt", 'attachment; filename="a___.txt"'),
        (b"\xff\xfe.txt", "attachment; filename=\"__.txt\"; filename*=UTF-8''%EF%BF%BD%EF%BF%BD.txt"),
        ("exe\u202egpj.com".encode(), 'attachment; filename="exe_gpj.com"'),
    ],
)
def test_names(name: bytes, value: str) -> None:
    assert attachment(name) == value


@given(st.binary(min_size=1, max_size=255))
def test_no_name_breaks_out(name: bytes) -> None:
    value = attachment(name)
    assert is_value(value)
    assert FIELD.fullmatch(value)
