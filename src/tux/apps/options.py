"""What a process needs to know to serve its application, or its modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

from msgspec import structs

from tux.apps.cgi.options import CgiOptions
from tux.config.app import App
from tux.config.cgi import Cgi
from tux.config.doc import Doc
from tux.config.module import Module
from tux.planner.rules import Routes

if TYPE_CHECKING:
    from tux.apps.load import Loaded


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
    def label(self) -> str:
        """What the log calls it."""
        return f"app {self.name}"

    @property
    def alone(self) -> bool:
        """Whether there is only one process of the application at a time, but while it is replaced."""
        return self.workers == 1

    def load(self) -> Loaded:
        """What is to be served. LoadError."""
        from tux.apps.load import load

        return load(self.module, app_dir=self.dir, factory=self.factory, interface=self.interface)


class ModuleOptions(Module, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Modules as `[module.NAME]` describes them, as above."""

    name: Annotated[str, Doc("NAME of `[module.NAME]`, for the log.")]
    grace: Annotated[float, Doc("As above.", ge=0, unit="seconds")] = 30.0

    @classmethod
    def of(cls, name: str, module: Module, *, grace: float) -> ModuleOptions:
        """The options of `[module.NAME]`."""
        return cls(name=name, grace=grace, **structs.asdict(module))

    @property
    def label(self) -> str:
        """What the log calls them."""
        return f"module {self.name}"

    def load(self) -> Loaded:
        """What is to be served. LoadError."""
        from tux.apps.module.load import load

        return load(self)


Options: TypeAlias = AppOptions | ModuleOptions | CgiOptions


def options_of(name: str, table: App | Module | Cgi, routes: Routes, *, cpus: int, grace: float) -> Options:
    """The options of a table of the configuration, on a machine with so many CPUs."""
    if isinstance(table, Cgi):
        return CgiOptions.of(name, table, routes, cpus=cpus, grace=grace)
    if table.workers == "auto":
        table = structs.replace(table, workers=cpus)
    if isinstance(table, Module):
        return ModuleOptions.of(name, table, grace=grace)
    return AppOptions.of(name, table, grace=grace)
