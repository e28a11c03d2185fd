/* SPDX-License-Identifier: MIT */
/* What the tests of the whole engine share: the engine in a thread, a planner in another one at the far end of the
 * rings (written in C, no Python), and clients with blocking sockets. Everything waits for a condition with a time
 * limit. */
#ifndef TUX_ENGINE_KIT_H
#define TUX_ENGINE_KIT_H

#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "wire.h"

#define KIT_LIMIT_MS 20000 /* whatever is awaited comes within this, also under a sanitizer on a busy machine */
#define KIT_FOREVER UINT32_MAX

#define MUST(condition) kit_must((condition) != 0, __LINE__, #condition)

static inline void kit_must(int holds, int line, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "the test itself failed in line %d: %s: %s\n", line, what, strerror(errno));
    abort();
}

static inline uint64_t kit_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* -- the planner ------------------------------------------------------------------------------------------------ */

struct kit;

/* What the planner says to one ask. */
struct kit_answer {
    uint16_t status;
    uint32_t flags, ttl_ms;
    char head[512];    /* status line and fields */
    const void *body;  /* in memory */
    uint64_t body_len; /* of either kind */
    uint64_t body_offset;
    int fd;
    bool checked;      /* carries the check of `path` */
    uint32_t root;     /* ... below this root: 0 the kit's folder, 1 /proc */
    char path[128];
    struct tux_found found;
};

typedef void kit_decide(struct kit *kit, const struct tux_ask_view *ask, struct kit_answer *answer);

struct kit {
    struct tux_engine_config config;
    struct tux_engine *engine;
    pthread_t engine_thread, planner_thread;
    int engine_result;
    _Atomic bool stop, hold; /* hold: asks stay in the ring */
    _Atomic bool holds;      /* the planner has seen that */
    _Atomic uint64_t decided;
    int control;             /* eventfd: stop or hold changed */
    kit_decide *decide;
    uint32_t ttl_ms, more_flags; /* of every answer */
    struct tux_ring asks, replies;
    struct tux_roots *roots; /* the planner's */
    char folder[64], socket_path[96];
    char text[4096];         /* what an answer in memory points to */
    int tcp, unix_;
    struct sockaddr_in address;
    bool engine_ended;
};

