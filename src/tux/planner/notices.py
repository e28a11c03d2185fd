"""Lines for the error log that a client can cause, and must not be able to repeat at will."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Hashable

MAX_NOTICES = 1024
"""Subjects that are remembered; the oldest is forgotten first, so that memory stays bounded."""
QUIET_S = 60.0
"""Seconds in which trouble that comes and goes is mentioned once."""

logger = logging.getLogger("tux.planner")


class Notices:
    """Says a thing once, or once per period."""

    def __init__(self) -> None:
        self._quiet_until: dict[Hashable, float] = {}

    def due(self, subject: Hashable, quiet_s: float = math.inf) -> bool:
        """Whether `subject` is to be mentioned now; it then is not for `quiet_s` seconds."""
        now = time.monotonic()
        if self._quiet_until.get(subject, 0.0) > now:
            return False
        self._quiet_until.pop(subject, None)
        if len(self._quiet_until) >= MAX_NOTICES:
            del self._quiet_until[next(iter(self._quiet_until))]
        self._quiet_until[subject] = now + quiet_s
        return True
