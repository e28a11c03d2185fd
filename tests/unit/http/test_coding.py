"""Accept-Encoding (RFC 9110 section 12.5.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux.http.coding import CODINGS, acceptable


@pytest.mark.parametrize(
    ("value", "codings"),
    [
        (None, ()),
        ("", ()),
        ("identity", ()),
        ("deflate, compress", ()),
        ("gzip", ("gzip",)),
        ("GZip", ("gzip",)),
        ("x-gzip", ("gzip",)),
        ("gzip, deflate, br, zstd", ("br", "zstd", "gzip")),
        ("gzip;q=1.0, br;q=0.9, zstd;q=0.95", ("gzip", "zstd", "br")),
        ("br;q=0.001", ("br",)),
        ("gzip ; q=0.5", ("gzip",)),
        ("gzip;Q=0.5", ("gzip",)),
        # excluded
        ("gzip;q=0", ()),
        ("gzip;q=0.000, br", ("br",)),
        # the star stands for what is not named
        ("*", ("br", "zstd", "gzip")),
        ("*;q=0.5, gzip", ("gzip", "br", "zstd")),
        ("*, br;q=0", ("zstd", "gzip")),
        ("*;q=0", ()),
        ("gzip, *;q=0", ("gzip",)),
        # the identity takes part when it is named
        ("identity, gzip;q=0.5", ()),
        ("identity;q=0.5, gzip;q=0.5, br;q=0.4", ("gzip",)),
        ("identity;q=0", ()),
        ("identity;q=0, gzip;q=0.1", ("gzip",)),
        # what cannot be read is skipped
        ("gzip;q=2, br", ("br",)),
        ("gzip;q=1.001, br", ("br",)),
        ("gzip;q=0.1234, br", ("br",)),
        ("gzip;q=, br", ("br",)),
        ("gzip;q=-1, br", ("br",)),
        ("gzip;q=1_0, br", ("br",)),
        ("gzip;q=\u0661, br", ("br",)),
        ("gzip;level=9, br", ("br",)),
        ("gzip;q=1;q=0, br", ("br",)),
        ("gz ip, ,;, br", ("br",)),
        ("br\x00", ()),
        ("deflate, " * 100 + "br;q=0.5, gzip", ("gzip", "br")),
    ],
)
def test_order(value: str | None, codings: tuple[str, ...]) -> None:
    assert acceptable(value) == codings


@given(
    st.dictionaries(st.sampled_from([*CODINGS, "identity", "*", "deflate"]), st.integers(0, 1000)),
    st.randoms(use_true_random=False),
)
def test_best_first_and_nothing_excluded(weights: dict[str, int], random: object) -> None:
    found = acceptable(", ".join(f"{name};q={weight / 1000:.3f}" for name, weight in weights.items()))
    weight_of = [weights.get(coding, weights.get("*", 0)) for coding in found]
    assert weight_of == sorted(weight_of, reverse=True)
    assert all(weight > 0 for weight in weight_of)
    left = set(CODINGS) - set(found)
    assert all(weights.get(c, weights.get("*", 0)) <= weights.get("identity", 0) for c in left)


@given(st.text(max_size=60))
def test_any_text(value: str) -> None:
    assert set(acceptable(value)) <= set(CODINGS)
