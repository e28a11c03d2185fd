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
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, open as c_open
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close, dup, pread, usleep, write


cdef extern from "sys/epoll.h" nogil:
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLLIN
        EPOLLRDHUP
        EPOLLHUP
        EPOLLERR
        EPOLLET
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int max_events, int timeout)


cdef extern from "sys/eventfd.h" nogil:
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK
    int eventfd(unsigned int count, int flags)


cdef extern from "field.h" nogil:
    struct tux_field_slot:
        uint8_t id
        uint8_t len
        char name[20]
    enum:
        TUX_FIELD_SLOTS
    const tux_field_slot tux_field_slots[64]


cdef extern from "scan.h" nogil:
    uint8_t tux_byte_lower(uint8_t byte)


cdef extern from "ring.h" nogil:
    struct tux_ring:
        uint32_t capacity
        int memfd
        uint64_t position
    int tux_ring_create_bare(tux_ring *ring, uint32_t capacity)
    int tux_ring_attach(tux_ring *ring, int memfd, int data_eventfd, int space_eventfd, uint32_t capacity)
    void tux_ring_close(tux_ring *ring)
    void *tux_ring_reserve(tux_ring *ring, uint32_t size)
    void tux_ring_commit(tux_ring *ring, uint32_t size)
    int tux_ring_read(tux_ring *ring, const void **payload, uint32_t *size)
    bint tux_ring_reader_sleep(tux_ring *ring)
    void tux_ring_reader_awake(tux_ring *ring)
    bint tux_ring_take_wake(tux_ring *ring)
    bint tux_ring_release_bare(tux_ring *ring)


cdef extern from "appwire.h" nogil:
    enum:
        TUX_FIELD_COUNT
        TUX_FIELD_HOST
        TUX_APP_RING_BYTES
        TUX_APP_WINDOW_BYTES
        TUX_APP_FILE_COST
        TUX_APP_PIECE_BYTES
        TUX_MAX_APP_FIELDS_BYTES
        TUX_MAX_APP_TAGS
        TUX_APP_REQUEST
        TUX_APP_BODY
        TUX_APP_CREDIT
        TUX_APP_GONE
        TUX_APP_DRAIN
        TUX_APP_ANSWER
        TUX_APP_DATA
        TUX_APP_FILE
        TUX_APP_TRAILER
        TUX_APP_INFORM
        TUX_APP_UPGRADE
        TUX_APP_CONSUMED
        TUX_APP_ABORT
        TUX_APP_NEXT
        TUX_APP_LEAVE
        TUX_APP_END
        TUX_APP_HARD
        TUX_APP_TRAILERS
        TUX_APP_UPGRADES
        TUX_APP_HTTPS
        TUX_APP_ABSOLUTE
        TUX_APP_FIELD_BAD_NAME
        TUX_APP_FIELD_BAD_VALUE
        TUX_APP_FIELD_LENGTH
        TUX_APP_FIELD_PLAIN
    struct tux_span:
        uint32_t off
        uint32_t len
    struct tux_app_record:
        uint8_t kind
        uint8_t flags
        uint16_t status
        uint32_t tag
        uint32_t serial
        uint32_t n
    struct tux_app_field:
        uint16_t name
        uint16_t name_len
        uint16_t value
        uint16_t value_len
        uint8_t id
    struct tux_app_request:
        tux_app_record record
        int64_t length
        uint32_t n_fields
        tux_span method
        tux_span target
        tux_span path
        tux_span query
        tux_span host
        uint32_t listener
        uint16_t peer_port
        uint16_t local_port
        uint16_t mount_len
        uint8_t peer_len
        uint8_t local_len
        uint8_t minor
    struct tux_app_answer:
        tux_app_record record
        int64_t length
        uint32_t fields_len
    struct tux_app_file:
        tux_app_record record
        uint64_t offset
        uint64_t length
        uint64_t number
    struct tux_app_shared:
        pass
    struct tux_app_request_view:
        tux_app_request request
        const tux_app_field *fields
        const uint8_t *head
        const uint8_t *peer
        const uint8_t *local
        const uint8_t *mount
        const uint8_t *body
    bint tux_appwire_request(const void *payload, uint32_t size, tux_app_request_view *view)
    int tux_appwire_field(const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len, bint upgrade)
    void tux_app_tell_load(const tux_ring *answers, uint32_t load)


