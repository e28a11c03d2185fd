# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The binding between Python and the engine. Its types and documentation are in _engine.pyi."""

import errno as _errno
import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.errno cimport EAGAIN
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close, dup, pread


cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    enum:
        POLLIN
    int poll(pollfd *fds, unsigned long nfds, int timeout)


ABSENT = TUX_FOUND_ABSENT
FILE = TUX_FOUND_FILE
FOLDER = TUX_FOUND_FOLDER
SPECIAL = TUX_FOUND_SPECIAL
DENIED = TUX_FOUND_DENIED
ESCAPE = TUX_FOUND_ESCAPE
ERROR = TUX_FOUND_ERROR

REMEMBER = TUX_PLAN_REMEMBER
EXACT = TUX_PLAN_EXACT
RANGE = TUX_PLAN_RANGE
CLOSE = TUX_PLAN_CLOSE
NO_BODY = TUX_PLAN_NO_BODY
PUBLISH = TUX_PLAN_PUBLISH
NEXT = TUX_PLAN_NEXT

LIMITS = {
    "target_bytes": TUX_MAX_TARGET_BYTES,
    "head_bytes": TUX_MAX_HEAD_BYTES,
    "fields": TUX_MAX_FIELDS,
    "body_bytes": TUX_MAX_BODY_BYTES,
    "drain_bytes": TUX_MAX_DRAIN_BYTES,
    "connections": TUX_MAX_CONNECTIONS,
    "pipelined": TUX_MAX_PIPELINED,
    "head_timeout_ms": TUX_HEAD_TIMEOUT_MS,
    "idle_timeout_ms": TUX_IDLE_TIMEOUT_MS,
    "stall_timeout_ms": TUX_STALL_TIMEOUT_MS,
    "memo_bytes": TUX_MEMO_BYTES,
    "memo_files": TUX_MEMO_FILES,
    "held_bytes": TUX_HELD_BYTES,
    "small_body_bytes": TUX_SMALL_BODY_BYTES,
    "recheck_ms": TUX_RECHECK_MS,
}

# How long a blocked reply waits before it looks whether the engine still runs, in milliseconds.
cdef int REPLY_POLL_MS = 200
# Replies after which the engine is woken although more asks wait: a wake-up costs half as much as a plan, and the
# first of them waits for no more than this.
cdef uint32_t REPLIES_PER_WAKE = 8
# Tries to read a file between two equal fstat results: one more than a busy writer deserves.
cdef int READ_TRIES = 3


cdef tuple _field_names():
    names = [""] * TUX_FIELD_COUNT
    for i in range(TUX_FIELD_SLOTS):
        if tux_field_slots[i].len:
            names[tux_field_slots[i].id] = tux_field_slots[i].name[:tux_field_slots[i].len].decode("ascii")
    return tuple(names)


FIELD_NAMES = _field_names()
SIGNIFICANT_BY_DEFAULT = frozenset(
    name for i, name in enumerate(FIELD_NAMES) if name and (<uint32_t> TUX_SIGNIFICANT_BY_DEFAULT >> i) & 1
)
cdef tuple _names = FIELD_NAMES


cdef inline uint64_t _now_ms() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t> now.tv_sec * 1000 + <uint64_t> now.tv_nsec // 1000000


cdef inline str _text(const uint8_t *base, tux_span span):
    return PyUnicode_DecodeLatin1(<const char *> base + span.off, span.len, NULL)


# -- files ---------------------------------------------------------------------------------------------------------


cdef class Found:
    cdef readonly uint32_t root
    cdef readonly bytes path
    cdef readonly bytes data
    cdef readonly int fd
    cdef readonly bint hidden
    cdef tux_found found

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)

    @property
    def kind(self):
        return self.found.kind

    @property
    def error(self):
        return self.found.error

    @property
    def size(self):
        return self.found.identity.size

    @property
    def mtime_ns(self):
        return self.found.identity.mtime_ns

    @property
    def mode(self):
        return self.found.identity.mode

    @property
    def dev(self):
        return self.found.identity.dev

    @property
    def ino(self):
        return self.found.identity.ino

    def __repr__(self):
        kinds = ("ABSENT", "FILE", "FOLDER", "SPECIAL", "DENIED", "ESCAPE", "ERROR")
        return f"<Found {kinds[self.found.kind]} root={self.root} path={self.path!r} size={self.size}>"


