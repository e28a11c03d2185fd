"""Which handler is for which path."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeAlias, TypeVar, overload

from tux.config.module import path_problem

F = TypeVar("F", bound=Callable[..., Any])

_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VERBS: Final = ("get", "head", "post", "put", "patch", "delete", "options")
"""Methods of a class that answer the method of the same name; without `head`, `get` answers HEAD, too."""
MAX_CACHE_SECONDS: Final = 30 * 86400
"""An answer that holds for longer is a file."""


class Kind(IntEnum):
    """How a handler is called."""

    PLAIN = 0
    """Called by the loop itself; what it returns is the answer. The loop does nothing else meanwhile."""
    ASYNC = 1
    """A coroutine function: a task."""
    GENERATOR = 2
    """What it yields is the body: it is asked for more when the client has taken the last of it."""
    ASYNC_GENERATOR = 3


@dataclass(eq=False)
class Handler:
    """A function or class, registered for a path."""

    target: Any
    path: str
    methods: tuple[str, ...]
    """None at all: any."""
    cache: float
    """Seconds for which its answers are remembered; 0: they are not."""
    fields: list[tuple[bytes, bytes]]
    """Content-Type of answers that are text or bytes; none: the usual."""
    name: str
    """For the log."""
    call: Callable[..., Any] = lambda: None
    kind: Kind = Kind.PLAIN
    verbs: dict[str, tuple[Callable[..., Any], Kind]] | None = None
    """Of a class with a method for each HTTP method."""
    instance: Any = None
    is_simple: bool = False
    """A plain function, for GET among others."""
    complained: bool = False
    """The log knows that its answers cannot be remembered."""

    def bind(self) -> None:
        """Make the instance of a class, once in each process. Raises what its `__init__` does."""
        target = self.target
        if inspect.isclass(target):
            target = self.instance = target()
            if not callable(target):
                self.verbs = {
                    verb.upper(): (method, kind_of(method))
                    for verb in _VERBS
                    if (method := getattr(target, verb, None)) is not None
                }
                if "GET" in self.verbs:
                    self.verbs.setdefault("HEAD", self.verbs["GET"])
                self.methods = tuple(self.verbs)
                return
            target = target.__call__
        self.call, self.kind = target, kind_of(target)
        self.is_simple = self.kind is Kind.PLAIN and (not self.methods or "GET" in self.methods)


def kind_of(function: Callable[..., Any]) -> Kind:
    """How this is called."""
    plain = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if inspect.iscoroutinefunction(plain):
        return Kind.ASYNC
    if inspect.isasyncgenfunction(plain):
        return Kind.ASYNC_GENERATOR
    return Kind.GENERATOR if inspect.isgeneratorfunction(plain) else Kind.PLAIN


class Registry:
    """All handlers of a process."""

    def __init__(self) -> None:
        self.handlers: list[Handler] = []
        self._exact: dict[str, Handler] = {}
        self._below: dict[str, Handler] = {}
        """By the part before the "*", which ends with a slash."""
        self._sizes: list[int] = []
        """Lengths of these, the longest first."""

    def add(
        self,
        path: str,
        target: Any,
        *,
        methods: Iterable[str] = (),
        cache: float = 0,
        media_type: str = "",
    ) -> Handler:
        """ValueError: the path is none, or has a handler already; TypeError: `target` cannot be a handler."""
        if not path.startswith("/"):
            path = "/" + path
        problem = path_problem(path)
        if problem:
            raise ValueError(f"the path {path!r}: {problem}")
        if not callable(target):
            raise TypeError(f"a handler is a function or a class, not {type(target).__name__}")
        methods = tuple(method.upper() for method in ((methods,) if isinstance(methods, str) else methods))
        if not all(_METHOD.fullmatch(method) for method in methods):
            raise ValueError(f"methods {methods!r}: expected names such as GET")
        if not 0 <= cache <= MAX_CACHE_SECONDS:
            raise ValueError(f"cache: expected seconds, 0 to {MAX_CACHE_SECONDS}, got {cache!r}")
        if "GET" in methods and "HEAD" not in methods:
            methods += ("HEAD",)
        name = getattr(target, "__qualname__", type(target).__qualname__)
        fields = [(b"content-type", media_type.encode("latin-1"))] if media_type else []
        handler = Handler(target, path, methods, cache, fields, name)
        is_prefix = path.endswith("/*")
        table, key = (self._below, path[:-1]) if is_prefix else (self._exact, path)
        if key in table:
            raise ValueError(f"the path {path} is taken by {table[key].name}")
        table[key] = handler
        if is_prefix:
            self._sizes = sorted({len(key) for key in self._below}, reverse=True)
        self.handlers.append(handler)
        return handler

    def find(self, path: str) -> Handler | None:
        """The handler for a decoded path."""
        handler = self._exact.get(path)
        if handler is not None:
            return handler
        for size in self._sizes:
            handler = self._below.get(path[:size])
            if handler is not None:
                return handler
        return None


registry: Final = Registry()
"""What `module` registers in."""

Methods: TypeAlias = Sequence[str] | str


@overload
def module(path: F, /) -> F: ...
@overload
def module(
    path: str | None = None,
    /,
    *,
    methods: Methods = (),
    cache: float | None = None,
    type: str = "",
) -> Callable[[F], F]: ...
def module(
    path: Any = None,
    /,
    *,
    methods: Methods = (),
    cache: float | None = None,
    type: str = "",  # noqa: A002
) -> Any:
    """Register a function or a class for a path: "/hello", or "hello" for short; "/files/*" is all that is below
    /files/. Without a path it is the name of the function.

    methods: others get 405; none named: all. cache: an answer is remembered for so many seconds, like that for a file,
    and given to all whose requests do not differ in what the handler looked at. type: Content-Type of answers that are
    text or bytes."""

    def register(target: F) -> F:
        registry.add(
            path if path is not None else target.__name__, target, methods=methods, cache=cache or 0, media_type=type
        )
        return target

    if callable(path):
        target, path = path, None
        return register(target)
    return register
