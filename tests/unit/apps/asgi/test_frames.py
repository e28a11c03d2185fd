"""Frames of WebSockets: what the usual test suites ask (cases as in Autobahn's sections), by hand-written bytes."""

from __future__ import annotations

import os
import random
import zlib

import pytest
from wsproto.frame_protocol import FrameProtocol, ParseFailed

from tests.unit.apps.asgi.ws_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    close,
    compress,
    frame,
    mask,
    parse,
)
from tux._app import unmask
from tux.apps.asgi import frames as ws_frames
from tux.apps.asgi.frames import Closed, Deflate, Frames, Received, WebSocketError

MAX = 1 << 20


def deflate(max_size: int = MAX, **options: bool) -> Deflate:
    settings = {"client_forgets": False, "server_forgets": False, **options}
    return Deflate(max_size, client_bits=15, server_bits=15, **settings)


def read(frames: Frames, data: bytes) -> list[Received]:
    frames.feed(data)
    return rest(frames)


def rest(frames: Frames) -> list[Received]:
    found = []
    while (received := frames.take()) is not None:
        found.append(received)
    return found


def failure(frames: Frames, *pieces: bytes) -> int:
    """The code that one of them is refused with."""
    try:
        for piece in pieces:
            read(frames, piece)
    except WebSocketError as error:
        return error.code
    raise AssertionError("all was read")


def check(data: bytes, expected: list[Received], **options: int) -> None:
    """Whole, byte by byte, and cut in two at each place."""
    assert read(Frames(MAX), data) == expected
    if len(data) > 3000:
        return
    frames = Frames(MAX)
    assert [received for byte in data for received in read(frames, bytes([byte]))] == expected
    for place in range(1, len(data), max(1, len(data) // 50)):
        frames = Frames(MAX)
        assert read(frames, data[:place]) + read(frames, data[place:]) == expected


@pytest.mark.parametrize("n", [0, 1, 3, 4, 125, 126, 127, 128, 1000, 1100, 65535, 65536, 100_000])
def test_lengths(n: int) -> None:
    text = "*" * n
    data = os.urandom(n)
    check(
        frame(TEXT, text.encode()) + frame(BINARY, data) + frame(TEXT, b"end"),
        [(TEXT, text), (BINARY, data), (TEXT, "end")],
    )


def test_pings_and_pongs() -> None:
    check(
        frame(PING) + frame(PING, bytes(range(125))) + frame(PONG, b"unasked") + frame(BINARY, b"x"),
        [(PING, b""), (PING, bytes(range(125))), (PONG, b"unasked"), (BINARY, b"x")],
    )


def test_fragments() -> None:
    check(
        frame(TEXT, "h\u00e9".encode()[:2], fin=False)
        + frame(CONTINUATION, "h\u00e9".encode()[2:], fin=False)
        + frame(CONTINUATION, b"", fin=False)
        + frame(CONTINUATION, b"llo")
        + frame(BINARY, b"", fin=False)
        + frame(CONTINUATION, b"\xff")
        + frame(TEXT, b"next"),
        [(TEXT, "h\u00e9llo"), (BINARY, b"\xff"), (TEXT, "next")],
    )


def test_control_frames_between_fragments() -> None:
    check(
        frame(TEXT, b"a", fin=False) + frame(PING, b"p") + frame(CONTINUATION, b"b") + close(1001, b"bye"),
        [(PING, b"p"), (TEXT, "ab"), (CLOSE, Closed(1001, "bye"))],
    )


def test_many_messages_at_once() -> None:
    messages = [os.urandom(n) for n in range(200)]
    check(b"".join(frame(BINARY, data) for data in messages), [(BINARY, data) for data in messages])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"x", rsv=1), 1002),
        (frame(BINARY, b"x", rsv=2), 1002),
        (frame(PING, b"x", rsv=4), 1002),
        (frame(3, b"x"), 1002),
        (frame(7), 1002),
        (frame(11), 1002),
        (frame(15), 1002),
        (frame(TEXT, b"x", masked=False), 1002),
        (frame(PING, b"x", masked=False), 1002),
        (frame(PING, bytes(126)), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(CLOSE, b"\x03\xe8", fin=False), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(CONTINUATION, b"x", fin=False), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(BINARY, b"y", fin=False), 1002),
        (frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"y") + frame(CONTINUATION, b"z"), 1002),
        (frame(BINARY, b"x", length_bytes=2), 1002),
        (frame(BINARY, bytes(200), length_bytes=8), 1002),
        (frame(BINARY, b"", length=1 << 63, length_bytes=8), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, b"\x03\xe8" + bytes(124)), 1002),
        (close(0), 1002),
        (close(999), 1002),
        (close(1004), 1002),
        (close(1005), 1002),
        (close(1006), 1002),
        (close(1015), 1002),
        (close(1016), 1002),
        (close(2999), 1002),
        (close(5000), 1002),
        (close(1000, b"\xff"), 1007),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xed\xa0\x80"), 1007),
        (frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
        (frame(TEXT, "\u00e9".encode()[:1]), 1007),
        (frame(TEXT, b"\xce", fin=False) + frame(CONTINUATION, b"\xce"), 1007),
        (frame(BINARY, b"", length=MAX + 1, length_bytes=8), 1009),
        (frame(TEXT, bytes(MAX // 2), fin=False) + frame(CONTINUATION, bytes(MAX // 2 + 1)), 1009),
    ],
)
def test_what_breaks_the_protocol(data: bytes, code: int) -> None:
    for pieces in ([data], [data[i : i + 1] for i in range(min(len(data), 2000))]):
        frames = Frames(MAX)
        if len(pieces) > 1 and len(data) > 2000:
            continue
        assert read(frames, frame(TEXT, b"fine")) == [(TEXT, "fine")]
        error = failure(frames, *pieces)
        assert error == code or (code == 1002 and error == 1009)


def test_a_broken_text_fails_before_its_end() -> None:
    frames = Frames(MAX)
    with pytest.raises(WebSocketError) as caught:
        read(frames, frame(TEXT, b"ab\xff" + bytes(70_000))[:1000])
    assert caught.value.code == 1007


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 3000, 3999, 4000, 4999])
def test_close_codes(code: int) -> None:
    check(close(code, "tsch\u00fc\u00df".encode()), [(CLOSE, Closed(code, "tsch\u00fc\u00df"))])
    assert ws_frames.is_close_code(code)


