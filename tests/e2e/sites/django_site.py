"""The pages that every framework has, by Django: settings, views and urls in one module."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests",
    USE_TZ=True,
    FILE_UPLOAD_MAX_MEMORY_SIZE=100_000,
)


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


def args(request: HttpRequest, name: str) -> HttpResponse:
    url = request.build_absolute_uri(request.path)
    return JsonResponse(
        {"name": name, "x": request.GET.getlist("x"), "root": request.META["SCRIPT_NAME"], "url": url},
        json_dumps_params={"ensure_ascii": False},
    )


def form(request: HttpRequest) -> HttpResponse:
    upload = request.FILES["upload"]
    data = upload.read()
    digest = hashlib.sha256(data).hexdigest()
    return JsonResponse({"name": request.POST["name"], "file": upload.name, "size": len(data), "digest": digest})


def raw(request: HttpRequest) -> HttpResponse:
    found, size = hashlib.sha256(), 0
    while block := request.read(10_000):
        found.update(block)
        size += len(block)
    return JsonResponse({"size": size, "digest": found.hexdigest()})


def file(request: HttpRequest) -> Any:
    return FileResponse(Path(os.environ["SITE_FILE"]).open("rb"), content_type="application/x-test")


def stream(request: HttpRequest) -> Any:
    def blocks() -> Iterator[str]:
        for number in range(100):
            yield f"line {number}\n"

    return StreamingHttpResponse(blocks(), content_type="text/plain")


def cookies(request: HttpRequest) -> HttpResponse:
    answer = HttpResponse(request.COOKIES.get("c", ""))
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


def old(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/")


def nothing(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


def error(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("broken on purpose")


urlpatterns = [
    path("", hello),
    path("args/<str:name>", args),
    path("form", form),
    path("raw", raw),
    path("file", file),
    path("stream", stream),
    path("cookies", cookies),
    path("old", old),
    path("nothing", nothing),
    path("error", error),
]

application = get_wsgi_application()
