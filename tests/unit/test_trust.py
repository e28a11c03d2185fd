# SPDX-License-Identifier: MIT
"""Who sent a request: the engine's answer against a model that is written another way. Rows: tests/c/test_trust.c."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tux._engine import forward_request, scan_head, trust_client

TRUSTED = ("10.0.0.0/8", "unix", "2001:db8::/32")
NETWORKS = [ipaddress.ip_network(text) for text in TRUSTED if text != "unix"]

NEAR = st.sampled_from(["10.0.0.1", "10.255.3.4", "2001:db8::1", "::ffff:10.0.0.9"])
FAR = st.one_of(st.ip_addresses().map(str), st.sampled_from(["1.1.1.1", "2a00::1", "::ffff:9.9.9.9"]))
JUNK = st.sampled_from(["unknown", "_hidden", "1.2.3", "1.2.3.04", "a b", "[1.1.1.1]", "1.1.1.1:99999", "::1::"])
ADDRESS = st.one_of(NEAR, FAR)
PORT = st.one_of(st.just(""), st.integers(0, 65535).map(lambda n: f":{n}"), st.just(":_p"))
PEER = st.sampled_from(["10.0.0.1", "2001:db8::5", "unix:", "192.0.2.1"])


def node(address: str, port: str) -> str:
    if ":" not in address:
        return address + port
    return f"[{address}]{port}" if port else address


NODE = st.one_of(st.builds(node, ADDRESS, PORT), st.builds(node, ADDRESS, PORT), JUNK)


def plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def is_trusted(address: str) -> bool:
    return address == "unix:" or any(plain(address) in network for network in NETWORKS)


def read_node(text: str) -> str | None:
    """The address of `ADDRESS`, `ADDRESS:PORT`, `[IPv6]`, `[IPv6]:PORT`."""
    match = re.fullmatch(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<four>[0-9.]+))(?::(?P<port>[0-9]{1,5}|_[\w.!~-]+))?", text)
    try:
        if match is None:
            return str(plain(text))
        if match["port"] and match["port"].isdigit() and int(match["port"]) > 65535:
            return None
        if match["six"]:
            ipaddress.IPv6Address(match["six"])
        return str(plain(match["six"] or match["four"]))
    except ValueError:
        return None


def model(peer: str, nodes: list[str]) -> str:
    """The client by a list of what the proxies wrote."""
    client = peer
    for text in reversed(nodes[-32:]):
        if not is_trusted(client):
            break
        address = read_node(text)
        if address is None:
            break
        client = address
    return client


def shown(address: str) -> str:
    return address if address == "unix:" else str(plain(address))


def head(*fields: tuple[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode()


@given(peer=PEER, lists=st.lists(st.lists(NODE, min_size=1, max_size=4), min_size=1, max_size=3))
def test_x_forwarded_for(peer: str, lists: list[list[str]]) -> None:
    data = head(*(("X-Forwarded-For", ", ".join(nodes)) for nodes in lists))
    found = trust_client(data, trusted=TRUSTED, peer=peer.encode())
    assert found["address"] == model(shown(peer), [text for nodes in lists for text in nodes])
    assert found["believed"] == is_trusted(peer)
    assert trust_client(data, peer=peer.encode())["address"] == shown(peer)


@given(
    peer=PEER,
    elements=st.lists(st.tuples(NODE, st.sampled_from(["http", "https"])), min_size=1, max_size=4),
    foreign=st.sampled_from(["", 'for="1', 'x="a,b"', "for=1.1.1.1;for=2.2.2.2", '"', "\\"]),
)
def test_forwarded(peer: str, elements: list[tuple[str, str]], foreign: str) -> None:
    """Whatever the client has sent in front, it changes nothing in what the proxies have said."""
    texts = [f'for="{text}";proto={proto}' for text, proto in elements]
    believed = is_trusted(peer)
    expected = model(shown(peer), [text for text, _ in elements])
    found = trust_client(head(("Forwarded", ", ".join(texts))), trusted=TRUSTED, peer=peer.encode())
    assert found["address"] == expected
    behind = trust_client(head(("Forwarded", ", ".join([foreign, *texts]))), trusted=TRUSTED, peer=peer.encode())
    if not believed or not is_trusted(expected):
        assert behind == found
    if believed:  # the word of the last proxy that was followed
        client, secure = shown(peer), False
        for text, proto in reversed(elements):
            secure = proto == "https"
            address = read_node(text)
            if address is None:
                break
            client = address
            if not is_trusted(client):
                break
        assert found["secure"] == secure
    else:
        assert not found["secure"]


@given(value=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60), name=st.sampled_from(
    ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded"]))  # fmt: skip
def test_any_value(value: str, name: str) -> None:
    """Whatever a proxy says, there is a client, and the upstream is told one thing: the same to whoever trusts us."""
    data = head((name, value))
    found = trust_client(data, trusted=TRUSTED, peer=b"10.0.0.1")
    host = found["host"]
    assert isinstance(host, str)
    if host:
        assert scan_head(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())["outcome"] == "done"
    status, told = forward_request(data, trusted=TRUSTED, peer=b"10.0.0.1", forwarded=True)
    assert status == 0
    for field in (b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Forwarded"):
        assert told.count(b"\r\n" + field + b": ") == 1
    again = trust_client(told, trusted=(*TRUSTED, "192.0.2.99"), peer=b"192.0.2.99")
    if name == "X-Forwarded-For" or ("for" not in value and '"' not in value):
        assert (again["address"], again["secure"]) == (found["address"], found["secure"])


def test_misuse() -> None:
    with pytest.raises(ValueError, match="not addresses"):
        trust_client(head(), trusted=("10.0.0.1/8",))
    with pytest.raises(ValueError, match="not an address"):
        trust_client(head(), peer=b"localhost")
    with pytest.raises(ValueError, match="head of a request"):
        trust_client(b"GET")
