# SPDX-License-Identifier: MIT
"""What _app.pyx uses of the engine's headers and of the system."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


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


cdef extern from "appfd.h" nogil:
    int tux_appfd_send(int side_fd, int fd)
    bint tux_appfd_take(int side_fd, int *fd)


cdef extern from "appwire.h" nogil:
    enum:
        TUX_FIELD_COUNT
        TUX_FIELD_HOST
        TUX_APP_RING_BYTES
        TUX_APP_WINDOW_BYTES
        TUX_APP_FILE_COST
        TUX_APP_PIECE_BYTES
        TUX_MAX_APP_FIELDS_BYTES
        TUX_MAX_APP_REASON_BYTES
        TUX_MAX_APP_TAGS
        TUX_MAX_APP_PATH_BYTES
        TUX_MAX_APP_REMEMBERED_BYTES
        TUX_APP_REQUEST
        TUX_APP_BODY
        TUX_APP_CREDIT
        TUX_APP_GONE
        TUX_APP_DRAIN
        TUX_APP_FOUND
        TUX_APP_ANSWER
        TUX_APP_DATA
        TUX_APP_FILE
        TUX_APP_TRAILER
        TUX_APP_INFORM
        TUX_APP_UPGRADE
        TUX_APP_CONSUMED
        TUX_APP_ABORT
        TUX_APP_NEXT
        TUX_APP_FORGET
        TUX_APP_UNUSED
        TUX_APP_DESCRIPTOR
        TUX_APP_HANDLES
        TUX_APP_NO_HANDLE
        TUX_APP_LEAVE
        TUX_APP_OBJECT
        TUX_APP_LOOKUP
        TUX_APP_END
        TUX_APP_HARD
        TUX_APP_TRAILERS
        TUX_APP_UPGRADES
        TUX_APP_HTTPS
        TUX_APP_ABSOLUTE
        TUX_APP_WITHHELD
        TUX_APP_CLOSE
        TUX_APP_GENERAL
        TUX_APP_FORWARD
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
        uint32_t head_len
        uint32_t n_fields
        tux_span method
        tux_span target
        tux_span path
        tux_span query
        tux_span host
        uint32_t listener
        uint16_t peer_port
        uint16_t local_port
        uint8_t peer_len
        uint8_t local_len
        uint8_t minor
        uint32_t window
    struct tux_app_answer:
        tux_app_record record
        int64_t length
        uint32_t fields_len
        uint32_t remember_ms
        uint32_t reason_len
    struct tux_app_object:
        tux_app_record record
        uint32_t fields_len
        uint32_t path_len
    struct tux_app_found:
        tux_app_record record
        uint64_t number
        uint64_t size
        int64_t modified_ns
        uint16_t type_len
        uint16_t etag_len
    struct tux_app_found_view:
        tux_app_found found
        const uint8_t *type
        const uint8_t *etag
    struct tux_app_file:
        tux_app_record record
        uint64_t offset
        uint64_t length
        uint64_t number
        uint32_t handle
    struct tux_app_shared:
        pass
    struct tux_app_request_view:
        tux_app_request request
        const tux_app_field *fields
        const uint8_t *head
        const uint8_t *peer
        const uint8_t *local
        const uint8_t *body
    bint tux_appwire_found(const void *payload, uint32_t size, tux_app_found_view *view)
    bint tux_appwire_is_object_status(unsigned status)
    bint tux_appwire_request(const void *payload, uint32_t size, tux_app_request_view *view)
    bint tux_appwire_is_reason(const uint8_t *reason, size_t length)
    int tux_appwire_field(const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len, bint upgrade)
    void tux_app_tell_load(const tux_ring *answers, uint32_t load)
    void tux_app_tell_pace(const tux_ring *answers, uint32_t pace_us)


cdef extern from "appknown.h" nogil:
    struct tux_app_known_file:
        bint kept
    struct tux_app_known:
        tux_app_known_file files[1]
    enum tux_app_naming:
        TUX_APP_BY_DESCRIPTOR
        TUX_APP_TO_KEEP
        TUX_APP_BY_HANDLE
    tux_app_naming tux_app_known_name(tux_app_known *known, int fd, uint32_t *handle, uint32_t *forget)
    uint32_t tux_app_known_at(tux_app_known *known, const char *path, uint64_t *size)
    void tux_app_known_forget(tux_app_known *known, uint32_t handle)
