"""CGI/1.1 (RFC 3875): each request starts a program, whose output is the response."""

from __future__ import annotations

from tux.apps.cgi.server import serve

__all__ = ["serve"]
