"""What a process of an application, of modules or of scripts answers by itself, because nothing else has answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tux.http.errors import page, page_fields

if TYPE_CHECKING:
    from tux.apps.port import Fields, Port


def refuse(port: Port, key: int, status: int, fields: Fields = ()) -> None:
    """The whole answer: the page of this status, with these fields besides its own."""
    port.answer(key, status, (*page_fields(status), *fields), body=page(status), end=True)
