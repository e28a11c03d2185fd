"""Accept-Encoding (RFC 9110 section 12.5.3): which content codings a client takes, best first."""

from __future__ import annotations

from functools import lru_cache

from tux.http.head import is_token

CODINGS = ("br", "zstd", "gzip")
"""The codings that Tux can serve, in the order of its own preference: the smallest usual result first."""

SIDE_SUFFIXES = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
"""Content coding -> what a side file's name ends in. The entity tag gets it, too: the same bytes under another coding
are another representation."""

_ALIASES = {"x-gzip": "gzip"}


_CACHED_LENGTH = 128
"""Values up to here are parsed once. Browsers send about 30 characters; what is longer is not worth the memory."""


def acceptable(value: str | None) -> tuple[str, ...]:
    """The codings of `CODINGS` that are better than, or as good as, no coding at all; best first.

    A client that excludes the identity ("identity;q=0", "*;q=0") gets it nevertheless when there is nothing else: the
    answer 406 is allowed (section 12.4.1: "or disregard the header field"), but nobody is helped by it. An element that
    cannot be read is skipped. None and "": no coding.
    """
    if not value:
        return ()
    return _parsed(value) if len(value) <= _CACHED_LENGTH else _parse(value)


def _parse(value: str) -> tuple[str, ...]:
    weights: dict[str, int] = {}
    for element in value.split(","):
        name, semicolon, parameter = element.partition(";")
        name = name.strip(" \t").lower()
        weight = _weight(parameter.strip(" \t")) if semicolon else 1000
        if weight is not None and is_token(name):
            weights.setdefault(_ALIASES.get(name, name), weight)
    others = weights.get("*", 0)
    identity = weights.get("identity", 0)  # unless it is named, any coding that is wanted is better
    admitted = [(weights.get(coding, others), coding) for coding in CODINGS]
    admitted.sort(key=lambda pair: -pair[0])
    return tuple([coding for weight, coding in admitted if weight > 0 and weight >= identity])


_parsed = lru_cache(maxsize=256)(_parse)


def _weight(parameter: str) -> int | None:
    """Thousandths of "q=0.5" (at most three decimals), None when it is not a weight."""
    name, equals, number = parameter.partition("=")
    if not equals or name.rstrip(" \t").lower() != "q":
        return None
    whole, _, decimals = number.lstrip(" \t").partition(".")
    if whole not in ("0", "1") or len(decimals) > 3 or (decimals and not (decimals.isascii() and decimals.isdigit())):
        return None
    weight = int(whole) * 1000 + int(decimals.ljust(3, "0"))
    return weight if weight <= 1000 else None
