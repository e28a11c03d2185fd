/* SPDX-License-Identifier: MIT */
/* Answers: finding a remembered plan that still holds, composing what the engine adds to it, and sending. */
#include "core.h"
#include "kernel.h"
#include "origin.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

_Static_assert(TUX_BATCH_IOVECS <= IOV_MAX, "one writev takes a whole batch");

/* -- finding ---------------------------------------------------------------------------------------------------- */

static enum tux_found_plan forgotten(struct tux_engine *engine, struct tux_signature signature)
{
    tux_memo_remove(engine->memo, signature);
    tux_ask_count_memo(engine);
    return TUX_PLAN_MISSING;
}

/* May this remembered plan be replayed now? Its checks are repeated when they are older than TUX_RECHECK_MS. */
static enum tux_found_plan usable(struct tux_engine *engine, struct tux_signature signature, struct tux_plan *plan)
{
    if (tux_plan_is_over(plan, engine->now_ms))
        return forgotten(engine, signature);
    if (engine->now_ms < plan->fresh_until_ms)
        return TUX_PLAN_FOUND;
    if (plan->checking)
        return TUX_PLAN_MUST_BLOCK; /* the helper is at it */
    tux_count(&engine->stats.rechecks, 1);
    switch (tux_checks_repeat(plan, engine->roots, engine->now_ms, true)) {
    case 1:
        plan->fresh_until_ms = engine->now_ms + TUX_RECHECK_MS;
        return TUX_PLAN_FOUND;
    case 0:
        tux_count(&engine->stats.changed, 1);
        return forgotten(engine, signature);
    default:
        return TUX_PLAN_MUST_BLOCK;
    }
}

bool tux_answer_fits(const struct tux_facts *facts, const struct tux_plan *plan)
{
    uint64_t first, last;
    return !(plan->flags & TUX_PLAN_RANGE) || tux_range_resolve(facts->range, plan->body_len, &first, &last);
}

enum tux_found_plan tux_answer_find(struct tux_engine *engine, const struct tux_facts *facts, struct tux_plan **plan)
{
    struct tux_signature signature = facts->general;
    for (int i = 0; i < 2; i++) {
        *plan = tux_memo_find(engine->memo, signature);
        /* An answer to the same path without a query may lie under this general signature. If it is EXACT, it is not ours.
         * If it says that others are to be asked, their answer may lie under the exact one. */
        bool other = *plan != NULL && i == 0 && !facts->same && ((*plan)->flags & (TUX_PLAN_EXACT | TUX_PLAN_NEXT)) &&
                     (((*plan)->flags & TUX_PLAN_EXACT) || tux_memo_find(engine->memo, facts->exact) != NULL);
        if (*plan != NULL && !other) {
            enum tux_found_plan found = usable(engine, signature, *plan);
            /* A range that the template cannot fill has an answer of its own under the exact signature. */
            if (found == TUX_PLAN_MUST_BLOCK || (found == TUX_PLAN_FOUND && tux_answer_fits(facts, *plan)))
                return found;
        }
        if (facts->same)
            break;
        signature = facts->exact;
    }
    *plan = NULL;
    return TUX_PLAN_MISSING;
}

/* -- composing -------------------------------------------------------------------------------------------------- */

void tux_batch_begin(struct tux_batch *batch)
{
    for (uint32_t i = 0; i < batch->n_plans; i++)
        tux_plan_unref(batch->plans[i]);
    batch->n_iov = batch->n_plans = 0;
    batch->bytes = batch->piece = 0;
}

bool tux_batch_full(const struct tux_engine *engine, const struct tux_batch *batch)
{
    return batch->n_plans >= engine->config.limits.pipelined || batch->bytes >= TUX_MAX_PIPELINED_BYTES;
}

static void add_iovec(struct tux_batch *batch, void *base, size_t len)
{
    if (len == 0)
        return;
    batch->iov[batch->n_iov++] = (struct iovec){.iov_base = base, .iov_len = len};
    batch->bytes += len;
}

static char *put(char *out, const char *text, size_t len)
{
    memcpy(out, text, len);
    return out + len;
}

#define PUT(out, literal) put(out, literal, sizeof(literal) - 1)

static char *put_number(char *out, uint64_t number)
{
    char digits[20];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    while (n > 0)
        *out++ = digits[--n];
    return out;
}

