"""The program itself: errors are one line, exit codes are a contract."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest

from tests.unit.cli.conftest import Run, Supervisor
from tux._version import __version__
from tux.cli.group import COMMANDS, tux
from tux.errors import StartError


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sreve"], "no such command 'sreve'"),
        (["--frob"], "no such option '--frob'"),
        (["serve", "--workres", "2"], "no such option '--workres'"),
        (["serve", "a", "b"], "got unexpected extra argument (b)"),
        (["serve", "--grace"], "option '--grace' requires an argument"),
        (["serve", "--grace", "soon"], "invalid value for '--grace': 'soon' is not a valid float"),
        (["serve", "--ready-fd", "-1"], "invalid value for '--ready-fd': -1 is not in the range x>=0"),
        (["serve", "--precompressed=no"], "option '--precompressed' does not take a value"),
        (["serve", "--kernel"], "option '--kernel' requires an argument"),
        (["kernel", "detach", "--timeout", "-1"], "invalid value for '--timeout': -1.0 is not in the range x>=0"),
        (["kernel", "stats"], "no such command 'stats'"),
        (["check", "a", "b"], "got unexpected extra argument (b)"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_code_2(run: Run, args: list[str], message: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    # Releases of click quote differently and add what else might have been meant.
    assert result.stderr.replace("'", "").startswith(f"tux: error: {message}".replace("'", ""))
    assert result.stderr.count("\n") == 1


def test_a_start_that_fails_is_one_line_and_its_code(run: Run, supervisor: Supervisor) -> None:
    supervisor.result = StartError("127.0.0.1:8080 is already in use")
    result = run("serve")
    assert (result.exit_code, result.stderr) == (1, "tux: error: 127.0.0.1:8080 is already in use\n")
    supervisor.result = StartError("--ready-fd 9 is not an open descriptor", 2)
    assert run("serve").exit_code == 2


def test_an_interrupt_before_anything_is_served(
    run: Run, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(supervisor, "run", interrupted)
    assert run("serve").exit_code == 130


def test_no_command_shows_the_help(run: Run) -> None:
    result = run()
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Serve a folder" in result.stderr
    assert run("--help").exit_code == run("-h").exit_code == 0


def test_no_command_of_the_kernel_tier_shows_the_help_of_these(run: Run) -> None:
    result = run("kernel")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: tux kernel [OPTIONS] COMMAND")
    assert "\n  detach  Remove the kernel tier.\n" in result.stderr


@pytest.mark.parametrize("names", [*((name,) for name in COMMANDS), ("kernel", "status"), ("kernel", "detach")])
def test_every_command_has_help_for_itself_and_each_option(run: Run, names: tuple[str, ...]) -> None:
    context, command = click.Context(tux), tux.get_command(click.Context(tux), names[0])
    for name in names[1:]:
        assert isinstance(command, click.Group)
        command = command.get_command(context, name)
    assert command is not None
    assert command.help
    assert command.short_help
    assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option))
    assert run(*names, "--help").exit_code == run(*names, "-h").exit_code == 0


def test_version_says_what_was_built_in(run: Run) -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert re.fullmatch(
        rf"tux {re.escape(__version__)}\nengine: (yes|no) \(.*\)\nkernel tier: (yes|no) \(.*\)\n"
        r"python: \d+\.\d+\.\d+\S* \(\w+\)\n",
        result.stdout,
    )


def test_python_m_tux_is_the_same() -> None:
    done = subprocess.run([sys.executable, "-m", "tux", "sreve"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tux: error: ")


def test_a_start_without_a_file_imports_nothing_that_only_others_need() -> None:
    """A start must be short; what takes long to import is imported where it is needed."""
    # Without click, which imports inspect itself, and whose modules differ from release to release.
    script = """
import sys
from tux.config.options import from_options
from_options(".", cache_control=["*=no-cache"], header=["*:X-A=b"])
slow = {"tomllib", "difflib", "asyncio", "email", "http.client", "http.server", "ssl", "urllib.request"}
slow |= {"subprocess", "multiprocessing", "unittest", "pydoc", "click", "tux.config.emit", "tux.config.reference"}
print(*sorted(slow & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
