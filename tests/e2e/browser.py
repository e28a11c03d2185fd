# SPDX-License-Identifier: MIT
"""Chromium without a window, as tests drive it: a page is opened, looked at, and its links are clicked.

It is spoken to by pipes (--remote-debugging-pipe: JSON, a NUL behind each message). Scripts of pages are off: what is
there is there without them. What tests evaluate is no script of a page.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from tools import fetch_peers

PATIENCE = 60.0
"""Seconds for one answer of a browser on a busy machine."""

START = """
import fcntl, os, sys
reader, writer = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(reader, 3)
os.dup2(writer, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Starts a program that reads descriptor 3 and writes 4, whatever numbers the pipes have."""


def chromium() -> tuple[str, dict[str, str]]:
    """The program and its environment. Fetching it, once, takes about a minute."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found, {}
    unpacked = fetch_peers.peer("chromium")
    return str(unpacked.path), unpacked.env


class Browser:
    """One tab, in a window of a telephone's size (CSS pixels)."""

    def __init__(self, width: int = 360, height: int = 640) -> None:
        program, env = chromium()
        self._folder = tempfile.TemporaryDirectory(prefix="tux-chromium-", ignore_cleanup_errors=True)
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()

        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", START, str(to_read), str(to_write)),
                *(program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"),
                *(f"--user-data-dir={self._folder.name}", "about:blank"),
            ],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[to_read, to_write],
        )
        os.close(to_read)
        os.close(to_write)
        self._held = b""
        self._number = 0
        self._session = ""
        try:
            targets = self._call("Target.getTargets")["targetInfos"]
            tab = next(target["targetId"] for target in targets if target["type"] == "page")
            self._session = self._call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
            self._call("Page.enable")
            self._call("Emulation.setScriptExecutionDisabled", value=True)
            self._call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=True
            )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._folder.cleanup()

    def open(self, url: str) -> None:
        """Open a page, and wait until it has loaded."""
        self._call("Page.navigate", wait_for="Page.loadEventFired", url=url)

    def click(self, selector: str) -> None:
        """Follow the link that is there."""
        box = self.evaluate(
            f"(() => {{ const at = document.querySelector({json.dumps(selector)}); at.scrollIntoView();"
            " const box = at.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        where = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
        self._call("Input.dispatchMouseEvent", type="mousePressed", **where)
        self._call("Input.dispatchMouseEvent", wait_for="Page.loadEventFired", type="mouseReleased", **where)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """What is to be read in these elements."""
        found: list[str] = self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map(at => at.innerText)"
        )
        return found

    def screenshot(self, path: Path) -> None:
        """What is seen, as PNG."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, *, wait_for: str = "", **parameters: Any) -> dict[str, Any]:
        """The answer of the browser; with `wait_for` when this event has come, too."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        result: dict[str, Any] | None = None
        happened = not wait_for
        while result is None or not happened:
            got = self._message()
            happened = happened or got.get("method") == wait_for
            if got.get("id") == self._number:
                assert "error" not in got, got
                result = got["result"]
        return result

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            piece = os.read(self._read, 65536) if ready else b""
            assert piece, f"the browser said nothing for {PATIENCE:g} s, or is gone"
            self._held += piece
        text, _, self._held = self._held.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message
