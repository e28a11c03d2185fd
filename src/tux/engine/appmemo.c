/* SPDX-License-Identifier: MIT */
/* Answers of applications that may be given again without a question, because the application has said so: they become plans
 * with a time to live in place of checks. */
#include <stdlib.h>
#include <string.h>

#include "apps.h"
#include "line.h"
#include "reason.h"

struct answer_head {
    uint8_t *bytes;
    size_t len;
};

static void put(struct answer_head *head, const void *bytes, size_t len)
{
    memcpy(head->bytes + head->len, bytes, len);
    head->len += len;
}

#define PUT(head, literal) put(head, literal, sizeof(literal) - 1)

/* A field line of the answer, which was checked: "Name: value CR LF". Its end, or NULL behind the last. */
static const uint8_t *next_field(const uint8_t *p, const uint8_t *end, const uint8_t **colon, const uint8_t **value_end)
{
    if (p >= end)
        return NULL;
    *colon = memchr(p, ':', (size_t)(end - p));
    const uint8_t *lf = memchr(p, '\n', (size_t)(end - p));
    *value_end = lf - 1;
    return lf + 1;
}

/* May it be kept by a cache that is shared by everybody (RFC 9111 section 3)? */
static bool may_keep(const uint8_t *p, const uint8_t *end)
{
    static const char *const refused[] = {"no-store", "no-cache", "private"};
    const uint8_t *member;
    size_t len;
    while (tux_line_member(&p, end, &member, &len)) {
        const uint8_t *equals = memchr(member, '=', len);
        size_t name_len = equals == NULL ? len : (size_t)(equals - member);
        while (name_len > 0 && tux_byte_is_space(member[name_len - 1]))
            name_len--;
        for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
            if (tux_line_equals(member, name_len, refused[i]))
                return false;
    }
    return true;
}

/* Does the signature cover all fields that Vary names? */
static bool is_covered(const struct tux_engine *engine, const uint8_t *p, const uint8_t *end)
{
    uint32_t covered = engine->config.sign.significant;
    const uint8_t *member;
    size_t len;
    while (tux_line_member(&p, end, &member, &len)) {
        uint8_t id = tux_field_id(member, len);
        if (len > 0 && (id == TUX_FIELD_OTHER || (covered & 1u << id) == 0))
            return false;
    }
    return true;
}

/* Whether the fields allow it; those that are the answer's own, not this one message's, go into the head. */
static bool copy_fields(const struct tux_engine *engine, const struct tux_app_answer_view *view, struct answer_head *head)
{
    const uint8_t *line = view->fields, *end = line + view->fields_len, *next, *colon, *value_end;
    for (; (next = next_field(line, end, &colon, &value_end)) != NULL; line = next) { /* ends: the line moves on */
        size_t name_len = (size_t)(colon - line);
        if (tux_line_equals(line, name_len, "set-cookie"))
            return false;
        if (tux_line_equals(line, name_len, "cache-control") && !may_keep(colon + 1, value_end))
            return false;
        if (tux_line_equals(line, name_len, "vary") && !is_covered(engine, colon + 1, value_end))
            return false;
        if (!tux_line_equals(line, name_len, "date")) /* each message has its own */
            put(head, line, (size_t)(next - line));
    }
    return true;
}

static void put_status(struct answer_head *head, const struct tux_app_answer_view *view)
{
    char line[] = "HTTP/1.1 000 ";
    uint16_t status = view->record.status;
    const char *usual = tux_reason(status);
    line[9] = (char)('0' + status / 100 % 10);
    line[10] = (char)('0' + status / 10 % 10);
    line[11] = (char)('0' + status % 10);
    put(head, line, sizeof line - 1);
    if (view->reason_len > 0)
        put(head, view->reason, view->reason_len);
    else
        put(head, usual, strlen(usual));
    PUT(head, "\r\n");
}

static struct tux_plan *make_plan(struct tux_engine *engine, const struct tux_apprequest *request,
                                  const struct tux_app_answer_view *view, uint16_t flags, int64_t length)
{
    static const char server[] = "Server: tux\r\n", length_name[] = "Content-Length: ";
    uint16_t status = view->record.status;
    bool no_body = request->conn->exchange->facts.method == TUX_METHOD_HEAD || status == 204 || status == 304;
    size_t most = 64 + strlen(tux_reason(status)) + view->reason_len + view->fields_len + sizeof server +
                  sizeof length_name + TUX_MAX_DECIMAL_BYTES;
    struct answer_head head = {.bytes = malloc(most)};
    struct tux_plan *plan = NULL;
    if (head.bytes == NULL)
        return NULL;
    put_status(&head, view);
    if (copy_fields(engine, view, &head)) {
        if (length >= 0 && status != 204) {
            uint8_t digits[TUX_MAX_DECIMAL_BYTES];
            put(&head, length_name, sizeof length_name - 1);
            put(&head, digits, (size_t)(tux_line_put_decimal(digits, (uint64_t)length) - digits));
            PUT(&head, "\r\n");
        }
        if (!view->has_server)
            put(&head, server, sizeof server - 1);
        struct tux_plan_parts parts = {.status = status,
                                       .flags = (uint16_t)(flags | (no_body ? TUX_PLAN_NO_BODY : 0u)),
                                       .head = head.bytes,
                                       .head_len = (uint32_t)head.len,
                                       .body = view->body,
                                       .body_len = no_body ? (uint64_t)(length > 0 ? length : 0) : view->record.n,
                                       .fd = -1,
                                       .expires_ms = engine->now_ms + view->remember_ms};
        plan = tux_plan_new(&parts, engine->config.sign.key);
    }
    free(head.bytes);
    if (plan != NULL) {
        plan->epoch = &request->app->epoch;
        plan->made_in = request->app->epoch;
    }
    return plan;
}

struct tux_plan *tux_apprequest_remember(struct tux_engine *engine, const struct tux_apprequest *request,
                                         const struct tux_app_answer_view *view)
{
    const struct tux_facts *facts = &request->conn->exchange->facts;
    uint16_t status = view->record.status;
    bool whole = (view->record.flags & TUX_APP_END) != 0 && view->record.n <= TUX_MAX_APP_REMEMBERED_BYTES;
    bool no_body = facts->method == TUX_METHOD_HEAD || status == 204 || status == 304;
    bool fits = no_body ? view->record.n == 0 : view->length < 0 || view->length == view->record.n;
    int64_t length = no_body ? view->length : view->record.n;
    if (!whole || !fits || !facts->is_signed || status == 206 || request->link->leaving ||
        (view->record.flags & TUX_APP_CLOSE) != 0 || (facts->method != TUX_METHOD_GET && facts->method != TUX_METHOD_HEAD))
        return NULL;
    /* The numbers of a plain range are covered by the exact signature only. */
    bool general = (view->record.flags & TUX_APP_GENERAL) != 0 && facts->range.kind == TUX_RANGE_NONE;
    uint16_t flags = (uint16_t)(TUX_PLAN_REMEMBER | TUX_PLAN_PUBLISH | (general ? 0u : TUX_PLAN_EXACT));
    if (!tux_memo_admit(engine->memo, general ? facts->general : facts->exact))
        return NULL;
    struct tux_plan *plan = make_plan(engine, request, view, flags, length);
    if (plan != NULL)
        tux_ask_remember(engine, facts, plan);
    return plan;
}
