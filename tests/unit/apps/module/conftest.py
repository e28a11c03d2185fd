"""A running process of modules, on a fake port."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import pytest

from tests.unit.apps.fakes import PATIENCE_S, LoopPort
from tests.unit.apps.running import LOOPS, Running, serving
from tux.apps.module import server as module_server
from tux.apps.options import ModuleOptions
from tux.modules.registry import Registry

Serve: TypeAlias = Callable[..., Running]
"""Of handlers: one for "/", or path -> handler or (handler, what `Registry.add` takes)."""


def registry_of(handlers: Any) -> Registry:
    registry = Registry()
    for path, entry in (handlers if isinstance(handlers, dict) else {"/": handlers}).items():
        handler, more = entry if isinstance(entry, Sequence) else (entry, {})
        registry.add(path, handler, **more)
    return registry


def start(handlers: Any, *, reads: bool = True, **options: Any) -> Running:
    options.setdefault("grace", PATIENCE_S)
    given, registry = ModuleOptions(name="shop", **options), registry_of(handlers)
    return Running(LoopPort(reads=reads), lambda port, ready: module_server.serve(port, registry, given, ready))


@pytest.fixture(params=LOOPS)
def serve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serve handlers, on each loop."""
    yield from serving(request.param, monkeypatch, start)


def until(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
