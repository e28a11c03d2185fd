"""A stand-in for `tux._engine`, for tests of pure Python where the extension is not built: files below roots and the
route table behave like the real ones (by the same system call); there is no engine in it."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Sequence

ABSENT, FILE, FOLDER, SPECIAL, DENIED, ESCAPE, ERROR = range(7)
REMEMBER, EXACT, RANGE, CLOSE, NO_BODY, PUBLISH = 1, 2, 4, 8, 16, 32
LIMITS = {"small_body_bytes": 65536}
SIGNIFICANT_BY_DEFAULT = frozenset(
    (
        "host",
        "range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "accept",
        "accept-encoding",
        "authorization",
    )
)

_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH = 0x02, 0x08
_KINDS = {
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG), ABSENT),
    **dict.fromkeys((errno.EACCES, errno.EPERM), DENIED),
    **dict.fromkeys((errno.EXDEV, errno.ELOOP), ESCAPE),
}
_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class Found:
    def __init__(self, root: int, path: bytes, kind: int, error: int = 0) -> None:
        self.root, self.path, self.kind, self.error = root, path, kind, error
        self.size = self.mtime_ns = self.mode = self.dev = self.ino = 0
        self.data: bytes | None = None
        self.fd = -1
        self.hidden = False

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class Recipe:
    """What is said to the engine; nobody reads it here."""

    def __init__(self, head_len: int, **say: object) -> None:
        self.head_len, self.say = head_len, say


class Roots:
    guarded = False

    def __init__(self, paths: Sequence[bytes] = ()) -> None:
        self._paths = list(paths)

    def add(self, path: bytes) -> int:
        self._paths.append(path)
        return len(self._paths) - 1

    def look(self, root: int, path: bytes) -> Found:
        found, fd = self._open(root, path, os.O_PATH)
        if fd >= 0:
            os.close(fd)
        return found

    def load(self, root: int, path: bytes, limit: int) -> Found:
        found = self.look(root, path)
        if found.kind != FILE:
            return found
        found, fd = self._open(root, path, os.O_RDONLY)
        if fd < 0:
            return found
        if found.size > limit:
            found.fd = fd
            return found
        with open(fd, "rb") as file:
            found.data = file.read()
        return found

    def open_folder(self, root: int, path: bytes) -> Found:
        found, fd = self._open(root, path, os.O_RDONLY | os.O_DIRECTORY)
        found.fd = fd
        return found

    def _open(self, root: int, path: bytes, flags: int) -> tuple[Found, int]:
        if b"\0" in path:
            return Found(root, path, ABSENT, errno.ENOENT), -1
        try:
            folder = os.open(self._paths[root], os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            return Found(root, path, _KINDS.get(error.errno or 0, ERROR), error.errno or 0), -1
        outer, mark, inner = path.partition(b"//")
        if mark:  # nothing that follows leaves that folder
            above, (folder, number) = folder, _beneath(folder, outer, os.O_PATH | os.O_DIRECTORY)
            os.close(above)
            if folder < 0:
                return Found(root, path, _KINDS.get(number, ERROR), number), -1
        fd, number = _beneath(folder, inner if mark else outer, flags)
        os.close(folder)
        if fd < 0:
            return Found(root, path, _KINDS.get(number, ERROR), number), -1
        status = os.fstat(fd)
        kind = FILE if stat.S_ISREG(status.st_mode) else FOLDER if stat.S_ISDIR(status.st_mode) else SPECIAL
        found = Found(root, path, kind)
        found.mode, found.dev, found.ino = status.st_mode, status.st_dev, status.st_ino
        found.size, found.mtime_ns = status.st_size, status.st_mtime_ns
        return found, fd


def _beneath(folder: int, path: bytes, flags: int) -> tuple[int, int]:
    """A descriptor, or -1; and what went wrong."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    fd = _libc.syscall(_SYS_OPENAT2, folder, ctypes.c_char_p(path or b"."), ctypes.byref(how), ctypes.sizeof(how))
    return fd, ctypes.get_errno()


class RouteTable:
    def __init__(self) -> None:
        self._sites: dict[str, list[tuple[bytes, int]]] = {}
        self._by_number: list[list[tuple[bytes, int]]] = []

    def add_site(self, hosts: Sequence[str]) -> int:
        routes: list[tuple[bytes, int]] = []
        for host in hosts:
            if host in self._sites:
                raise ValueError(f"the host {host!r} is taken")
            self._sites[host] = routes
        self._by_number.append(routes)
        return len(self._by_number) - 1

    def add_route(self, site: int, prefix: bytes, route: int) -> None:
        self._by_number[site].append((prefix, route))

    def match(self, host: str, path: bytes) -> int:
        name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
        name = name.lower().removesuffix(".")
        routes = self._sites.get(name)
        at = name.find(".")
        while routes is None and at >= 0:
            routes = self._sites.get("*" + name[at:])
            at = name.find(".", at + 1)
        if routes is None:
            routes = self._sites.get("", [])
        best = (-1, -1)
        for prefix, route in routes:
            if path == prefix or path.startswith(prefix if prefix.endswith(b"/") else prefix + b"/"):
                best = max(best, (len(prefix), route))
        return best[1]
