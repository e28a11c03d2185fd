"""tux(action, req): each action, as far as the caller's side does it. What enters the event loop becomes a move of the
request (`tux.compat.live`); the rest is done here, at once.

Misuse returns a negative error number, as the original did, and leaves a line in the error log, which it did not.
"""

from __future__ import annotations

import errno
import logging
import operator
import os
import stat
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tux.compat import mimetypes, registry
from tux.compat.actions import (
    MOVES,
    RULES,
    TUX_CONTINUE_EVENTLOOP,
    TUX_MAJOR_VERSION,
    TUX_MINOR_VERSION,
    TUX_PATCHLEVEL_VERSION,
    Action,
    State,
)
from tux.compat.live import Live, Move, Seat
from tux.compat.request import DATE_LEN, MAX_URI_LEN, encoded, user_req_t
from tux.compat.sock import continue_by
from tux.http.dates import parse_date

if TYPE_CHECKING:
    from tux.compat.program import Program

logger = logging.getLogger("tux.app")


class _Here(threading.local):
    seat: Seat | None = None
    """Whose turn it is in this thread."""


here: Final = _Here()


class MisuseError(Exception):
    """A call that cannot be done: the number that it returns, and what the log says."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(what)
        self.number = number


def tux(action: int, req: Any) -> int:
    """Call the server, as tux(2). `req` is a user_req_t, or for CONTINUE_REQ also what its `sock` was; None where the
    original took NULL. Returns what `docs/reference/tux2.md` says for each action: negative is an error's number.

    In a TUXAPI_handle_events it returns at once, and the function must return then. In a program's thread it returns
    with the next event."""
    try:
        known = Action(action)
    except ValueError:
        logger.error("tux(%r): there is no such action", action)
        return -errno.EINVAL
    try:
        return _call(known, req)
    except MisuseError as error:
        where = f"module {here.seat.name}: " if here.seat is not None else ""
        logger.error("%stux(%s): %s%s", where, known.name, error, _about(req))
        return -error.number


def _about(req: object) -> str:
    if not isinstance(req, user_req_t):
        return ""
    return f" (objectname {req.objectname!r}, event {req.event})"


def _call(action: Action, req: Any) -> int:
    seat = here.seat
    state = _state(seat, req)
    if state not in RULES[action].allowed:
        if action in _refusals:
            raise MisuseError(*_refusals[action])
        raise MisuseError(errno.EINVAL, f"called {state.value}")
    if action in _ANYWHERE:
        return _ANYWHERE[action](req)
    assert seat is not None, "the table has these in threads that serve only"
    if action is Action.STARTTHREAD:
        return _start_thread(_structure(req))
    if action is Action.STOPTHREAD and not seat.blocking:
        raise MisuseError(errno.EPERM, "this thread is the server's; only a program's own can be stopped")
    live = seat.current
    if state is State.GONE:
        live = None
        if action in _AT_ONCE:
            return -errno.ECONNRESET
        seat.current = None
        if action is Action.POSTPONE_REQ:
            return 0
    if live is not None:
        live.take(_structure(req))
        if action in _AT_ONCE:
            _AT_ONCE[action](live, _structure(req))
            return 0
    if action is Action.POSTPONE_REQ:
        assert live is not None, "allowed with a request only"
        live.postpone()
        _make_move(seat, live, Move(action))
        return 0
    assert action in MOVES, "all others are done"
    if live is not None:
        move = Move(action, _ARGUMENTS[action](live, _structure(req)) if action in _ARGUMENTS else None)
        live.state = RULES[action].then or live.state
        _make_move(seat, live, move)
    if not seat.blocking:
        return TUX_CONTINUE_EVENTLOOP
    return _next_event(seat, action, req)


def _state(seat: Seat | None, req: Any) -> State:
    """Where the call comes from."""
    if seat is None:
        return State.OUTSIDE
    if seat.current is not None:
        return State.GONE if seat.current.is_over else seat.current.state
    if not seat.blocking and isinstance(req, user_req_t) and req._live is not None:
        return req._live.state
    return State.IDLE


def _structure(req: Any) -> user_req_t:
    if not isinstance(req, user_req_t):
        raise MisuseError(errno.EFAULT, f"got {type(req).__name__}; expected a user_req_t")
    return req


def _make_move(seat: Seat, live: Live, move: Move) -> None:
    seat.current = None
    live.move = move
    seat.moved(live)


def _next_event(seat: Seat, action: Action, req: Any) -> int:
    program: Program = seat  # type: ignore[assignment] # the only seat that blocks
    if action is Action.STOPTHREAD:
        program.leave()
        return 0
    return program.next_event(_structure(req))


_refusals: Final = {
    Action.STARTUP: (errno.EINVAL, "the server is up already: it has started this process"),
    Action.SHUTDOWN: (errno.EPERM, "a module cannot stop the server; SIGTERM to its supervisor does"),
}


# Without a request


def _query_version(_req: Any) -> int:
    return TUX_MAJOR_VERSION << 24 | TUX_MINOR_VERSION << 16 | TUX_PATCHLEVEL_VERSION


def _current_date(req: Any) -> int:
    """The server has the date itself; the text is looked at, so that a wrong one is found."""
    date = _structure(req).new_date
    if len(encoded(date)) >= DATE_LEN or parse_date(date, lambda: int(time.time())) is None:
        raise MisuseError(errno.EINVAL, f"new_date is {date!r}; expected a date as in Sun, 06 Nov 1994 08:49:37 GMT")
    return 0


def _register_mimetype(req: Any) -> int:
    req = _structure(req)
    address = req.object_addr
    media_type = encoded(address) if isinstance(address, str) else bytes(_buffer(address))
    extension = req.objectname.removeprefix(".")
    if not extension or "/" in extension:
        raise MisuseError(errno.EINVAL, f"objectname is {req.objectname!r}; expected an extension")
    if not media_type.isascii() or not media_type.decode().isprintable() or b"/" not in media_type:
        raise MisuseError(errno.EINVAL, f"object_addr is {media_type!r}; expected a media type")
    if req.cache_control and not req.cache_control.isdecimal():
        raise MisuseError(errno.EINVAL, f"cache_control is {req.cache_control!r}; expected seconds")
    if not mimetypes.register(extension, media_type, req.cache_control):
        raise MisuseError(errno.ENOMEM, f"{mimetypes.MAX_TYPES} extensions are registered already")
    return 0


def _register_module(req: Any) -> int:
    req = _structure(req)
    if req.version_major != TUX_MAJOR_VERSION or req.version_minor > TUX_MINOR_VERSION:
        version = f"{req.version_major}.{req.version_minor}"
        raise MisuseError(errno.EINVAL, f"the module is for version {version}; this is {TUX_MAJOR_VERSION}.0")
    if not req.module_index:
        raise MisuseError(errno.EINVAL, "module_index is 0")
    name = req.objectname.removeprefix("/")
    if not name or len(encoded(name)) >= MAX_URI_LEN:
        raise MisuseError(errno.EINVAL, f"objectname is {req.objectname!r}; expected 1 to {MAX_URI_LEN - 1} bytes")
    if registry.loading is None:
        raise MisuseError(errno.EINVAL, "names are registered in TUXAPI_init(), before there are requests")
    if not registry.loading.add(name, req.module_index):
        raise MisuseError(errno.EEXIST, f"{name} is registered already")
    return 0


def _unregister_module(req: Any) -> int:
    name = _structure(req).objectname.removeprefix("/")
    if registry.loading is None or not registry.loading.remove(name):
        raise MisuseError(errno.EINVAL, f"{name} is not registered by this TUXAPI_init()")
    return 0


def _continue_req(req: Any) -> int:
    if isinstance(req, user_req_t):
        fd = req.sock
    else:
        try:
            fd = req if isinstance(req, int) else operator.index(req.fileno())
        except AttributeError:
            raise MisuseError(errno.EFAULT, f"got {type(req).__name__}; expected what req.sock was") from None
    number = -continue_by(fd)
    if number:
        raise MisuseError(number, f"descriptor {fd}: {os.strerror(number)}")
    return 0


_ANYWHERE: Final[dict[Action, Callable[[Any], int]]] = {
    Action.QUERY_VERSION: _query_version,
    Action.CURRENT_DATE: _current_date,
    Action.REGISTER_MIMETYPE: _register_mimetype,
    Action.REGISTER_MODULE: _register_module,
    Action.UNREGISTER_MODULE: _unregister_module,
    Action.CONTINUE_REQ: _continue_req,
}


def _start_thread(req: user_req_t) -> int:
    """A program's thread serves from its beginning; this says only which one it is."""
    if req.thread_nr:
        raise MisuseError(errno.EINVAL, f"thread_nr is {req.thread_nr}; this thread is number 0, and the only one")
    return 0


