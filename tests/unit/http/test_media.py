"""The table of media types."""

from __future__ import annotations

import pytest

from tux.http.head import is_value
from tux.http.media import DEFAULT, TABLE, extension, media_type


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
