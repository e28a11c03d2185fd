/* SPDX-License-Identifier: MIT */
/* A connection to a server: connecting, the request on its way out, events and time-outs. */
#include "upstreams.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK_LINE_BYTES 20u /* 16 hex digits, CRLF, NUL */
#define MAX_PIECES 4         /* of one send: what waits, chunk line, data, its end */

/* -- life -------------------------------------------------------------------------------------------------------- */

void tux_upconn_unhold(struct tux_engine *engine, struct tux_upconn *up)
{
    if (up->held == NULL)
        return;
    free(up->held);
    tux_uncount(&engine->stats.held, up->held_len);
    up->held = NULL;
    up->held_len = up->held_seen = 0;
}

static bool fits_budget(const struct tux_engine *engine, size_t len)
{
    return atomic_load_explicit(&engine->stats.held, memory_order_relaxed) + len <= engine->config.limits.held_bytes;
}

bool tux_upconn_hold(struct tux_engine *engine, struct tux_upconn *up, const uint8_t *bytes, size_t len, bool append)
{
    size_t kept = append ? up->held_len : 0;
    if (kept + len > TUX_MAX_RESPONSE_HEAD_BYTES + TUX_MAX_TRAILER_BYTES || !fits_budget(engine, len))
        return false;
    uint8_t *copy = malloc(kept + len);
    if (copy == NULL)
        return false;
    if (kept > 0)
        memcpy(copy, up->held, kept);
    memcpy(copy + kept, bytes, len);
    tux_upconn_unhold(engine, up);
    up->held = copy;
    up->held_len = (uint32_t)(kept + len);
    tux_count(&engine->stats.held, up->held_len);
    return true;
}

static void drop_out(struct tux_engine *engine, struct tux_upconn *up)
{
    if (up->out == NULL)
        return;
    free(up->out);
    tux_uncount(&engine->stats.held, up->out_len);
    up->out = NULL;
    up->out_len = up->out_off = 0;
}

/* The pieces, without their first `skip` bytes, wait to be sent; up->out may be the first of them. */
static bool hold_out(struct tux_engine *engine, struct tux_upconn *up, const struct iovec *pieces, int n, size_t skip)
{
    size_t len = 0, at = 0;
    for (int i = 0; i < n; i++)
        len += pieces[i].iov_len;
    len -= skip;
    uint8_t *copy = fits_budget(engine, len) ? malloc(len) : NULL;
    if (copy == NULL)
        return false;
    for (int i = 0; i < n; i++) {
        size_t from = skip < pieces[i].iov_len ? skip : pieces[i].iov_len;
        memcpy(copy + at, (const uint8_t *)pieces[i].iov_base + from, pieces[i].iov_len - from);
        at += pieces[i].iov_len - from;
        skip -= from;
    }
    drop_out(engine, up);
    up->out = copy;
    up->out_len = (uint32_t)len;
    tux_count(&engine->stats.held, len);
    return true;
}

void tux_upconn_detach(struct tux_engine *engine, struct tux_upconn *up)
{
    (void)engine;
    if (up->call == NULL)
        return;
    up->call->up = NULL;
    up->call = NULL;
    up->server->busy--;
    up->group->wanted |= up->group->queue != NULL;
}

void tux_upconn_close(struct tux_engine *engine, struct tux_upconn *up)
{
    if (up->state == TUX_UP_CLOSED)
        return;
    if (up->state == TUX_UP_IDLE)
        tux_uppool_remove(up);
    tux_upconn_detach(engine, up);
    tux_timer_cancel(&engine->wheel, &up->timer);
    drop_out(engine, up);
    tux_upconn_unhold(engine, up);
    close(up->fd); /* leaves epoll with it: no copy of the descriptor exists */
    up->state = TUX_UP_CLOSED;
    engine->upstreams->n_conns--;
    tux_uncount(&engine->stats.upstream_connections, 1);
    if (!up->deferred) { /* else the ready list passes it on */
        up->next = engine->upstreams->graveyard;
        engine->upstreams->graveyard = up;
    }
}

void tux_upconn_fail(struct tux_engine *engine, struct tux_upconn *up, bool stale, enum tux_upstream_failure failure)
{
    struct tux_upcall *call = up->call;
    bool silent = up->silent;
    tux_upconn_close(engine, up);
    tux_upcall_failed(engine, call, up->server, stale, silent, failure);
}

void tux_upconn_defer(struct tux_engine *engine, struct tux_upconn *up)
{
    struct tux_upstreams *all = engine->upstreams;
    if (up->deferred)
        return;
    up->deferred = true;
    up->next = NULL;
    *all->ready_tail = up;
    all->ready_tail = &up->next;
}

