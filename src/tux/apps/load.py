"""From `MODULE:ATTRIBUTE` to an application, and to which of the two interfaces it has."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any, Literal, NamedTuple

from tux.config.app import AppInterface
from tux.errors import StartError, quoted

DEFAULT_ATTRIBUTES = ("application", "app")
"""What is looked for when no attribute is named: WSGI's usual name, and the one of most examples."""
_FACTORIES = ("create_app", "make_app", "create_application", "make_application", "get_application", "build_app")
"""Usual names of functions that make an application: mentioned when nothing else is found."""
MAX_NAMES = 6
"""Names that an error lists at most."""


class Loaded(NamedTuple):
    """An application that can be served."""

    application: Any
    interface: Literal["wsgi", "asgi", "module"]


class LoadError(StartError):
    """There is no application there. `message` is one line; `trace` is the application's own traceback, if it has one:
    whole lines, without the frames of Tux and of the import system."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace

    @classmethod
    def of(cls, what: str, error: BaseException) -> LoadError:
        """`what` went wrong in the application's own code."""
        kind = type(error).__qualname__
        reason = str(error).strip().partition("\n")[0]
        text = f"{what}: {kind}: {reason}" if reason else f"{what}: {kind}"
        return cls(text, "".join(_trimmed(error).format()))


def load(spec: str, *, app_dir: str = ".", factory: bool = False, interface: AppInterface = "auto") -> Loaded:
    """The application that `spec` names: MODULE:ATTRIBUTE, where ATTRIBUTE may have dots, or MODULE.

    `app_dir` becomes the first folder of sys.path. LoadError: there is none, or it cannot be told what it is."""
    module_name, attribute = _split(spec)
    folder = os.path.abspath(app_dir)
    what = f"application {quoted(spec)}"
    put_first(folder, what)
    module = import_module(module_name, folder, what)
    found, name = find(module, attribute, what, factory=factory)
    if factory:
        found = _make(found, name, what)
    if not callable(found):
        raise LoadError(f"{what}: {name} is {_kind(found)}, which cannot be called")
    return Loaded(found, detect(found, name) if interface == "auto" else interface)


def _split(spec: str) -> tuple[str, str]:
    module, _, attribute = spec.partition(":")
    if attribute.endswith(")"):
        call = attribute.partition("(")[0]
        raise LoadError(
            f"application {quoted(spec)}: calls are not made here; name a function without arguments, "
            f"{quoted(f'{module}:{call}')}, and say that it is a factory (--factory, or `factory = true`)"
        )
    if "/" in module or module.endswith(".py"):
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        rest = f":{attribute}" if attribute else ""
        raise LoadError(
            f"application {quoted(spec)}: expected the name of a module, not of a file; perhaps {dotted}{rest}"
        )
    names = [*module.split("."), *(attribute.split(".") if attribute else ())]
    if not all(name.isidentifier() for name in names) or spec.endswith(":"):
        raise LoadError(f"application {quoted(spec)}: expected MODULE:ATTRIBUTE, as in shop.wsgi:application")
    return module, attribute


def put_first(folder: str, what: str) -> None:
    """Make it the first folder of sys.path. LoadError: there is no such folder."""
    if not os.path.isdir(folder):
        raise LoadError(f"{what}: the folder {quoted(folder)} does not exist")
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()


# Modules


def import_module(name: str, folder: str, what: str) -> ModuleType:
    """One part of the name after the other, so that it is known which one is missing. LoadError: `what` begins it."""
    parts = name.split(".")
    module: ModuleType | None = None
    for i in range(len(parts)):
        prefix = ".".join(parts[: i + 1])
        try:
            module = importlib.import_module(prefix)
        except ModuleNotFoundError as error:
            if error.name == prefix and not _trimmed(error).stack:
                raise LoadError(_missing(prefix, module, folder, what)) from None
            raise LoadError.of(f"{what}: importing {prefix} failed", error) from error
        except (Exception, SystemExit) as error:
            raise LoadError.of(f"{what}: importing {prefix} failed", error) from error
    assert module is not None
    return module


def _missing(name: str, parent: ModuleType | None, folder: str, what: str) -> str:
    """`name` is not there; what is said about it."""
    text = f"{what}: "
    last = name.rpartition(".")[2]
    if parent is not None:
        path = getattr(parent, "__path__", None)
        if path is None:
            return f"{text}{parent.__name__} ({parent.__file__}) is a module, not a package: there is no {name} in it"
        return f"{text}there is no module {name} in {', '.join(path)}{_near(last, _modules(path))}"
    text += f"there is no module {name} in {folder}, nor among what is installed"
    modules = _modules([folder])
    near = _near(last, modules)
    if near:
        return text + near
    below = sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir()
        and (
            os.path.isfile(os.path.join(entry.path, f"{last}.py"))
            or os.path.isfile(os.path.join(entry.path, last, "__init__.py"))
        )
    )
    if below:
        return f"{text}; it is in {os.path.join(folder, below[0])}: name that folder (--app-dir, or `dir`)"
    if modules:
        return f"{text}; what is there: {_listed(modules)}"
    return f"{text}; no module is there: name another folder (--app-dir, or `dir`)"


def _modules(path: Iterable[str]) -> list[str]:
    return sorted(info.name for info in pkgutil.iter_modules(list(path)) if not info.name.startswith("_"))


# Attributes


