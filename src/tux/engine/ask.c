/* SPDX-License-Identifier: MIT */
/* Exchanges: requests that wait, for Python's reply or for the helper thread. */
#include "core.h"
#include "kernel.h"
#include "origin.h"
#include "relay.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TUX_REPLY_ROUNDS 4u /* emptied rings of replies in one turn */

struct tux_facts tux_facts_of(const struct tux_head *head)
{
    return (struct tux_facts){.method = head->method,
                              .minor = head->minor,
                              .keep_alive = head->keep_alive,
                              .is_signed = head->is_signed,
                              .same = head->same,
                              .range = head->range,
                              .general = head->general,
                              .exact = head->exact};
}

void tux_exchange_renew(struct tux_engine *engine, struct tux_conn *conn)
{
    if (++engine->last_serial == 0)
        engine->last_serial = 1;
    conn->serial = engine->last_serial;
}

struct tux_exchange *tux_exchange_new(struct tux_engine *engine, struct tux_conn *conn, const struct tux_head *head,
                                      const uint8_t *bytes)
{
    struct tux_exchange *exchange = calloc(1, sizeof *exchange + head->length);
    if (exchange == NULL)
        return NULL;
    exchange->conn = conn;
    exchange->facts = tux_facts_of(head);
    exchange->begun_us = engine->now_us;
    exchange->wall_ms = engine->wall_ms;
    exchange->tier = 'p';
    exchange->head_len = head->length;
    memcpy(exchange->head, bytes, head->length);
    conn->exchange = exchange;
    engine->scanned = head == &engine->head ? exchange : NULL;
    tux_exchange_renew(engine, conn);
    tux_count(&engine->stats.exchanges, 1);
    return exchange;
}

void tux_exchange_free(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_exchange *exchange = conn->exchange;
    tux_relay_free(engine, conn);
    if (exchange->parked_on != NULL) {
        struct tux_exchange **link = &exchange->parked_on->waiting;
        while (*link != NULL && *link != exchange) /* bounded by the number of connections */
            link = &(*link)->next_waiting;
        if (*link != NULL)
            *link = exchange->next_waiting;
    }
    if (engine->scanned == exchange)
        engine->scanned = NULL;
    conn->exchange = NULL;
    conn->serial = 0;
    free(exchange);
    tux_uncount(&engine->stats.exchanges, 1);
}

bool tux_exchange_scan(struct tux_engine *engine, struct tux_conn *conn)
{
    const struct tux_exchange *exchange = conn->exchange;
    if (engine->scanned == exchange)
        return true;
    engine->scanned = NULL;
    if (tux_head_scan(exchange->head, exchange->head_len, 0, &engine->head_limits, &engine->config.sign,
                      tux_conn_context(engine, conn), &engine->head) != TUX_DONE)
        return false;
    engine->scanned = exchange;
    return true;
}

/* -- asks ------------------------------------------------------------------------------------------------------- */

static bool write_ask(struct tux_engine *engine, struct tux_conn *conn, const struct tux_head *head, const uint8_t *bytes,
                      uint32_t flags, uint32_t root)
{
    size_t size = sizeof(struct tux_ask_record) + head->n_fields * sizeof(struct tux_head_field) + head->length;
    struct tux_ask_record *record = tux_ring_reserve(&engine->asks, (uint32_t)size);
    if (record == NULL)
        return false;
    flags |= head->is_signed ? TUX_ASK_SIGNED : 0;
    flags |= head->range.kind != TUX_RANGE_NONE ? TUX_ASK_PLAIN_RANGE : 0;
    flags |= head->has_query ? TUX_ASK_HAS_QUERY : 0;
    flags |= head->chunked || head->content_length > 0 ? TUX_ASK_HAS_BODY : 0;
    flags |= head->expect_other ? TUX_ASK_EXPECT_OTHER : 0;
    *record = (struct tux_ask_record){.id = tux_conn_id(conn),
                                      .listener = conn->listener->index,
                                      .flags = flags,
                                      .head_len = head->length,
                                      .n_fields = head->n_fields,
                                      .root = root,
                                      .minor = head->minor,
                                      .peer_len = conn->peer_len,
                                      .method = head->method_name,
                                      .target = head->target,
                                      .path = head->path,
                                      .query = head->query,
                                      .host = head->host};
    memcpy(record->peer, conn->peer, conn->peer_len);
    uint8_t *at = (uint8_t *)(record + 1);
    memcpy(at, head->fields, head->n_fields * sizeof(struct tux_head_field));
    memcpy(at + head->n_fields * sizeof(struct tux_head_field), bytes, head->length);
    tux_ring_commit(&engine->asks, (uint32_t)size);
    tux_ring_wake(&engine->asks);
    return true;
}

