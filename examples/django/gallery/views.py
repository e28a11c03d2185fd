"""The pages."""

import zlib
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

KINDS = {".avif", ".gif", ".jpeg", ".jpg", ".png", ".webp"}
MAX_BYTES = 10 * 1024 * 1024


def pictures() -> list[Path]:
    """The latest first."""
    found = [path for path in Path(settings.MEDIA_ROOT).iterdir() if path.suffix in KINDS]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "index.html", {"names": [path.name for path in pictures()]})


@require_POST
def upload(request: HttpRequest) -> HttpResponse:
    picture = request.FILES.get("picture")
    if picture is None or Path(picture.name).suffix.lower() not in KINDS or picture.size > MAX_BYTES:
        return HttpResponseBadRequest("A picture, please, of at most 10 MB.\n", content_type="text/plain")
    name = Path(picture.name)
    default_storage.save(name.stem + name.suffix.lower(), picture)
    return redirect("index")


@require_GET
def export(_request: HttpRequest) -> StreamingHttpResponse:
    """All names with their checksums, line by line as they are computed."""

    def lines() -> Iterator[str]:
        for path in pictures():
            yield f"{zlib.crc32(path.read_bytes()):08x} {path.name}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain; charset=utf-8")
