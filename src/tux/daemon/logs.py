"""The two logs: errors (module logging, to standard error) and accesses (a descriptor that the engine writes to)."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

from tux.errors import StartError

ACCESS_LOG_MODE = 0o640
"""Of an access log that we create: who visited what is not for everybody."""

_STDOUT = 1
_STDERR = 2


class _Formatter(logging.Formatter):
    """`tux: text`, one line whatever the text holds; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        label = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        text = f"tux: {label}" + record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


@contextlib.contextmanager
def error_log() -> Iterator[None]:
    """Within: what the loggers below "tux" say, from INFO on, goes to standard error. Afterwards all is as before."""
    logger = logging.getLogger("tux")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    before = (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


class AccessLog:
    """Where requests are logged: a file, standard output ("-"), standard error, or nowhere ("off").

    Not set (None) means standard error when it is a terminal, else nowhere."""

    def __init__(self, target: str | None) -> None:
        """StartError: the file cannot be opened."""
        self.path = ""
        self.fd = -1
        """-1: no log."""
        if target is None:
            self.fd = _STDERR if _is_terminal(_STDERR) else -1
        elif target == "-":
            self.fd = _STDOUT
        elif target != "off":
            self.path = os.path.abspath(target)
            try:
                self.fd = self._open()
            except OSError as error:
                raise StartError(f"cannot open the access log {self.path}: {error.strerror}") from None

    def reopen(self) -> bool:
        """Open the path anew, after it was renamed. OSError: the old file stays in use. False: there is no file."""
        if not self.path:
            return False
        fd = self._open()
        os.close(self.fd)
        self.fd = fd
        return True

    def close(self) -> None:
        if self.path and self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def _open(self) -> int:
        # O_APPEND: the workers' writes never overwrite each other. O_NONBLOCK: opening a FIFO without a reader fails
        # at once, and does not hang.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        fd = os.open(self.path, flags, ACCESS_LOG_MODE)
        os.set_blocking(fd, True)
        return fd


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False