cdef class Roots:
    cdef tux_roots *roots
    cdef object hidden  # of those who must not have it: called with an open file

    def __cinit__(self, paths=(), hidden=None):
        self.roots = tux_roots_new()
        if self.roots is NULL:
            raise MemoryError

    def __init__(self, paths=(), hidden=None):
        self.hidden = hidden
        for path in paths:
            self.add(path)

    def __dealloc__(self):
        tux_roots_free(self.roots)

    @property
    def guarded(self):
        return self.hidden is not None

    def add(self, bytes path):
        if b"\0" in path:
            raise ValueError(f"NUL in the path of a root: {path!r}")
        cdef int index = tux_roots_add(self.roots, path)
        if index < 0:
            raise OSError(-index, os.strerror(-index), path)
        return index

    def look(self, uint32_t root, bytes path):
        cdef Found result = Found.__new__(Found)
        result.root = root
        result.path = path
        tux_files_look(self.roots, root, PyBytes_AS_STRING(path), len(path), _now_ms(), False, &result.found)
        return result

    def load(self, uint32_t root, bytes path, uint64_t limit):
        cdef Found result = Found.__new__(Found)
        cdef tux_identity after
        cdef int fd
        result.root = root
        result.path = path
        for _ in range(READ_TRIES):
            fd = tux_files_open(self.roots, root, PyBytes_AS_STRING(path), len(path), _now_ms(), &result.found)
            if fd < 0:
                return result
            if self.hidden is not None and self._hides(fd, result):
                close(fd)
                return result
            if result.found.identity.size > limit:
                result.fd = fd
                return result
            result.data = _read_whole(fd, <size_t> result.found.identity.size)
            if result.data is not None and tux_files_identity(fd, &after) and tux_identity_equal(
                &after, &result.found.identity
            ):
                close(fd)
                return result
            close(fd)
        result.data = None
        result.found.kind = TUX_FOUND_ERROR
        result.found.error = EAGAIN
        return result

    def open_folder(self, uint32_t root, bytes path):
        cdef Found result = Found.__new__(Found)
        result.root = root
        result.path = path
        result.fd = tux_files_open_folder(
            self.roots, root, PyBytes_AS_STRING(path), len(path), _now_ms(), &result.found
        )
        if result.fd >= 0 and self.hidden is not None and self._hides(result.fd, result):
            close(result.fd)
            result.fd = -1
        return result

    cdef bint _hides(self, int fd, Found result) except -1:
        """Nothing of the file is to be read."""
        try:
            result.hidden = self.hidden(fd)
        except OSError as error:
            result.found.kind = TUX_FOUND_ERROR
            result.found.error = error.errno
            return True
        return result.hidden


cdef bytes _read_whole(int fd, size_t size):
    cdef bytes data = PyBytes_FromStringAndSize(NULL, size)
    cdef char *at = PyBytes_AS_STRING(data)
    cdef size_t got = 0
    cdef ssize_t n
    while got < size:
        n = pread(fd, at + got, size - got, got)
        if n <= 0:
            return None
        got += n
    return data


# -- routes --------------------------------------------------------------------------------------------------------

include "_routes.pxi"


def decode_path(bytes path not None):
    cdef size_t length = 0
    cdef bytes out = PyBytes_FromStringAndSize(NULL, len(path) + 1)
    cdef uint16_t status = tux_path_decode(<const uint8_t *> PyBytes_AS_STRING(path), len(path),
                                           <uint8_t *> PyBytes_AS_STRING(out), &length, NULL)
    return status if status else out[:length]


# -- the planner's end of the rings --------------------------------------------------------------------------------


cdef class Ask:
    cdef readonly uint64_t id
    cdef readonly str method, target, path, query, host, peer
    cdef readonly int minor, listener
    cdef readonly dict fields
    cdef readonly object root
    cdef readonly bint signed, plain_range, has_body, expect_other

    def __repr__(self):
        return f"<Ask {self.id:#x} {self.method} {self.target}>"


