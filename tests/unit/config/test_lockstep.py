"""One feature, one name, four places: schema, reference, and a test or an example that uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tux.config import load, reference
from tux.errors import ConfigError
from tux.planner.rules import RESERVED_FIELDS

PROJECT = Path(__file__).parents[3]
EXAMPLES = sorted((PROJECT / "examples").glob("*.toml"))
PAGE = PROJECT / "docs/reference/configuration.md"


def test_the_reference_is_what_the_schema_says() -> None:
    assert PAGE.read_text() == reference.markdown(), (
        "run: python -m tux.config.reference > docs/reference/configuration.md"
    )


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_examples_are_valid(path: Path) -> None:
    assert load.load(str(path)).site


@pytest.mark.parametrize("key", sorted(set(reference.keys())))
def test_every_key_is_used_in_an_example_or_a_golden_file(key: str) -> None:
    *_, name = key.split(".")
    texts = [path.read_text() for path in (*EXAMPLES, PROJECT / "tests/unit/config/golden/everything.txt")]
    assert f"| `{name}` |" in PAGE.read_text()
    assert any(line.split("=")[0].strip(" []").endswith(name) for text in texts for line in text.splitlines())


def test_fields_that_no_rule_may_set_are_refused_by_the_check() -> None:
    for name in sorted(RESERVED_FIELDS):
        with pytest.raises(ConfigError):
            load.parse(f'[[site]]\nroot = "a"\nheaders = {{ {name} = "x" }}\n'.encode(), "tux.toml")
