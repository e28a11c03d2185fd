/* SPDX-License-Identifier: MIT */
/* The connection state machine: one function per state, and the only place where conn->state changes are decided upon
 * (answer.c and ask.c say through their return value, or through WAIT and SEND, that they cannot go on). */
#include "core.h"
#include "kernel.h"
#include "origin.h"
#include "proxyproto.h"
#include "relay.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define TUX_STEPS_PER_TURN 16u /* of one connection, before others get their turn */
#define TUX_STATUS_CLIENT_GONE 499u /* in the log: the client left before there was an answer, as in nginx */
#define TUX_DISCARD_BYTES (1024u * 1024u) /* one recv(MSG_TRUNC) of an unwanted body: nothing is copied */

/* -- life ------------------------------------------------------------------------------------------------------- */

struct tux_conn *tux_conn_new(struct tux_engine *engine, int fd, struct tux_listener *listener)
{
    if (engine->n_free == 0 && engine->n_slots == engine->config.limits.connections)
        return NULL;
    struct tux_conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL)
        return NULL;
    conn->source.kind = TUX_SOURCE_CONN;
    conn->fd = fd;
    conn->listener = listener;
    conn->readable = true; /* not known: try */
    conn->slot = engine->n_free > 0 ? engine->free_slots[--engine->n_free] : engine->n_slots++;
    engine->conns[conn->slot] = conn;
    engine->n_conns++;
    tux_count(&engine->stats.connections, 1);
    conn->slotless = !listener->accelerated;
    tux_timer_set(&engine->wheel, &conn->timer, engine->now_ms + engine->config.limits.idle_timeout_ms);
    return conn;
}

void tux_conn_set_peer(struct tux_conn *conn, const struct tux_address *address)
{
    _Static_assert(TUX_ADDRESS_TEXT_BYTES <= sizeof conn->peer, "every address has room");
    conn->address = *address;
    conn->peer_len = tux_address_format(address, conn->peer);
}

static void drop_held(struct tux_engine *engine, struct tux_conn *conn)
{
    if (conn->held == NULL)
        return;
    free(conn->held);
    tux_uncount(&engine->stats.held, conn->held_len);
    conn->held = NULL;
    conn->held_len = conn->held_seen = 0;
}

void tux_conn_close(struct tux_engine *engine, struct tux_conn *conn)
{
    if (conn->state == TUX_CONN_CLOSED)
        return;
    tux_kernel_busy(conn);
    tux_timer_cancel(&engine->wheel, &conn->timer);
    if (conn->exchange != NULL) {
        if (conn->exchange->status == 0 && conn->exchange->relay != NULL)
            conn->exchange->status = TUX_STATUS_CLIENT_GONE;
        if (conn->exchange->status != 0)
            tux_answer_log_exchange(engine, conn); /* cut short */
        tux_exchange_free(engine, conn);
    }
    drop_held(engine, conn);
    if (conn->out != NULL) {
        free(conn->out);
        conn->out = NULL;
        tux_uncount(&engine->stats.held, conn->out_len);
    }
    if (conn->file != NULL)
        tux_plan_unref(conn->file);
    conn->file = NULL;
    close(conn->fd); /* leaves epoll with it: no copy of the descriptor exists */
    tux_kernel_release(conn);
    engine->conns[conn->slot] = NULL;
    engine->free_slots[engine->n_free++] = conn->slot;
    engine->n_conns--;
    tux_uncount(&engine->stats.connections, 1);
    conn->state = TUX_CONN_CLOSED;
    if (!conn->queued) { /* else the ready list passes it on */
        conn->next = engine->graveyard;
        engine->graveyard = conn;
    }
    if (engine->accept_paused)
        tux_loop_resume_accept(engine);
}

struct tux_conn *tux_conn_by_id(struct tux_engine *engine, uint64_t id)
{
    uint32_t slot = (uint32_t)id;
    if (slot >= engine->n_slots)
        return NULL;
    struct tux_conn *conn = engine->conns[slot];
    return conn != NULL && conn->exchange != NULL && conn->serial == id >> 32 ? conn : NULL;
}

