"""The natural face's request as the compatible calls need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tux.modules.request import Request


class NaturalFace:
    def __init__(self, request: Request) -> None:
        self.request = request

    def redirect(self) -> None: ...


def register(path, handler) -> None: ...
