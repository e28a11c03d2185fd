"""WSGI without a framework, behind wsgiref.validate."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from wsgiref.types import StartResponse as Start
from wsgiref.types import WSGIEnvironment as Environ
from wsgiref.validate import validator

TEXT = [("Content-Type", "text/plain")]
FILE = os.environ.get("SITE_FILE", "")


def environ_of(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", list(TEXT))
    return ["".join(f"{key}={value}\n" for key, value in environ.items() if type(value) is str).encode("latin-1")]


def digest(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Reads all of the body, piece by piece."""
    found, size = hashlib.sha256(), 0
    while block := environ["wsgi.input"].read(10_000):
        found.update(block)
        size += len(block)
    start_response("200 OK", list(TEXT))
    return [f"{size} {found.hexdigest()}".encode()]


def echo(environ: Environ, start_response: Start) -> Iterator[bytes]:
    """Answers while it reads."""
    start_response("200 OK", list(TEXT))
    while block := environ["wsgi.input"].read(65536):
        yield block


def unread(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("413 Content Too Large", [*TEXT, ("Content-Length", "3")])
    return [b"no\n"]


def written(environ: Environ, start_response: Start) -> Iterable[bytes]:
    write = start_response("200 OK", list(TEXT))
    write(b"by write, ")
    return [b"by ", b"blocks"]


def large(environ: Environ, start_response: Start) -> Iterator[bytes]:
    start_response("200 OK", list(TEXT))
    for _ in range(int(environ["QUERY_STRING"])):
        yield b"0123456789abcdef" * 4096


def length(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Says a length, and gives another."""
    start_response("200 OK", [*TEXT, ("Content-Length", environ["QUERY_STRING"])])
    return [b"five!"]


def breaks(environ: Environ, start_response: Start) -> Iterator[bytes]:
    start_response("200 OK", list(TEXT))
    if environ["QUERY_STRING"] == "late":
        yield b"some"
    raise RuntimeError("broken on purpose")


def splits(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("X-A", "a\r\nX-Injected: b")])
    return [b""]


def leaves(environ: Environ, start_response: Start) -> Iterable[bytes]:
    sys.exit("the application wants to leave")


def dies(environ: Environ, start_response: Start) -> Iterable[bytes]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def nothing(environ: Environ, start_response: Start) -> Iterable[bytes]:
    status = environ["QUERY_STRING"].replace("+", " ")
    start_response(status, [] if status[:3] in {"204", "304"} else list(TEXT))  # as the validator wants it
    return []


def sleeps(environ: Environ, start_response: Start) -> Iterable[bytes]:
    environ["wsgi.errors"].write("asleep\n")
    environ["wsgi.errors"].flush()
    time.sleep(float(environ["QUERY_STRING"]))
    start_response("200 OK", list(TEXT))
    return [b"slept"]


def pid(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", list(TEXT))
    return [str(os.getpid()).encode()]


def closes(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Streams without end; tells standard error when it was closed."""

    class Endless:
        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            return b"x" * 10_000

        def close(self) -> None:
            environ["wsgi.errors"].write("endless was closed\n")
            environ["wsgi.errors"].flush()

    start_response("200 OK", list(TEXT))
    return Endless()


def reason(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 It's all right, \xe7a va", list(TEXT))
    return [b"yes"]


def missing(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("404 Not Found", list(TEXT))
    return [b"no such page"]


PAGES = {
    f"/{page.__name__.removesuffix('_of')}": page
    for page in (
        environ_of,
        reason,
        digest,
        echo,
        unread,
        written,
        large,
        length,
        breaks,
        splits,
        leaves,
        dies,
        nothing,
        sleeps,
        pid,
        closes,
    )
}


@validator
def application(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return PAGES.get(environ["PATH_INFO"], missing)(environ, start_response)


def files(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A file by the server. No validator in front: it would iterate."""
    file = open(FILE, "rb")  # noqa: SIM115 (the server closes it)
    file.seek(int(environ["QUERY_STRING"] or 0))
    start_response("200 OK", list(TEXT))
    return environ["wsgi.file_wrapper"](file)  # type: ignore[no-any-return]