REQUEST = 0
BODY = 1
CREDIT = 2
GONE = 3
DRAIN = 4
ENGINE_GONE = 5
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
# Bytes of requests that may be read before their room is given back.
cdef uint32_t RELEASE_BYTES = TUX_APP_RING_BYTES // 8
# Uses of a request's body are told in portions: a quarter of the window, so that it never runs dry for that.
cdef uint32_t CREDIT_BYTES = TUX_APP_WINDOW_BYTES // 4
# How often the process's size is looked at, in milliseconds: a look takes two microseconds.
cdef uint64_t MEMORY_MS = 100
cdef int EVENTS = 16

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
cdef bint _no_events = False


cdef inline uint64_t _now_ms() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t> now.tv_sec * 1000 + <uint64_t> now.tv_nsec // 1000000


cdef inline bytes _bytes(const uint8_t *base, uint32_t off, uint32_t length):
    return PyBytes_FromStringAndSize(<const char *> base + off, length) if length else _EMPTY


cdef bytes _lower(const uint8_t *name, uint32_t length):
    cdef bytes lower = PyBytes_FromStringAndSize(NULL, length)
    cdef uint8_t *out = <uint8_t *> PyBytes_AS_STRING(lower)
    cdef uint32_t i
    for i in range(length):
        out[i] = tux_byte_lower(name[i])
    return lower


# -- requests ------------------------------------------------------------------------------------------------------


@cython.final
@cython.freelist(64)
cdef class Request:
    cdef readonly uint64_t key
    cdef readonly str method
    cdef readonly bytes target, path, query
    cdef readonly int minor
    cdef readonly str scheme
    cdef readonly list headers
    cdef readonly bytes mount
    cdef readonly object client, server
    cdef readonly bytes body
    cdef readonly bint complete
    cdef readonly int64_t length
    cdef readonly bint upgrade
    cdef readonly uint32_t listener

    def __repr__(self):
        return f"<Request {self.key:#x} {self.method} {self.target!r}>"


cdef inline str _method(const uint8_t *name, uint32_t length):
    if length == 3 and memcmp(name, b"GET", 3) == 0:
        return _GET
    if length == 4 and memcmp(name, b"POST", 4) == 0:
        return _POST
    return PyUnicode_DecodeLatin1(<const char *> name, length, NULL)


cdef list _headers(const tux_app_request_view *view):
    cdef const tux_app_field *field
    cdef bint absolute = (view.request.record.flags & TUX_APP_ABSOLUTE) != 0
    cdef list headers = []
    cdef bytes name
    cdef uint32_t i
    if absolute:
        headers.append((_HOST, _bytes(view.head, view.request.host.off, view.request.host.len)))
    for i in range(view.request.n_fields):
        field = &view.fields[i]
        if field.id:
            if absolute and field.id == TUX_FIELD_HOST:
                continue  # RFC 9112 section 3.2.2: the target's counts
            name = <bytes> _names[field.id]
        else:
            name = _lower(view.head + field.name, field.name_len)
        headers.append((name, _bytes(view.head, field.value, field.value_len)))
    return headers


# -- links ---------------------------------------------------------------------------------------------------------


cdef struct Slot:
    uint32_t serial
    bint open
    bint is_head  # the request's method is HEAD: its answer has no body, whatever is said of it
    bint answered
    bint complete  # all of the request's body has come
    bint trailers
    bint waits  # something of the answer is kept until the window is larger
    int64_t window  # bytes that the engine takes
    int64_t kept  # ... and bytes that are kept
    int64_t left  # of the announced length; -1: none was
    uint32_t used  # bytes of the request's body that the engine was not told of