static bool watch(struct tux_engine *engine, struct tux_upconn *up, bool output)
{
    uint8_t wanted = output ? 2 : 1;
    if (up->watched >= wanted) /* edge-triggered: once it is watched for output, that costs nothing */
        return true;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (output ? (uint32_t)EPOLLOUT : 0),
                                .data.ptr = &up->source};
    if (epoll_ctl(engine->epoll_fd, up->watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, up->fd, &event) < 0)
        return false;
    up->watched = wanted;
    return true;
}

/* What is awaited now, and for how long. */
static void set_timer(struct tux_engine *engine, struct tux_upconn *up)
{
    const struct tux_upstream_config *config = &up->group->config;
    const struct tux_upcall *call = up->call;
    uint64_t wait_ms = 0;
    if (up->state == TUX_UP_CONNECTING)
        wait_ms = up->connect_again ? TUX_CONNECT_AGAIN_MS : up->connect_until_ms - engine->now_ms;
    else if (up->out != NULL)
        wait_ms = config->send_timeout_ms;
    else if (up->state == TUX_UP_HEAD)
        wait_ms = call->waits_continue             ? TUX_CONTINUE_MS
                  : call->body_done || up->broken ? config->first_byte_timeout_ms
                                                  : 0;
    else if (!up->paused)
        wait_ms = config->idle_timeout_ms;
    if (wait_ms > 0)
        tux_timer_set(&engine->wheel, &up->timer, engine->now_ms + wait_ms);
    else /* it is the client's turn, and the relay watches the client */
        tux_timer_cancel(&engine->wheel, &up->timer);
}

/* -- connecting -------------------------------------------------------------------------------------------------- */

/* 0: connected, or in progress. Else errno. */
static int try_connect(struct tux_engine *engine, struct tux_upconn *up)
{
    up->connect_again = false;
    if (connect(up->fd, (const struct sockaddr *)&up->server->address, up->server->address_len) == 0) {
        up->state = TUX_UP_HEAD;
        return 0;
    }
    if (errno == EAGAIN) /* a unix socket's queue is full: the server is slow, not dead */
        up->connect_again = engine->now_ms < up->connect_until_ms;
    return errno == EINPROGRESS || up->connect_again ? 0 : errno;
}

struct tux_upconn *tux_upconn_new(struct tux_engine *engine, struct tux_upgroup *group, struct tux_upserver *server)
{
    struct tux_upconn *up = calloc(1, sizeof *up);
    if (up == NULL)
        return NULL;
    up->source.kind = TUX_SOURCE_UPSTREAM;
    up->timer.kind = TUX_TIMER_UPSTREAM;
    up->group = group;
    up->server = server;
    up->connect_until_ms = engine->now_ms + group->config.connect_timeout_ms;
    up->fd = socket(server->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1, error = up->fd < 0 ? errno : 0;
    if (error == 0 && server->address.ss_family != AF_UNIX)
        setsockopt(up->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (error == 0)
        error = try_connect(engine, up);
    if (error != 0) {
        if (up->fd >= 0)
            close(up->fd);
        free(up);
        errno = error;
        return NULL;
    }
    engine->upstreams->n_conns++;
    tux_count(&engine->stats.upstream_connections, 1);
    return up;
}

/* -- the request ------------------------------------------------------------------------------------------------- */

/* Send the pieces as far as the system takes them; the rest waits in up->out. False: it takes none any more. */
static bool transmit(struct tux_engine *engine, struct tux_upconn *up, struct iovec *pieces, int n)
{
    size_t len = 0;
    ssize_t sent = 0;
    for (int i = 0; i < n; i++)
        len += pieces[i].iov_len;
    if (!up->blocked && !up->connect_again) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)n};
        do
            sent = n == 1 ? send(up->fd, pieces->iov_base, len, MSG_NOSIGNAL) : sendmsg(up->fd, &message, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            return false;
        up->blocked = sent < (ssize_t)len;
        sent = sent < 0 ? 0 : sent;
    }
    if (sent > 0) {
        up->silent = false;
        if (up->state == TUX_UP_CONNECTING)
            up->state = TUX_UP_HEAD;
    }
    if ((size_t)sent == len)
        drop_out(engine, up);
    else if (!hold_out(engine, up, pieces, n, (size_t)sent))
        return false;
    return up->connect_again || watch(engine, up, up->blocked);
}

