"""The names of the original's helper library (tuxmodule.h): TUXAPI_... and CGI_..."""

from __future__ import annotations

import mmap
import socket
from typing import TYPE_CHECKING, Any, Final, Protocol

from tux._version import __version__
from tux.compat.actions import HTTP_1_1, METHODS
from tux.compat.registry import TUXAPI_modulename_array

if TYPE_CHECKING:
    from tux.compat.request import user_req_t

TUXAPI_version: Final = f"Tux/{__version__}"
TUXAPI_version_len: Final = len(TUXAPI_version)
TUXAPI_docroot: Final = "/"
"""Names of objects begin at the root of the site, as they did in the original's changed root."""
TUXAPI_docroot_len: Final = len(TUXAPI_docroot)
TUXAPI_servername: Final = socket.gethostname()
TUXAPI_servername_len: Final = len(TUXAPI_servername)

_NAMES: Final = {number: name for name, number in METHODS.items()}


class Lock(Protocol):
    """What TUXAPI_down() takes: threading.Lock, or multiprocessing.Lock between processes."""

    def acquire(self) -> bool: ...
    def release(self) -> None: ...


def TUXAPI_malloc_shared(size: int) -> mmap.mmap:
    """Memory that this process shares with those that it forks."""
    return mmap.mmap(-1, size)


def TUXAPI_alloc_read_objectbuf(req: user_req_t, fd: int = -1) -> mmap.mmap | bytes:
    """The current object, mapped rather than copied; b"" for an empty one, which cannot be mapped. `fd` is not needed.
    ValueError: there is no object."""
    live = req._live
    if live is None or live.object is None:
        raise ValueError("there is no object: TUX_ACTION_GET_OBJECT comes first")
    if not live.object.size:
        return b""
    return mmap.mmap(live.object.fd, live.object.size, mmap.MAP_SHARED, mmap.PROT_READ)


def TUXAPI_free_objectbuf(req: user_req_t, buf: mmap.mmap | bytes) -> None:
    """Forget the mapping now; otherwise it goes with the last reference to it."""
    if isinstance(buf, mmap.mmap):
        buf.close()


def TUXAPI_down(sem: Lock) -> None:
    """Take the lock."""
    sem.acquire()


def TUXAPI_up(sem: Lock) -> None:
    """Release it."""
    sem.release()


def CGI_SERVER_NAME(req: user_req_t) -> str:
    return TUXAPI_servername


def CGI_SERVER_NAME_LEN(req: user_req_t) -> int:
    return TUXAPI_servername_len


def CGI_GATEWAY_INTERFACE(req: user_req_t) -> str:
    return "CGI/1.1"


def CGI_SERVER_PROTOCOL(req: user_req_t) -> str:
    return "HTTP/1.1" if req.http_version == HTTP_1_1 else "HTTP/1.0"


def CGI_SERVER_PORT(req: user_req_t) -> int:
    """The port that the request came by; the original said 80, always."""
    live: Any = req._live
    return 80 if live is None else int(live.face.port)


def CGI_REQUEST_METHOD(req: user_req_t) -> str:
    return _NAMES.get(req.http_method, "NONE")


def CGI_HTTP_ACCEPT(req: user_req_t) -> str:
    return req.accept


def CGI_HTTP_USER_AGENT(req: user_req_t) -> str:
    return req.user_agent


def CGI_HTTP_REFERER(req: user_req_t) -> str:
    return req.referer


def CGI_PATH_TRANSLATED(req: user_req_t) -> str:
    return TUXAPI_docroot


def CGI_DOCUMENT_ROOT(req: user_req_t) -> str:
    return TUXAPI_docroot


def CGI_PATH_INFO(req: user_req_t) -> str:
    return req.query


def CGI_SCRIPT_NAME(req: user_req_t) -> str:
    return TUXAPI_modulename_array[req.module_index]


def CGI_QUERY_STRING(req: user_req_t) -> str:
    return req.query


def CGI_REMOTE_USER(req: user_req_t) -> str:
    return ""


def CGI_REMOTE_AUTH_TYPE(req: user_req_t) -> str:
    return ""


def CGI_ANNOTATION_SERVER(req: user_req_t) -> str:
    return ""


def CGI_CONTENT_TYPE(req: user_req_t) -> str:
    return req.content_type
