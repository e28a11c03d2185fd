"""A child process of the supervisor: what has to happen around every fork."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable

FAILED = 1
"""Exit code of a child that ended by an exception."""


def fork(body: Callable[[], int], failed: Callable[[BaseException], None], handled: Iterable[int]) -> int:
    """Start a process that runs `body`, with all signals blocked, and ends with its result; returns its pid.

    `failed` is told, in the child, of an exception that ends it. `handled`: signals for which the caller has handlers.
    OSError: there can be no process."""
    sys.stdout.flush()
    sys.stderr.flush()
    # Until the child has handlers of its own, a signal must wait: with ours it would be reported to us.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    if pid == 0:
        _become(body, failed, handled)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def _become(body: Callable[[], int], failed: Callable[[BaseException], None], handled: Iterable[int]) -> None:
    """In the child: never returns, whatever happens."""
    code = FAILED
    try:
        # What the supervisor made is never collected here: its memory stays shared, and objects whose descriptors are
        # closed below cannot close others of the same number.
        gc.freeze()
        signal.set_wakeup_fd(-1)
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
        code = body()
    except BaseException as error:  # noqa: BLE001 (it is reported)
        with contextlib.suppress(Exception):
            failed(error)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def reap(pid: int) -> int:
    """The exit code, negative for a signal. 1 when somebody else has waited for it (SIGCHLD ignored)."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return FAILED


def describe_end(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
