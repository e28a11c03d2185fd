"""Listening sockets: bound, owned and kept by the supervisor, so that a worker that dies loses no queued connection.

A TCP listener has one socket per worker (SO_REUSEPORT: the kernel spreads connections over them, and workers share no
lock). A unix socket is one for all workers.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tux.config.listen import MAX_UNIX_PATH, Listen
from tux.errors import StartError

BACKLOG = 4096
"""Connections that may wait for accept(2), per socket: 80 ms of them at 50,000 a second. The kernel bounds it by
net.core.somaxconn (4096 by default since Linux 5.4)."""

START_LOCK_SECONDS = 2.0
"""How long a start waits for another one on the same port, which holds it up for less than a millisecond."""
START_LOCK_RETRY_SECONDS = 0.01

UNIX_MODE = 0o666
"""Mode of a unix socket, as nginx has it: who may connect is decided by the permissions of its folder."""

_SockAddr = tuple[Any, ...]
"""Host, port, and for IPv6 the flow and the scope."""
_Taken = tuple[socket.AddressFamily, _SockAddr]


@dataclass
class Listener:
    """One bound address."""

    url: str
    """As the ready line shows it: `http://127.0.0.1:8080`, `http://[::1]:8080`, `unix:/run/tux.sock`."""
    sockets: list[socket.socket]
    """One per worker, or a single one when it is shared."""
    shared: bool = False
    """All workers accept from the same socket."""
    inherited: bool = False
    """Somebody else has made it, and uses it when we have ended."""
    unix_path: str = ""
    unix_identity: tuple[int, int] = (0, 0)
    """Device and inode of the socket's file: it is unlinked at the end only if it is still ours."""


@dataclass
class Listeners:
    """All listeners of a server, in the order of the configuration. Leaving the context closes them."""

    items: list[Listener] = field(default_factory=list)

    def __iter__(self) -> Iterator[Listener]:
        return iter(self.items)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def urls(self) -> list[str]:
        return [listener.url for listener in self.items]

    def keep(self, worker: int) -> list[socket.socket]:
        """In the worker's process: its sockets, one per listener. Those of the other workers are closed there."""
        for listener in self.items:
            if not listener.shared:
                for sock in listener.sockets[:worker] + listener.sockets[worker + 1 :]:
                    sock.close()
                listener.sockets = [listener.sockets[worker]]
        return [listener.sockets[0] for listener in self.items]

    def refuse(self) -> None:
        """No further connection, in whatever process the sockets are also open; what waits for accept(2) is reset. Not
        so where sockets were inherited: who has made them keeps what comes, for the next one."""
        for listener in self.items:
            for sock in () if listener.inherited else listener.sockets:
                try:
                    sock.shutdown(socket.SHUT_RD)
                except OSError as error:
                    if error.errno not in (errno.ENOTCONN, errno.EBADF):
                        raise

    def close(self) -> None:
        """Close the sockets of this process and unlink the unix sockets that are still ours."""
        for listener in self.items:
            for sock in listener.sockets:
                sock.close()
            if listener.unix_path and _identity(listener.unix_path) == listener.unix_identity:
                os.unlink(listener.unix_path)
        self.items.clear()


def open_listeners(
    addresses: Sequence[Listen], workers: int, handed_over: Mapping[str, Sequence[int]] | None = None
) -> Listeners:
    """Bind and listen: from here on the kernel accepts connections, and queues them until a worker comes. A host name
    stands for all its addresses. `handed_over`: descriptors of sockets, by name. StartError: one line that says which
    address failed and why; nothing stays bound."""
    listeners = Listeners()
    taken: dict[_Taken, str] = {}
    try:
        for address in addresses:
            if address.kind == "unix":
                listeners.items.append(_open_unix(address))
                continue
            if address.kind == "fd":
                listeners.items.extend(_take_over(fd, address) for fd in _descriptors(address, handed_over or {}))
                continue
            port = address.port
            for family, resolved in _resolve(address):
                # Port 0 is one port for all addresses of a name, so that its URL is right for each of them.
                sockaddr = (resolved[0], port, *resolved[2:])
                if (family, sockaddr) in taken:
                    continue  # "localhost" beside "127.0.0.1"
                listener = _open_tcp(family, sockaddr, workers, _name(address), taken)
                listeners.items.append(listener)
                port = listener.sockets[0].getsockname()[1]
                taken[family, (sockaddr[0], port, *sockaddr[2:])] = listener.url
    except BaseException:
        listeners.close()
        raise
    return listeners


def _name(address: Listen) -> str:
    return address.url().removeprefix("http://")


def _resolve(address: Listen) -> list[tuple[socket.AddressFamily, _SockAddr]]:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except OSError as error:
        raise StartError(f"cannot find the host of {_name(address)}: {error.strerror}") from None
    inet = (socket.AF_INET, socket.AF_INET6)
    return [(family, sockaddr) for family, _, _, _, sockaddr in found if family in inet]


