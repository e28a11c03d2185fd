# SPDX-License-Identifier: MIT
"""What a service manager hands over in the environment: sockets, and where to say how things stand.

Sources: sd_listen_fds(3), sd_notify(3). Everything is taken out of the environment: it is not meant for applications.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Final

FIRST_DESCRIPTOR: Final = 3
"""SD_LISTEN_FDS_START."""
UNNAMED: Final = "unknown"
"""What sd_listen_fds_with_names(3) calls a socket without a name."""

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"

Notify = Callable[[str], None]

logger = logging.getLogger("tux.supervisor")


def reloading() -> str:
    """A message: from now on, until `READY`. With the time, as Type=notify-reload asks for."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def take_notifier() -> Notify:
    """What says something to the manager; to be called once. Without one, nothing is said."""
    path = os.environ.pop("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return lambda _text: None
    address = "\0" + path[1:] if path.startswith("@") else path

    def notify(text: str) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.sendto(text.encode(), address)
        except OSError as error:  # it is no reason not to serve
            logger.warning("cannot tell the service manager: %s", error.strerror)

    return notify


def take_sockets() -> dict[str, list[int]]:
    """Descriptors that were handed over to this very process, by the names that the manager has for them; to be called
    once."""
    pid, count, names = (os.environ.pop(f"LISTEN_{key}", "") for key in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return {}
    by_name: dict[str, list[int]] = {}
    given = names.split(":") if names else []
    for index in range(int(count)):
        name = given[index] if index < len(given) else UNNAMED
        by_name.setdefault(name, []).append(FIRST_DESCRIPTOR + index)
    return by_name
