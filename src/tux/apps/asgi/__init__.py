"""ASGI 3: requests of the port become calls of the application, on one event loop."""

from tux.apps.asgi.server import serve

__all__ = ["serve"]
