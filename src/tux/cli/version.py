"""The text of `tux --version`."""

from __future__ import annotations

import platform

from tux._version import __version__


def text() -> str:
    """The version, and line by line what was built in."""
    return (
        f"tux {__version__}\n"
        f"engine: {_engine()}\n"
        f"kernel tier: {_kernel_tier()}\n"
        f"python: {platform.python_version()} ({platform.python_implementation()})\n"
    )


def _engine() -> str:
    try:
        from tux import _engine
    except ImportError as error:
        return f"no ({error})"
    return f"yes ({_engine.__name__})"


def _kernel_tier() -> str:
    """Whether its programs were built; whether they can be loaded is another matter, and a matter of rights."""
    from tux.kernel.load import read_object
    from tux.kernel.object import ObjectError

    try:
        programs = read_object().programs
    except FileNotFoundError:
        return "no (built without a compiler for eBPF)"
    except (OSError, ObjectError) as error:
        return f"no ({error})"
    return f"yes ({len(programs)} programs)"
