/* SPDX-License-Identifier: MIT */
/* The forwarder by itself: its relay is a recorder, its servers are played by the test, and time passes when the test says
 * so. One thread: after each step all that the system has to tell is worked off. */
#ifndef TUX_UPSTREAM_KIT_H
#define TUX_UPSTREAM_KIT_H

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* The forwarder's files become part of the test, with a relay of its own. */
#define tux_relay_inform kit_inform
#define tux_relay_answer kit_answer
#define tux_relay_data kit_data
#define tux_relay_end kit_ended
#define tux_relay_fail kit_failed
#define tux_relay_upgrade kit_upgrade
#define tux_relay_take_body kit_take_body
#define tux_relay_room kit_room

#include "../../src/tux/engine/upstreams.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: the test itself failed: %s: %s\n", __FILE__, __LINE__, #condition, strerror(errno)); \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#define KIT_SERVERS 3
#define KIT_LIMIT_MS 10000 /* whatever is awaited comes within this */

struct kit {
    struct tux_engine *engine;
    struct tux_upstream_config config;
    struct tux_upstream_server servers[KIT_SERVERS];
    int listeners[KIT_SERVERS];
    char folder[64];
    char said[65536]; /* what the relay was told since the last look */
    size_t said_len;
    uint64_t data_bytes; /* all that was given as data */
    size_t room;         /* what the relay has room for; SIZE_MAX: no bound */
    bool quiet;          /* data is counted only */
};

static struct kit kit;

/* -- the relay ---------------------------------------------------------------------------------------------------- */

static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(kit.said + kit.said_len, sizeof kit.said - kit.said_len, format, args);
    va_end(args);
    MUST(n >= 0 && kit.said_len + (size_t)n < sizeof kit.said);
    kit.said_len += (size_t)n;
}

static inline void kit_release(struct tux_conn *conn, bool complete)
{
    tux_upstream_backend.release(kit.engine, conn, complete);
    conn->exchange->relay->backend = NULL;
}

void kit_inform(struct tux_engine *engine, struct tux_conn *conn, uint16_t status, const uint8_t *fields, size_t len)
{
    (void)engine;
    say("%u: inform %u %.*s;", conn->slot, status, (int)len, fields);
}

void kit_answer(struct tux_engine *engine, struct tux_conn *conn, const struct tux_relay_head *head)
{
    (void)engine;
    say("%u: %u %.*s [%lld] %.*s;", conn->slot, head->status, (int)head->reason_len, head->reason,
        (long long)head->length, (int)head->fields_len, head->fields);
}

void kit_data(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *data, size_t len)
{
    (void)engine;
    kit.data_bytes += len;
    if (kit.room != SIZE_MAX)
        kit.room -= len < kit.room ? len : kit.room;
    if (!kit.quiet)
        say("%u: data %.*s;", conn->slot, (int)len, data);
}

void kit_ended(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *trailers, size_t len)
{
    (void)engine;
    say("%u: end%s%.*s;", conn->slot, len > 0 ? " " : "", (int)len, len > 0 ? (const char *)trailers : "");
    kit_release(conn, true);
}

void kit_failed(struct tux_engine *engine, struct tux_conn *conn, uint16_t status)
{
    (void)engine;
    say("%u: fail %u;", conn->slot, status);
    kit_release(conn, false);
}

void kit_upgrade(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *fields, size_t len)
{
    (void)engine;
    say("%u: upgrade %.*s;", conn->slot, (int)len, fields);
}

void kit_take_body(struct tux_engine *engine, struct tux_conn *conn)
{
    (void)engine;
    say("%u: take;", conn->slot);
}

size_t kit_room(struct tux_engine *engine, struct tux_conn *conn)
{
    (void)engine, (void)conn;
    return kit.room;
}

#include "../../src/tux/engine/upstream.c"