/* Keep what was received and not consumed. False: over the budget, or no memory. `bytes` may lie in conn->held. */
bool tux_conn_hold(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *bytes, size_t len, size_t seen)
{
    if (len == 0) {
        drop_held(engine, conn);
        return true;
    }
    if (len > TUX_MAX_HELD_BYTES ||
        atomic_load_explicit(&engine->stats.held, memory_order_relaxed) - conn->held_len + len >
            engine->config.limits.held_bytes)
        return false;
    uint8_t *copy = malloc(len);
    if (copy == NULL)
        return false;
    memcpy(copy, bytes, len);
    drop_held(engine, conn);
    conn->held = copy;
    conn->held_len = (uint32_t)len;
    conn->held_seen = (uint32_t)seen;
    tux_count(&engine->stats.held, len);
    return true;
}

static void set_deadline(struct tux_engine *engine, struct tux_conn *conn, uint64_t timeout_ms)
{
    tux_timer_set(&engine->wheel, &conn->timer, engine->now_ms + timeout_ms);
}

ssize_t tux_conn_receive(struct tux_conn *conn, void *buf, size_t size, int flags)
{
    ssize_t n;
    do
        n = recv(conn->fd, buf, size, flags);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        conn->readable = false;
        return errno == EAGAIN || errno == EWOULDBLOCK ? -1 : -2;
    }
    conn->received += (uint32_t)n;
    /* A short read has emptied the socket (epoll(7)); what comes later raises a new edge. */
    if ((size_t)n < size && !conn->rdhup)
        conn->readable = false;
    return n;
}

/* Read and drop up to `want` bytes; TCP does so without copying (tcp(7), MSG_TRUNC). */
static ssize_t discard(struct tux_engine *engine, struct tux_conn *conn, size_t want)
{
    if (conn->listener->is_unix)
        return tux_conn_receive(conn, engine->recv, want < TUX_RECV_BYTES ? want : TUX_RECV_BYTES, 0);
    return tux_conn_receive(conn, NULL, want, MSG_TRUNC);
}

/* Would a plain close take the answer away? It sends a RST where something unread lies, and the system answers what comes
 * later with one, which takes what has not left by then. */
static bool is_cut_by_close(struct tux_engine *engine, struct tux_conn *conn)
{
    int unsent = 0;
    if (!conn->readable && conn->sent <= TUX_FIRST_FLIGHT_BYTES)
        return false; /* all of it has left: not worth another look, which costs 2 % of a short connection */
    ssize_t n = discard(engine, conn, TUX_DISCARD_BYTES); /* something may have come since the last event */
    if (n > 0)
        conn->lingered += (uint64_t)n;
    if (n != -1)
        return n > 0; /* else nothing comes any more */
    return ioctl(conn->fd, SIOCOUTQNSD, &unsent) == 0 && unsent > 0;
}

/* What to do when an answer is out, or when the connection must end without one. */
static enum tux_step finish(struct tux_engine *engine, struct tux_conn *conn)
{
    if (conn->exchange != NULL) {
        tux_answer_log_exchange(engine, conn);
        tux_exchange_free(engine, conn);
    }
    if (!conn->closing) {
        conn->state = TUX_CONN_HEAD;
        set_deadline(engine, conn,
                     conn->held_len > 0 ? engine->config.limits.head_timeout_ms : engine->config.limits.idle_timeout_ms);
        return TUX_STEP_AGAIN;
    }
    if (!conn->lingers && !is_cut_by_close(engine, conn))
        return TUX_STEP_CLOSE;
    drop_held(engine, conn);
    tux_kernel_busy(conn);
    shutdown(conn->fd, SHUT_WR);
    conn->state = TUX_CONN_LINGER;
    conn->readable = true;
    set_deadline(engine, conn, TUX_LINGER_TIMEOUT_MS);
    return TUX_STEP_AGAIN;
}

/* After a flush or an answer: still sending, or done. */
static enum tux_step after_send(struct tux_engine *engine, struct tux_conn *conn, enum tux_step step)
{
    if (step != TUX_STEP_AGAIN)
        return step;
    if (conn->out != NULL || conn->file != NULL) {
        conn->state = TUX_CONN_SEND;
        set_deadline(engine, conn, engine->config.limits.stall_timeout_ms);
        return TUX_STEP_AGAIN;
    }
    return finish(engine, conn);
}

/* -- HEAD ------------------------------------------------------------------------------------------------------- */

