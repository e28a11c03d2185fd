/* SPDX-License-Identifier: MIT */
#include "relay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel.h"
#include "line.h"
#include "origin.h"
#include "reason.h"

#define ROUNDS 4u /* of one connection, before others get their turn */
#define SHARES 4u /* of what is left of the memory for held bytes, one relay takes no more than such a part */
#define LEAST_BYTES 4096u /* ... but has room for so much, when it holds nothing */

static struct tux_relay *relay_of(const struct tux_conn *conn)
{
    return conn->exchange->relay;
}

/* -- what goes out ---------------------------------------------------------------------------------------------- */

static void touch(struct tux_engine *engine, struct tux_conn *conn)
{
    relay_of(conn)->dirty = true;
    tux_loop_queue(engine, conn);
}

/* The queue has changed: the gauge of held bytes follows. */
static void account(struct tux_engine *engine, struct tux_relay *relay)
{
    if (relay->out.bytes > relay->counted)
        tux_count(&engine->stats.held, relay->out.bytes - relay->counted);
    else
        tux_uncount(&engine->stats.held, relay->counted - relay->out.bytes);
    relay->counted = relay->out.bytes;
    if (atomic_load_explicit(&engine->stats.held, memory_order_relaxed) > engine->config.limits.held_bytes)
        relay->broken = true;
}

static void put(struct tux_relay *relay, const void *bytes, size_t len)
{
    if (len > 0 && !tux_outq_put(&relay->out, bytes, len))
        relay->broken = true;
}

static void put_text(struct tux_relay *relay, const char *text)
{
    put(relay, text, strlen(text));
}

/* The helper thread reads what comes next of a file, and runs the connection. */
static void warm(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_relay *relay = relay_of(conn);
    uint64_t offset, length;
    struct tux_file *file = tux_outq_cold(&relay->out, &offset, &length);
    if (!tux_ask_warm(engine, conn, file, offset, length))
        relay->broken = true;
}

/* May something be sent now? */
static bool is_open(const struct tux_conn *conn)
{
    return !relay_of(conn)->blocked && !conn->warming;
}

/* Send what is queued and what is given along. */
static void flush(struct tux_engine *engine, struct tux_conn *conn, const struct iovec *more, uint32_t n_more)
{
    struct tux_relay *relay = relay_of(conn);
    uint64_t sent = 0;
    struct tux_outq_way way = {
        .fd = conn->fd, .now_ms = engine->now_ms, .copy = engine->copy, .warmed = &conn->warmed};
    enum tux_outq_result result = tux_outq_send(&relay->out, &way, more, n_more, &sent);
    conn->sent += (uint32_t)sent;
    relay->progress += sent;
    relay->sent += sent;
    relay->blocked = result == TUX_OUTQ_FULL;
    if (result == TUX_OUTQ_CHANGED)
        tux_count(&engine->stats.changed_while_sent, 1);
    bool failed = result == TUX_OUTQ_CHANGED || result == TUX_OUTQ_ERROR;
    if (failed || (relay->blocked && conn->watched < 2 && !tux_loop_watch(engine, conn, true)))
        relay->broken = true;
    else if (result == TUX_OUTQ_SOME)
        touch(engine, conn);
    else if (result == TUX_OUTQ_COLD)
        warm(engine, conn);
    account(engine, relay);
}

static void put_status(struct tux_relay *relay, uint16_t status, const uint8_t *reason, size_t reason_len)
{
    char line[] = "HTTP/1.1 000 ";
    line[9] = (char)('0' + status / 100 % 10);
    line[10] = (char)('0' + status / 10 % 10);
    line[11] = (char)('0' + status % 10);
    put(relay, line, sizeof line - 1);
    if (reason_len > 0)
        put(relay, reason, reason_len);
    else
        put_text(relay, tux_reason(status));
    put_text(relay, "\r\n");
}

/* -- for backends ----------------------------------------------------------------------------------------------- */

/* What tux_relay_body_now took goes from what is held. False: no memory. */
static bool drop_taken(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_relay *relay = relay_of(conn);
    uint32_t taken = relay->body_taken;
    relay->body_taken = 0;
    return taken == 0 || tux_conn_hold(engine, conn, conn->held + taken, conn->held_len - taken, 0);
}

