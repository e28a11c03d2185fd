"""A process of an application, or of modules: from the fork to its end."""

from __future__ import annotations

import functools
import gc
import importlib
import io
import logging
import os
import random
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tux._app import Port
from tux.apps import forked
from tux.apps.cgi.options import CgiOptions
from tux.apps.load import LoadError
from tux.daemon import control, privileges
from tux.daemon.worker import close_all_but

if TYPE_CHECKING:
    from tux.daemon.apps import AppSeat
    from tux.daemon.privileges import Account

FAILED: Final = 3
"""Exit code: the application could not be loaded; standard error says why."""

logger = logging.getLogger("tux.app")


def main(seat: AppSeat, *, account: Account) -> int:
    """The life of a process, called after the fork with all signals blocked; returns the exit code. OSError,
    StartError: what the process needs of the system cannot be had."""
    options = seat.options
    close_all_but({seat.control.fileno(), seat.epoll_fd})
    privileges.raise_descriptor_limit()
    mask = os.umask(0o077)
    if not account.is_current:
        os.environ.update(account.environment)
    privileges.become(account)
    os.umask(mask)  # unlike a worker it may write files, for others to read
    if not privileges.die_with_parent(seat.supervisor):
        return 0
    port = Port(seat.epoll_fd, seat.control)
    forked.watch(port)
    # A terminal sends it to the whole group; the supervisor says when to go.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until it serves: there is nothing to finish
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGUSR2 else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what the application prints is seen at once, in a pipe, too
    ready = functools.partial(_ready, seat.control, port)
    if isinstance(options, CgiOptions):
        return _serve_scripts(port, options, ready)
    os.environ.update(options.env)
    try:
        os.chdir(options.dir)
        loaded = options.load()
        serve = _interface(loaded.interface)
        gc.freeze()  # what was loaded stays: no collection needs to look at it
        requests = options.max_requests and options.max_requests + random.randint(0, options.max_requests_jitter)
        port.limits(requests, options.max_memory, functools.partial(_say, seat.control, control.RETIRE))
        serve(port, loaded.application, options, ready=ready)
    except LoadError as error:
        sys.stderr.write(f"{error.trace}tux: {options.label}: {error}\n")
        blocker = privileges.in_the_way([path for path in sys.path if path])
        if blocker:
            sys.stderr.write(
                f"tux: {options.label}: user {account.name} cannot read {blocker}, where modules are looked for, "
                f"too; choose another user with --user NAME, or allow it with chmod o+rx\n"
            )
        return FAILED
    except OSError as error:
        logger.error("%s: %s: %s", options.label, error.filename or options.dir, error.strerror or error)
        return FAILED
    return 0


def _serve_scripts(port: Port, options: CgiOptions, ready: Callable[[], None]) -> int:
    from tux.apps import cgi

    gc.freeze()
    try:
        cgi.serve(port, options, ready)
    except OSError as error:
        logger.error("cgi: %s: %s", error.filename or "cannot start", error.strerror or error)
        return FAILED
    return 0


def _interface(name: str) -> Callable[..., None]:
    """What serves applications of this interface; imported only where it is needed: an ASGI loop costs 50 ms."""
    serve: Callable[..., None] = importlib.import_module(f"tux.apps.{name}").serve
    return serve


def _ready(sock: socket.socket, port: Port) -> None:
    signal.signal(signal.SIGTERM, lambda *_: port.drain())
    control.send(sock, control.READY)


def _say(sock: socket.socket, message: bytes) -> None:
    control.send(sock, message)