/* The next `*length` bytes of the connection's file, which *bytes points to. */
static enum tux_file_state file_piece(struct tux_engine *engine, const struct tux_conn *conn, const uint8_t **bytes,
                                      uint64_t *length)
{
    return tux_file_piece(conn->file->file, engine->now_ms, conn->warmed, conn->file_off, conn->file_left, engine->copy,
                          bytes, length);
}

/* By sendfile(2), which passes page by page: shorter pieces are copied. */
static bool is_handed_over(const struct tux_conn *conn)
{
    return conn->file->file->frozen && conn->file_left >= TUX_COPY_BYTES;
}

static uint64_t add(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan,
                    const struct tux_facts *facts, const struct tux_own_head *own)
{
    struct tux_batch *batch = &engine->batch;
    bool keep = facts->keep_alive && !(plan->flags & TUX_PLAN_CLOSE) && !engine->draining && !conn->closing;
    bool body = !(plan->flags & TUX_PLAN_NO_BODY) && facts->method != TUX_METHOD_HEAD;
    uint64_t first = 0, length = body ? plan->body_len : 0;
    if (!keep) {
        conn->closing = true;
        if (facts->keep_alive) /* it is news to the client, whose next request may be on its way */
            conn->lingers = true;
    }
    batch->plans[batch->n_plans] = tux_plan_ref(plan);

    if (own == NULL && keep && facts->minor == 1 && !(plan->flags & TUX_PLAN_RANGE)) {
        /* The usual form lies ready in one piece; only the second of its Date may have passed. */
        if (plan->date_s != engine->wall_s) {
            memcpy(plan->head + plan->head_len, engine->date, TUX_DATE_LINE_BYTES);
            plan->date_s = engine->wall_s;
        }
        add_iovec(batch, plan->head, plan->head_len + TUX_DATE_LINE_BYTES + 2 + (plan->file == NULL ? length : 0));
    } else {
        char *extra = (char *)batch->extra[batch->n_plans], *end = extra;
        void *base;
        if (plan->flags & TUX_PLAN_RANGE) {
            uint64_t last = 0;
            tux_range_resolve(facts->range, plan->body_len, &first, &last); /* true: the caller has asked */
            length = last - first + 1;
            end = PUT(end, "Content-Range: bytes ");
            end = put_number(end, first);
            end = PUT(end, "-");
            end = put_number(end, last);
            end = PUT(end, "/");
            end = put_number(end, plan->body_len);
            end = PUT(end, "\r\nContent-Length: ");
            end = put_number(end, length);
            end = PUT(end, "\r\n");
            if (!body)
                length = 0;
        }
        end = put(end, engine->date, TUX_DATE_LINE_BYTES);
        if (!keep)
            end = PUT(end, "Connection: close\r\n");
        else if (facts->minor == 0)
            end = PUT(end, "Connection: keep-alive\r\n");
        end = PUT(end, "\r\n");
        if (own != NULL) { /* it is sent, or copied, before the caller gets it back */
            memcpy(&base, &(const uint8_t *){own->bytes}, sizeof base);
            add_iovec(batch, base, own->len);
        } else {
            add_iovec(batch, plan->head, plan->head_len);
        }
        add_iovec(batch, extra, (size_t)(end - extra));
        if (plan->file == NULL && length > 0) /* else there may be no body to point into */
            add_iovec(batch, plan->body + first, length);
    }
    batch->n_plans++;
    if (plan->file != NULL && length > 0) {
        conn->file = tux_plan_ref(plan);
        conn->file_off = plan->body_offset + first;
        conn->file_left = length;
        uint64_t slice;
        const uint8_t *piece;
        if (!is_handed_over(conn) && file_piece(engine, conn, &piece, &slice) == TUX_FILE_READY) { /* else send_slice finds out why */
            add_iovec(batch, (void *)(uintptr_t)piece, slice);
            batch->piece = slice;
        }
    }
    return length;
}

uint64_t tux_batch_add(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan,
                       const struct tux_facts *facts)
{
    return add(engine, conn, plan, facts, NULL);
}

/* -- sending ---------------------------------------------------------------------------------------------------- */