/* What is no request gets an error; engine->head is the scan of these bytes, as far as it came: NULL, of others. */
static void reject(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *head, uint16_t status)
{
    struct tux_facts facts = {.minor = 1, .keep_alive = false};
    const struct tux_routes *routes = engine->config.routes;
    struct tux_span host = engine->head.host;
    uint32_t pages = head == NULL || routes == NULL ? 0 : tux_routes_pages(routes, head + host.off, host.len);
    struct tux_plan *plan = tux_answer_canned(engine, pages, status);
    conn->lingers = true;
    uint64_t bytes = tux_batch_add(engine, conn, plan, &facts);
    tux_count(&engine->stats.rejected, 1);
    tux_answer_log(engine, conn, NULL, NULL, plan->status, bytes, 'e');
}

/* The connection's exchange gets an error instead of what it came for, and the connection ends. `unread`: the client may
 * still be sending. */
static enum tux_step refuse(struct tux_engine *engine, struct tux_conn *conn, uint16_t status, bool unread)
{
    conn->lingers = unread;
    conn->exchange->facts.keep_alive = false;
    return after_send(engine, conn, tux_answer_error(engine, conn, status));
}

/* A head that no remembered plan answers: an exchange takes it over. `declined`: one says that the planner cannot. */
static enum tux_step begin_exchange(struct tux_engine *engine, struct tux_conn *conn, const struct tux_head *head,
                                    const uint8_t *bytes, bool declined)
{
    struct tux_exchange *exchange = tux_exchange_new(engine, conn, head, bytes);
    if (exchange == NULL)
        return TUX_STEP_CLOSE;
    tux_origin_choose(engine, exchange, declined);
    if (!tux_origin_is_planner(exchange)) {
        conn->state = TUX_CONN_WAIT;
        return TUX_STEP_AGAIN;
    }
    uint64_t bound = engine->config.limits.drain_bytes;
    bool has_body = head->chunked || head->content_length > 0;
    if (has_body && (head->expect_continue || head->expect_other || head->content_length > bound)) {
        exchange->body_unread = true; /* the answer comes at once, the body is never read: the connection ends */
        has_body = false;
    }
    if (has_body) {
        exchange->chunked = head->chunked;
        exchange->body_left = head->content_length;
        conn->state = TUX_CONN_BODY;
        set_deadline(engine, conn, engine->config.limits.stall_timeout_ms);
    } else {
        conn->state = TUX_CONN_WAIT;
    }
    return TUX_STEP_AGAIN;
}

