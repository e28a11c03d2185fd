"""Where the code of applications and modules lies, for `--reload`: found out without importing any of it, since the
process that asks serves for longer than the code does."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder

from tux.apps.module.load import ENTRY_POINTS
from tux.apps.options import AppOptions, ModuleOptions


def sources(options: Iterable[AppOptions | ModuleOptions]) -> list[str]:
    """Folders, each with what is below it: `dir`, those of the files, and of the packages that are imported, be they
    installed elsewhere. What is not there, or lies below another one, is left out. A module of a single file among
    others' is the file alone."""
    found = dict.fromkeys(os.path.realpath(path) for one in options for path in _of(one) if os.path.exists(path))
    return [path for path in found if not any(path != other and _is_below(path, other) for other in found)]


def _of(options: AppOptions | ModuleOptions) -> Iterator[str]:
    yield options.dir
    if isinstance(options, AppOptions):
        yield from _imported(options.module, options.dir)
        return
    for spec in (*options.modules, *options.paths.values()):
        file = spec.partition(":")[0]
        if file.endswith(".py"):
            yield os.path.dirname(os.path.join(options.dir, file))
            continue
        points = importlib.metadata.entry_points(group=ENTRY_POINTS, name=spec)
        yield from _imported(next((point.value for point in points), spec), options.dir)


def _imported(name: str, folder: str) -> Iterator[str]:
    """The folders of the package that MODULE:ATTRIBUTE begins with."""
    package = name.partition(":")[0].strip().partition(".")[0]
    spec = _find(package, folder)
    if spec is None:
        return
    if spec.submodule_search_locations is not None:
        yield from spec.submodule_search_locations
    elif spec.origin is not None:
        yield spec.origin


def _find(package: str, folder: str) -> ModuleSpec | None:
    try:
        return PathFinder.find_spec(package, [folder]) or importlib.util.find_spec(package)
    except (ImportError, ValueError):  # its process will say what is wrong
        return None


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")
