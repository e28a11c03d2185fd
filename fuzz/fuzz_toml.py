# SPDX-License-Identifier: MIT
"""Configuration files: any bytes give a configuration or ConfigError, each of whose problems is one line."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["tux", "tomllib"]):
    import tomllib  # noqa: F401 - the loader imports it late, when it would no longer be instrumented

    from tux import errors
    from tux.config import load


def test_one_input(data: bytes) -> None:
    """One input: the bytes of a configuration file."""
    try:
        load.parse(data, "tux.toml")
    except errors.ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert str(problem).startswith("tux.toml"), problem
            assert "\n" not in str(problem), problem


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
