"""Children that an application forks by os.fork: one that comes back from the application must not go on as a server.

It has its parent's links, and its parent's clients: both would answer, and each break what the other writes. So its
links are taken from it, and it ends where a program of its own would: when the application returns, or raises."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from typing import NoReturn

from tux._app import Port

here = False
"""This process is such a child."""

FAILED = 1
"""Exit code of one that returned, or raised something else than SystemExit."""

logger = logging.getLogger("tux.app")


def watch(port: Port) -> None:
    """From now on children are told apart. To be called once in each process of an application.

    SIGTERM, which has a handler in the parent, ends a child again: multiprocessing counts on that. It is blocked around
    the fork, because Python forgets a signal that comes to the child before it has begun."""
    blocked = threading.local()

    def before() -> None:
        blocked.mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked.mask)

    def in_child() -> None:
        global here  # noqa: PLW0603 (a property of the process, read with each request)
        here = True
        port.forget()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked.mask)

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def leave(error: BaseException | None) -> NoReturn:
    """End this child as Python would: `error` is what the application raised, None if it returned."""
    code = FAILED
    try:
        if isinstance(error, SystemExit):
            code = 0 if error.code is None else error.code if isinstance(error.code, int) else FAILED
            if isinstance(error.code, str):
                sys.stderr.write(f"{error.code}\n")
        elif error is not None:
            traceback.print_exception(error)
        else:
            logger.error("a child that the application forked has returned from it, and ends: os._exit() is missing")
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 0xFF)
