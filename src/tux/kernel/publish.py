# SPDX-License-Identifier: MIT
"""Published answers: what workers ask for, judged; which answers there are, and what makes room.

Workers read from the network and are not trusted: a message that is not exactly right is refused. All that a worker can
do is to publish answers for the listeners that it serves anyway. Pure: maps are behind `Area`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from tux.kernel.memory import Chunks
from tux.kernel.pulse import Structs, folded_sum

PUBLISH: Final = 1
RETIRE: Final = 2
"""enum tux_kernel_message_kind."""

CHUNK_BYTES: Final = 4096
MAX_ANSWER_BYTES: Final = 15872
MAX_HEAD_BYTES: Final = 2048
CELLS: Final = 4096
DATE_BYTES: Final = 29
"""Limits of bpf/layout.h; a test compares."""

STATUSES: Final = frozenset({200, 204, 301, 304, 404})
"""What static origins answer and what may be given again to anybody who asks the same."""

RETIRED_NS: Final = 120 * 10**9
"""A retired answer is kept for so long: a client that lost it may ask for it again, and must get the same bytes."""

COLD_NS: Final = 10 * 10**9
"""An answer that was used within this time is not turned out for a new one."""

SETTLING_NS: Final = 2 * 10**9
"""A worker says that an answer is fresh only after it has published it: until then it counts as fresh."""


class RefusedError(ValueError):
    """A message is not what an honest worker sends. The text says what is wrong."""


class Publish(NamedTuple):
    """A worker's wish that this answer is given for this head."""

    cell: int
    version: int
    key: bytes
    """struct tux_kernel_key."""
    head: bytes
    answer: bytes
    """The whole answer, zeros where the Date goes."""
    body_length: int
    date_offset: int
    sum: int
    status: int


class Retire(NamedTuple):
    """A worker's word that its answer is not right any more, or not worth its place."""

    cell: int
    version: int


def max_message(layouts: Structs, max_answer: int) -> int:
    """Bytes of the longest message."""
    return layouts["tux_kernel_message"].size + MAX_HEAD_BYTES + max_answer


def parse(datagram: bytes, layouts: Structs, *, listeners: AbstractSet[int], max_answer: int) -> Publish | Retire:
    """The message in a datagram. listeners: those that answers can be published for. max_answer: bytes.
    RefusedError: it is wrong."""
    layout = layouts["tux_kernel_message"]
    if len(datagram) < layout.size:
        raise RefusedError(f"{len(datagram)} bytes are no message")

    def number(name: str) -> int:
        return layout.number(datagram, name)

    kind, cell, version = number("kind"), number("cell"), number("version")
    if kind not in (PUBLISH, RETIRE):
        raise RefusedError(f"kind {kind}")
    if cell >= CELLS:
        raise RefusedError(f"cell {cell}")
    if kind == RETIRE:
        if len(datagram) != layout.size:
            raise RefusedError(f"{len(datagram)} bytes to retire an answer")
        return Retire(cell, version)

    head_length, answer_length, body_length = number("head_length"), number("answer_length"), number("body_length")
    if len(datagram) != layout.size + head_length + answer_length:
        raise RefusedError(f"{len(datagram)} bytes with a head of {head_length} and an answer of {answer_length}")
    if not 0 < head_length <= MAX_HEAD_BYTES or number("key.length") != head_length:
        raise RefusedError(f"a head of {head_length} bytes, {number('key.length')} in the key")
    if number("key.listener") not in listeners:
        raise RefusedError(f"listener {number('key.listener')}")
    head, answer = datagram[layout.size : layout.size + head_length], datagram[layout.size + head_length :]
    status, date_offset, total = number("status"), number("date_offset"), number("sum")
    _check_answer(answer, status, body_length, date_offset, max_answer)
    if total != folded_sum(answer):
        raise RefusedError("the sum is not that of the answer")
    key = layouts["tux_kernel_key"].pack(**{name: number(f"key.{name}") for name in ("lo", "hi", "length", "listener")})
    return Publish(cell, version, key, head, answer, body_length, date_offset, total, status)


def _check_answer(answer: bytes, status: int, body_length: int, date_offset: int, max_answer: int) -> None:
    if not 0 < len(answer) <= min(max_answer, MAX_ANSWER_BYTES):
        raise RefusedError(f"an answer of {len(answer)} bytes")
    if status not in STATUSES or not answer.startswith(b"HTTP/1.1 %d " % status):
        raise RefusedError(f"status {status}")
    head_length = len(answer) - body_length
    if head_length < 4 or answer[head_length - 4 : head_length] != b"\r\n\r\n":
        raise RefusedError(f"a body of {body_length} bytes")
    if date_offset + DATE_BYTES > head_length or answer[date_offset : date_offset + DATE_BYTES] != bytes(DATE_BYTES):
        raise RefusedError(f"a Date at {date_offset}")


# -- what is published -------------------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """What a worker and the programs say about an answer: struct tux_kernel_cell."""

    version: int
    fresh_until_ns: int
    used_ns: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A published answer, or one that is retired and not yet forgotten."""

    id: int
    worker: int
    message: Publish
    """Without its head and answer: those are in the area."""
    first: int
    chunks: int
    since_ns: int
    content: int
    """Hash of the answer's bytes."""