cdef Ask _ask_of(const tux_ask_view *view):
    cdef const tux_ask_record *record = view.record
    cdef const tux_head_field *field
    cdef Ask ask = Ask.__new__(Ask)
    cdef uint32_t i
    cdef str name, value
    ask.id = record.id
    ask.method = _text(view.head, record.method)
    ask.target = _text(view.head, record.target)
    ask.path = _text(view.head, record.path)
    ask.query = _text(view.head, record.query) if record.flags & TUX_ASK_HAS_QUERY else None
    ask.host = _text(view.head, record.host)
    ask.peer = PyUnicode_DecodeLatin1(record.peer, record.peer_len, NULL)
    ask.minor = record.minor
    ask.listener = record.listener
    ask.signed = (record.flags & TUX_ASK_SIGNED) != 0
    ask.plain_range = (record.flags & TUX_ASK_PLAIN_RANGE) != 0
    ask.has_body = (record.flags & TUX_ASK_HAS_BODY) != 0
    ask.expect_other = (record.flags & TUX_ASK_EXPECT_OTHER) != 0
    if record.flags & TUX_ASK_INTERNAL:
        ask.root = -1 if record.root == TUX_NO_ROUTE else record.root
    ask.fields = {}
    for i in range(record.n_fields):
        field = &view.fields[i]
        name = _names[field.id] if field.id else _text(view.head, field.name).lower()
        value = _text(view.head, field.value)
        if name in ask.fields:
            value = ask.fields[name] + ", " + value
        ask.fields[name] = value
    return ask


include "_recipe.pxi"


cdef class Port:
    cdef tux_ring asks, replies
    cdef Engine engine
    cdef uint32_t unwoken  # replies that the engine was not woken for

    def __dealloc__(self):
        if self.asks.capacity:
            tux_ring_close(&self.asks)
        if self.replies.capacity:
            tux_ring_close(&self.replies)

    def fileno(self):
        return self.asks.data_eventfd

    def take(self):
        cdef const void *payload = NULL
        cdef uint32_t size = 0
        cdef tux_ask_view view
        cdef Ask ask
        while tux_ring_read(&self.asks, &payload, &size) == 1:
            if tux_wire_ask(payload, size, &view):
                ask = _ask_of(&view)
                tux_ring_release(&self.asks)
                return ask
            tux_ring_release(&self.asks)
        self._wake()
        return None

    cdef void _wake(self):
        if self.unwoken:
            self.unwoken = 0
            tux_ring_wake(&self.replies)

    def sleep(self):
        return tux_ring_reader_sleep(&self.asks)

    def awake(self):
        tux_ring_reader_awake(&self.asks)

    def reply(self, uint64_t ask_id, uint16_t status, bytes head not None, *, bytes body not None=b"",
              int64_t body_len=-1, Found file=None, uint64_t offset=0, uint32_t flags=0, int64_t ttl_ms=-1,
              checks=(), Recipe recipe=None):
        cdef size_t n_checks = len(checks)
        cdef size_t paths_len = 0
        cdef size_t inline_len = 0 if file is not None else len(body)
        cdef Found check
        for check in checks:
            if len(check.path) > TUX_MAX_PATH_BYTES:
                raise ValueError(f"a check of a path of {len(check.path)} bytes (at most {TUX_MAX_PATH_BYTES})")
            paths_len += len(check.path)
        if n_checks > TUX_MAX_CHECKS or inline_len > TUX_MAX_REPLY_BODY or not 0 < len(head) <= TUX_MAX_REPLY_HEAD:
            raise ValueError(
                f"reply out of bounds: {n_checks} checks (at most {TUX_MAX_CHECKS}), {inline_len} body bytes "
                f"(at most {TUX_MAX_REPLY_BODY}), {len(head)} head bytes (1 to {TUX_MAX_REPLY_HEAD})"
            )
        if recipe is not None and recipe.say.head_len > <size_t> len(head):
            raise ValueError(f"a recipe for {recipe.say.head_len} of {len(head)} head bytes")
        if file is not None and (file.fd < 0 or body_len < 0):
            raise ValueError("a file body needs an open descriptor and body_len")
        cdef size_t size = (
            sizeof(tux_reply_record) + n_checks * sizeof(tux_wire_check) + paths_len + len(head) + inline_len
        )
        cdef char *at = <char *> self._reserve(<uint32_t> size)
        if at is NULL:
            return False
        cdef tux_reply_record *record = <tux_reply_record *> at
        memset(record, 0, sizeof(tux_reply_record))
        record.id = ask_id
        record.flags = flags
        record.ttl_ms = 0xFFFFFFFF if ttl_ms < 0 else <uint32_t> min(ttl_ms, 0xFFFFFFFE)
        record.head_len = len(head)
        record.n_checks = n_checks
        record.paths_len = paths_len
        record.inline_len = inline_len
        record.body_len = inline_len if body_len < 0 else body_len
        record.body_offset = offset
        record.fd = -1 if file is None else file.fd
        record.status = status
        if recipe is not None:
            record.recipe = recipe.say
        at += sizeof(tux_reply_record)
        cdef tux_wire_check *slot = <tux_wire_check *> at
        cdef char *paths = at + n_checks * sizeof(tux_wire_check)
        for check in checks:
            slot.root = check.root
            slot.path_len = len(check.path)
            slot.expected = check.found
            memcpy(paths, PyBytes_AS_STRING(check.path), len(check.path))
            paths += len(check.path)
            slot += 1
        memcpy(paths, PyBytes_AS_STRING(head), len(head))
        paths += len(head)
        memcpy(paths, PyBytes_AS_STRING(body), inline_len)
        if file is not None:
            file.fd = -1  # the plan owns it from here on
        tux_ring_commit(&self.replies, <uint32_t> size)
        self.unwoken += 1
        if self.unwoken >= REPLIES_PER_WAKE or not tux_ring_waits(&self.asks):
            self._wake()
        return True

    cdef void *_reserve(self, uint32_t size):
        """Room in the reply ring, waiting for it if need be; NULL when the engine is gone."""
        cdef void *room = tux_ring_reserve(&self.replies, size)
        cdef pollfd waiting
        while room is NULL:
            if self.engine is None or not self.engine.running:
                return NULL
            self._wake()
            if tux_ring_writer_sleep(&self.replies, size):
                waiting.fd = self.replies.space_eventfd
                waiting.events = POLLIN
                waiting.revents = 0
                with nogil:
                    poll(&waiting, 1, REPLY_POLL_MS)
                tux_ring_writer_awake(&self.replies)
            room = tux_ring_reserve(&self.replies, size)
        return room


