#!/usr/bin/env python3
"""A visitor's book: GET shows it, POST adds a line, and sends the client back to the list."""

import fcntl
import html
import os
import sys
import tempfile
import urllib.parse

BOOK = os.environ.get("BOOK", os.path.join(tempfile.gettempdir(), "tux-visitors.txt"))

if os.environ["REQUEST_METHOD"] == "POST":
    length = int(os.environ.get("CONTENT_LENGTH", "0"))
    form = urllib.parse.parse_qs(sys.stdin.read(min(length, 4096)))
    name = " ".join(form.get("name", ["nobody"])[0].split())[:80]
    with open(BOOK, "a", encoding="utf-8") as book:
        fcntl.flock(book, fcntl.LOCK_EX)  # another request may be served at the same time
        book.write(name + "\n")
    print(f"Status: 303 See Other\nLocation: {os.environ['SCRIPT_NAME']}\n")
else:
    try:
        with open(BOOK, encoding="utf-8") as book:
            names = book.read().split("\n")[:-1]
    except FileNotFoundError:
        names = []
    print("Content-Type: text/html; charset=utf-8\n")
    print('<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Visitors</title></head><body><ul>')
    for name in names:
        print(f"<li>{html.escape(name)}</li>")
    print('</ul><p><a href="/">Sign</a></p></body></html>')
