"""The header fields of a request, as a mapping that notes what was looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

ALL = "all fields"


class Headers(Mapping[str, str]):
    """Names in any case, values as text (Latin-1, as HTTP has it). Values of a field that was sent several times are
    joined by ", "; `all` gives them apart."""

    __slots__ = ("_fields", "_look")

    def __init__(self, fields: list[tuple[bytes, bytes]], look: Callable[[str], None]) -> None:
        """fields: names in lower case. look: hears the name of each field that is looked for."""
        self._fields = fields
        self._look = look

    def all(self, name: str) -> list[str]:
        """The values of a field, in the order in which they were sent."""
        lower = name.lower()
        self._look(lower)
        wanted = lower.encode("latin-1", "replace")
        return [value.decode("latin-1") for key, value in self._fields if key == wanted]

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        if not values:
            raise KeyError(name)
        return values[0] if len(values) == 1 else ", ".join(values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.all(name))

    def __iter__(self) -> Iterator[str]:
        self._look(ALL)
        return iter(dict.fromkeys(name.decode("latin-1") for name, _ in self._fields))

    def __len__(self) -> int:
        self._look(ALL)
        return len({name for name, _ in self._fields})

    def __repr__(self) -> str:
        return f"Headers({dict(self)!r})"


def parse_cookies(values: list[str]) -> dict[str, str]:
    """The cookies of Cookie fields (RFC 6265 section 5.4): the first of a name counts, as it has the longest path. What
    is no pair is left out; quotes around a value are part of it."""
    cookies: dict[str, str] = {}
    for value in values:
        for pair in value.split(";"):
            name, equals, text = pair.partition("=")
            name = name.strip(" \t")
            if equals and name:
                cookies.setdefault(name, text.strip(" \t"))
    return cookies
