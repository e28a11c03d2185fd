"""The engine's end of a link, in plain Python: what a test wants the process to see, and what it says."""

from __future__ import annotations

import mmap
import os
import socket
import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tux import _app

REQUEST, BODY, CREDIT, GONE, DRAIN, FOUND, UNUSED = range(1, 8)
ANSWER, DATA, FILE, TRAILER, INFORM, UPGRADE, CONSUMED, ABORT, NEXT, LEAVE, OBJECT, LOOKUP, FORGET = range(1, 14)
END, HARD, TRAILERS, UPGRADES, HTTPS, ABSOLUTE, CLOSE, GENERAL = 1, 2, 4, 8, 16, 32, 64, 128
FORWARD = 2
DESCRIPTOR = 2
NO_HANDLE = 0xFFFFFFFF

_PAGE: Final = mmap.PAGESIZE
_RECORD: Final = struct.Struct("<BBHIII")
_REQUEST: Final = struct.Struct("<qII10IIHHBBBxI")
_FOUND: Final = struct.Struct("<QQqHH4x")
_ANSWER: Final = struct.Struct("<qIII4x")
_FILE: Final = struct.Struct("<QQQI4x")
_FIELD: Final = struct.Struct("<HHHHBx")
_WRITTEN, _READ, _READER_SLEEPS, _WRITER_SLEEPS = 0, 64, 128, 192
_LOAD = 1024
_PACE = _LOAD + 4

_IDS: Final = {b"host": 1}


class Said(NamedTuple):
    """A record of the process."""

    kind: int
    flags: int
    status: int
    tag: int
    serial: int
    n: int
    rest: bytes

    @property
    def end(self) -> bool:
        return bool(self.flags & END)

    @property
    def length(self) -> int:
        """Of an ANSWER."""
        length: int = _ANSWER.unpack_from(self.rest)[0]
        return length

    @property
    def remember_ms(self) -> int:
        """Of an ANSWER."""
        remember_ms: int = _ANSWER.unpack_from(self.rest)[2]
        return remember_ms

    @property
    def reason(self) -> bytes:
        """Of an ANSWER."""
        return self.rest[_ANSWER.size :][: _ANSWER.unpack_from(self.rest)[3]]

    @property
    def object(self) -> tuple[bytes, bytes]:
        """Fields and path of an OBJECT."""
        fields, path = struct.unpack_from("<II", self.rest)
        assert len(self.rest) == 8 + fields + path
        return self.rest[8 : 8 + fields], self.rest[8 + fields :]

    @property
    def file(self) -> tuple[int, int, int, int]:
        """Offset, length, number of the descriptor, and handle, of a FILE."""
        return _FILE.unpack(self.rest)

    @property
    def fields(self) -> bytes:
        """Of an ANSWER."""
        _, fields, _, reason = _ANSWER.unpack_from(self.rest)
        return self.rest[_ANSWER.size + reason :][:fields]

    @property
    def body(self) -> bytes:
        """Of an ANSWER, or DATA."""
        return self.rest[len(self.rest) - self.n :]


def _said(payload: bytes) -> Said:
    kind, flags, status, tag, serial, n = _RECORD.unpack_from(payload)
    return Said(kind, flags, status, tag, serial, n, payload[_RECORD.size :])


class Ring:
    """One ring, of which this is either end."""

    def __init__(self, fd: int) -> None:
        self.capacity = os.fstat(fd).st_size - _PAGE
        self.memory = mmap.mmap(fd, _PAGE + self.capacity)

    def word(self, offset: int) -> int:
        value: int = struct.unpack_from("<Q", self.memory, offset)[0]
        return value

    def flag(self, offset: int) -> int:
        value: int = struct.unpack_from("<I", self.memory, offset)[0]
        return value

    def set_word(self, offset: int, value: int) -> None:
        struct.pack_into("<Q", self.memory, offset, value)

    def set_flag(self, offset: int, value: int) -> None:
        struct.pack_into("<I", self.memory, offset, value)

    def _copy_in(self, at: int, data: bytes) -> None:
        at %= self.capacity
        first = min(len(data), self.capacity - at)
        self.memory[_PAGE + at : _PAGE + at + first] = data[:first]
        self.memory[_PAGE : _PAGE + len(data) - first] = data[first:]

    def _copy_out(self, at: int, size: int) -> bytes:
        at %= self.capacity
        first = min(size, self.capacity - at)
        return self.memory[_PAGE + at : _PAGE + at + first] + self.memory[_PAGE : _PAGE + size - first]

    @property
    def free(self) -> int:
        return self.capacity - (self.word(_WRITTEN) - self.word(_READ))

    def write(self, payload: bytes) -> None:
        padded = payload + bytes(-len(payload) % 8)
        assert self.free >= 8 + len(padded)
        at = self.word(_WRITTEN)
        self._copy_in(at, struct.pack("<II", len(payload), 0) + padded)
        self.set_word(_WRITTEN, at + 8 + len(padded))

    def read(self) -> bytes | None:
        at = self.word(_READ)
        if at == self.word(_WRITTEN):
            return None
        size = struct.unpack("<I", self._copy_out(at, 4))[0]
        payload = self._copy_out(at + 8, size)
        self.set_word(_READ, at + 8 + size + -size % 8)
        return payload


