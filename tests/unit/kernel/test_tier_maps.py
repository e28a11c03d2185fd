# SPDX-License-Identifier: MIT
"""What the supervisor writes, read back from real maps through bpf(2). Nothing is attached to any interface."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from tests import features
from tests.unit.kernel.test_publish import HEAD, answer, datagram
from tux.kernel import load, pins
from tux.kernel.load import Loaded, Map
from tux.kernel.publish import CHUNK_BYTES, Cell, Publish, parse
from tux.kernel.pulse import boot_ns
from tux.kernel.sweep import Count
from tux.kernel.tier import Maps


@pytest.fixture
def loaded() -> Iterator[Loaded]:
    features.require("bpf")
    with load.load(load.read_object(), {"entries": 8, "chunks": 8, "conns": 16}) as loaded:
        yield loaded


@pytest.fixture
def maps(loaded: Loaded) -> Iterator[Maps]:
    with contextlib.ExitStack() as stack:
        yield Maps(loaded, None, stack)


def message(loaded: Loaded, body: bytes) -> Publish:
    found = parse(datagram(text=answer(body), cell=7), loaded.layouts, listeners={0}, max_answer=15872)
    assert isinstance(found, Publish)
    return found


def test_an_answer(loaded: Loaded, maps: Maps) -> None:
    wish = message(loaded, b"b" * 6000)
    maps.put(99, 3, 5, wish)
    found = loaded.maps["answers"].lookup(wish.key)
    assert found is not None
    assert loaded.layouts["tux_kernel_found"].unpack(found) == {"id": 99, "first_chunk": 5, "reserved": 0}
    entry = loaded.maps["entries"].lookup(5)
    assert entry is not None
    told = loaded.layouts["tux_kernel_answer"].unpack(entry)
    assert (told["id"], told["worker"], told["cell"], told["length"]) == (99, 3, 7, len(wish.answer))
    assert (told["key.length"], told["date_offset"], told["sum"]) == (len(HEAD), wish.date_offset, wish.sum)
    chunks = [loaded.maps["chunks"].lookup(index) or b"" for index in (5, 6)]
    assert b"".join(chunks)[: len(wish.answer)] == wish.answer
    assert loaded.maps["chunks"].lookup(4) == loaded.maps["chunks"].lookup(7) == bytes(CHUNK_BYTES)
    maps.drop(wish.key)
    assert loaded.maps["answers"].lookup(wish.key) is None
    maps.drop(wish.key)
    maps.clear(99, 5)
    entry = loaded.maps["entries"].lookup(5)
    assert entry is not None
    assert loaded.layouts["tux_kernel_answer"].number(entry, "id") == 0


def test_control_and_dates(loaded: Loaded, maps: Maps) -> None:
    maps.set_control(answering=1, key=(1, 2))
    before = boot_ns()
    maps.pulse.beat()
    control = loaded.maps["control"].lookup(0)
    assert control is not None
    told = loaded.layouts["tux_kernel_control"].unpack(control)
    assert (told["answering"], told["key"]) == (1, (1, 2))
    assert before <= loaded.layouts["tux_kernel_control"].number(control, "heartbeat_ns") <= boot_ns()
    second = (boot_ns() + loaded.layouts["tux_kernel_control"].number(control, "wall_ns")) // 10**9
    date = loaded.maps["dates"].lookup(second % loaded.maps["dates"].max_entries)
    assert date is not None
    assert loaded.layouts["tux_kernel_date"].number(date, "second") == second


def test_ports_and_listeners(loaded: Loaded, maps: Maps) -> None:
    maps.set_ports([80, 8080, 8081])
    words = [int.from_bytes(loaded.maps["ports"].lookup(index) or b"", "little") for index in range(1024)]
    assert [64 * word + bit for word in range(1024) for bit in range(64) if words[word] >> bit & 1] == [80, 8080, 8081]
    layout = loaded.layouts["tux_kernel_listener"]
    with socket.socket() as sock:
        loaded.maps["listeners"].update(sock.fileno(), layout.pack(worker=2, listener=1))
        assert loaded.maps["listeners"].lookup(sock.fileno()) == layout.pack(worker=2, listener=1)


def test_cells_of_a_worker(loaded: Loaded, maps: Maps) -> None:
    with contextlib.closing(Map("cells", loaded.new_inner("cells"))) as cells:
        loaded.maps["cells"].update(3, cells.fd)
        maps.set_cells(3, cells)
        cells.update(7, loaded.layouts["tux_kernel_cell"].pack(version=4, fresh_until_ns=5, used_ns=6))
        assert maps.cell(3, 7) == Cell(4, 5, 6)
        assert maps.cell(3, 8) == maps.cell(2, 7) == Cell(0, 0, 0)
        maps.set_cells(3, None)
        assert maps.cell(3, 7) == Cell(0, 0, 0)


def test_a_process_that_is_forked_has_none_of_it(loaded: Loaded, maps: Maps) -> None:
    """A worker that is taken over must not write to what the supervisor tells the programs: there it gets SIGSEGV."""
    maps.set_control(answering=0)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        with contextlib.suppress(BaseException):
            maps.set_control(answering=1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGSEGV
    assert maps.get_control("answering") == 0


def test_a_sweep(loaded: Loaded) -> None:
    """The program frees what has no socket and was idle for long. The others are in use for a minute from now on: so a
    busy machine makes no difference."""
    conn, pair = loaded.layouts["tux_kernel_conn"], loaded.layouts["tux_kernel_tuple"]
    keys = [pair.pack(local=(0, 0, 0, 1), remote=(0, 0, 0, 1), remote_port=port) for port in range(3)]
    later = boot_ns() + 60 * 10**9
    for key, last, state in zip(keys, (1, later, later), (1, 1, 6), strict=True):
        value = bytearray(conn.pack(state=state, last_ns=last, d_in=1))
        at = conn.field("tuple.local").offset
        value[at : at + pair.size] = key
        loaded.maps["conns"].update(key, bytes(value))
    assert set(loaded.maps["conns"].keys()) == set(keys)
    sweep = pins.new_sweep(loaded.maps["conns"], loaded.programs["tux_reap"], loaded.layouts)
    assert sweep.run() == Count(total=3, translated=3)
    assert set(loaded.maps["conns"].keys()) == set(keys[1:])
