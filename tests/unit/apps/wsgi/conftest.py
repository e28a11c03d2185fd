"""Applications, served at a stand-in for the port. All of them are looked at by wsgiref.validate, except where they are
wrong on purpose."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from tests.unit.apps.fakes import PATIENCE_S, FakePort
from tux.apps.options import AppOptions
from tux.apps.wsgi.pool import Pool

Serve = Callable[..., FakePort]


@pytest.fixture
def serving(caplog: pytest.LogCaptureFixture) -> Iterator[Serve]:
    """serving(application, threads=2, validate=True, reads=True, ...) gives the port. At the end everything is
    finished, nothing is left open, and the port was used as it allows."""
    running: list[tuple[FakePort, threading.Thread]] = []
    caplog.set_level(logging.INFO, "tux.app")

    def start(application: Any, *, validate: bool = True, reads: bool = True, **options: Any) -> FakePort:
        port = FakePort(reads=reads)
        every = AppOptions(name="test", module="test", **{"threads": 2, **options})
        target = validator(application) if validate else application
        port.pool = Pool(port, target, every)
        thread = threading.Thread(target=port.pool.serve, daemon=True)
        running.append((port, thread))
        thread.start()
        return port

    yield start
    for port, thread in running:
        port.drain()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert port.errors == []
        assert port.unended == set()
        assert not port.pool._exchanges


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Messages of the error log."""
    return lambda: [record.getMessage() for record in caplog.records if record.name == "tux.app"]
