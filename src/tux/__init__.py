"""Tux serves folders over HTTP: `tux serve DIR` on the command line, `tux.serve` and `tux.Server` from Python. Modules
are functions of Python that answer requests: `tux.module`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tux._version import __version__
from tux.api import Server, serve
from tux.errors import ConfigError, StartError

if TYPE_CHECKING:
    from tux.modules import (
        ClientGoneError,
        MisuseError,
        Object,
        Request,
        TooLargeError,
        current_date,
        module,
        register_mime,
        resume,
    )

__all__ = [
    "ClientGoneError",
    "ConfigError",
    "MisuseError",
    "Object",
    "Request",
    "Server",
    "StartError",
    "TooLargeError",
    "__version__",
    "current_date",
    "module",
    "register_mime",
    "resume",
    "serve",
]


def __getattr__(name: str) -> object:
    """What modules need is imported when it is asked for: servers and the command line do without."""
    if name not in __all__:
        raise AttributeError(f"module 'tux' has no attribute {name!r}")
    from tux import modules

    return getattr(modules, name)