@cython.final
cdef class _Link:
    cdef tux_ring requests, answers
    cdef int wake_fd, side_fd
    cdef uint32_t index
    cdef uint64_t serial
    cdef Slot *slots
    cdef uint32_t n_slots
    cdef uint32_t unreleased
    cdef uint64_t files  # descriptors sent
    cdef bint dirty  # records the engine was not woken for
    cdef bint gone, left, drained
    cdef dict kept  # by tag: what waits for the window

    def __cinit__(self):
        memset(&self.requests, 0, sizeof(tux_ring))
        memset(&self.answers, 0, sizeof(tux_ring))
        self.wake_fd = self.side_fd = -1
        self.kept = {}

    def __dealloc__(self):
        self.end()
        free(self.slots)

    cdef void end(self) noexcept:
        if self.requests.capacity:
            tux_ring_close(&self.requests)
        if self.answers.capacity:
            tux_ring_close(&self.answers)
        if self.wake_fd >= 0:
            close(self.wake_fd)
        if self.side_fd >= 0:
            close(self.side_fd)
        self.wake_fd = self.side_fd = -1

    cdef inline void wake(self) noexcept nogil:
        """Raise the engine."""
        cdef uint64_t one = 1
        write(self.wake_fd, &one, sizeof(one))

    cdef inline void flush(self) noexcept nogil:
        if self.dirty:
            self.dirty = False
            if tux_ring_take_wake(&self.answers):
                self.wake()

    cdef inline void release(self) noexcept nogil:
        if self.unreleased:
            self.unreleased = 0
            if tux_ring_release_bare(&self.requests):
                self.wake()

    cdef inline Slot *slot(self, uint32_t tag, uint32_t serial) noexcept:
        if tag < self.n_slots and self.slots[tag].serial == serial and self.slots[tag].open:
            return &self.slots[tag]
        return NULL

    cdef Slot *new_slot(self, uint32_t tag) except NULL:
        cdef uint32_t n
        cdef Slot *grown
        if tag >= self.n_slots:
            n = max(64, 2 * self.n_slots, tag + 1)
            grown = <Slot *> realloc(self.slots, n * sizeof(Slot))
            if grown is NULL:
                raise MemoryError
            memset(grown + self.n_slots, 0, (n - self.n_slots) * sizeof(Slot))
            self.slots = grown
            self.n_slots = n
        return &self.slots[tag]


# -- the port ------------------------------------------------------------------------------------------------------


