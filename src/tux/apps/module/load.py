"""From `[module.NAME]` to handlers: files, modules of Python, entry points."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any, Final

from tux.apps.load import Loaded, LoadError, find, import_module, put_first
from tux.apps.options import ModuleOptions
from tux.errors import quoted
from tux.modules import registry as registering
from tux.modules.registry import Registry

ENTRY_POINTS: Final = "tux.modules"
"""The group of entry points in which installed packages offer modules."""
EVENTS: Final = "TUXAPI_handle_events"
"""A module that defines this is one of tux(2), see `tux.compat`."""


def load(options: ModuleOptions) -> Loaded:
    """All handlers of the table. LoadError: something of it cannot be loaded, or nothing was registered."""
    registry = registering.registry
    put_first(os.path.abspath(options.dir), f"module {options.name}")
    for spec in options.modules:
        what = f"module {quoted(spec)}"
        before = len(registry.handlers)
        found, name = _load(spec, what)
        if isinstance(found, ModuleType):
            if hasattr(found, EVENTS) and len(registry.handlers) == before:
                _adopt(found, what)
        else:
            _add(registry, f"/{name}", found, what)
        if len(registry.handlers) == before and not options.paths:
            raise LoadError(
                f"{what}: it registers nothing: expected a function with @tux.module(PATH)"
                + (f", or {EVENTS}" if isinstance(found, ModuleType) else "")
            )
    for path, spec in options.paths.items():
        what = f"module {quoted(spec)}"
        found, _ = _load(spec, what)
        _add(registry, path, found, what)
    return Loaded(registry, "module")


def _load(spec: str, what: str) -> tuple[Any, str]:
    """What a spec names, and a name for it. LoadError."""
    name, _, attribute = spec.partition(":")
    if name.endswith(".py"):
        module: Any = _import_file(name, what)
        if not attribute:
            return module, module.__name__
        return find(module, attribute, what)[0], attribute
    points = [point for point in importlib.metadata.entry_points(group=ENTRY_POINTS) if point.name == spec]
    if points:
        name, _, attribute = points[0].value.partition(":")
        attribute = attribute.partition("[")[0].strip()
    module = import_module(name.strip(), os.getcwd(), what)
    if not attribute:
        return module, spec
    return find(module, attribute, what)[0], spec if points else attribute


def _import_file(path: str, what: str) -> ModuleType:
    full = os.path.abspath(path)
    if not os.path.isfile(full):
        sys.path.insert(0, os.path.dirname(full))  # if the user may not look there, the log says so
        raise LoadError(f"{what}: there is no file {full}")
    name = os.path.basename(full).removesuffix(".py")
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == full:
        return known
    if known is not None or not name.isidentifier():
        name = f"tux_module_{name}"
    put_first(os.path.dirname(full), what)
    spec = importlib.util.spec_from_file_location(name, full)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise LoadError.of(f"{what}: importing it failed", error) from error
    return module


def _adopt(module: ModuleType, what: str) -> None:
    try:
        importlib.import_module("tux.compat.adopt").adopt(module)  # only modules of tux(2) need it
    except (Exception, SystemExit) as error:
        raise LoadError.of(f"{what}: it could not be started", error) from error


def _add(registry: Registry, path: str, found: Any, what: str) -> None:
    if any(handler.target is found and handler.path == path for handler in registry.handlers):
        return
    try:
        registry.add(path, found)
    except (TypeError, ValueError) as error:
        raise LoadError(f"{what}: {error}") from None
