"""tux(2) for Python: the calls, numbers, names and fields of the TUX web server's module interface (TUX 3.0).

A module file has TUXAPI_handle_events(req), and perhaps TUXAPI_init(); `tux serve public --module FILE.py` runs it.
What each action and field became, and where this is different on purpose, is in `docs/reference/tux2.md`.

    from tux.compat import *

    def TUXAPI_handle_events(req: user_req_t) -> int:
        match req.event:
            case 0:
                req.event = 1
                req.set_buffer("HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nHello\\n")
                return tux(TUX_ACTION_SEND_BUFFER, req)
            case _:
                return tux(TUX_ACTION_FINISH_REQ, req)
"""

from __future__ import annotations

from typing import Final

from tux.compat.actions import (
    HTTP_1_0,
    HTTP_1_1,
    METHOD_GET,
    METHOD_HEAD,
    METHOD_NONE,
    METHOD_POST,
    METHOD_PUT,
    TUX_CONTINUE_EVENTLOOP,
    TUX_ERROR,
    TUX_MAJOR_VERSION,
    TUX_MINOR_VERSION,
    TUX_PATCHLEVEL_VERSION,
    TUX_RETURN_EXIT,
    TUX_RETURN_SIGNAL,
    TUX_RETURN_USERSPACE_REQUEST,
    Action,
)
from tux.compat.adopt import program
from tux.compat.call import tux
from tux.compat.helpers import (
    CGI_ANNOTATION_SERVER,
    CGI_CONTENT_TYPE,
    CGI_DOCUMENT_ROOT,
    CGI_GATEWAY_INTERFACE,
    CGI_HTTP_ACCEPT,
    CGI_HTTP_REFERER,
    CGI_HTTP_USER_AGENT,
    CGI_PATH_INFO,
    CGI_PATH_TRANSLATED,
    CGI_QUERY_STRING,
    CGI_REMOTE_AUTH_TYPE,
    CGI_REMOTE_USER,
    CGI_REQUEST_METHOD,
    CGI_SCRIPT_NAME,
    CGI_SERVER_NAME,
    CGI_SERVER_NAME_LEN,
    CGI_SERVER_PORT,
    CGI_SERVER_PROTOCOL,
    TUXAPI_alloc_read_objectbuf,
    TUXAPI_docroot,
    TUXAPI_docroot_len,
    TUXAPI_down,
    TUXAPI_free_objectbuf,
    TUXAPI_malloc_shared,
    TUXAPI_servername,
    TUXAPI_servername_len,
    TUXAPI_up,
    TUXAPI_version,
    TUXAPI_version_len,
)
from tux.compat.registry import TUXAPI_modulename_array
from tux.compat.request import DATE_LEN, MAX_COOKIE_LEN, MAX_FIELD_LEN, MAX_URI_LEN, user_req_t

TUX_ACTION_STARTUP: Final = Action.STARTUP
TUX_ACTION_SHUTDOWN: Final = Action.SHUTDOWN
TUX_ACTION_STARTTHREAD: Final = Action.STARTTHREAD
TUX_ACTION_STOPTHREAD: Final = Action.STOPTHREAD
TUX_ACTION_EVENTLOOP: Final = Action.EVENTLOOP
TUX_ACTION_GET_OBJECT: Final = Action.GET_OBJECT
TUX_ACTION_SEND_OBJECT: Final = Action.SEND_OBJECT
TUX_ACTION_READ_OBJECT: Final = Action.READ_OBJECT
TUX_ACTION_FINISH_REQ: Final = Action.FINISH_REQ
TUX_ACTION_FINISH_CLOSE_REQ: Final = Action.FINISH_CLOSE_REQ
TUX_ACTION_REGISTER_MODULE: Final = Action.REGISTER_MODULE
TUX_ACTION_UNREGISTER_MODULE: Final = Action.UNREGISTER_MODULE
TUX_ACTION_CURRENT_DATE: Final = Action.CURRENT_DATE
TUX_ACTION_REGISTER_MIMETYPE: Final = Action.REGISTER_MIMETYPE
TUX_ACTION_READ_HEADERS: Final = Action.READ_HEADERS
TUX_ACTION_POSTPONE_REQ: Final = Action.POSTPONE_REQ
TUX_ACTION_CONTINUE_REQ: Final = Action.CONTINUE_REQ
TUX_ACTION_REDIRECT_REQ: Final = Action.REDIRECT_REQ
TUX_ACTION_READ_POST_DATA: Final = Action.READ_POST_DATA
TUX_ACTION_SEND_BUFFER: Final = Action.SEND_BUFFER
TUX_ACTION_WATCH_PROXY_SOCKET: Final = Action.WATCH_PROXY_SOCKET
TUX_ACTION_WAIT_PROXY_SOCKET: Final = Action.WAIT_PROXY_SOCKET
TUX_ACTION_QUERY_VERSION: Final = Action.QUERY_VERSION
MAX_TUX_ACTION: Final = max(Action) + 1

