"""Modules: `[module.NAME]`."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import field

from tux.config.doc import MAX_SECONDS, Doc
from tux.config.processes import Processes

_NAME = r"[^\W\d][\w-]*"
_SPEC = re.compile(rf"(?:[^\0:]*[^\0:/]\.py|{_NAME}(?:\.{_NAME})*)(?::{_NAME}(?:\.{_NAME})*)?")


class Module(Processes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Modules, `[module.NAME]`: functions of Python that answer requests for the paths which they are registered for,
    in processes of their own. Sites and routes name them with `module = "NAME"`; `module = "FILE.py"` there needs no
    table."""

    modules: Annotated[
        tuple[str, ...],
        Doc(
            """What the processes load: `FILE.py` (relative to `dir`), the name of a module of Python, or the name of an
            entry point in the group `tux.modules`."""
        ),
    ] = ()
    paths: Annotated[
        dict[str, str],
        Doc(
            """Path -> `MODULE:ATTRIBUTE`, or a file and `:ATTRIBUTE`: a function or class for a path, whether or not it
            is registered in the code. A path that ends with `/*` stands for all that is below it."""
        ),
    ] = field(default_factory=dict)
    max_body: Annotated[
        int,
        Doc(
            """The largest request body that is read whole, for `req.body`; over it the answer is 413. What a handler
            reads piece by piece has no such limit.""",
            ge=0,
            le=2**40,
            unit="bytes",
        ),
    ] = 1024 * 1024
    report_blocked: Annotated[
        float,
        Doc(
            """A handler that keeps its process busy for so long, while all other requests wait, is reported in the
            error log, with the place where it is. 0: never.""",
            ge=0,
            le=MAX_SECONDS,
            unit="seconds",
        ),
    ] = 1.0


def is_spec(text: str) -> bool:
    """Whether this is FILE.py, MODULE, or the name of an entry point, perhaps with :ATTRIBUTE."""
    return _SPEC.fullmatch(text) is not None


def path_problem(path: str) -> str:
    """What is wrong with a path that a handler is registered for; "" when nothing is."""
    if not path.startswith("/"):
        return "expected a path that begins with /"
    if "*" in path.removesuffix("/*"):
        return "* can only stand at the end, after a slash"
    if "?" in path or "#" in path:
        return "a path has no query and no fragment"
    if any(c < " " or c == "\x7f" for c in path):
        return "a control character"
    return ""