def find(module: ModuleType, attribute: str, what: str, *, factory: bool = False) -> tuple[Any, str]:
    """The attribute, and its name for messages. LoadError: `what` begins it."""
    where = f"{module.__name__} ({getattr(module, '__file__', None) or 'a package without a file'})"
    if attribute:
        found: Any = module
        path = module.__name__
        for name in attribute.split("."):
            try:
                found = getattr(found, name)
            except AttributeError:
                owner = where if found is module else path
                raise LoadError(f"{what}: {owner} has no attribute {name}{_near(name, _public(found))}") from None
            path += f".{name}" if path != module.__name__ else f":{name}"
        return found, path
    names = _FACTORIES if factory else DEFAULT_ATTRIBUTES
    for name in names:
        if hasattr(module, name):
            return getattr(module, name), f"{module.__name__}:{name}"
    makers = [name for name in _FACTORIES if hasattr(module, name)]
    if makers:
        raise LoadError(
            f"{what}: {where} has neither application nor app, but {makers[0]}: "
            f"perhaps {module.__name__}:{makers[0]}, with --factory (or `factory = true`)"
        )
    callables = [name for name in _public(module) if _is_candidate(module, name)]
    hint = f"; what can be called there: {_listed(callables)}" if callables else ""
    missing = "none of " + ", ".join(names) if factory else "neither application nor app"
    raise LoadError(f"{what}: {where} has {missing}; name the attribute{hint}")


def _public(found: object) -> list[str]:
    return sorted(name for name in dir(found) if not name.startswith("_"))


def _is_candidate(module: ModuleType, name: str) -> bool:
    """Whether the module itself made it, as far as can be seen; what it imported is seldom meant."""
    found = getattr(module, name)
    return (
        callable(found)
        and (not inspect.isroutine(found) or found.__module__ == module.__name__)
        and not (inspect.isclass(found) and found.__module__ != module.__name__)
    )


def _make(function: Any, name: str, what: str) -> Any:
    if not callable(function):
        raise LoadError(f"{what}: the factory {name} is {_kind(function)}, which cannot be called")
    if inspect.iscoroutinefunction(function):
        raise LoadError(f"{what}: the factory {name} is a coroutine function; expected a plain one")
    try:
        return function()
    except TypeError as error:
        if _trimmed(error).stack:  # from inside
            raise LoadError.of(f"{what}: the factory {name} failed", error) from error
        raise LoadError(f"{what}: the factory {name} takes no call without arguments: {error}") from None
    except (Exception, SystemExit) as error:
        raise LoadError.of(f"{what}: the factory {name} failed", error) from error


# Interfaces


def detect(application: Any, name: str) -> Literal["wsgi", "asgi"]:
    """Which interface a callable has. LoadError: it cannot be told, or it is ASGI 2."""
    if inspect.isclass(application):
        return _detect_class(application, name)
    is_function = inspect.isroutine(application) or isinstance(application, functools.partial)
    called = application if is_function else application.__call__
    count = _required(called)
    if inspect.iscoroutinefunction(called):
        if count not in {3, None}:
            raise LoadError(
                f"{name} is a coroutine function that is called with {count} arguments; "
                "ASGI applications are called with three: scope, receive, send"
            )
        return "asgi"
    if count == 3:
        return "asgi"  # a plain function that returns what it wraps
    if count == 2:
        return "wsgi"
    if count == 1:
        raise _asgi_2(name)
    if count == 0 and is_function:
        raise LoadError(f"{name} takes no arguments: it seems to be a factory; say so (--factory, or `factory = true`)")
    if hasattr(application, "asgi_app"):  # Quart's has wsgi_app, too
        return "asgi"
    if hasattr(application, "wsgi_app"):
        return "wsgi"
    raise LoadError(
        f"whether {name} ({_kind(application)}) is a WSGI or an ASGI application cannot be seen; "
        'say it (--app-interface wsgi, or `interface = "wsgi"`)'
    )


def _detect_class(application: type, name: str) -> Literal["wsgi", "asgi"]:
    """A class that is called with every request: PEP 3333 allows it, and ASGI 2 was that."""
    count = _required(application)
    if count == 2 and hasattr(application, "__iter__"):
        return "wsgi"
    if count == 3 and hasattr(application, "__await__"):
        return "asgi"
    if count == 1 and inspect.iscoroutinefunction(getattr(application, "__call__", None)):  # noqa: B004 (not its type's)
        raise _asgi_2(name)
    raise LoadError(
        f"{name} is a class; expected an application, perhaps an instance of it: {name.rpartition(':')[2].lower()} = "
        f"{application.__name__}(...)"
    )


def _asgi_2(name: str) -> LoadError:
    return LoadError(
        f"{name} is called with one argument, as ASGI 2 applications are; expected ASGI 3 (scope, receive, send): "
        "newer versions of its framework have it, or wrap it in asgiref.compatibility.guarantee_single_callable"
    )


def _required(function: Any) -> int | None:
    """How many arguments it is called with; None: it takes any number, or does not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return None
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    required = sum(1 for p in positional if p.default is p.empty)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) and required < 2:
        return None
    return required


# Texts


def _kind(found: object) -> str:
    if isinstance(found, ModuleType):
        return "a module"
    name = type(found).__name__
    return f"of type {name}" if found is not None else "None"


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    return f"; perhaps {' or '.join(near)}" if near else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")


def _trimmed(error: BaseException) -> traceback.TracebackException:
    """Its traceback without our frames and those of the import system, which say nothing to its author."""
    whole = traceback.TracebackException.from_exception(error)
    seen: set[int] = set()
    todo: list[traceback.TracebackException | None] = [whole]
    while todo:
        part = todo.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        frames = [frame for frame in part.stack if not _is_ours(frame.filename)]
        part.stack = traceback.StackSummary.from_list(frames)
        todo += [part.__cause__, part.__context__, *(part.exceptions or ())]
    return whole


def _is_ours(filename: str) -> bool:
    return filename == __file__ or filename.startswith("<frozen importlib") or filename == importlib.__file__
