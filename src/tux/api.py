"""Serving from Python: `serve` in this process, `Server` in one of its own."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from tux.errors import FAILED, StartError

if TYPE_CHECKING:
    import subprocess
    from typing import IO

READY_TIMEOUT = 10.0
"""Seconds that `Server` waits for a start, which takes 0.3 s on an idle machine."""

STOP_MARGIN = 5.0
"""Seconds beyond the grace after which `Server.stop` kills what is left."""

_DEFAULT_GRACE = 30.0
_FREE_PORT = "127.0.0.1:0"


class Options(TypedDict, total=False):
    """The options of `tux serve`, named as in the configuration file."""

    config: str | os.PathLike[str]
    """A configuration file; the other options win over what it says."""
    listen: str | Sequence[str]
    """`HOST:PORT`, `[IPv6]:PORT`, `unix:/path`, or several of them."""
    workers: int | str
    user: str
    grace: float
    """Seconds."""
    access_log: str | os.PathLike[str]
    log_format: str
    kernel: str
    """"auto", "on" or "off"."""
    kernel_interface: str | Sequence[str]
    host_strip: str | Sequence[str]
    host_default: str
    index: str | Sequence[str]
    listing: bool
    spa: str
    """File below the folder."""
    clean_urls: bool
    trailing_slash: str
    """"folders", "always" or "never"."""
    favicon: bool
    robots: str
    """"allow" or "deny"."""
    immutable: bool
    cors: bool
    security_headers: bool
    error_page: Mapping[int, str] | Mapping[str, str]
    """Status -> file below the folder."""
    types: Mapping[str, str]
    """Extension (".log") or glob -> media type."""
    charset: str | Mapping[str, str]
    """One for all files, or glob -> charset."""
    download: str | Sequence[str]
    """Globs."""
    precompressed: bool
    compress: bool
    cache_control: str | Mapping[str, str]
    """One value for all files, or glob -> value."""
    headers: Mapping[str, str | Mapping[str, str]]
    """Name -> value for all files, and glob -> {name -> value}."""
    dotfiles: str
    module: str | Sequence[str]
    """`FILE.py`, a module of Python, or several of them."""
    module_workers: int | str
    app: str
    """`MODULE:ATTRIBUTE` of a WSGI or ASGI application."""
    app_dir: str | os.PathLike[str]
    app_interface: str
    """"auto", "wsgi" or "asgi"."""
    app_workers: int | str
    app_threads: int
    factory: bool
    forward: str | Sequence[str]
    """`http://HOST:PORT`, `unix:/path`, or several of them."""
    static: Mapping[str, str | os.PathLike[str]]
    """Prefix -> folder."""
    cgi: Mapping[str, str | os.PathLike[str]]
    """Prefix -> folder with programs."""
    reload: bool
    trusted: str | Sequence[str]
    proxy_protocol: bool


def serve(path: str | os.PathLike[str] | None = None, **options: Unpack[Options]) -> int:
    """Serve a folder (the current one, when there is no `module`, `app`, `forward` or `config` either) until SIGTERM or
    SIGINT; returns the exit code. Options are those of `tux serve`; it listens on 127.0.0.1:8080 when none is given.

    It forks worker processes, so it must be called by the main thread of a process that has no other threads (in a
    notebook, use `Server`). StartError: one line that says why it cannot start."""
    from tux.config.options import from_options
    from tux.daemon.supervisor import run

    plain = _plain(options)
    own = [plain["config"]] if "config" in plain else []
    read = functools.partial(from_options, None if path is None else os.fspath(path), **plain)
    return run(read(), own=own, reread=read)


class Server:
    """A server in a process of its own, for tests and notebooks:

        with tux.Server("site") as server:
            urllib.request.urlopen(server.url + "/index.html")

    Options are those of `tux serve`, but without any address it listens on a free port of 127.0.0.1. Entering the
    context (or `start`) returns when it serves. StartError: why it could not, with the server's own line."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        command: Sequence[str] = (),
        timeout: float = READY_TIMEOUT,
        **options: Unpack[Options],
    ) -> None:
        """args: further arguments of the command line. env: changes to the environment. command: what to run instead of
        `[sys.executable, "-m", "tux"]`. timeout: seconds to wait for the start."""
        self._path = path
        self._options = options
        self._args = list(args)
        self._env = env
        self._cwd = cwd
        self._command = list(command) or [sys.executable, "-m", "tux"]
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr = -1
        self._pid = 0
        self.urls: list[str] = []
        """One per listener, in the order of the options: "http://127.0.0.1:40123", "unix:/run/tux.sock"."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The first URL, without a slash at its end."""
        return self.urls[0]

    @property
    def pid(self) -> int:
        """Of the supervisor; of the last run after a stop."""
        return self._pid

    def start(self) -> Self:
        """Start, and return when it serves. StartError: it ended before, or was not ready in time."""
        import atexit
        import subprocess
        import tempfile
        import weakref

        if self._process is not None:
            raise RuntimeError("the server runs already")
        if self._stderr < 0:
            # It lives as long as this object, and can be read after the server has ended.
            with tempfile.TemporaryFile("ab+") as file:
                self._stderr = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._stderr)
        start = os.fstat(self._stderr).st_size
        reader, writer = os.pipe()
        with open(reader, "rb", buffering=0) as ready:
            try:
                self._process = subprocess.Popen(
                    [*self._command, *self._arguments("--ready-fd", str(writer))],
                    stdin=subprocess.DEVNULL,
                    stderr=self._stderr,
                    pass_fds=[writer],
                    env=None if self._env is None else {**os.environ, **self._env},
                    cwd=self._cwd,
                )
            finally:
                os.close(writer)
            self._pid = self._process.pid
            atexit.register(self._kill)
            try:
                self.urls = _read_until_closed(ready, self._timeout).split()
            except TimeoutError:
                self._kill()
                said = self._stderr_from(start)
                raise StartError(f"the server was not ready within {self._timeout:g} s; it said: {said!r}") from None
            except BaseException:
                self._kill()
                raise
        if not self.urls:
            code = self._reap()
            said = self._stderr_from(start)
            lines = said.splitlines() or [f"the server ended with code {code} and said nothing"]
            raise StartError(lines[-1].removeprefix("tux: ").removeprefix("error: "), code if code > 0 else FAILED)
        return self

    def stop(self) -> int:
        """Ask it to finish what is under way (SIGTERM), and wait for its end: the exit code. 0 when it does not run."""
        import subprocess

        if self._process is None:
            return 0
        self.kill(signal.SIGTERM)
        patience = self._options.get("grace", _DEFAULT_GRACE) + STOP_MARGIN
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._kill()
            said = self.stderr_text()
            raise TimeoutError(f"the server did not stop within {patience:g} s; it said: {said!r}") from None
        except BaseException:
            self._kill()
            raise
        return self._reap()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end (seconds), without asking for it: the exit code. TimeoutError."""
        import subprocess

        if self._process is None:
            return 0
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the server still runs after {timeout:g} s") from None
        return self._reap()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the supervisor. After SIGKILL the workers end by themselves."""
        if self._process is not None:
            self._process.send_signal(number)

    def worker_pids(self) -> list[int]:
        """The pids of the workers that run now, in the order of their start."""
        return _children(self._pid) if self._process is not None else []

    def stderr_text(self) -> str:
        """What the server has written to standard error so far, over all starts of this object."""
        return self._stderr_from(0)

    def _stderr_from(self, offset: int) -> str:
        if self._stderr < 0:
            return ""
        return os.pread(self._stderr, os.fstat(self._stderr).st_size, offset).decode("utf-8", "replace")

    def _arguments(self, *more: str) -> list[str]:
        given = dict(_plain(self._options))
        given.setdefault("listen", [] if "config" in given else [_FREE_PORT])
        arguments = ["serve"]
        for name, value in given.items():
            option = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                arguments.append(option if value else "--no-" + option[2:])
            elif isinstance(value, list):
                arguments += [f"{option}={item}" for item in value]
            else:
                arguments.append(f"{option}={value}")
        path = [] if self._path is None else ["--", os.fspath(self._path)]
        return [*arguments, *self._args, *more, *path]

    def _kill(self) -> None:
        """End it now, workers included, whatever state it is in."""
        if self._process is None:
            return
        workers = _children(self._pid)
        self._process.kill()
        for pid in workers:
            # Ours: they end when they see that the supervisor is gone; this only makes it quick.
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        self._process.wait()
        self._reap()

    def _reap(self) -> int:
        import atexit

        assert self._process is not None
        code = self._process.wait()
        atexit.unregister(self._kill)
        self._process = None
        return code


