"""The minimal reply: `tux serve . --module examples/tux2/demo.py`, then http://127.0.0.1:8080/demo.tux."""

from tux.compat import *

REPLY = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 22\r\n\r\n<h1>Hello, world!</h1>"


def TUXAPI_handle_events(req: user_req_t) -> int:
    match req.event:
        case 0:
            req.event = 1
            req.set_buffer(REPLY)
            return tux(TUX_ACTION_SEND_BUFFER, req)
        case _:
            return tux(TUX_ACTION_FINISH_REQ, req)