def test_close_without_a_code() -> None:
    check(close(None), [(CLOSE, Closed(1005, ""))])


def test_what_follows_a_close_frame_is_not_read() -> None:
    assert read(Frames(MAX), close() + frame(TEXT, b"x", masked=False)) == [(CLOSE, Closed(1000, ""))]


@pytest.mark.parametrize("size", [10, 126, 1000])
def test_the_limit_is_of_the_message(size: int) -> None:
    data = b"x" * size
    assert read(Frames(size), frame(BINARY, data)) == [(BINARY, data)]
    assert read(Frames(size), frame(BINARY, data[:4], fin=False) + frame(CONTINUATION, data[4:])) == [(BINARY, data)]
    for whole in (frame(BINARY, data + b"x"), frame(BINARY, data, fin=False) + frame(CONTINUATION, b"x")):
        with pytest.raises(WebSocketError) as caught:
            read(Frames(size), whole)
        assert caught.value.code == 1009


# Compression


@pytest.mark.parametrize("n", [0, 5, 1000, 200_000])
@pytest.mark.parametrize("fragments", [False, True])
def test_compressed_messages(n: int, fragments: bool) -> None:
    data = random.Random(n).randbytes(n // 2) + bytes(n - n // 2)
    packed = compress(data)
    frames = Frames(MAX, deflate(client_forgets=True))
    half = len(packed) // 2
    message = (
        frame(BINARY, packed[:half], rsv=4, fin=False) + frame(PING, b"p") + frame(CONTINUATION, packed[half:])
        if fragments
        else frame(BINARY, packed, rsv=4)
    )
    expected: list[Received] = [(PING, b"p"), (BINARY, data)] if fragments else [(BINARY, data)]
    plain: list[Received] = [(TEXT, "plain")]
    assert read(frames, message + frame(TEXT, b"plain")) == expected + plain
    assert [received for i in range(0, len(message), 7) for received in read(frames, message[i : i + 7])] == expected


def test_the_context_is_kept_between_messages() -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    frames = Frames(MAX, deflate())
    data = os.urandom(1000)
    packed = b""
    for _ in range(3):
        packed = (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
        assert read(frames, frame(BINARY, packed, rsv=4)) == [(BINARY, data)]
    assert len(packed) < 100


@pytest.mark.parametrize("fragments", [False, True])
def test_a_compressed_bomb_does_not_go_off(fragments: bool) -> None:
    packed = compress(bytes(5_000_000))
    frames = Frames(MAX, deflate())
    if fragments:
        pieces = [frame(BINARY, packed[:1000], rsv=4, fin=False), frame(CONTINUATION, packed[1000:])]
    else:
        pieces = [frame(BINARY, packed, rsv=4)]
    assert failure(frames, *pieces) == 1009


def test_a_compressed_message_of_the_largest_size() -> None:
    data = os.urandom(10_000)
    assert read(Frames(10_000, deflate(10_000)), frame(BINARY, compress(data), rsv=4)) == [(BINARY, data)]
    with pytest.raises(WebSocketError):
        read(Frames(9_999, deflate(9_999)), frame(BINARY, compress(data), rsv=4))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(BINARY, b"\xff\xff\xff\xff", rsv=4), 1007),
        (frame(TEXT, compress(b"\xff"), rsv=4), 1007),
        (frame(PING, b"x", rsv=4), 1002),
        (frame(BINARY, b"", rsv=4, fin=False) + frame(CONTINUATION, b"", rsv=4), 1002),
        (frame(BINARY, b"x", rsv=6), 1002),
    ],
)
def test_broken_compressed_messages(data: bytes, code: int) -> None:
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        assert failure(Frames(MAX, deflate()), *pieces) == code


