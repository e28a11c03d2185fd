# SPDX-License-Identifier: MIT
"""The key of a head, computed by gcc's build of head_key.h and by the program's."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.kernel.programs.cases import EVEN, FIRST_SLOT, fresh, from_client
from tests.unit.kernel.programs.rig import LISTENER, PASS, REDIRECT, Outcome, Rig, tuple_in

MAX_HEAD = 2048

HEADS = st.integers(1, MAX_HEAD).flatmap(lambda size: st.binary(min_size=size, max_size=size))


def ask(rig: Rig, head: bytes, *, listener: int = LISTENER) -> Outcome:
    """A client says this as its first request."""
    packet = from_client(head)
    rig.set_conn(tuple_in(packet), fresh(listener=listener))
    return rig.run("ingress", packet.encode())


def is_found(rig: Rig, head: bytes, *, listener: int = LISTENER) -> bool:
    done = ask(rig, head, listener=listener)
    if done.verdict == REDIRECT:
        assert done.counts["answered"] == 1
        return True
    assert (done.verdict, done.counts) == (PASS, {"pass_unknown": 1})
    return False


@pytest.fixture(autouse=True, scope="module")
def world(rig: Rig) -> None:
    rig.reset()
    rig.set_slot(*FIRST_SLOT)


@given(HEADS, st.data())
@example(bytes(1), None)
@example(bytes(8), None)
@example(bytes(MAX_HEAD), None)
def test_found_by_the_key_of_the_other_build(rig: Rig, head: bytes, data: st.DataObject | None) -> None:
    """And one changed byte, one more or one less is another head."""
    with rig.published(EVEN, head):
        assert is_found(rig, head)
        if data is None:
            return
        place = data.draw(st.integers(0, len(head) - 1))
        change = data.draw(st.integers(1, 255))
        other = head[:place] + bytes([head[place] ^ change]) + head[place + 1 :]
        assert not is_found(rig, other)
        if len(head) > 1:
            assert not is_found(rig, head[:-1])
        if len(head) < MAX_HEAD:
            assert not is_found(rig, head + b"\0")
        assert not is_found(rig, head, listener=LISTENER + 1)


@pytest.mark.parametrize("length", [*range(1, 18), 2039, 2040, 2041, 2047, 2048])
def test_all_places_of_the_last_word(rig: Rig, length: int) -> None:
    """Zeros fill it, and the length tells heads that end in zeros from it."""
    head = bytes(range(1, 256)) * 9
    with rig.published(EVEN, head[:length]):
        assert is_found(rig, head[:length])
        assert not is_found(rig, head[: length - 1] + b"\0")


def test_what_was_in_the_scratch_before_has_no_part_in_it(rig: Rig) -> None:
    """Its memory is not cleared between packets."""
    with rig.published(EVEN, b"GET /"):
        for before in (b"\xff" * MAX_HEAD, b"\xff" * 8, b"GET / HTTP/1.1\r\n"):
            assert not is_found(rig, before)
            assert is_found(rig, b"GET /")


def test_length_and_listener_are_a_part_of_it(rig: Rig) -> None:
    keys = {rig.key_of(head, listener) for head in (b"a", b"a\0", b"a\0\0", b"b") for listener in (0, 1)}
    assert len(keys) == 8


@pytest.mark.parametrize("length", [0, MAX_HEAD + 1])
def test_no_key(rig: Rig, length: int) -> None:
    with pytest.raises(ValueError, match=f"no key for {length} bytes"):
        rig.key_of(bytes(length))
