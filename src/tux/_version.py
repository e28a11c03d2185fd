"""The version of this package; importable without the compiled engine."""

from __future__ import annotations

__version__ = "0.1.0"