cdef int _attach(tux_ring *ring, const tux_ring *other) except -1:
    cdef int result = tux_ring_attach(
        ring, dup(other.memfd), dup(other.data_eventfd), dup(other.space_eventfd), other.capacity
    )
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return 0


# -- the engine ----------------------------------------------------------------------------------------------------


cdef int _set_limit(tux_engine_limits *limits, str name, value) except -1:
    if name == "target_bytes":
        limits.target_bytes = value
    elif name == "head_bytes":
        limits.head_bytes = value
    elif name == "fields":
        limits.fields = value
    elif name == "body_bytes":
        limits.body_bytes = value
    elif name == "drain_bytes":
        limits.drain_bytes = value
    elif name == "connections":
        limits.connections = value
    elif name == "pipelined":
        limits.pipelined = value
    elif name == "head_timeout_ms":
        limits.head_timeout_ms = value
    elif name == "idle_timeout_ms":
        limits.idle_timeout_ms = value
    elif name == "stall_timeout_ms":
        limits.stall_timeout_ms = value
    elif name == "memo_bytes":
        limits.memo_bytes = value
    elif name == "memo_files":
        limits.memo_files = value
    elif name == "held_bytes":
        limits.held_bytes = value
    elif name not in ("small_body_bytes", "recheck_ms"):  # the planner's, not the engine's
        raise ValueError(f"unknown limit {name!r}; known: {', '.join(LIMITS)}")
    return 0


cdef tux_log_format _log_format(str name) except *:
    formats = {"common": TUX_LOG_COMMON, "combined": TUX_LOG_COMBINED, "json": TUX_LOG_JSON}
    if name not in formats:
        raise ValueError(f"log_format: one of {', '.join(formats)} expected, got {name!r}")
    return formats[name]


