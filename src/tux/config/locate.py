"""Line numbers for places in TOML text (https://toml.io/en/v1.0.0): tomllib gives none.

The text has been parsed by tomllib before, so it is valid, and this scanner needs to understand structure only: where
keys, tables and elements of arrays begin. When it does not understand something it stops, and the places after that
have no line.
"""

from __future__ import annotations

import re

Place = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_STRING = re.compile(
    r'"""(?:[^\\"]|\\.|"(?!""))*"""(?:"{0,2}(?!"))'
    r"|'''(?:[^']|'(?!''))*'''(?:'{0,2}(?!'))"
    r'|"(?:[^\\"\n]|\\[^\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SPACE = re.compile(r"(?:[ \t\r\n]|\#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_SCALAR = re.compile(r"[^,\]}\n#]+")


class _LostError(Exception):
    """The scanner does not understand the text."""


def lines(text: str) -> dict[Place, int]:
    """The line (from 1) where each key, table and element begins."""
    scanner = _Scanner(text)
    try:
        scanner.document()
    except (_LostError, RecursionError):
        pass
    return scanner.found


def line_of(found: dict[Place, int], place: Place) -> int | None:
    """The line of a place, or of the nearest thing around it that has one."""
    while place:
        if place in found:
            return found[place]
        place = place[:-1]
    return None


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Place, int] = {}
        self._arrays: dict[Place, int] = {}  # arrays of tables: number of elements so far
        self._line, self._line_at = 1, 0

    def document(self) -> None:
        table: Place = ()
        while True:
            self._skip(_SPACE)
            if self.at >= len(self.text):
                return
            if self.text.startswith("[[", self.at):
                table = self._header("[[", "]]")
            elif self.text.startswith("[", self.at):
                table = self._header("[", "]")
            else:
                self._pair(table)

    def _header(self, opening: str, closing: str) -> Place:
        line = self._here()
        self._expect(opening)
        *outer, last = self._key()
        self._expect(closing)
        place = self._resolve((), outer)
        place = (*place, last)
        if opening == "[[":
            count = self._arrays.get(place, 0)
            self._arrays[place] = count + 1
            self.found.setdefault(place, line)
            place = (*place, count)
        self.found[place] = line
        return place

    def _resolve(self, place: Place, keys: list[str]) -> Place:
        """Down from a place by keys, into the latest element of each array of tables on the way."""
        for key in keys:
            place = (*place, key)
            if place in self._arrays:
                place = (*place, self._arrays[place] - 1)
        return place

    def _pair(self, table: Place) -> None:
        line = self._here()
        place = table
        for key in self._key():
            place = (*place, key)
            self.found.setdefault(place, line)
        self._expect("=")
        self._skip(_BLANK)
        self._value(place)

    def _key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self._skip(_BLANK)
            if self.text[self.at : self.at + 1] in ('"', "'"):
                import tomllib  # as in tux.config.load

                try:
                    parts.append(str(tomllib.loads("k=" + self._match(_STRING))["k"]))
                except tomllib.TOMLDecodeError:
                    raise _LostError from None
            else:
                parts.append(self._match(_BARE))
            self._skip(_BLANK)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def _value(self, place: Place) -> None:
        first = self.text[self.at : self.at + 1]
        if first in ('"', "'"):
            self._match(_STRING)
        elif first == "[":
            self.at += 1
            for i in range(len(self.text)):
                self._skip(_SPACE)
                if self._took("]"):
                    return
                self.found[(*place, i)] = self._here()
                self._value((*place, i))
                self._skip(_SPACE)
                self._took(",")
        elif first == "{":
            self.at += 1
            self._skip(_BLANK)
            while not self._took("}"):
                self._pair(place)
                self._skip(_BLANK)
                if self._took(","):
                    self._skip(_BLANK)
        else:
            self._match(_SCALAR)

    def _here(self) -> int:
        self._line += self.text.count("\n", self._line_at, self.at)
        self._line_at = self.at
        return self._line

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if not found:
            raise _LostError
        self.at = found.end()
        return found[0]

    def _took(self, text: str) -> bool:
        if not self.text.startswith(text, self.at):
            return False
        self.at += len(text)
        return True

    def _expect(self, text: str) -> None:
        self._skip(_BLANK)
        if not self._took(text):
            raise _LostError