@cython.final
cdef class Port:
    cdef int epoll_fd, drain_fd, memory_fd
    cdef object control
    cdef list active  # links, in turn
    cdef dict by_index
    cdef object events  # those that come by no ring
    cdef uint32_t turn, next_index
    cdef readonly uint32_t open
    cdef readonly uint64_t finished
    cdef uint32_t told_load
    cdef bint leaving, drained
    cdef uint64_t max_requests, max_memory, memory_at
    cdef object retire
    # The exchange that the last key named.
    cdef _Link link
    cdef uint32_t tag
    cdef bytes last_local
    cdef object last_server

    def __cinit__(self):
        self.epoll_fd = self.drain_fd = self.memory_fd = -1

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
        for fd in (self.drain_fd, self.memory_fd, self.epoll_fd):
            if fd >= 0:
                close(fd)

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
        link.wake_fd = wake_fd
        link.side_fd = side_fd
        result = tux_ring_attach(&link.requests, requests_fd, -1, -1, TUX_APP_RING_BYTES)
        if result < 0:
            close(requests_fd)
            close(answers_fd)
            raise OSError(-result, os.strerror(-result))
        result = tux_ring_attach(&link.answers, answers_fd, -1, -1, TUX_APP_RING_BYTES)
        if result < 0:
            close(answers_fd)
            raise OSError(-result, os.strerror(-result))
        while self.next_index in self.by_index:
            self.next_index = (self.next_index + 1) & LINK_MASK
        link.index = self.next_index
        self.next_index = (self.next_index + 1) & LINK_MASK
        self._watch(side_fd, EPOLLRDHUP | <uint32_t> EPOLLET, FROM_SIDES + link.index)
        self.by_index[link.index] = link
        self.active.append(link)
        tux_app_tell_load(&link.answers, self.open)
        if self.leaving:
            self._leave(link)

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
                event = self._event(link, payload, size)
                link.unreleased += size + 8
                if link.unreleased >= RELEASE_BYTES:
                    link.release()
                if event is not None:
                    return event
            elif result == 0:
                link.release()
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
                self._pump(link, record.tag)
            return (2, key, record.n)
        if record.kind == TUX_APP_GONE:
            if record.flags & TUX_APP_HARD:
                self._close_slot(link, record.tag)
            return (3, key, (record.flags & TUX_APP_HARD) != 0)
        return None

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
            self._close_slot(link, said.record.tag)
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
        request.headers = _headers(&view)
        request.mount = _bytes(view.mount, 0, said.mount_len)
        if said.peer_port:
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
        slot.window = TUX_APP_WINDOW_BYTES
        slot.left = -1
        self.open += 1
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
        if self.told_load != self.open:
            self.told_load = self.open
            for link in self.active:
                tux_app_tell_load(&link.answers, self.open)

    # -- sleeping ----------------------------------------------------------------------------------------------

    def flush(self):
        cdef _Link link
        for link in self.active:
            link.flush()

    cdef bint _sleep(self):
        cdef _Link link
        if self.events:
            return False
        self._tell_load()
        for link in self.active:
            link.flush()
            link.release()
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
                self._close_slot(link, tag)
        self.events.append((5, link.index, None))
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
        if self._put(link, &record, sizeof(record), NULL, 0, NULL, 0):
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

    # -- limits ------------------------------------------------------------------------------------------------

    def limits(self, uint64_t max_requests, uint64_t max_memory, retire):
        self.max_requests = max_requests
        self.max_memory = max_memory
        self.retire = retire
        if max_memory and self.memory_fd < 0:
            self.memory_fd = c_open(b"/proc/self/statm", O_RDONLY | O_CLOEXEC)

    cdef bint _too_large(self):
        cdef char text[64]
        cdef ssize_t n
        cdef uint64_t now = _now_ms()
        if now < self.memory_at:
            return False
        self.memory_at = now + MEMORY_MS
        n = pread(self.memory_fd, text, 63, 0)
        if n <= 0:
            return False
        numbers = (<bytes> text[:n]).split()
        return int(numbers[1]) * PAGE_BYTES > self.max_memory

    cdef int _close_slot(self, _Link link, uint32_t tag) except -1:
        cdef Slot *slot = &link.slots[tag]
        slot.open = False
        if slot.waits:
            slot.waits = False
            _drop(link.kept.pop(tag))
        self.open -= 1
        self.finished += 1
        if self.retire is not None and (
            (self.max_requests and self.finished >= self.max_requests) or (self.max_memory and self._too_large())
        ):
            retire, self.retire = self.retire, None
            retire()
        return 0

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

    cdef bint _put(self, _Link link, const void *record, uint32_t record_len, const void *middle, uint32_t middle_len,
                   const void *rest, uint32_t rest_len) except -1:
        """Write one record of three parts; False: the engine is gone."""
        cdef char *at = self._reserve(link, record_len + middle_len + rest_len)
        if at is NULL:
            return False
        memcpy(at, record, record_len)
        if middle_len:
            memcpy(at + record_len, middle, middle_len)
        if rest_len:
            memcpy(at + record_len + middle_len, rest, rest_len)
        tux_ring_commit(&link.answers, record_len + middle_len + rest_len)
        link.dirty = True
        return True

    cdef char *_reserve(self, _Link link, uint32_t size) except? NULL:
        cdef char *at
        if link.gone:
            return NULL
        at = <char *> tux_ring_reserve(&link.answers, size)
        while at is NULL:
            link.dirty = True
            link.flush()
            with nogil:
                usleep(FULL_PAUSE_US)
            if link.gone or _is_dead(link.side_fd):
                return NULL
            PyErr_CheckSignals()
            at = <char *> tux_ring_reserve(&link.answers, size)
        return at

    def answer(self, uint64_t key, int status, fields, *, int64_t length=-1, body=b"", bint end=False,
               bint trailers=False):
        cdef tux_app_answer record
        cdef Slot *slot = self._find(key)
        cdef _Link link = self.link
        cdef uint32_t tag = self.tag, piece, fields_len
        cdef Py_ssize_t body_len
        cdef char *at
        cdef Py_buffer view
        if slot is NULL:
            return False
        if slot.answered:
            raise RuntimeError("the exchange was answered before")
        if not 200 <= status <= 999:
            raise ValueError(f"status {status}: 200 to 999 expected")
        fields_len = _measure(fields, &length, False)
        PyObject_GetBuffer(body, &view, PyBUF_SIMPLE)
        try:
            body_len = view.len
            if slot.is_head or status == 204 or status == 304:
                body_len = 0
            else:
                if end and not trailers and length < 0:
                    length = body_len
                if 0 <= length < body_len:
                    raise LengthError(f"{body_len} bytes of a body of {length}")
            piece = <uint32_t> min(body_len, TUX_APP_PIECE_BYTES)
            memset(&record, 0, sizeof(record))
            record.record.kind = TUX_APP_ANSWER
            record.record.tag = tag
            record.record.serial = slot.serial
            record.record.status = status
            record.record.n = piece
            record.length = length
            record.fields_len = fields_len
            if trailers:
                record.record.flags |= TUX_APP_TRAILERS
            elif end and piece == body_len:
                record.record.flags |= TUX_APP_END
            at = self._reserve(link, sizeof(record) + fields_len + piece)
            slot = link.slot(tag, record.record.serial)
            if at is NULL or slot is NULL:
                return False
            memcpy(at, &record, sizeof(record))
            _write_fields(fields, at + sizeof(record), False)
            if piece:
                memcpy(at + sizeof(record) + fields_len, view.buf, piece)
            tux_ring_commit(&link.answers, sizeof(record) + fields_len + piece)
            link.dirty = True
            slot.answered = True
            slot.trailers = trailers
            slot.window -= piece
            slot.left = -1 if length < 0 else length - piece
            if end and piece == body_len:
                if not trailers:
                    self._close_slot(link, tag)
                return True
            if piece < body_len:
                return self._data(link, tag, slot, <const char *> view.buf + piece, body_len - piece, end)
            return True
        finally:
            PyBuffer_Release(&view)

    def data(self, uint64_t key, body, bint end=False):
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
            length = view.len
            if slot.is_head:
                length = 0
            elif 0 <= slot.left < length:
                raise LengthError(f"{length} bytes where {slot.left} are left of the body")
            return self._data(link, tag, slot, <const char *> view.buf, length, end)
        finally:
            PyBuffer_Release(&view)

    cdef bint _data(self, _Link link, uint32_t tag, Slot *slot, const char *bytes_, Py_ssize_t length,
                    bint end) except -1:
        cdef tux_app_record record
        cdef uint32_t piece, serial = slot.serial
        if slot.left >= 0:
            slot.left -= length
        if slot.waits:
            (<list> link.kept[tag]).append((PyBytes_FromStringAndSize(bytes_, length), end))
            slot.kept += length
            return True
        if length == 0 and not end:
            return True
        memset(&record, 0, sizeof(record))
        record.kind = TUX_APP_DATA
        record.tag = tag
        record.serial = serial
        while True:  # ends: each round sends something, or is the last
            piece = <uint32_t> max(0, min(length, TUX_APP_PIECE_BYTES, slot.window))
            if piece < length and (slot.window <= 0):
                link.kept[tag] = [(PyBytes_FromStringAndSize(bytes_, length), end)]
                slot.waits = True
                slot.kept += length
                return True
            record.n = piece
            record.flags = TUX_APP_END if end and piece == length else 0
            if not self._put(link, &record, sizeof(record), bytes_, piece, NULL, 0):
                return False
            slot = link.slot(tag, serial)  # it may have moved, or gone, while the ring was full
            if slot is NULL:
                return False
            slot.window -= piece
            bytes_ += piece
            length -= piece
            if length == 0:
                break
        if end:
            self._close_slot(link, tag)
        return True

    def file(self, uint64_t key, int fd, int64_t offset, int64_t length, bint end=True):
        cdef Slot *slot = self._find(key)
        cdef _Link link = self.link
        cdef uint32_t tag = self.tag
        if slot is NULL:
            return False
        if offset < 0 or length < 0:
            raise ValueError(f"offset {offset}, length {length}")
        if not slot.answered:
            raise RuntimeError("the head comes first")
        if slot.is_head:
            return self._data(link, tag, slot, NULL, 0, end)
        if 0 <= slot.left < length:
            raise LengthError(f"{length} bytes where {slot.left} are left of the body")
        if slot.left >= 0:
            slot.left -= length
        if slot.waits or slot.window <= 0:
            link.kept.setdefault(tag, []).append((_Piece(os.dup(fd), offset, length), end))
            slot.waits = True
            slot.kept += TUX_APP_FILE_COST
            return True
        return self._file(link, tag, slot, fd, offset, length, end)

    cdef bint _file(self, _Link link, uint32_t tag, Slot *slot, int fd, uint64_t offset, uint64_t length,
                    bint end) except -1:
        cdef tux_app_file record
        memset(&record, 0, sizeof(record))
        record.record.kind = TUX_APP_FILE
        record.record.flags = TUX_APP_END if end else 0
        record.record.tag = tag
        record.record.serial = slot.serial
        record.offset = offset
        record.length = length
        link.files += 1
        record.number = link.files
        slot.window -= TUX_APP_FILE_COST
        if not _send_fd(link, fd) or not self._put(link, &record, sizeof(record), NULL, 0, NULL, 0):
            return False
        if end:
            self._close_slot(link, tag)
        return True

    cdef int _pump(self, _Link link, uint32_t tag) except -1:
        """The window is larger: send what was kept."""
        cdef Slot *slot = &link.slots[tag]
        cdef list kept = <list> link.kept.pop(tag)
        cdef bytes data
        slot.waits = False
        while kept and slot.open and not slot.waits:
            if slot.window <= 0:
                link.kept[tag] = kept
                slot.waits = True
                return 0
            what, end = kept.pop(0)
            if type(what) is bytes:
                data = <bytes> what
                slot.kept -= len(data)
                if slot.left >= 0:
                    slot.left += len(data)  # it was taken off when it came
                self._data(link, tag, slot, PyBytes_AS_STRING(data), len(data), end)
            elif type(what) is _Piece:
                slot.kept -= TUX_APP_FILE_COST
                self._file(link, tag, slot, what.fd, what.offset, what.length, end)
                os.close(what.fd)
            else:
                self._trailers(link, tag, slot, what)
            slot = &link.slots[tag]
        if kept and slot.waits:
            (<list> link.kept[tag]).extend(kept)
        return 0

    def trailers(self, uint64_t key, fields):
        cdef Slot *slot = self._find(key)
        cdef _Link link = self.link
        cdef uint32_t tag = self.tag
        cdef int64_t length = -1
        if slot is NULL:
            return False
        if not slot.trailers:
            raise RuntimeError("trailers have to be announced with the answer")
        _measure(fields, &length, False)
        if slot.waits:
            (<list> link.kept[tag]).append((list(fields), True))
            return True
        return self._trailers(link, tag, slot, fields)

    cdef bint _trailers(self, _Link link, uint32_t tag, Slot *slot, fields) except -1:
        if not self._say(link, tag, slot, TUX_APP_TRAILER, 0, fields):
            return False
        self._close_slot(link, tag)
        return True

    cdef bint _say(self, _Link link, uint32_t tag, Slot *slot, int kind, int status, fields) except -1:
        """A record of fields alone."""
        cdef tux_app_record record
        cdef int64_t length = -1
        cdef bint upgrade = kind == TUX_APP_UPGRADE
        cdef uint32_t fields_len = _measure(fields, &length, upgrade)
        cdef char *at
        memset(&record, 0, sizeof(record))
        record.kind = kind
        record.tag = tag
        record.serial = slot.serial
        record.status = status
        at = self._reserve(link, sizeof(record) + fields_len)
        if at is NULL:
            return False
        memcpy(at, &record, sizeof(record))
        _write_fields(fields, at + sizeof(record), upgrade)
        tux_ring_commit(&link.answers, sizeof(record) + fields_len)
        link.dirty = True
        return True

    def inform(self, uint64_t key, int status, fields):
        cdef Slot *slot = self._find(key)
        if slot is NULL:
            return False
        if not 102 <= status <= 199:
            raise ValueError(f"status {status}: 102 to 199 expected")
        if slot.answered:
            raise RuntimeError("the exchange was answered before")
        return self._say(self.link, self.tag, slot, TUX_APP_INFORM, status, fields)

    def upgrade(self, uint64_t key, fields):
        cdef Slot *slot = self._find(key)
        if slot is NULL:
            return False
        if slot.answered:
            raise RuntimeError("the exchange was answered before")
        slot.answered = True
        slot.complete = False
        return self._say(self.link, self.tag, slot, TUX_APP_UPGRADE, 0, fields)

    cdef int _short(self, Slot *slot, int kind, uint32_t n) except -1:
        cdef tux_app_record record
        memset(&record, 0, sizeof(record))
        record.kind = kind
        record.tag = self.tag
        record.serial = slot.serial
        record.n = n
        self._put(self.link, &record, sizeof(record), NULL, 0, NULL, 0)
        return 0

    def credit(self, uint64_t key, uint32_t n):
        cdef Slot *slot = self._find(key)
        cdef uint32_t used
        if slot is NULL or slot.complete:
            return
        slot.used += n
        if slot.used >= CREDIT_BYTES:
            used = slot.used
            slot.used = 0
            self._short(slot, TUX_APP_CONSUMED, used)

    def abort(self, uint64_t key):
        cdef Slot *slot = self._find(key)
        cdef _Link link = self.link
        cdef uint32_t tag = self.tag
        if slot is not NULL:
            self._short(slot, TUX_APP_ABORT, 0)
            if link.slot(tag, <uint32_t> (key >> (TAG_BITS + LINK_BITS))) is not NULL:
                self._close_slot(link, tag)

    def next(self, uint64_t key):
        cdef Slot *slot = self._find(key)
        cdef _Link link = self.link
        cdef uint32_t tag = self.tag
        if slot is NULL:
            return
        if slot.answered:
            raise RuntimeError("the exchange was answered before")
        self._short(slot, TUX_APP_NEXT, 0)
        if link.slot(tag, <uint32_t> (key >> (TAG_BITS + LINK_BITS))) is not NULL:
            self._close_slot(link, tag)

    def window(self, uint64_t key):
        cdef Slot *slot = self._find(key)
        return 0 if slot is NULL else slot.window - slot.kept

    def load(self, n):
        pass


