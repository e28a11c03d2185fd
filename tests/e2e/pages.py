"""What the pages of `sites/*_site.py` must answer, whatever framework and server they have."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

from tests.e2e.dynamic import Ask

Check = Callable[[Ask, Path], None]


def hello(ask: Ask, _file: Path) -> None:
    reply = ask("GET", "/")
    assert (reply.status, reply.body) == (200, b"hello")
    assert reply.value("content-type").startswith("text/html")


def head_has_no_body(ask: Ask, _file: Path) -> None:
    reply = ask("HEAD", "/")
    assert (reply.status, reply.body) == (200, b"")


def paths_and_queries(ask: Ask, _file: Path) -> None:
    reply = ask("GET", "/args/caf%C3%A9%20au%20lait?x=1&x=%C3%A9&y", host="example.org")
    found = reply.json()
    assert found["name"] == "café au lait"
    assert found["x"] == ["1", "é"]
    assert found["root"] == ""
    assert found["url"].startswith("http://example.org/args/caf")


def forms(ask: Ask, _file: Path) -> None:
    """multipart/form-data with a file of 1 MB."""
    data = random.Random(1).randbytes(1_000_000)
    body = (
        b'--xYz\r\nContent-Disposition: form-data; name="name"\r\n\r\ncaf\xc3\xa9\r\n'
        b'--xYz\r\nContent-Disposition: form-data; name="upload"; filename="a.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n--xYz--\r\n"
    )
    reply = ask("POST", "/form", body, content_type="multipart/form-data; boundary=xYz")
    digest = hashlib.sha256(data).hexdigest()
    assert reply.json() == {"name": "café", "file": "a.bin", "size": 1_000_000, "digest": digest}


def bodies(ask: Ask, _file: Path) -> None:
    for size in (0, 1, 70_000, 3_000_000):
        data = random.Random(size).randbytes(size)
        reply = ask("POST", "/raw", data, content_type="application/octet-stream")
        assert reply.json() == {"size": size, "digest": hashlib.sha256(data).hexdigest()}


def chunked_bodies(ask: Ask, _file: Path) -> None:
    data = random.Random(2).randbytes(3_000_000)
    reply = ask("POST", "/raw", data, chunked=True, content_type="application/octet-stream")
    assert reply.json() == {"size": 3_000_000, "digest": hashlib.sha256(data).hexdigest()}


def files(ask: Ask, file: Path) -> None:
    data = file.read_bytes()
    reply = ask("GET", "/file")
    assert reply.status == 200
    assert reply.value("content-type") == "application/x-test"
    assert reply.value("content-length") == str(len(data))
    assert reply.body == data
    reply = ask("HEAD", "/file")
    assert (reply.status, reply.body) == (200, b"")
    assert reply.value("content-length") == str(len(data))


def ranges(ask: Ask, file: Path) -> None:
    reply = ask("GET", "/file", range="bytes=1000-90999")
    assert reply.status == 206
    assert reply.value("content-range") == f"bytes 1000-90999/{file.stat().st_size}"
    assert reply.body == file.read_bytes()[1000:91000]


def streams(ask: Ask, _file: Path) -> None:
    reply = ask("GET", "/stream")
    assert reply.body.decode().splitlines() == [f"line {number}" for number in range(100)]
    assert reply.all("content-length") == []


def cookies(ask: Ask, _file: Path) -> None:
    reply = ask("GET", "/cookies", cookie="c=given")
    assert reply.body == b"given"
    assert sorted(value.partition(";")[0] for value in reply.all("set-cookie")) == ["a=1", "b=2"]


def redirects(ask: Ask, _file: Path) -> None:
    reply = ask("GET", "/old", host="example.org")
    assert reply.status == 302
    assert reply.value("location") in {"/", "http://example.org/"}


def no_content(ask: Ask, _file: Path) -> None:
    reply = ask("DELETE", "/nothing")
    assert (reply.status, reply.body) == (204, b"")
    assert reply.all("content-length") == []


def errors(ask: Ask, _file: Path) -> None:
    assert ask("GET", "/error").status == 500
    assert ask("GET", "/missing").status == 404
    assert ask("DELETE", "/nothing", b"not read").status == 204


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        hello,
        head_has_no_body,
        paths_and_queries,
        forms,
        bodies,
        chunked_bodies,
        files,
        ranges,
        streams,
        cookies,
        redirects,
        no_content,
        errors,
    )
}
