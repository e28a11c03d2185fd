"""A poll, by Flask:

    pip install flask
    tux serve --app poll:create_app --factory --app-dir examples/flask --static /static/=examples/flask/static

The votes are kept in memory, so there is one process (the default of --app-workers), with several threads.
"""

from __future__ import annotations

import threading

from flask import Flask, Response, redirect, render_template_string, request, url_for

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Poll</title>
<link rel="stylesheet" href="{{ url_for('static', filename='style.css') }}">
<h1>Which one?</h1>
<form action="{{ url_for('vote') }}" method="post">
  {% for name, count in votes.items() %}
  <button name="choice" value="{{ name }}">{{ name }} ({{ count }})</button>
  {% endfor %}
</form>
</html>
"""


def create_app() -> Flask:
    """The application: Tux calls it once for each process."""
    app = Flask(__name__)
    lock = threading.Lock()
    votes = {"Adelie": 0, "Gentoo": 0, "Chinstrap": 0}

    @app.get("/")
    def index() -> str:
        return render_template_string(PAGE, votes=votes)

    @app.post("/vote")
    def vote() -> object:
        choice = request.form.get("choice", "")
        with lock:
            if choice not in votes:
                return "No such penguin.\n", 400
            votes[choice] += 1
        return redirect(url_for("index"), 303)

    @app.get("/votes.csv")
    def table() -> Response:
        lines = [f"{name},{count}\n" for name, count in votes.items()]
        return Response(lines, mimetype="text/csv", headers={"Content-Disposition": "attachment"})

    return app
