# SPDX-License-Identifier: MIT
"""The environment of scripts: RFC 3875 section 4.1, and what must not be in it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.apps.fakes import FakeRequest
from tux.apps.cgi.environ import MAX_BASES, MAX_NAMES, Environments, Script
from tux.apps.cgi.options import CgiOptions

SCRIPT = Script(b"/srv/cgi/run", b"/srv/cgi", b"/cgi-bin/run", b"/x y", b"/srv/www")


def options(**keys: Any) -> CgiOptions:
    return CgiOptions(routes=None, workers=1, **keys)


def made(
    headers: list[tuple[bytes, bytes]], *, script: Script = SCRIPT, length: int = -1, **keys: Any
) -> dict[str, str]:
    told = {key: keys.pop(key) for key in ("client", "server", "scheme") if key in keys}
    request = FakeRequest(1, "GET", b"/cgi-bin/run/x%20y?a=b", headers, **told)
    block = Environments(options(**keys)).make(request, script, length, "1-2")
    assert block.endswith(b"\0")
    pairs = [pair.partition(b"=") for pair in block.split(b"\0")[:-1]]
    assert len({name for name, _, _ in pairs}) == len(pairs)
    return {name.decode(): value.decode("latin-1") for name, _, value in pairs}


def test_what_every_script_gets() -> None:
    env = made([(b"host", b"a.example:81")], client=("1.2.3.4", 5), server=("127.0.0.1", 8080), scheme="http")
    assert env == {
        "DOCUMENT_ROOT": "/srv/www",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "HTTP_HOST": "a.example:81",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PATH_INFO": "/x y",
        "PATH_TRANSLATED": "/srv/www/x y",
        "QUERY_STRING": "a=b",
        "REMOTE_ADDR": "1.2.3.4",
        "REMOTE_HOST": "1.2.3.4",
        "REMOTE_PORT": "5",
        "REQUEST_METHOD": "GET",
        "REQUEST_SCHEME": "http",
        "REQUEST_URI": "/cgi-bin/run/x%20y?a=b",
        "SCRIPT_FILENAME": "/srv/cgi/run",
        "SCRIPT_NAME": "/cgi-bin/run",
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_NAME": "a.example",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "tux",
        "UNIQUE_ID": "1-2",
    }


@pytest.mark.parametrize(
    "name",
    [
        b"proxy", b"authorization", b"proxy-authorization", b"connection", b"transfer-encoding", b"te", b"upgrade",
        b"x_a", b"x!a", b"x.a", b"content-length", b"content_length",
    ],
)  # fmt: skip
def test_what_none_gets(name: bytes) -> None:
    assert "evil" not in made([(name, b"evil")]).values()


def test_bodies_and_repeated_fields() -> None:
    headers = [(b"content-type", b"a/b"), (b"cookie", b"a"), (b"x-a", b"1"), (b"cookie", b"b"), (b"x-a", b"2")]
    env = made(headers, length=7)
    assert (env["CONTENT_TYPE"], env["CONTENT_LENGTH"]) == ("a/b", "7")
    assert (env["HTTP_COOKIE"], env["HTTP_X_A"]) == ("a; b", "1, 2")
    assert "HTTP_CONTENT_TYPE" not in env


def test_options() -> None:
    env = made([(b"authorization", b"Basic x")], authorization=True, env={"TZ": "UTC", "PATH": "/bin"})
    assert (env["HTTP_AUTHORIZATION"], env["TZ"], env["PATH"]) == ("Basic x", "UTC", "/bin")


@pytest.mark.parametrize(
    ("host", "told", "name", "port"),
    [
        (b"a", [], "a", "8080"),
        (b"[::1]:99", [], "[::1]", "8080"),
        (b"a", [(b"x-forwarded-for", b"9.9.9.9")], "a", "443"),
        (b"a:81", [(b"x-forwarded-for", b"9.9.9.9")], "a", "81"),
        (b"a", [(b"x-forwarded-for", b"9.9.9.9"), (b"x-forwarded-host", b"b:82")], "b", "82"),
        (b"a", [(b"x-forwarded-for", b"9.9.9.9"), (b"forwarded", b"host=c")], "a", "443"),
        (b"a", [(b"forwarded", b'for=1.1.1.1;host="c:83"')], "c", "83"),
        (b"a", [(b"x-forwarded-for", b"9.9.9.9"), (b"x-forwarded-host", b"b c")], "a", "443"),
    ],
)
def test_the_server_is_what_the_client_has_asked(
    host: bytes, told: list[tuple[bytes, bytes]], name: str, port: str
) -> None:
    env = made([(b"host", host), *told], server=("127.0.0.1", 8080), scheme="https")
    assert (env["SERVER_NAME"], env["SERVER_PORT"], env["HTTPS"]) == (name, port, "on")


def test_unix_sockets() -> None:
    env = made([], client=None, server=("/run/tux.sock", None), scheme="http")
    assert (env["REMOTE_ADDR"], env["SERVER_NAME"], env["SERVER_PORT"]) == ("", "localhost", "80")


def test_the_folder_of_the_site_may_change() -> None:
    """A host gets one of its own: it is the same script, and the same host."""
    environments = Environments(options())
    request = FakeRequest(1, "GET", b"/cgi-bin/run/x", [(b"host", b"a.example")])
    for root in (b"/srv/none", b"/srv/a.example", b""):
        block = environments.make(request, SCRIPT._replace(document_root=root), -1, "1")
        assert [pair for pair in block.split(b"\0") if pair.startswith(b"DOCUMENT_ROOT=")] == (
            [b"DOCUMENT_ROOT=" + root] if root else []
        )


def test_what_is_remembered_is_bounded() -> None:
    environments = Environments(options())
    for number in range(MAX_NAMES + MAX_BASES):
        headers = [(b"host", b"h%d" % number), (b"x-%d" % number, b"v")]
        block = environments.make(FakeRequest(1, "GET", b"/", headers), SCRIPT, -1, "1")
        assert b"\0HTTP_X_%d=v\0" % number in block
    assert len(environments._names) <= MAX_NAMES
    assert len(environments._bases) <= MAX_BASES


FIELDS = st.lists(
    st.tuples(
        st.text("abcxyz0-_!#", min_size=1).map(str.encode),
        st.binary(max_size=20).map(lambda value: bytes(byte for byte in value if byte not in b"\0\r\n")),
    ),
    max_size=8,
)


@given(FIELDS)
def test_no_field_becomes_a_variable_of_another_kind(headers: list[tuple[bytes, bytes]]) -> None:
    plain, env = made([]), made(headers)
    for name in env:
        assert name in plain or name.startswith("HTTP_")
    for name, value in plain.items():
        assert env[name] == value or name == "UNIQUE_ID"
