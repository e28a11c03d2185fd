"""TOML text of configurations and of any tree."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given

from tests.unit.config.test_locate import TREES
from tux.config import emit, load


@given(TREES)
def test_any_tree_comes_back(tree: dict[str, Any]) -> None:
    assert tomllib.loads(emit.dumps(tree)) == tree


@pytest.mark.parametrize("value", [None, object(), b"bytes"])
def test_what_toml_does_not_have(value: object) -> None:
    with pytest.raises(TypeError):
        emit.dumps({"a": value})


def test_the_effective_configuration_loads_to_itself() -> None:
    config = load.parse(
        b"""
        [server]
        limits.memo_bytes = "1GiB"
        grace = 1e-3
        [[site]]
        root = 'a"b\\\\'
        headers = { "*.x" = { B = "2" }, A = "1", "*.y" = {} }
        cache_control = { "*.b" = "1", "*.a" = "2" }
        [[site.route]]
        path = "/x"
        deny = true
        [[site]]
        hosts = ["a"]
        [[site.route]]
        path = "/\xc3\xbc"
        root = "/"
        cache_control = "x"
        """,
        "/etc/tux.toml",
    )
    assert load.parse(emit.to_toml(config).encode(), "/elsewhere/tux.toml") == config
