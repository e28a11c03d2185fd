"""What Content-Type and Content-Disposition of files say: checks and rules of the keys that sites and routes share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from tux.config.site import Charset
from tux.errors import Problem, shown
from tux.planner.globs import is_extension
from tux.planner.rules import GlobRule, MediaRules

Place = tuple[str | int, ...]

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE = re.compile(rf'{_NAME}/{_NAME}([ \t]*;[ \t]*{_NAME}=({_NAME}|"[\t !#-\[\]-~]*"))*', re.ASCII)
"""RFC 9110 section 8.3.1."""
_CHARSET = re.compile(r"[A-Za-z0-9!#$%&'+^_`{}~-]{0,40}", re.ASCII)
"""RFC 2978 section 2.3, or nothing."""

_USUAL = GlobRule("*", "utf-8")


class Settings(Protocol):
    """A site or a static route."""

    @property
    def types(self) -> dict[str, str]: ...
    @property
    def charset(self) -> Charset: ...
    @property
    def download(self) -> tuple[str, ...] | None: ...


def problems(settings: Settings, place: Place) -> Iterator[Problem]:
    """What is wrong with the values."""
    for glob, value in settings.types.items():
        inner = (*place, "types", glob)
        if not glob.strip("/"):
            yield Problem(inner, "the glob is empty")
        elif glob.startswith(".") and not is_extension(glob) and not set(glob) & set("*/"):
            yield Problem(inner, f"is not one extension: use {shown('*' + glob)}")
        if not _TYPE.fullmatch(value):
            yield Problem(inner, f"expected a media type, as in text/plain, got {shown(value)}")
    for glob, value in _charsets(settings.charset).items():
        inner = (*place, "charset") if isinstance(settings.charset, str) else (*place, "charset", glob)
        if not glob.strip("/"):
            yield Problem(inner, "the glob is empty")
        if not _CHARSET.fullmatch(value):
            yield Problem(inner, f"expected the name of a charset, as in utf-8, got {shown(value)}")
    for i, glob in enumerate(settings.download or ()):
        if not glob.strip("/"):
            yield Problem((*place, "download", i), "the glob is empty")


def compiled(*several: Settings) -> MediaRules:
    """The rules; those of the first settings count first."""
    types = [GlobRule(*rule) for settings in several for rule in settings.types.items()]
    charsets = [GlobRule(*rule) for settings in several for rule in _charsets(settings.charset).items()]
    while charsets and charsets[-1] == _USUAL:
        charsets.pop()  # it is so without a rule, too
    return MediaRules(tuple(types), tuple(charsets))


def _charsets(charset: Charset) -> dict[str, str]:
    return {"*": charset} if isinstance(charset, str) else charset
