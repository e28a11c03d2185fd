"""What can go wrong between a handler and its request."""

from __future__ import annotations


class MisuseError(RuntimeError):
    """The handler asked for what cannot be: a second answer, more of one that is complete, a body that was not read."""


class ClientGoneError(ConnectionError):
    """The client has closed the connection. A handler that lets it pass has done all that can be done."""

    def __init__(self) -> None:
        super().__init__("the client has closed the connection")


class TooLargeError(ValueError):
    """The request's body is larger than `max_body`. A handler that lets it pass answers 413."""
