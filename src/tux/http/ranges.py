"""Byte ranges (RFC 9110 section 14). Everything here takes time linear in the length of the field."""

from __future__ import annotations

from typing import TypeAlias

MAX_RANGES = 16
"""Ranges in one request; with more the whole representation is sent. Viewers of documents ask for a handful, attacks
for thousands (section 17.15)."""

Span: TypeAlias = tuple[int, int]
"""First byte and number of bytes of a part."""

_WS = " \t"


def resolve(value: str, size: int) -> list[Span] | None:
    """The parts of a representation of `size` bytes that a Range field asks for.

    - None: the field is to be ignored: another unit, not well formed, more than `MAX_RANGES`, or the representation is
      empty (no part of nothing can be named, and clients that always send Range expect 200).
    - []: none is satisfiable, the answer is 416.
    - Else the parts, in the order of the request. Parts that overlap or touch make all of them be sorted and joined, so
      that no byte is sent twice (section 15.3.7.2).
    """
    unit, equals, specs = value.partition("=")
    if not equals or unit.strip(_WS).lower() != "bytes" or size == 0 or specs.count(",") >= 4 * MAX_RANGES:
        return None
    spans: list[Span] = []
    count = 0
    for element in specs.split(","):
        spec = element.strip(_WS)
        if not spec:  # section 5.6.1.2: empty elements of a list are skipped
            continue
        count += 1
        first, dash, last = spec.partition("-")
        if not dash or (first and not _digits(first)) or (last and not _digits(last)) or count > MAX_RANGES:
            return None
        if not first:
            if not last:
                return None
            length = min(_number(last), size)
            if length:
                spans.append((size - length, length))
            continue
        if last and _key(last) < _key(first):
            return None
        start = _number(first)
        if start < size:
            end = min(_number(last), size - 1) if last else size - 1
            spans.append((start, end - start + 1))
    if count == 0:
        return None
    return _joined(spans) if len(spans) > 1 else spans


def _joined(spans: list[Span]) -> list[Span]:
    """The same spans when they are apart from each other; else sorted, and joined where they overlap or touch."""
    joined: list[Span] = []
    for start, length in sorted(spans):
        if joined:
            before, before_length = joined[-1]
            if start <= before + before_length:
                joined[-1] = (before, max(before_length, start + length - before))
                continue
        joined.append((start, length))
    return spans if len(joined) == len(spans) else joined


def content_range(span: Span, size: int) -> str:
    """The value of Content-Range for a part of 206."""
    start, length = span
    return f"bytes {start}-{start + length - 1}/{size}"


def unsatisfied_range(size: int) -> str:
    """The value of Content-Range for 416."""
    return f"bytes */{size}"


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _key(digits: str) -> tuple[int, str]:
    """Orders numbers of any length without converting them (int() refuses more than 4300 digits)."""
    digits = digits.lstrip("0")
    return len(digits), digits


def _number(digits: str) -> int:
    """The number, or one larger than any file."""
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= 18 else 10**18