static void file_sent(struct tux_conn *conn, uint64_t bytes)
{
    conn->file_off += bytes;
    conn->file_left -= bytes;
    if (conn->exchange != NULL)
        conn->exchange->body_bytes += bytes;
    if (conn->file_left == 0) {
        tux_plan_unref(conn->file);
        conn->file = NULL;
    }
}

enum tux_step tux_batch_flush(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_batch *batch = &engine->batch;
    int flags = MSG_NOSIGNAL | (conn->file_left > batch->piece ? MSG_MORE : 0);
    ssize_t sent;
    if (!conn->slotless && !conn->closing && conn->held_len == 0 && conn->file_left == batch->piece)
        tux_kernel_rest(engine, conn, (uint32_t)batch->bytes);
    if (batch->n_iov == 1) {
        sent = send(conn->fd, batch->iov[0].iov_base, batch->iov[0].iov_len, flags);
    } else {
        struct msghdr message = {.msg_iov = batch->iov, .msg_iovlen = batch->n_iov};
        sent = sendmsg(conn->fd, &message, flags);
    }
    if (sent < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            tux_batch_begin(batch);
            return TUX_STEP_CLOSE;
        }
        sent = 0;
    }
    conn->sent += (uint32_t)sent;
    if (batch->piece > 0) { /* what is left of the file stays the file's: a mapping is read by the kernel only */
        batch->n_iov--;
        batch->bytes -= batch->piece;
        if ((size_t)sent > batch->bytes) {
            uint64_t done = (size_t)sent - batch->bytes;
            sent -= (ssize_t)done;
            file_sent(conn, done);
        }
    }
    size_t left = batch->bytes - (size_t)sent;
    if (left > 0) {
        /* A copy of its own: the plans' bytes may change under it (their Date), and it is rare. */
        if (atomic_load_explicit(&engine->stats.held, memory_order_relaxed) + left > engine->config.limits.held_bytes ||
            (conn->out = malloc(left)) == NULL) {
            tux_batch_begin(batch);
            return TUX_STEP_CLOSE;
        }
        conn->out_len = (uint32_t)left;
        conn->out_off = 0;
        tux_count(&engine->stats.held, left);
        size_t skip = (size_t)sent, at = 0;
        for (uint32_t i = 0; i < batch->n_iov; i++) {
            size_t len = batch->iov[i].iov_len;
            size_t from = skip < len ? skip : len;
            memcpy(conn->out + at, (uint8_t *)batch->iov[i].iov_base + from, len - from);
            at += len - from;
            skip -= from;
        }
    }
    tux_batch_begin(batch);
    return TUX_STEP_AGAIN;
}

static enum tux_step blocked(struct tux_engine *engine, struct tux_conn *conn)
{
    if (errno == EINTR)
        return TUX_STEP_AGAIN;
    if (errno != EAGAIN && errno != EWOULDBLOCK)
        return TUX_STEP_CLOSE;
    /* Watched for output from the first time on; edge-triggered, it costs nothing while the client keeps up. */
    if (conn->watched < 2 && !tux_loop_watch(engine, conn, true))
        return TUX_STEP_CLOSE;
    return TUX_STEP_WAIT;
}

static enum tux_step hand_over(struct tux_engine *engine, struct tux_conn *conn)
{
    off_t at = (off_t)conn->file_off;
    uint64_t length = conn->file_left < TUX_SLICE_BYTES ? conn->file_left : TUX_SLICE_BYTES;
    ssize_t sent = sendfile(conn->fd, conn->file->file->fd, &at, length);
    if (sent < 0)
        return blocked(engine, conn);
    if (sent == 0) /* it cannot have become shorter */
        return TUX_STEP_CLOSE;
    conn->sent += (uint32_t)sent;
    file_sent(conn, (uint64_t)sent);
    return TUX_STEP_AGAIN;
}

static enum tux_step send_slice(struct tux_engine *engine, struct tux_conn *conn)
{
    if (conn->warming)
        return TUX_STEP_WAIT;
    if (is_handed_over(conn))
        return hand_over(engine, conn);
    uint64_t length;
    const uint8_t *piece;
    enum tux_file_state state = file_piece(engine, conn, &piece, &length);
    if (state == TUX_FILE_COLD)
        return tux_ask_warm(engine, conn, conn->file->file, conn->file_off, length) ? TUX_STEP_WAIT : TUX_STEP_CLOSE;
    conn->warmed = false; /* so each slice asks the helper once at most, even on a file system that never says yes */
    if (state == TUX_FILE_CHANGED) {
        tux_count(&engine->stats.changed_while_sent, 1);
        return TUX_STEP_CLOSE;
    }
    ssize_t sent = send(conn->fd, piece, length, MSG_NOSIGNAL | (conn->file_left > length ? MSG_MORE : 0));
    if (sent < 0)
        return blocked(engine, conn);
    conn->sent += (uint32_t)sent;
    file_sent(conn, (uint64_t)sent);
    return TUX_STEP_AGAIN;
}

