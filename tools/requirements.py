# SPDX-License-Identifier: MIT
"""Print requirements from pyproject.toml for ``pip install -r``: ``requirements.py build run test lint fuzz``.

``build`` is what the build needs, ``run`` what the package needs, any other name an extra. Thereby the Makefile
installs each group by itself, before the package can be built, and no list exists twice.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def requirements(group: str) -> list[str]:
    """The requirements of a group. KeyError: there is no such group."""
    with PYPROJECT.open("rb") as file:
        data = tomllib.load(file)
    if group == "build":
        found = [*data["build-system"]["requires"], "ninja"]
    elif group == "run":
        found = data["project"]["dependencies"]
    else:
        found = data["project"]["optional-dependencies"][group]
    return [str(requirement) for requirement in found]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(*requirements(name), sep="\n")
