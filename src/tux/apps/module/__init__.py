"""Modules: functions of Python for paths of a site."""

from tux.apps.module.server import serve

__all__ = ["serve"]
