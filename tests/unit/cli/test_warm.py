"""`tux warm`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = {"/missing": 404, "/broken": 500}.get(self.path, 200)
        body = b"<urlset><url><loc>http://a.example/missing</loc></url></urlset>" if "sitemap" in self.path else b"x"
        self.server.seen.append((self.path, dict(self.headers)))  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    seen: list[tuple[str, dict[str, str]]]

    def handle_error(self, *args: object) -> None:
        """Clients may go."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_a_folder(run: Run, server: Server, url: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("x")
    (tmp_path / "a.txt").write_text("x")
    result = run("warm", url, "--folder", ".", "--connections", "2")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "2 answers over 2 connections: 2 x 200\n"
    assert sorted({path for path, _ in server.seen}) == ["/", "/a.txt"]
    assert len(server.seen) == 8
    fields = server.seen[0][1]
    assert (fields["Host"], fields["Accept-Encoding"]) == (url.removeprefix("http://"), "gzip, deflate, br, zstd")
    result = run("warm", url, "--folder", ".", "--quiet", "--max-size", "0", "--timeout", "9", "--connections", "1")
    assert result.output == ""


def test_fields_and_variants(run: Run, server: Server, url: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    result = run(
        *("warm", url, "--folder", ".", "--connections", "1", "--host", "b.example", "--header", "Accept: text/*"),
        *("--accept-encoding", "gzip", "--accept-encoding", ""),
    )
    assert result.stdout == "2 answers over 1 connection: 2 x 200\n"
    assert {(f["Host"], f["Accept"], f.get("Accept-Encoding")) for _, f in server.seen} == {
        ("b.example", "text/*", "gzip"),
        ("b.example", "text/*", None),
    }


def test_errors_are_listed(run: Run, url: str, tmp_path: Path) -> None:
    lines = ['{"method":"GET","target":"/ok","status":200}', '{"method":"GET","target":"/broken","status":200}']
    (tmp_path / "access.log").write_text("\n".join(lines))
    result = run("warm", url, "--log", "access.log", "--sitemap", "/my-sitemap.xml", "--connections", "1")
    assert result.exit_code == 1
    assert result.stderr == "tux: error: /broken: 500\ntux: error: a.example/missing: 404\n"
    assert result.stdout == "3 answers over 1 connection: 1 x 200, 1 x 500, 1 x 404\n"


def test_the_usual_sitemap(run: Run, server: Server, url: str) -> None:
    assert run("warm", url, "--connections", "1").stderr == "tux: error: a.example/missing: 404\n"
    assert server.seen[0][0] == "/sitemap.xml"


def test_many_errors(run: Run, url: str, tmp_path: Path) -> None:
    line = '{"method":"GET","target":"/missing","status":200,"host":"h%d"}'
    (tmp_path / "access.log").write_text("\n".join(line % number for number in range(30)))
    result = run("warm", url, "--log", "access.log", "--connections", "1")
    assert len(result.stderr.splitlines()) == 21
    assert result.stderr.endswith("tux: error: and 10 more\n")


def test_a_configuration(run: Run, server: Server, url: str, tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public/a.txt").write_text("x")
    (tmp_path / "tux.toml").write_text(
        f'[server]\nlisten = ["127.0.0.1:{server.server_port}"]\n[[site]]\nhosts = ["a.example"]\nroot = "public"\n'
    )
    assert run("warm", "--config", "tux.toml", "--connections", "1").stdout == "1 answer over 1 connection: 1 x 200\n"
    assert server.seen[0][1]["Host"] == "a.example"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "expected the URL of a server, or --config FILE"),
        (["https://a"], 2, "https://a: expected http://: name the address that Tux itself listens at"),
        (["http://a/b"], 2, "http://a/b: expected an address without a path"),
        (["a:1", "--header", "Host: x"], 2, "--header: Host cannot be given"),
        (["a:1", "--header", "a b: x"], 2, "--header: not a field name: 'a b'"),
        (["a:1", "--host", "a\r\nb"], 2, "--host: not a valid field value"),
        (["a:1", "--accept-encoding", "a\nb"], 2, "--accept-encoding: not a valid field value"),
        (["a:1", "--sitemap", "x.xml"], 2, "--sitemap: expected a path on the server, as in /sitemap.xml, got 'x.xml'"),
        (["a:1", "--folder", "none"], 1, "none: No such file or directory"),
        (["a:1", "--log", "none"], 1, "none: No such file or directory"),
        (["a:1", "--folder", "."], 1, "the sources name nothing to ask for"),
        (["--config", "none.toml"], 1, "none.toml: no such file"),
    ],
)
def test_wrong_usage(run: Run, args: list[str], code: int, message: str) -> None:
    result = run("warm", *args)
    assert (result.exit_code, result.stderr) == (code, f"tux: error: {message}\n")


def test_nobody_listens(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        result = run("warm", f"127.0.0.1:{port}", "--folder", ".")
    said = f"tux: error: nothing answers at 127.0.0.1:{port} (Connection refused); start the server first\n"
    assert (result.exit_code, result.stderr) == (1, said)
