"""What a worker may do: the user it runs as, no way back, and the limits of the process.

Sources: credentials(7), capabilities(7), prctl(2), getrlimit(2).
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tux.errors import StartError

DEFAULT_USER = "nobody"
"""Workers run as this user when root starts the server and names no other."""

DESCRIPTORS_AS_ROOT = 131_072
"""Open files that root gives a worker when the hard limit is lower: two (connection, file) for each of the 50,000
connections of the default limits, and room for remembered files."""

WORKER_UMASK = 0o077
"""Workers create no files; should one ever be created, it is nobody else's."""

_PR_SET_PDEATHSIG = 1
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True)
class Account:
    """Who a worker runs as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str = ""
    """Its folder, which need not exist."""

    @property
    def is_current(self) -> bool:
        """Nothing has to change: this process is that user already."""
        return self.uid == os.geteuid() == os.getuid()

    @property
    def environment(self) -> dict[str, str]:
        """What tells a program who it is: the names that systemd sets for `User=`, without the shell."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def account_for(user: str | None) -> Account:
    """The account that workers run as: `user` by name or number; by default `nobody` for root and oneself for all
    others. StartError: no such user, or not permitted."""
    uid = os.geteuid()
    if user is None and uid != 0:
        return _oneself()
    name = DEFAULT_USER if user is None else user
    try:
        entry = pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        raise StartError(f"there is no user {name}; name another with --user") from None
    if uid != 0:
        if entry.pw_uid != uid:
            raise StartError(f"only root can run workers as another user; start as root, or without --user {name}")
        return _oneself()
    groups = tuple(sorted(os.getgrouplist(entry.pw_name, entry.pw_gid)))
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)


def _oneself() -> Account:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # usual in containers: a number without an entry
        name = str(uid)
    return Account(name, uid, os.getegid(), tuple(os.getgroups()))


def become(account: Account) -> None:
    """Give up everything that this account does not have, for good. Needs a single-threaded process (setuid(2) of libc
    changes all threads, but a half-changed process is nothing to reason about).

    OSError: not permitted. RuntimeError: there would be a way back."""
    if not account.is_current:
        if tuple(sorted(os.getgroups())) != account.groups:
            os.setgroups(account.groups)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
        if os.getresuid() != (account.uid,) * 3 or os.getresgid() != (account.gid,) * 3:
            raise RuntimeError(f"the process did not become user {account.name}")
        _check_no_way_back()
    if account.uid != 0:
        drop_capabilities()
    set_no_new_privileges()
    os.umask(WORKER_UMASK)


def _check_no_way_back() -> None:
    for change in (os.setuid, os.setgid):
        try:
            change(0)
        except PermissionError:
            continue
        raise RuntimeError("the process could become root again")


def drop_capabilities() -> None:
    """Also what a service manager gave, to bind a low port for example (capset(2); the ambient set goes with it)."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice 32 bits each
    if _libc().capset(header, nothing) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")


def set_no_new_privileges() -> None:
    """No execve(2) can add privileges any more: not by set-user-ID bits, not by file capabilities."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(parent: int, number: signal.Signals = signal.SIGTERM) -> bool:
    """Get this signal when the parent ends, however it ends. After `become`: a change of user clears the setting.
    False: the parent (its pid given) is gone already."""
    _prctl(_PR_SET_PDEATHSIG, number)
    return os.getppid() == parent


def _prctl(option: int, value: int) -> None:
    libc = _libc()
    unused = ctypes.c_ulong(0)
    if libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), unused, unused, unused) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def raise_descriptor_limit() -> int:
    """As many open files as this process may have; returns the new soft limit. Before `become`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wishes = [hard]
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS_AS_ROOT and os.geteuid() == 0:
        wishes.insert(0, DESCRIPTORS_AS_ROOT)
    for wish in wishes:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wish, wish))
            break
        except (ValueError, OSError):
            continue  # no CAP_SYS_RESOURCE, or over fs.nr_open
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def check_roots(roots: Sequence[str], account: Account) -> None:
    """Each folder must exist, and this account must be able to read it. StartError: the first that it cannot, why, and
    what to do. Looks as that account, from a child process."""
    for root in roots:
        if not os.path.isdir(root):
            raise StartError(f"{root} is not a folder" if os.path.exists(root) else f"no such folder: {root}")
    problem = _as_account(account, lambda: _first_problem(roots))
    if problem:
        folder, blocker, what = problem.split("\0")
        needs = "r" if what == "readable" else "x"
        reason = "" if blocker == folder else f": {blocker} is not {what}"
        # A folder of the user's own account is their business; only root has another user to offer.
        other = "choose another user with --user NAME, or " if os.geteuid() == 0 else ""
        raise StartError(
            f"user {account.name} cannot read the folder {folder}{reason}; "
            f"{other}allow it with chmod o+{needs} {blocker}"
        )


def in_the_way(paths: Sequence[str]) -> str:
    """The first folder that keeps this process from one of these paths, or from reading it; "" if there is none. What
    does not exist is in nobody's way."""
    for path in paths:
        for folder in (*_parents(os.path.abspath(path)), path):
            if not os.path.exists(folder):
                break
            if not os.access(folder, os.X_OK if folder != path or os.path.isdir(path) else os.R_OK):
                return folder
    return ""


def _first_problem(roots: Sequence[str]) -> str:
    """ "folder NUL what is in the way NUL "readable" or "searchable" ", or nothing."""
    for root in roots:
        for path in dict.fromkeys((os.path.abspath(root), os.path.realpath(root))):
            for parent in _parents(path):
                if not os.access(parent, os.X_OK):
                    return f"{root}\0{parent}\0searchable"
        for mode, what in ((os.X_OK, "searchable"), (os.R_OK, "readable")):
            if not os.access(root, mode):
                return f"{root}\0{root}\0{what}"
    return ""


def _parents(path: str) -> list[str]:
    """From the top: "/", "/srv", ... without the path itself."""
    parents = []
    while (parent := os.path.dirname(path)) != path:
        parents.append(parent)
        path = parent
    return parents[::-1]


def _as_account(account: Account, question: Callable[[], str]) -> str:
    """The answer of `question` in a child that runs as this account. StartError: cannot become it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            try:
                become(account)
            except (OSError, RuntimeError) as error:
                answer, code = str(error.strerror if isinstance(error, OSError) else error), 2
            else:
                answer, code = question(), 0
            with open(writer, "wb") as pipe:
                pipe.write(os.fsencode(answer))
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = os.fsdecode(pipe.read())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 2:
        raise StartError(
            f"cannot run workers as user {account.name}: {answer}; that needs CAP_SETUID and CAP_SETGID "
            "(--user root changes nothing, and needs neither)"
        )
    if code != 0:
        raise StartError(f"cannot look at the folders as user {account.name}: the check ended with code {code}")
    return answer
