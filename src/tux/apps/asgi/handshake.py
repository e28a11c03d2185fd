"""The opening handshake of a WebSocket (RFC 6455 section 4.2), and what is agreed about compression (RFC 7692)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from tux.apps.asgi.frames import Deflate
    from tux.apps.port import Request

VERSION: Final = b"13"
WINDOW_BITS: Final = 12
"""Of both directions, when the client leaves it to us: 4 KiB of history, as messages are short and connections many."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Offer(NamedTuple):
    """What a client asks for."""

    accept: bytes
    """The value of Sec-WebSocket-Accept."""
    subprotocols: list[str]
    extensions: list[str]


class HandshakeError(Exception):
    """The request begins no WebSocket; `status` and `fields` are the answer's."""

    def __init__(self, status: int, reason: str, fields: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.fields = list(fields)


def is_websocket(request: Request) -> bool:
    """Whether it asks for a WebSocket, well or badly."""
    return (
        request.upgrade
        and request.method == "GET"
        and b"websocket" in [token.lower() for token in _tokens(request.headers, b"upgrade")]
    )


def read_offer(headers: Iterable[tuple[bytes, bytes]]) -> Offer:
    """What the head of a request offers. HandshakeError: it is not a proper one."""
    headers = list(headers)
    if [value for name, value in headers if name == b"sec-websocket-version"] != [VERSION]:
        raise HandshakeError(426, "WebSocket version 13 is needed", [(b"sec-websocket-version", VERSION)])
    keys = [value for name, value in headers if name == b"sec-websocket-key"]
    try:
        is_key = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except binascii.Error:
        is_key = False
    if not is_key:
        raise HandshakeError(400, "the request needs one Sec-WebSocket-Key, of 16 bytes")
    accept = base64.b64encode(hashlib.sha1(keys[0] + _GUID, usedforsecurity=False).digest())
    return Offer(
        accept,
        [token.decode("latin-1") for token in _tokens(headers, b"sec-websocket-protocol")],
        [token.decode("latin-1") for token in _tokens(headers, b"sec-websocket-extensions")],
    )


def _tokens(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    found = b",".join(value for name, value in headers if name == wanted)
    return [token for part in found.split(b",") if (token := part.strip())]


def agree_on_deflate(extensions: Iterable[str], max_size: int) -> tuple[Deflate, str] | None:
    """The first offer of permessage-deflate that can be accepted, with the answer to it."""
    for offer in extensions:
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name.lower() == "permessage-deflate":
            accepted = _accept(parameters, max_size)
            if accepted is not None:
                return accepted
    return None


def _accept(parameters: Iterable[str], max_size: int) -> tuple[Deflate, str] | None:
    from tux.apps.asgi.frames import Deflate  # needs wsproto, which only WebSockets need

    found: dict[str, int | None] = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        name = name.strip().lower()
        value = value.strip().strip('"')
        if name in found:
            return None
        if name in {"server_no_context_takeover", "client_no_context_takeover"} and not equals:
            found[name] = None
        elif name == "client_max_window_bits" and not equals:
            found[name] = 15
        elif name in {"client_max_window_bits", "server_max_window_bits"} and value in _BITS:
            found[name] = _BITS[value]
        else:
            return None
    if found.get("server_max_window_bits") == 8:
        return None  # zlib has no such window
    server_bits = min(found.get("server_max_window_bits") or WINDOW_BITS, WINDOW_BITS)
    answer = ["permessage-deflate", f"server_max_window_bits={server_bits}"]
    client_bits = 15
    if "client_max_window_bits" in found:
        client_bits = max(min(found["client_max_window_bits"] or 15, WINDOW_BITS), 9)
        answer.append(f"client_max_window_bits={min(found['client_max_window_bits'] or 15, WINDOW_BITS)}")
    answer += [name for name in found if name.endswith("_no_context_takeover")]
    deflate = Deflate(
        max_size,
        client_bits=client_bits,
        server_bits=server_bits,
        client_forgets="client_no_context_takeover" in found,
        server_forgets="server_no_context_takeover" in found,
    )
    return deflate, "; ".join(answer)


_BITS: Final = {str(n): n for n in range(8, 16)}
