"""environ: what PEP 3333 and RFC 3875 ask for, and what must not get in."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.unit.apps.fakes import FakeRequest
from tux.apps.options import AppOptions
from tux.apps.wsgi.environ import MAX_BASES, MAX_NAMES, Environs


def environs(**options: Any) -> Environs:
    return Environs(AppOptions(name="test", module="test", **options), io.StringIO())


def make(target: bytes = b"/", *headers: tuple[bytes, bytes], root_path: str = "", **attributes: Any) -> dict[str, Any]:
    request = FakeRequest(1, target=target, headers=list(headers), **attributes)
    return environs(root_path=root_path).make(request, io.BytesIO())


def test_all_of_a_plain_request() -> None:
    stream, errors = io.BytesIO(), io.StringIO()
    options = AppOptions(name="test", module="test", threads=3, workers=2)
    request = FakeRequest(1, "GET", b"/a?b=c&d", [(b"host", b"example.org"), (b"x-one", b"1")])
    environ = Environs(options, errors).make(request, stream)
    wrapper = environ.pop("wsgi.file_wrapper")
    assert list(wrapper(io.BytesIO(b"abc"), 2)) == [b"ab", b"c"]
    assert environ == {
        "HTTP_HOST": "example.org",
        "HTTP_X_ONE": "1",
        "PATH_INFO": "/a",
        "QUERY_STRING": "b=c&d",
        "RAW_URI": "/a?b=c&d",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "40000",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/a?b=c&d",
        "SCRIPT_NAME": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "tux",
        "wsgi.errors": errors,
        "wsgi.input": stream,
        "wsgi.input_terminated": True,
        "wsgi.multiprocess": True,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
    }
    assert all(type(value) is str for key, value in environ.items() if not key.startswith("wsgi."))


def test_environs_are_independent() -> None:
    maker = environs()
    first = maker.make(FakeRequest(1, headers=[(b"x-one", b"1")]), None)
    first["REQUEST_METHOD"] = "PUT"
    first["x"] = 1
    second = maker.make(FakeRequest(2), None)
    assert second["REQUEST_METHOD"] == "GET"
    assert "x" not in second
    assert "HTTP_X_ONE" not in second


def test_one_thread_in_one_process() -> None:
    environ = environs(threads=1).make(FakeRequest(1), None)
    assert not environ["wsgi.multithread"]
    assert not environ["wsgi.multiprocess"]


def test_http_1_0_over_https_to_a_unix_socket() -> None:
    environ = make(minor=0, scheme="https", client=None, server=("/run/tux.sock", None))
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["HTTPS"] == "on"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "443")
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("", "")


@pytest.mark.parametrize(
    ("target", "root", "script_name", "path_info"),
    [
        (b"/", "", "", "/"),
        (b"/a/b", "", "", "/a/b"),
        (b"/a/b", "/shop", "/shop", "/a/b"),
        (b"/a/b", "/shop/", "/shop", "/a/b"),
        (b"/shop", "/shop", "/shop", ""),
        (b"/shop/", "/shop", "/shop", "/"),
        (b"/shop/a", "/shop", "/shop", "/a"),
        (b"/shop//a", "/shop", "/shop", "//a"),
        (b"/shopping", "/shop", "/shop", "/shopping"),
        (b"/sh%6fp/%61%2Fb", "/shop", "/shop", "/a/b"),
        (b"/caf%c3%a9/a", "/caf\xe9", "/caf\xc3\xa9", "/a"),
        (b"/caf%C3%A9?q=%C3", "", "", "/caf\xc3\xa9"),
        (b"/caf\xc3\xa9", "", "", "/caf\xc3\xa9"),
        (b"//shop//a", "", "", "//shop//a"),
        (b"*", "", "", "/"),
        (b"/a%", "", "", "/a%"),
        (b"/a%zz", "/shop", "/shop", "/a%zz"),
    ],
)
def test_path_is_decoded_and_split(target: bytes, root: str, script_name: str, path_info: str) -> None:
    environ = make(target, root_path=root)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)
    assert environ["REQUEST_URI"] == target.decode("latin-1")


def test_content_fields_have_no_prefix() -> None:
    environ = make(b"/", (b"content-type", b"text/plain"), (b"content-length", b"3"), body=b"abc", length=3)
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert environ["CONTENT_LENGTH"] == "3"
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & set(environ)


def test_chunked_body_that_is_here_has_a_length() -> None:
    environ = make(b"/", (b"transfer-encoding", b"chunked"), body=b"abc")
    assert environ["CONTENT_LENGTH"] == "3"
    assert "HTTP_TRANSFER_ENCODING" not in environ
    environ = make(b"/", (b"transfer-encoding", b"chunked"), body=b"abc", complete=False)
    assert "CONTENT_LENGTH" not in environ
    assert "" not in environ


def test_repeated_fields_are_joined() -> None:
    environ = make(b"/", (b"cookie", b"a=1"), (b"x-a", b"1"), (b"cookie", b"b=2"), (b"x-a", b"2"), (b"x-a", b"3"))
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_A"] == "1,2,3"


@pytest.mark.parametrize("name", [b"proxy", b"x_forwarded_for", b"content_length", b"transfer-encoding", b"_"])
def test_what_would_be_taken_for_something_else_is_dropped(name: bytes) -> None:
    assert set(make(b"/", (name, b"1"), (name, b"2"))) == set(make())


def test_fields_do_not_reach_the_servers_own_variables() -> None:
    environ = make(b"/", (b"wsgi.input", b"x"), (b"remote-addr", b"y"), (b"https", b"on"))
    assert environ["REMOTE_ADDR"] == "192.0.2.7"
    assert environ["HTTP_REMOTE_ADDR"] == "y"
    assert "HTTPS" not in environ


def test_bytes_of_values_are_characters() -> None:
    assert make(b"/\xe9?\xe9", (b"x-a", bytes(range(128, 256))))["HTTP_X_A"] == bytes(range(128, 256)).decode("latin-1")


def test_what_clients_choose_is_not_remembered_without_end() -> None:
    maker = environs()
    for i in range(MAX_NAMES + 50):
        request = FakeRequest(i, headers=[(b"x-%d" % i, b"%d" % i)], server=(f"h{i}", 80))
        assert maker.make(request, None)[f"HTTP_X_{i}"] == str(i)
    assert len(maker._names) == MAX_NAMES
    assert len(maker._bases) == MAX_BASES