cdef class Engine:
    cdef tux_engine *engine
    cdef readonly Port port
    cdef RouteTable routes
    cdef bint running

    def __init__(self, *, bytes key not None, uint32_t generation=0, significant=(), roots=(), RouteTable routes=None,
                 limits=None, int log_fd=-1, str log_format="common"):
        cdef tux_engine_config config
        cdef const char **paths
        cdef int error
        if self.engine is not NULL:
            raise RuntimeError("an engine is initialised once")
        if len(key) != 16:
            raise ValueError(f"key: 16 bytes expected, got {len(key)}")
        tux_engine_defaults(&config)
        memcpy(config.sign.key, PyBytes_AS_STRING(key), 16)
        for name in significant:
            if name not in FIELD_NAMES or not name:
                raise ValueError(f"field {name!r} cannot be part of a signature")
            config.sign.significant |= <uint32_t> 1 << FIELD_NAMES.index(name)
        config.generation = generation
        for name, value in (limits or {}).items():
            _set_limit(&config.limits, name, value)
        config.log_fd = log_fd
        config.log_format = _log_format(log_format)
        if routes is not None:
            config.routes = routes.table
        self.routes = routes
        kept = [bytes(root) for root in roots]  # their memory must outlive the call
        paths = <const char **> calloc(len(kept) + 1, sizeof(char *))
        if paths is NULL:
            raise MemoryError
        try:
            for i, root in enumerate(kept):
                paths[i] = PyBytes_AS_STRING(root)
            config.roots = paths
            config.n_roots = len(kept)
            error = tux_engine_new(&config, &self.engine)
        finally:
            free(paths)
        if error < 0:
            raise OSError(-error, f"engine: {os.strerror(-error)}")
        self.port = Port.__new__(Port)
        self.port.engine = self
        self.running = True
        _attach(&self.port.asks, tux_engine_asks(self.engine))
        _attach(&self.port.replies, tux_engine_replies(self.engine))

    def __dealloc__(self):
        if self.engine is not NULL:
            tux_engine_free(self.engine)

    cdef int _open(self) except -1:
        if self.engine is NULL:
            raise RuntimeError("the engine is closed")
        return 0

    def listen(self, int fd, *, uint32_t listener, bint shared=False):
        self._open()
        _check(tux_engine_listen(self.engine, fd, listener, shared))

    def canned(self, uint16_t status, bytes head not None, bytes body not None, uint32_t pages=0):
        self._open()
        cdef int error = tux_engine_canned(self.engine, pages, status, PyBytes_AS_STRING(head), len(head),
                                           PyBytes_AS_STRING(body), len(body))
        if error == -_errno.ENOENT:
            raise ValueError(f"the engine never answers {status} by itself")
        _check(error)

    def own(self, uint64_t dev, uint64_t ino):
        self._open()
        _check(tux_engine_own(self.engine, dev, ino))

    def trust(self, networks, bint proxy_protocol=False):
        self._open()
        _set_trust(self.engine, networks, proxy_protocol)

    def app(self, *, uint32_t queue, uint64_t queue_timeout_ms, bint accel=True, int64_t sendfile_root=-1,
            bint hands_on_404=False):
        self._open()
        return _add_app(self.engine, queue, queue_timeout_ms, accel, sendfile_root, hands_on_404)

    def link_app(self, uint32_t app, uint64_t serial, *descriptors):
        self._open()
        _link_app(self.engine, app, serial, descriptors)

    def unlink_app(self, uint64_t serial):
        self._open()
        _check(tux_engine_unlink_app(self.engine, serial))

    def upstream(self, servers, **options):
        self._open()
        return _add_upstream(self.engine, list(servers), options)

    def upstream_failures(self, uint32_t group, uint32_t server):
        self._open()
        return _upstream_failures(self.engine, group, server)

    def upstream_health(self, uint32_t group, uint32_t server, /, *, bint healthy):
        self._open()
        tux_upstream_health(self.engine, group, server, healthy)

    def kernel(self, *, int slots_fd, int cells_fd, int message_fd, bytes secret not None, listeners, uint32_t hits,
               uint32_t max_answer_bytes):
        cdef tux_kernel_config config
        cdef uint32_t *indices
        cdef int error
        self._open()
        if len(secret) != 16:
            raise ValueError(f"secret: 16 bytes expected, got {len(secret)}")
        memset(&config, 0, sizeof(config))
        config.slots_fd = slots_fd
        config.cells_fd = cells_fd
        config.message_fd = message_fd
        config.hits = hits
        config.max_answer_bytes = max_answer_bytes
        memcpy(config.secret, PyBytes_AS_STRING(secret), 16)
        indices = <uint32_t *> calloc(len(listeners) + 1, sizeof(uint32_t))
        if indices is NULL:
            raise MemoryError
        try:
            for i, index in enumerate(listeners):
                indices[i] = index
            config.listeners = indices
            config.n_listeners = len(listeners)
            error = tux_engine_kernel(self.engine, &config)
        finally:
            free(indices)
        if error < 0:
            raise OSError(-error, f"kernel tier: {os.strerror(-error)}")

    def run(self):
        self._open()
        cdef int error
        with nogil:
            error = tux_engine_run(self.engine)
        self.running = False
        if error < 0:
            raise OSError(-error, f"event loop: {os.strerror(-error)}")

    def drain(self, uint64_t grace_ms):
        self._open()
        tux_engine_drain(self.engine, grace_ms)

    def leaving_fd(self):
        self._open()
        return tux_engine_leaving_fd(self.engine)

    def reopen_log(self, int fd):
        self._open()
        tux_engine_reopen_log(self.engine, fd)

    def end_log(self):
        self._open()
        with nogil:
            tux_engine_end_log(self.engine)

    def stats(self):
        cdef tux_counter_entry entries[TUX_STATS_COUNT]
        self._open()
        tux_engine_read_stats(self.engine, entries)
        return {entries[i].name.decode("ascii"): entries[i].value for i in range(TUX_STATS_COUNT)}

    def close(self):
        self._open()
        cdef uint64_t leaked = tux_engine_free(self.engine)
        self.engine = NULL
        self.port.engine = None
        return {"objects": leaked, "plans": tux_plans_alive}


