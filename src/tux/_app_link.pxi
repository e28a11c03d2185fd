# SPDX-License-Identifier: MIT
# What _app.pyx has of one link: the exchanges of one engine, and the records that go to it. A part of that file, which would
# be too long with it.

# -- descriptors ---------------------------------------------------------------------------------------------------


cdef extern from *:
    """
    #include <poll.h>

    /* The other end is gone. */
    static int tux_app_is_dead(int side)
    {
        struct pollfd state = {side, POLLRDHUP, 0};
        return poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
    }
    """
    bint tux_app_is_dead(int side) nogil


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


# -- links ---------------------------------------------------------------------------------------------------------


cdef inline int _last(bint end, bint close) noexcept:
    """Flags of the record that ends a body."""
    return TUX_APP_END | (TUX_APP_CLOSE if close else 0) if end else 0


cdef inline int _name(uint32_t handle) noexcept:
    """What file() takes in place of a descriptor: -1 is none, and no handle either."""
    return -2 - <int> handle


cdef inline uint32_t _handle(int name) noexcept:
    return <uint32_t> (-2 - name)


cdef struct _Manner:
    const uint8_t *reason
    uint32_t reason_len
    bint end
    bint trailers
    bint close
    bint general
    uint32_t remember_ms


cdef struct Slot:
    uint32_t serial
    bint open
    bint is_head  # the request's method is HEAD: its answer has no body, whatever is said of it
    bint answered
    bint complete  # all of the request's body has come
    bint withheld  # it comes when it is accepted
    bint trailers
    bint looks  # FOUND is to come
    bint waits  # something of the answer is kept until the window is larger
    int64_t window  # bytes that the engine takes
    int64_t kept  # ... and bytes that are kept
    int64_t left  # of the announced length; -1: none was
    uint32_t used  # bytes of the request's body that the engine was not told of


cdef int _check_left(Slot *slot, int64_t length, bint end) except -1:
    """LengthError: so many bytes are too many, or, at the end, too few."""
    if slot.left < 0 or slot.is_head:
        return 0
    if length > slot.left:
        raise LengthError(f"{length} bytes where {slot.left} are left of the body")
    if end and length < slot.left:
        raise LengthError(f"the body ends {slot.left - length} bytes before its length")
    return 0


