"""An object with own headers: /demo2.tux?NAME sends the file NAME of the site as a download."""

from tux.compat import *


def TUXAPI_handle_events(req: user_req_t) -> int:
    event = req.event
    req.event += 1
    match event:
        case 0:
            req.objectname = req.query
            return tux(TUX_ACTION_GET_OBJECT, req)
        case 1 if req.error:
            req.http_status = 404
            return tux(TUX_ACTION_FINISH_REQ, req)
        case 1:
            req.set_buffer(
                "HTTP/1.1 200 OK\r\n"
                "Content-Type: application/octet-stream\r\n"
                "Content-Disposition: attachment\r\n"
                f"Content-Length: {req.objectlen}\r\n\r\n"
            )
            return tux(TUX_ACTION_SEND_BUFFER, req)
        case 2:
            return tux(TUX_ACTION_SEND_OBJECT, req)
        case _:
            return tux(TUX_ACTION_FINISH_REQ, req)