/* Answer all complete heads in buf[0..len) that can be answered now; keep the rest. */
static enum tux_step process(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *buf, size_t len,
                             size_t seen)
{
    struct tux_head *head = &engine->head;
    struct tux_batch *batch = &engine->batch;
    struct tux_plan *parked = NULL;
    uint64_t context = tux_conn_context(engine, conn);
    size_t pos = 0;
    bool incomplete = false, starts_exchange = false, next = false;
    enum tux_recipe_result recipe = TUX_RECIPE_UNFIT;

    tux_batch_begin(batch);
    engine->scanned = NULL;
    while (pos < len && !tux_batch_full(engine, batch)) {
        enum tux_outcome outcome = tux_head_scan(buf + pos, len - pos, pos == 0 ? seen : 0, &engine->head_limits,
                                                 &engine->config.sign, context, head);
        if (outcome == TUX_MORE) {
            incomplete = true;
            break;
        }
        if (outcome == TUX_MALFORMED) {
            reject(engine, conn, buf + pos, head->error_status);
            pos = len;
            break;
        }
        struct tux_facts facts = tux_facts_of(head);
        struct tux_plan *plan = NULL, *made = NULL;
        enum tux_found_plan found = TUX_PLAN_MISSING;
        if (facts.is_signed)
            found = tux_answer_find(engine, &facts, &plan);
        if (found == TUX_PLAN_MISSING && (recipe = tux_recipes_use(engine, head, buf + pos, &made)) == TUX_RECIPE_MADE) {
            tux_ask_remember(engine, &facts, made);
            found = TUX_PLAN_FOUND;
            plan = made;
        }
        bool declined = found == TUX_PLAN_FOUND && (plan->flags & TUX_PLAN_NEXT);
        if (found != TUX_PLAN_FOUND || declined) {
            if (batch->n_iov > 0)
                break; /* earlier answers first; this head is scanned again after them */
            parked = found == TUX_PLAN_MUST_BLOCK ? plan : NULL;
            starts_exchange = true;
            next = declined;
            break;
        }
        char tier = made != NULL ? 'r' : 'm';
        tux_count(&engine->stats.requests, 1);
        tux_count(made != NULL ? &engine->stats.made : &engine->stats.hits, 1);
        if (plan->file != NULL && !(plan->flags & TUX_PLAN_NO_BODY)) { /* may last: its log line comes at the end */
            struct tux_exchange *exchange = tux_exchange_new(engine, conn, head, buf + pos);
            if (exchange != NULL) {
                exchange->tier = (uint8_t)tier;
                exchange->status = plan->status;
                if (made == NULL)
                    tux_ask_load(engine, &facts, plan);
                tux_batch_add(engine, conn, plan, &facts);
            }
            if (made != NULL)
                tux_plan_unref(made);
            if (exchange == NULL)
                return TUX_STEP_CLOSE;
            pos += head->length;
            break;
        }
        uint32_t first = batch->n_iov;
        uint64_t bytes = tux_batch_add(engine, conn, plan, &facts);
        tux_answer_log(engine, conn, head, buf + pos, plan->status, bytes, tier);
        bool relayed = engine->trust != NULL && (head->seen & TUX_FORWARDED_FIELDS) != 0; /* the log has to read it */
        if (made != NULL)
            tux_plan_unref(made); /* the batch has a reference of its own */
        else if (!conn->slotless && !conn->closing && !relayed)
            tux_kernel_hit(engine, conn, buf + pos, plan, first, bytes);
        pos += head->length;
        if (conn->closing)
            break;
    }
    if (starts_exchange) {
        tux_count(&engine->stats.requests, 1);
        const uint8_t *bytes = buf + pos;
        pos += head->length;
        enum tux_step step = begin_exchange(engine, conn, head, bytes, next);
        if (step == TUX_STEP_CLOSE)
            return TUX_STEP_CLOSE;
        if (!tux_conn_hold(engine, conn, buf + pos, len - pos, 0))
            return refuse(engine, conn, 503, true);
        if (parked != NULL && tux_origin_is_planner(conn->exchange))
            tux_ask_park(engine, conn, parked);
        else if (recipe == TUX_RECIPE_BLOCKS && tux_origin_is_planner(conn->exchange) && tux_recipes_hand_over(engine, conn))
            return TUX_STEP_AGAIN;
        else if (conn->state == TUX_CONN_WAIT)
            return after_send(engine, conn, tux_origin_begin(engine, conn));
        return TUX_STEP_AGAIN;
    }
    if (incomplete && (pos > 0 || seen == 0)) /* from the first byte of a head its time runs, whatever trickles in */
        set_deadline(engine, conn, engine->config.limits.head_timeout_ms);
    if (conn->closing && pos < len)
        conn->lingers = true; /* bytes after the last request: they must not turn into a RST over the answer */
    if (!tux_conn_hold(engine, conn, buf + pos, conn->closing ? 0 : len - pos, incomplete ? len - pos : 0)) {
        /* What is in the batch is answered; what came behind it cannot be kept. A file must stay the last. */
        if (conn->file == NULL)
            reject(engine, conn, NULL, 503);
        conn->closing = conn->lingers = true;
        drop_held(engine, conn);
    }
    if (batch->n_iov > 0)
        return after_send(engine, conn, tux_batch_flush(engine, conn));
    return TUX_STEP_AGAIN; /* an incomplete head: try to read more */
}

/* A trusted proxy says whose connection this is, before anything else. What makes no sense is not answered: it may be no HTTP. */
static enum tux_step read_name(struct tux_engine *engine, struct tux_conn *conn, size_t len)
{
    struct tux_proxy proxy;
    enum tux_outcome outcome = tux_proxy_parse(engine->recv, len, &proxy);
    if (outcome == TUX_MALFORMED) {
        tux_count(&engine->stats.rejected, 1);
        return TUX_STEP_CLOSE;
    }
    if (outcome == TUX_MORE)
        return tux_conn_hold(engine, conn, engine->recv, len, len) ? TUX_STEP_AGAIN : TUX_STEP_CLOSE;
    conn->unnamed = false;
    if (proxy.named)
        tux_conn_set_peer(conn, &proxy.source);
    set_deadline(engine, conn, engine->config.limits.idle_timeout_ms);
    len -= proxy.length;
    memmove(engine->recv, engine->recv + proxy.length, len);
    if (len > 0)
        return process(engine, conn, engine->recv, len, 0);
    drop_held(engine, conn);
    return TUX_STEP_AGAIN;
}

