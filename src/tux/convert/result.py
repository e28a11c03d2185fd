"""What a converter makes: a tree for tux.toml, and a note for each line that has no place in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from tux.config import load
from tux.config.emit import dumps
from tux.errors import ConfigError

Kind = Literal["lost", "changed", "needless"]
"""lost: not supported, what it did is not done. changed: done otherwise, look at it. needless: Tux does this anyway."""

KINDS: dict[Kind, str] = {"lost": "not supported", "changed": "changed", "needless": "not needed"}
"""What a reader sees."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something about a line of the other server's configuration. `where`: file and line, or a path of keys."""

    kind: Kind
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {KINDS[self.kind]}: {self.what}"


@dataclass(slots=True)
class Result:
    """What has been converted so far."""

    tree: dict[str, Any] = field(default_factory=lambda: {"server": {}, "upstream": {}, "app": {}, "site": []})
    notes: list[Note] = field(default_factory=list)

    @property
    def server(self) -> dict[str, Any]:
        table: dict[str, Any] = self.tree["server"]
        return table

    def limit(self, key: str, value: float) -> None:
        """Set a limit. One of several servers counts for all, so the largest is taken."""
        limits = self.server.setdefault("limits", {})
        limits[key] = max(limits.get(key, value), value)

    def lost(self, where: str, what: str) -> None:
        self.notes.append(Note("lost", where, what))

    def changed(self, where: str, what: str) -> None:
        self.notes.append(Note("changed", where, what))

    def needless(self, where: str, what: str) -> None:
        self.notes.append(Note("needless", where, what))

    def toml(self) -> str:
        """The tree as TOML, without tables in which there is nothing."""
        return dumps({key: value for key, value in self.tree.items() if value})

    def problems(self, base: str) -> Iterator[str]:
        """What `tux check` would say of it, in the folder `base`: a mistake in the file that was converted, or one of
        the converter's."""
        try:
            load.parse(self.toml().encode(), f"{base}/tux.toml")
        except ConfigError as error:
            for problem in error.problems:
                yield str(problem)


def header(result: Result, source: str) -> str:
    """The comment at the top of the file: all that its reader should look at."""
    lines = [f"# Converted by `tux convert` from {source}."]
    for kind in ("lost", "changed"):
        lines += [f"# {note}" for note in result.notes if note.kind == kind]
    return "".join("".join(line.splitlines()) + "\n" for line in lines)


def prefixed(folder: str, path: str) -> str:
    """The folder of a route whose files lie at the whole path of the request below `folder`."""
    return folder.rstrip("/") + "/" + path.strip("/") if path.strip("/") else folder