enum tux_step tux_ask_send(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_exchange *exchange = conn->exchange;
    conn->state = TUX_CONN_WAIT;
    exchange->asked_ms = engine->now_ms;
    tux_timer_set(&engine->wheel, &conn->timer, engine->now_ms + engine->config.limits.stall_timeout_ms);
    if (tux_exchange_scan(engine, conn) && write_ask(engine, conn, &engine->head, exchange->head, 0, TUX_NO_ROUTE)) {
        tux_count(&engine->stats.asks, 1);
        return TUX_STEP_WAIT;
    }
    tux_count(&engine->stats.ring_full, 1);
    return tux_answer_error(engine, conn, 503);
}

bool tux_ask_file(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *bytes, uint32_t root)
{
    if (!write_ask(engine, conn, &engine->head, bytes, TUX_ASK_INTERNAL, root)) {
        tux_count(&engine->stats.ring_full, 1);
        return false;
    }
    conn->exchange->asked_ms = engine->now_ms;
    tux_count(&engine->stats.asks, 1);
    return true;
}

/* -- replies ---------------------------------------------------------------------------------------------------- */

static struct tux_plan *plan_of(struct tux_engine *engine, const struct tux_reply_view *view, uint64_t asked_ms)
{
    const struct tux_reply_record *record = &view->record;
    struct tux_check checks[TUX_MAX_CHECKS];
    const char *path = view->paths;
    uint32_t left = record->paths_len;
    for (uint32_t i = 0; i < record->n_checks; i++) {
        struct tux_wire_check check = view->checks[i];
        if (check.path_len > left) /* changed since it was validated: nothing beyond the record is read */
            check.path_len = left;
        checks[i] = (struct tux_check){
            .root = check.root, .path_len = check.path_len, .path = path, .expected = check.expected};
        path += check.path_len;
        left -= check.path_len;
    }
    struct tux_plan_parts parts = {.status = record->status,
                                   .flags = (uint16_t)record->flags,
                                   .head = view->head,
                                   .head_len = record->head_len,
                                   .body = record->fd < 0 ? view->body : NULL,
                                   .body_len = record->body_len,
                                   .body_offset = record->body_offset,
                                   .fd = record->fd,
                                   .expires_ms = record->ttl_ms == UINT32_MAX ? UINT64_MAX : asked_ms + record->ttl_ms,
                                   .checks = checks,
                                   .n_checks = record->n_checks};
    return tux_plan_new(&parts, engine->config.sign.key);
}

void tux_ask_count_memo(struct tux_engine *engine)
{
    struct tux_memo_stats now = tux_memo_stats(engine->memo);
    atomic_store_explicit(&engine->stats.memo_entries, now.entries, memory_order_relaxed);
    atomic_store_explicit(&engine->stats.memo_bytes, now.bytes, memory_order_relaxed);
    atomic_store_explicit(&engine->stats.memo_evicted, now.evicted, memory_order_relaxed);
    atomic_store_explicit(&engine->stats.memo_inserted, now.inserted, memory_order_relaxed);
}

static struct tux_signature signature_of(const struct tux_facts *facts, const struct tux_plan *plan)
{
    return plan->flags & TUX_PLAN_EXACT ? facts->exact : facts->general;
}

static void insert(struct tux_engine *engine, struct tux_signature signature, struct tux_plan *plan)
{
    tux_memo_insert(engine->memo, signature, plan);
    tux_ask_count_memo(engine);
}

/* Remember the plan if it says so and its signature has been asked before. It is not yet fresh: its checks are repeated
 * before its first replay, so a change since the file was read cannot slip in. */
void tux_ask_remember(struct tux_engine *engine, const struct tux_facts *facts, struct tux_plan *plan)
{
    if (!(plan->flags & TUX_PLAN_REMEMBER) || !facts->is_signed)
        return;
    struct tux_signature signature = signature_of(facts, plan);
    if (tux_memo_admit(engine->memo, signature))
        insert(engine, signature, plan);
}

