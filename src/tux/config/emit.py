"""`Config` -> TOML that loads to the same `Config`: the effective configuration, every default filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from tux.config.schema import Config

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def to_toml(config: Config) -> str:
    """The configuration as TOML. Keys that are not set are left out."""
    return dumps(_tree(config))


def dumps(tree: Mapping[str, object]) -> str:
    """TOML text of a tree of dicts, lists, strings, booleans, integers and finite floats; without dates, which a
    configuration of Tux has none of. TypeError for anything else."""
    sections = list(_section(tree, ""))
    return "\n".join(section for section in sections if section)


def _tree(struct: msgspec.Struct) -> dict[str, object]:
    tree: dict[str, object] = {}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if isinstance(value, msgspec.Struct):
            tree[field.encode_name] = _tree(value)
        elif isinstance(value, tuple):
            tree[field.encode_name] = [_tree(v) if isinstance(v, msgspec.Struct) else v for v in value]
        elif isinstance(value, dict):
            tree[field.encode_name] = {k: _tree(v) if isinstance(v, msgspec.Struct) else v for k, v in value.items()}
        elif value is not None:
            tree[field.encode_name] = value
    return tree


def _section(tree: Mapping[str, object], prefix: str, header: str = "") -> list[str]:
    """The text of a table, and of those below it, each with its header."""
    plain: list[str] = []
    below: list[str] = []
    for key, value in tree.items():
        name = f"{prefix}{key_text(key)}"
        if isinstance(value, dict) and value and all(isinstance(key, str) for key in value):
            below += _section(value, f"{name}.", f"[{name}]\n")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for item in value:
                below += _section(item, f"{name}.", f"[[{name}]]\n")
        else:
            plain.append(f"{key_text(key)} = {_value(value)}\n")
    if plain or not below or header.startswith("[["):
        return [header + "".join(plain), *below]
    return below


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key_text(key)} = {_value(item)}" for key, item in value.items()) + "}"
    raise TypeError(f"no TOML for {type(value).__name__}")


def key_text(key: str) -> str:
    """A key as TOML writes it: bare, or quoted."""
    return key if _BARE.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    """A basic string: control characters, quotes and backslashes escaped."""
    named = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(named.get(c) or (f"\\u{ord(c):04X}" if c < " " or c == "\x7f" else c) for c in text) + '"'
