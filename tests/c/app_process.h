/* SPDX-License-Identifier: MIT */
/* A process of an application, played by a test: its ends of the rings, driven record by record. */
#ifndef TUX_APP_PROCESS_H
#define TUX_APP_PROCESS_H

#include "engine_kit.h"

#include <sys/eventfd.h>

#include "app.h"
#include "appwire.h"

/* A process: its end of one link. */
struct process {
    struct tux_ring requests, answers;
    int wake_fd, event_fd, side_fd;
    uint64_t files;
    /* What was heard last. */
    struct tux_app_record record;
    struct tux_app_request_view request;
    uint8_t bytes[TUX_APP_RING_BYTES];
    uint32_t size;
};

static uint64_t last_serial;

static inline void link_process(struct kit *kit, struct process *process, uint32_t app)
{
    struct tux_ring requests, answers;
    int sides[2];
    memset(process, 0, sizeof *process);
    MUST(tux_ring_create_bare(&requests, TUX_APP_RING_BYTES) == 0);
    MUST(tux_ring_create_bare(&answers, TUX_APP_RING_BYTES) == 0);
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sides) == 0);
    process->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    process->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    process->side_fd = sides[1];
    MUST(tux_ring_attach(&process->requests, dup(requests.memfd), -1, -1, TUX_APP_RING_BYTES) == 0);
    MUST(tux_ring_attach(&process->answers, dup(answers.memfd), -1, -1, TUX_APP_RING_BYTES) == 0);
    struct tux_app_link_config config = {.app = app,
                                         .serial = ++last_serial,
                                         .requests_fd = dup(requests.memfd),
                                         .answers_fd = dup(answers.memfd),
                                         .process_wake_fd = dup(process->event_fd),
                                         .wake_fd = dup(process->wake_fd),
                                         .side_fd = sides[0]};
    tux_ring_close(&requests);
    tux_ring_close(&answers);
    uint64_t links = kit_stat(kit, "app_links");
    MUST(tux_engine_link_app(kit->engine, &config) == 0);
    MUST(kit_becomes(kit, "app_links", links + 1));
}

static inline void end_process(struct process *process)
{
    tux_ring_close(&process->requests);
    tux_ring_close(&process->answers);
    close(process->wake_fd);
    close(process->event_fd);
    if (process->side_fd >= 0)
        close(process->side_fd);
}

static inline void kill_process(struct process *process)
{
    close(process->side_fd);
    process->side_fd = -1;
}

/* The next record within the time limit. */
static inline bool hear(struct process *process)
{
    const void *payload;
    uint64_t until = kit_now_ms() + KIT_LIMIT_MS, count;
    int result;
    while ((result = tux_ring_read(&process->requests, &payload, &process->size)) == 0 && kit_now_ms() < until) {
        struct pollfd fds = {.fd = process->event_fd, .events = POLLIN};
        if (tux_ring_reader_sleep(&process->requests)) {
            poll(&fds, 1, 100);
            if (read(process->event_fd, &count, sizeof count) < 0) {
                /* it was no wake-up */
            }
            tux_ring_reader_awake(&process->requests);
        }
    }
    if (result != 1)
        return false;
    MUST(process->size >= sizeof process->record && process->size <= sizeof process->bytes);
    memcpy(process->bytes, payload, process->size);
    if (tux_ring_release_bare(&process->requests)) {
        uint64_t one = 1;
        MUST(write(process->wake_fd, &one, sizeof one) == sizeof one);
    }
    memcpy(&process->record, process->bytes, sizeof process->record);
    if (process->record.kind == TUX_APP_REQUEST)
        CHECK(tux_appwire_request(process->bytes, process->size, &process->request));
    return true;
}

static inline bool hears(struct process *process, uint8_t kind)
{
    bool heard = hear(process);
    CHECK_EQ(heard ? process->record.kind : 0, kind);
    return heard && process->record.kind == kind;
}

static inline bool path_is(const struct process *process, const char *path)
{
    struct tux_span span = process->request.request.path;
    return span.len == strlen(path) && memcmp(process->request.head + span.off, path, span.len) == 0;
}

