# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The binding between an application's process and the rings. Its types and documentation are in _app.pyi."""

import collections
import os
import struct

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset, strlen
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, open as c_open
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close as c_close, dup, pread, usleep, write


REQUEST = 0
BODY = 1
CREDIT = 2
GONE = 3
DRAIN = 4
ENGINE_GONE = 5
OBJECT = 6
WINDOW = TUX_APP_WINDOW_BYTES

# Where a key has what: serial | link | tag.
cdef int TAG_BITS = 20
cdef int LINK_BITS = 12
cdef uint64_t TAG_MASK = (1 << 20) - 1
cdef uint64_t LINK_MASK = (1 << 12) - 1

# In the epoll set: what is not the side socket of a link.
cdef uint64_t FROM_ENGINE = 0
cdef uint64_t FROM_CONTROL = 1
cdef uint64_t FROM_DRAIN = 2
cdef uint64_t FROM_SIDES = 16

# Pause while a ring is full, in microseconds: the engine empties it in each turn.
cdef int FULL_PAUSE_US = 100
# Uses of a request's body are told in portions: a quarter of the window, so that it never runs dry for that.
cdef uint32_t CREDIT_BYTES = TUX_APP_WINDOW_BYTES // 4
# How often the process's size is looked at, in nanoseconds: a look takes two microseconds.
cdef uint64_t MEMORY_NS = 100000000
cdef int EVENTS = 16
# How long requests take before anything is known of it, and at most: whole seconds make no difference.
cdef uint64_t MAX_PACE_NS = 1000000000
cdef int64_t MAX_REMEMBER_MS = 0xFFFFFFFF

cdef long PAGE_BYTES = os.sysconf("SC_PAGESIZE")


class LengthError(ValueError):
    pass


cdef list _field_names():
    names = [b""] * TUX_FIELD_COUNT
    for i in range(TUX_FIELD_SLOTS):
        if tux_field_slots[i].len:
            names[tux_field_slots[i].id] = <bytes> tux_field_slots[i].name[:tux_field_slots[i].len]
    return names


cdef list _names = _field_names()
cdef str _GET = "GET"
cdef str _POST = "POST"
cdef str _HTTP = "http"
cdef str _HTTPS = "https"
cdef bytes _EMPTY = b""
cdef bytes _HOST = b"host"
cdef bytes _SLASH = b"/"


cdef inline uint64_t _now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t> now.tv_sec * 1000000000 + <uint64_t> now.tv_nsec


cdef inline bytes _bytes(const uint8_t *base, uint32_t off, uint32_t length):
    return PyBytes_FromStringAndSize(<const char *> base + off, length) if length else _EMPTY


cdef bytes _lower(const uint8_t *name, uint32_t length):
    cdef bytes lower = PyBytes_FromStringAndSize(NULL, length)
    cdef uint8_t *out = <uint8_t *> PyBytes_AS_STRING(lower)
    cdef uint32_t i
    for i in range(length):
        out[i] = tux_byte_lower(name[i])
    return lower


include "_app_request.pxi"
include "_app_link.pxi"


# -- the port ------------------------------------------------------------------------------------------------------