bool tux_upconn_send_head(struct tux_engine *engine, struct tux_upconn *up, const uint8_t *head, size_t len, bool later)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)head, .iov_len = len};
    up->taken_turn = engine->turn;
    up->silent = true;
    up->broken = up->paused = up->keep = up->fin = false;
    up->informed = 0;
    up->decoder = (struct tux_chunked){0};
    if (later ? !hold_out(engine, up, &piece, 1, 0) : !transmit(engine, up, &piece, 1)) {
        int error = errno;
        tux_upconn_close(engine, up);
        errno = error;
        return false;
    }
    if (later)
        tux_upconn_defer(engine, up);
    set_timer(engine, up);
    return true;
}

/* The server takes nothing any more. It may have answered before that; if it has not, reading says so. */
static void break_off(struct tux_engine *engine, struct tux_upconn *up)
{
    up->broken = up->readable = true;
    drop_out(engine, up);
    set_timer(engine, up);
    tux_upconn_defer(engine, up);
}

size_t tux_upconn_room(const struct tux_upconn *up)
{
    size_t waiting = up->out_len - up->out_off;
    if (up->state == TUX_UP_CONNECTING || up->broken || up->call->waits_continue || waiting >= TUX_UPSTREAM_OUT_BYTES)
        return 0;
    return TUX_UPSTREAM_OUT_BYTES - waiting;
}

void tux_upconn_offer_room(struct tux_engine *engine, struct tux_upconn *up)
{
    struct tux_upcall *call = up->call;
    if (!call->body_wanted || tux_upconn_room(up) == 0)
        return;
    call->body_wanted = false;
    tux_relay_take_body(engine, call->conn);
}

void tux_upconn_send_body(struct tux_engine *engine, struct tux_upconn *up, const uint8_t *data, size_t len, bool end)
{
    struct tux_upcall *call = up->call;
    struct iovec pieces[MAX_PIECES];
    char line[CHUNK_LINE_BYTES];
    int n = 0;
    call->body_started |= len > 0;
    call->body_done |= end;
    if (end && up->state == TUX_UP_TUNNEL) {
        up->fin = true; /* once all is out */
        tux_upconn_defer(engine, up);
    }
    if (up->broken)
        return;
    if (up->out != NULL)
        pieces[n++] = (struct iovec){up->out + up->out_off, up->out_len - up->out_off};
    bool chunked = call->chunked && up->state != TUX_UP_TUNNEL;
    if (chunked && len > 0)
        pieces[n++] = (struct iovec){line, (size_t)snprintf(line, sizeof line, "%zx\r\n", len)};
    if (len > 0)
        pieces[n++] = (struct iovec){(void *)(uintptr_t)data, len};
    if (chunked && (len > 0 || end)) {
        static const char both[] = "\r\n0\r\n\r\n"; /* the end of a chunk, and the last one */
        pieces[n++] = (struct iovec){(void *)(uintptr_t)(len > 0 ? both : both + 2), len == 0 ? 5 : end ? 7 : 2};
    }
    if (n > 0 && !transmit(engine, up, pieces, n))
        break_off(engine, up);
    else
        set_timer(engine, up);
}

static void refused(struct tux_engine *engine, struct tux_upconn *up, int error)
{
    atomic_store_explicit(&up->server->connect_error, error, memory_order_relaxed);
    tux_upconn_fail(engine, up, false, TUX_UPFAIL_connect);
}

/* What waits, as far as the system takes it. False: the connection or its call is gone. */
static bool flush(struct tux_engine *engine, struct tux_upconn *up)
{
    struct iovec piece = {up->out + up->out_off, up->out_len - up->out_off};
    if (up->out != NULL && !up->blocked && !up->broken) {
        if (!transmit(engine, up, &piece, 1)) {
            int error = errno;
            if (up->silent && up->state == TUX_UP_CONNECTING)
                refused(engine, up, error);
            else if (up->silent)
                tux_upconn_fail(engine, up, up->reused, TUX_UPFAIL_closed);
            else
                break_off(engine, up);
            return false;
        }
        set_timer(engine, up);
    }
    if (up->out == NULL && up->fin) {
        up->fin = false;
        shutdown(up->fd, SHUT_WR);
    }
    tux_upconn_offer_room(engine, up);
    return true;
}

/* -- events ------------------------------------------------------------------------------------------------------ */

/* How many bytes may be read now. One more than the body has, if possible: a short read tells that nothing is left. */
static size_t wanted(struct tux_engine *engine, const struct tux_upconn *up)
{
    size_t room = tux_relay_room(engine, up->call->conn);
    if (room > TUX_UPSTREAM_RECV_BYTES)
        room = TUX_UPSTREAM_RECV_BYTES;
    if (up->state == TUX_UP_BODY && up->framing == TUX_FRAMING_LENGTH && up->left < room)
        return (size_t)up->left + 1;
    return room;
}

