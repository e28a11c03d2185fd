/* SPDX-License-Identifier: MIT */
/* The event loop: one epoll, connections edge-triggered, everything else level-triggered. */
#include "app.h"
#include "core.h"
#include "kernel.h"
#include "relay.h"
#include "upstream.h"
#include "validator.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TUX_EVENTS_PER_TURN 256u
#define TUX_DRAIN_ACCEPTS 128u    /* rounds of TUX_ACCEPTS_PER_TURN: twice the usual listen backlog */
#define TUX_DRAIN_FIRST_MS 1000u  /* for the first request of a connection that is new when a drain begins: some round trips */
#define TUX_ACCEPT_PAUSE_MS 100u /* after the system ran out of descriptors or memory: no spin, and soon again */

static void read_clocks(struct tux_engine *engine)
{
    struct timespec mono, wall;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_REALTIME, &wall);
    engine->now_us = (uint64_t)mono.tv_sec * 1000000u + (uint64_t)mono.tv_nsec / 1000u;
    engine->now_ms = engine->now_us / 1000u;
    engine->wall_ms = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000;
    if (wall.tv_sec != engine->wall_s) {
        memcpy(engine->date, "Date: ", 6);
        tux_http_date(wall.tv_sec, engine->date + 6);
        memcpy(engine->date + 6 + TUX_HTTP_DATE_BYTES, "\r\n", 2);
        engine->wall_s = wall.tv_sec;
    }
}

bool tux_loop_watch(struct tux_engine *engine, struct tux_conn *conn, bool output)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (output ? (uint32_t)EPOLLOUT : 0),
                                .data.ptr = &conn->source};
    int op = conn->watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (epoll_ctl(engine->epoll_fd, op, conn->fd, &event) < 0)
        return false;
    conn->watched = output ? 2 : 1;
    return true;
}

void tux_loop_queue(struct tux_engine *engine, struct tux_conn *conn)
{
    if (conn->queued)
        return;
    conn->queued = true;
    conn->next = NULL;
    *engine->ready_tail = conn;
    engine->ready_tail = &conn->next;
}

static bool watch_source(struct tux_engine *engine, int fd, struct tux_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* -- accepting -------------------------------------------------------------------------------------------------- */

static bool watch_listener(struct tux_engine *engine, struct tux_listener *listener)
{
    return watch_source(engine, listener->fd, &listener->source, EPOLLIN | (listener->shared ? (uint32_t)EPOLLEXCLUSIVE : 0));
}

static void pause_listener(struct tux_engine *engine, struct tux_listener *listener)
{
    engine->accept_paused = true;
    engine->accept_again_ms = engine->now_ms + TUX_ACCEPT_PAUSE_MS;
    listener->paused = true;
    epoll_ctl(engine->epoll_fd, EPOLL_CTL_DEL, listener->fd, NULL);
}

/* Out of descriptors, memory or slots: leave the queues to the kernel until a connection ends, or a moment has passed. */
static void pause_accept(struct tux_engine *engine)
{
    tux_count(&engine->stats.accept_paused, 1);
    for (uint32_t i = 0; i < engine->n_listeners; i++)
        pause_listener(engine, &engine->listeners[i]);
}

void tux_loop_resume_accept(struct tux_engine *engine)
{
    if (!engine->accept_paused || engine->draining)
        return;
    engine->accept_paused = false;
    for (uint32_t i = 0; i < engine->n_listeners; i++)
        if (engine->listeners[i].paused) {
            engine->listeners[i].paused = false;
            watch_listener(engine, &engine->listeners[i]);
        }
}

/* May the next accept(2) succeed after this error? One connection failed then, not the listener: accept(2), "Error handling". */
static bool is_passing(int error)
{
    switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPERM: /* a firewall's rule */
    case EPROTO:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

/* True when more may wait in the listener's queue. */
static bool accept_some(struct tux_engine *engine, struct tux_listener *listener)
{
    for (unsigned i = 0; i < TUX_ACCEPTS_PER_TURN; i++) {
        if (engine->n_conns >= engine->config.limits.connections) {
            pause_accept(engine);
            return false;
        }
        struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
        socklen_t address_len = sizeof address;
        int fd = accept4(listener->fd, (struct sockaddr *)&address, &address_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                return false;
            if (is_passing(errno))
                continue;
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                pause_accept(engine);
            else
                pause_listener(engine, listener); /* broken: the others go on */
            return false;
        }
        struct tux_conn *conn = tux_conn_new(engine, fd, listener);
        if (conn == NULL) {
            close(fd);
            tux_count(&engine->stats.refused, 1);
            pause_accept(engine);
            return false;
        }
        tux_count(&engine->stats.accepted, 1);
        struct tux_address peer;
        tux_address_of_socket(&address, &peer);
        tux_conn_set_peer(conn, &peer);
        if (engine->proxy_protocol && tux_trust_has(engine->trust, &peer)) {
            conn->unnamed = true;
            tux_timer_set(&engine->wheel, &conn->timer, engine->now_ms + engine->config.limits.head_timeout_ms);
        }
        tux_conn_run(engine, conn); /* its first request has often come already */
    }
    return true;
}

/* -- turns ------------------------------------------------------------------------------------------------------ */

static void on_conn(struct tux_engine *engine, struct tux_conn *conn, uint32_t events)
{
    if (conn->state == TUX_CONN_CLOSED)
        return; /* closed earlier in this turn; it lies in the graveyard */
    /* Lingering, its FIN ends the second direction: that is no error, and what came before it is still read. */
    uint32_t broken = conn->state == TUX_CONN_LINGER ? EPOLLERR : EPOLLERR | EPOLLHUP;
    if (events & broken) {
        tux_conn_close(engine, conn);
        return;
    }
    if (events & (EPOLLRDHUP | EPOLLHUP))
        conn->rdhup = true;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP))
        conn->readable = true;
    if (events & EPOLLOUT)
        tux_relay_writable(conn);
    tux_conn_run(engine, conn);
}

