"""Lines of the log that clients cause are bounded."""

from __future__ import annotations

import pytest

from tux.planner.notices import MAX_NOTICES, Notices


def test_once_for_each_subject() -> None:
    said = Notices()
    assert [said.due("a"), said.due("a"), said.due("b"), said.due("a")] == [True, False, True, False]


def test_again_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("tux.planner.notices.time.monotonic", lambda: now)
    said = Notices()
    assert said.due("a", 60)
    now = 159.0
    assert not said.due("a", 60)
    now = 160.0
    assert said.due("a", 60)
    assert not said.due("a", 60)


def test_memory_is_bounded() -> None:
    said = Notices()
    for subject in range(MAX_NOTICES + 10):
        assert said.due(subject)
    assert len(said._quiet_until) == MAX_NOTICES
    assert not said.due(MAX_NOTICES + 9)
    assert said.due(0), "the oldest was forgotten"
