"""A tree of plain values (as tomllib makes them) -> structs. Finds every error, not only the first, and says where.

msgspec would stop at the first error and hides the keys of tables in its paths; so the structs are msgspec's, with
their types and constraints, and the walk over them is ours.
"""

from __future__ import annotations

import math
import re
import types
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec

from tux.config import origins
from tux.config.doc import Doc
from tux.config.site import Route
from tux.errors import ConfigError, Problem, shown

Place = tuple[str | int, ...]
T = TypeVar("T", bound=msgspec.Struct)

_SIZE = re.compile(r"(\d{1,15})\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?", re.ASCII)
_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}

_INVALID = object()


def decode(tree: object, struct: type[T], place: Place = ()) -> T:
    """`tree` as a `struct`. ConfigError with all problems, in the order of the tree."""
    problems: list[Problem] = []
    value = _struct(tree, struct, place, problems)
    if problems:
        raise ConfigError(problems)
    return cast(T, value)


def parse_size(text: str) -> int | None:
    """Bytes in "65536", "64KiB", "64 MiB", "10MB"; None when it is none of these."""
    found = _SIZE.fullmatch(text.strip())
    return int(found[1]) * _UNITS[found[2] or ""] if found else None


def unknown_key(key: str, known: list[str]) -> str:
    """The message for a key that does not exist, with the nearest one that does."""
    import difflib  # only errors need it

    near = difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    hint = f'did you mean "{near[0]}"?' if near else "known keys: " + ", ".join(known)
    return f"unknown key {shown(key)}; {hint}"


def _struct(value: object, struct: type[msgspec.Struct], place: Place, problems: list[Problem]) -> object:
    if not isinstance(value, dict):
        problems.append(Problem(place, f"expected a table, got {shown(value)}"))
        return _INVALID
    if struct is Route:
        origin = origins.pick(value)
        if origin is None:
            names = _one_of([o.name for o in origins.ORIGINS])
            problems.append(Problem((*place, "origin"), f"expected {names}, got {shown(value['origin'])}"))
            return _INVALID
        struct = origin.route
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    decoded: dict[str, Any] = {}
    failed = False
    for key, item in value.items():
        if key not in fields:
            problems.append(Problem(place, unknown_key(key, list(fields)), at=(*place, key)))
            failed = True
            continue
        decoded[key] = _value(item, fields[key].type, (*place, key), problems)
        failed = failed or decoded[key] is _INVALID
    for key, field in fields.items():
        if field.required and key not in value:
            problems.append(Problem(place, f'"{key}" is missing'))
            failed = True
    return _INVALID if failed else struct(**{fields[key].name: item for key, item in decoded.items()})


def _value(value: object, type_: Any, place: Place, problems: list[Problem]) -> object:
    doc: Doc | None = None
    if get_origin(type_) is Annotated:
        type_, *extras = get_args(type_)
        doc = next((extra for extra in extras if isinstance(extra, Doc)), None)
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return _struct(value, type_, place, problems)
    choices = alternatives(type_)
    for choice in choices:
        kind, args = get_origin(choice), get_args(choice)
        if kind is tuple and isinstance(value, list | tuple):
            items = [_value(item, args[0], (*place, i), problems) for i, item in enumerate(value)]
            if any(item is _INVALID for item in items):
                return _INVALID
            return _bounded(tuple(items), doc, place, problems)
        if kind is dict and isinstance(value, dict):
            table = {key: _value(item, args[1], (*place, key), problems) for key, item in value.items()}
            return _INVALID if any(item is _INVALID for item in table.values()) else table
        if kind is Literal and any(type(value) is type(arg) and value == arg for arg in args):
            return value
        if choice is float and isinstance(value, int | float) and not isinstance(value, bool):
            return _bounded(float(value), doc, place, problems)
        if choice is int and isinstance(value, str) and _unit(doc) == "bytes":
            size = parse_size(value)
            if size is not None:
                return _bounded(size, doc, place, problems)
        elif isinstance(choice, type) and type(value) is choice:
            return _bounded(value, doc, place, problems)
    problems.append(Problem(place, f"expected {_expected(choices, doc, value)}, got {shown(value)}"))
    return _INVALID


def _bounded(value: Any, doc: Doc | None, place: Place, problems: list[Problem]) -> object:
    """The value, when it is within its constraints."""
    if doc is None:
        return value
    message = ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            message = f"expected a finite number, got {value}"
        elif doc.ge is not None and value < doc.ge:
            message = f"expected at least {shown(doc.ge)}, got {shown(value)}"
        elif doc.le is not None and value > doc.le:
            message = f"expected at most {shown(doc.le)}, got {shown(value)}"
    elif doc.min_length is not None and len(value) < doc.min_length:
        message = "must not be empty"
    elif isinstance(value, str) and "\0" in value:
        message = "must not contain a NUL character"
    if message:
        problems.append(Problem(place, message))
        return _INVALID
    return value


def alternatives(type_: Any) -> list[Any]:
    """The alternatives of a type that a file can have; None (not set) is none of them."""
    members = get_args(type_) if get_origin(type_) in (Union, types.UnionType) else (type_,)
    return [member for member in members if member is not type(None)]


def _expected(choices: list[Any], doc: Doc | None, value: object) -> str:
    """What is expected, in words. A single value is compared with the single values that are possible, if there are."""
    single = [choice for choice in choices if get_origin(choice) not in (tuple, dict)]
    if single and not isinstance(value, dict | list | tuple):
        choices = single
    return _one_of([_name(choice, doc) for choice in choices])


def _name(choice: Any, doc: Doc | None) -> str:
    kind = get_origin(choice)
    if kind is Literal:
        return _one_of([shown(arg) for arg in get_args(choice)])
    if choice is int and _unit(doc) == "bytes":
        return 'a number of bytes (65536, or "64KiB")'
    if choice is float and _unit(doc) == "seconds":
        return "a number of seconds"
    if kind is tuple:
        return "an array"
    names = {str: "a string", int: "an integer", float: "a number", bool: "true or false", dict: "a table"}
    return names[kind or choice]


def _unit(doc: Doc | None) -> object:
    return doc.unit if doc else None


def _one_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
