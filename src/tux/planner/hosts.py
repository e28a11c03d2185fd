"""The folder of a host: `/srv/www/{host}` stands for one folder for each host name, without a list of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tux._engine import ABSENT, Found
from tux.planner.looks import MARK, Looks
from tux.planner.rules import HostRule

MAX_HOST_BYTES = 253
"""The longest host name that DNS can carry (RFC 1035 section 2.3.4, less the length and the root)."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
"""What DNS allows, and underscores. So it has no slash, no percent sign, no "..", and no dot at its ends."""
_PORT = re.compile(r":[0-9]*\Z", re.ASCII)
PLACE = re.compile(r"\{host(?::([1-9][0-9]{0,2}))?\}", re.ASCII)
"""In templates: the name, or that many characters of its beginning."""


def name_of(host: str, strip: Sequence[str] = ()) -> str:
    """The name by which the folder of a Host (in lower case) is found; "": there is none, as for addresses and for what
    is no name. strip: see `HostRule`."""
    name = _PORT.sub("", host).removesuffix(".")
    if len(name) > MAX_HOST_BYTES or not _NAME.fullmatch(name) or name.rpartition(".")[2].isdigit():
        return ""  # a name that ends in a number is an IPv4 address, however it is written (URL standard)
    for part in strip:
        if part.endswith("."):
            name = name.removeprefix(part)
        elif "*" not in part:
            name = name.removesuffix(part)
        elif name.count(".") >= part.count("*"):
            name = name.rsplit(".", part.count("*"))[0]
    return name


def folder_of(template: str, name: str) -> bytes:
    """The folder of a name, below the root."""
    return PLACE.sub(lambda place: name[: int(place[1])] if place[1] else name, template).encode(
        "utf-8", "surrogateescape"
    )


class Hosts:
    """The folders of one rule."""

    def __init__(self, rule: HostRule) -> None:
        self._template = rule.template
        self._strip = rule.strip
        self._default = folder_of(rule.template, rule.default) if rule.default else b""
        self.longest = len(folder_of(rule.template, "x" * MAX_HOST_BYTES)) + len(MARK)
        """Bytes of the longest path of a folder."""

    def folder(self, host: str, look: Callable[[bytes], Found]) -> bytes:
        """The folder of this Host, which need not be there unless there is another one to take; b"": there is none."""
        name = name_of(host, self._strip)
        if name:
            folder = folder_of(self._template, name)
            if not self._default or look(folder).kind != ABSENT:
                return folder
        return self._default

    def enter(self, looks: Looks, host: str) -> bool:
        """Look below the folder of this Host from now on. False: there is none."""
        folder = self.folder(host, looks.look)
        looks.below = folder + MARK if folder else b""
        return bool(folder)