static void release(struct tux_engine *engine, struct tux_conn *conn, bool complete)
{
    struct tux_relay *relay = relay_of(conn);
    const struct tux_backend *backend = relay->backend;
    relay->backend = NULL;
    tux_relay_unplanned(engine, conn);
    if (backend != NULL)
        backend->release(engine, conn, complete);
}

void tux_relay_inform(struct tux_engine *engine, struct tux_conn *conn, uint16_t status, const uint8_t *fields,
                      size_t fields_len)
{
    struct tux_relay *relay = relay_of(conn);
    if (conn->exchange->facts.minor == 0 || relay->answered)
        return;
    put_status(relay, status, NULL, 0);
    put(relay, fields, fields_len);
    put_text(relay, "\r\n");
    account(engine, relay);
    touch(engine, conn);
}

/* May the connection stay open, with what is left of the request's body? It can be read and dropped if it is small, and if
 * the client does not wait for a word before it sends it. */
static bool body_allows_keep(const struct tux_engine *engine, const struct tux_exchange *exchange)
{
    const struct tux_relay *relay = exchange->relay;
    return relay->body_end || (!relay->continues && !exchange->chunked &&
                               exchange->body_left <= engine->config.limits.drain_bytes);
}

void tux_relay_answer(struct tux_engine *engine, struct tux_conn *conn, const struct tux_relay_head *head)
{
    struct tux_exchange *exchange = conn->exchange;
    struct tux_relay *relay = exchange->relay;
    const struct tux_facts *facts = &exchange->facts;
    relay->answered = true;
    exchange->status = head->status;
    relay->no_body = facts->method == TUX_METHOD_HEAD || head->status == 204 || head->status == 304;
    relay->chunked = !relay->no_body && facts->minor == 1 && (head->length < 0 || head->trailers);
    relay->until_close = !relay->no_body && !relay->chunked && head->length < 0;
    relay->left = head->length > 0 && !relay->no_body && !relay->chunked ? (uint64_t)head->length : 0;
    relay->keep = facts->keep_alive && !relay->until_close && !engine->draining && !conn->closing &&
                  body_allows_keep(engine, exchange);
    if (!relay->keep) {
        conn->closing = true;
        conn->lingers = conn->lingers || facts->keep_alive || !relay->body_end;
    }
    put_status(relay, head->status, head->reason, head->reason_len);
    put(relay, head->fields, head->fields_len);
    if (relay->chunked) {
        put_text(relay, "Transfer-Encoding: chunked\r\n");
    } else if (head->length >= 0 && head->status != 204) {
        uint8_t line[16 + TUX_MAX_DECIMAL_BYTES + 2] = "Content-Length: ";
        uint8_t *end = tux_line_put_decimal(line + 16, (uint64_t)head->length);
        memcpy(end, "\r\n", 2);
        put(relay, line, (size_t)(end + 2 - line));
    }
    if (!head->has_date)
        put(relay, engine->date, TUX_DATE_LINE_BYTES);
    if (!head->has_server)
        put_text(relay, "Server: tux\r\n");
    put_text(relay, !relay->keep ? "Connection: close\r\n\r\n" : facts->minor == 0 ? "Connection: keep-alive\r\n\r\n" : "\r\n");
    account(engine, relay);
    touch(engine, conn);
}

void tux_relay_data(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *data, size_t len)
{
    struct tux_relay *relay = relay_of(conn);
    if (len == 0 || relay->no_body || relay->broken)
        return;
    if (!relay->chunked && !relay->until_close && !relay->tunnel) {
        if (len > relay->left) {
            relay->broken = true;
            touch(engine, conn);
            return;
        }
        relay->left -= len;
    }
    conn->exchange->body_bytes += len;
    struct iovec more[2] = {{.iov_base = (void *)(uintptr_t)data, .iov_len = len}};
    uint32_t n = 1;
    if (relay->chunked) {
        char line[24];
        int line_len = snprintf(line, sizeof line, "%zx\r\n", len);
        put(relay, line, (size_t)line_len);
        more[n++] = (struct iovec){.iov_base = (void *)(uintptr_t)"\r\n", .iov_len = 2};
    }
    if (is_open(conn) && relay->out.bytes + len >= TUX_RELAY_CORK_BYTES) {
        flush(engine, conn, more, n);
    } else {
        for (uint32_t i = 0; i < n; i++)
            put(relay, more[i].iov_base, more[i].iov_len);
        account(engine, relay);
    }
    touch(engine, conn);
}

