# SPDX-License-Identifier: MIT
"""What a worker may ask for, and what becomes of it: judged messages, and the table of published answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.unit.kernel.layout_header import constants, layouts
from tux.kernel import publish
from tux.kernel.publish import Cell, Publish, RefusedError, Retire, Table, parse
from tux.kernel.pulse import folded_sum

LAYOUTS = layouts()
MESSAGE = LAYOUTS["tux_kernel_message"]
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MAX_ANSWER = 15872
SECOND = 10**9


def answer(body: bytes = b"hello", status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nDate: %b\r\n\r\n%b" % (status, bytes(29), body)


def datagram(head: bytes = HEAD, text: bytes | None = None, **fields: int) -> bytes:
    """What an honest worker sends to publish `text` for `head`, but for the fields that are given."""
    text = answer() if text is None else text
    start = text.find(b"Date: ")
    values: dict[str, int] = {
        "kind": publish.PUBLISH,
        "cell": 3,
        "version": 9,
        "key.lo": 1,
        "key.hi": 2,
        "key.length": len(head),
        "key.listener": 0,
        "head_length": len(head),
        "answer_length": len(text),
        "body_length": max(0, len(text) - text.find(b"\r\n\r\n") - 4),
        "date_offset": start + 6,
        "sum": folded_sum(text),
        "status": 200,
    }
    changed = {name.replace("key_", "key."): value for name, value in fields.items()}
    return MESSAGE.pack(**(values | changed)) + head + text


def read(data: bytes) -> Publish | Retire:
    return parse(data, LAYOUTS, listeners={0, 2}, max_answer=MAX_ANSWER)


class TestMessages:
    def test_publish(self) -> None:
        found = read(datagram(key_listener=2))
        key = LAYOUTS["tux_kernel_key"].pack(lo=1, hi=2, length=len(HEAD), listener=2)
        assert found == Publish(3, 9, key, HEAD, answer(), 5, 22, folded_sum(answer()), 200)

    @pytest.mark.parametrize("status", sorted(publish.STATUSES))
    def test_the_statuses(self, status: int) -> None:
        found = read(datagram(text=answer(b"", status), status=status))
        assert isinstance(found, Publish)
        assert (found.status, found.body_length) == (status, 0)

    def test_retire(self) -> None:
        assert read(MESSAGE.pack(kind=publish.RETIRE, cell=4095, version=7)) == Retire(4095, 7)

    def test_the_largest(self) -> None:
        head = b"G" * 2048
        text = answer(b"x" * (MAX_ANSWER - len(answer(b""))))
        data = datagram(head, text)
        assert len(data) == publish.max_message(LAYOUTS, MAX_ANSWER)
        assert isinstance(read(data), Publish)

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "0 bytes are no message"),
            (datagram()[: MESSAGE.size - 1], "bytes are no message"),
            (datagram()[:-1], "bytes with a head of"),
            (datagram() + b"x", "bytes with a head of"),
            (datagram(kind=0), "kind 0"),
            (datagram(kind=3), "kind 3"),
            (datagram(cell=4096), "cell 4096"),
            (MESSAGE.pack(kind=publish.RETIRE, cell=4096), "cell 4096"),
            (MESSAGE.pack(kind=publish.RETIRE) + b"x", "to retire an answer"),
            (datagram(head_length=len(HEAD) + 1), "bytes with a head of"),
            (datagram(answer_length=2**32 - 1), "bytes with a head of"),
            (datagram(b""), "a head of 0 bytes"),
            (datagram(b"G" * 2049), "a head of 2049 bytes"),
            (datagram(key_length=len(HEAD) - 1), "in the key"),
            (datagram(key_listener=1), "listener 1"),
            (datagram(key_listener=2**32 - 1), "listener"),
            (datagram(text=b""), "an answer of 0 bytes"),
            (datagram(text=answer(b"x" * MAX_ANSWER)), "an answer of"),
            (datagram(status=500, text=answer(status=500)), "status 500"),
            (datagram(status=206, text=answer(status=206)), "status 206"),
            (datagram(status=404), "status 404"),
            (datagram(text=b"x" + answer()), "status 200"),
            (datagram(body_length=4), "a body of 4 bytes"),
            (datagram(body_length=len(answer()) + 1), "a body of"),
            (datagram(body_length=2**32 - 1), "a body of"),
            (datagram(date_offset=21), "a Date at 21"),
            (datagram(date_offset=2**32 - 1), "a Date at"),
            (datagram(date_offset=len(answer()) - 29), "a Date at"),
            (datagram(text=answer().replace(bytes(29), b"Tue, 24 Nov 2026 21:00:00 GMT"), date_offset=22), "a Date at"),
            (datagram(text=answer(bytes(40)), date_offset=len(answer(b"")) + 1), "a Date at"),
            (datagram(sum=0), "the sum"),
            (datagram(sum=folded_sum(answer()) + 2**16), "the sum"),
        ],
    )
    def test_what_is_not_right_is_refused(self, data: bytes, why: str) -> None:
        with pytest.raises(RefusedError, match=why):
            read(data)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        with pytest.raises(RefusedError):
            read(data)

    @given(st.integers(0, MESSAGE.size + len(HEAD) + len(answer()) - 1), st.integers(1, 255))
    def test_one_byte_changed(self, at: int, change: int) -> None:
        """It is refused, or it is still a whole message that says no more than it may."""
        data = bytearray(datagram())
        data[at] ^= change
        try:
            found = read(bytes(data))
        except RefusedError:
            return
        if isinstance(found, Publish):
            assert found.cell < 4096
            assert len(found.key) == LAYOUTS["tux_kernel_key"].size
            assert folded_sum(found.answer) == found.sum
            assert found.answer[found.date_offset : found.date_offset + 29] == bytes(29)

    def test_the_limits_are_those_of_the_header(self) -> None:
        numbers = constants()
        assert numbers["TUX_KERNEL_CHUNK_BYTES"] == publish.CHUNK_BYTES
        assert numbers["TUX_KERNEL_MAX_ANSWER_BYTES"] == publish.MAX_ANSWER_BYTES
        assert numbers["TUX_KERNEL_MAX_HEAD_BYTES"] == publish.MAX_HEAD_BYTES
        assert numbers["TUX_KERNEL_CELLS"] == publish.CELLS
        assert numbers["TUX_KERNEL_DATE_BYTES"] == publish.DATE_BYTES


class FakeArea:
    """Maps of the kernel that remember what is in them, and object to what must not happen."""

    def __init__(self) -> None:
        self.keys: dict[bytes, int] = {}
        self.entries: dict[int, int] = {}
        """First chunk -> id."""
        self.owner: dict[int, int] = {}
        """Chunk -> id."""
        self.ids: set[int] = set()
        self.cells: dict[tuple[int, int], Cell] = {}
        self.broken = False

    def put(self, identity: int, worker: int, first: int, message: Publish) -> None:
        assert identity not in self.ids
        self.ids.add(identity)
        for chunk in range(first, first + -(-len(message.answer) // 4096)):
            assert chunk not in self.owner
            self.owner[chunk] = identity
        self.entries[first] = identity
        if self.broken:
            raise OSError("no memory")
        assert message.key not in self.keys
        self.keys[message.key] = identity

    def drop(self, key: bytes) -> None:
        del self.keys[key]

    def clear(self, identity: int, first: int) -> None:
        assert self.entries.pop(first) == identity
        assert identity not in self.keys.values()
        self.owner = {chunk: owner for chunk, owner in self.owner.items() if owner != identity}

    def cell(self, worker: int, cell: int) -> Cell:
        return self.cells.get((worker, cell), Cell(0, 0, 0))


def wish(cell: int = 0, *, key: int = 1, size: int = 100, version: int = 1, body: bytes = b"") -> Publish:
    found = parse(
        datagram(text=answer(body.ljust(size, b"x")), cell=cell, version=version, key_lo=key),
        LAYOUTS,
        listeners={0},
        max_answer=MAX_ANSWER,
    )
    assert isinstance(found, Publish)
    return found


class TestTable:
    def test_an_answer_comes_and_goes(self) -> None:
        area = FakeArea()
        table = Table(area, 4)
        published = table.publish(0, wish(size=5000), now_ns=0)
        assert published is not None
        assert area.keys == {wish().key: published.id}
        assert (len(table), table.used) == (1, 2)
        table.retire(0, Retire(0, 1), now_ns=SECOND)
        assert area.keys == {}
        assert (len(table), table.used) == (0, 2)

    def test_a_retired_answer_is_kept_for_clients_that_lost_it(self) -> None:
        area = FakeArea()
        table = Table(area, 4)
        table.publish(0, wish(), now_ns=0)
        table.retire(0, Retire(0, 1), now_ns=SECOND)
        assert table.forget(now_ns=121 * SECOND - 1) == 0
        assert area.entries
        assert table.forget(now_ns=121 * SECOND) == 1
        assert (area.entries, table.used) == ({}, 0)

    @pytest.mark.parametrize(("worker", "message"), [(1, Retire(0, 1)), (0, Retire(1, 1)), (0, Retire(0, 2))])
    def test_nobody_retires_what_is_not_theirs(self, worker: int, message: Retire) -> None:
        table = Table(FakeArea(), 4)
        table.publish(0, wish(version=1), now_ns=0)
        table.retire(worker, message, now_ns=0)
        assert len(table) == 1

    def test_a_cell_has_one_answer(self) -> None:
        area = FakeArea()
        table = Table(area, 4)
        table.publish(0, wish(0, key=1), now_ns=0)
        second = table.publish(0, wish(0, key=2), now_ns=0)
        assert second is not None
        assert area.keys == {wish(key=2).key: second.id}

    def test_the_same_answer_of_another_worker_changes_nothing(self) -> None:
        area = FakeArea()
        table = Table(area, 4)
        area.cells[0, 0] = Cell(1, 0, 0)
        first = table.publish(0, wish(), now_ns=0)
        assert table.publish(1, wish(), now_ns=SECOND) is None
        assert first is not None
        assert list(area.keys.values()) == [first.id]
        assert table.dropped == 1

    def test_the_other_answer_of_another_worker_is_the_newer(self) -> None:
        """Its worker has looked at the file later."""
        area = FakeArea()
        table = Table(area, 4)
        table.publish(0, wish(body=b"old"), now_ns=0)
        second = table.publish(1, wish(body=b"new"), now_ns=0)
        assert second is not None
        assert list(area.keys.values()) == [second.id]
        table.retire(0, Retire(0, 1), now_ns=0)
        assert len(table) == 1

    def test_an_answer_that_its_worker_neglects_is_replaced(self) -> None:
        area = FakeArea()
        table = Table(area, 4)
        area.cells[0, 0] = Cell(1, 5 * SECOND, 0)
        table.publish(0, wish(), now_ns=0)
        assert table.publish(1, wish(), now_ns=4 * SECOND) is None
        assert table.publish(1, wish(), now_ns=5 * SECOND) is not None
        area.cells[1, 0] = Cell(2, 100 * SECOND, 0)  # the cell is about something else by now
        assert table.publish(2, wish(), now_ns=6 * SECOND) is not None

    def test_a_worker_that_is_gone(self) -> None:
        area = FakeArea()
        table = Table(area, 8)
        table.publish(0, wish(0, key=1), now_ns=0)
        table.publish(0, wish(1, key=2), now_ns=0)
        other = table.publish(1, wish(0, key=3), now_ns=0)
        table.retire_worker(0, now_ns=0)
        assert other is not None
        assert list(area.keys.values()) == [other.id]
        table.retire_all(now_ns=0)
        assert area.keys == {}

    def test_what_is_used_least_makes_room(self) -> None:
        area = FakeArea()
        table = Table(area, 2)
        table.publish(0, wish(0, key=1), now_ns=0)
        table.publish(0, wish(1, key=2), now_ns=0)
        area.cells[0, 0] = Cell(1, 0, 20 * SECOND)
        now = 25 * SECOND
        assert table.publish(0, wish(2, key=3), now_ns=now) is None
        assert list(area.keys) == [wish(key=1).key]
        assert table.publish(0, wish(2, key=3), now_ns=now) is None  # the memory is not free yet ...
        assert list(area.keys) == [wish(key=1).key]  # ... and no more is retired for it
        table.forget(now_ns=now + publish.RETIRED_NS)
        assert table.publish(0, wish(2, key=3), now_ns=now + publish.RETIRED_NS) is not None

    def test_what_is_in_use_is_not_turned_out(self) -> None:
        area = FakeArea()
        table = Table(area, 1)
        table.publish(0, wish(0, key=1), now_ns=0)
        assert table.publish(0, wish(1, key=2), now_ns=publish.COLD_NS) is None
        assert len(table) == 1

    def test_an_answer_larger_than_all_memory(self) -> None:
        table = Table(FakeArea(), 1)
        assert table.publish(0, wish(size=5000), now_ns=0) is None
        assert table.used == 0

    def test_a_kernel_that_refuses(self) -> None:
        area = FakeArea()
        table = Table(area, 2)
        area.broken = True
        with pytest.raises(OSError, match="no memory"):
            table.publish(0, wish(), now_ns=0)
        assert (len(table), area.keys) == (0, {})
        area.broken = False
        assert table.publish(0, wish(), now_ns=0) is not None
        assert table.forget(now_ns=publish.RETIRED_NS) == 1


class Life(RuleBasedStateMachine):
    """Workers, answers and time in any order: the fake area objects to chunks, ids and keys that are used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.area = FakeArea()
        self.table = Table(self.area, 12)
        self.now = 0

    @rule(worker=st.integers(0, 2), cell=st.integers(0, 3), key=st.integers(0, 4), size=st.integers(0, 15000))
    def publish(self, worker: int, cell: int, key: int, size: int) -> None:
        self.table.publish(worker, wish(cell, key=key, size=size), self.now)

    @rule(worker=st.integers(0, 2), cell=st.integers(0, 3), version=st.integers(1, 2))
    def retire(self, worker: int, cell: int, version: int) -> None:
        self.table.retire(worker, Retire(cell, version), self.now)

    @rule(worker=st.integers(0, 2))
    def end(self, worker: int) -> None:
        self.table.retire_worker(worker, self.now)

    @rule(seconds=st.integers(0, 100))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND
        self.table.forget(self.now)

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.table) == len(self.area.keys)
        assert self.table.used == len(self.area.owner)
        assert set(self.area.keys.values()) <= set(self.area.entries.values())

    def teardown(self) -> None:
        self.table.retire_all(self.now)
        self.table.forget(self.now + publish.RETIRED_NS)
        assert (self.table.used, self.area.entries) == (0, {})


TestLife = Life.TestCase
