"""The text of `tux --version`."""

from __future__ import annotations

import platform

from tux._version import __version__


def text() -> str:
    """The version, and line by line what was built in."""
    try:
        from tux import _engine
    except ImportError as error:
        engine = f"no ({error})"
    else:
        engine = f"yes ({_engine.__name__})"
    return (
        f"tux {__version__}\n"
        f"engine: {engine}\n"
        "kernel tier: no\n"
        f"python: {platform.python_version()} ({platform.python_implementation()})\n"
    )