# With a request, at once


def _buffer(address: Any) -> memoryview:
    try:
        return memoryview(address).cast("B")
    except (TypeError, ValueError):
        raise MisuseError(
            errno.EFAULT, f"object_addr is {type(address).__name__}; expected bytes or another buffer"
        ) from None


def _give(req: user_req_t, data: bytes, room: int | None = None) -> None:
    """Data in the module's own buffer, or, where it gave none, as bytes."""
    if req.object_addr is None:
        req.object_addr = data
        return
    target = _buffer(req.object_addr)
    if target.readonly:
        raise MisuseError(errno.EFAULT, "object_addr is a buffer that cannot be written to; give a bytearray, or None")
    size = target.nbytes if room is None else room
    if size > target.nbytes:
        raise MisuseError(errno.EFAULT, f"objectlen is {size}, and the buffer has {target.nbytes} bytes")
    if len(data) > size:
        raise MisuseError(errno.EINVAL, f"there are {len(data)} bytes, and the buffer has {size}")
    target[: len(data)] = data


def _read_object(live: Live, req: user_req_t) -> None:
    if live.object is None:
        raise MisuseError(errno.EINVAL, "there is no object: GET_OBJECT comes first")
    data = os.pread(live.object.fd, live.object.size, 0)
    while len(data) < live.object.size:
        more = os.pread(live.object.fd, live.object.size - len(data), len(data))
        if not more:
            raise MisuseError(errno.EIO, "the file became shorter")
        data += more
    _give(req, data)


