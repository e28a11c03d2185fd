# SPDX-License-Identifier: MIT
"""Maps and programs in the kernel."""

from __future__ import annotations

import errno
import mmap
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import features
from tests.unit.kernel import layout_header
from tests.unit.kernel.blobs import LOAD_MAP, RETURN, Types, insn
from tools import fetch_peers, native
from tux.kernel import load, sys_bpf
from tux.kernel.btf import BtfError
from tux.kernel.flatten import flatten
from tux.kernel.load import Loaded, Map, can_load, kernel_version, missing_capabilities
from tux.kernel.object import MapSpec, Object, Program
from tux.kernel.sys_bpf import BpfError, MapType, VerifierError

PACKET = bytes(64)


@pytest.fixture(autouse=True)
def kernel() -> None:
    """Needs the rights, and not the object that clang makes."""
    if reason := missing_capabilities():
        pytest.skip(f"not permitted: {', '.join(reason)}")


def no_types() -> bytes:
    """The least that the kernel takes."""
    types = Types()
    types.integer("int", 4)
    return types.blob()


def tier() -> Object:
    """A map of each kind, and programs whose verdict is a value in one of them."""
    types = Types()
    u32, u64 = types.integer("unsigned int", 4), types.integer("unsigned long", 8)
    lock = types.struct("bpf_spin_lock", 4, [("val", u32, 0)])
    types.struct("locked", 16, [("lock", lock, 0), ("mark", u32, 32), ("n", u64, 64)])
    locked = types.count
    types.struct("listener", 8, [("worker", u32, 0), ("listener", u32, 32)])
    listener = types.count
    types.struct("counters", 16, [("one", u64, 0), ("two", u64, 64)])
    counters = types.count
    integer = types.integer("int", 4, signed=True)
    inner = MapSpec("tables.inner", MapType.ARRAY, 4, 12, 3, sys_bpf.MMAPABLE, 0, 0)
    maps = (
        MapSpec("numbers", MapType.ARRAY, 4, 12, 5, sys_bpf.MMAPABLE, 0, 0),
        MapSpec("things", MapType.HASH, 4, 16, 1000, 1, u32, locked),
        MapSpec("listeners", MapType.SK_STORAGE, 4, 8, 0, 1, integer, listener),
        MapSpec("counters", MapType.PERCPU_ARRAY, 4, 16, 2, 0, u32, counters),
        MapSpec("tables", MapType.ARRAY_OF_MAPS, 4, 4, 2, 0, 0, 0, inner),
        MapSpec("ring", MapType.RINGBUF, 0, 0, 4096, 0, 0, 0),
    )
    lookup = (
        insn(0x62, 0x0A, -4, 1)  # *(u32 *)(r10 - 4) = 1: the key
        + insn(0xBF, 0xA2)  # r2 = r10
        + insn(0x07, 0x02, 0, -4)  # r2 += -4
        + LOAD_MAP
        + insn(0x85, 0, 0, 1)  # r0 = bpf_map_lookup_elem(r1, r2)
        + insn(0x15, 0x00, 1, 0)  # if r0 == 0: skip one
        + insn(0x61, 0x00)  # r0 = *(u32 *)r0
        + insn(0x95)
    )
    return Object((Program("value", lookup, ((3, "numbers"),)), Program("pass", RETURN, ())), maps, types.blob())


@pytest.fixture
def loaded() -> Iterator[Loaded]:
    with load.load(tier(), {"things": 300}) as found:
        yield found


def test_maps_are_as_declared(loaded: Loaded) -> None:
    found = {name: (m.type, m.key_size, m.value_size, m.max_entries, m.flags) for name, m in loaded.maps.items()}
    assert found == {
        "numbers": (MapType.ARRAY, 4, 12, 5, sys_bpf.MMAPABLE),
        "things": (MapType.HASH, 4, 16, 300, 1),
        "listeners": (MapType.SK_STORAGE, 4, 8, 0, 1),
        "counters": (MapType.PERCPU_ARRAY, 4, 16, 2, 0),
        "tables": (MapType.ARRAY_OF_MAPS, 4, 4, 2, 0),
        "ring": (MapType.RINGBUF, 0, 0, 4096, 0),
    }
    assert sys_bpf.map_info(loaded.maps["things"].fd).name == "things"