void tux_relay_file(struct tux_engine *engine, struct tux_conn *conn, struct tux_file *file, uint64_t offset,
                    uint64_t len)
{
    struct tux_relay *relay = relay_of(conn);
    bool counted = !relay->chunked && !relay->until_close;
    touch(engine, conn);
    if (len == 0 || relay->no_body || relay->broken || (counted && len > relay->left)) {
        relay->broken = relay->broken || (counted && !relay->no_body && len > relay->left);
        return;
    }
    if (counted)
        relay->left -= len;
    conn->exchange->body_bytes += len;
    if (relay->chunked) {
        char line[24];
        int line_len = snprintf(line, sizeof line, "%llx\r\n", (unsigned long long)len);
        put(relay, line, (size_t)line_len);
    }
    if (!tux_outq_file(&relay->out, file, offset, len))
        relay->broken = true;
    if (relay->chunked)
        put_text(relay, "\r\n");
    account(engine, relay);
}

void tux_relay_end(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *trailers, size_t len)
{
    struct tux_relay *relay = relay_of(conn);
    if (!relay->answered) {
        tux_relay_fail(engine, conn, 502);
        return;
    }
    if (relay->chunked) {
        put_text(relay, "0\r\n");
        put(relay, trailers, len);
        put_text(relay, "\r\n");
        account(engine, relay);
    } else if (relay->left > 0) {
        relay->broken = true; /* the client sees that it is not whole */
    }
    relay->ended = true;
    release(engine, conn, true);
    touch(engine, conn);
}

void tux_relay_fail(struct tux_engine *engine, struct tux_conn *conn, uint16_t status)
{
    struct tux_relay *relay = relay_of(conn);
    relay->failed = status;
    release(engine, conn, false);
    touch(engine, conn);
}

void tux_relay_replace(struct tux_engine *engine, struct tux_conn *conn, const struct tux_backend *backend, void *peer)
{
    struct tux_relay *relay = relay_of(conn);
    release(engine, conn, false);
    relay->backend = backend;
    relay->peer = peer;
    touch(engine, conn);
}

void tux_relay_await(struct tux_conn *conn, tux_relay_planned *planned)
{
    relay_of(conn)->planned = planned;
}

void tux_relay_unplanned(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_relay *relay = relay_of(conn);
    if (relay->planned == NULL)
        return;
    relay->planned = NULL;
    tux_exchange_renew(engine, conn);
}

void tux_relay_plan(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan, struct tux_own_head *own)
{
    struct tux_relay *relay = relay_of(conn);
    relay->plan = tux_plan_ref(plan);
    relay->own = own;
    release(engine, conn, false);
    touch(engine, conn);
}

