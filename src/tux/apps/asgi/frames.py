"""Frames of a WebSocket (RFC 6455), server's side, without IO: bytes in, messages out; messages in, bytes out.

wsproto reads whatever is out of the ordinary: control frames, fragments, large frames, errors. The ordinary, a whole
message in one frame that has arrived whole, is read here: wsproto takes ten times as long for it.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameProtocol, Opcode, ParseFailed, RsvBits

from tux._app import unmask

if TYPE_CHECKING:
    from wsproto.frame_protocol import FrameDecoder

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
NO_STATUS: Final = 1005
"""The close frame had no code. Never on the wire."""
ABNORMAL: Final = 1006
"""The connection ended without a close frame. Never on the wire."""
INVALID_DATA: Final = 1007
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
SERVICE_RESTART: Final = 1012

MAX_REASON_BYTES: Final = 123
"""Of a close frame: a control frame has at most 125 bytes, two of them are the code."""
PLAIN_MAX_BYTES: Final = 65535
"""Payload of a frame that is read here; with more, what wsproto costs for each frame matters less."""
WAIT_MAX_BYTES: Final = 1024
"""A frame up to this size that has not arrived whole is waited for; a larger one goes to wsproto piece by piece."""
COMPRESS_MIN_BYTES: Final = 64
"""Shorter messages are sent as they are: compression would save nothing (RFC 7692 section 6 allows it)."""
DEFLATE_LEVEL: Final = 6
DEFLATE_MEMORY: Final = 5
"""memLevel of zlib: 16 KiB a connection rather than 128; costs a few percent of the ratio."""

_FIN: Final = 0x80
_RSV1: Final = 0x40
_MASKED: Final = 0x80
_TAIL: Final = b"\x00\x00\xff\xff"
"""What a sender leaves off at the end of a compressed message (RFC 7692 section 7.2.1)."""


class WebSocketError(Exception):
    """The client broke the protocol, or a limit: the connection is closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Closed(NamedTuple):
    """Payload of a CLOSE."""

    code: int
    reason: str


Received = tuple[int, "str | bytes | Closed"]
"""(TEXT, str), (BINARY, bytes), (PING, bytes), (PONG, bytes) or (CLOSE, Closed)."""


class Deflate(Extension):
    """permessage-deflate (RFC 7692) with a limit: no message inflates to more than `max_size` bytes."""

    name = "permessage-deflate"

    def __init__(
        self, max_size: int, *, client_bits: int, server_bits: int, client_forgets: bool, server_forgets: bool
    ) -> None:
        """`*_bits`: windows; `*_forgets`: no_context_takeover."""
        self._max_size = max_size
        self._client_bits = client_bits
        self._server_bits = server_bits
        self._client_forgets = client_forgets
        self._server_forgets = server_forgets
        self._inflater: zlib._Decompress | None = None
        self._deflater: zlib._Compress | None = None
        self._size = 0  # of the message so far, inflated
        self._compressed = False  # the message that is being received
        self._control = False  # the frame that is being received

    def inflate(self, data: bytes, *, last: bool) -> bytes:
        """A piece of a compressed message. WebSocketError: it is broken, or the message is too big."""
        inflater = self._inflater
        if inflater is None:
            inflater = self._inflater = zlib.decompressobj(-self._client_bits)
        room = self._max_size - self._size + 1  # never 0, which would mean no limit
        try:
            piece = inflater.decompress(data + _TAIL if last else data, room)
        except zlib.error:
            raise WebSocketError(INVALID_DATA, "the compressed data is broken") from None
        self._size += len(piece)
        if self._size > self._max_size or inflater.unconsumed_tail:
            raise WebSocketError(TOO_BIG, too_big(self._max_size))
        if inflater.eof:  # a final block ends the stream: the next message begins a new one (RFC 7692 section 7.2.3.5)
            self._inflater = None
        if last:
            self._size = 0
            if self._client_forgets:
                self._inflater = None
        return piece

    def deflate(self, data: bytes) -> bytes:
        """A whole message, compressed."""
        deflater = self._deflater
        if deflater is None:
            deflater = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, -self._server_bits, DEFLATE_MEMORY)
            if not self._server_forgets:
                self._deflater = deflater
        return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]

    # What wsproto asks, for frames that it reads. The arguments are its own.

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool | str:
        return False

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,  # noqa: ARG002
    ) -> CloseReason | RsvBits:
        self._control = opcode.iscontrol()
        first = opcode in {Opcode.TEXT, Opcode.BINARY}
        if first:
            self._compressed = rsv.rsv1
        return RsvBits(rsv1=first, rsv2=False, rsv3=False)

    def frame_inbound_payload_data(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002
        data: bytes,
    ) -> bytes | CloseReason:
        if self._control or not self._compressed:
            return data
        try:
            return self.inflate(data, last=False)
        except WebSocketError as error:
            return CloseReason(error.code)

    def frame_inbound_complete(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002
        fin: bool,  # noqa: FBT001
    ) -> bytes | CloseReason | None:
        if self._control or not self._compressed or not fin:
            return None
        try:
            return self.inflate(b"", last=True)
        except WebSocketError as error:
            return CloseReason(error.code)