@cython.final
cdef class Port:
    cdef int epoll_fd, drain_fd
    cdef object control
    cdef list active  # links, in turn
    cdef dict by_index
    cdef object events  # those that come by no ring
    cdef uint32_t turn, next_index
    cdef _Totals totals
    cdef uint32_t told_load
    cdef bint leaving, drained
    # The exchange that the last key named.
    cdef _Link link
    cdef uint32_t tag
    cdef bytes last_local
    cdef object last_server

    def __cinit__(self):
        self.epoll_fd = self.drain_fd = -1
        self.totals = _Totals.__new__(_Totals)

    def __init__(self, int epoll_fd, control=None):
        if self.epoll_fd >= 0:
            raise RuntimeError("a port is initialised once")
        self.epoll_fd = epoll_fd
        self.control = control
        self.active = []
        self.by_index = {}
        self.events = collections.deque()
        self.last_local = None
        self.drain_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.drain_fd < 0:
            raise OSError(errno, os.strerror(errno))
        self._watch(self.drain_fd, EPOLLIN, FROM_DRAIN)
        if control is not None:
            control.setblocking(False)
            self._watch(control.fileno(), EPOLLIN, FROM_CONTROL)

    def __dealloc__(self):
        if self.drain_fd >= 0:
            c_close(self.drain_fd)
        if self.epoll_fd >= 0:
            c_close(self.epoll_fd)

    cdef int _watch(self, int fd, uint32_t events, uint64_t what) except -1:
        cdef epoll_event event
        memset(&event, 0, sizeof(event))
        event.events = events
        event.data.u64 = what
        if epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError(errno, os.strerror(errno))
        return 0

    @property
    def links(self):
        return len(self.active)

    def attach(self, uint64_t serial, int requests_fd, int answers_fd, int wake_fd, int side_fd):
        cdef _Link link = _Link.__new__(_Link)
        cdef int result
        link.serial = serial
        link.totals = self.totals
        link.wake_fd = wake_fd
        link.side_fd = side_fd
        result = tux_ring_attach(&link.requests, requests_fd, -1, -1, TUX_APP_RING_BYTES)
        if result < 0:
            c_close(requests_fd)
            c_close(answers_fd)
            raise OSError(-result, os.strerror(-result))
        result = tux_ring_attach(&link.answers, answers_fd, -1, -1, TUX_APP_RING_BYTES)
        if result < 0:
            c_close(answers_fd)
            raise OSError(-result, os.strerror(-result))
        while self.next_index in self.by_index:
            self.next_index = (self.next_index + 1) & LINK_MASK
        link.index = self.next_index
        self.next_index = (self.next_index + 1) & LINK_MASK
        self._watch(side_fd, EPOLLRDHUP | <uint32_t> EPOLLET, FROM_SIDES + link.index)
        self.by_index[link.index] = link
        self.active.append(link)
        tux_app_tell_load(&link.answers, self.totals.open)
        tux_app_tell_pace(&link.answers, self.totals.pace_us())
        if self.leaving:
            self._leave(link)

    def forget(self):
        cdef _Link link
        for link in self.active:
            link.gone = True
            link.end()
        self.active = []
        self.by_index = {}

    def fileno(self):
        return self.epoll_fd

    # -- events in ---------------------------------------------------------------------------------------------

    def take(self):
        cdef const void *payload = NULL
        cdef uint32_t size = 0, looked = 0
        cdef _Link link
        cdef int result
        while looked < <uint32_t> len(self.active):
            if self.turn >= <uint32_t> len(self.active):
                self.turn = 0
            link = <_Link> self.active[self.turn]
            result = tux_ring_read(&link.requests, &payload, &size)
            if result == 1:
                self.turn += 1  # one event of each: an engine that always has more must not keep the others waiting
                looked = 0
                event = self._event(link, payload, size)
                link.release()
                if event is not None:
                    return event
            elif result == 0:
                self.turn += 1
                looked += 1
            else:
                self._end_link(link)
        if self.events:
            return self.events.popleft()
        self._tell_load()
        return None

    cdef object _event(self, _Link link, const void *payload, uint32_t size):
        cdef tux_app_record record
        cdef Slot *slot
        cdef uint64_t key
        if size < sizeof(record):
            return None
        memcpy(&record, payload, sizeof(record))
        if record.kind == TUX_APP_REQUEST:
            return self._request(link, payload, size)
        if record.kind == TUX_APP_DRAIN:
            link.drained = True
            self._check_drained()
            return None
        if record.kind == TUX_APP_UNUSED:
            link.unused(record.n)
            return None
        if record.kind == TUX_APP_FOUND:
            return self._found(link, payload, size)
        slot = link.slot(record.tag, record.serial)
        if slot is NULL:
            return None
        key = self._key(link, record.tag, record.serial)
        if record.kind == TUX_APP_BODY:
            if record.n > size - sizeof(record):
                return None
            if record.flags & TUX_APP_END:
                slot.complete = True
            return (1, key, (_bytes(<const uint8_t *> payload, sizeof(record), record.n),
                             (record.flags & TUX_APP_END) != 0))
        if record.kind == TUX_APP_CREDIT:
            slot.window += record.n
            if slot.waits:
                link.pump(record.tag)
            return (2, key, record.n)
        if record.kind == TUX_APP_GONE:
            if record.flags & TUX_APP_HARD:
                link.close_slot(record.tag)
            return (3, key, (record.flags & TUX_APP_HARD) != 0)
        return None

    cdef object _found(self, _Link link, const void *payload, uint32_t size):
        cdef tux_app_found_view view
        cdef tux_app_found *found = &view.found
        cdef Object result
        cdef Slot *slot
        cdef int fd = -1
        if not tux_appwire_found(payload, size, &view):
            return None
        if found.number:
            tux_appfd_take(link.side_fd, &fd)
        slot = link.slot(found.record.tag, found.record.serial)
        if slot is NULL:
            if fd >= 0:
                c_close(fd)
            return None
        slot.looks = False
        result = Object.__new__(Object)
        result.status = found.record.status if fd >= 0 or not found.number else 503
        result.size = found.size
        result.media_type = _bytes(view.type, 0, found.type_len)
        result.etag = _bytes(view.etag, 0, found.etag_len)
        result.modified = found.modified_ns
        result.fd = fd
        return (6, self._key(link, found.record.tag, found.record.serial), result)

    cdef inline uint64_t _key(self, _Link link, uint32_t tag, uint32_t serial) noexcept:
        return <uint64_t> serial << (TAG_BITS + LINK_BITS) | <uint64_t> link.index << TAG_BITS | tag

    cdef object _request(self, _Link link, const void *payload, uint32_t size):
        cdef tux_app_request_view view
        cdef tux_app_request *said = &view.request
        cdef Request request
        cdef Slot *slot
        if not tux_appwire_request(payload, size, &view) or said.record.tag >= TUX_MAX_APP_TAGS:
            return None
        slot = link.new_slot(said.record.tag)
        if slot.open:
            link.close_slot(said.record.tag)
        request = Request.__new__(Request)
        request.key = self._key(link, said.record.tag, said.record.serial)
        request.method = _method(view.head + said.method.off, said.method.len)
        request.target = _bytes(view.head, said.target.off, said.target.len)
        if said.path.off == said.target.off and said.path.len == said.target.len:
            request.path = request.target
        elif said.path.len == 0:
            request.path = _SLASH
        else:
            request.path = _bytes(view.head, said.path.off, said.path.len)
        request.query = _bytes(view.head, said.query.off, said.query.len)
        request.minor = said.minor
        request.scheme = _HTTPS if said.record.flags & TUX_APP_HTTPS else _HTTP
        request.head = _bytes(view.head, 0, said.head_len)
        request.lines = _bytes(<const uint8_t *> view.fields, 0, said.n_fields * <uint32_t> sizeof(tux_app_field))
        request.host = said.host
        request.absolute = (said.record.flags & TUX_APP_ABSOLUTE) != 0
        if said.peer_len:
            request.client = (PyUnicode_DecodeLatin1(<const char *> view.peer, said.peer_len, NULL), said.peer_port)
        request.server = self._server(&view)
        request.body = _bytes(view.body, 0, said.record.n)
        request.complete = (said.record.flags & TUX_APP_END) != 0
        request.length = said.length
        request.upgrade = (said.record.flags & TUX_APP_UPGRADES) != 0
        request.listener = said.listener
        memset(slot, 0, sizeof(Slot))
        slot.serial = said.record.serial
        slot.open = True
        slot.is_head = said.method.len == 4 and memcmp(view.head + said.method.off, b"HEAD", 4) == 0
        slot.complete = request.complete
        slot.withheld = (said.record.flags & TUX_APP_WITHHELD) != 0
        slot.window = said.window
        slot.left = -1
        self.totals.open += 1
        return (0, request.key, request)

    cdef object _server(self, const tux_app_request_view *view):
        """Mostly the same as last time: one tuple for all."""
        cdef bytes local
        cdef uint32_t length = view.request.local_len
        if (
            self.last_local is not None and PyBytes_GET_SIZE(self.last_local) == length + 2
            and memcmp(PyBytes_AS_STRING(self.last_local), &view.request.local_port, 2) == 0
            and memcmp(PyBytes_AS_STRING(self.last_local) + 2, view.local, length) == 0
        ):
            return self.last_server
        local = _bytes(view.local, 0, length)
        self.last_local = (<const char *> &view.request.local_port)[:2] + local
        self.last_server = (local.decode("latin-1"), view.request.local_port if view.request.local_port else None)
        return self.last_server

    cdef void _tell_load(self):
        cdef _Link link
        if self.told_load != self.totals.open:
            self.told_load = self.totals.open
            for link in self.active:
                tux_app_tell_load(&link.answers, self.totals.open)

    # -- sleeping ----------------------------------------------------------------------------------------------

    def on_write(self, written):
        self.totals.written = written

    def flush(self):
        cdef _Link link
        for link in self.active:
            link.flush()

    cdef bint _sleep(self):
        cdef _Link link
        if self.events:
            return False
        self._tell_load()
        if self.totals.rests():
            for link in self.active:
                tux_app_tell_pace(&link.answers, self.totals.pace_us())
        for link in self.active:
            link.flush()
        for link in self.active:
            if not tux_ring_reader_sleep(&link.requests):
                self._stay_awake()
                return False
        return True

    cdef void _stay_awake(self):
        cdef _Link link
        for link in self.active:
            tux_ring_reader_awake(&link.requests)

    def sleep(self):
        return self._sleep()

    def awake(self):
        self._wait(0)

    def wait(self, int timeout_ms=-1):
        if not self._sleep():
            return True
        return self._wait(timeout_ms)

    cdef bint _wait(self, int timeout_ms) except -1:
        cdef epoll_event events[16]
        cdef int n, i
        cdef int fd = self.epoll_fd
        with nogil:
            n = epoll_wait(fd, events, EVENTS, timeout_ms)
        self._stay_awake()
        self.totals.begins()
        for i in range(n):
            if events[i].data.u64 == FROM_ENGINE:
                continue
            elif events[i].data.u64 == FROM_CONTROL:
                self._on_control()
            elif events[i].data.u64 == FROM_DRAIN:
                os.eventfd_read(self.drain_fd)
                self._leave_all()
            elif events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                link = self.by_index.get(events[i].data.u64 - FROM_SIDES)
                if link is not None:
                    self._end_link(link)
        if n < 0:
            PyErr_CheckSignals()
        return n > 0

    # -- links come and go -------------------------------------------------------------------------------------

    cdef int _on_control(self) except -1:
        import socket

        while self.control is not None:
            try:
                message, fds, _flags, _address = socket.recv_fds(self.control, 64, 4)
            except BlockingIOError:
                break
            except OSError:
                message, fds = b"", []
            if not message:
                epoll_ctl(self.epoll_fd, EPOLL_CTL_DEL, self.control.fileno(), NULL)
                self.control.close()
                self.control = None
                self._leave_all()
            elif len(message) == 8 and message.startswith(b"LINK") and len(fds) == 4:
                self.attach(struct.unpack("<4xI", message)[0], *fds)
            else:
                for fd in fds:
                    os.close(fd)
                if message == b"DRAIN":
                    self._leave_all()
        return 0

    cdef int _end_link(self, _Link link) except -1:
        """The engine is gone, or not to be understood any more."""
        cdef uint32_t tag
        if link.gone:
            return 0
        link.gone = True
        self.active.remove(link)
        del self.by_index[link.index]
        for tag in range(link.n_slots):
            if link.slots[tag].open:
                self.events.append((3, self._key(link, tag, link.slots[tag].serial), True))
                link.close_slot(tag)
        self.events.append((5, link.index, None))
        if self.control is not None:
            try:
                self.control.send(b"LOST" + struct.pack("<I", link.serial))
            except OSError:
                pass  # the supervisor is gone, which is told elsewhere
        link.end()
        self._check_drained()
        return 0

    def drain(self):
        os.eventfd_write(self.drain_fd, 1)

    cdef int _leave_all(self) except -1:
        if self.leaving:
            return 0
        self.leaving = True
        for link in list(self.active):
            self._leave(link)
        self._check_drained()
        return 0

    cdef int _leave(self, _Link link) except -1:
        cdef tux_app_record record
        if link.left:
            return 0
        link.left = True
        memset(&record, 0, sizeof(record))
        record.kind = TUX_APP_LEAVE
        if link.put(&record, sizeof(record), NULL, 0):
            link.flush()
        return 0

    cdef int _check_drained(self) except -1:
        cdef _Link link
        if not self.leaving or self.drained:
            return 0
        for link in self.active:
            if not link.drained:
                return 0
        self.drained = True
        self.events.append((4, 0, None))
        return 0

    def limits(self, uint64_t max_requests, uint64_t max_memory, retire):
        self.totals.limit(max_requests, max_memory, retire)

    @property
    def open(self):
        return self.totals.open

    @property
    def finished(self):
        return self.totals.finished

    # -- records out -------------------------------------------------------------------------------------------

    cdef Slot *_find(self, uint64_t key):
        """The exchange; its link and tag are in self.link and self.tag."""
        cdef object link
        if len(self.active) == 1:
            self.link = <_Link> self.active[0]
            if self.link.index != (key >> TAG_BITS) & LINK_MASK:
                return NULL
        else:
            link = self.by_index.get((key >> TAG_BITS) & LINK_MASK)
            if link is None:
                return NULL
            self.link = <_Link> link
        self.tag = key & TAG_MASK
        return self.link.slot(self.tag, key >> (TAG_BITS + LINK_BITS))

    def answer(self, uint64_t key, int status, fields, *, int64_t length=-1, body=b"", bint end=False,
               bint trailers=False, bint close=False, int64_t remember_ms=0, bint ignore_query=False,
               bytes reason not None=b""):
        cdef Slot *slot = self._find(key)
        cdef _Link link = self.link
        cdef uint32_t tag = self.tag
        cdef Py_buffer view
        cdef _Manner manner
        if slot is NULL:
            return False
        manner.reason = <const uint8_t *> PyBytes_AS_STRING(reason)
        manner.reason_len = PyBytes_GET_SIZE(reason)
        manner.end = end
        manner.trailers = trailers
        manner.close = close
        manner.general = ignore_query
        manner.remember_ms = <uint32_t> min(max(remember_ms, 0), MAX_REMEMBER_MS)
        if type(body) is bytes:
            return link.answer(tag, slot, status, fields, length, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body),
                               &manner)
        PyObject_GetBuffer(body, &view, PyBUF_SIMPLE)
        try:
            return link.answer(tag, slot, status, fields, length, <const char *> view.buf, view.len, &manner)
        finally:
            PyBuffer_Release(&view)

    def object(self, uint64_t key, bytes path not None, fields=(), int status=0, bint close=False):
        cdef Slot *slot = self._unanswered(key)
        return False if slot is NULL else self.link.object(self.tag, slot, path, fields, status, close)

    def lookup(self, uint64_t key, bytes path not None):
        cdef Slot *slot = self._unanswered(key)
        return False if slot is NULL else self.link.lookup(self.tag, slot, path)

    def data(self, uint64_t key, body, bint end=False, bint close=False):
        cdef Slot *slot = self._find(key)
        cdef _Link link = self.link
        cdef uint32_t tag = self.tag
        cdef Py_buffer view
        cdef Py_ssize_t length
        if slot is NULL:
            return False
        if not slot.answered:
            raise RuntimeError("the head comes first")
        if end and slot.trailers:
            raise RuntimeError("trailers() ends an answer that was announced with trailers")
        PyObject_GetBuffer(body, &view, PyBUF_SIMPLE)
        try:
            length = 0 if slot.is_head else view.len
            _check_left(slot, length, end)
            return link.data(tag, slot, <const char *> view.buf, length, _last(end, close))
        finally:
            PyBuffer_Release(&view)

    def file(self, uint64_t key, int fd, int64_t offset, int64_t length, bint end=True):
        cdef Slot *slot = self._find(key)
        if slot is NULL:
            return False
        if offset < 0 or length < 0:
            raise ValueError(f"offset {offset}, length {length}")
        if not slot.answered:
            raise RuntimeError("the head comes first")
        if slot.is_head:
            return self.link.data(self.tag, slot, NULL, 0, _last(end, False))
        if fd < 0 and not self.link.is_kept(slot, fd):
            raise ValueError(f"{fd} is neither a descriptor nor the name of a file that is kept")
        _check_left(slot, length, end)
        if slot.left >= 0:
            slot.left -= length
        return self.link.file(self.tag, slot, fd, offset, length, end)

    def kept(self, uint64_t key, bytes path not None):
        cdef Slot *slot = self._find(key)
        return None if slot is NULL else self.link.kept_at(slot, path)

    def trailers(self, uint64_t key, fields):
        cdef Slot *slot = self._find(key)
        if slot is NULL:
            return False
        if not slot.trailers:
            raise RuntimeError("trailers have to be announced with the answer")
        return self.link.trailers(self.tag, slot, fields)

    cdef Slot *_unanswered(self, uint64_t key) except? NULL:
        cdef Slot *slot = self._find(key)
        if slot is not NULL and slot.answered:
            raise RuntimeError("the exchange was answered before")
        return slot

    def inform(self, uint64_t key, int status, fields):
        cdef Slot *slot = self._unanswered(key)
        if slot is NULL:
            return False
        if not 102 <= status <= 199:
            raise ValueError(f"status {status}: 102 to 199 expected")
        return self.link.say(self.tag, slot, TUX_APP_INFORM, status, fields)

    def upgrade(self, uint64_t key, fields):
        cdef Slot *slot = self._unanswered(key)
        if slot is NULL:
            return False
        if not self.link.say(self.tag, slot, TUX_APP_UPGRADE, 0, fields):
            return False
        slot.answered = True
        slot.complete = False
        return True

    def accept(self, uint64_t key):
        cdef Slot *slot = self._find(key)
        if slot is not NULL and slot.withheld:
            slot.withheld = False
            self.link.short(self.tag, slot.serial, TUX_APP_CONSUMED, 0, TUX_APP_WINDOW_BYTES)

    def credit(self, uint64_t key, uint32_t n):
        cdef Slot *slot = self._find(key)
        cdef uint32_t used
        if slot is NULL or slot.complete:
            return
        slot.used += n
        if slot.used >= CREDIT_BYTES:
            used = slot.used
            slot.used = 0
            self.link.short(self.tag, slot.serial, TUX_APP_CONSUMED, 0, used)

    cdef int _finish(self, Slot *slot, int kind, int flags) except -1:
        """The last word."""
        cdef _Link link = self.link
        cdef uint32_t tag = self.tag, serial
        if slot is NULL:
            return 0
        serial = slot.serial
        link.short(tag, serial, kind, flags, 0)
        if link.slot(tag, serial) is not NULL:
            link.close_slot(tag)
        return 0

    def abort(self, uint64_t key):
        self._finish(self._find(key), TUX_APP_ABORT, 0)

    def next(self, uint64_t key, bint forward=False):
        self._finish(self._unanswered(key), TUX_APP_NEXT, TUX_APP_FORWARD if forward else 0)

    def window(self, uint64_t key):
        cdef Slot *slot = self._find(key)
        return 0 if slot is NULL else slot.window - slot.kept


# -- for the supervisor --------------------------------------------------------------------------------------------


def wake_pair():
    cdef epoll_event event
    cdef int raised = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    if raised < 0:
        raise OSError(errno, os.strerror(errno))
    cdef int waits = epoll_create1(EPOLL_CLOEXEC)
    memset(&event, 0, sizeof(event))
    event.events = EPOLLIN | <uint32_t> EPOLLET
    event.data.u64 = FROM_ENGINE
    if waits < 0 or epoll_ctl(waits, EPOLL_CTL_ADD, raised, &event) < 0:
        error = errno
        c_close(raised)
        if waits >= 0:
            c_close(waits)
        raise OSError(error, os.strerror(error))
    return raised, waits


cdef int _make_ring() except -1:
    cdef tux_ring ring
    cdef int result = tux_ring_create_bare(&ring, TUX_APP_RING_BYTES)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    result = dup(ring.memfd)
    tux_ring_close(&ring)
    if result < 0:
        raise OSError(errno, os.strerror(errno))
    os.set_inheritable(result, False)
    return result


def make_rings():
    requests = _make_ring()
    try:
        return requests, _make_ring()
    except BaseException:
        os.close(requests)
        raise


include "_unmask.pxi"