/* A file in the served folder: written beside it and renamed, as careful publishers do. */
static inline void kit_write_file(struct kit *kit, const char *name, const void *bytes, size_t len)
{
    char path[256], temporary[256];
    snprintf(path, sizeof path, "%s/%s", kit->folder, name);
    snprintf(temporary, sizeof temporary, "%s/.new", kit->folder);
    int fd = open(temporary, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    MUST(fd >= 0);
    for (size_t at = 0; at < len;) {
        ssize_t n = write(fd, (const char *)bytes + at, len - at);
        MUST(n > 0);
        at += (size_t)n;
    }
    MUST(close(fd) == 0);
    MUST(rename(temporary, path) == 0);
}

static inline void kit_span(const struct tux_ask_view *ask, struct tux_span span, char *out, size_t size)
{
    MUST(span.len < size);
    memcpy(out, ask->head + span.off, span.len);
    out[span.len] = 0;
}

/* The one plain range of the ask. */
static inline struct tux_range kit_range(const struct tux_ask_view *ask)
{
    for (uint32_t i = 0; i < ask->record->n_fields; i++)
        if (ask->fields[i].id == TUX_FIELD_RANGE)
            return tux_range_parse(ask->head + ask->fields[i].value.off, ask->fields[i].value.len);
    return (struct tux_range){.kind = TUX_RANGE_NONE};
}

/* Paths: /echo and below: "METHOD path" in memory. /query: the query, EXACT. /f/NAME: the file, by descriptor.
 * /m/NAME: the file, in memory. All are remembered. */
static inline void kit_decide_usual(struct kit *kit, const struct tux_ask_view *ask, struct kit_answer *answer)
{
    char path[100], method[64];
    kit_span(ask, ask->record->path, path, sizeof path);
    kit_span(ask, ask->record->method, method, sizeof method);
    bool is_head = strcmp(method, "HEAD") == 0;
    answer->status = 200;
    answer->flags = TUX_PLAN_REMEMBER | (is_head ? TUX_PLAN_NO_BODY : 0u);
    if (strncmp(path, "/f/", 3) == 0 || strncmp(path, "/m/", 3) == 0) {
        snprintf(answer->path, sizeof answer->path, "%s", path + 3);
        answer->checked = true;
        int fd = tux_files_open(kit->roots, 0, answer->path, strlen(answer->path), kit_now_ms(), &answer->found);
        answer->body_len = answer->found.identity.size;
        if (fd < 0) {
            answer->status = 404;
            answer->body = "absent\n";
            answer->body_len = 7;
        } else if (path[1] == 'm' || is_head) {
            MUST(answer->body_len <= sizeof kit->text || is_head);
            if (!is_head)
                MUST(pread(fd, kit->text, sizeof kit->text, 0) == (ssize_t)answer->body_len);
            answer->body = kit->text;
            close(fd);
        } else {
            answer->fd = fd;
        }
    } else if (strcmp(path, "/query") == 0) {
        kit_span(ask, ask->record->query, kit->text, sizeof kit->text);
        answer->body = kit->text;
        answer->body_len = strlen(kit->text);
        answer->flags |= TUX_PLAN_EXACT;
    } else {
        snprintf(kit->text, sizeof kit->text, "%s %s\n", method, path);
        answer->body = kit->text;
        answer->body_len = strlen(kit->text);
    }
    if (answer->status == 200 && (ask->record->flags & TUX_ASK_PLAIN_RANGE)) {
        uint64_t first, last;
        if (tux_range_resolve(kit_range(ask), answer->body_len, &first, &last)) {
            answer->status = 206;
            answer->flags |= TUX_PLAN_RANGE;
        } else {
            if (answer->fd >= 0)
                close(answer->fd);
            answer->fd = -1;
            answer->status = 416;
            answer->body_len = 0;
            answer->flags |= TUX_PLAN_EXACT;
        }
    }
    answer->flags |= kit->more_flags;
    int len = snprintf(answer->head, sizeof answer->head, "HTTP/1.1 %d Kit\r\n", answer->status);
    if (!(answer->flags & TUX_PLAN_RANGE))
        snprintf(answer->head + len, sizeof answer->head - (size_t)len, "Content-Length: %llu\r\n",
                 (unsigned long long)answer->body_len);
}

static inline void kit_wait_fds(int a, int b)
{
    struct pollfd fds[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
    poll(fds, 2, -1);
}

/* A record of the replies' ring, filled by the caller. Waits for room. NULL: the test is over. */
static inline void *kit_reserve(struct kit *kit, uint32_t size)
{
    void *room;
    while ((room = tux_ring_reserve(&kit->replies, size)) == NULL && !kit->stop) {
        if (tux_ring_writer_sleep(&kit->replies, size)) {
            kit_wait_fds(kit->replies.space_eventfd, kit->control);
            tux_ring_writer_awake(&kit->replies);
        }
    }
    return room;
}

static inline void kit_reply(struct kit *kit, uint64_t id, const struct kit_answer *answer)
{
    bool in_memory = answer->fd < 0 && !(answer->flags & TUX_PLAN_NO_BODY);
    struct tux_reply_record record = {.id = id,
                                      .flags = answer->flags,
                                      .ttl_ms = answer->ttl_ms,
                                      .head_len = (uint32_t)strlen(answer->head),
                                      .n_checks = answer->checked,
                                      .paths_len = answer->checked ? (uint32_t)strlen(answer->path) : 0,
                                      .inline_len = in_memory ? (uint32_t)answer->body_len : 0,
                                      .body_len = answer->body_len,
                                      .body_offset = answer->body_offset,
                                      .fd = answer->fd,
                                      .status = answer->status};
    struct tux_wire_check check = {.root = answer->root, .path_len = record.paths_len, .expected = answer->found};
    size_t checks = record.n_checks * sizeof check;
    uint32_t size = (uint32_t)(sizeof record + checks + record.paths_len + record.head_len + record.inline_len);
    uint8_t *at = kit_reserve(kit, size);
    if (at == NULL) {
        if (answer->fd >= 0)
            close(answer->fd);
        return;
    }
    memcpy(at, &record, sizeof record);
    at += sizeof record;
    memcpy(at, &check, checks);
    at += checks;
    memcpy(at, answer->path, record.paths_len);
    at += record.paths_len;
    memcpy(at, answer->head, record.head_len);
    at += record.head_len;
    if (record.inline_len > 0)
        memcpy(at, answer->body, record.inline_len);
    tux_ring_commit(&kit->replies, size);
    tux_ring_wake(&kit->replies);
}

static inline void *kit_plan(void *arg)
{
    struct kit *kit = arg;
    while (!kit->stop) {
        uint64_t count;
        const void *payload;
        uint32_t size;
        kit->holds = kit->hold;
        if (!kit->holds) {
            int got;
            while ((got = tux_ring_read(&kit->asks, &payload, &size)) == 1) {
                struct tux_ask_view ask;
                MUST(tux_wire_ask(payload, size, &ask));
                struct kit_answer answer = {.fd = -1, .ttl_ms = kit->ttl_ms};
                kit->decide(kit, &ask, &answer);
                kit->decided++;
                if (answer.status != 0) /* 0: says nothing, or has said it by itself */
                    kit_reply(kit, ask.record->id, &answer);
            }
            MUST(got == 0);
            tux_ring_release(&kit->asks);
            if (!tux_ring_reader_sleep(&kit->asks))
                continue;
            kit_wait_fds(kit->asks.data_eventfd, kit->control);
            tux_ring_reader_awake(&kit->asks);
        } else {
            kit_wait_fds(kit->control, -1);
        }
        if (read(kit->control, &count, sizeof count) < 0)
            MUST(errno == EAGAIN);
    }
    return NULL;
}

static inline void kit_tell(struct kit *kit)
{
    uint64_t one = 1;
    MUST(write(kit->control, &one, sizeof one) == sizeof one);
}

/* From the return on, the planner takes no ask (or takes them again). */
static inline void kit_hold(struct kit *kit, bool hold)
{
    kit->hold = hold;
    kit_tell(kit);
    for (uint64_t end = kit_now_ms() + KIT_LIMIT_MS; kit->holds != hold; poll(NULL, 0, 1))
        MUST(kit_now_ms() < end);
}

/* -- life ------------------------------------------------------------------------------------------------------- */

static inline void *kit_run(void *arg)
{
    struct kit *kit = arg;
    kit->engine_result = tux_engine_run(kit->engine);
    return NULL;
}

static inline void kit_attach(struct tux_ring *ring, const struct tux_ring *other)
{
    MUST(tux_ring_attach(ring, dup(other->memfd), dup(other->data_eventfd), dup(other->space_eventfd),
                         other->capacity) == 0);
}

/* Defaults, a folder and two listeners (0: TCP, 1: Unix). Change kit->config, then kit_start. */
static inline void kit_prepare(struct kit *kit)
{
    *kit = (struct kit){.decide = kit_decide_usual, .ttl_ms = KIT_FOREVER};
    kit->control = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    MUST(kit->control >= 0);
    signal(SIGPIPE, SIG_IGN); /* as Python does: sendfile(2) has no MSG_NOSIGNAL */
    snprintf(kit->folder, sizeof kit->folder, "/tmp/tux-engine-XXXXXX");
    MUST(mkdtemp(kit->folder) != NULL);
    snprintf(kit->socket_path, sizeof kit->socket_path, "%s/.socket", kit->folder);
    tux_engine_defaults(&kit->config);
    kit->config.sign.key[0] = 1;
    kit->config.sign.key[1] = 2;

    kit->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof kit->address;
    int one = 1;
    MUST((kit->tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) >= 0);
    setsockopt(kit->tcp, IPPROTO_TCP, 1 /* TCP_NODELAY, as the daemon's listeners have it */, &one, sizeof one);
    MUST(bind(kit->tcp, (struct sockaddr *)&kit->address, len) == 0 && listen(kit->tcp, 4096) == 0);
    MUST(getsockname(kit->tcp, (struct sockaddr *)&kit->address, &len) == 0);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", kit->socket_path);
    MUST((kit->unix_ = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) >= 0);
    MUST(bind(kit->unix_, (struct sockaddr *)&un, sizeof un) == 0 && listen(kit->unix_, 128) == 0);
}

static inline void kit_create(struct kit *kit)
{
    const char *roots[] = {kit->folder, "/proc"};
    kit->config.roots = roots;
    kit->config.n_roots = 2;
    MUST(tux_engine_new(&kit->config, &kit->engine) == 0);
    static const uint16_t statuses[] = {400, 404, 408, 413, 414, 417, 431, 501, 502, 503, 504, 505};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        char head[64];
        int len = snprintf(head, sizeof head, "HTTP/1.1 %u Canned\r\nContent-Length: 3\r\n", statuses[i]);
        MUST(tux_engine_canned(kit->engine, 0, statuses[i], head, (uint32_t)len, "no\n", 3) == 0);
    }
    MUST(tux_engine_listen(kit->engine, kit->tcp, 0, false) == 0);
    MUST(tux_engine_listen(kit->engine, kit->unix_, 1, false) == 0);
    kit_attach(&kit->asks, tux_engine_asks(kit->engine));
    kit_attach(&kit->replies, tux_engine_replies(kit->engine));
    MUST((kit->roots = tux_roots_new()) != NULL && tux_roots_add(kit->roots, roots[0]) == 0 &&
         tux_roots_add(kit->roots, roots[1]) == 1);
    MUST(pthread_create(&kit->planner_thread, NULL, kit_plan, kit) == 0);
}

static inline void kit_start(struct kit *kit)
{
    kit_create(kit);
    MUST(pthread_create(&kit->engine_thread, NULL, kit_run, kit) == 0);
}

/* The engine's loop has ended by itself, after tux_engine_drain. */
static inline void kit_join(struct kit *kit)
{
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += KIT_LIMIT_MS / 1000;
    MUST(pthread_timedjoin_np(kit->engine_thread, NULL, &limit) == 0);
    CHECK_EQ(kit->engine_result, 0);
    kit->engine_ended = true;
}

static inline void kit_remove_folder(const struct kit *kit)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", kit->folder);
    MUST(system(command) == 0);
}