class Frames:
    """One WebSocket, after the handshake."""

    __slots__ = (
        "_binary",
        "_buffer",
        "_deflate",
        "_fragmented",
        "_max_size",
        "_plain",
        "_pos",
        "_protocol",
        "_rest",
        "_size",
        "_text",
        "_waiting",
    )

    def __init__(self, max_size: int, deflate: Deflate | None = None) -> None:
        """`max_size`: bytes of a message, after decompression."""
        self._max_size = max_size
        self._deflate = deflate
        first = (_FIN | TEXT, _FIN | BINARY)
        self._plain = frozenset(first if deflate is None else (*first, first[0] | _RSV1, first[1] | _RSV1))
        """First bytes of frames that are read here."""
        self._buffer = b""
        self._pos = 0
        self._protocol: FrameProtocol | None = None
        self._rest = 0
        """Bytes of the current frame that wsproto has not got yet."""
        self._fragmented = False
        """Inside of a message of several frames."""
        self._size = 0
        """Bytes of that message so far, as they were sent."""
        self._text: io.StringIO | None = None
        self._binary = bytearray()
        self._waiting: deque[Received] = deque()

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        pos = self._pos
        if pos < len(self._buffer):
            self._buffer = self._buffer[pos:] + data
        else:
            self._buffer = data
        self._pos = 0

    def take(self) -> Received | None:
        """The next message or control frame; None: more bytes are needed. WebSocketError: nothing follows."""
        while True:
            if self._waiting:
                return self._waiting.popleft()
            buffer = self._buffer
            pos = self._pos
            available = len(buffer) - pos
            if self._rest:
                if not available:
                    return None
                n = min(available, self._rest)
                self._pos += n
                self._rest -= n
                self._unusual(buffer[pos : pos + n])
                continue
            if available < 2:
                return None
            first = buffer[pos]
            second = buffer[pos + 1]
            length = second & 0x7F
            head = 6 if second & _MASKED else 2
            if length >= 126:
                head += 2 if length == 126 else 8
                if available < head:
                    return None
                if length == 126:
                    length = buffer[pos + 2] << 8 | buffer[pos + 3]
                    is_shortest = length >= 126
                else:
                    length = int.from_bytes(buffer[pos + 2 : pos + 10], "big")
                    is_shortest = length > 0xFFFF
            else:
                if available < head:
                    return None
                is_shortest = True
            end = head + length
            is_plain = (
                first in self._plain
                and second & _MASKED
                and is_shortest
                and length <= PLAIN_MAX_BYTES
                and not self._fragmented
            )
            if is_plain and available >= end:
                self._pos = pos + end
                return self._usual(first, buffer[pos + head - 4 : pos + head], buffer[pos + head : pos + end])
            if is_plain and end <= WAIT_MAX_BYTES:
                return None
            self._begin_unusual(first, length)
            self._rest = end
            self._pos = pos + head
            self._rest -= head
            self._unusual(buffer[pos : pos + head])

    def _usual(self, first: int, key: bytes, masked: bytes) -> Received:
        n = len(masked)
        if first & _RSV1:
            assert self._deflate is not None
            payload = self._deflate.inflate(unmask(key, masked), last=True)
        elif n > self._max_size:
            raise WebSocketError(TOO_BIG, too_big(self._max_size))
        else:
            payload = unmask(key, masked)
        if first & 0x0F == BINARY:
            return BINARY, payload
        try:
            return TEXT, payload.decode()
        except UnicodeDecodeError:
            raise WebSocketError(INVALID_DATA, "the text is not UTF-8") from None

    def _begin_unusual(self, first: int, length: int) -> None:
        if first & 0x08:  # control frames do not belong to messages
            return
        self._fragmented = not first & _FIN
        # What a compressed message comes to is only known when it is inflated.
        self._size += length
        if self._size > self._max_size and (self._deflate is None or not first & _RSV1):
            raise WebSocketError(TOO_BIG, too_big(self._max_size))

    def _unusual(self, data: bytes) -> None:
        protocol = self._protocol
        if protocol is None:
            protocol = self._protocol = FrameProtocol(
                client=False, extensions=[] if self._deflate is None else [self._deflate]
            )
        protocol.receive_bytes(data)
        try:
            for frame in protocol.received_frames():
                payload = frame.payload
                if isinstance(payload, tuple):
                    self._waiting.append((CLOSE, Closed(int(payload[0]), payload[1])))
                elif frame.opcode.iscontrol():
                    assert isinstance(payload, (bytes, bytearray))
                    self._waiting.append((int(frame.opcode), bytes(payload)))
                else:
                    self._piece(payload)
                    if frame.message_finished:
                        self._whole(is_text=frame.opcode is Opcode.TEXT)
        except ParseFailed as error:
            code = int(error.code)
            raise WebSocketError(code, too_big(self._max_size) if code == TOO_BIG else str(error)) from None

    def _piece(self, payload: str | bytes) -> None:
        if isinstance(payload, str):
            if self._text is None:
                self._text = io.StringIO()
            self._text.write(payload)
        else:
            self._binary += payload

    def _whole(self, *, is_text: bool) -> None:
        self._size = 0
        if is_text:
            self._waiting.append((TEXT, self._text.getvalue() if self._text is not None else ""))
            self._text = None
        else:
            self._waiting.append((BINARY, bytes(self._binary)))
            self._binary.clear()

    def message(self, payload: str | bytes) -> bytes:
        """A whole message as one frame."""
        if isinstance(payload, str):
            first = _FIN | TEXT
            payload = payload.encode()
        else:
            first = _FIN | BINARY
        if self._deflate is not None and len(payload) >= COMPRESS_MIN_BYTES:
            first |= _RSV1
            payload = self._deflate.deflate(payload)
        return frame(first, payload)


def frame(first: int, payload: bytes) -> bytes:
    """A frame that is not masked, as servers send them; `first` is its first byte."""
    n = len(payload)
    if n < 126:
        return bytes((first, n)) + payload
    if n <= 0xFFFF:
        return struct.pack("!BBH", first, 126, n) + payload
    return struct.pack("!BBQ", first, 127, n) + payload


def ping(payload: bytes) -> bytes:
    return frame(_FIN | PING, payload)


def pong(payload: bytes) -> bytes:
    return frame(_FIN | PONG, payload)


def close(code: int, reason: str = "") -> bytes:
    """NO_STATUS: without a code. A reason that is too long is cut at a character."""
    if code == NO_STATUS:
        return frame(_FIN | CLOSE, b"")
    text = reason.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore").encode()
    return frame(_FIN | CLOSE, struct.pack("!H", code) + text)


def is_close_code(code: int) -> bool:
    """Whether a server may send it (RFC 6455 section 7.4, IANA's registry)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def too_big(max_size: int) -> str:
    return f"the message has more than {max_size} bytes"
