"""The pages that every framework has, by Flask."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, jsonify, make_response, redirect, request, send_file

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    return "hello"


@app.get("/args/<name>")
def args(name: str) -> Any:
    return jsonify(name=name, x=request.args.getlist("x"), root=request.script_root, url=request.base_url)


@app.post("/form")
def form() -> Any:
    upload = request.files["upload"]
    data = upload.read()
    return jsonify(
        name=request.form["name"], file=upload.filename, size=len(data), digest=hashlib.sha256(data).hexdigest()
    )


@app.post("/raw")
def raw() -> Any:
    found, size = hashlib.sha256(), 0
    while block := request.stream.read(10_000):
        found.update(block)
        size += len(block)
    return jsonify(size=size, digest=found.hexdigest())


@app.get("/file")
def file() -> Response:
    return send_file(os.environ["SITE_FILE"], mimetype="application/x-test", conditional=True)


@app.get("/stream")
def stream() -> Response:
    def blocks() -> Iterator[str]:
        for number in range(100):
            yield f"line {number}\n"

    return Response(blocks(), mimetype="text/plain")


@app.get("/cookies")
def cookies() -> Response:
    answer = make_response(request.cookies.get("c", ""))
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


@app.get("/old")
def old() -> Any:
    return redirect("/")


@app.delete("/nothing")
def nothing() -> Any:
    return "", 204


@app.get("/error")
def error() -> Any:
    raise RuntimeError("broken on purpose")
