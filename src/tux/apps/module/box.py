"""Where other processes say that a postponed request goes on; the protocol is in `tux.modules.tokens`."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket

from tux.modules import tokens
from tux.modules.request import Request


class Box:
    """Tokens of requests, and the socket that they come back by. It is opened when the first token is asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._name = b""
        self._sock: socket.socket | None = None
        self._requests: dict[bytes, Request] = {}
        self._secrets: dict[Request, bytes] = {}

    def token_of(self, request: Request) -> str:
        """The token of this request, until `forget`. OSError."""
        if self._sock is None:
            self._name = tokens.new_name()
            self._sock = tokens.open_box(self._name)
            self._loop.add_reader(self._sock, self._on_readable)
        secret = self._secrets.get(request)
        if secret is None:
            secret = self._secrets[request] = secrets.token_bytes(tokens.SECRET_BYTES)
            self._requests[secret] = request
        return tokens.make_token(self._name, secret)

    def forget(self, request: Request) -> None:
        """Its token is worth nothing any more."""
        if self._secrets:
            secret = self._secrets.pop(request, None)
            if secret is not None:
                del self._requests[secret]

    def close(self) -> None:
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None

    def _on_readable(self) -> None:
        assert self._sock is not None
        while (message := tokens.receive(self._sock, os.geteuid())) is not None:
            secret, value = message
            request = self._requests.get(secret)
            if request is not None:
                request.on_resume(value)