def _read_headers(live: Live, req: user_req_t) -> None:
    head = live.face.head
    _give(req, head)
    req.objectlen = len(head)


def _read_post_data(live: Live, req: user_req_t) -> None:
    if req.object_addr is None:
        req.object_addr, req.objectlen = live.body, len(live.body)
        return
    data = live.body[: req.objectlen]
    _give(req, data, req.objectlen)
    req.objectlen = len(data)


def _watch_proxy_socket(live: Live, req: user_req_t) -> None:
    address = req.object_addr
    fd = address if isinstance(address, int) else getattr(address, "fileno", lambda: -1)()
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise MisuseError(errno.EINVAL, f"descriptor {fd} is no socket")
        live.watch(fd)
    except OSError as error:
        raise MisuseError(errno.EINVAL, f"descriptor {fd}: {error.strerror}") from None


_AT_ONCE: Final[dict[Action, Callable[[Live, user_req_t], None]]] = {
    Action.READ_OBJECT: _read_object,
    Action.READ_HEADERS: _read_headers,
    Action.READ_POST_DATA: _read_post_data,
    Action.WATCH_PROXY_SOCKET: _watch_proxy_socket,
}


# Arguments of moves


def _object_to_get(_live: Live, req: user_req_t) -> bytes:
    name = encoded(req.objectname).removeprefix(b"/")
    if not name or b"\0" in name:
        raise MisuseError(errno.EINVAL, f"objectname is {req.objectname!r}; expected a name below the site's root")
    return name


def _object_to_send(live: Live, _req: user_req_t) -> None:
    if live.object is None:
        raise MisuseError(errno.EINVAL, "there is no object: GET_OBJECT comes first")


def _bytes_to_send(_live: Live, req: user_req_t) -> bytes:
    data = _buffer(req.object_addr)
    if not 0 < req.objectlen <= data.nbytes:
        raise MisuseError(
            errno.EINVAL,
            f"objectlen is {req.objectlen}, and the buffer has {data.nbytes} bytes; set_buffer() sets both",
        )
    return bytes(data[: req.objectlen])


def _socket_to_wait_for(live: Live, _req: user_req_t) -> None:
    if live.watched is None:
        raise MisuseError(errno.EINVAL, "there is no socket: WATCH_PROXY_SOCKET comes first")


_ARGUMENTS: Final[dict[Action, Callable[[Live, user_req_t], Any]]] = {
    Action.GET_OBJECT: _object_to_get,
    Action.SEND_OBJECT: _object_to_send,
    Action.SEND_BUFFER: _bytes_to_send,
    Action.WAIT_PROXY_SOCKET: _socket_to_wait_for,
}
