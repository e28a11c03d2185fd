"""What a process needs to know to serve its application."""

from __future__ import annotations

from typing import Annotated

from msgspec import structs

from tux.config.app import App
from tux.config.doc import Doc


class AppOptions(App, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An application as `[app.NAME]` describes it, with its name and what the server says for all of them."""

    name: Annotated[str, Doc("NAME of `[app.NAME]`, for the log.")]
    grace: Annotated[float, Doc("How long requests may go on after a stop was asked for.", ge=0, unit="seconds")] = 30.0
    software: Annotated[str, Doc("SERVER_SOFTWARE of WSGI.")] = "tux"

    @classmethod
    def of(cls, name: str, app: App, *, grace: float) -> AppOptions:
        """The options of `[app.NAME]`."""
        return cls(name=name, grace=grace, **structs.asdict(app))

    @property
    def alone(self) -> bool:
        """Whether there is only one process of the application at a time, but while it is replaced."""
        return self.workers == 1
