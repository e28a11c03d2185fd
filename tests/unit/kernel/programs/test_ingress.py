# SPDX-License-Identifier: MIT
"""Packets from clients: the tables, and what does not fit into one."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator

import pytest

from tests.unit.kernel.programs import answer_cases, loss_cases, pass_cases
from tests.unit.kernel.programs.cases import (
    CLIENT,
    CLIENT6,
    CLIENT_PORT,
    EVEN,
    FIRST_SLOT,
    Case,
    arrange,
    at_rest,
    check,
    fresh,
    from_client,
)
from tests.unit.kernel.programs.packets import ACK
from tests.unit.kernel.programs.rig import PASS, REDIRECT, RING_BYTES, Rig, boot_ns, tuple_in
from tests.unit.kernel.programs.tagged import tagged

CASES = [*answer_cases.all_cases(), *pass_cases.all_cases(), *loss_cases.all_cases()]
BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(rig: Rig, case: Case) -> None:
    check(rig, case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_at_rest(rig: Rig, case: Case) -> None:
    check(rig, at_rest(case))


def test_no_two_cases_have_the_same_name() -> None:
    assert len(BY_NAME) == len(CASES)


def test_every_counter_of_requests_has_a_case(rig: Rig) -> None:
    """A new reason to pass, or another counter of this program, needs one. Those of SYN-ACKs cannot be counted here."""
    counters = set(rig.layouts["tux_kernel_counters"].fields)
    elsewhere = {"opened", "open_full", "open_options", "open_paused", "open_unknown"}
    elsewhere |= {"translated_out", "stale_dropped"}
    elsewhere |= {"pass_log_full"}  # below
    assert {name for case in CASES for name in case.counts} == counters - elsewhere


# ---- The log


def logging(rig: Rig) -> None:
    rig.write("control", logging=1)


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
def test_an_answer_is_logged(rig: Rig, v6: bool) -> None:
    case = BY_NAME[f"answer: even, IPv{6 if v6 else 4}"]
    done = check(rig, case.but(prepare=logging))
    (record,) = done.records
    assert done.before_ns <= int(str(record.pop("boot_ns"))) <= done.after_ns
    address = ipaddress.IPv6Address(CLIENT6 if v6 else f"::ffff:{CLIENT}")
    assert record == {
        "id": EVEN.id,
        "remote": struct.unpack("=4I", address.packed),
        "first_chunk": EVEN.first_chunk,
        "remote_port": CLIENT_PORT,
        "reserved": 0,
    }


def test_an_answer_that_the_stack_hears_of_is_logged(rig: Rig) -> None:
    done = check(rig, BY_NAME["answer: the stack hears what it acknowledges, IPv4"].but(prepare=logging))
    assert len(done.records) == 1


@pytest.mark.parametrize("name", ["again: IPv4", "unknown: another head", "translate: an acknowledgement, IPv4"])
def test_nothing_else_is_logged(rig: Rig, name: str) -> None:
    assert check(rig, BY_NAME[name].but(prepare=logging)).records == []


@pytest.mark.parametrize("of", [None, bytes(36)], ids=["dead", "became another one's"])
def test_room_for_a_record_is_given_back(rig: Rig, of: bytes | None) -> None:
    """The entry is found to be useless only under the lock."""
    request = from_client(EVEN.head)
    case = Case("", request, fresh(), seen=False, of=of or bytes(36), prepare=logging)
    assert check(rig, case).records == []


def test_no_room_in_the_log_means_no_answer(rig: Rig) -> None:
    """No line is ever lost: the request goes to the engine, which logs it itself."""
    hit = BY_NAME["answer: even, IPv4"].but(prepare=logging)
    arrange(rig, hit)
    size = 8 + rig.layouts["tux_kernel_record"].size
    for _ in range(RING_BYTES // size):
        rig.set_conn(hit.entry_key, fresh())
        assert rig.run("ingress", hit.frame, drain=False).verdict == REDIRECT
    rig.set_conn(hit.entry_key, fresh())
    done = rig.run("ingress", hit.frame, drain=False)
    assert (done.verdict, done.data, done.counts) == (PASS, hit.frame, {"pass_log_full": 1})
    rig.set_conn(hit.entry_key, fresh())
    assert len(rig.read_log()) == RING_BYTES // size
    assert rig.run("ingress", hit.frame).verdict == REDIRECT


# ---- Other things that a run leaves behind


def used_ns(rig: Rig) -> int:
    layout = rig.layouts["tux_kernel_cell"]
    return layout.number(rig.memory["cells"], "used_ns", EVEN.number * layout.size)


@pytest.mark.parametrize(("age_ns", "is_written"), [(900_000_000, False), (1_100_000_000, True)])
def test_the_last_use_is_known_to_a_second(rig: Rig, age_ns: int, is_written: bool) -> None:
    before = boot_ns() - age_ns
    case = BY_NAME["answer: even, IPv4"]
    done = check(rig, case.but(prepare=lambda rig: rig.write("cells", EVEN.number, used_ns=before)))
    if is_written:
        assert done.before_ns <= used_ns(rig) <= done.after_ns
    else:
        assert used_ns(rig) == before


def test_what_passes_uses_nothing(rig: Rig) -> None:
    check(rig, BY_NAME["busy: the worker is at it"])
    assert used_ns(rig) == 0


def test_two_requests_and_what_is_said_between_them(rig: Rig) -> None:
    """The states of several packets in a row fit together: an answer, its acknowledgement, the next answer, a lost one,
    what the engine says afterwards."""
    rig.reset()
    first = from_client(EVEN.head)
    key = tuple_in(first)
    rig.set_conn(key, fresh())
    rig.set_slot(*FIRST_SLOT)
    assert rig.run("ingress", first.encode()).verdict == REDIRECT
    second = first.but(seq=first.end, ack=first.ack + EVEN.length)
    assert rig.run("ingress", second.but(payload=b"", flags=ACK).encode()).verdict == PASS
    assert rig.run("ingress", second.encode()).counts["answered"] == 1
    assert rig.run("ingress", second.encode()).counts["resent"] == 1
    third = second.but(seq=second.end, ack=second.ack + EVEN.length, payload=b"GET /miss HTTP/1.1\r\n\r\n")
    done = rig.run("ingress", third.encode())
    assert done.counts == {"pass_unknown": 1, "translated_in": 1}
    assert done.data == third.but(seq=first.seq, ack=first.ack).encode()


# ---- Tags that are not in the frame


@pytest.fixture
def tagged_ingress(rig: Rig) -> Iterator[int]:
    with tagged(rig, "ingress") as program:
        yield program


@pytest.mark.parametrize("name", ["answer: even, IPv4", "answer: even, IPv6", "translate: an acknowledgement, IPv4"])
def test_a_tag_beside_the_frame(rig: Rig, tagged_ingress: int, name: str) -> None:
    """Packets of a VLAN are another network's."""
    case = BY_NAME[name]
    arrange(rig, case)
    before = rig.conn(case.entry_key)
    done = rig.run(tagged_ingress, case.frame)
    assert (done.verdict, done.counts) == (PASS, {})
    assert done.data == case.frame
    assert rig.conn(case.entry_key) == before
