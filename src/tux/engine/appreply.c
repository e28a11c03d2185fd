/* SPDX-License-Identifier: MIT */
/* What processes say. Nothing of it is trusted: a record that is nonsense ends the link; one that names an exchange
 * which this process does not have is a late one, and dropped; one that its exchange does not allow ends that exchange. */
#include "apps.h"

#include <string.h>
#include <sys/stat.h>

#include "accel.h"
#include "relay.h"

#define CREDIT_BYTES (TUX_APP_WINDOW_BYTES / 4u) /* what a process may send is told in such portions, while there is room */

static struct tux_apprequest *find(struct tux_applink *link, const struct tux_app_record *record)
{
    if (record->tag >= link->n_tags)
        return NULL;
    struct tux_apprequest *request = link->by_tag[record->tag];
    return request != NULL && request->serial == record->serial ? request : NULL;
}

void tux_apprequest_credit(struct tux_engine *engine, struct tux_apprequest *request)
{
    struct tux_relay *relay = request->conn->exchange->relay;
    if (request->link == NULL || request->from_process > (int64_t)(TUX_APP_WINDOW_BYTES - CREDIT_BYTES))
        return;
    size_t room = tux_relay_room(engine, request->conn);
    int64_t more = (int64_t)(room < TUX_APP_WINDOW_BYTES ? room : TUX_APP_WINDOW_BYTES) - request->from_process;
    /* Whoever has nothing here, and may send nothing, would be heard of no more: he gets what there is. */
    bool last = request->from_process <= 0 && tux_outq_empty(&relay->out);
    if (more >= (int64_t)CREDIT_BYTES || (last && more > 0)) {
        tux_apprequest_promise(engine, request, request->from_process + more);
        tux_applink_say(engine, request->link, request, TUX_APP_CREDIT, 0, (uint32_t)more);
    } else if (request->from_process <= 0) {
        relay->starved = true;
    }
}

/* The process did what it must not do: its exchange ends, and nobody else's. */
static void violated(struct tux_engine *engine, struct tux_apprequest *request)
{
    tux_relay_fail(engine, request->conn, 502);
}

static bool use_window(struct tux_engine *engine, struct tux_apprequest *request, uint32_t n)
{
    tux_apprequest_promise(engine, request, request->from_process - (int64_t)n);
    return request->from_process >= -(int64_t)TUX_APP_FILE_COST; /* a file may begin in what is left of it */
}

static void end(struct tux_engine *engine, struct tux_apprequest *request, const struct tux_app_answer_view *view)
{
    request->over = true;
    tux_relay_end(engine, request->conn, view->fields, view->fields_len);
}

/* Nothing is read from the connection after this answer. */
static void close_after(struct tux_conn *conn)
{
    conn->closing = true;
    conn->lingers = conn->lingers || conn->exchange->facts.keep_alive; /* it is news to the client */
}

static void on_answer(struct tux_engine *engine, struct tux_apprequest *request, const struct tux_app_answer_view *view)
{
    struct tux_conn *conn = request->conn;
    struct tux_relay *relay = conn->exchange->relay;
    if (relay->answered || !use_window(engine, request, view->record.n)) {
        violated(engine, request);
        return;
    }
    tux_relay_unplanned(engine, conn);
    if (view->record.status == 404 && request->app->config.hands_on_404) {
        bool over = request->over;
        request->over = (view->record.flags & TUX_APP_END) != 0;
        if (tux_relay_next(engine, conn, false))
            return;
        request->over = over;
    }
    if (view->record.flags & TUX_APP_CLOSE)
        close_after(conn);
    struct tux_relay_head head = {.status = view->record.status,
                                  .reason = view->reason,
                                  .reason_len = view->reason_len,
                                  .fields = view->fields,
                                  .fields_len = view->fields_len,
                                  .length = view->length,
                                  .has_date = view->has_date,
                                  .has_server = view->has_server,
                                  .trailers = (view->record.flags & TUX_APP_TRAILERS) != 0};
    if (tux_accel_mentioned(head.fields, head.fields_len)) {
        const struct tux_app_config *config = &request->app->config;
        struct tux_accel_rules rules = {
            .redirect = config->accel,
            .sendfile_root = config->sendfile_root < 0 ? TUX_NO_ROUTE : (uint32_t)config->sendfile_root};
        bool over = request->over;
        request->over = (view->record.flags & TUX_APP_END) != 0 && tux_accel_applies(&rules, head.fields, head.fields_len);
        if (tux_accel_answer(engine, conn, &rules, &head))
            return;
        request->over = over;
    } else {
        struct tux_plan *plan = view->remember_ms > 0 ? tux_apprequest_remember(engine, request, view) : NULL;
        if (plan != NULL) {
            request->over = true;
            tux_relay_plan(engine, conn, plan, NULL);
            tux_plan_unref(plan);
            return;
        }
        tux_relay_answer(engine, conn, &head);
    }
    if (view->record.n > 0)
        tux_relay_data(engine, conn, view->body, view->record.n);
    if (view->record.flags & TUX_APP_END) {
        request->over = true;
        tux_relay_end(engine, conn, NULL, 0);
    } else {
        tux_apprequest_credit(engine, request);
    }
}

static void on_data(struct tux_engine *engine, struct tux_apprequest *request, const struct tux_app_answer_view *view)
{
    struct tux_conn *conn = request->conn;
    if (!conn->exchange->relay->answered || !use_window(engine, request, view->record.n)) {
        violated(engine, request);
        return;
    }
    tux_relay_data(engine, conn, view->body, view->record.n);
    if (view->record.flags & TUX_APP_CLOSE)
        close_after(conn);
    if (view->record.flags & TUX_APP_END)
        end(engine, request, view);
    else
        tux_apprequest_credit(engine, request);
}

