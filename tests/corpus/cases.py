# SPDX-License-Identifier: MIT
"""Reads the *.http files of this folder; README.md describes their form."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent

Lookup = Callable[[str, str], str]
"""Resolves a placeholder: its kind ("etag", "modified") and the path it is about."""

_ESCAPE = re.compile(
    r"""\\(?:(?P<plain>[rnt0\\"]) | x(?P<hex>[0-9a-fA-F]{2})
        | \{(?P<count>[0-9]+)\ \*\ (?P<text>[^{}]+)\}
        | \{(?P<kind>etag|modified)\ (?P<path>/[^{}]*)\}
        | (?P<bad>.?))""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\", '"': '"'}
_STATUS = re.compile(r"([2-5][0-9][0-9])( to HEAD)?")
_FIELD = re.compile(r"([A-Za-z-]+)(: | ~ )(.*)")
_OF = re.compile(r"of (/\S*)(?: ([0-9]+-[0-9]+(?: [0-9]+-[0-9]+)*))?")


class End(enum.Enum):
    """What becomes of the connection."""

    KEPT = "kept"
    CLOSED = "closed"
    WAITS = "waits"


class FormError(Exception):
    """A file is not as README.md has it; the text names file and line."""


@dataclass
class Expected:
    """One response, with what it must have."""

    status: int
    to_head: bool
    fields: list[tuple[str, str]] = field(default_factory=list)
    """Name and value, with escapes."""
    patterns: list[tuple[str, str]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    body: str | None = None
    """With escapes."""
    body_of: str | None = None
    """Path of the file that the body is taken from."""
    ranges: list[tuple[int, int]] = field(default_factory=list)
    """First and last byte of each part; none: all of the file."""
    is_multipart: bool = False


@dataclass
class Case:
    """One case of a file."""

    file: str
    line: int
    title: str
    request: str = ""
    """With escapes; line ends included."""
    responses: list[Expected] = field(default_factory=list)
    end: End | None = None

    @property
    def id(self) -> str:
        return f"{self.file}:{self.title}"


def unescape(text: str, lookup: Lookup | None = None) -> bytes:
    """The bytes that a text with escapes stands for. Text that is not escaped is UTF-8. ValueError: a bad escape."""
    out = bytearray()
    end = 0
    for match in _ESCAPE.finditer(text):
        out += text[end : match.start()].encode()
        end = match.end()
        if match["plain"]:
            out += _PLAIN[match["plain"]].encode()
        elif match["hex"]:
            out.append(int(match["hex"], 16))
        elif match["count"]:
            out += unescape(match["text"]) * int(match["count"])
        elif match["kind"] and lookup is not None:
            out += lookup(match["kind"], match["path"]).encode()
        elif not match["kind"]:
            raise ValueError(f"not an escape: {match[0]!r}")
    return bytes(out + text[end:].encode())


def load() -> list[Case]:
    """All cases. FormError."""
    return [case for path in sorted(FOLDER.glob("*.http")) for case in parse(path.name, path.read_text())]


def parse(name: str, text: str) -> list[Case]:
    """The cases of one file. FormError."""
    cases: list[Case] = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            _parse_line(name.removesuffix(".http"), number, line, cases)
        except ValueError as error:
            raise FormError(f"{name}:{number}: {error}") from None
    for case in cases:
        if not case.request or case.end is None or (not case.responses and case.end is not End.WAITS):
            raise FormError(f"{name}:{case.line}: the case is not complete")
    return cases


def _parse_line(name: str, number: int, line: str, cases: list[Case]) -> None:
    if line != line.rstrip():
        raise ValueError("white space at the end of the line; write \\x20")
    case = cases[-1] if cases else None
    if line.startswith("## "):
        cases.append(Case(name, number, line[3:]))
    elif line[:1] not in (">", "<", "="):
        if case is not None and case.request and line and case.end is None:
            raise ValueError("text between a request and its end")
    elif case is None or case.end is not None:
        raise ValueError("no title before it")
    elif line[0] == ">":
        if case.responses:
            raise ValueError("a request after a response")
        case.request += _request_line(_content(line))
    elif line[0] == "<":
        _response_line(_content(line), case)
    else:
        case.end = End(_content(line))


def _content(line: str) -> str:
    if line[1:2] not in ("", " "):
        raise ValueError("a space must follow the mark")
    return line[2:]


def _request_line(text: str) -> str:
    backslashes = len(text) - len(text.rstrip("\\"))
    text = text[:-1] if backslashes % 2 else text + "\\r\\n"
    unescape(text)
    return text


def _response_line(text: str, case: Case) -> None:
    if match := _STATUS.fullmatch(text):
        case.responses.append(Expected(int(match[1]), match[2] is not None))
        return
    if not case.responses:
        raise ValueError("the response begins with its status")
    expected = case.responses[-1]
    if text.startswith("no "):
        expected.absent.append(text[3:])
    elif text.startswith(("body ", "parts ")):
        what, _, rest = text.partition(" ")
        expected.is_multipart = what == "parts"
        if match := _OF.fullmatch(rest):
            expected.body_of = match[1]
            expected.ranges = list(_ranges(match[2] or ""))
        elif len(rest) >= 2 and rest[0] == rest[-1] == '"' and what == "body":
            unescape(rest[1:-1])
            expected.body = rest[1:-1]
        else:
            raise ValueError(f"not a body: {rest}")
    elif match := _FIELD.fullmatch(text):
        unescape(match[3]) if match[2] == ": " else re.compile(match[3])
        (expected.fields if match[2] == ": " else expected.patterns).append((match[1], match[3]))
    else:
        raise ValueError(f"not understood: {text}")


def _ranges(text: str) -> Iterator[tuple[int, int]]:
    for part in text.split():
        first, _, last = part.partition("-")
        yield int(first), int(last)
