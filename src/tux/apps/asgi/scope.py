"""What ASGI applications are told about a request: the scope (ASGI 3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from tux.apps.port import Request

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[object]]

VERSION: Final = "3.0"
HTTP_SPEC_VERSION: Final = "2.3"
"""We do what 2.5 asks for. But Starlette takes 2.4 as leave not to watch for a client's departure while it streams: a
stream of events that is silent would go on for ever, one for each client that was ever there."""
WEBSOCKET_SPEC_VERSION: Final = "2.5"
LIFESPAN_VERSION: Final = "2.0"

_VERSIONS: Final = ("1.0", "1.1")


class ClientGoneError(OSError):
    """What send() raises when the client is not there any more, as the specification asks for since 2.4."""

    def __init__(self) -> None:
        super().__init__("the client has closed the connection")


class Scopes:
    """Makes the scopes of one application."""

    __slots__ = ("_prefix", "_raw_prefix", "_state")

    def __init__(self, root_path: str, state: dict[str, Any]) -> None:
        """`root_path`: a prefix of the path, which something in front may have taken off: applications see it.
        `state`: what the lifespan left; requests get copies."""
        self._prefix = root_path.rstrip("/")
        self._raw_prefix = quote(self._prefix).encode()
        self._state = state

    def http(self, request: Request) -> dict[str, Any]:
        """Everything in it belongs to the request alone: applications may change it."""
        raw_path = request.path
        path = (unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path).decode("utf-8", "replace")
        if self._prefix and not (path.startswith(self._prefix) and path[len(self._prefix) :][:1] in ("", "/")):
            path = self._prefix + path
            raw_path = self._raw_prefix + raw_path
        return {
            "type": "http",
            "asgi": {"version": VERSION, "spec_version": HTTP_SPEC_VERSION},
            "http_version": _VERSIONS[request.minor],
            "method": request.method,
            "scheme": request.scheme,
            "path": path,
            "raw_path": raw_path,
            "query_string": request.query,
            "root_path": self._prefix,
            "headers": request.headers,
            "client": request.client,
            "server": request.server,
            "state": self._state.copy(),
            "extensions": {
                "http.response.pathsend": {},
                "http.response.zerocopysend": {},
                "http.response.early_hint": {},
                "http.response.trailers": {},
            },
        }

    def websocket(self, request: Request, subprotocols: list[str]) -> dict[str, Any]:
        scope = self.http(request)
        del scope["method"]
        scope["type"] = "websocket"
        scope["asgi"]["spec_version"] = WEBSOCKET_SPEC_VERSION
        scope["scheme"] = "wss" if request.scheme == "https" else "ws"
        scope["subprotocols"] = subprotocols
        scope["extensions"] = {"websocket.http.response": {}}
        return scope