class _Piece:
    """Of a file, that waits for the window."""

    __slots__ = ("fd", "length", "offset")

    def __init__(self, fd, offset, length):
        self.fd = fd
        self.offset = offset
        self.length = length


cdef int _drop(list kept) except -1:
    for what, _end in kept:
        if type(what) is _Piece:
            os.close(what.fd)
    return 0


# -- fields --------------------------------------------------------------------------------------------------------


cdef uint32_t _measure(fields, int64_t *length, bint upgrade) except? 0xFFFFFFFF:
    """Bytes of the lines, without those that are the engine's; Content-Length goes into *length."""
    cdef uint64_t total = 0
    cdef bytes name, value
    cdef int kind
    for pair in fields:
        name, value = pair
        if name is None or value is None:
            raise ValueError("fields are pairs of bytes")
        kind = tux_appwire_field(<const uint8_t *> PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name),
                                 <const uint8_t *> PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), upgrade)
        if kind == TUX_APP_FIELD_PLAIN:
            total += PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value) + 4
        elif kind == TUX_APP_FIELD_LENGTH:
            said = value.strip(b" \t")
            if not said.isdigit() or len(said) > 18:
                raise ValueError(f"Content-Length {value!r} is not a number")
            if length[0] >= 0 and length[0] != int(said):
                raise LengthError(f"Content-Length {value!r}, but the length is {length[0]}")
            length[0] = int(said)
        elif kind == TUX_APP_FIELD_BAD_NAME:
            raise ValueError(f"{name!r} cannot be the name of a field")
        elif kind == TUX_APP_FIELD_BAD_VALUE:
            raise ValueError(f"field {name!r}: {value!r} cannot be its value")
    if total > TUX_MAX_APP_FIELDS_BYTES:
        raise ValueError(f"{total} bytes of fields (at most {TUX_MAX_APP_FIELDS_BYTES})")
    return <uint32_t> total