/* End everything. Nothing of the engine may be left. */
static inline void kit_end(struct kit *kit)
{
    if (!kit->engine_ended) {
        tux_engine_drain(kit->engine, 0);
        kit_join(kit);
    }
    kit->stop = true;
    kit_tell(kit);
    MUST(pthread_join(kit->planner_thread, NULL) == 0);
    CHECK_EQ(tux_engine_free(kit->engine), 0);
    CHECK_EQ(tux_plans_alive, 0);
    tux_ring_close(&kit->asks);
    tux_ring_close(&kit->replies);
    tux_roots_free(kit->roots);
    close(kit->tcp);
    close(kit->unix_);
    close(kit->control);
    kit_remove_folder(kit);
}

static inline uint64_t kit_stat(struct kit *kit, const char *name)
{
    struct tux_counter_entry entries[TUX_STATS_COUNT];
    tux_engine_read_stats(kit->engine, entries);
    for (int i = 0; i < TUX_STATS_COUNT; i++)
        if (strcmp(entries[i].name, name) == 0)
            return entries[i].value;
    abort();
}

/* CPU time of the engine's thread so far. */
static inline uint64_t kit_engine_cpu_ms(const struct kit *kit)
{
    clockid_t clock;
    struct timespec used;
    MUST(pthread_getcpuclockid(kit->engine_thread, &clock) == 0 && clock_gettime(clock, &used) == 0);
    return (uint64_t)used.tv_sec * 1000u + (uint64_t)used.tv_nsec / 1000000u;
}

/* For half a second, the engine's thread takes hardly any CPU time. */
static inline bool kit_rests(const struct kit *kit)
{
    uint64_t before = kit_engine_cpu_ms(kit);
    for (uint64_t end = kit_now_ms() + 500; kit_now_ms() < end;)
        poll(NULL, 0, (int)(end - kit_now_ms()));
    return kit_engine_cpu_ms(kit) - before < 100;
}

/* Wait until a counter is at least that; false after the time limit. */
static inline bool kit_reaches(struct kit *kit, const char *name, uint64_t value)
{
    for (uint64_t end = kit_now_ms() + KIT_LIMIT_MS; kit_stat(kit, name) < value; poll(NULL, 0, 1))
        if (kit_now_ms() > end)
            return false;
    return true;
}

/* Wait until a gauge is that; false after the time limit. */
static inline bool kit_becomes(struct kit *kit, const char *name, uint64_t value)
{
    for (uint64_t end = kit_now_ms() + KIT_LIMIT_MS; kit_stat(kit, name) != value; poll(NULL, 0, 1))
        if (kit_now_ms() > end)
            return false;
    return true;
}

#endif
