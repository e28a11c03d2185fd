# SPDX-License-Identifier: MIT
"""Handlers that keep the loop of their process busy are told to their author."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from tests.unit.apps.module.conftest import Serve, until
from tux.apps.module.watchdog import is_waiting
from tux.modules import Request


@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_that_blocks_is_reported(serve: Serve, is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()

    def plain(req: Request) -> str:
        go.wait()  # blocked here
        return "done"

    async def coroutine(req: Request) -> str:
        return plain(req)

    server = serve({"/slow": coroutine if is_async else plain}, report_blocked=0.05)
    answer = server.request(target="/slow")
    until(lambda: "It is here" in caplog.text)
    go.set()
    assert answer.done().body == b"done"
    until(lambda: "blocked its process for" in caplog.text)
    assert "for GET /slow, blocks its process" in caplog.text
    assert "go.wait()  # blocked here" in caplog.text
    assert "tux/apps/module" not in caplog.text


def test_a_handler_that_blocks_within_tux_is_shown_where_it_called(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    go = threading.Event()

    class Slow:
        def fileno(self) -> int:
            go.wait()
            return -1

    def handler(req: Request) -> None:
        req.write_file(Slow())  # called here

    server = serve(handler, report_blocked=0.05)
    answer = server.request()
    until(lambda: "It is here" in caplog.text)
    go.set()
    assert answer.refusal() == 500
    text = next(record.getMessage() for record in caplog.records if "It is here" in record.getMessage())
    assert "called here" in text
    assert "go.wait()" in text
    assert "tux/apps/" not in text


def test_a_loop_that_waits_for_events_is_known_by_its_frame(serve: Serve) -> None:
    server = serve(lambda req: "done")
    assert server.get().body == b"done"
    until(lambda: is_waiting(sys._current_frames()[server.thread.ident or 0]))


def test_a_process_that_waits_is_not_reported(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def patient(req: Request) -> str:
        await asyncio.sleep(0.2)
        return "slept"

    server = serve(patient, report_blocked=0.01)
    assert server.get().body == b"slept"
    server.end()
    assert not caplog.text
