"""A running server of ASGI applications, on a fake port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from tests.unit.apps.fakes import PATIENCE_S, LoopPort
from tests.unit.apps.running import LOOPS, Running, serving
from tux.apps.asgi import server as asgi
from tux.apps.asgi.scope import Application
from tux.apps.options import AppOptions

Serve: TypeAlias = Callable[..., Running]


def start(application: Application, *, reads: bool = True, **options: Any) -> Running:
    options.setdefault("grace", PATIENCE_S)
    given = AppOptions(name="shop", module="shop:app", **options)
    return Running(LoopPort(reads=reads), lambda port, ready: asgi.serve(port, application, given, ready))


@pytest.fixture(params=LOOPS)
def serve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serve an application, on each loop."""
    yield from serving(request.param, monkeypatch, start)