@cython.final
cdef class _Totals:
    """Exchanges of all links, how long they take, and when the process has served enough of them."""

    cdef uint32_t open
    cdef uint64_t finished
    cdef uint64_t pace_ns  # the time that the process is at work for one, on average
    cdef uint64_t at_work  # since when it is, in ns; 0: it is not
    cdef uint64_t before  # exchanges that had ended then
    cdef uint64_t max_requests, max_memory, memory_at
    cdef int memory_fd
    cdef object retire
    cdef object written  # is called when a link gets the first record that its engine was not woken for

    def __cinit__(self):
        self.memory_fd = -1
        self.pace_ns = MAX_PACE_NS

    cdef void begins(self) noexcept:
        """The process is awake."""
        if self.at_work == 0:
            self.at_work = _now_ns()
            self.before = self.finished

    cdef bint rests(self) noexcept:
        """It will sleep now; True: another time is known. It is at work until then, and also while something is open:
        whoever waits for a database is slow. One period counts as four times of what is known at most: it may have
        waited for the processor."""
        cdef uint64_t now, n = self.finished - self.before, took
        if self.at_work == 0:
            return False
        now = _now_ns()
        took = now - self.at_work
        if self.open and took < MAX_PACE_NS:
            return False
        self.at_work = now if self.open else 0
        self.before = self.finished
        if n == 0 and self.open == 0:
            return False
        took = min(took // max(n, 1), 4 * self.pace_ns, MAX_PACE_NS)
        self.pace_ns = (7 * self.pace_ns + took) // 8
        return True

    cdef uint32_t pace_us(self) noexcept:
        """Rounded up: 0 would mean that it is not known."""
        return <uint32_t> (self.pace_ns // 1000 + 1)

    def __dealloc__(self):
        if self.memory_fd >= 0:
            c_close(self.memory_fd)

    cdef int limit(self, uint64_t max_requests, uint64_t max_memory, retire) except -1:
        self.max_requests = max_requests
        self.max_memory = max_memory
        self.retire = retire
        if max_memory and self.memory_fd < 0:
            self.memory_fd = c_open(b"/proc/self/statm", O_RDONLY | O_CLOEXEC)
        return 0

    cdef bint too_large(self):
        cdef char text[64]
        cdef ssize_t n
        cdef uint64_t now = _now_ns()
        if now < self.memory_at:
            return False
        self.memory_at = now + MEMORY_NS
        n = pread(self.memory_fd, text, 63, 0)
        if n <= 0:
            return False
        numbers = (<bytes> text[:n]).split()
        return int(numbers[1]) * PAGE_BYTES > self.max_memory

    cdef int ended(self) except -1:
        self.open -= 1
        self.finished += 1
        if self.retire is not None and (
            (self.max_requests and self.finished >= self.max_requests) or (self.max_memory and self.too_large())
        ):
            retire, self.retire = self.retire, None
            retire()
        return 0


@cython.final
cdef class _Link:
    cdef tux_ring requests, answers
    cdef int wake_fd, side_fd
    cdef uint32_t index
    cdef uint64_t serial
    cdef Slot *slots
    cdef uint32_t n_slots
    cdef uint64_t files  # descriptors sent
    cdef tux_app_known known  # files that the engine keeps
    cdef _Totals totals
    cdef bint dirty  # records the engine was not woken for
    cdef bint gone, left, drained
    cdef dict kept  # by tag: what waits for the window

    def __cinit__(self):
        memset(&self.requests, 0, sizeof(tux_ring))
        memset(&self.answers, 0, sizeof(tux_ring))
        memset(&self.known, 0, sizeof(tux_app_known))
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
            c_close(self.wake_fd)
        if self.side_fd >= 0:
            c_close(self.side_fd)
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

    cdef int close_slot(self, uint32_t tag) except -1:
        cdef Slot *slot = &self.slots[tag]
        slot.open = False
        if slot.waits:
            slot.waits = False
            _drop(self.kept.pop(tag))
        return self.totals.ended()

    # -- records -----------------------------------------------------------------------------------------------

    cdef char *reserve(self, uint32_t size) except? NULL:
        """Room for a record, waiting for it if need be; NULL: the engine is gone."""
        cdef char *at
        if self.gone:
            return NULL
        at = <char *> tux_ring_reserve(&self.answers, size)
        while at is NULL:
            self.dirty = True
            self.flush()
            with nogil:
                usleep(FULL_PAUSE_US)
            if self.gone or tux_app_is_dead(self.side_fd):
                return NULL
            PyErr_CheckSignals()
            at = <char *> tux_ring_reserve(&self.answers, size)
        return at

    cdef inline int commit(self, uint32_t size) except -1:
        tux_ring_commit(&self.answers, size)
        if not self.dirty:
            self.dirty = True
            if self.totals.written is not None:
                self.totals.written()
        return 0

    cdef bint put(self, const void *record, uint32_t record_len, const void *rest, uint32_t rest_len) except -1:
        """False: the engine is gone."""
        cdef char *at = self.reserve(record_len + rest_len)
        if at is NULL:
            return False
        memcpy(at, record, record_len)
        if rest_len:
            memcpy(at + record_len, rest, rest_len)
        self.commit(record_len + rest_len)
        return True

    cdef int short(self, uint32_t tag, uint32_t serial, int kind, int flags, uint32_t n) except -1:
        """A record of nothing but itself."""
        cdef tux_app_record record
        memset(&record, 0, sizeof(record))
        record.kind = kind
        record.flags = flags
        record.tag = tag
        record.serial = serial
        record.n = n
        self.put(&record, sizeof(record), NULL, 0)
        return 0

    cdef bint say(self, uint32_t tag, Slot *slot, int kind, int status, fields) except -1:
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
        at = self.reserve(sizeof(record) + fields_len)
        if at is NULL:
            return False
        memcpy(at, &record, sizeof(record))
        _write_fields(fields, at + sizeof(record), upgrade)
        self.commit(sizeof(record) + fields_len)
        return True

    # -- answers -----------------------------------------------------------------------------------------------

    cdef bint answer(self, uint32_t tag, Slot *slot, int status, fields, int64_t length, const char *body,
                     Py_ssize_t body_len, const _Manner *manner) except -1:
        cdef tux_app_answer record
        cdef uint32_t piece, fields_len, size
        cdef bint end = manner.end, trailers = manner.trailers
        cdef char *at
        if slot.answered:
            raise RuntimeError("the exchange was answered before")
        if not 200 <= status <= 999:
            raise ValueError(f"status {status}: 200 to 999 expected")
        if not tux_appwire_is_reason(manner.reason, manner.reason_len):
            raise ValueError(f"{(<const char *> manner.reason)[:manner.reason_len]!r} cannot be a reason phrase")
        fields_len = _measure(fields, &length, False)
        if slot.is_head or status == 204 or status == 304:
            body_len = 0
        else:
            if end and not trailers and length < 0:
                length = body_len
            if 0 <= length < body_len or (end and 0 <= length != body_len):
                raise LengthError(f"{body_len} bytes of a body of {length}")
        piece = <uint32_t> max(0, min(body_len, TUX_APP_PIECE_BYTES, slot.window))
        if manner.remember_ms and end and body_len <= min(slot.window, TUX_MAX_APP_REMEMBERED_BYTES):
            piece = <uint32_t> body_len
        memset(&record, 0, sizeof(record))
        record.record.kind = TUX_APP_ANSWER
        record.record.tag = tag
        record.record.serial = slot.serial
        record.record.status = status
        record.record.n = piece
        record.length = length
        record.fields_len = fields_len
        record.reason_len = manner.reason_len
        if trailers:
            record.record.flags = TUX_APP_TRAILERS
        elif end and piece == body_len:
            record.record.flags = TUX_APP_END
            record.remember_ms = manner.remember_ms
            if manner.remember_ms and manner.general:
                record.record.flags |= TUX_APP_GENERAL
        if manner.close:
            record.record.flags |= TUX_APP_CLOSE
        size = sizeof(record) + manner.reason_len + fields_len + piece
        at = self.reserve(size)
        slot = self.slot(tag, record.record.serial)
        if at is NULL or slot is NULL:
            return False
        memcpy(at, &record, sizeof(record))
        at += sizeof(record)
        if manner.reason_len:
            memcpy(at, manner.reason, manner.reason_len)
            at += manner.reason_len
        _write_fields(fields, at, False)
        if piece:
            memcpy(at + fields_len, body, piece)
        self.commit(size)
        slot.answered = True
        slot.trailers = trailers
        slot.window -= piece
        slot.left = -1 if length < 0 or status == 204 or status == 304 else length - piece
        if piece < body_len:
            return self.data(tag, slot, body + piece, body_len - piece, TUX_APP_END if end else 0)
        if end and not trailers:
            self.close_slot(tag)
        return True

    # -- objects of the site -----------------------------------------------------------------------------------

    cdef int check_path(self, Slot *slot, bytes path) except -1:
        if not path.startswith(b"/") or b"\0" in path or len(path) > TUX_MAX_APP_PATH_BYTES:
            raise ValueError(f"{path[:100]!r} cannot be the path of an object")
        if slot.looks:
            raise RuntimeError("a lookup is under way")
        return 0

    cdef bint object(self, uint32_t tag, Slot *slot, bytes path, fields, int status, bint close) except -1:
        cdef tux_app_object record
        cdef int64_t length = -1
        cdef uint32_t fields_len
        cdef char *at
        self.check_path(slot, path)
        if status and not tux_appwire_is_object_status(status):
            raise ValueError(f"status {status} cannot be that of an object")
        fields_len = _measure(fields, &length, False)
        memset(&record, 0, sizeof(record))
        record.record.kind = TUX_APP_OBJECT
        record.record.flags = TUX_APP_CLOSE if close else 0
        record.record.tag = tag
        record.record.serial = slot.serial
        record.record.status = status
        record.fields_len = fields_len
        record.path_len = <uint32_t> PyBytes_GET_SIZE(path)
        at = self.reserve(sizeof(record) + fields_len + record.path_len)
        if at is NULL:
            return False
        memcpy(at, &record, sizeof(record))
        _write_fields(fields, at + sizeof(record), False)
        memcpy(at + sizeof(record) + fields_len, PyBytes_AS_STRING(path), record.path_len)
        self.commit(sizeof(record) + fields_len + record.path_len)
        if self.slot(tag, record.record.serial) is not NULL:
            self.close_slot(tag)
        return True

    cdef bint lookup(self, uint32_t tag, Slot *slot, bytes path) except -1:
        cdef tux_app_record record
        self.check_path(slot, path)
        memset(&record, 0, sizeof(record))
        record.kind = TUX_APP_LOOKUP
        record.tag = tag
        record.serial = slot.serial
        record.n = <uint32_t> PyBytes_GET_SIZE(path)
        slot.looks = True
        return self.put(&record, sizeof(record), PyBytes_AS_STRING(path), record.n)

    # -- bodies ------------------------------------------------------------------------------------------------

    cdef bint data(self, uint32_t tag, Slot *slot, const char *body, Py_ssize_t length, int last) except -1:
        """last: flags of the record that ends it, 0 when none does."""
        cdef tux_app_record record
        cdef uint32_t piece
        if slot.left >= 0:
            slot.left -= length
        if slot.waits:
            (<list> self.kept[tag]).append((PyBytes_FromStringAndSize(body, length), last))
            slot.kept += length
            return True
        if length == 0 and not last:
            return True
        memset(&record, 0, sizeof(record))
        record.kind = TUX_APP_DATA
        record.tag = tag
        record.serial = slot.serial
        while True:  # ends: each round sends something, or is the last
            if slot.window <= 0 < length:
                self.kept[tag] = [(PyBytes_FromStringAndSize(body, length), last)]
                slot.waits = True
                slot.kept += length
                return True
            piece = <uint32_t> max(0, min(length, TUX_APP_PIECE_BYTES, slot.window))
            record.n = piece
            record.flags = last if piece == length else 0
            if not self.put(&record, sizeof(record), body, piece):
                return False
            slot = self.slot(tag, record.serial)  # it may be gone, when the ring was full
            if slot is NULL:
                return False
            slot.window -= piece
            body += piece
            length -= piece
            if length == 0:
                break
        if last:
            self.close_slot(tag)
        return True

    cdef bint file(self, uint32_t tag, Slot *slot, int fd, uint64_t offset, uint64_t length, bint end) except -1:
        cdef tux_app_file record
        cdef uint32_t forget = 0
        cdef tux_app_naming naming
        if slot.waits or slot.window <= 0:
            self.kept.setdefault(tag, []).append((_Piece(os.dup(fd), offset, length), end))
            slot.waits = True
            slot.kept += TUX_APP_FILE_COST
            return True
        memset(&record, 0, sizeof(record))
        record.record.kind = TUX_APP_FILE
        record.record.flags = TUX_APP_END if end else 0
        record.record.tag = tag
        record.record.serial = slot.serial
        record.offset = offset
        record.length = length
        slot.window -= TUX_APP_FILE_COST
        if fd < 0:
            naming = TUX_APP_BY_HANDLE
            record.handle = _handle(fd)
            forget = TUX_APP_NO_HANDLE
        else:
            naming = tux_app_known_name(&self.known, fd, &record.handle, &forget)
        if forget != TUX_APP_NO_HANDLE:
            self.short(0, 0, TUX_APP_FORGET, 0, forget)
        if naming != TUX_APP_BY_HANDLE:
            record.record.flags |= TUX_APP_DESCRIPTOR
            try:
                if not _send_fd(self, fd):
                    return False
            except OSError:
                if naming == TUX_APP_TO_KEEP:
                    tux_app_known_forget(&self.known, record.handle)
                raise
            self.files += 1
            record.number = self.files
        if not self.put(&record, sizeof(record), NULL, 0):
            return False
        if end and self.slot(tag, record.record.serial) is not NULL:
            self.close_slot(tag)
        return True

    cdef bint is_kept(self, Slot *slot, int name) noexcept:
        return (_name(TUX_APP_HANDLES - 1) <= name < -1 and not slot.waits and slot.window > 0
                and self.known.files[_handle(name)].kept)

    cdef tuple kept_at(self, Slot *slot, bytes path):
        """(its name for file(), size) of the file at this path, if the engine has it open."""
        cdef uint64_t size = 0
        cdef uint32_t handle = TUX_APP_NO_HANDLE
        if slot.open and not slot.waits and slot.window > 0 and PyBytes_GET_SIZE(path) == strlen(PyBytes_AS_STRING(path)):
            handle = tux_app_known_at(&self.known, PyBytes_AS_STRING(path), &size)
        return None if handle == TUX_APP_NO_HANDLE else (_name(handle), size)

    cdef int unused(self, uint32_t handle) except -1:
        """The engine need not keep this file."""
        if handle < TUX_APP_HANDLES:
            tux_app_known_forget(&self.known, handle)
            self.short(0, 0, TUX_APP_FORGET, 0, handle)
        return 0

    cdef bint trailers(self, uint32_t tag, Slot *slot, fields) except -1:
        cdef uint32_t serial = slot.serial
        cdef int64_t length = -1
        if slot.waits:
            _measure(fields, &length, False)
            (<list> self.kept[tag]).append((list(fields), True))
            return True
        if not self.say(tag, slot, TUX_APP_TRAILER, 0, fields):
            return False
        if self.slot(tag, serial) is not NULL:
            self.close_slot(tag)
        return True

    cdef int pump(self, uint32_t tag) except -1:
        """The window is larger: send what was kept, in order, as far as it goes."""
        cdef Slot *slot = &self.slots[tag]
        cdef list kept = <list> self.kept.pop(tag)
        cdef bytes data
        slot.waits = False
        while kept and slot.open and not slot.waits and slot.window > 0:
            what, end = kept.pop(0)
            if type(what) is bytes:
                data = <bytes> what
                slot.kept -= PyBytes_GET_SIZE(data)
                if slot.left >= 0:
                    slot.left += PyBytes_GET_SIZE(data)  # data() takes it off once more
                self.data(tag, slot, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), end)
            elif type(what) is _Piece:
                slot.kept -= TUX_APP_FILE_COST
                self.file(tag, slot, what.fd, what.offset, what.length, end)
                os.close(what.fd)
            else:
                self.trailers(tag, slot, what)
            slot = &self.slots[tag]
        if kept and slot.open:
            if slot.waits:
                (<list> self.kept[tag]).extend(kept)
            else:
                self.kept[tag] = kept
                slot.waits = True
        else:
            _drop(kept)
        return 0


cdef bint _send_fd(_Link link, int fd) except -1:
    """Over the side socket, waiting for room; False: the engine is gone."""
    cdef int result = tux_appfd_send(link.side_fd, fd)
    while result == -11:  # EAGAIN: the engine takes each with its record
        link.dirty = True
        link.flush()
        with nogil:
            usleep(FULL_PAUSE_US)
        if link.gone:
            return False
        PyErr_CheckSignals()
        result = tux_appfd_send(link.side_fd, fd)
    if result == -32 or result == -104:  # EPIPE, ECONNRESET
        return False
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return True
