"""Modules: functions of Python that answer requests, with the powers of tux(2): what `import tux` offers to them.

    @tux.module("/hello")
    def hello(req: tux.Request) -> str:
        return "Hello!"

Nothing here knows sockets or processes: the process that runs modules is `tux.apps.module`."""

from __future__ import annotations

from tux.modules.asked import current_date
from tux.modules.errors import ClientGoneError, MisuseError, TooLargeError
from tux.modules.mime import register_mime
from tux.modules.objects import Object
from tux.modules.registry import Handler, Registry, module
from tux.modules.request import Request
from tux.modules.tokens import resume

__all__ = [
    "ClientGoneError",
    "Handler",
    "MisuseError",
    "Object",
    "Registry",
    "Request",
    "TooLargeError",
    "current_date",
    "module",
    "register_mime",
    "resume",
]
