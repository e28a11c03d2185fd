"""Where requests are led, in the words of nginx -> those of `redirect` and `rewrite`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tux.convert.units import FormatError
from tux.planner import template

STATUSES: Final = frozenset(("301", "302", "303", "307", "308"))
_VARIABLES: Final[Mapping[str, str]] = {
    "$request_uri": "{path}",
    "$uri": "{path}",
    "$document_uri": "{path}",
    "$host": "{host}",
    "$http_host": "{host}",
}
_QUERY: Final = re.compile(r"(\$is_args\$(args|query_string)|\?\$(args|query_string))$")
"""What goes along in any case."""
_FOLDER: Final = re.compile(r"\^(/(?:[\w/-]|\\\.)*/)?/?\(\.\*\)\$?")
r"""All below a folder: `^/old/(.*)$`, `^/(.*)$`, `^(.*)$`."""
_EXACT: Final = re.compile(r"\^(/(?:[\w/-]|\\\.)+)\$")


def folder(text: str) -> str:
    """What nginx's `root` and `alias` name: a folder, or one for each host. FormatError: there is no word for it."""
    if "{" in text or "}" in text:
        raise FormatError("braces")
    named = re.sub(r"\$(?:http_)?host(?!\w)", "{host}", text)
    if "$" in named:
        raise FormatError("a folder with variables")
    return named


def redirect_target(text: str) -> str:
    """What nginx's `return` names. FormatError: there is no word for it."""
    target = _QUERY.sub("", text)
    if "{" in target or "}" in target:
        raise FormatError("braces")
    for variable, place in _VARIABLES.items():
        target = re.sub(re.escape(variable) + r"(?!\w)", place, target)
    if "$" in target:
        raise FormatError("a value with variables")
    return _checked(target, 0, absolute=True)


def rewrite_parts(pattern: str, replacement: str, *, absolute: bool) -> tuple[str, str]:
    """The path of a route, and its target, for a pattern and its replacement. absolute: it is a redirect. FormatError:
    there are no words for them."""
    target = _QUERY.sub("", replacement)
    exact, folder = _EXACT.fullmatch(pattern), _FOLDER.fullmatch(pattern)
    if exact:
        path = exact[1]
    elif folder:
        path = folder[1] or "/"
        target = re.sub(r"\$1(?!\d)|\$\{1\}", "{rest}", target)
    else:
        raise FormatError("regular expressions")
    if "$" in target:
        raise FormatError("a value with variables")
    return path.replace("\\", ""), _checked(target, 0, absolute=absolute)


def _checked(target: str, captures: int, *, absolute: bool) -> str:
    try:
        template.check_target(target, captures, absolute=absolute)
    except ValueError as error:
        raise FormatError(str(error)) from None
    return target