static void run_ready(struct tux_engine *engine)
{
    struct tux_conn *list = engine->ready;
    engine->ready = NULL;
    engine->ready_tail = &engine->ready;
    while (list != NULL) {
        struct tux_conn *conn = list;
        list = conn->next;
        conn->queued = false;
        if (conn->state == TUX_CONN_CLOSED) {
            conn->next = engine->graveyard;
            engine->graveyard = conn;
        } else {
            tux_conn_run(engine, conn);
        }
    }
}

static void bury(struct tux_engine *engine)
{
    while (engine->graveyard != NULL) {
        struct tux_conn *conn = engine->graveyard;
        engine->graveyard = conn->next;
        free(conn);
    }
}

static void on_expired(void *arg, struct tux_timer *timer)
{
    switch ((enum tux_timer_kind)timer->kind) {
    case TUX_TIMER_CONN:
        tux_conn_expired(arg, (struct tux_conn *)((char *)timer - offsetof(struct tux_conn, timer)));
        break;
    case TUX_TIMER_UPSTREAM:
        tux_upstream_expired(arg, timer);
        break;
    case TUX_TIMER_UPSTREAM_QUEUE:
        tux_upstream_queue_expired(arg, timer);
        break;
    case TUX_TIMER_APP:
        tux_apps_expired(arg, timer);
        break;
    }
}

static void begin_drain(struct tux_engine *engine)
{
    /* What is in the accept queues has been promised an answer by the kernel's handshake: take it first. */
    engine->draining = true;
    if (engine->kernel != NULL)
        tux_kernel_drain(engine);
    if (engine->apps != NULL)
        tux_apps_drain(engine);
    for (uint32_t i = 0; i < engine->n_listeners; i++) {
        bool more = !engine->listeners[i].shared;
        for (unsigned round = 0; more && round < TUX_DRAIN_ACCEPTS; round++)
            more = accept_some(engine, &engine->listeners[i]);
        epoll_ctl(engine->epoll_fd, EPOLL_CTL_DEL, engine->listeners[i].fd, NULL);
    }
    uint64_t one = 1;
    if (write(engine->leaving_fd, &one, sizeof one) < 0) {
        /* Cannot be: it is written to once. */
    }
    for (uint32_t i = 0; i < engine->n_slots; i++) {
        struct tux_conn *conn = engine->conns[i];
        if (conn == NULL || conn->state != TUX_CONN_HEAD)
            continue;
        if (!conn->heard)
            tux_timer_set(&engine->wheel, &conn->timer, engine->now_ms + TUX_DRAIN_FIRST_MS);
        conn->readable = true; /* a request that is here already is answered, then the idle ones close */
        tux_conn_run(engine, conn);
    }
}

static int wait_ms(const struct tux_engine *engine)
{
    if (engine->ready != NULL || engine->busy)
        return 0;
    uint64_t wait = tux_wheel_wait(&engine->wheel, engine->now_ms);
    uint64_t deadline = atomic_load_explicit(&engine->drain_deadline_ms, memory_order_acquire);
    if (deadline != UINT64_MAX) {
        uint64_t left = deadline > engine->now_ms ? deadline - engine->now_ms : 0;
        wait = left < wait ? left : wait;
    }
    if (engine->accept_paused && engine->n_conns < engine->config.limits.connections) { /* else a close resumes */
        uint64_t left = engine->accept_again_ms > engine->now_ms ? engine->accept_again_ms - engine->now_ms : 0;
        wait = left < wait ? left : wait;
    }
    if (engine->kernel != NULL) {
        uint64_t left = tux_kernel_wait_ms(engine);
        wait = left < wait ? left : wait;
    }
    return wait >= UINT32_MAX ? -1 : wait > 60000 ? 60000 : (int)wait;
}