def test_programs_run(loaded: Loaded) -> None:
    loaded.maps["numbers"].update(1, struct.pack("=iii", -2, 0, 0))
    assert sys_bpf.prog_test_run(loaded.programs["value"], PACKET).verdict == -2
    done = sys_bpf.prog_test_run(loaded.programs["pass"], PACKET, context=bytes(192), repeat=10)
    assert (done.verdict, done.data, len(done.context)) == (-1, PACKET, 192)
    info = sys_bpf.prog_info(loaded.programs["pass"])
    assert (info.type, info.name, info.translated_bytes) == (sys_bpf.SCHED_CLS, "pass", len(RETURN))


def test_descriptors_are_not_inherited(loaded: Loaded) -> None:
    fds = [loaded.btf_fd, *loaded.programs.values(), *(entry.fd for entry in loaded.maps.values())]
    assert [os.get_inheritable(fd) for fd in fds] == [False] * len(fds)


def test_closed_twice(loaded: Loaded) -> None:
    fds = [*loaded.programs.values(), *(entry.fd for entry in loaded.maps.values())]
    loaded.close()
    loaded.close()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


class TestMap:
    def test_values(self, loaded: Loaded) -> None:
        things = loaded.maps["things"]
        assert things.lookup(7) is None
        things.update(7, loaded.layouts["locked"].pack(mark=1, n=2))
        things.update(7, loaded.layouts["locked"].pack(mark=3, n=4), sys_bpf.LOCK)
        value = things.lookup(b"\x07\0\0\0", sys_bpf.LOCK)
        assert value is not None
        assert loaded.layouts["locked"].unpack(value) == {"lock": bytes(4), "mark": 3, "n": 4}
        assert things.delete(7) is True
        assert things.delete(7) is False

    def test_flags(self, loaded: Loaded) -> None:
        things = loaded.maps["things"]
        with pytest.raises(BpfError) as caught:
            things.update(1, bytes(16), sys_bpf.EXIST)
        assert caught.value.errno == errno.ENOENT
        things.update(1, bytes(16), sys_bpf.NOEXIST)
        with pytest.raises(BpfError, match="cannot write into a map: File exists"):
            things.update(1, bytes(16), sys_bpf.NOEXIST)

    def test_a_full_map(self, loaded: Loaded) -> None:
        things = loaded.maps["things"]
        for key in range(300):
            things.update(key, bytes(16))
        with pytest.raises(BpfError) as caught:
            things.update(300, bytes(16))
        assert caught.value.errno == errno.E2BIG

    def test_all_pairs(self, loaded: Loaded) -> None:
        things = loaded.maps["things"]
        assert list(things.keys()) == []
        assert list(things.items()) == []
        pairs = {key.to_bytes(4, "little"): loaded.layouts["locked"].pack(n=key) for key in range(300)}
        for key, value in pairs.items():
            things.update(key, value)
        assert sorted(things.keys()) == sorted(pairs)
        assert dict(things.items()) == pairs
        assert dict(things.items(sys_bpf.LOCK)) == pairs
        few = [len(some) for some in sys_bpf.map_lookup_batch(things.fd, 4, 16, 1)]
        assert sum(few) == 300  # a bucket with more than was asked for is not lost
        assert len(dict(loaded.maps["numbers"].items())) == 5

    def test_sizes_are_checked_before_the_kernel_reads(self, loaded: Loaded) -> None:
        things = loaded.maps["things"]
        with pytest.raises(ValueError, match="a key has 4 bytes, not 3"):
            things.lookup(bytes(3))
        with pytest.raises(ValueError, match="a key has 4 bytes, not 5"):
            things.delete(bytes(5))
        with pytest.raises(ValueError, match="a value has 16 bytes, not 15"):
            things.update(0, bytes(15))
        with pytest.raises(ValueError, match="a value has"):
            loaded.maps["counters"].update(0, bytes(16))

    def test_mapped_memory(self, loaded: Loaded) -> None:
        numbers = loaded.maps["numbers"]
        assert numbers.stride == 16
        with numbers.mmap() as area:
            assert len(area) == mmap.PAGESIZE
            area[16:20] = struct.pack("=i", 77)
            assert numbers.lookup(1) == struct.pack("=iii", 77, 0, 0)
            assert sys_bpf.prog_test_run(loaded.programs["value"], PACKET).verdict == 77
            numbers.update(4, b"twelve bytes")
            assert area[64:76] == b"twelve bytes"
        with pytest.raises(BpfError, match="cannot map the memory of things: Operation not supported"):
            loaded.maps["things"].mmap()

    def test_counters(self, loaded: Loaded) -> None:
        counters, layout = loaded.maps["counters"], loaded.layouts["counters"]
        values = [layout.pack(one=cpu, two=10) for cpu in range(sys_bpf.possible_cpus())]
        counters.update(0, b"".join(values))
        assert counters.per_cpu(0) == values
        assert counters.sums(layout) == {"one": sum(range(len(values))), "two": 10 * len(values)}
        assert counters.sums(layout, 1) == {"one": 0, "two": 0}

    def test_storage_of_a_socket(self, loaded: Loaded) -> None:
        listeners, layout = loaded.maps["listeners"], loaded.layouts["listener"]
        with socket.socket() as first, socket.socket() as second:
            listeners.update(first.fileno(), layout.pack(worker=3, listener=4))
            assert listeners.lookup(first.fileno()) == layout.pack(worker=3, listener=4)
            assert listeners.lookup(second.fileno()) is None
            assert listeners.delete(first.fileno())

    def test_maps_in_a_map(self, loaded: Loaded) -> None:
        tables = loaded.maps["tables"]
        fd = loaded.new_inner("tables")
        with sys_bpf.closing(fd):
            tables.update(1, fd)
            info = sys_bpf.map_info(fd)
        assert (info.type, info.value_size, info.max_entries, info.flags) == (MapType.ARRAY, 12, 3, sys_bpf.MMAPABLE)
        assert tables.lookup(1) == info.id.to_bytes(4, "little")
        assert tables.lookup(0) is None
        with pytest.raises(BpfError, match="Invalid argument"):
            tables.update(0, loaded.maps["numbers"].fd)  # not like those inside
        for name in ("numbers", "nothing"):
            with pytest.raises(KeyError):
                loaded.new_inner(name)


