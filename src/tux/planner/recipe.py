"""Recipes: what the engine may do for files that it has not seen, told beside the plan for one of them.

The plan for a file depends on its name, its state on the disk, and the request. For most files of a route that have the
same extension it depends on nothing but size, time and content, which the engine can fill in (recipe.h). This is the
one place that says for which: whatever is not surely the same for all of them has no recipe, and costs a decision each,
as before. Who makes an answer depend on something new either reads it of the view, or adds it to `Recipes`.
"""

from __future__ import annotations

import re

from tux._engine import EXACT, REMEMBER, Recipe
from tux.http.conditions import CONDITIONS
from tux.planner.plan import Plan
from tux.planner.rules import StaticRule
from tux.planner.shape import Shape
from tux.planner.view import View

READS = CONDITIONS | {"range", "if-range"}
"""Fields of a request that the answer with a whole file may depend on. Requests with one of them are the planner's."""

MAX_EXTENSIONS = 1024
"""Extensions of a route that are kept; a route with more starts over."""

ANY_MODE = 0xFFFFFFFF
"""Every file has one of these bits."""


class Recipes:
    """The recipes of one static route."""

    def __init__(self, rule: StaticRule, *, small_body_bytes: int, guarded: bool) -> None:
        """guarded: whether a file may be sent is not told by its identity alone (`tux.planner.hidden`)."""
        self._rule = rule
        self._small_body_bytes = small_body_bytes
        # With `immutable` a name may mean more than its extension does; with hosts the folder depends on the host.
        self._possible = not (guarded or rule.internal or rule.immutable or rule.hosts is not None)
        self._known: dict[tuple[bytes, Shape], Recipe | None] = {}

    def of(self, view: View, path: bytes, plan: Plan, shape: Shape) -> Recipe | None:
        """The recipe for files like the one at `path` below the root, which was asked for by just this path, and
        answered with `plan`. shape: what follows from the file's name."""
        if not self._possible or plan.status != 200 or plan.flags & (REMEMBER | EXACT) != REMEMBER:
            return None
        if not view.read <= READS or not plan.head.startswith(b"ETag: ", len(shape.ok)):
            return None
        extension = exact_extension(path)
        key = (extension, shape)
        if key not in self._known:
            if len(self._known) >= MAX_EXTENSIONS:
                self._known.clear()
            self._known[key] = self._make(extension, shape)
        return self._known[key]

    def _make(self, extension: bytes, shape: Shape) -> Recipe | None:
        rule = self._rule
        if shape.compressible and rule.compress:
            return None  # whether it is, depends on its size, and on what the client accepts
        if not all(decides(glob, extension) for glob in rule.globs):
            return None  # the rules of the route do not say the same of all files with this extension
        return Recipe(
            len(shape.ok),
            root=rule.root,
            mount_len=len(rule.mount),
            absent=READS,
            sides=rule.precompressed and shape.compressible,
            mode_allowed=rule.mode_allowed or ANY_MODE,
            mode_forbidden=rule.mode_forbidden,
            small_bytes=self._small_body_bytes,
        )


def exact_extension(path: bytes) -> bytes:
    """The extension as it is written: globs, unlike media types, tell cases apart."""
    name = path.rpartition(b"/")[2]
    return name.rpartition(b".")[2] if b"." in name else b""


def decides(pattern: str, extension: bytes) -> bool:
    """Whether a glob (`tux.planner.globs.compile_glob`) surely matches either all or none of the paths whose last
    segment has this extension. False when that cannot be told."""
    whole = pattern if "/" not in pattern else pattern.removeprefix("/").rpartition("/")[2] or "**"
    pieces = [piece.encode("utf-8", "surrogateescape") for piece in re.split(r"\*+", whole)]
    end = pieces[-1]
    if extension:  # the name ends in a dot and the extension, which has no dot itself
        behind = b"." + extension
        if b"." in end and end.rpartition(b".")[2] != extension:
            return True  # none
        if b"." not in end and not extension.endswith(end):
            return True  # none
        return "/" not in pattern and pieces[:-1] == [b""] and behind.endswith(end)  # all
    return "/" not in pattern and pieces == [b"", b""]
