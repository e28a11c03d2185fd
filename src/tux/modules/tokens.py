"""Continue a request from another process: a token says which, a datagram brings the value.

The process that has the request listens on a unix socket with a name in the abstract namespace; a token has that name
and 128 random bits for each request. The receiver asks the kernel who sent a datagram (SCM_CREDENTIALS, unix(7)), and
believes nobody but processes of its own user and root."""

from __future__ import annotations

import base64
import secrets
import socket
import struct
from typing import Any, Final

import msgspec

SECRET_BYTES: Final = 16
"""Of a token: nobody can guess it."""
MAX_VALUE_BYTES: Final = 64 * 1024
"""Of a value, encoded: a datagram that every Linux takes (net.core.wmem_default is 208 KiB). Larger things are left
where both processes can reach them."""
_NAME_BYTES: Final = 16
_PREFIX: Final = b"\0tux-module-"
_CREDENTIALS: Final = struct.Struct("iii")
"""struct ucred: pid, uid, gid."""


def new_name() -> bytes:
    """For the socket of a process: what its tokens begin with."""
    return secrets.token_bytes(_NAME_BYTES)


def address_of(name: bytes) -> bytes:
    """Of the socket with that name."""
    return _PREFIX + base64.b16encode(name)


def make_token(name: bytes, secret: bytes) -> str:
    """Letters, digits, "-" and "_"."""
    return base64.urlsafe_b64encode(name + secret).decode().rstrip("=")


def parse_token(token: str) -> tuple[bytes, bytes]:
    """Name and secret. ValueError: this is no token."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    if len(raw) != _NAME_BYTES + SECRET_BYTES:
        raise ValueError("this is no token of a request")
    return raw[:_NAME_BYTES], raw[_NAME_BYTES:]


def resume(token: str, value: Any = None) -> None:
    """Continue the request with this token (`req.token`), from any process of the same user: `await req.postpone()`
    returns `value`, which may be what msgpack can carry (None, bool, int, float, str, bytes, lists, dicts).

    ValueError: this is no token, or the value is too large; TypeError: it cannot be carried; ConnectionError: the
    process that had the request is gone. Nothing happens when the request is over."""
    name, secret = parse_token(token)
    data = secret + msgspec.msgpack.encode(value)
    if len(data) > SECRET_BYTES + MAX_VALUE_BYTES:
        raise ValueError(f"a value of {len(data) - SECRET_BYTES} bytes (at most {MAX_VALUE_BYTES})")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(address_of(name))
            sock.send(data)
        except ConnectionError:
            raise ConnectionError("the process that had the request is gone") from None


def open_box(name: bytes) -> socket.socket:
    """The receiving end, which never blocks. OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sock.settimeout(0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.bind(address_of(name))
    except BaseException:
        sock.close()
        raise
    return sock


def receive(sock: socket.socket, uid: int) -> tuple[bytes, Any] | None:
    """The next message that user `uid` or root has sent: its secret and its value. What is not to be understood is left
    out. None: there is none now."""
    while True:
        try:
            data, control, flags, _ = sock.recvmsg(SECRET_BYTES + MAX_VALUE_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size))
        except BlockingIOError:
            return None
        senders = {
            _CREDENTIALS.unpack(body)[1]
            for level, kind, body in control
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(body) == _CREDENTIALS.size
        }
        if not senders or not senders <= {uid, 0} or flags & socket.MSG_TRUNC or len(data) < SECRET_BYTES:
            continue
        try:
            return data[:SECRET_BYTES], msgspec.msgpack.decode(data[SECRET_BYTES:])
        except msgspec.DecodeError:
            continue
