"""A back-end socket: ask a server that speaks a line at a time, and be called when it has answered."""

import os
import socket

from tux.compat import *

BACKEND = ("127.0.0.1", int(os.environ.get("BACKEND_PORT", "7777")))


def TUXAPI_handle_events(req: user_req_t) -> int:
    event = req.event
    req.event += 1
    match event:
        case 0:
            req.priv = socket.create_connection(BACKEND, timeout=1)
            req.priv.sendall(req.query.encode() + b"\n")
            req.object_addr = req.priv
            tux(TUX_ACTION_WATCH_PROXY_SOCKET, req)
            return tux(TUX_ACTION_WAIT_PROXY_SOCKET, req)
        case 1:
            answer = req.priv.recv(1000) if not req.error else b"no answer\n"
            req.priv.close()
            req.set_buffer(f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer)
            return tux(TUX_ACTION_SEND_BUFFER, req)
        case _:
            return tux(TUX_ACTION_FINISH_CLOSE_REQ, req)
