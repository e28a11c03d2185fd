"""`--reload`: a process that watches the code of applications, and tells the supervisor when a file has changed."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import selectors
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Final

from tux.daemon import privileges
from tux.daemon.fork import fork, reap
from tux.daemon.worker import close_all_but
from tux.errors import StartError

SUFFIXES: Final = (".py", ".html", ".jinja", ".jinja2", ".toml", ".yaml", ".yml", ".json", ".po", ".mo")
"""Of files whose change may change what an application does."""
STEP_MS: Final = 200
"""Changes within this time count as one: editors and version control write several files."""

logger = logging.getLogger("tux.supervisor")


class Watcher:
    """The process, seen from the supervisor."""

    def __init__(self, folders: Sequence[str], changed: Callable[[], None], handled: Sequence[int]) -> None:
        """`changed` is called when a file has changed that is below `folders`, or one of them. StartError: watchfiles
        is not installed."""
        if importlib.util.find_spec("watchfiles") is None:
            raise StartError('--reload needs the package watchfiles: pip install "tux-server[reload]"')
        self._folders = list(dict.fromkeys(folders))
        self._changed = changed
        self._handled = handled
        self._pid = 0

    def start(self, selector: selectors.BaseSelector) -> None:
        """Start watching. StartError: there can be no process."""
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.settimeout(0)
        supervisor = os.getpid()
        try:
            self._pid = fork(lambda: _watch(self._folders, theirs, supervisor), _report, self._handled)
        except OSError as error:
            raise StartError(f"--reload: {error.strerror}") from None
        theirs.close()
        self._selector = selector
        selector.register(self._ours, selectors.EVENT_READ, self._on_message)

    def end(self) -> None:
        """Stop watching."""
        if self._pid:
            if self._ours in self._selector.get_map():
                self._selector.unregister(self._ours)
            self._ours.close()
            os.kill(self._pid, signal.SIGKILL)
            reap(self._pid)
            self._pid = 0

    def _on_message(self) -> None:
        try:
            message = self._ours.recv(4096)
        except BlockingIOError:
            return
        if not message:
            self._selector.unregister(self._ours)
            logger.error("--reload: changes are not seen any more")
            return
        logger.info("%s has changed: applications are started anew", message.decode("utf-8", "replace"))
        self._changed()


def _watch(folders: Sequence[str], sock: socket.socket, supervisor: int) -> int:
    from watchfiles import Change, watch  # its threads are this process's alone

    close_all_but({sock.fileno()})
    if not privileges.die_with_parent(supervisor, signal.SIGKILL):
        return 0
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def counts(_change: Change, path: str) -> bool:
        return path.endswith(SUFFIXES) and "/." not in path and "/__pycache__/" not in path

    for changes in watch(*folders, watch_filter=counts, step=STEP_MS, raise_interrupt=False):
        path = min(path for _, path in changes)
        with contextlib.suppress(BlockingIOError):
            sock.send(os.fsencode(path)[:4096])
    return 0


def _report(error: BaseException) -> None:
    logger.error("--reload: %s", error)
