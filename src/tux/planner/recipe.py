"""Recipes: what the engine may do for files that it has not seen, told beside the plan for one of them.

The plan for a file depends on its name, its state on the disk, and the request. For most files of a route that have the
same extension, or for those of a folder in it, it depends on nothing but size, time and content, which the engine can
fill in (recipe.h). This is the one place that says for which: whatever is not surely the same for all of them has no
recipe, and costs a decision each, as before. Who makes an answer depend on something new either reads it of the view,
or adds it to `Recipes`.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from tux._engine import EXACT, REMEMBER, Recipe
from tux.http.conditions import CONDITIONS
from tux.planner.globs import segment_of
from tux.planner.plan import Plan
from tux.planner.rules import StaticRule
from tux.planner.shape import Shape
from tux.planner.view import View

READS = CONDITIONS | {"range", "if-range"}
"""Fields of a request that the answer with a whole file may depend on. Requests with one of them are the planner's."""

MAX_KINDS = 1024
"""Kinds of files of a route that are kept; a route with more starts over."""

ANY_MODE = 0xFFFFFFFF
"""Every file has one of these bits."""

Scope: TypeAlias = Literal["all", "below", "beside"]
"""Of which files something is said: all of the route, those below the first folder on the way to one, those beside
it."""
SCOPES: tuple[Scope, ...] = ("all", "below", "beside")


class Recipes:
    """The recipes of one static route."""

    def __init__(self, rule: StaticRule, *, small_body_bytes: int, guarded: bool) -> None:
        """guarded: whether a file may be sent is not told by its identity alone (`tux.planner.hidden`)."""
        self._rule = rule
        self._small_body_bytes = small_body_bytes
        # With hosts, where the files are, and whether there are others in their place, depends on the host.
        self._possible = not (guarded or rule.internal or rule.hosts is not None)
        self._known: dict[tuple[bytes, bytes, Shape], Recipe | None] = {}

    def of(self, view: View, path: bytes, plan: Plan, shape: Shape) -> Recipe | None:
        """The recipe for files like the one at `path` below the root, which was asked for by just this path, and
        answered with `plan`. shape: what follows from the file's name."""
        if not self._possible or plan.status != 200 or plan.flags & (REMEMBER | EXACT) != REMEMBER:
            return None
        if not view.read <= READS or not plan.head.startswith(b"ETag: ", len(shape.ok)):
            return None
        folder, extension = path[: path.rfind(b"/") + 1], exact_extension(path)
        # Whether there is a hash in the name (`immutable`) the engine tells by itself, for each of the two forms.
        key = (folder if any("/" in glob for glob in self._rule.globs) else b"", extension, shape)
        if key not in self._known:
            if len(self._known) >= MAX_KINDS:
                self._known.clear()
            self._known[key] = self._make(folder, extension, shape)
        return self._known[key]

    def _make(self, folder: bytes, extension: bytes, shape: Shape) -> Recipe | None:
        rule = self._rule
        if shape.compressible and rule.compress:
            return None  # whether it is, depends on its size, and on what the client accepts
        for scope in SCOPES:
            if (folder or scope != "below") and all(decides(glob, extension, scope, folder) for glob in rule.globs):
                break
        else:
            return None  # the rules of the route do not say the same of all files with this extension, not even here
        return Recipe(
            len(shape.ok),
            root=rule.root,
            mount_len=len(rule.mount),
            absent=READS,
            sides=rule.precompressed and shape.compressible,
            mode_allowed=rule.mode_allowed or ANY_MODE,
            mode_forbidden=rule.mode_forbidden,
            small_bytes=self._small_body_bytes,
            scope=scope,
        )


def exact_extension(path: bytes) -> bytes:
    """The extension as it is written: globs, unlike media types, tell cases apart."""
    name = path.rpartition(b"/")[2]
    return name.rpartition(b".")[2] if b"." in name else b""


def decides(pattern: str, extension: bytes, scope: Scope = "all", folder: bytes = b"") -> bool:
    """Whether a glob (`tux.planner.globs.compile_glob`) surely matches either all or none of the paths in a scope whose
    last segment has this extension. folder: of the example, b"" or with a slash at its end. False when that cannot be
    told."""
    if "/" not in pattern:
        return _name_decides(pattern, extension)
    *folders, last = pattern.removeprefix("/").split("/")
    last = last or "**"  # "assets/": all that is in that folder
    if last != "**" and _never(last, extension):
        return True
    if scope == "beside":
        if last == "**":
            return True  # matches by the folder alone, whatever the name
        return not _leads_to(folders, folder) or _name_decides(last, extension)
    whole = [one for one in folders if one != "**"]
    if scope == "below" and folders and folders[0] != "**":
        if not re.fullmatch(segment_of(folders[0]), folder.partition(b"/")[0], re.DOTALL):
            return True
        whole = whole[1:]  # it matches; what counts is the rest
        folders = folders[1:]
    elif scope == "below" and not folders and last != "**":
        return True  # a file right below the root, and so none of these
    if whole:
        return False
    return last == "**" or (bool(folders) and _name_decides(last, extension))


def _leads_to(folders: list[str], folder: bytes) -> bool:
    """Whether the folders of a glob are those of a path."""
    parts = [rb"(?:[^/]+/)*" if one == "**" else segment_of(one) + b"/" for one in folders]
    return re.fullmatch(b"".join(parts), folder, re.DOTALL) is not None


def _name_decides(pattern: str, extension: bytes) -> bool:
    """As `decides`, for a glob that is about the name alone, in whatever folder."""
    pieces = _pieces(pattern)
    if not extension:
        return pieces == [b"", b""]
    return _never(pattern, extension) or (pieces[:-1] == [b""] and (b"." + extension).endswith(pieces[-1]))


def _never(pattern: str, extension: bytes) -> bool:
    """Whether a glob for names surely matches none with this extension: they end in a dot and the extension, which has
    no dot itself."""
    end = _pieces(pattern)[-1]
    if not extension:
        return False
    return end.rpartition(b".")[2] != extension if b"." in end else not extension.endswith(end)


def _pieces(pattern: str) -> list[bytes]:
    """What is between the wildcards."""
    return [piece.encode("utf-8", "surrogateescape") for piece in re.split(r"\*+", pattern)]