static void empty_eventfd(int fd)
{
    uint64_t count;
    if (read(fd, &count, sizeof count) < 0) {
        /* EAGAIN: somebody else emptied it. */
    }
}

static void turn(struct tux_engine *engine, struct epoll_event *events)
{
    int n = epoll_wait(engine->epoll_fd, events, TUX_EVENTS_PER_TURN, wait_ms(engine));
    engine->turn++;
    read_clocks(engine);
    for (int i = 0; i < n; i++) {
        struct tux_source *source = events[i].data.ptr;
        switch ((enum tux_source_kind)source->kind) {
        case TUX_SOURCE_CONN:
            on_conn(engine, (struct tux_conn *)source, events[i].events);
            break;
        case TUX_SOURCE_LISTENER:
            if (!engine->draining && !((struct tux_listener *)source)->paused)
                accept_some(engine, (struct tux_listener *)source);
            break;
        case TUX_SOURCE_WAKE:
            empty_eventfd(engine->wake_fd);
            if (engine->apps != NULL)
                tux_apps_commands(engine);
            break;
        case TUX_SOURCE_REPLIES:
            tux_ring_reader_awake(&engine->replies);
            tux_ask_replies(engine);
            break;
        case TUX_SOURCE_HELPER:
            tux_ask_helped(engine);
            break;
        case TUX_SOURCE_UPSTREAM:
            tux_upstream_event(engine, source, events[i].events);
            break;
        case TUX_SOURCE_APP:
            tux_apps_event(engine, source, events[i].events);
            break;
        }
    }
    if (engine->apps != NULL)
        tux_apps_read(engine);
    run_ready(engine);
    tux_wheel_advance(&engine->wheel, engine->now_ms, on_expired, engine);
    if (engine->upstreams != NULL)
        engine->busy = tux_upstream_turn(engine);
    if (engine->apps != NULL)
        engine->busy = tux_apps_turn(engine) || (engine->upstreams != NULL && engine->busy);
    if (engine->accept_paused && engine->now_ms >= engine->accept_again_ms &&
        engine->n_conns < engine->config.limits.connections)
        tux_loop_resume_accept(engine);
    bury(engine);
    if (engine->kernel != NULL)
        tux_kernel_turn(engine);
    if (engine->log != NULL) {
        atomic_store_explicit(&engine->stats.log_lost, tux_accesslog_lost(engine->log), memory_order_relaxed);
        atomic_store_explicit(&engine->stats.log_error, (uint64_t)tux_accesslog_error(engine->log),
                              memory_order_relaxed);
    }
}

int tux_engine_run(struct tux_engine *engine)
{
    struct epoll_event *events = calloc(TUX_EVENTS_PER_TURN, sizeof *events);
    if (events == NULL)
        return -ENOMEM;
    read_clocks(engine);
    tux_wheel_init(&engine->wheel, engine->now_ms);
    bool ok = watch_source(engine, engine->wake_fd, &engine->wake_source, EPOLLIN) &&
              watch_source(engine, engine->replies.data_eventfd, &engine->replies_source, EPOLLIN) &&
              watch_source(engine, tux_helper_fd(engine->helper), &engine->helper_source, EPOLLIN);
    for (uint32_t i = 0; ok && i < engine->n_listeners; i++)
        ok = watch_listener(engine, &engine->listeners[i]);
    if (!ok) {
        int error = -errno;
        free(events);
        return error;
    }
    tux_ask_replies(engine); /* declares that this end sleeps */
    for (;;) {
        uint64_t deadline = atomic_load_explicit(&engine->drain_deadline_ms, memory_order_acquire);
        if (deadline != UINT64_MAX) {
            if (!engine->draining)
                begin_drain(engine);
            bury(engine);
            if (engine->n_conns == 0 || engine->now_ms >= deadline)
                break;
        }
        turn(engine, events);
    }
    for (uint32_t i = 0; i < engine->n_slots; i++)
        if (engine->conns[i] != NULL)
            tux_conn_close(engine, engine->conns[i]);
    run_ready(engine); /* all closed: they go to the graveyard */
    bury(engine);
    if (engine->upstreams != NULL)
        tux_upstream_end(engine);
    free(events);
    return 0;
}
