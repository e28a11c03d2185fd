"""A server in a Python program: serve a folder, ask for a file twice, stop. Run it: python examples/python-api.py"""

from __future__ import annotations

import http.client
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import tux


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # for root: its workers run as nobody, and temporary folders are private
        (folder / "hello.txt").write_text("Hello from Tux\n")

        # A process of its own, on a free port. Leaving the block stops it.
        with tux.Server(folder, workers=1, cache_control={"*.txt": "no-cache"}) as server:
            connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
            connection.request("GET", "/hello.txt")
            answer = connection.getresponse()
            print(answer.status, answer.headers["Cache-Control"], answer.read().decode(), end="")

            # With the tag of what we have, the answer has no body.
            connection.request("GET", "/hello.txt", headers={"If-None-Match": answer.headers["ETag"]})
            print(connection.getresponse().status, "not modified")
            connection.close()

    try:
        tux.Server(folder).start()
    except tux.StartError as error:
        print("cannot start:", error.message.replace(name, "FOLDER"))


if __name__ == "__main__":
    main()
