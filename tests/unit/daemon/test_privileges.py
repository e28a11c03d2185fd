"""Accounts, the change of user, and the check that folders can be read. Each case runs in a process of its own."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import features
from tux.daemon import privileges
from tux.errors import StartError


def run(code: str, *arguments: str) -> str:
    """What a program prints; all of `privileges` is imported in it. A StartError is printed as "error: ..."."""
    program = (
        "import os, resource, sys, json\n"
        "from tux.errors import StartError\n"
        "from tux.daemon.privileges import *\n"
        "from tux.daemon import privileges\n"
        "try:\n" + textwrap.indent(textwrap.dedent(code), "    ") + "\n"
        "except StartError as error:\n"
        "    print('error:', error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.strip()


@pytest.fixture
def root() -> None:
    features.require("root")


@pytest.fixture
def open_tmp_path() -> Iterator[Path]:
    """A folder that everybody can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="tux-test-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


class TestAccount:
    def test_oneself_unless_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        account = privileges.account_for(None)
        assert (account.name, account.uid) == ("12345", 12345)

    def test_nobody_by_default_for_root(self, root: None) -> None:
        account = privileges.account_for(None)
        assert (account.name, account.uid) == ("nobody", pwd.getpwnam("nobody").pw_uid)
        assert account.gid in account.groups

    def test_by_number(self, root: None) -> None:
        assert privileges.account_for(str(pwd.getpwnam("nobody").pw_uid)).name == "nobody"

    @pytest.mark.parametrize("name", ["no-such-user", "4294967294", "99999999999999999999", "²"])
    def test_no_such_user(self, name: str) -> None:
        with pytest.raises(StartError) as caught:
            privileges.account_for(name)
        assert caught.value.message == f"there is no user {name}; name another with --user"

    def test_another_user_needs_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(StartError, match="only root can run workers as another user"):
            privileges.account_for("nobody")

    def test_oneself_by_name_needs_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
        assert privileges.account_for("nobody").name == "nobody"


class TestBecome:
    def test_nothing_is_left_of_root(self, root: None) -> None:
        said = run("""
            account = account_for(None)
            become(account)
            assert os.getresuid() == (account.uid,) * 3
            assert os.getresgid() == (account.gid,) * 3
            assert set(os.getgroups()) == set(account.groups)
            for change in (os.setuid, os.setgid, os.seteuid, lambda zero: os.setgroups([zero])):
                try:
                    change(0)
                except PermissionError:
                    continue
                print("a way back:", change)
            print(oct(os.umask(0)))
        """)
        assert said == "0o77"

    @pytest.mark.parametrize(
        ("broken", "error"),
        [
            ("os.setresuid = lambda *ids: os.seteuid(65534)", "the process did not become user nobody"),
            ("os.setresuid = min; os.getresuid = lambda: (65534,) * 3", "the process could become root again"),
        ],
    )
    def test_a_way_back_is_noticed(self, root: None, broken: str, error: str) -> None:
        said = run(f"""
            {broken}
            try:
                become(Account("nobody", 65534, 65534, (65534,)))
            except RuntimeError as error:
                print(error)
        """)
        assert said == error

    def test_root_that_stays_root_needs_no_capability(self, root: None) -> None:
        said = run("""
            os.setgroups = os.setresgid = os.setresuid = None
            become(account_for("root"))
            print(os.getuid())
        """)
        assert said == "0"

    def test_capabilities_of_an_ordinary_user_are_dropped(self, root: None) -> None:
        """As systemd's AmbientCapabilities give them."""
        said = run("""
            import ctypes
            PR_SET_KEEPCAPS = 8
            ctypes.CDLL(None).prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
            os.setresuid(65534, 65534, 65534)
            def permitted():
                return next(line for line in open("/proc/self/status") if line.startswith("CapPrm")).split()[1]
            assert int(permitted(), 16) != 0
            become(account_for(None))
            print(int(permitted(), 16))
        """)
        assert said == "0"

    def test_no_new_privileges_also_for_oneself(self) -> None:
        said = run("""
            become(account_for(str(os.getuid())))
            print(next(line for line in open("/proc/self/status") if line.startswith("NoNewPrivs")).split()[1])
        """)
        assert said == "1"

    def test_parent_death_is_a_signal(self) -> None:
        """The grandchild tells by its end that its parent's end reached it."""
        said = run("""
            import signal
            reader, writer = os.pipe()
            middle = os.fork()
            if middle == 0:
                me = os.getpid()
                ready_reader, ready_writer = os.pipe()
                if os.fork() == 0:
                    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
                    assert die_with_parent(me)
                    os.write(ready_writer, b"x")
                    signal.sigwait([signal.SIGTERM])
                    os.write(writer, b"told")
                    os._exit(0)
                os.read(ready_reader, 1)
                os._exit(0)
            os.waitpid(middle, 0)
            os.close(writer)
            print(os.read(reader, 100).decode())
        """)
        assert said == "told"

    def test_a_parent_that_is_gone_already(self) -> None:
        assert run("print(die_with_parent(os.getppid() + 1))") == "False"


