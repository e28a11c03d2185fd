"""The table of media types."""

from __future__ import annotations

import pytest

from tux.http.head import is_value
from tux.http.media import DEFAULT, TABLE, extension, is_compressible, media_type, with_charset


@pytest.mark.parametrize(
    ("path", "content_type", "compressible"),
    [
        (b"index.html", "text/html; charset=utf-8", True),
        (b"a/b.css", "text/css; charset=utf-8", True),
        (b"A.CSS", "text/css; charset=utf-8", True),
        (b"notes.txt", "text/plain; charset=utf-8", True),
        (b"app.js", "text/javascript", True),
        (b"app.mjs", "text/javascript", True),
        (b"data.json", "application/json", True),
        (b"logo.svg", "image/svg+xml", True),
        (b"feed.xml", "application/xml", True),
        (b"app.wasm", "application/wasm", True),
        (b"photo.jpeg", "image/jpeg", False),
        (b"font.woff2", "font/woff2", False),
        (b"film.mp4", "video/mp4", False),
        (b"backup.tar.gz", "application/gzip", False),
        (b"app.js.gz", "application/gzip", False),
        (b"README", "application/octet-stream", False),
        (b"a.unknown", "application/octet-stream", False),
        (b"a.css/README", "application/octet-stream", False),
        (b"a.", "application/octet-stream", False),
        (b"", "application/octet-stream", False),
        (b"html", "application/octet-stream", False),
        (b"\xff.\xff", "application/octet-stream", False),
    ],
)
def test_types(path: bytes, content_type: str, compressible: bool) -> None:
    assert media_type(path) == (content_type, compressible)


def test_the_table_is_sound() -> None:
    assert len(TABLE) >= 200
    for kind, media in TABLE.items():
        assert kind == kind.lower() == extension(b"x." + kind)
        assert is_value(media.content_type)
        assert ("charset" in media.content_type) is (
            media.content_type.startswith("text/") and media.content_type != "text/javascript"
        )
    assert not DEFAULT.compressible
    with pytest.raises(TypeError):
        TABLE[b"html"] = DEFAULT  # type: ignore[index]


@pytest.mark.parametrize(
    ("content_type", "compressible"),
    [
        ("text/x-own", True),
        ("Text/Plain; charset=x", True),
        ("application/wasm", True),
        ("application/activity+json", True),
        ("image/png", False),
        ("application/octet-stream", False),
    ],
)
def test_types_that_are_not_in_the_table(content_type: str, compressible: bool) -> None:
    assert is_compressible(content_type) is compressible


@pytest.mark.parametrize(
    ("content_type", "charset", "said"),
    [
        ("text/plain", "utf-8", "text/plain; charset=utf-8"),
        ("text/plain", "", "text/plain"),
        ("Text/plain; Charset=a", "utf-8", "Text/plain; Charset=a"),
        ("text/plain; format=flowed", "utf-8", "text/plain; format=flowed; charset=utf-8"),
        ("text/javascript", "koi8-r", "text/javascript"),
        ("application/json", "koi8-r", "application/json"),
    ],
)
def test_charset(content_type: str, charset: str, said: str) -> None:
    assert with_charset(content_type, charset) == said