def _open_tcp(
    family: socket.AddressFamily, sockaddr: _SockAddr, workers: int, name: str, taken: Mapping[_Taken, str]
) -> Listener:
    sockets: list[socket.socket] = []
    try:
        # The probe binds without SO_REUSEPORT, which fails when anybody listens there, also another server of the same
        # user. It never listens itself: a connection that it took would be reset when it closes.
        with _starting(sockaddr[1]), _tcp_socket(family) as probe:
            probe.bind(sockaddr)
            bound = probe.getsockname()
            for _ in range(workers):
                sock = _tcp_socket(family)
                sockets.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind(bound)
                sock.listen(BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        if error.errno == errno.EADDRINUSE:
            for (other_family, other), url in taken.items():
                if other_family == family and other[1] == sockaddr[1]:
                    raise StartError(f"{name} and {url} overlap; give only one of them with --listen") from None
        raise _bind_error(name, error, port=sockaddr[1]) from None
    return Listener(_tcp_url(bound), sockets)


@contextlib.contextmanager
def _starting(port: int) -> Iterator[None]:
    """Between the probe and the first listen(2) of a port, keep out other starts on this machine: of two at the same
    moment both would find the port free, and share it. OSError EADDRINUSE: another start does not get on."""
    with socket.socket(socket.AF_UNIX) as lock:
        give_up = time.monotonic() + START_LOCK_SECONDS
        while port != 0:  # the kernel gives a port to one only
            try:
                lock.bind(f"\0tux-start-{port}")  # unix(7): an abstract name goes with its socket
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > give_up:
                    raise
                time.sleep(START_LOCK_RETRY_SECONDS)
        yield


def _tcp_socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # TIME_WAIT connections of an earlier run must not keep the port.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted sockets inherit it: the last segment of an answer never waits for an ACK.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # 0.0.0.0 and [::] can both be bound
    return sock


def _open_unix(address: Listen) -> Listener:
    path = os.path.abspath(address.path)
    name = f"unix:{path}"
    if len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise StartError(f"{name} is too long for a unix socket: at most {MAX_UNIX_PATH} bytes")
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        mask = os.umask(0o777 & ~UNIX_MODE)  # not chmod(2) afterwards: that would follow whatever is there by then
        try:
            sock.bind(path)
            sock.listen(BACKLOG)
        finally:
            os.umask(mask)
    except OSError as error:
        sock.close()
        raise _bind_error(name, error, folder=os.path.dirname(path)) from None
    return Listener(name, [sock], shared=True, unix_path=path, unix_identity=_identity(path))


def _descriptors(address: Listen, handed_over: Mapping[str, Sequence[int]]) -> Sequence[int]:
    if address.path.isdigit():
        return [int(address.path)]
    if address.path not in handed_over:
        names = ", ".join(handed_over) or "none"
        raise StartError(f"no socket named {address.path} was handed over by a service manager (there are: {names})")
    return handed_over[address.path]


def _take_over(fd: int, address: Listen) -> Listener:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise StartError(f"{address.url()}: descriptor {fd} is not a socket")
        sock = socket.socket(fileno=fd)
    except OSError:
        raise StartError(f"{address.url()}: descriptor {fd} is not open") from None
    listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not listens or sock.family not in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
        sock.detach()
        raise StartError(f"{address.url()}: descriptor {fd} does not listen for connections of TCP or a unix socket")
    sock.settimeout(0)
    sock.set_inheritable(False)
    if sock.family == socket.AF_UNIX:
        name = os.fsdecode(sock.getsockname())
        url = f"unix:{'@' + name[1:] if name.startswith(chr(0)) else name}"
    else:
        url = _tcp_url(sock.getsockname())
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Listener(url, [sock], shared=True, inherited=True)


def _tcp_url(bound: _SockAddr) -> str:
    host = socket.getnameinfo(bound, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
    return f"http://{f'[{host}]' if ':' in host else host}:{bound[1]}"


def _remove_stale(path: str) -> None:
    """Unlink a unix socket that nobody listens on. StartError when somebody does, or when it is something else."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return  # not there; or bind(2) will say what is wrong
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{path} exists and is not a socket; remove it, or choose another path with --listen")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        code = probe.connect_ex(path)
    if code == errno.ENOENT:
        return
    if code == errno.ECONNREFUSED:
        try:
            os.unlink(path)
        except OSError as error:
            raise StartError(f"cannot replace the stale socket unix:{path}: {error.strerror}") from None
        return
    if code in (0, errno.EAGAIN):  # EAGAIN: a listener whose queue is full
        raise _bind_error(f"unix:{path}", OSError(errno.EADDRINUSE, ""))
    raise StartError(f"cannot tell whether a server listens on unix:{path}: {os.strerror(code)}")


def _identity(path: str) -> tuple[int, int]:
    try:
        found = os.lstat(path)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _bind_error(name: str, error: OSError, *, port: int = 0, folder: str = "") -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(f"{name} is already in use by another program; choose another with --listen")
    if error.errno == errno.EADDRNOTAVAIL:
        return StartError(f"{name} is not an address of this machine")
    if error.errno == errno.EAFNOSUPPORT:
        return StartError(f"{name}: this machine does not support IPv6")
    if error.errno in (errno.EACCES, errno.EPERM) and port:
        return StartError(
            f"no permission to listen on {name}: ports below {_first_free_port()} need root or CAP_NET_BIND_SERVICE "
            "(for systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE); or choose a higher port with --listen"
        )
    if folder and error.errno == errno.ENOENT:
        return StartError(f"cannot create {name}: there is no folder {folder}")
    if folder:
        return StartError(f"cannot create {name}: {error.strerror}")
    return StartError(f"cannot listen on {name}: {error.strerror}")


def _first_free_port() -> int:
    """Ports from here on need no privilege (ip(7), ip_unprivileged_port_start)."""
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1024