void tux_relay_upgrade(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *fields, size_t fields_len)
{
    struct tux_relay *relay = relay_of(conn);
    if (!relay->may_upgrade || !relay->body_end || relay->answered) {
        tux_relay_fail(engine, conn, 502); /* else what follows a request would be taken for its tunnel */
        return;
    }
    relay->answered = relay->tunnel = true;
    relay->body_end = false;
    conn->exchange->status = 101;
    conn->closing = true;
    put_text(relay, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n");
    put(relay, fields, fields_len);
    put_text(relay, "\r\n");
    account(engine, relay);
    touch(engine, conn);
}

bool tux_relay_next(struct tux_engine *engine, struct tux_conn *conn, bool forward)
{
    struct tux_relay *relay = relay_of(conn);
    if (relay->answered || relay->plan != NULL || relay->touched || !tux_origin_has_next(conn->exchange) ||
        (forward && !tux_origin_skip(conn->exchange, TUX_ORIGIN_FORWARD)))
        return false;
    relay->next = true;
    release(engine, conn, false);
    touch(engine, conn);
    return true;
}

void tux_relay_take_body(struct tux_engine *engine, struct tux_conn *conn)
{
    if (!relay_of(conn)->body_end)
        touch(engine, conn);
}

void tux_relay_given(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_relay *relay = relay_of(conn);
    relay->told_half_closed = false; /* there was nobody to be told, or somebody who has died */
    if (!relay->body_end || conn->rdhup)
        touch(engine, conn);
}

/* How much one relay may hold: less, when all connections together come near their bound, so that clients which take
 * nothing slow down each other and never make answers fail. */
static size_t share(const struct tux_engine *engine)
{
    uint64_t held = atomic_load_explicit(&engine->stats.held, memory_order_relaxed) + engine->promised;
    uint64_t bound = engine->config.limits.held_bytes / 4u * 3u; /* the rest is for heads, and what does not ask for room */
    uint64_t part = held < bound ? (bound - held) / SHARES : 0;
    return part < TUX_RELAY_BUFFER_BYTES ? (size_t)part : TUX_RELAY_BUFFER_BYTES;
}

size_t tux_relay_room(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_relay *relay = relay_of(conn);
    size_t most = share(engine);
    if (most < LEAST_BYTES && tux_outq_empty(&relay->out))
        most = LEAST_BYTES; /* nothing of its own would wake it up later */
    if (relay->out.bytes < most && relay->out.file_bytes == 0)
        return most - relay->out.bytes;
    relay->starved = true;
    return 0;
}

void tux_relay_body_now(struct tux_engine *engine, struct tux_conn *conn, size_t max, const uint8_t **data, size_t *len,
                        bool *end)
{
    struct tux_exchange *exchange = conn->exchange;
    struct tux_relay *relay = exchange->relay;
    *data = conn->held;
    *len = 0;
    if (!relay->body_end && !exchange->chunked && !relay->continues && relay->body_taken == 0) {
        *len = exchange->body_left < conn->held_len ? (size_t)exchange->body_left : conn->held_len;
        if (*len > max)
            *len = max;
        relay->touched = relay->touched || *len > 0;
        relay->body_taken = (uint32_t)*len;
        exchange->body_left -= *len;
        relay->body_end = exchange->body_left == 0;
    }
    *end = relay->body_end;
    (void)engine;
}

/* -- the request's body ----------------------------------------------------------------------------------------- */

/* Pass on buf[0..len), of the body or, in a tunnel, as it is. Returns the bytes that belong to it; they are overwritten. */
static size_t pass(struct tux_engine *engine, struct tux_conn *conn, uint8_t *buf, size_t len,
                   enum tux_outcome *outcome)
{
    struct tux_exchange *exchange = conn->exchange;
    struct tux_relay *relay = exchange->relay;
    relay->progress += len;
    *outcome = TUX_MORE;
    if (relay->tunnel) {
        relay->backend->body(engine, conn, buf, len, false);
        return len;
    }
    if (!exchange->chunked) {
        size_t n = len < exchange->body_left ? len : (size_t)exchange->body_left;
        exchange->body_left -= n;
        relay->body_end = exchange->body_left == 0;
        relay->touched = true;
        *outcome = relay->body_end ? TUX_DONE : TUX_MORE;
        relay->backend->body(engine, conn, buf, n, relay->body_end);
        return n;
    }
    /* All data of the buffer in one piece, however many chunks it came in: chunks of one byte must not cost a call each. */
    uint8_t *first = NULL;
    size_t pos = 0, data_len = 0;
    while (*outcome == TUX_MORE && pos < len) { /* ends: every round eats something */
        size_t consumed = 0;
        struct tux_span data = {0, 0};
        *outcome = tux_chunked_decode(&exchange->decoder, buf + pos, len - pos, &consumed, &data);
        if (*outcome == TUX_MALFORMED)
            return pos;
        if (data.len > 0 && first == NULL)
            first = buf + pos + data.off;
        else if (data.len > 0)
            memmove(first + data_len, buf + pos + data.off, data.len);
        data_len += data.len;
        pos += consumed;
    }
    exchange->body_read += data_len;
    if (exchange->body_read > engine->config.limits.body_bytes) {
        *outcome = TUX_MALFORMED;
        return pos;
    }
    relay->body_end = *outcome == TUX_DONE;
    if (data_len > 0 || relay->body_end) {
        relay->touched = true;
        relay->backend->body(engine, conn, first, data_len, relay->body_end);
    }
    return pos;
}

/* Read the body as far as it is there and the backend takes it. CLOSE: the client is gone. */
static enum tux_step pump(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_exchange *exchange = conn->exchange;
    struct tux_relay *relay = exchange->relay;
    /* Of chunks, what follows the last of them may be the next head's, which bounds what can be put aside. */
    bool pure = relay->tunnel || !exchange->chunked;
    uint8_t *buf = pure ? engine->copy : engine->recv;
    size_t most = pure ? TUX_COPY_BYTES : TUX_RECV_BYTES;
    for (unsigned i = 0; i < ROUNDS && !relay->body_end && relay->backend != NULL; i++) {
        size_t room = relay->backend->room(engine, conn);
        if (room == 0 || relay->backend == NULL)
            return TUX_STEP_WAIT;
        if (relay->continues) {
            relay->continues = false;
            if (!relay->answered) {
                put_text(relay, "HTTP/1.1 100 Continue\r\n\r\n");
                flush(engine, conn, NULL, 0);
            }
        }
        if (room > most)
            room = most;
        enum tux_outcome outcome;
        if (conn->held_len > 0) {
            size_t len = conn->held_len < room ? conn->held_len : room;
            size_t used = pass(engine, conn, conn->held, len, &outcome);
            if (outcome != TUX_MALFORMED && !tux_conn_hold(engine, conn, conn->held + used, conn->held_len - used, 0))
                return TUX_STEP_CLOSE;
        } else {
            if (!conn->readable)
                return TUX_STEP_WAIT;
            /* Never beyond a body whose end is known: what follows is the next head's. */
            size_t want = room;
            if (!exchange->chunked && !relay->tunnel && exchange->body_left < want)
                want = (size_t)exchange->body_left;
            ssize_t n = tux_conn_receive(conn, buf, want, 0);
            if (n == -1)
                return TUX_STEP_WAIT;
            if (n == 0 && relay->tunnel) {
                relay->body_end = true;
                relay->backend->body(engine, conn, NULL, 0, true);
                return TUX_STEP_WAIT;
            }
            if (n <= 0)
                return TUX_STEP_CLOSE;
            conn->readable = conn->readable || (size_t)n == want;
            size_t used = pass(engine, conn, buf, (size_t)n, &outcome);
            if (outcome != TUX_MALFORMED && used < (size_t)n &&
                !tux_conn_hold(engine, conn, buf + used, (size_t)n - used, 0))
                return TUX_STEP_CLOSE;
        }
        if (outcome == TUX_MALFORMED) {
            conn->lingers = true;
            bool large = exchange->body_read > engine->config.limits.body_bytes;
            if (relay->backend != NULL)
                tux_relay_fail(engine, conn, large ? 413 : 400);
            return TUX_STEP_WAIT;
        }
    }
    if (!relay->body_end && relay->backend != NULL)
        touch(engine, conn); /* the others first */
    return TUX_STEP_WAIT;
}

/* -- for conn.c and origin.c ------------------------------------------------------------------------------------ */

/* Answer with an error in place of the backend's answer. */
static enum tux_step refuse(struct tux_engine *engine, struct tux_conn *conn, uint16_t status)
{
    struct tux_exchange *exchange = conn->exchange;
    if (!drop_taken(engine, conn))
        return TUX_STEP_CLOSE;
    if (!exchange->relay->body_end) {
        exchange->facts.keep_alive = false;
        conn->lingers = true;
    }
    tux_relay_free(engine, conn);
    conn->state = TUX_CONN_WAIT;
    return tux_answer_error(engine, conn, status);
}

/* Answer with the plan that was given, behind what has to go out before it. */
static enum tux_step answer_plan(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_exchange *exchange = conn->exchange;
    struct tux_relay *relay = exchange->relay;
    struct tux_plan *plan = relay->plan;
    struct tux_own_head *own = relay->own;
    if (!relay->body_end) {
        exchange->facts.keep_alive = false;
        conn->lingers = true;
    }
    relay->plan = NULL;
    relay->own = NULL;
    tux_relay_free(engine, conn);
    conn->state = TUX_CONN_WAIT;
    enum tux_step step = tux_answer_exchange_as(engine, conn, plan, own);
    tux_plan_unref(plan);
    free(own);
    return step;
}

enum tux_step tux_relay_begin(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_exchange *exchange = conn->exchange;
    struct tux_head *head = &engine->head;
    uint32_t origin = exchange->chain->steps[exchange->step].origin;
    struct tux_relay *relay = calloc(1, sizeof *relay);
    if (relay == NULL)
        return TUX_STEP_CLOSE;
    exchange->relay = relay;
    exchange->asked_ms = engine->now_ms;
    relay->number = exchange->chain->steps[exchange->step].number;
    if (!tux_exchange_scan(engine, conn))
        return TUX_STEP_CLOSE; /* it was scanned before */
    exchange->chunked = head->chunked;
    exchange->body_left = head->content_length;
    relay->body_end = !head->chunked && head->content_length == 0;
    relay->continues = head->expect_continue && !relay->body_end;
    relay->may_upgrade = head->upgrade && head->minor == 1;
    if (head->expect_other)
        return refuse(engine, conn, 417);
    if (head->content_length > engine->config.limits.body_bytes)
        return refuse(engine, conn, 413);
    const struct tux_backend *backend = engine->backends[origin];
    if (backend == NULL)
        return refuse(engine, conn, 502);
    conn->state = TUX_CONN_RELAY;
    exchange->tier = (uint8_t)backend->tier;
    tux_timer_cancel(&engine->wheel, &conn->timer);
    relay->backend = backend;
    tux_count(&engine->stats.relayed, 1);
    uint16_t status = backend->begin(engine, conn);
    if (status != 0) {
        relay->backend = NULL;
        return refuse(engine, conn, status);
    }
    touch(engine, conn);
    return TUX_STEP_WAIT;
}

/* The client's deadline: only what the client owes is timed here. */
static void set_timer(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_relay *relay = relay_of(conn);
    bool owes = !tux_outq_empty(&relay->out) ||
                (!relay->body_end && !relay->tunnel && !relay->continues && relay->backend != NULL && !conn->readable && conn->held_len == 0);
    if (!owes) {
        if (relay->timed)
            tux_timer_cancel(&engine->wheel, &conn->timer);
        relay->timed = false;
    } else if (!relay->timed || relay->progress != relay->timed_progress) {
        tux_timer_set(&engine->wheel, &conn->timer, engine->now_ms + engine->config.limits.stall_timeout_ms);
        relay->timed = true;
        relay->timed_progress = relay->progress;
    }
}

/* Has a part of an informational answer left, and a part not? */
static bool is_torn(const struct tux_relay *relay)
{
    return relay->sent > 0 && !tux_outq_empty(&relay->out);
}

/* The answer cannot be whole any more: the client must see that, also where only the end of the connection ends it. */
static enum tux_step cut(struct tux_conn *conn)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    if (relay_of(conn)->until_close)
        setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    return TUX_STEP_CLOSE;
}