/* file NULL: there was none, or no memory. */
static void send_file(struct tux_engine *engine, struct tux_apprequest *request, struct tux_file *file,
                      const struct tux_app_answer_view *view)
{
    struct tux_relay *relay = request->conn->exchange->relay;
    /* Only a regular file is surely there at once, and never makes the engine wait for its writer. */
    bool fits = file != NULL && S_ISREG(file->identity.mode) && file->identity.size >= view->offset &&
                file->identity.size - view->offset >= view->file_len;
    if (!fits || !relay->answered || relay->tunnel || !use_window(engine, request, TUX_APP_FILE_COST)) {
        violated(engine, request);
        return;
    }
    tux_relay_file(engine, request->conn, file, view->offset, view->file_len);
    if (view->record.flags & TUX_APP_END)
        end(engine, request, view);
    else
        tux_apprequest_credit(engine, request);
}

/* Returns false when the link cannot go on. */
static bool on_file(struct tux_engine *engine, struct tux_applink *link, const struct tux_app_answer_view *view)
{
    struct tux_file *file;
    if (!tux_appfile_take(engine, link, view, &file))
        return false;
    struct tux_apprequest *request = find(link, &view->record);
    if (request != NULL)
        send_file(engine, request, file, view);
    if (file != NULL)
        tux_file_unref(file);
    return true;
}

static void on_object(struct tux_engine *engine, struct tux_apprequest *request, const struct tux_app_answer_view *view)
{
    struct tux_conn *conn = request->conn;
    struct tux_accel_object object = {.path = view->path,
                                      .path_len = view->path_len,
                                      .fields = view->fields,
                                      .fields_len = view->fields_len,
                                      .status = view->record.status};
    if (conn->exchange->relay->answered || conn->exchange->relay->planned != NULL) {
        violated(engine, request);
        return;
    }
    if (view->record.flags & TUX_APP_CLOSE)
        close_after(conn);
    request->over = true;
    tux_accel_object(engine, conn, &object);
}

static void on_next(struct tux_engine *engine, struct tux_apprequest *request, bool forward)
{
    struct tux_conn *conn = request->conn;
    request->over = true;
    if (!tux_relay_next(engine, conn, forward))
        tux_relay_fail(engine, conn, forward ? 502 : 404);
}

static void on_consumed(struct tux_engine *engine, struct tux_apprequest *request, uint32_t n)
{
    /* It has asked for the body: who answers must not depend on whether any of it has come yet. */
    request->conn->exchange->relay->touched = true;
    request->to_process += n;
    if (request->to_process > (int64_t)TUX_APP_WINDOW_BYTES)
        violated(engine, request); /* more than it was given */
    else
        tux_relay_take_body(engine, request->conn);
}

/* Returns false when the link cannot go on. */
static bool handle(struct tux_engine *engine, struct tux_applink *link, const struct tux_app_answer_view *view)
{
    if (view->record.kind == TUX_APP_LEAVE) {
        link->leaving = true;
        link->app->epoch++;
        engine->apps->stirred = true;
        return true;
    }
    if (view->record.kind == TUX_APP_FORGET) {
        tux_appfile_forget(link, view->record.n);
        return true;
    }
    if (view->record.kind == TUX_APP_FILE)
        return on_file(engine, link, view);
    struct tux_apprequest *request = find(link, &view->record);
    if (request == NULL)
        return true;
    struct tux_conn *conn = request->conn;
    struct tux_relay *relay = conn->exchange->relay;
    switch (view->record.kind) {
    case TUX_APP_ANSWER:
        on_answer(engine, request, view);
        break;
    case TUX_APP_DATA:
        on_data(engine, request, view);
        break;
    case TUX_APP_TRAILER:
        if (relay->answered && !relay->tunnel)
            end(engine, request, view);
        else
            violated(engine, request);
        break;
    case TUX_APP_INFORM: /* no window bounds these */
        if (request->informed++ < TUX_MAX_INFORMATIONAL)
            tux_relay_inform(engine, conn, view->record.status, view->fields, view->fields_len);
        else
            violated(engine, request);
        break;
    case TUX_APP_UPGRADE:
        if (relay->answered)
            violated(engine, request);
        else
            tux_relay_upgrade(engine, conn, view->fields, view->fields_len);
        break;
    case TUX_APP_CONSUMED:
        on_consumed(engine, request, view->record.n);
        break;
    case TUX_APP_ABORT:
        request->over = true;
        tux_relay_fail(engine, conn, 502);
        break;
    case TUX_APP_NEXT:
        on_next(engine, request, (view->record.flags & TUX_APP_FORWARD) != 0);
        break;
    case TUX_APP_OBJECT:
        on_object(engine, request, view);
        break;
    case TUX_APP_LOOKUP:
        if (!tux_apprequest_lookup(engine, request, view->path, view->path_len))
            violated(engine, request);
        break;
    default:
        break;
    }
    return true;
}

void tux_applink_read(struct tux_engine *engine, struct tux_applink *link)
{
    struct tux_app_answer_view view;
    const void *payload;
    uint32_t size;
    int result = 0;
    if (link->answers.shared == NULL)
        return;
    while (!link->dead && (result = tux_ring_read(&link->answers, &payload, &size)) == 1) /* ends: see ring.h */
        if (!tux_appwire_answer(payload, size, engine->apps->scratch, &view) || !handle(engine, link, &view)) {
            result = -1;
            break;
        }
    if (tux_ring_release_bare(&link->answers))
        tux_applink_touch(link);
    if (result < 0)
        tux_applink_kill(engine, link);
}