class TestDescriptors:
    def test_the_soft_limit_becomes_the_hard_one(self) -> None:
        said = run("""
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            print(raise_descriptor_limit() >= hard)
        """)
        assert said == "True"

    def test_root_raises_a_low_hard_limit(self, root: None) -> None:
        said = run("""
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))
            print(raise_descriptor_limit())
        """)
        assert int(said) in (256, privileges.DESCRIPTORS_AS_ROOT)  # 256 without CAP_SYS_RESOURCE


class TestRoots:
    CHECK = "check_roots(sys.argv[2:], account_for(sys.argv[1])); print('fine')"

    def test_readable(self, root: None, open_tmp_path: Path) -> None:
        assert run(self.CHECK, "nobody", str(open_tmp_path)) == "fine"

    def test_missing(self, tmp_path: Path) -> None:
        me = str(os.getuid())
        assert run(self.CHECK, me, f"{tmp_path}/none") == f"error: no such folder: {tmp_path}/none"
        (tmp_path / "file").touch()
        assert run(self.CHECK, me, f"{tmp_path}/file") == f"error: {tmp_path}/file is not a folder"

    def test_the_first_parent_that_is_in_the_way_is_named(self, root: None, open_tmp_path: Path) -> None:
        folder = open_tmp_path / "closed" / "deeper" / "site"
        folder.mkdir(parents=True)
        (open_tmp_path / "closed").chmod(0o700)
        assert run(self.CHECK, "nobody", str(folder)) == (
            f"error: user nobody cannot read the folder {folder}: {open_tmp_path}/closed is not searchable; "
            f"choose another user with --user NAME, or allow it with chmod o+x {open_tmp_path}/closed"
        )

    @pytest.mark.parametrize(("mode", "missing"), [(0o701, "r"), (0o704, "x"), (0o700, "x")])
    def test_the_folder_itself(self, root: None, open_tmp_path: Path, mode: int, missing: str) -> None:
        folder = open_tmp_path / "site"
        folder.mkdir()
        folder.chmod(mode)
        said = run(self.CHECK, "nobody", str(open_tmp_path), str(folder))
        assert said.startswith(f"error: user nobody cannot read the folder {folder}; ")
        assert said.endswith(f"chmod o+{missing} {folder}")

    def test_behind_a_symbolic_link(self, root: None, open_tmp_path: Path) -> None:
        target = open_tmp_path / "closed" / "release"
        target.mkdir(parents=True)
        (open_tmp_path / "closed").chmod(0o700)
        link = open_tmp_path / "current"
        link.symlink_to(target)
        assert f"{open_tmp_path}/closed is not searchable" in run(self.CHECK, "nobody", str(link))

    def test_a_user_that_cannot_be_become(self, root: None, open_tmp_path: Path) -> None:
        """As in a container that has root without CAP_SETUID."""
        said = run(
            """
            import errno
            def refused(*ids):
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
            os.setresuid = refused
            check_roots(sys.argv[1:], account_for("nobody"))
            """,
            str(open_tmp_path),
        )
        assert said == (
            "error: cannot run workers as user nobody: Operation not permitted; that needs CAP_SETUID and CAP_SETGID "
            "(--user root changes nothing, and needs neither)"
        )