class Area(Protocol):
    """The maps of the programs, and the log. OSError where the kernel refuses."""

    def put(self, identity: int, worker: int, first: int, message: Publish) -> None:
        """Write the bytes, what describes them, and let the key lead there."""

    def drop(self, key: bytes) -> None:
        """The key leads nowhere."""

    def clear(self, identity: int, first: int) -> None:
        """Nobody asks for that answer any more: its place will be used again."""

    def cell(self, worker: int, cell: int) -> Cell:
        """What is said about an answer at the moment; zeros when that worker is gone."""


class Table:
    """All published answers of a server."""

    def __init__(self, area: Area, chunks: int) -> None:
        """chunks: the budget, in chunks of CHUNK_BYTES."""
        self._area = area
        self._chunks = Chunks(chunks)
        self._by_key: dict[bytes, Answer] = {}
        self._by_cell: dict[tuple[int, int], Answer] = {}
        self._retired: deque[tuple[int, Answer]] = deque()
        """When it may be forgotten, and what; in this order."""
        self._retired_chunks = 0
        self._last_id = 0
        self.dropped = 0
        """Messages that were right and yet led to nothing: no room, or somebody else's answer is as good."""

    def __len__(self) -> int:
        """Answers that are given."""
        return len(self._by_key)

    @property
    def used(self) -> int:
        """Chunks that are taken, those of retired answers included."""
        return self._chunks.used

    def publish(self, worker: int, message: Publish, now_ns: int) -> Answer | None:
        """From now on this is the answer; None: it is not, and nothing has changed but what had to make room. OSError:
        the kernel refuses; nothing is published."""
        self._retire(self._by_cell.get((worker, message.cell)), now_ns)
        content = hash(message.answer)
        standing = self._by_key.get(message.key)
        if standing is not None:
            if standing.content == content and self._is_fresh(standing, now_ns):
                self.dropped += 1
                return None
            self._retire(standing, now_ns)
        needed = -(-len(message.answer) // CHUNK_BYTES)
        first = self._chunks.take(needed)
        if first is None:
            self._make_room(needed, now_ns)
            self.dropped += 1
            return None
        self._last_id += 1
        slim = message._replace(head=b"", answer=b"")
        answer = Answer(self._last_id, worker, slim, first, needed, now_ns, content)
        try:
            self._area.put(answer.id, worker, first, message)
        except OSError:
            self._keep_for_a_while(answer, now_ns)
            raise
        self._by_key[message.key] = self._by_cell[worker, message.cell] = answer
        return answer

    def retire(self, worker: int, message: Retire, now_ns: int) -> None:
        """A worker takes its answer back; nothing happens when it is not there any more."""
        answer = self._by_cell.get((worker, message.cell))
        if answer is not None and answer.message.version == message.version:
            self._retire(answer, now_ns)

    def retire_worker(self, worker: int, now_ns: int) -> None:
        """A worker is gone: nobody looks after its answers."""
        for answer in [answer for answer in self._by_key.values() if answer.worker == worker]:
            self._retire(answer, now_ns)

    def retire_all(self, now_ns: int) -> None:
        """What was right before is not right any more."""
        for answer in list(self._by_key.values()):
            self._retire(answer, now_ns)

    def forget(self, now_ns: int) -> int:
        """Free the memory of what was retired long enough ago; how many answers."""
        count = 0
        while self._retired and self._retired[0][0] <= now_ns:
            answer = self._retired.popleft()[1]
            self._area.clear(answer.id, answer.first)
            self._chunks.give(answer.first)
            self._retired_chunks -= answer.chunks
            count += 1
        return count

    def _retire(self, answer: Answer | None, now_ns: int) -> None:
        if answer is None:
            return
        del self._by_key[answer.message.key]
        del self._by_cell[answer.worker, answer.message.cell]
        self._keep_for_a_while(answer, now_ns)
        self._area.drop(answer.message.key)

    def _keep_for_a_while(self, answer: Answer, now_ns: int) -> None:
        self._retired.append((now_ns + RETIRED_NS, answer))
        self._retired_chunks += answer.chunks

    def _is_fresh(self, answer: Answer, now_ns: int) -> bool:
        cell = self._area.cell(answer.worker, answer.message.cell)
        if cell.version != answer.message.version:
            return False
        return cell.fresh_until_ns > now_ns or now_ns - answer.since_ns < SETTLING_NS

    def _make_room(self, needed: int, now_ns: int) -> None:
        """Retire what was not used for the longest time, unless enough is retired already: their memory becomes free
        some time later, and whoever is still asked for often enough then is published."""
        enough = self._retired_chunks
        for _, answer in self._coldest(now_ns):
            if enough >= needed:
                return
            self._retire(answer, now_ns)
            enough += answer.chunks

    def _coldest(self, now_ns: int) -> Iterator[tuple[int, Answer]]:
        found = [(self._last_use(answer), answer) for answer in self._by_key.values()]
        found.sort(key=lambda item: item[0])
        return (item for item in found if now_ns - item[0] > COLD_NS)

    def _last_use(self, answer: Answer) -> int:
        cell = self._area.cell(answer.worker, answer.message.cell)
        return max(answer.since_ns, cell.used_ns if cell.version == answer.message.version else 0)