# -- the supervisor's part of the kernel tier -----------------------------------------------------------------------


def head_key(bytes secret not None, bytes head not None, uint32_t listener):
    cdef tux_kernel_key key
    cdef uint64_t words[2]
    if len(secret) != 16:
        raise ValueError(f"secret: 16 bytes expected, got {len(secret)}")
    memcpy(words, PyBytes_AS_STRING(secret), 16)
    if not tux_kernel_key_of_head(words, PyBytes_AS_STRING(head), len(head), listener, &key):
        raise ValueError(f"a head of {len(head)} bytes (1 to {TUX_KERNEL_MAX_HEAD_BYTES})")
    return key.lo, key.hi, key.length


cdef class KernelLog:
    cdef tux_kernellog *log

    def __init__(self, int ring_fd, size_t ring_bytes, int out_fd, str log_format not None):
        if self.log is not NULL:
            raise RuntimeError("a log is initialised once")
        cdef int error = tux_kernellog_new(ring_fd, ring_bytes, out_fd, _log_format(log_format), &self.log)
        if error < 0:
            raise OSError(-error, f"log of the kernel tier: {os.strerror(-error)}")

    def __dealloc__(self):
        tux_kernellog_free(self.log)

    cdef int _open(self) except -1:
        if self.log is NULL:
            raise RuntimeError("the log is closed")
        return 0

    def add(self, uint64_t answer_id, uint32_t first_chunk, bytes head not None, uint16_t status, uint64_t body_bytes):
        self._open()
        cdef int error = tux_kernellog_add(
            self.log, answer_id, first_chunk, PyBytes_AS_STRING(head), len(head), status, body_bytes
        )
        if error == -_errno.EINVAL:
            raise ValueError(f"chunk {first_chunk}, or a head of {len(head)} bytes: out of bounds")
        if error < 0:
            raise MemoryError

    def remove(self, uint32_t first_chunk, uint64_t answer_id):
        self._open()
        tux_kernellog_remove(self.log, first_chunk, answer_id)

    def drain(self, int64_t wall_offset_ns, uint32_t max_records=65536):
        cdef int taken
        self._open()
        with nogil:
            taken = tux_kernellog_drain(self.log, wall_offset_ns, max_records)
        if taken < 0:
            raise OSError(-taken, os.strerror(-taken))
        return taken

    def reopen(self, int fd):
        self._open()
        _check(tux_kernellog_reopen(self.log, fd))

    def counts(self):
        self._open()
        cdef tux_kernellog_counts counts = tux_kernellog_count(self.log)
        return {"lines": counts.lines, "unknown": counts.unknown}

    def close(self):
        tux_kernellog_free(self.log)
        self.log = NULL


include "_applications.pxi"
include "_forwarding.pxi"
include "_parsers.pxi"