static void receive(struct tux_engine *engine, struct tux_upconn *up)
{
    const struct tux_upcall *call = up->call;
    uint8_t *buf = engine->upstreams->recv;
    for (unsigned i = 0; up->readable && i < TUX_UPSTREAM_READS; i++) {
        size_t size = wanted(engine, up), held = up->state == TUX_UP_HEAD ? up->held_len : 0, seen = up->held_seen;
        if (size == 0) {
            up->paused = true; /* drained() goes on with it */
            set_timer(engine, up);
            return;
        }
        ssize_t n;
        do
            n = recv(up->fd, buf + held, size, 0);
        while (n < 0 && errno == EINTR);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            up->readable = false;
            return;
        }
        if (n <= 0) {
            tux_upconn_ended(engine, up, n == 0);
            return;
        }
        /* A short read has emptied the socket (epoll(7)); what comes later raises a new edge. */
        if ((size_t)n < size && !up->rdhup)
            up->readable = false;
        if (held > 0) {
            memcpy(buf, up->held, held);
            tux_upconn_unhold(engine, up);
        }
        if (!tux_upconn_feed(engine, up, buf, held + (size_t)n, held > 0 ? seen : 0) || up->call != call)
            return;
    }
    set_timer(engine, up);
    if (up->readable)
        tux_upconn_defer(engine, up); /* the others first */
}

void tux_upconn_run(struct tux_engine *engine, struct tux_upconn *up)
{
    if (up->state == TUX_UP_IDLE || up->state == TUX_UP_CLOSED)
        return;
    if (!flush(engine, up))
        return;
    up->paused = false;
    if (up->readable && up->state != TUX_UP_CONNECTING)
        receive(engine, up);
}

/* A connection under way has an answer. False: it failed, and the call is on its way elsewhere. */
static bool connected(struct tux_engine *engine, struct tux_upconn *up)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(up->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error == 0) {
        up->state = TUX_UP_HEAD;
        return true;
    }
    refused(engine, up, error);
    return false;
}

void tux_upstream_event(struct tux_engine *engine, struct tux_source *source, uint32_t events)
{
    struct tux_upconn *up = (struct tux_upconn *)source;
    uint32_t input = events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    if (up->state == TUX_UP_CLOSED)
        return; /* closed earlier in this turn */
    if (up->state == TUX_UP_IDLE) {
        if (input != 0)
            tux_upconn_close(engine, up); /* its end, or bytes that nobody asked for */
        return;
    }
    if (input != 0 && up->reused && up->taken_turn == engine->turn) {
        /* The event is older than the request: again its end, or bytes that must not be taken for an answer. */
        tux_upconn_fail(engine, up, true, TUX_UPFAIL_closed);
        return;
    }
    up->rdhup |= (events & (EPOLLRDHUP | EPOLLHUP)) != 0;
    up->readable |= input != 0;
    if (up->state == TUX_UP_CONNECTING && (up->connect_again || (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) == 0 ||
                                           !connected(engine, up)))
        return;
    if (events & EPOLLOUT)
        up->blocked = false;
    tux_upconn_run(engine, up);
}

static void connect_once_more(struct tux_engine *engine, struct tux_upconn *up)
{
    int error = try_connect(engine, up);
    if (error != 0)
        refused(engine, up, error);
    else if (up->connect_again)
        set_timer(engine, up);
    else
        tux_upconn_run(engine, up);
}

void tux_upstream_expired(struct tux_engine *engine, struct tux_timer *timer)
{
    struct tux_upconn *up = (struct tux_upconn *)((char *)timer - offsetof(struct tux_upconn, timer));
    if (up->state == TUX_UP_IDLE) {
        tux_upconn_close(engine, up);
        return;
    }
    if (up->state == TUX_UP_CONNECTING && up->connect_again) {
        connect_once_more(engine, up);
        return;
    }
    if (up->state == TUX_UP_HEAD && up->out == NULL && up->call->waits_continue) { /* it may not know Expect */
        up->call->waits_continue = false;
        tux_upconn_offer_room(engine, up);
        return;
    }
    tux_count(&engine->stats.timeouts, 1);
    if (up->state == TUX_UP_CONNECTING)
        tux_upconn_fail(engine, up, false, TUX_UPFAIL_connect_time);
    else if (up->state == TUX_UP_HEAD && up->out != NULL)
        tux_upconn_fail(engine, up, false, TUX_UPFAIL_send_time);
    else if (up->state == TUX_UP_HEAD)
        tux_upconn_fail(engine, up, false, TUX_UPFAIL_answer_time);
    else if (up->state == TUX_UP_TUNNEL)
        tux_upconn_ended(engine, up, true);
    else
        tux_upconn_cut(engine, up, TUX_UPFAIL_idle_time);
}