__all__ = [
    "CGI_ANNOTATION_SERVER",
    "CGI_CONTENT_TYPE",
    "CGI_DOCUMENT_ROOT",
    "CGI_GATEWAY_INTERFACE",
    "CGI_HTTP_ACCEPT",
    "CGI_HTTP_REFERER",
    "CGI_HTTP_USER_AGENT",
    "CGI_PATH_INFO",
    "CGI_PATH_TRANSLATED",
    "CGI_QUERY_STRING",
    "CGI_REMOTE_AUTH_TYPE",
    "CGI_REMOTE_USER",
    "CGI_REQUEST_METHOD",
    "CGI_SCRIPT_NAME",
    "CGI_SERVER_NAME",
    "CGI_SERVER_NAME_LEN",
    "CGI_SERVER_PORT",
    "CGI_SERVER_PROTOCOL",
    "DATE_LEN",
    "HTTP_1_0",
    "HTTP_1_1",
    "MAX_COOKIE_LEN",
    "MAX_FIELD_LEN",
    "MAX_TUX_ACTION",
    "MAX_URI_LEN",
    "METHOD_GET",
    "METHOD_HEAD",
    "METHOD_NONE",
    "METHOD_POST",
    "METHOD_PUT",
    "TUX_ACTION_CONTINUE_REQ",
    "TUX_ACTION_CURRENT_DATE",
    "TUX_ACTION_EVENTLOOP",
    "TUX_ACTION_FINISH_CLOSE_REQ",
    "TUX_ACTION_FINISH_REQ",
    "TUX_ACTION_GET_OBJECT",
    "TUX_ACTION_POSTPONE_REQ",
    "TUX_ACTION_QUERY_VERSION",
    "TUX_ACTION_READ_HEADERS",
    "TUX_ACTION_READ_OBJECT",
    "TUX_ACTION_READ_POST_DATA",
    "TUX_ACTION_REDIRECT_REQ",
    "TUX_ACTION_REGISTER_MIMETYPE",
    "TUX_ACTION_REGISTER_MODULE",
    "TUX_ACTION_SEND_BUFFER",
    "TUX_ACTION_SEND_OBJECT",
    "TUX_ACTION_SHUTDOWN",
    "TUX_ACTION_STARTTHREAD",
    "TUX_ACTION_STARTUP",
    "TUX_ACTION_STOPTHREAD",
    "TUX_ACTION_UNREGISTER_MODULE",
    "TUX_ACTION_WAIT_PROXY_SOCKET",
    "TUX_ACTION_WATCH_PROXY_SOCKET",
    "TUX_CONTINUE_EVENTLOOP",
    "TUX_ERROR",
    "TUX_MAJOR_VERSION",
    "TUX_MINOR_VERSION",
    "TUX_PATCHLEVEL_VERSION",
    "TUX_RETURN_EXIT",
    "TUX_RETURN_SIGNAL",
    "TUX_RETURN_USERSPACE_REQUEST",
    "TUXAPI_alloc_read_objectbuf",
    "TUXAPI_docroot",
    "TUXAPI_docroot_len",
    "TUXAPI_down",
    "TUXAPI_free_objectbuf",
    "TUXAPI_malloc_shared",
    "TUXAPI_modulename_array",
    "TUXAPI_servername",
    "TUXAPI_servername_len",
    "TUXAPI_up",
    "TUXAPI_version",
    "TUXAPI_version_len",
    "program",
    "tux",
    "user_req_t",
]