static enum tux_step step_head(struct tux_engine *engine, struct tux_conn *conn)
{
    size_t len = conn->held_len;
    size_t seen = conn->held_seen;
    if (len > 0)
        memcpy(engine->recv, conn->held, len);
    if (len == seen) { /* nothing held that was not looked at */
        if (!conn->readable) {
            if (engine->draining && len == 0 && conn->heard) /* one that is new has a moment for its request */
                return TUX_STEP_CLOSE;
            if (len == 0)
                tux_kernel_rest(engine, conn, 0);
            return TUX_STEP_WAIT;
        }
        ssize_t n = tux_conn_receive(conn, engine->recv + len, TUX_RECV_BYTES, 0);
        if (n == 0 || n == -2)
            return TUX_STEP_CLOSE;
        if (n == -1)
            return TUX_STEP_AGAIN;
        conn->heard = true;
        len += (size_t)n;
    }
    return conn->unnamed ? read_name(engine, conn, len) : process(engine, conn, engine->recv, len, seen);
}

/* -- BODY ------------------------------------------------------------------------------------------------------- */

/* Eat body bytes from buf. Returns bytes consumed; *outcome DONE when the body is complete. */
static size_t eat_body(struct tux_engine *engine, struct tux_exchange *exchange, const uint8_t *buf, size_t len,
                       enum tux_outcome *outcome)
{
    if (!exchange->chunked) {
        size_t n = len < exchange->body_left ? len : (size_t)exchange->body_left;
        exchange->body_left -= n;
        *outcome = exchange->body_left == 0 ? TUX_DONE : TUX_MORE;
        return n;
    }
    size_t pos = 0;
    do {
        size_t consumed = 0;
        struct tux_span data;
        *outcome = tux_chunked_decode(&exchange->decoder, buf + pos, len - pos, &consumed, &data);
        pos += consumed;
        exchange->body_read += consumed;
        if (exchange->body_read > engine->config.limits.drain_bytes)
            *outcome = TUX_MALFORMED;
        if (consumed == 0)
            break;
    } while (*outcome == TUX_MORE && pos < len);
    return pos;
}

static enum tux_step reject_body(struct tux_engine *engine, struct tux_conn *conn)
{
    if (conn->exchange->status != 0)
        return TUX_STEP_CLOSE; /* it was answered, and is not answered twice */
    return refuse(engine, conn, conn->exchange->body_read > engine->config.limits.drain_bytes ? 413 : 400, true);
}

static enum tux_step step_body(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_exchange *exchange = conn->exchange;
    enum tux_outcome outcome;
    if (conn->held_len > 0) {
        size_t n = eat_body(engine, exchange, conn->held, conn->held_len, &outcome);
        if (outcome == TUX_MALFORMED)
            return reject_body(engine, conn);
        if (!tux_conn_hold(engine, conn, conn->held + n, conn->held_len - n, 0))
            return exchange->status != 0 ? TUX_STEP_CLOSE : refuse(engine, conn, 503, true);
    } else {
        if (!conn->readable)
            return TUX_STEP_WAIT;
        ssize_t n;
        if (exchange->chunked) {
            n = tux_conn_receive(conn, engine->recv, TUX_RECV_BYTES, 0);
        } else { /* never beyond the body: what follows is the next head's */
            size_t want = exchange->body_left < TUX_DISCARD_BYTES ? (size_t)exchange->body_left : TUX_DISCARD_BYTES;
            n = discard(engine, conn, want);
            conn->readable = conn->readable || n > 0; /* it was asked for less than there may be */
        }
        if (n == 0 || n == -2)
            return TUX_STEP_CLOSE;
        if (n == -1)
            return TUX_STEP_WAIT;
        size_t eaten = eat_body(engine, exchange, engine->recv, (size_t)n, &outcome);
        if (outcome == TUX_MALFORMED)
            return reject_body(engine, conn);
        if (!tux_conn_hold(engine, conn, engine->recv + eaten, (size_t)n - eaten, 0))
            return exchange->status != 0 ? TUX_STEP_CLOSE : refuse(engine, conn, 503, true);
    }
    if (outcome == TUX_MORE)
        return TUX_STEP_AGAIN;
    if (exchange->status != 0)
        return finish(engine, conn); /* it was answered before its body was read */
    conn->state = TUX_CONN_WAIT;
    return after_send(engine, conn, tux_ask_send(engine, conn));
}

