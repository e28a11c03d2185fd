"""The 1464 bytes of user_req_t in TUX 3.0."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux.compat import DATE_LEN, MAX_COOKIE_LEN, MAX_FIELD_LEN, MAX_URI_LEN, user_req_t
from tux.compat.request import LAYOUT, SIZE

OFFSETS = {
    "version_major": 0,
    "version_minor": 4,
    "version_patch": 8,
    "http_version": 12,
    "http_method": 16,
    "http_status": 20,
    "sock": 24,
    "event": 28,
    "error": 32,
    "thread_nr": 36,
    "bytes_sent": 40,
    "client_host": 44,
    "objectlen": 48,
    "module_index": 52,
    "keep_alive": 56,
    "cookies_len": 60,
    "id": 64,
    "priv": 72,
    "object_addr": 80,
    "query": 88,
    "objectname": 344,
    "cookies": 600,
    "content_type": 728,
    "user_agent": 792,
    "accept": 856,
    "accept_charset": 920,
    "accept_encoding": 984,
    "accept_language": 1048,
    "cache_control": 1112,
    "if_modified_since": 1176,
    "negotiate": 1240,
    "pragma": 1304,
    "referer": 1368,
    "new_date": 1432,
}
"""Of include/net/tux_u.h, counted by hand."""

WIDE = ("id", "priv", "object_addr")


def test_every_field_has_its_offset() -> None:
    assert [name for name, _ in LAYOUT] == list(OFFSETS)
    assert SIZE == 1464


@pytest.mark.parametrize("name", OFFSETS)
def test_a_field_is_where_the_original_had_it(name: str) -> None:
    at = OFFSETS[name]
    empty = user_req_t().pack()
    assert empty == bytes(1464)
    if at < 88:
        code = "Q" if name in WIDE else "I"
        number = 0x1122334455667788 if name in WIDE else 0x11223344
        expected = bytearray(empty)
        struct.pack_into("=" + code, expected, at, number)
        assert user_req_t(**{name: number}).pack() == expected
    else:
        expected = bytearray(empty)
        expected[at : at + 5] = b"hello"
        assert user_req_t(**{name: "hello"}).pack() == expected


def test_errors_are_negative() -> None:
    data = user_req_t(error=-2).pack()
    assert data[32:36] == struct.pack("=i", -2)
    assert user_req_t.unpack(data).error == -2


LIMITS = {"query": MAX_URI_LEN, "objectname": MAX_URI_LEN, "cookies": MAX_COOKIE_LEN, "new_date": DATE_LEN}


@pytest.mark.parametrize("name", [name for name, at in OFFSETS.items() if at >= 88])
def test_a_text_that_is_too_long_is_not_cut_silently(name: str) -> None:
    room = LIMITS.get(name, MAX_FIELD_LEN) - 1
    whole = user_req_t(**{name: "x" * room})
    assert getattr(user_req_t.unpack(whole.pack()), name) == "x" * room
    longer = user_req_t(**{name: "x" * (room + 1)})
    with pytest.raises(ValueError, match=rf"^{name} has {room + 1} bytes; at most {room} fit$"):
        longer.pack()
    assert getattr(user_req_t.unpack(longer.pack(cut=True)), name) == "x" * room


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"priv": object()}, "priv is object, which has no place in 64 bits; expected a number"),
        ({"priv": 1 << 64}, f"priv is {1 << 64}, which does not fit"),
        ({"event": -1}, "event is -1, which does not fit"),
        ({"object_addr": b"x"}, "object_addr is bytes, which has no place in 64 bits; expected a number"),
        ({"query": "a\0b"}, "query has a NUL in it, which ends texts there"),
    ],
)
def test_what_has_no_place_in_the_bytes(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        user_req_t(**fields).pack()
    assert str(raised.value) == message


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="user_req_t has 1464 bytes; got 1463"):
        user_req_t.unpack(bytes(1463))


def test_there_are_no_other_fields() -> None:
    with pytest.raises(AttributeError):
        user_req_t(evnet=1)


@given(st.binary(min_size=1464, max_size=1464))
def test_bytes_survive(data: bytes) -> None:
    """But what follows the NUL of a text, which nobody looks at."""
    read = user_req_t.unpack(data)
    again = user_req_t.unpack(read.pack())
    for name in OFFSETS:
        assert getattr(again, name) == getattr(read, name)