enum tux_step tux_answer_send(struct tux_engine *engine, struct tux_conn *conn)
{
    bool progress = false;
    enum tux_step step = TUX_STEP_AGAIN;
    while (conn->out != NULL) { /* ends: every turn sends something, or leaves */
        int flags = MSG_NOSIGNAL | (conn->file != NULL ? MSG_MORE : 0);
        ssize_t sent = send(conn->fd, conn->out + conn->out_off, conn->out_len - conn->out_off, flags);
        if (sent < 0) {
            step = blocked(engine, conn);
            break;
        }
        progress = true;
        conn->sent += (uint32_t)sent;
        conn->out_off += (uint32_t)sent;
        if (conn->out_off == conn->out_len) {
            free(conn->out);
            conn->out = NULL;
            tux_uncount(&engine->stats.held, conn->out_len);
        }
    }
    if (step == TUX_STEP_AGAIN && conn->file != NULL && conn->out == NULL) {
        uint64_t left = conn->file_left;
        step = send_slice(engine, conn);
        if (step == TUX_STEP_AGAIN && conn->file != NULL && conn->file_left <= TUX_COPY_BYTES)
            step = send_slice(engine, conn); /* the end of it, which MSG_MORE holds up */
        progress = progress || conn->file_left < left;
        if (conn->file != NULL && step == TUX_STEP_AGAIN) {
            tux_loop_queue(engine, conn); /* the others first */
            step = TUX_STEP_WAIT;
        }
    }
    if (progress)
        tux_timer_set(&engine->wheel, &conn->timer, engine->now_ms + engine->config.limits.stall_timeout_ms);
    if (step == TUX_STEP_AGAIN && conn->out != NULL) {
        tux_loop_queue(engine, conn); /* interrupted by a signal: once more in the next turn */
        step = TUX_STEP_WAIT;
    }
    return step;
}

enum tux_step tux_answer_exchange(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan)
{
    return tux_answer_exchange_as(engine, conn, plan, NULL);
}

enum tux_step tux_answer_exchange_as(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan,
                                     const struct tux_own_head *own)
{
    struct tux_exchange *exchange = conn->exchange;
    exchange->status = own != NULL ? own->status : plan->status;
    if (exchange->body_unread) {
        exchange->facts.keep_alive = false;
        conn->lingers = true;
    }
    tux_batch_begin(&engine->batch);
    uint64_t bytes = add(engine, conn, plan, &exchange->facts, own);
    if (conn->closing && conn->held_len > 0)
        conn->lingers = true;
    if (conn->file == NULL)
        exchange->body_bytes = bytes;
    return tux_batch_flush(engine, conn);
}

/* -- canned answers --------------------------------------------------------------------------------------------- */

static const uint16_t canned_status[TUX_CANNED_COUNT] = {400, 404, 408, 413, 414, 417, 431, 500, 501, 502,
                                                       503, 504, 505};

struct tux_plan *tux_answer_canned(struct tux_engine *engine, uint32_t pages, uint16_t status)
{
    uint32_t place = 0; /* of 400, should it be none of these */
    for (uint32_t i = 0; i < TUX_CANNED_COUNT; i++)
        if (canned_status[i] == status)
            place = i;
    if (pages < engine->n_canned && engine->canned[pages].plans[place] != NULL)
        return engine->canned[pages].plans[place];
    return engine->canned->plans[place]; /* never NULL: tux_engine_new fills them */
}

enum tux_step tux_answer_error(struct tux_engine *engine, struct tux_conn *conn, uint16_t status)
{
    conn->exchange->tier = 'e';
    return tux_answer_exchange(engine, conn, tux_answer_canned(engine, tux_origin_pages(engine, conn), status));
}

