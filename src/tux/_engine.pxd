# SPDX-License-Identifier: MIT
"""What the binding uses of the engine's C library."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "span.h" nogil:
    struct tux_span:
        uint32_t off
        uint32_t len
    enum tux_outcome:
        TUX_DONE
        TUX_MORE
        TUX_MALFORMED


cdef extern from "bounds.h" nogil:
    enum:
        TUX_MAX_TARGET_BYTES
        TUX_MAX_HEAD_BYTES
        TUX_MAX_FIELDS
        TUX_MAX_BODY_BYTES
        TUX_MAX_DRAIN_BYTES
        TUX_MAX_CONNECTIONS
        TUX_MAX_PIPELINED
        TUX_HEAD_TIMEOUT_MS
        TUX_IDLE_TIMEOUT_MS
        TUX_STALL_TIMEOUT_MS
        TUX_SMALL_BODY_BYTES
        TUX_MEMO_BYTES
        TUX_MEMO_FILES
        TUX_HELD_BYTES
        TUX_RECHECK_MS
        TUX_ASK_RING_BYTES
        TUX_REPLY_RING_BYTES
        TUX_SLICE_BYTES


cdef extern from "range.h" nogil:
    struct tux_range:
        uint8_t kind
        uint64_t first
        uint64_t last
    tux_range tux_range_parse(const uint8_t *value, size_t len)


cdef extern from "head.h" nogil:
    enum:
        TUX_SIGNIFICANT_BY_DEFAULT
        TUX_FIELD_COUNT
    struct tux_signature:
        uint64_t lo
        uint64_t hi
    struct tux_sign_rules:
        uint64_t key[2]
        uint32_t significant
    struct tux_head_limits:
        uint32_t target_bytes
        uint32_t head_bytes
        uint32_t fields
    struct tux_head_field:
        tux_span name
        tux_span value
        uint8_t id
    struct tux_head:
        uint32_t length
        uint16_t error_status
        const char *error_reason
        uint8_t method
        uint8_t minor
        bint keep_alive
        bint has_length
        bint chunked
        bint expect_continue
        bint expect_other
        bint upgrade
        bint is_signed
        bint same
        bint has_query
        uint64_t content_length
        tux_range range
        tux_span method_name
        tux_span target
        tux_span path
        tux_span query
        tux_span host
        tux_signature general
        tux_signature exact
        uint32_t seen
        uint32_t n_fields
        tux_head_field *fields
    tux_outcome tux_head_scan(const uint8_t *buf, size_t len, size_t seen_len, const tux_head_limits *limits,
                              const tux_sign_rules *rules, uint64_t context, tux_head *head)


cdef extern from "field.h" nogil:
    enum:
        TUX_FIELD_SLOTS
    struct tux_field_slot:
        uint8_t id
        uint8_t len
        char *name
    const tux_field_slot *tux_field_slots


cdef extern from "chunked.h" nogil:
    struct tux_chunked:
        pass
    tux_outcome tux_chunked_decode(tux_chunked *decoder, const uint8_t *buf, size_t len, size_t *consumed,
                                   tux_span *data)


cdef extern from "response.h" nogil:
    struct tux_response_field:
        tux_span name
        tux_span value
        uint8_t id
    struct tux_response:
        uint32_t length
        const char *error_reason
        uint16_t status
        uint8_t minor
        uint8_t framing
        bint keep_alive
        bint has_length
        uint64_t content_length
        tux_span reason
        uint32_t n_fields
        tux_response_field fields[1]
    tux_outcome tux_response_scan(const uint8_t *buf, size_t len, size_t seen_len, bint is_head,
                                  tux_response *response)


cdef extern from "address.h" nogil:
    enum:
        TUX_ADDRESS_TEXT_BYTES
        TUX_ADDRESS_UNIX
    struct tux_address:
        uint8_t kind
        uint16_t port
        uint8_t bytes[16]
    bint tux_address_parse_node(const uint8_t *text, size_t len, tux_address *address)
    uint8_t tux_address_format(const tux_address *address, char *text)


cdef extern from "trust.h" nogil:
    struct tux_trust:
        pass
    struct tux_client:
        tux_address address
        bint believed
        bint secure
        tux_span host
    tux_trust *tux_trust_new(const char *const *texts, uint32_t n)
    void tux_trust_free(tux_trust *trust)
    void tux_trust_client(const tux_trust *trust, const tux_address *peer, const uint8_t *buf, const tux_head *head,
                          tux_client *client)


cdef extern from "proxyproto.h" nogil:
    enum:
        TUX_PROXY_BUILD_BYTES
    struct tux_proxy:
        uint32_t length
        uint8_t version
        bint named
        tux_address source
    tux_outcome tux_proxy_parse(const uint8_t *buf, size_t len, tux_proxy *proxy)
    size_t tux_proxy_build(unsigned version, const tux_address *source, const tux_address *destination, uint8_t *out)


cdef extern from "forward.h" nogil:
    enum:
        TUX_FORWARD_HEAD_BYTES
        TUX_MAX_HOST_BYTES
    struct tux_forward_rules:
        char host[1]
        uint32_t host_len
        bint underscores
        bint upgrade
        bint forwarded
    struct tux_forward_way:
        const tux_address *peer
        const tux_client *client
        const char *server
        uint32_t server_len
        bint close
    struct tux_forward_head:
        uint32_t length
        bint expect
        bint upgrade
        uint8_t protocol_len
        char protocol[1]
    uint16_t tux_forward_request(const uint8_t *buf, const tux_head *head, const tux_forward_rules *rules,
                                 const tux_forward_way *way, uint8_t *out, size_t size, tux_forward_head *result)
    size_t tux_forward_response(const uint8_t *buf, const tux_response *response, uint8_t *out)
    size_t tux_forward_trailers(const uint8_t *section, size_t len, uint8_t *out)


cdef extern from "app.h" nogil:
    struct tux_app_config:
        uint32_t queue
        uint64_t queue_timeout_ms
        bint accel
        int64_t sendfile_root
        bint hands_on_404
    struct tux_app_link_config:
        uint32_t app
        uint64_t serial
        int requests_fd
        int answers_fd
        int process_wake_fd
        int wake_fd
        int side_fd
    int tux_engine_app(tux_engine *engine, const tux_app_config *config)
    int tux_engine_link_app(tux_engine *engine, const tux_app_link_config *config)
    int tux_engine_unlink_app(tux_engine *engine, uint64_t serial)


cdef extern from "upstream.h" nogil:
    struct tux_upstream_server:
        const char *name
        uint32_t weight
    enum:
        TUX_BALANCE_ROUND_ROBIN
        TUX_BALANCE_LEAST_CONNECTIONS
    struct tux_upstream_config:
        const tux_upstream_server *servers
        uint32_t n_servers
        uint8_t balance
        const char *host
        bint underscores
        bint upgrade
        bint forwarded
        uint8_t proxy_protocol
        bint accel
        int64_t sendfile_root
        uint32_t keepalive
        uint32_t connections
        uint32_t queue
        uint32_t retries
        uint32_t max_fails
        uint64_t fail_timeout_ms
        uint64_t keepalive_timeout_ms
        uint64_t queue_timeout_ms
        uint64_t connect_timeout_ms
        uint64_t send_timeout_ms
        uint64_t first_byte_timeout_ms
        uint64_t idle_timeout_ms
    void tux_upstream_defaults(tux_upstream_config *config)
    bint tux_upstream_address(const char *text, tux_upstream_server *server)
    int tux_engine_upstream(tux_engine *engine, const tux_upstream_config *config)
    enum:
        TUX_UPFAIL_COUNT
    const char *const tux_upstream_failure_names[1]
    void tux_upstream_health(tux_engine *engine, uint32_t group, uint32_t server, bint healthy)
    int tux_upstream_failures(const tux_engine *engine, uint32_t group, uint32_t server, uint64_t *counts)


cdef extern from "files.h" nogil:
    enum tux_found_kind:
        TUX_FOUND_ABSENT
        TUX_FOUND_FILE
        TUX_FOUND_FOLDER
        TUX_FOUND_SPECIAL
        TUX_FOUND_DENIED
        TUX_FOUND_ESCAPE
        TUX_FOUND_ERROR
    enum:
        TUX_MAX_PATH_BYTES
    struct tux_identity:
        uint64_t dev
        uint64_t ino
        uint64_t size
        int64_t mtime_ns
        int64_t ctime_ns
        uint64_t mode
    struct tux_found:
        uint8_t kind
        int error
        tux_identity identity
    struct tux_roots:
        pass
    tux_roots *tux_roots_new()
    void tux_roots_free(tux_roots *roots)
    int tux_roots_add(tux_roots *roots, const char *path)
    bint tux_files_look(tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                        bint cached_only, tux_found *found)
    int tux_files_open(tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                       tux_found *found)
    int tux_files_open_folder(tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                              tux_found *found)
    bint tux_files_identity(int fd, tux_identity *identity)
    bint tux_identity_equal(const tux_identity *a, const tux_identity *b)


cdef extern from "route.h" nogil:
    enum:
        TUX_NO_ROUTE
        TUX_MAX_STEPS
    struct tux_chain_step:
        uint32_t origin
        uint32_t number
    struct tux_chain:
        uint32_t n_steps
        tux_chain_step steps[3]
        uint32_t root
        uint32_t mount_len
        uint32_t pages
    struct tux_routes:
        pass
    tux_routes *tux_routes_new()
    void tux_routes_free(tux_routes *routes)
    int tux_routes_add_site(tux_routes *routes, const char *host, size_t host_len)
    int tux_routes_alias(tux_routes *routes, int site, const char *host, size_t host_len)
    int tux_routes_add_route(tux_routes *routes, int site, const char *prefix, size_t prefix_len, uint32_t route,
                             const tux_chain *chain)
    int tux_routes_set_pages(tux_routes *routes, int site, uint32_t pages)
    uint32_t tux_routes_pages(const tux_routes *routes, const uint8_t *host, size_t host_len)
    uint32_t tux_routes_match(const tux_routes *routes, const uint8_t *host, size_t host_len, const uint8_t *path,
                              size_t path_len, const tux_chain **chain)


cdef extern from "path.h" nogil:
    uint16_t tux_path_decode(const uint8_t *path, size_t len, uint8_t *out, size_t *out_len,
                             bint *kept_slash)


cdef extern from "ring.h" nogil:
    struct tux_ring:
        uint32_t capacity
        int memfd
        int data_eventfd
        int space_eventfd
    int tux_ring_attach(tux_ring *ring, int memfd, int data_eventfd, int space_eventfd, uint32_t capacity)
    void tux_ring_close(tux_ring *ring)
    void *tux_ring_reserve(tux_ring *ring, uint32_t size)
    void tux_ring_commit(tux_ring *ring, uint32_t size)
    void tux_ring_wake(tux_ring *ring)
    bint tux_ring_writer_sleep(tux_ring *ring, uint32_t size)
    void tux_ring_writer_awake(tux_ring *ring)
    int tux_ring_read(tux_ring *ring, const void **payload, uint32_t *size)
    void tux_ring_release(tux_ring *ring)
    bint tux_ring_waits(const tux_ring *ring)
    bint tux_ring_reader_sleep(tux_ring *ring)
    void tux_ring_reader_awake(tux_ring *ring)


cdef extern from "wire.h" nogil:
    enum:
        TUX_ASK_SIGNED
        TUX_ASK_PLAIN_RANGE
        TUX_ASK_HAS_QUERY
        TUX_ASK_HAS_BODY
        TUX_ASK_EXPECT_OTHER
        TUX_ASK_INTERNAL
        TUX_MAX_CHECKS
        TUX_MAX_REPLY_HEAD
        TUX_MAX_REPLY_BODY
        TUX_PLAN_REMEMBER
        TUX_PLAN_EXACT
        TUX_PLAN_RANGE
        TUX_PLAN_CLOSE
        TUX_PLAN_NO_BODY
        TUX_PLAN_PUBLISH
        TUX_PLAN_NEXT
    struct tux_ask_record:
        uint64_t id
        uint32_t listener
        uint32_t flags
        uint32_t head_len
        uint32_t n_fields
        uint32_t root
        uint8_t minor
        uint8_t peer_len
        char *peer
        tux_span method
        tux_span target
        tux_span path
        tux_span query
        tux_span host
    struct tux_ask_view:
        const tux_ask_record *record
        const tux_head_field *fields
        const uint8_t *head
    struct tux_wire_check:
        uint32_t root
        uint32_t path_len
        tux_found expected
    struct tux_wire_recipe:
        uint32_t head_len
        uint32_t root
        uint32_t mount_len
        uint32_t absent
        uint32_t sides
        uint32_t mode_allowed
        uint32_t mode_forbidden
        uint32_t small_bytes
        uint32_t scope
    struct tux_reply_record:
        uint64_t id
        uint32_t flags
        uint32_t ttl_ms
        uint32_t head_len
        uint32_t n_checks
        uint32_t paths_len
        uint32_t inline_len
        uint64_t body_len
        uint64_t body_offset
        int32_t fd
        uint16_t status
        tux_wire_recipe recipe
    bint tux_wire_ask(const void *payload, uint32_t size, tux_ask_view *view)


cdef extern from "recipe.h" nogil:
    bint tux_recipe_is_hashed(const char *path, size_t path_len)


cdef extern from "validator.h" nogil:
    enum:
        TUX_HTTP_DATE_BYTES
        TUX_CONTENT_TAG_BYTES
        TUX_MAX_STATE_TAG_BYTES
    void tux_http_date(int64_t seconds, char *out)
    void tux_content_tag(const void *body, size_t len, char *out)
    size_t tux_state_tag(uint64_t size, int64_t mtime_ns, char *out)


cdef extern from "plan.h" nogil:
    uint64_t tux_plans_alive


cdef extern from "accesslog.h" nogil:
    enum tux_log_format:
        TUX_LOG_COMMON
        TUX_LOG_COMBINED
        TUX_LOG_JSON


cdef extern from "engine.h" nogil:
    struct tux_engine:
        pass
    struct tux_engine_limits:
        uint64_t target_bytes
        uint64_t head_bytes
        uint64_t fields
        uint64_t body_bytes
        uint64_t drain_bytes
        uint64_t connections
        uint64_t pipelined
        uint64_t head_timeout_ms
        uint64_t idle_timeout_ms
        uint64_t stall_timeout_ms
        uint64_t memo_bytes
        uint64_t memo_files
        uint64_t held_bytes
    struct tux_engine_config:
        tux_sign_rules sign
        uint32_t generation
        tux_engine_limits limits
        int log_fd
        tux_log_format log_format
        const char **roots
        uint32_t n_roots
        const tux_routes *routes
    struct tux_counter_entry:
        const char *name
        uint64_t value
    enum:
        TUX_STATS_COUNT
    void tux_engine_defaults(tux_engine_config *config)
    int tux_engine_new(const tux_engine_config *config, tux_engine **engine)
    uint64_t tux_engine_free(tux_engine *engine)
    int tux_engine_listen(tux_engine *engine, int fd, uint32_t listener, bint shared)
    int tux_engine_canned(tux_engine *engine, uint32_t pages, uint16_t status, const void *head, uint32_t head_len,
                          const void *body, uint32_t body_len)
    struct tux_kernel_config:
        int slots_fd
        int cells_fd
        int message_fd
        uint64_t secret[2]
        const uint32_t *listeners
        uint32_t n_listeners
        uint32_t hits
        uint32_t max_answer_bytes
        uint64_t unused_ms
    int tux_engine_own(tux_engine *engine, uint64_t dev, uint64_t ino)
    int tux_engine_trust(tux_engine *engine, const char *const *networks, uint32_t n, bint proxy_protocol)
    int tux_engine_kernel(tux_engine *engine, const tux_kernel_config *config)
    int tux_engine_run(tux_engine *engine)
    void tux_engine_drain(tux_engine *engine, uint64_t grace_ms)
    int tux_engine_leaving_fd(const tux_engine *engine)
    void tux_engine_reopen_log(tux_engine *engine, int fd)
    void tux_engine_end_log(tux_engine *engine)
    void tux_engine_read_stats(tux_engine *engine, tux_counter_entry *entries)
    const tux_ring *tux_engine_asks(tux_engine *engine)
    const tux_ring *tux_engine_replies(tux_engine *engine)


cdef extern from "kernel.h" nogil:
    enum:
        TUX_KERNEL_MAX_HEAD_BYTES
    struct tux_kernel_key:
        uint64_t lo
        uint64_t hi
        uint32_t length
    bint tux_kernel_key_of_head(const uint64_t *secret, const void *head, size_t len, uint32_t listener,
                                tux_kernel_key *key)


cdef extern from "kernellog.h" nogil:
    struct tux_kernellog:
        pass
    struct tux_kernellog_counts:
        uint64_t lines
        uint64_t unknown
    int tux_kernellog_new(int ring_fd, size_t ring_bytes, int out_fd, tux_log_format format, tux_kernellog **log)
    void tux_kernellog_free(tux_kernellog *log)
    int tux_kernellog_add(tux_kernellog *log, uint64_t id, uint32_t first_chunk, const void *head, size_t head_len,
                          uint16_t status, uint64_t body_bytes)
    void tux_kernellog_remove(tux_kernellog *log, uint32_t first_chunk, uint64_t id)
    int tux_kernellog_drain(tux_kernellog *log, int64_t wall_offset_ns, uint32_t max_records)
    int tux_kernellog_reopen(tux_kernellog *log, int fd)
    tux_kernellog_counts tux_kernellog_count(const tux_kernellog *log)