/* -- WAIT, SEND, LINGER ----------------------------------------------------------------------------------------- */

static enum tux_step step_wait(struct tux_engine *engine, struct tux_conn *conn)
{
    (void)engine;
    if (conn->exchange->status != 0) /* answered by ask.c: see what became of the sending */
        return after_send(engine, conn, TUX_STEP_AGAIN);
    return TUX_STEP_WAIT;
}

static enum tux_step step_relay(struct tux_engine *engine, struct tux_conn *conn)
{
    enum tux_step step = tux_relay_step(engine, conn);
    return step == TUX_STEP_AGAIN && conn->state == TUX_CONN_RELAY ? finish(engine, conn) : step;
}

static enum tux_step step_send(struct tux_engine *engine, struct tux_conn *conn)
{
    enum tux_step step = tux_answer_send(engine, conn);
    return step == TUX_STEP_AGAIN ? finish(engine, conn) : step;
}

static enum tux_step step_linger(struct tux_engine *engine, struct tux_conn *conn)
{
    if (!conn->readable)
        return TUX_STEP_WAIT;
    ssize_t n = discard(engine, conn, TUX_DISCARD_BYTES);
    if (n == -1)
        return TUX_STEP_WAIT;
    if (n <= 0)
        return TUX_STEP_CLOSE;
    conn->lingered += (uint64_t)n;
    return conn->lingered > TUX_MAX_LINGER_BYTES ? TUX_STEP_CLOSE : TUX_STEP_AGAIN;
}

static enum tux_step (*const steps[])(struct tux_engine *, struct tux_conn *) = {
    [TUX_CONN_HEAD] = step_head, [TUX_CONN_BODY] = step_body,     [TUX_CONN_WAIT] = step_wait,
    [TUX_CONN_RELAY] = step_relay, [TUX_CONN_SEND] = step_send, [TUX_CONN_LINGER] = step_linger,
};

void tux_conn_run(struct tux_engine *engine, struct tux_conn *conn)
{
    for (unsigned i = 0; i < TUX_STEPS_PER_TURN; i++) {
        if (conn->state == TUX_CONN_CLOSED)
            return;
        switch (steps[conn->state](engine, conn)) {
        case TUX_STEP_AGAIN:
            break;
        case TUX_STEP_WAIT:
            if (conn->watched == 0 && !tux_loop_watch(engine, conn, false))
                tux_conn_close(engine, conn);
            return;
        case TUX_STEP_CLOSE:
            tux_conn_close(engine, conn);
            return;
        }
    }
    tux_loop_queue(engine, conn);
}

/* Its deadline has passed. */
void tux_conn_expired(struct tux_engine *engine, struct tux_conn *conn)
{
    enum tux_step step = TUX_STEP_CLOSE;
    tux_kernel_busy(conn);
    if (conn->state == TUX_CONN_HEAD && conn->held_len > 0 && !conn->unnamed) {
        tux_count(&engine->stats.timeouts, 1);
        tux_batch_begin(&engine->batch);
        engine->scanned = NULL;
        tux_head_scan(conn->held, conn->held_len, 0, &engine->head_limits, &engine->config.sign, 0, &engine->head);
        reject(engine, conn, conn->held, 408);
        step = after_send(engine, conn, tux_batch_flush(engine, conn));
    } else if (conn->state == TUX_CONN_RELAY) {
        step = tux_relay_expired(engine, conn);
    } else if (conn->state == TUX_CONN_BODY && conn->exchange->status != 0) {
        tux_count(&engine->stats.timeouts, 1); /* answered: only its body's rest was to be dropped */
    } else if (conn->state == TUX_CONN_BODY || conn->state == TUX_CONN_WAIT) {
        tux_count(&engine->stats.timeouts, 1);
        bool in_body = conn->state == TUX_CONN_BODY;
        step = refuse(engine, conn, in_body ? 408 : 503, in_body);
    } else if (conn->state == TUX_CONN_SEND) {
        tux_count(&engine->stats.timeouts, 1);
        /* The client takes nothing: a plain close would leave the kernel to keep and retry what it has buffered. */
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    if (step == TUX_STEP_CLOSE)
        tux_conn_close(engine, conn);
    else
        tux_conn_run(engine, conn);
}