/* `sound`: the record adds up. If not, all that is used of it is its id. */
static void take_reply(struct tux_engine *engine, const struct tux_reply_view *view, bool sound)
{
    const struct tux_reply_record *record = &view->record;
    struct tux_conn *conn = tux_conn_by_id(engine, record->id);
    struct tux_relay *relay = conn != NULL && conn->exchange != NULL ? conn->exchange->relay : NULL;
    bool named = relay != NULL && relay->planned != NULL;
    bool waits = named || (conn != NULL && conn->state == TUX_CONN_WAIT && conn->exchange != NULL);
    uint64_t asked_ms = waits ? conn->exchange->asked_ms : engine->now_ms;
    struct tux_plan *plan = sound ? plan_of(engine, view, asked_ms) : NULL;
    tux_count(&engine->stats.replies, 1);
    if (!waits) {
        tux_count(&engine->stats.stale_replies, 1);
        if (plan != NULL)
            tux_plan_unref(plan);
        return;
    }
    struct tux_facts *facts = &conn->exchange->facts;
    if (named) {
        tux_relay_planned *planned = relay->planned;
        relay->planned = NULL;
        planned(engine, conn, plan != NULL && tux_answer_fits(facts, plan) ? plan : NULL);
        if (plan != NULL)
            tux_plan_unref(plan);
        return;
    }
    enum tux_step step;
    if (plan == NULL || !tux_answer_fits(facts, plan)) {
        step = tux_answer_error(engine, conn, sound && plan == NULL ? 503 : 500);
    } else {
        const struct tux_chain *chain = conn->exchange->chain;
        if (chain == NULL || chain->steps[0].origin == TUX_ORIGIN_PLANNER) /* else others are asked first */
            tux_ask_remember(engine, facts, plan);
        tux_recipes_learn(engine, conn, view);
        step = tux_origin_answer(engine, conn, plan);
    }
    if (plan != NULL)
        tux_plan_unref(plan);
    if (step == TUX_STEP_CLOSE)
        tux_conn_close(engine, conn);
    else
        tux_conn_run(engine, conn);
}

void tux_ask_replies(struct tux_engine *engine)
{
    const void *payload;
    uint32_t size;
    for (unsigned i = 0; i < TUX_REPLY_ROUNDS; i++) {
        int got;
        while ((got = tux_ring_read(&engine->replies, &payload, &size)) == 1) { /* ends: the ring is finite, and released after */
            struct tux_reply_view view;
            bool sound = tux_wire_reply(payload, size, &view);
            take_reply(engine, &view, sound);
        }
        tux_ring_release(&engine->replies);
        if (got < 0)
            return; /* the other end wrote nonsense: its askers meet their time-out */
        if (tux_ring_reader_sleep(&engine->replies))
            return;
    }
    /* The planner keeps up with the asks that its replies bring about: the other connections now, the rest in the next turn. */
    uint64_t one = 1;
    if (write(engine->replies.data_eventfd, &one, sizeof one) < 0) {
        /* Only when it is readable already. */
    }
}

void tux_ask_discard_replies(struct tux_engine *engine)
{
    const void *payload;
    uint32_t size;
    struct tux_reply_view view;
    while (tux_ring_read(&engine->replies, &payload, &size) == 1) /* ends: at most one capacity without a release */
        if (tux_wire_reply(payload, size, &view) && view.record.fd >= 0)
            close(view.record.fd);
}

/* -- the helper thread ------------------------------------------------------------------------------------------ */

static bool submit(struct tux_engine *engine, struct tux_job job)
{
    struct tux_job *own = malloc(sizeof *own);
    if (own == NULL)
        return false;
    *own = job;
    if (job.plan != NULL)
        tux_plan_ref(job.plan);
    if (job.file != NULL)
        tux_file_ref(job.file);
    tux_helper_submit(engine->helper, own);
    return true;
}

bool tux_ask_check(struct tux_engine *engine, struct tux_plan *plan)
{
    if (!plan->checking)
        plan->checking = submit(engine, (struct tux_job){.kind = TUX_JOB_CHECK, .plan = plan});
    return plan->checking;
}

void tux_ask_park(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan)
{
    struct tux_exchange *exchange = conn->exchange;
    conn->state = TUX_CONN_WAIT;
    tux_timer_set(&engine->wheel, &conn->timer, engine->now_ms + engine->config.limits.stall_timeout_ms);
    tux_count(&engine->stats.parked, 1);
    if (!tux_ask_check(engine, plan)) {
        tux_conn_close(engine, conn);
        return;
    }
    exchange->asked_ms = engine->now_ms;
    exchange->next_waiting = plan->waiting;
    exchange->parked_on = plan;
    plan->waiting = exchange;
}

bool tux_ask_warm(struct tux_engine *engine, struct tux_conn *conn, struct tux_file *file, uint64_t offset,
                  uint64_t length)
{
    tux_count(&engine->stats.warmed, 1);
    conn->warming = submit(engine, (struct tux_job){.kind = TUX_JOB_WARM,
                                                    .file = file,
                                                    .conn_id = tux_conn_id(conn),
                                                    .offset = offset,
                                                    .length = length});
    return conn->warming;
}

bool tux_ask_load_file(struct tux_engine *engine, struct tux_file *file)
{
    return submit(engine, (struct tux_job){.kind = TUX_JOB_LOAD, .file = file});
}

static bool may_be_frozen(const struct tux_engine *engine, const struct tux_plan *plan)
{
    uint64_t memo = engine->config.limits.memo_bytes;
    uint64_t frozen = atomic_load_explicit(&engine->stats.frozen, memory_order_relaxed);
    return plan->body_len >= TUX_FREEZE_BYTES && plan->body_len <= memo / TUX_FREEZE_SHARE &&
           frozen + plan->body_len <= memo / TUX_FROZEN_SHARE && !(plan->flags & TUX_PLAN_RANGE) && !plan->file->frozen;
}

