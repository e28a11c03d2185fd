"""What is kept as long as there is room."""

from __future__ import annotations

from tux.planner.kept import Kept


def test_what_was_used_last_stays() -> None:
    kept: Kept[str, bytes] = Kept(6, len)
    kept.put("a", b"123")
    kept.put("b", b"123")
    assert kept.get("a") == b"123"
    kept.put("c", b"1")
    assert (kept.get("a"), kept.get("b"), kept.get("c"), kept.total) == (b"123", None, b"1", 4)


def test_a_value_takes_the_place_of_another() -> None:
    kept: Kept[str, bytes] = Kept(6, len)
    kept.put("a", b"12345")
    kept.put("a", b"1")
    kept.put("b", b"12345")
    assert (kept.get("a"), kept.total, len(kept)) == (b"1", 6, 2)


def test_the_last_one_stays_whatever_it_costs() -> None:
    kept: Kept[str, bytes] = Kept(6, len)
    kept.put("a", b"1")
    kept.put("b", b"1234567")
    assert (kept.get("a"), kept.get("b"), len(kept)) == (None, b"1234567", 1)
