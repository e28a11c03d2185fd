"""wsgi.file_wrapper: by the engine where the descriptor has what reading would give, else block by block."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.apps.wsgi.conftest import Serve
from tux.apps.wsgi.files import FileWrapper, extent

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    return file


def sends(make: Callable[[], Any], *headers: tuple[str, str], block: int = 8192) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain"), *headers])
        return environ["wsgi.file_wrapper"](make(), block)

    return application


class Kept:
    """Opens the file, and knows whether it was closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: Any = None

    def __call__(self) -> Any:
        self.file = self.path.open("rb")
        return self.file


@pytest.mark.parametrize(("headers", "size"), [((), len(CONTENT)), ((("Content-Length", "1000"),), 1000)])
def test_file_is_sent_by_the_engine(serving: Serve, path: Path, headers: Any, size: int) -> None:
    kept = Kept(path)
    port = serving(sends(kept, *headers), validate=False, threads=1)
    answer = port.request().done()
    assert answer.files == [(0, size)]
    assert answer.length == size
    assert answer.body == CONTENT[:size]
    port.request("HEAD").done()
    assert kept.file.closed


def test_position_is_respected(serving: Serve, path: Path) -> None:
    def opened() -> Any:
        file = path.open("rb")
        file.read(1)  # the descriptor is further: the object has a buffer
        file.seek(1000)
        file.read(24)
        return file

    answer = serving(sends(opened), validate=False).request().done()
    assert answer.files == [(1024, len(CONTENT) - 1024)]
    assert answer.body == CONTENT[1024:]


def test_head_and_304_send_no_file(serving: Serve, path: Path) -> None:
    answer = serving(sends(Kept(path)), validate=False).request("HEAD").done()
    assert (answer.length, answer.files, answer.body) == (len(CONTENT), [], b"")


def test_empty_file(serving: Serve, path: Path) -> None:
    path.write_bytes(b"")
    answer = serving(sends(Kept(path)), validate=False).request().done()
    assert (answer.status, answer.length, answer.files) == (200, 0, [])


def test_file_that_is_shorter_than_said_is_a_500(serving: Serve, path: Path) -> None:
    answer = serving(sends(Kept(path), ("Content-Length", "256001")), validate=False).request().done()
    assert answer.status == 500


def test_middleware_may_iterate(serving: Serve, path: Path) -> None:
    answer = serving(sends(Kept(path))).request().done()  # the validator does
    assert answer.files == []
    assert answer.body == CONTENT


def test_what_was_written_comes_first(serving: Serve, path: Path) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])(b"before")
        return environ["wsgi.file_wrapper"](path.open("rb"))

    assert serving(application, validate=False).request().done().body == b"before" + CONTENT


class Simple:
    """A file-like object with the least that there can be."""

    def __init__(self, *blocks: bytes) -> None:
        self.blocks = [*blocks]

    def read(self, size: int) -> bytes:
        return self.blocks.pop(0) if self.blocks else b""


def test_no_file_at_all(serving: Serve) -> None:
    answer = serving(sends(lambda: Simple(b"ab", b"c")), validate=False).request().done()
    assert answer.pieces == [b"ab", b"c"]


def test_wrapper_closes_what_can_be_closed() -> None:
    stream = io.BytesIO(b"abc")
    FileWrapper(stream).close()
    assert stream.closed
    assert not hasattr(FileWrapper(Simple()), "close")


def test_two_threads_of_a_pipe(serving: Serve) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"through a pipe")
    os.close(writer)
    answer = serving(sends(lambda: os.fdopen(reader, "rb")), validate=False).request().done()
    assert (answer.files, answer.body) == ([], b"through a pipe")


def test_drain_waits_for_a_file_that_the_client_has_not_taken(serving: Serve, path: Path) -> None:
    port = serving(sends(Kept(path)), validate=False, reads=False, threads=3)
    answer = port.request().until("self.kept")
    port.drain()
    answer.until("self._port.waits and not self._port._events")
    port.read(answer, len(CONTENT))
    assert answer.done().body == CONTENT


# What has a descriptor, and what the descriptor is worth


@pytest.fixture
def close() -> Iterator[Callable[[Any], Any]]:
    opened: list[Any] = []

    def later(file: Any) -> Any:
        opened.append(file)
        return file

    yield later
    for file in opened:
        file.close()


class Proxy:
    """As Django's File: passes everything on to `file`."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_plain_files(path: Path, close: Callable[[Any], Any]) -> None:
    for file in (
        path.open("rb"),
        path.open("rb", buffering=0),
        path.open("r+b"),
        Proxy(path.open("rb")),
        Proxy(Proxy(path.open("rb"))),
    ):
        found = extent(close(file))
        assert found is not None
        assert (found.offset, found.length) == (0, len(CONTENT))
        assert os.pread(found.fd, 10, 0) == CONTENT[:10]
    with tempfile.NamedTemporaryFile() as temporary:
        temporary.write(b"abc")
        temporary.flush()
        temporary.seek(1)
        found = extent(temporary)
        assert found is not None
        assert (found.offset, found.length) == (1, 2)


def test_descriptor_alone(path: Path, close: Callable[[Any], Any]) -> None:
    file = close(path.open("rb", buffering=0))

    class Bare:
        def fileno(self) -> int:
            return file.fileno()  # type: ignore[no-any-return]

    file.seek(100)
    found = extent(Bare())
    assert found is not None
    assert found.offset == 100


def test_position_behind_the_end_has_nothing(path: Path, close: Callable[[Any], Any]) -> None:
    file = close(path.open("rb"))
    file.seek(10**6)
    found = extent(file)
    assert found is not None
    assert found.length == 0


def test_what_would_give_other_bytes_is_read(tmp_path: Path, path: Path, close: Callable[[Any], Any]) -> None:
    packed = tmp_path / "packed"
    for module in (gzip, bz2, lzma):
        with module.open(packed, "wb") as file:
            file.write(CONTENT)
        unpacked = close(module.open(packed, "rb"))
        assert extent(unpacked) is None
        assert extent(Proxy(unpacked)) is None
        assert extent(close(io.BufferedReader(unpacked))) is None
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a", "b")
    archive = close(zipfile.ZipFile(tmp_path / "zip"))
    assert extent(close(archive.open("a"))) is None
    assert extent(close(path.open(encoding="latin-1"))) is None
    with tempfile.SpooledTemporaryFile() as spooled:
        assert extent(spooled) is None


def test_what_is_no_file_is_read(path: Path) -> None:
    file = path.open("rb")
    file.close()
    with Path("/dev/null").open("rb") as null:
        for none in (io.BytesIO(), Simple(), file, None, 3, null):
            assert extent(none) is None
