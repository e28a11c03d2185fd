# SPDX-License-Identifier: MIT
"""What users install: the sdist and the wheel, and the wheel in an environment that has nothing else.

They are built from the last commit, or taken from the folder that TUX_DIST names (``make dist``).
"""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import features
from tools import native
from tux import _version

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # seconds; two builds and an installation

VERSION = _version.__version__
READY = re.compile(r"tux: ready on (http://127\.0\.0\.1:\d+)$", re.MULTILINE)


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a command that must succeed, as from a shell of a user: nothing of this test run is in its environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}"
    return done.stdout


def committed() -> set[str]:
    return set(run("git", "ls-tree", "-r", "--name-only", "HEAD", cwd=native.ROOT).splitlines())


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both."""
    if os.environ.get("TUX_DIST"):
        return (native.ROOT / os.environ["TUX_DIST"]).resolve()
    folder = tmp_path_factory.mktemp("dist")
    command: list[str | Path] = [sys.executable, "-m", "build", "--outdir", folder]
    run(*command, cwd=native.ROOT)
    return folder


@pytest.fixture(scope="module")
def sdist(dist: Path) -> Path:
    return dist / f"tux_server-{VERSION}.tar.gz"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob(f"tux_server-{VERSION}-*.whl")
    return found


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    """A folder that every user can read: a server that root starts gives up being root."""
    folder = Path(tempfile.mkdtemp(prefix="tux-dist-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def installed(public: Path, wheel: Path) -> Path:
    """The bin folder of a new environment with the wheel and what it requires."""
    run(sys.executable, "-m", "venv", public / "env", cwd=public)
    run(public / "env/bin/python", "-m", "pip", "install", "--quiet", wheel, cwd=public)
    return public / "env/bin"


def test_the_sdist_is_complete(sdist: Path) -> None:
    """All that is committed, and what the build backend adds."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if "/" in name}
        files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert committed() <= names
    assert files - committed() == {"PKG-INFO"}


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name and not name.endswith("/")}
    extensions = {name for name in names if re.fullmatch(r"tux/_(app|cgi|engine)\.[\w.-]+\.so", name)}
    assert len(extensions) == 3
    package = {name.removeprefix("src/") for name in committed() if name.startswith("src/tux/")}
    tier = {"tux/kernel/tier.bin"} & names
    assert tier or features.missing("bpf")  # where it could be built, it was
    assert names - extensions - tier == {
        name for name in package if not name.endswith((".c", ".h", ".pxd", ".pxi", ".pyx", "meson.build"))
    }
    assert {"tux/__init__.py", "tux/__main__.py", "tux/py.typed", "tux/_engine.pyi"} <= names


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"tux_server-{VERSION}.dist-info"
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        assert archive.read(f"{info}/licenses/LICENSE") == (native.ROOT / "LICENSE").read_bytes()
    assert metadata["Version"] == VERSION
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    required = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert sorted(re.split(r"[^\w-]", text)[0] for text in required) == ["click", "msgspec", "wsproto"]
    assert "tux = tux.cli:main" in entry_points


def test_version(installed: Path, public: Path) -> None:
    said = run(installed / "tux", "--version", cwd=public)
    assert VERSION in said
    assert run(installed / "python", "-m", "tux", "--version", cwd=public) == said


def test_it_serves(installed: Path, public: Path) -> None:
    site = public / "site"
    site.mkdir()
    (site / "hello.txt").write_text("hello\n")
    command: list[str | Path] = [installed / "tux", "serve", site, "--listen", "127.0.0.1:0", "--workers", "1"]
    with subprocess.Popen(command, cwd=public, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            said = ""
            while not (ready := READY.search(said)) and (line := server.stderr.readline()):
                said += line
            assert ready, said
            with urllib.request.urlopen(f"{ready[1]}/hello.txt", timeout=10) as answer:
                assert answer.status == 200
                assert answer.read() == b"hello\n"
            server.terminate()
            assert server.wait(timeout=30) == 0
        finally:
            server.kill()
