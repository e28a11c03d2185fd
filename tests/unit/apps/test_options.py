"""What a process knows of its application."""

from __future__ import annotations

from tux.apps.options import AppOptions
from tux.config.app import App


def test_options_are_what_the_table_says() -> None:
    options = AppOptions.of("shop", App(module="shop.wsgi", threads=7, env={"A": "b"}), grace=2.5)
    assert (options.name, options.module, options.threads, options.grace) == ("shop", "shop.wsgi", 7, 2.5)
    assert options.env == {"A": "b"}
    assert options.lifespan == "auto"


def test_one_process_is_alone_and_auto_is_not() -> None:
    assert AppOptions.of("a", App(module="a"), grace=1).alone
    assert not AppOptions.of("a", App(module="a", workers="auto"), grace=1).alone
    assert not AppOptions.of("a", App(module="a", workers=2), grace=1).alone
