"""Listen addresses. What errors look like is in golden/listen.txt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux.config.listen import Listen, parse


@pytest.mark.parametrize(
    ("text", "address", "url"),
    [
        ("127.0.0.1:8080", Listen("tcp", "127.0.0.1", 8080), "http://127.0.0.1:8080"),
        ("0.0.0.0:0", Listen("tcp", "0.0.0.0", 0), "http://0.0.0.0:0"),
        ("[::]:80", Listen("tcp", "::", 80), "http://[::]:80"),
        ("[fe80::1%eth0]:80", Listen("tcp", "fe80::1%eth0", 80), "http://[fe80::1%eth0]:80"),
        ("my-host.example.:65535", Listen("tcp", "my-host.example.", 65535), "http://my-host.example.:65535"),
        ("unix:/run/tux.sock", Listen("unix", path="/run/tux.sock"), "unix:/run/tux.sock"),
        ("fd:3", Listen("fd", path="3"), "fd:3"),
        ("fd:web.socket", Listen("fd", path="web.socket"), "fd:web.socket"),
        ("unix:a:80", Listen("unix", path="a:80"), "unix:a:80"),
    ],
)
def test_addresses(text: str, address: Listen, url: str) -> None:
    assert parse(text) == address
    assert parse(text).url() == url


def test_the_url_shows_the_port_that_was_taken() -> None:
    assert parse("[::1]:0").url(4711) == "http://[::1]:4711"


@pytest.mark.parametrize("text", ["fd:", "fd:2", "fd:03", "fd:123456", "fd:a:b", "fd:a b"])
def test_what_is_no_descriptor(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number from 3, or a name"):
        parse(text)


@given(st.text(max_size=40) | st.text("[]:.0123456789aunix/", max_size=40))
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    try:
        address = parse(text)
    except ValueError:
        return
    assert address.path or 0 <= address.port <= 65535
