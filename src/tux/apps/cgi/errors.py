"""What scripts write to standard error, and what is wrong with them, as lines of the error log: bounded in length and
in number, so that no script can fill a disk, or forge a line."""

from __future__ import annotations

import logging
import time
from typing import Final

MAX_LINE_BYTES: Final = 1024
"""A longer line is cut."""
LINES_PER_SECOND: Final = 100
"""Of all scripts of a process, for as long as they like ..."""
BURST_LINES: Final = 500
"""... after so many at once: a traceback has some dozens."""

logger = logging.getLogger("tux.app")


class ErrorLog:
    """For all scripts of a process."""

    def __init__(self) -> None:
        self._credit = float(BURST_LINES)
        self._then = time.monotonic()
        self._dropped = 0

    def say(self, label: str, name: bytes, text: str, *, level: int = logging.ERROR) -> None:
        """A line about the request `label` of the script `name`."""
        now = time.monotonic()
        self._credit = min(BURST_LINES, self._credit + (now - self._then) * LINES_PER_SECOND)
        self._then = now
        if self._credit < 1:
            self._dropped += 1
            return
        if self._dropped:
            logger.error("cgi: %d lines of scripts were dropped", self._dropped)
            self._dropped = 0
        self._credit -= 1
        logger.log(level, "cgi: %s %s: %s", label, printable(name), text)


class Lines:
    """What one script writes to standard error, made into lines."""

    def __init__(self, log: ErrorLog, label: str, name: bytes) -> None:
        self._log = log
        self._label = label
        self._name = name
        self._data = b""
        self._cut = False
        """The line was too long, and the rest of it is dropped."""

    def feed(self, data: bytes) -> None:
        """More bytes."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._end(self._data + line)
            self._data = b""
            self._cut = False
        if not self._cut:
            self._data += rest
            if len(self._data) > MAX_LINE_BYTES:
                self._end(self._data)
                self._data = b""
                self._cut = True

    def end(self) -> None:
        """Nothing follows."""
        if self._data:
            self.feed(b"\n")

    def _end(self, line: bytes) -> None:
        if self._cut or not line.strip():
            return
        text = printable(line[:MAX_LINE_BYTES].rstrip())
        self._log.say(self._label, self._name, text + ("..." if len(line) > MAX_LINE_BYTES else ""))


def printable(text: bytes) -> str:
    """As text without characters that a terminal or a reader of lines would obey, or that cannot be seen."""
    line = text.decode("utf-8", "backslashreplace")
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in line)
