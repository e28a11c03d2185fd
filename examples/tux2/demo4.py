"""Redirect: what has a query goes to the server behind this one (`--forward`), the rest is answered here."""

from tux.compat import *


def TUXAPI_handle_events(req: user_req_t) -> int:
    if req.query:
        return tux(TUX_ACTION_REDIRECT_REQ, req)
    if req.event == 0:
        req.event = 1
        req.set_buffer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhere\n")
        return tux(TUX_ACTION_SEND_BUFFER, req)
    return tux(TUX_ACTION_FINISH_REQ, req)
