"""Tux serves folders over HTTP: `tux serve DIR` on the command line, `tux.serve` and `tux.Server` from Python."""

from __future__ import annotations

from tux._version import __version__
from tux.api import Server, serve
from tux.errors import ConfigError, StartError

__all__ = ["ConfigError", "Server", "StartError", "__version__", "serve"]
