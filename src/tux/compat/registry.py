"""Which names the modules of this process have: REGISTER_MODULE and UNREGISTER_MODULE, while TUXAPI_init() runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

TUXAPI_modulename_array: Final[dict[int, str]] = {}
"""Name by module_index."""


class Loading:
    """The names of one module file."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        """Name -> module_index."""

    def add(self, name: str, index: int) -> bool:
        """Whether neither is taken."""
        if name in TUXAPI_modulename_array.values() or index in TUXAPI_modulename_array:
            return False
        TUXAPI_modulename_array[index] = name
        self.names[name] = index
        return True

    def add_next(self, name: str) -> bool:
        """With the first index that is free."""
        return self.add(
            name, next(i for i in range(1, len(TUXAPI_modulename_array) + 2) if i not in TUXAPI_modulename_array)
        )

    def remove(self, name: str) -> bool:
        """Whether it was there."""
        index = self.names.pop(name, None)
        if index is None:
            return False
        del TUXAPI_modulename_array[index]
        return True


loading: Loading | None = None
"""Of the file whose TUXAPI_init() runs now."""


@contextlib.contextmanager
def load() -> Iterator[Loading]:
    """While a module file is loaded."""
    global loading  # noqa: PLW0603 (tux() has no other way to know whom it is called by)
    loading = Loading()
    try:
        yield loading
    finally:
        loading = None