def test_waiting_for_programs_leaves_nothing(loaded: Loaded) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    sys_bpf.wait_for_programs()
    assert sorted(os.listdir("/proc/self/fd")) == before


class TestRefusals:
    def test_the_verifier_says_why(self) -> None:
        bad = Object((Program("bad", insn(0x95), ()),), (), no_types())
        with pytest.raises(
            VerifierError, match=r"(?s)cannot load the program bad: Permission denied.*R0 !read_ok"
        ) as caught:
            load.load(bad)
        assert caught.value.errno == errno.EACCES
        assert "R0 !read_ok" in caught.value.log

    def test_a_long_log_is_cut_at_its_start(self) -> None:
        error = VerifierError(errno.EACCES, "load", "\n".join(f"line {n}" for n in range(1000)))
        assert str(error).splitlines()[0] == "cannot load: Permission denied"
        assert str(error).splitlines()[1:] == [f"line {n}" for n in range(1000 - sys_bpf.LOG_TAIL_LINES, 1000)]

    def test_no_program_at_all(self) -> None:
        with pytest.raises(BpfError, match="cannot load the program none"):
            load.load(Object((Program("none", b"", ()),), (), no_types()))

    def test_type_information(self) -> None:
        types = Types()
        types.struct("s", 4, [("m", 77, 0)])
        with pytest.raises(VerifierError, match="cannot load the type information"):
            load.load(Object((), (), types.blob()))
        with pytest.raises(BtfError):
            load.load(Object((), (), b"nothing"))

    def test_a_map(self) -> None:
        with pytest.raises(BpfError, match="cannot create the map m: Invalid argument"):
            load.load(Object((), (MapSpec("m", MapType.ARRAY, 8, 8, 1, 0, 0, 0),), no_types()))

    def test_a_size_of_no_map(self) -> None:
        with pytest.raises(KeyError):
            load.load(tier(), {"nothing": 1})

    def test_nothing_is_left_open(self) -> None:
        before = sorted(os.listdir("/proc/self/fd"))
        whole = tier()
        with pytest.raises(VerifierError):
            load.load(Object((*whole.programs, Program("bad", insn(0x95), ())), whole.maps, whole.btf))
        assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def bpffs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    features.require("root")
    folder = tmp_path_factory.mktemp("bpffs")
    subprocess.run(["mount", "-t", "bpf", "bpf", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


class TestPins:
    def test_a_map_is_found_again(self, loaded: Loaded, bpffs: Path) -> None:
        loaded.maps["numbers"].update(2, b"twelve bytes")
        loaded.maps["numbers"].pin(bpffs / "numbers")
        with pytest.raises(BpfError, match=r"cannot pin .*numbers: File exists"):
            loaded.maps["numbers"].pin(bpffs / "numbers")
        loaded.close()
        found = Map.open(bpffs / "numbers")
        assert (found.name, found.value_size, found.lookup(2)) == ("numbers", 12, b"twelve bytes")
        found.close()

    def test_what_is_pinned_is_known(self, loaded: Loaded, bpffs: Path) -> None:
        sys_bpf.obj_pin(loaded.programs["pass"], str(bpffs / "program"))
        with sys_bpf.closing(fd := sys_bpf.obj_get(str(bpffs / "program"))):
            assert sys_bpf.kind_of(fd) == "prog"
        assert sys_bpf.kind_of(loaded.maps["ring"].fd) == "map"
        with socket.socket() as other:
            assert sys_bpf.kind_of(other.fileno()) == ""
        with pytest.raises(BpfError, match="what is no map"):
            Map.open(bpffs / "program")

    def test_no_pin(self, bpffs: Path) -> None:
        with pytest.raises(BpfError) as caught:
            Map.open(bpffs / "nothing")
        assert caught.value.errno == errno.ENOENT

    def test_not_in_a_bpffs(self, loaded: Loaded, tmp_path: Path) -> None:
        with pytest.raises(BpfError, match=r"cannot pin .*: Operation not permitted"):
            loaded.maps["ring"].pin(tmp_path / "ring")


STATUS = "Name:\tpython\nCapInh:\t0000000000000000\nCapEff:\t%016x\nCapBnd:\t0000000000000000\n"


class TestMayIt:
    @pytest.mark.parametrize(
        ("held", "missing"),
        [
            (0, ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]),
            (1 << 12, ["CAP_PERFMON", "CAP_BPF"]),
            (1 << 12 | 1 << 38 | 1 << 39, []),
            (1 << 12 | 1 << 21, []),
            (1 << 21, ["CAP_NET_ADMIN"]),
        ],
    )
    def test_capabilities(self, held: int, missing: list[str]) -> None:
        assert missing_capabilities(STATUS % held) == missing

    def test_a_status_that_cannot_be_read(self) -> None:
        assert missing_capabilities("") == ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]

    @pytest.mark.parametrize(
        ("release", "version"),
        [("6.1.0-18-amd64", (6, 1)), ("5.15", (5, 15)), ("10.2-rc1", (10, 2)), ("odd", (0, 0))],
    )
    def test_versions(self, release: str, version: tuple[int, int]) -> None:
        assert kernel_version(release) == version

    def test_without_capabilities(self) -> None:
        """In a process that gave up root."""
        features.require("root")
        code = (
            "import os\n"
            "from tux.kernel import load\n"
            "load.read_object = lambda: None\n"
            "load.missing_capabilities()  # all that this imports must be there before\n"
            "os.setuid(65534)\n"
            "print(load.can_load())\n"
        )
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert done.stdout == "the kernel tier needs CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF\n"

    def test_without_an_object(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing() -> Object:
            raise FileNotFoundError

        monkeypatch.setattr(load, "read_object", missing)
        assert "clang was missing when it was built" in can_load()

    def test_on_an_old_kernel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(load, "OLDEST_KERNEL", (99, 1))
        assert can_load().startswith("the kernel tier needs Linux 99.1 or later; this is ")

    @pytest.mark.parametrize(
        ("number", "reason"),
        [
            (errno.ENOSYS, "CONFIG_BPF_SYSCALL"),
            (errno.EPERM, "in spite of all capabilities"),
            (errno.ENOMEM, "cannot load the program tux_probe"),
        ],
    )
    def test_refused(self, monkeypatch: pytest.MonkeyPatch, number: int, reason: str) -> None:
        def refuse(*_: object, **__: object) -> int:
            raise BpfError(number, "load the program tux_probe")

        monkeypatch.setattr(load, "read_object", tier)
        monkeypatch.setattr(sys_bpf, "prog_load", refuse)
        assert reason in can_load()

    def test_on_another_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "s390x")
        assert can_load() == "the kernel tier is not made for s390x"
        with pytest.raises(BpfError, match="Function not implemented"):
            sys_bpf.btf_load(no_types())