/* All of the answer has left. */
static enum tux_step done(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_relay *relay = relay_of(conn);
    if (!relay->body_end) {
        if (relay->keep) {
            tux_relay_free(engine, conn);
            conn->state = TUX_CONN_BODY; /* its rest is dropped */
            tux_timer_set(&engine->wheel, &conn->timer, engine->now_ms + engine->config.limits.stall_timeout_ms);
            return TUX_STEP_AGAIN;
        }
        conn->lingers = true;
    }
    return TUX_STEP_AGAIN;
}

/* The answer was given before the body was read: what is left of it is read and dropped while the answer leaves, as a client
 * that first sends all of its request takes nothing before. CLOSE: no memory. */
static enum tux_step drop_body(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_exchange *exchange = conn->exchange;
    struct tux_relay *relay = exchange->relay;
    for (unsigned i = 0; i < ROUNDS && exchange->body_left > 0; i++) {
        size_t want = exchange->body_left < TUX_COPY_BYTES ? (size_t)exchange->body_left : TUX_COPY_BYTES;
        size_t n;
        if (conn->held_len > 0) {
            n = conn->held_len < want ? conn->held_len : want;
            if (!tux_conn_hold(engine, conn, conn->held + n, conn->held_len - n, 0))
                return TUX_STEP_CLOSE;
        } else {
            if (!conn->readable)
                return TUX_STEP_WAIT;
            ssize_t got = tux_conn_receive(conn, engine->copy, want, 0);
            if (got <= 0) { /* if it sends no more, it may still take the answer: whoever reads next finds that out */
                relay->body_end = got != -1;
                return TUX_STEP_WAIT;
            }
            n = (size_t)got;
            conn->readable = conn->readable || n == want;
        }
        exchange->body_left -= n;
        relay->progress += n;
    }
    relay->body_end = exchange->body_left == 0;
    if (!relay->body_end)
        touch(engine, conn); /* there is more, after others had their turn */
    return TUX_STEP_WAIT;
}

