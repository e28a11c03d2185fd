"""What starts CGI scripts (script.h), for the one thread of the process that serves them."""

from collections.abc import Sequence
from typing import final

@final
class Child:
    """A program that was started for a request. Its descriptors are the caller's, and do not block."""

    pid: int
    pidfd: int
    input: int  # what is written here it reads; -1 if it was given its input
    output: int
    errors: int
    error: int  # errno of a child that could not become the program, else 0; settled once its output has ended

    def __init__(
        self, path: bytes, folder: bytes, variables: bytes, input_fd: int, limits: Sequence[tuple[int, int]]
    ) -> None:
        """Start `path` in `folder`, with the environment `variables` (NAME=VALUE, each ended by a NUL). It leads a
        session of its own, and inherits nothing but its three standard descriptors. input_fd: its standard input; -1
        makes a pipe. limits: (RLIMIT_..., most). OSError: no process can be started."""

    def signal(self, number: int) -> None:
        """Send a signal to its process group, if it is not reaped."""

    def ended(self) -> int | None:
        """The status, as of wait(2), when it has ended: what is left of its process group is killed, and it is reaped.
        None: it has not ended. RuntimeError: that was said before."""

def adopt_orphans() -> None:
    """Orphans of scripts become children of this process. OSError."""