cdef int _write_fields(fields, char *at, bint upgrade) except -1:
    """Those that _measure has counted."""
    cdef bytes name, value
    cdef Py_ssize_t n
    for pair in fields:
        name, value = pair
        if tux_appwire_field(<const uint8_t *> PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name),
                             <const uint8_t *> PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value),
                             upgrade) != TUX_APP_FIELD_PLAIN:
            continue
        n = PyBytes_GET_SIZE(name)
        memcpy(at, PyBytes_AS_STRING(name), n)
        memcpy(at + n, b": ", 2)
        at += n + 2
        n = PyBytes_GET_SIZE(value)
        memcpy(at, PyBytes_AS_STRING(value), n)
        memcpy(at + n, b"\r\n", 2)
        at += n + 2
    return 0


# -- descriptors ---------------------------------------------------------------------------------------------------


cdef extern from *:
    """
    #include <errno.h>
    #include <poll.h>
    #include <string.h>
    #include <sys/socket.h>

    /* 0, or -errno. The byte is there because a message must not be empty. */
    static int tux_app_send_fd(int side, int fd)
    {
        char byte = 0;
        union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control;
        struct iovec iov = {&byte, 1};
        struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room,
                                 .msg_controllen = sizeof control.room};
        memset(&control, 0, sizeof control);
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
        return sendmsg(side, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
    }

    /* The other end is gone. */
    static int tux_app_is_dead(int side)
    {
        struct pollfd state = {side, POLLRDHUP, 0};
        return poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
    }
    """
    int tux_app_send_fd(int side, int fd) nogil
    bint tux_app_is_dead(int side) nogil


cdef inline bint _is_dead(int side) noexcept nogil:
    return tux_app_is_dead(side)


cdef bint _send_fd(_Link link, int fd) except -1:
    """Over the side socket, waiting for room; False: the engine is gone."""
    cdef int result = tux_app_send_fd(link.side_fd, fd)
    while result == -11:  # EAGAIN: the engine takes each with its record
        link.dirty = True
        link.flush()
        with nogil:
            usleep(FULL_PAUSE_US)
        if link.gone:
            return False
        PyErr_CheckSignals()
        result = tux_app_send_fd(link.side_fd, fd)
    if result == -32 or result == -104:  # EPIPE, ECONNRESET
        return False
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return True


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
        close(raised)
        if waits >= 0:
            close(waits)
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