/* Room for the pages of this number: what is not said of them is as it is in number 0. */
static int make_room(struct tux_engine *engine, uint32_t pages)
{
    if (pages < engine->n_canned)
        return 0;
    if (pages >= TUX_MAX_PAGES)
        return -ENOSPC;
    struct tux_canned *canned = realloc(engine->canned, (pages + 1) * sizeof *canned);
    if (canned == NULL)
        return -ENOMEM;
    memset(canned + engine->n_canned, 0, (pages + 1 - engine->n_canned) * sizeof *canned);
    engine->canned = canned;
    engine->n_canned = pages + 1;
    return 0;
}

int tux_engine_canned(struct tux_engine *engine, uint32_t pages, uint16_t status, const void *head, uint32_t head_len,
                      const void *body, uint32_t body_len)
{
    for (uint32_t i = 0; i < TUX_CANNED_COUNT; i++) {
        if (canned_status[i] != status)
            continue;
        int error = make_room(engine, pages);
        if (error != 0)
            return error;
        struct tux_plan_parts parts = {.status = status,
                                       .head = head,
                                       .head_len = head_len,
                                       .body = body,
                                       .body_len = body_len,
                                       .fd = -1,
                                       .expires_ms = UINT64_MAX};
        struct tux_plan *plan = tux_plan_new(&parts, engine->config.sign.key);
        if (plan == NULL)
            return -ENOMEM;
        struct tux_plan **place = &engine->canned[pages].plans[i];
        if (*place != NULL)
            tux_plan_unref(*place);
        *place = plan;
        return 0;
    }
    return -ENOENT;
}

/* -- log -------------------------------------------------------------------------------------------------------- */

static struct tux_log_text text_of(const uint8_t *bytes, struct tux_span span)
{
    return (struct tux_log_text){.ptr = bytes + span.off, .len = span.len};
}

static void log_answer(struct tux_engine *engine, struct tux_conn *conn, const struct tux_head *head,
                       const uint8_t *bytes, struct tux_log_record *record)
{
    char address[TUX_ADDRESS_TEXT_BYTES];
    record->peer = (struct tux_log_text){.ptr = (const uint8_t *)conn->peer, .len = conn->peer_len};
    record->minor = 255;
    if (head != NULL && engine->trust != NULL && (head->seen & TUX_FORWARDED_FIELDS) != 0) {
        struct tux_client client;
        tux_conn_client(engine, conn, bytes, head, &client);
        record->peer.ptr = (const uint8_t *)address;
        record->peer.len = tux_address_format(&client.address, address);
    }
    if (head != NULL) {
        record->minor = head->minor;
        record->method = text_of(bytes, head->method_name);
        record->target = text_of(bytes, head->target);
        record->host = text_of(bytes, head->host);
        uint32_t wanted = 1u << TUX_FIELD_REFERER | 1u << TUX_FIELD_USER_AGENT;
        if ((head->seen & wanted) != 0 && engine->config.log_format != TUX_LOG_COMMON) {
            for (uint32_t i = 0; i < head->n_fields; i++) {
                if (head->fields[i].id == TUX_FIELD_REFERER)
                    record->referer = text_of(bytes, head->fields[i].value);
                else if (head->fields[i].id == TUX_FIELD_USER_AGENT)
                    record->user_agent = text_of(bytes, head->fields[i].value);
            }
        }
    }
    tux_accesslog_write(engine->log, record);
}

void tux_answer_log(struct tux_engine *engine, struct tux_conn *conn, const struct tux_head *head, const uint8_t *bytes,
                    uint16_t status, uint64_t body_bytes, char tier)
{
    if (engine->log == NULL)
        return;
    struct tux_log_record record = {
        .status = status, .body_bytes = body_bytes, .wall_ms = engine->wall_ms, .tier = (uint8_t)tier};
    log_answer(engine, conn, head, bytes, &record);
}

void tux_answer_log_exchange(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_exchange *exchange = conn->exchange;
    if (engine->log == NULL)
        return;
    struct tux_log_record record = {.status = exchange->status,
                                    .body_bytes = exchange->body_bytes,
                                    .wall_ms = exchange->wall_ms,
                                    .duration_us = engine->now_us - exchange->begun_us,
                                    .tier = exchange->tier};
    log_answer(engine, conn, tux_exchange_scan(engine, conn) ? &engine->head : NULL, exchange->head, &record);
}