enum tux_step tux_relay_step(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_relay *relay = relay_of(conn);
    for (unsigned i = 0; i < ROUNDS; i++) {
        relay->dirty = false;
        if (!drop_taken(engine, conn))
            return TUX_STEP_CLOSE;
        if (relay->broken || (is_torn(relay) && (relay->next || (relay->failed != 0 && !relay->answered))))
            return cut(conn);
        if (relay->next) {
            bool unread = !relay->body_end;
            tux_relay_free(engine, conn);
            tux_origin_next(conn->exchange); /* true: tux_relay_next has looked */
            conn->exchange->tier = 'p'; /* or that of the next backend */
            conn->exchange->body_unread = unread && tux_origin_is_planner(conn->exchange);
            return tux_origin_begin(engine, conn);
        }
        if (relay->failed != 0 && !relay->answered)
            return refuse(engine, conn, relay->failed);
        if (!tux_outq_empty(&relay->out) && is_open(conn))
            flush(engine, conn, NULL, 0);
        if (relay->broken || relay->failed != 0)
            return cut(conn);
        if (relay->plan != NULL && tux_outq_empty(&relay->out))
            return answer_plan(engine, conn);
        if (relay->ended && tux_outq_empty(&relay->out))
            return done(engine, conn);
        if (relay->starved && relay->backend != NULL && relay->out.file_bytes == 0 &&
            relay->out.bytes + TUX_RELAY_RESUME_BYTES <= TUX_RELAY_BUFFER_BYTES) {
            relay->starved = false;
            relay->backend->drained(engine, conn);
        }
        if (!relay->body_end && relay->backend != NULL && pump(engine, conn) == TUX_STEP_CLOSE)
            return TUX_STEP_CLOSE;
        if (!relay->body_end && relay->ended && relay->keep) { /* then it is short, and its length is known */
            if (drop_body(engine, conn) == TUX_STEP_CLOSE)
                return TUX_STEP_CLOSE;
            break;
        }
        if (relay->body_end && conn->rdhup && !relay->told_half_closed && relay->backend != NULL && !relay->tunnel) {
            relay->told_half_closed = true;
            relay->backend->half_closed(engine, conn);
        }
        if (!relay->dirty)
            break;
    }
    set_timer(engine, conn);
    return TUX_STEP_WAIT;
}

enum tux_step tux_relay_expired(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_relay *relay = relay_of(conn);
    relay->timed = false;
    tux_count(&engine->stats.timeouts, 1);
    if (!relay->answered && relay->plan == NULL && !is_torn(relay)) {
        release(engine, conn, false);
        return refuse(engine, conn, 408);
    }
    /* The client takes nothing: a plain close would leave the kernel to keep and retry what it has buffered. */
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    return TUX_STEP_CLOSE;
}

void tux_relay_free(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_relay *relay = relay_of(conn);
    if (relay == NULL)
        return;
    release(engine, conn, false);
    tux_outq_clear(&relay->out);
    if (relay->plan != NULL)
        tux_plan_unref(relay->plan);
    free(relay->own);
    tux_uncount(&engine->stats.held, relay->counted);
    if (relay->timed)
        tux_timer_cancel(&engine->wheel, &conn->timer);
    conn->exchange->relay = NULL;
    free(relay);
}
