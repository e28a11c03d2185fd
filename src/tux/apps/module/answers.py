"""What a handler returned -> an answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from tux.modules.objects import Object
from tux.modules.request import FINISHED, NEW, Done, Postponed, RawFields, Request, raw_fields

_TYPE: Final = b"content-type"
TEXT: Final[RawFields] = [(_TYPE, b"text/plain; charset=utf-8")]
BYTES: Final[RawFields] = [(_TYPE, b"application/octet-stream")]
_JSON: Final[RawFields] = [(_TYPE, b"application/json")]
_NONE: Final[RawFields] = []

Stream = Generator[Any, None, Any] | AsyncGenerator[Any, None]


def answer(request: Request, result: Any) -> Stream | None:
    """Answer with what the handler returned; a generator of the body is given back, to be sent piece by piece.
    TypeError: it is nothing that could be sent; ValueError: a field cannot be sent; MisuseError: there is an answer."""
    kind = type(result)
    if kind is str:
        request.answer(200, request.handler.fields or TEXT, result.encode())
    elif kind is bytes:
        request.answer(200, request.handler.fields or BYTES, result)
    elif result is None:
        _answer_nothing(request)
    elif kind is tuple:
        return _answer_tuple(request, result)
    else:
        return _answer_other(request, 200, _NONE, result)
    return None


def _answer_nothing(request: Request) -> None:
    if request.phase == NEW:
        request.answer(204, _NONE, b"")
    elif request.phase != FINISHED:
        request.finish()


def _answer_tuple(request: Request, result: tuple[Any, ...]) -> Stream | None:
    """(status, body), or (status, headers, body)."""
    if len(result) == 2:
        status, body = result
        fields = _NONE
    elif len(result) == 3:
        status, headers, body = result
        fields = raw_fields(headers or ())
    else:
        raise TypeError(f"a tuple of {len(result)} was returned: expected (status, body) or (status, headers, body)")
    if not isinstance(status, int):
        raise TypeError(f"the status {status!r} is no number: expected (status, body) or (status, headers, body)")
    return _answer_other(request, status, fields, body)


def _answer_other(request: Request, status: int, fields: RawFields, body: Any) -> Stream | None:
    if body is None:
        request.answer(status, fields, b"")
    elif isinstance(body, str):
        request.answer(status, _typed(request, fields, TEXT), body.encode())
    elif isinstance(body, bytes | bytearray | memoryview):
        request.answer(status, _typed(request, fields, BYTES), body)
    elif isinstance(body, Mapping | list):
        request.answer(status, _typed(request, fields, _JSON), msgspec.json.encode(body))
    elif isinstance(body, Object):
        request.send_object(body, [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields])
    elif isinstance(body, Done):
        _answer_nothing(request)
    elif isinstance(body, Postponed):
        request.hold(body)
    elif isinstance(body, Iterator | AsyncGenerator):
        stream: Any = body
        if fields or status != 200:
            request.start_raw(status, fields)
        return cast("Stream", stream)
    else:
        raise TypeError(
            f"{type(body).__name__} was returned: expected str, bytes, dict, list, None, a generator, an object of the "
            "site, or (status, headers, body)"
        )
    return None


def first_fields(request: Request, piece: str | bytes) -> RawFields:
    """The fields of a stream that begins with this piece, and had no `start`."""
    return request.handler.fields or (TEXT if isinstance(piece, str) else BYTES)


def _typed(request: Request, fields: RawFields, usual: RawFields) -> RawFields:
    if any(name.lower() == _TYPE for name, _ in fields):
        return fields
    own = request.handler.fields if usual is not _JSON else None
    return [*(own or usual), *fields]
