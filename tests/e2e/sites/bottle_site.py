"""The pages that every framework has, by Bottle."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bottle import Bottle, redirect, request, response, static_file

app = Bottle()


@app.get("/")
def hello() -> str:
    return "hello"


@app.get("/args/<name>")
def args(name: str) -> Any:
    root = request.script_name.rstrip("/")
    return {"name": name, "x": request.query.decode().getall("x"), "root": root, "url": request.url.partition("?")[0]}


@app.post("/form")
def form() -> Any:
    upload = request.files["upload"]
    data = upload.file.read()
    digest = hashlib.sha256(data).hexdigest()
    return {"name": request.forms["name"], "file": upload.raw_filename, "size": len(data), "digest": digest}


@app.post("/raw")
def raw() -> Any:
    found, size = hashlib.sha256(), 0
    while block := request.environ["wsgi.input"].read(10_000):
        found.update(block)
        size += len(block)
    return {"size": size, "digest": found.hexdigest()}


@app.route("/file", ["GET", "HEAD"])
def file() -> Any:
    path = Path(os.environ["SITE_FILE"])
    return static_file(path.name, root=str(path.parent), mimetype="application/x-test")


@app.get("/stream")
def stream() -> Iterator[str]:
    response.content_type = "text/plain; charset=utf-8"
    for number in range(100):
        yield f"line {number}\n"


@app.get("/cookies")
def cookies() -> Any:
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return request.get_cookie("c") or ""


@app.get("/old")
def old() -> None:
    redirect("/", 302)


@app.delete("/nothing")
def nothing() -> None:
    response.status = 204


@app.get("/error")
def error() -> Any:
    raise RuntimeError("broken on purpose")
