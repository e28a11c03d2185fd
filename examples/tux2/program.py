"""A program with the event loop of its own: /program.tux counts the requests that it has seen."""

from tux.compat import *


@program("program.tux")
def main() -> None:
    req = user_req_t()
    count = 0
    result = tux(TUX_ACTION_EVENTLOOP, req)
    while result == TUX_RETURN_USERSPACE_REQUEST:
        if req.event == 0:
            req.event = 1
            count += 1
            body = f"{count}\n"
            req.set_buffer(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}")
            result = tux(TUX_ACTION_SEND_BUFFER, req)
        else:
            result = tux(TUX_ACTION_FINISH_REQ, req)