def _plain(options: Options) -> dict[str, Any]:
    """The options as `tux.config.options.from_options` takes them, and as the command line names them."""
    plain: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for name in ("listen", "index", "kernel_interface", "module", "forward", "trusted", "download", "host_strip"):
        if isinstance(plain.get(name), str):
            plain[name] = [plain[name]]
    for name in ("config", "access_log", "app_dir"):
        if name in plain:
            plain[name] = os.fspath(plain[name])
    if (cache := plain.get("cache_control")) is not None:
        globs = {"*": cache} if isinstance(cache, str) else cache
        plain["cache_control"] = [f"{glob}={value}" for glob, value in globs.items()]
    if (types := plain.pop("types", None)) is not None:
        plain["type"] = [f"{glob}={value}" for glob, value in types.items()]
    if (charset := plain.get("charset")) is not None:
        globs = {"*": charset} if isinstance(charset, str) else charset
        plain["charset"] = [f"{glob}={value}" for glob, value in globs.items()]
    if (pages := plain.get("error_page")) is not None:
        plain["error_page"] = [f"{status}={page}" for status, page in pages.items()]
    for name in ("static", "cgi"):
        if (folders := plain.get(name)) is not None:
            plain[name] = [f"{prefix}={os.fspath(folder)}" for prefix, folder in folders.items()]
    if (headers := plain.pop("headers", None)) is not None:
        plain["header"] = [f"{glob}:{name}={value}" for glob, name, value in _header_rules(headers)]
    return plain


def _header_rules(headers: Mapping[str, str | Mapping[str, str]]) -> Iterator[tuple[str, str, str]]:
    for key, value in headers.items():
        if isinstance(value, str):
            yield "*", key, value
        else:
            for name, text in value.items():
                yield key, name, text


def _read_until_closed(pipe: IO[bytes], timeout: float) -> str:
    """All that comes until the other end is closed. TimeoutError after so many seconds."""
    import select
    import time

    deadline = time.monotonic() + timeout
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    text = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
        piece = pipe.read(4096)
        if not piece:
            return text.decode()
        text += piece


def _children(pid: int) -> list[int]:
    """The child processes of a process (proc_pid_stat(5): the parent is the fourth field), oldest first."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue  # ended meanwhile
            if int(fields[1]) == pid and fields[0] != b"Z":
                found.append((int(fields[19]), int(name)))
    return [child for _, child in sorted(found)]
