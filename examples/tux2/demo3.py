"""Postponed work: a helper process answers and continues the request; meanwhile the module serves others."""

import os

from tux.compat import *


def work(sock: int) -> None:
    """In the helper: it has the descriptor, and nothing else of the request."""
    body = f"done by a helper: {sum(range(1_000_000))}\n"
    os.write(sock, f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    tux(TUX_ACTION_CONTINUE_REQ, sock)


def TUXAPI_handle_events(req: user_req_t) -> int:
    match req.event:
        case 0:
            req.event = 1
            sock = req.sock
            req.priv = os.fork()
            if not req.priv:
                work(sock)
                os._exit(0)
            tux(TUX_ACTION_POSTPONE_REQ, req)
            return tux(TUX_ACTION_EVENTLOOP, req)
        case _:
            os.waitpid(req.priv, 0)
            return tux(TUX_ACTION_FINISH_REQ, req)
