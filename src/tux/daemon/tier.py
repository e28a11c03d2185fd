# SPDX-License-Identifier: MIT
"""The kernel tier as the supervisor holds it: a mistake in it costs the tier, and not the server."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from typing import Protocol

from tux.daemon.worker import KernelSeat

logger = logging.getLogger("tux.supervisor")


class TierLike(Protocol):
    """What a supervisor needs of `tux.kernel.tier.KernelTier`; see there."""

    def worker_seat(self, worker: int, /) -> KernelSeat: ...
    def messages(self, worker: int, /) -> socket.socket: ...
    def on_message(self, worker: int, /) -> bool: ...
    def worker_gone(self, worker: int, /) -> None: ...
    def reopen_log(self, fd: int, /) -> None: ...
    def due(self) -> float: ...
    def tick(self) -> None: ...
    def quiet(self) -> None: ...
    def finish(self, patience: float = ..., /) -> None: ...


class Tier:
    """One that may not be there, and may fail: without a heartbeat it answers nothing."""

    def __init__(self, tier: TierLike | None) -> None:
        self._tier = tier
        self._failed = False

    @contextlib.contextmanager
    def _without_harm(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            logger.exception("the kernel tier failed; workers answer all requests from now on")
            self._failed = True

    def seat(self, index: int) -> KernelSeat | None:
        """What it has for a worker; without it the worker serves all the same."""
        if self._tier is None:
            return None
        try:
            return self._tier.worker_seat(index)
        except OSError as error:
            logger.error("worker %d has no part in the kernel tier: %s", index, error)
            return None

    def messages(self, worker: int) -> socket.socket:
        """Of a worker that has a seat: readable when `on_message` is to be called."""
        assert self._tier is not None
        return self._tier.messages(worker)

    def on_message(self, worker: int) -> bool:
        """False: nothing more comes from there."""
        heard = []
        with self._without_harm():
            heard = [self._tier is not None and self._tier.on_message(worker)]
        return any(heard)

    def worker_gone(self, worker: int) -> None:
        with self._without_harm():
            if self._tier is not None:
                self._tier.worker_gone(worker)

    def reopen_log(self, fd: int) -> None:
        with self._without_harm():
            if self._tier is not None:
                self._tier.reopen_log(fd)

    def due(self) -> float | None:
        """When `tick` is to be called; None: never."""
        return None if self._tier is None or self._failed else self._tier.due()

    def tick(self) -> None:
        """Do what is due."""
        due = self.due()
        if self._tier is not None and due is not None and due <= time.monotonic():
            with self._without_harm():
                self._tier.tick()

    def quiet(self) -> None:
        with self._without_harm():
            if self._tier is not None:
                self._tier.quiet()

    def finish(self, *, at_once: bool) -> None:
        with self._without_harm():
            if self._tier is not None and at_once:
                self._tier.finish(0.0)
            elif self._tier is not None:
                self._tier.finish()