#include "../../src/tux/engine/upstream_conn.c"
#include "../../src/tux/engine/upstream_pool.c"
#include "../../src/tux/engine/upstream_response.c"

/* -- life --------------------------------------------------------------------------------------------------------- */

static inline void kit_listen(unsigned i, int backlog)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "%s/%u", kit.folder, i);
    unlink(un.sun_path);
    MUST((kit.listeners[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
    MUST(bind(kit.listeners[i], (struct sockaddr *)&un, sizeof un) == 0 && listen(kit.listeners[i], backlog) == 0);
}

/* Three servers at unix sockets. Change kit.config, then kit_start. */
static inline void kit_prepare(void)
{
    kit = (struct kit){.room = SIZE_MAX};
    snprintf(kit.folder, sizeof kit.folder, "/tmp/tux-upstream-XXXXXX");
    MUST(mkdtemp(kit.folder) != NULL);
    tux_upstream_defaults(&kit.config);
    for (unsigned i = 0; i < KIT_SERVERS; i++) {
        char text[96];
        kit_listen(i, 64);
        snprintf(text, sizeof text, "unix:%s/%u", kit.folder, i);
        MUST(tux_upstream_address(text, &kit.servers[i]));
        kit.servers[i].name = i == 0 ? "s0" : i == 1 ? "s1" : "s2";
        kit.servers[i].weight = 1;
    }
    kit.config.servers = kit.servers;
    kit.config.n_servers = 1;
}

static inline void kit_start(void)
{
    MUST((kit.engine = calloc(1, sizeof *kit.engine)) != NULL);
    struct tux_engine *engine = kit.engine;
    MUST((engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    engine->wake_fd = -1; /* kit_turn waits for nothing */
    engine->config.limits.held_bytes = TUX_HELD_BYTES;
    engine->head_limits = (struct tux_head_limits){TUX_MAX_TARGET_BYTES, TUX_MAX_HEAD_BYTES, TUX_MAX_FIELDS};
    engine->now_ms = 1000000;
    tux_wheel_init(&engine->wheel, engine->now_ms);
    CHECK_EQ(tux_engine_upstream(engine, &kit.config), 0);
}

/* Everything is over: nothing of the forwarder may be left. */
static inline void kit_end(void)
{
    tux_upstream_end(kit.engine);
    CHECK_EQ(atomic_load(&kit.engine->stats.held), 0);
    CHECK_EQ(atomic_load(&kit.engine->stats.queued), 0);
    CHECK_EQ(atomic_load(&kit.engine->stats.upstream_connections), 0);
    CHECK_EQ(tux_upstream_free(kit.engine), 0);
    CHECK_EQ(kit.engine->wheel.armed, 0);
    close(kit.engine->epoll_fd);
    free(kit.engine);
    for (unsigned i = 0; i < KIT_SERVERS; i++) {
        char path[96];
        if (kit.listeners[i] >= 0)
            close(kit.listeners[i]);
        snprintf(path, sizeof path, "%s/%u", kit.folder, i);
        unlink(path);
    }
    rmdir(kit.folder);
}

static inline void kit_expired(void *arg, struct tux_timer *timer)
{
    if (timer->kind == TUX_TIMER_UPSTREAM)
        tux_upstream_expired(arg, timer);
    else
        tux_upstream_queue_expired(arg, timer);
}

/* Work off all that there is. */
static inline void kit_turn(void)
{
    struct tux_engine *engine = kit.engine;
    bool more = true;
    for (int n = 1; n > 0 || more;) {
        struct epoll_event events[64];
        MUST((n = epoll_wait(engine->epoll_fd, events, 64, 0)) >= 0);
        engine->turn++;
        for (int i = 0; i < n; i++)
            tux_upstream_event(engine, events[i].data.ptr, events[i].events);
        tux_wheel_advance(&engine->wheel, engine->now_ms, kit_expired, engine);
        more = tux_upstream_turn(engine);
    }
}

static inline void kit_pass(uint64_t ms)
{
    kit.engine->now_ms += ms;
    kit_turn();
}

/* The relay was told this since the last look, and nothing else. */
#define TOLD(want) kit_told(want, __FILE__, __LINE__)

static inline void kit_told(const char *want, const char *file, int line)
{
    kit_turn();
    if (!check_that(strcmp(kit.said, want) == 0, file, line, want))
        fprintf(stderr, "  told: %s\n", kit.said);
    kit.said_len = 0;
    kit.said[0] = 0;
}

/* -- clients ------------------------------------------------------------------------------------------------------ */

struct ask {
    struct tux_conn conn;
    struct tux_relay relay;
    uint16_t status; /* of begin */
};

static inline void ask_free(struct ask *ask)
{
    if (ask->status == 0 && ask->relay.backend != NULL)
        kit_release(&ask->conn, false);
    free(ask->conn.exchange);
    free(ask);
    kit_turn();
}

/* A client, whose name is the slot, sends a request. */
static inline struct ask *ask_as(uint32_t slot, const char *text)
{
    static struct tux_listener listener;
    struct ask *ask = calloc(1, sizeof *ask);
    size_t len = strlen(text);
    struct tux_exchange *exchange = calloc(1, sizeof *exchange + len);
    MUST(ask != NULL && exchange != NULL);
    ask->conn.slot = slot;
    ask->conn.exchange = exchange;
    ask->conn.listener = &listener;
    tux_address_parse((const uint8_t *)"::1", 3, &ask->conn.address);
    exchange->conn = &ask->conn;
    exchange->relay = &ask->relay;
    exchange->head_len = (uint32_t)len;
    memcpy(exchange->head, text, len);
    ask->relay.backend = &tux_upstream_backend;
    MUST(tux_head_scan(exchange->head, len, 0, &kit.engine->head_limits, &kit.engine->config.sign, 0,
                       &kit.engine->head) == TUX_DONE);
    ask->status = tux_upstream_backend.begin(kit.engine, &ask->conn);
    return ask;
}

static inline struct ask *ask_get(uint32_t slot)
{
    struct ask *ask = ask_as(slot, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK_EQ(ask->status, 0);
    return ask;
}

static inline size_t ask_room(struct ask *ask)
{
    return tux_upstream_backend.room(kit.engine, &ask->conn);
}

static inline void ask_body(struct ask *ask, const char *data, bool end)
{
    tux_upstream_backend.body(kit.engine, &ask->conn, (const uint8_t *)data, strlen(data), end);
    kit_turn();
}

/* -- servers ------------------------------------------------------------------------------------------------------ */

static inline int server_accept(unsigned i)
{
    kit_turn();
    struct pollfd wait = {.fd = kit.listeners[i], .events = POLLIN};
    MUST(poll(&wait, 1, KIT_LIMIT_MS) == 1);
    int fd = accept4(kit.listeners[i], NULL, NULL, SOCK_CLOEXEC);
    MUST(fd >= 0);
    kit_turn();
    return fd;
}

/* No connection waits at that server. */
static inline bool server_is_alone(unsigned i)
{
    kit_turn();
    struct pollfd wait = {.fd = kit.listeners[i], .events = POLLIN};
    return poll(&wait, 1, 0) == 0;
}

/* What has come from the forwarder; "" at the end of the stream. */
static inline const char *server_read(int fd)
{
    static char text[65536 * 4];
    kit_turn();
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    MUST(poll(&wait, 1, KIT_LIMIT_MS) == 1);
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    text[n < 0 ? 0 : n] = 0;
    kit_turn();
    return text;
}

static inline bool server_has_nothing(int fd)
{
    char byte;
    kit_turn();
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static inline bool server_is_left(int fd)
{
    char byte;
    kit_turn();
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static inline void server_write(int fd, const char *text)
{
    MUST(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
    kit_turn();
}

#endif
