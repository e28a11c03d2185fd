"""From a file with TUXAPI_handle_events, or a function with a loop of its own, to handlers of the natural face."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from pathlib import PurePath
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from tux.compat import registry
from tux.compat.actions import METHODS, Action
from tux.compat.call import here
from tux.compat.live import Live, Move
from tux.compat.natural import NaturalFace, register

if TYPE_CHECKING:
    from tux.compat.live import Seat
    from tux.compat.program import Program
    from tux.compat.request import user_req_t
    from tux.modules.request import Request

EXTENSION = ".tux"
"""Of names that nobody has chosen: what the original's examples end with."""

F = TypeVar("F", bound=Callable[[], object])

programs: list[Program] = []
"""Of this process."""


class ModuleSeat:
    """The seat of a TUXAPI_handle_events: called on the event loop, once for each event."""

    blocking = False

    def __init__(self, name: str, index: int, handle_events: Callable[[user_req_t], Any]) -> None:
        self.name = name
        self.index = index
        self.current: Live | None = None
        self._handle_events = handle_events

    async def turn(self, live: Live) -> Move:
        live.move = None
        live.present(live.structure)
        self.current = live
        here.seat = self
        try:
            self._handle_events(live.structure)
        finally:
            self.current = here.seat = None
        move: Move | None = live.move  # tux() has set it
        if move is None:
            live.complain("TUXAPI_handle_events() has returned without an action that enters the event loop")
            return Move(Action.EVENTLOOP)
        return move

    def moved(self, live: Live) -> None:
        """`turn` looks when the function returns."""


def is_tuxapi(module: ModuleType) -> bool:
    """Whether a module file has the original's shape."""
    return hasattr(module, "TUXAPI_handle_events")


def adopt(module: ModuleType) -> None:
    """Call TUXAPI_init() and register the module for its names: those of REGISTER_MODULE, or the file's own and `.tux`.

    TypeError: TUXAPI_handle_events is no function; ValueError: the name is taken; what TUXAPI_init() raises."""
    handle_events = getattr(module, "TUXAPI_handle_events", None)
    if not callable(handle_events) or inspect.iscoroutinefunction(handle_events):
        raise TypeError(f"{module.__name__}: TUXAPI_handle_events is no plain function of one argument, the request")
    with registry.load() as loading:
        init = getattr(module, "TUXAPI_init", None)
        if init is not None:
            init()
        if not loading.names:
            name = PurePath(module.__file__ or module.__name__).stem + EXTENSION
            if not loading.add_next(name):
                raise ValueError(f"{module.__name__}: the name {name} is taken by another module")
        for name, index in loading.names.items():
            _register(name, ModuleSeat(name, index, handle_events))


def program(name: str) -> Callable[[F], F]:
    """Decorator: this function, with its loop around tux(TUX_ACTION_EVENTLOOP, req), runs in a thread of the module's
    process and gets the requests for `name`. ValueError: the name is taken."""

    def decorate(main: F) -> F:
        from tux.compat.program import Program  # threads are for those who want one

        own = name.removeprefix("/")
        with registry.load() as loading:
            if not loading.add_next(own):
                raise ValueError(f"the name {own} is taken by another module")
            seat = Program(own, loading.names[own], main)
        programs.append(seat)
        _register(own, seat)
        return main

    return decorate


def _register(name: str, seat: Seat) -> None:
    async def handle(request: Request) -> None:
        face = NaturalFace(request)
        if request.method not in METHODS:
            face.redirect()
            return
        await Live(face, seat).run()

    handler: Callable[[Request], Coroutine[Any, Any, None]] = handle
    handle.__name__ = handle.__qualname__ = name
    register(f"/{name}", handler)