@pytest.mark.parametrize("forgets", [False, True])
def test_sent_messages_are_compressed(forgets: bool) -> None:
    frames = Frames(MAX, deflate(server_forgets=forgets))
    inflater = zlib.decompressobj(-15)
    for text in ("ab" * 1000, "short", "ab" * 40_000):
        ((first, payload),) = parse(frames.message(text))
        if text == "short":
            assert (first, payload) == (0x81, b"short")
            continue
        assert first == 0xC1
        if forgets:
            inflater = zlib.decompressobj(-15)
        assert inflater.decompress(payload + b"\x00\x00\xff\xff").decode() == text
        assert len(payload) < len(text) // 20


# What is sent


@pytest.mark.parametrize("n", [0, 125, 126, 65535, 65536])
def test_sent_frames(n: int) -> None:
    data = os.urandom(n)
    assert parse(Frames(MAX).message(data)) == [(0x82, data)]
    assert parse(Frames(MAX).message("x" * n)) == [(0x81, b"x" * n)]


def test_sent_close_frames() -> None:
    assert parse(ws_frames.close(1005)) == [(0x88, b"")]
    assert parse(ws_frames.close(1000)) == [(0x88, b"\x03\xe8")]
    ((_, payload),) = parse(ws_frames.close(1001, "\u00e9" * 100))
    assert payload == b"\x03\xe9" + "\u00e9".encode() * 61
    assert not any(ws_frames.is_close_code(code) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000))


# Against wsproto alone


def test_the_same_as_wsproto_alone() -> None:
    """What is read here rather than by wsproto makes no difference, wherever the stream is cut."""
    for seed in range(300):
        chance = random.Random(seed)
        data = b"".join(some_frame(chance) for _ in range(chance.randrange(1, 12)))
        pieces = []
        while data:
            n = chance.choice([1, 2, 7, 100, 5000, len(data)])
            pieces.append(data[:n])
            data = data[n:]
        assert ours(pieces) == theirs(pieces), seed


def some_frame(chance: random.Random) -> bytes:
    opcode = chance.choices([TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE, 5], [8, 8, 4, 2, 2, 0.3, 0.1])[0]
    n = chance.choice([0, 1, 10, 125]) if opcode & 8 else chance.choice([0, 5, 125, 126, 300, 2000, 70_000])
    payload = chance.randbytes(n) if opcode == BINARY or chance.random() < 0.05 else b"a" * n
    if opcode == CLOSE and n:
        payload = b"\x03\xe8" + b"b" * (n - 2) if n > 1 else b"x"
    fin = chance.random() < (0.98 if opcode & 8 else 0.8)
    return frame(opcode, payload, fin=fin, rsv=chance.choices([0, 1], [100, 1])[0])


def ours(pieces: list[bytes]) -> list[object]:
    frames = Frames(MAX)
    found: list[object] = []
    try:
        for piece in pieces:
            frames.feed(piece)
            while (received := frames.take()) is not None:
                found.append(received)
                if received[0] == CLOSE:
                    return found
    except WebSocketError as error:
        found.append(error.code)
    return found


def theirs(pieces: list[bytes]) -> list[object]:
    protocol = FrameProtocol(client=False, extensions=[])
    found: list[object] = []
    parts: list[str | bytes] = []
    try:
        for piece in pieces:
            protocol.receive_bytes(piece)
            for one in protocol.received_frames():
                if isinstance(one.payload, tuple):
                    found.append((CLOSE, Closed(*one.payload)))
                    return found
                if one.opcode.iscontrol():
                    found.append((int(one.opcode), one.payload))
                    continue
                parts.append(one.payload)
                if one.message_finished:
                    whole = "".join(map(str, parts)) if isinstance(parts[0], str) else b"".join(map(bytes, parts))  # type: ignore[arg-type]
                    found.append((int(one.opcode), whole))
                    parts.clear()
    except ParseFailed as error:
        found.append(int(error.code))
    return found


@pytest.mark.parametrize("n", [0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 1000])
def test_unmask(n: int) -> None:
    data = os.urandom(n)
    assert unmask(KEY, mask(data)) == data


@pytest.mark.parametrize("key", [b"", b"123", b"12345"])
def test_unmask_with_a_key_that_is_none(key: bytes) -> None:
    with pytest.raises(ValueError, match="4 bytes"):
        unmask(key, b"data")