/* A hot file of moderate size is worth its memory: its body then needs no look at the file before each send. So is a large one:
 * its body is not even copied. */
void tux_ask_load(struct tux_engine *engine, const struct tux_facts *facts, struct tux_plan *plan)
{
    bool fits = plan->body_len <= TUX_LOAD_BYTES && plan->body_len <= engine->config.limits.memo_bytes / TUX_LOAD_SHARE;
    if ((!fits && !may_be_frozen(engine, plan)) || plan->file->uses++ != TUX_LOAD_AFTER_HITS)
        return;
    struct tux_job job = {.kind = TUX_JOB_LOAD, .plan = plan, .signature = signature_of(facts, plan)};
    if (!submit(engine, job))
        plan->file->uses = 0; /* no memory now: perhaps later */
}

/* The plan no longer holds: it is not found any more under the signatures of this request. It is not marked itself: the
 * same plan may become true again, while entries of other requests still share it. */
static void forget(struct tux_engine *engine, const struct tux_facts *facts, const struct tux_plan *plan)
{
    if (tux_memo_find(engine->memo, facts->general) == plan)
        tux_memo_remove(engine->memo, facts->general);
    if (!facts->same && tux_memo_find(engine->memo, facts->exact) == plan)
        tux_memo_remove(engine->memo, facts->exact);
    tux_ask_count_memo(engine);
}

static void checked(struct tux_engine *engine, struct tux_job *job)
{
    struct tux_plan *plan = job->plan;
    struct tux_exchange *waiting = plan->waiting;
    uint64_t fresh_until_ms = job->begun_ms + TUX_RECHECK_MS;
    plan->waiting = NULL;
    plan->checking = false;
    if (job->same)
        plan->fresh_until_ms = fresh_until_ms;
    else
        tux_count(&engine->stats.changed, 1);
    tux_kernel_checked(engine, plan, job->same, job->begun_boot_ns);
    for (struct tux_exchange *exchange = waiting; exchange != NULL; exchange = exchange->next_waiting)
        exchange->parked_on = NULL;
    while (waiting != NULL) {
        struct tux_exchange *exchange = waiting;
        struct tux_conn *conn = exchange->conn;
        waiting = exchange->next_waiting;
        /* A disk that takes its time may have been looked at long before this request came. */
        bool replay = job->same && exchange->asked_ms < fresh_until_ms && tux_answer_fits(&exchange->facts, plan);
        if (!job->same)
            forget(engine, &exchange->facts, plan);
        if (replay)
            tux_count(&engine->stats.hits, 1);
        exchange->tier = replay ? 'm' : 'p';
        enum tux_step step = replay ? tux_origin_answer(engine, conn, plan) : tux_ask_send(engine, conn);
        if (step == TUX_STEP_CLOSE)
            tux_conn_close(engine, conn);
        else
            tux_conn_run(engine, conn);
    }
}

/* A file of an application was read, or it was not the same any more. */
static void loaded(struct tux_engine *engine, struct tux_job *job)
{
    struct tux_file *file = job->file;
    file->loading = false;
    file->uses = 0; /* without the bytes: perhaps later */
    if (job->bytes != NULL)
        tux_file_keep(file, job->bytes, &engine->stats.app_loaded);
    job->bytes = NULL;
}

void tux_ask_helped(struct tux_engine *engine)
{
    struct tux_job *job = tux_helper_done(engine->helper);
    while (job != NULL) {
        struct tux_job *next = job->next;
        if (job->kind == TUX_JOB_CHECK) {
            checked(engine, job);
        } else if (job->kind == TUX_JOB_LOAD) {
            if (job->loaded != NULL && job->loaded->file != NULL) {
                tux_file_frozen(job->loaded->file, &engine->stats.frozen);
                job->loaded->bytes += job->loaded->body_len;
            }
            if (job->loaded != NULL)
                insert(engine, job->signature, job->loaded);
            if (job->file != NULL)
                loaded(engine, job);
        } else if (job->kind == TUX_JOB_MAKE) {
            tux_recipes_made(engine, job);
        } else if (job->kind == TUX_JOB_FOLDER) {
            tux_folder_note(&engine->folders, job->hash, job->same, &job->stamp, job->begun_ms);
        } else {
            struct tux_conn *conn = tux_conn_by_id(engine, job->conn_id);
            if (conn != NULL && conn->warming) {
                conn->warming = false;
                conn->warmed = true;
                tux_conn_run(engine, conn);
            }
        }
        tux_job_free(job);
        job = next;
    }
}