@dataclass
class EngineDouble:
    """One link. `descriptors` are what `Port.attach` gets."""

    event_fd: int
    """Of the process: raised by `wake`."""
    serial: int = 1
    requests: Ring = field(init=False)
    answers: Ring = field(init=False)
    side: socket.socket = field(init=False)
    descriptors: tuple[int, int, int, int] = field(init=False)
    wake_fd: int = field(init=False)

    def __post_init__(self) -> None:
        requests, answers = _app.make_rings()
        self.requests, self.answers = Ring(requests), Ring(answers)
        self.side, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.side.setblocking(False)
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.descriptors = (requests, answers, os.dup(self.wake_fd), theirs.detach())

    def close(self) -> None:
        self.side.close()
        os.close(self.wake_fd)
        self.requests.memory.close()
        self.answers.memory.close()

    # -- what the engine says ----------------------------------------------------------------------------------

    def say(self, kind: int, tag: int = 0, serial: int = 1, *, flags: int = 0, n: int = 0, rest: bytes = b"") -> None:
        self.requests.write(_RECORD.pack(kind, flags, 0, tag, serial, n) + rest)

    def request(
        self,
        head: bytes,
        *,
        tag: int = 0,
        serial: int = 1,
        body: bytes = b"",
        complete: bool = True,
        flags: int = 0,
        length: int = -1,
        peer: tuple[str, int] = ("192.0.2.7", 40000),
        local: tuple[str, int] = ("192.0.2.1", 8080),
        window: int = _app.WINDOW,
    ) -> None:
        """A request with this head, whose lines end with CR LF."""
        line, _, rest = head.partition(b"\r\n")
        method, target, version = line.split(b" ")
        path, _, query = target.partition(b"?")
        target_at = len(method) + 1
        fields = b""
        at = len(line) + 2
        for text in rest.split(b"\r\n"):
            if text:
                name, _, value = text.partition(b": ")
                fields += _FIELD.pack(at, len(name), at + len(name) + 2, len(value), _IDS.get(name.lower(), 0))
            at += len(text) + 2
        query_at = target_at + len(path) + 1 if query else 0
        spans = [0, len(method), target_at, len(target), target_at, len(path), query_at, len(query), 0, 0]
        if flags & ABSOLUTE:
            authority = target.split(b"/")[2]
            host_at = head.index(authority)
            path_at = host_at + len(authority)
            end = target_at + len(path)
            spans[4:6] = path_at, end - path_at
            spans[8:] = host_at, len(authority)
        peer_text, local_text = peer[0].encode(), local[0].encode()
        fixed = _REQUEST.pack(
            length, len(head), len(fields) // _FIELD.size, *spans, 3, peer[1], local[1], len(peer_text),
            len(local_text), int(version[-1:]), window,
        )  # fmt: skip
        self.say(
            REQUEST, tag, serial, flags=flags | (END if complete else 0), n=len(body),
            rest=fixed + fields + head + peer_text + local_text + body,
        )  # fmt: skip

    def get(self, tag: int = 0, serial: int = 1, *, path: bytes = b"/", method: bytes = b"GET") -> None:
        self.request(method + b" " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n", tag=tag, serial=serial)

    def found(
        self, status: int = 200, *, tag: int = 0, serial: int = 1, size: int = 0, modified: int = 0,
        fd: int = -1, number: int = 0, media_type: bytes = b"", etag: bytes = b"",
    ) -> None:  # fmt: skip
        """What a lookup found. number: of the descriptor; the descriptor goes over the side socket."""
        if fd >= 0:
            socket.send_fds(self.side, [b"\0"], [fd])
        rest = _FOUND.pack(number, size, modified, len(media_type), len(etag)) + media_type + etag
        self.requests.write(_RECORD.pack(FOUND, 0, status, tag, serial, 0) + rest)

    def wake(self) -> None:
        """As the engine does it: only when the process sleeps."""
        if self.requests.flag(_READER_SLEEPS):
            self.requests.set_flag(_READER_SLEEPS, 0)
            os.eventfd_write(self.event_fd, 1)

    # -- what the process says ---------------------------------------------------------------------------------

    def hear(self) -> Said:
        """The next record."""
        payload = self.answers.read()
        assert payload is not None, "the process said nothing"
        return _said(payload)

    def hear_all(self) -> list[Said]:
        heard = []
        while (payload := self.answers.read()) is not None:
            heard.append(_said(payload))
        return heard

    def sleep(self) -> None:
        self.answers.set_flag(_READER_SLEEPS, 1)

    def raised(self) -> bool:
        """Whether the engine was woken since the last look."""
        try:
            return os.eventfd_read(self.wake_fd) > 0
        except BlockingIOError:
            return False

    @property
    def load(self) -> int:
        return self.answers.flag(_LOAD)

    @property
    def pace_us(self) -> int:
        return self.answers.flag(_PACE)

    def descriptor(self) -> int:
        """The next one that came by the side socket."""
        _, fds, _, _ = socket.recv_fds(self.side, 1, 1)
        return fds[0]
