"""WSGI (PEP 3333): requests of the port become calls of the application, in a pool of threads."""

from tux.apps.wsgi.pool import serve

__all__ = ["serve"]