static inline void utter(struct process *process, const void *record, size_t len, const void *rest, size_t rest_len)
{
    uint8_t *at;
    uint64_t until = kit_now_ms() + KIT_LIMIT_MS, one = 1;
    while ((at = tux_ring_reserve(&process->answers, (uint32_t)(len + rest_len))) == NULL) {
        MUST(kit_now_ms() < until);
        sched_yield();
    }
    memcpy(at, record, len);
    if (rest_len > 0)
        memcpy(at + len, rest, rest_len);
    tux_ring_commit(&process->answers, (uint32_t)(len + rest_len));
    if (tux_ring_take_wake(&process->answers))
        MUST(write(process->wake_fd, &one, sizeof one) == sizeof one);
}

/* A record for the exchange that was heard of last. */
static inline void say(struct process *process, uint8_t kind, uint8_t flags, uint32_t n, const void *body)
{
    struct tux_app_record record = {
        .kind = kind, .flags = flags, .tag = process->record.tag, .serial = process->record.serial, .n = n};
    utter(process, &record, sizeof record, body, body == NULL ? 0 : n);
}

static inline void answer(struct process *process, uint16_t status, int64_t length, const char *fields, const char *body,
                   uint8_t flags)
{
    static uint8_t text[4096];
    struct tux_app_answer head = {.record = {.kind = TUX_APP_ANSWER,
                                             .flags = flags,
                                             .status = status,
                                             .tag = process->record.tag,
                                             .serial = process->record.serial,
                                             .n = (uint32_t)strlen(body)},
                                  .length = length,
                                  .fields_len = (uint32_t)strlen(fields)};
    memcpy(text, fields, strlen(fields));
    memcpy(text + strlen(fields), body, strlen(body));
    utter(process, &head, sizeof head, text, strlen(fields) + strlen(body));
}

/* The same with a reason phrase of its own. */
static inline void answer_why(struct process *process, uint16_t status, const char *reason)
{
    struct tux_app_answer head = {.record = {.kind = TUX_APP_ANSWER,
                                             .flags = TUX_APP_END,
                                             .status = status,
                                             .tag = process->record.tag,
                                             .serial = process->record.serial},
                                  .reason_len = (uint32_t)strlen(reason)};
    utter(process, &head, sizeof head, reason, strlen(reason));
}

static inline void hello(struct process *process)
{
    answer(process, 200, 6, "Content-Type: text/plain\r\n", "hello\n", TUX_APP_END);
}

/* A file whose descriptor is sent along, to be kept as `handle` (TUX_APP_NO_HANDLE: it is not). */
static inline void send_file_to_keep(struct process *process, int fd, uint64_t offset, uint64_t length, bool with_fd,
                                     uint32_t handle)
{
    struct tux_app_file file = {.record = {.kind = TUX_APP_FILE,
                                           .flags = TUX_APP_END | TUX_APP_DESCRIPTOR,
                                           .tag = process->record.tag,
                                           .serial = process->record.serial},
                                .offset = offset,
                                .length = length,
                                .number = ++process->files,
                                .handle = handle};
    char byte = 0;
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    control.head.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    if (with_fd)
        MUST(sendmsg(process->side_fd, &message, 0) == 1);
    utter(process, &file, sizeof file, NULL, 0);
}

static inline void send_file(struct process *process, int fd, uint64_t offset, uint64_t length, bool with_fd)
{
    send_file_to_keep(process, fd, offset, length, with_fd, TUX_APP_NO_HANDLE);
}

/* One that was kept. */
static inline void send_kept(struct process *process, uint32_t handle, uint64_t offset, uint64_t length)
{
    struct tux_app_file file = {.record = {.kind = TUX_APP_FILE,
                                           .flags = TUX_APP_END,
                                           .tag = process->record.tag,
                                           .serial = process->record.serial},
                                .offset = offset,
                                .length = length,
                                .handle = handle};
    utter(process, &file, sizeof file, NULL, 0);
}

#endif