class TestTier:
    """The object of this installation."""

    @pytest.fixture
    def real(self) -> Iterator[Loaded]:
        features.require("kernel")
        with load.load(load.read_object()) as found:
            yield found

    def test_it_loads(self, real: Loaded) -> None:
        assert set(real.programs) == {"tux_egress", "tux_ingress", "tux_reap"}
        for fd in (real.programs["tux_ingress"], real.programs["tux_egress"]):
            done = sys_bpf.prog_test_run(fd, PACKET)
            assert (done.verdict, done.data) == (-1, PACKET)

    def test_libbpf_makes_the_same_of_it(self, tmp_path: Path, bpffs: Path) -> None:
        """bpftool loads what the compiler wrote; here the same is flattened and loaded."""
        for name in ("bpf", "kernel", "peers"):
            features.require(name)
        try:
            bpftool = fetch_peers.peer("bpftool")
        except fetch_peers.FetchError as error:
            pytest.skip(str(error))
        source, file = native.ROOT / "src/tux/kernel/bpf/tier.bpf.c", tmp_path / "tier.o"
        native.compile_bpf(source, file)
        for folder in ("programs", "maps"):
            (bpffs / folder).mkdir()
        pins = (f"{bpffs}/programs", "type", "classifier", "pinmaps", f"{bpffs}/maps")
        done = subprocess.run(
            [bpftool.path, "prog", "loadall", file, *pins], env=os.environ | bpftool.env, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()
        with load.load(flatten(file.read_bytes())) as ours:
            assert {path.name for path in (bpffs / "maps").iterdir()} == ours.maps.keys()
            for name, own in ours.maps.items():
                theirs = Map.open(bpffs / "maps" / name)
                theirs.close()
                facts = ("type", "key_size", "value_size", "max_entries", "flags")
                assert {fact: getattr(theirs, fact) for fact in facts} == {fact: getattr(own, fact) for fact in facts}
            assert {path.name for path in (bpffs / "programs").iterdir()} == ours.programs.keys()
            for name, own_fd in ours.programs.items():
                with sys_bpf.closing(their_fd := sys_bpf.obj_get(str(bpffs / "programs" / name))):
                    theirs_info, own_info = sys_bpf.prog_info(their_fd), sys_bpf.prog_info(own_fd)
                assert theirs_info.translated_bytes == own_info.translated_bytes
                assert (theirs_info.type, theirs_info.name) == (own_info.type, own_info.name)

    def test_its_structs_are_those_of_the_headers(self, real: Loaded) -> None:
        expected = layout_header.layouts()
        known = {name for name in expected if name in real.layouts}
        assert {"tux_kernel_conn", "tux_kernel_control", "tux_kernel_message", "tux_kernel_counters"} <= known
        for name in known - {"bpf_spin_lock"}:
            found = real.layouts[name]
            assert found.size == expected[name].size, name
            assert {key: (f.offset, f.size, f.count) for key, f in found.fields.items()} == {
                key: (f.offset, f.size, f.count) for key, f in expected[name].fields.items()
            }, name
