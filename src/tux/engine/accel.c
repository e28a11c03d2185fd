/* SPDX-License-Identifier: MIT */
#include "accel.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "line.h"

#define BIT(field) (1u << (field))
#define ASK_BYTES (4u * TUX_MAX_HEAD_BYTES) /* of the request that the planner sees: every byte of a path may grow to three */

/* -- field lines -------------------------------------------------------------------------------------------------- */

struct line {
    const uint8_t *name, *value; /* the value ends at the CRLF */
    size_t name_len, value_len, len;
};

/* The next line of fields that were checked before. False: there is none. */
static bool next_line(const uint8_t **p, const uint8_t *end, struct line *line)
{
    const uint8_t *from = *p;
    const uint8_t *lf = from < end ? memchr(from, '\n', (size_t)(end - from)) : NULL;
    const uint8_t *colon = lf == NULL ? NULL : memchr(from, ':', (size_t)(lf - from));
    if (colon == NULL)
        return false;
    const uint8_t *value = colon + 1, *to = lf;
    while (value < to && tux_byte_is_space(*value))
        value++;
    while (to > value && (tux_byte_is_space(to[-1]) || to[-1] == '\r'))
        to--;
    *line = (struct line){.name = from,
                          .value = value,
                          .name_len = (size_t)(colon - from),
                          .value_len = (size_t)(to - value),
                          .len = (size_t)(lf + 1 - from)};
    *p = lf + 1;
    return true;
}

static bool is(const struct line *line, const char *name)
{
    return tux_line_equals(line->name, line->name_len, name);
}

static bool is_ours(const struct line *line)
{
    return tux_byte_lower(line->name[0]) == 'x' && (is(line, "x-accel-redirect") || is(line, "x-sendfile"));
}

static bool has_name(const uint8_t *fields, size_t len, const struct line *wanted)
{
    const uint8_t *p = fields;
    struct line line;
    while (next_line(&p, fields + len, &line)) {
        bool same = line.name_len == wanted->name_len;
        for (size_t i = 0; same && i < line.name_len; i++)
            same = tux_byte_lower(line.name[i]) == tux_byte_lower(wanted->name[i]);
        if (same)
            return true;
    }
    return false;
}

bool tux_accel_mentioned(const uint8_t *fields, size_t len)
{
    const uint8_t *p = fields;
    struct line line;
    while (next_line(&p, fields + len, &line))
        if (is_ours(&line))
            return true;
    return false;
}

/* The field that counts. *n: how often it is there. */
static struct line find(const struct tux_accel_rules *rules, const uint8_t *fields, size_t len, bool *sendfile, unsigned *n)
{
    struct line line, found = {.name = NULL};
    *n = 0;
    for (int round = 0; round < 2 && *n == 0; round++) {
        *sendfile = round == 1;
        if (*sendfile ? rules->sendfile_root == TUX_NO_ROUTE : !rules->redirect)
            continue;
        for (const uint8_t *p = fields; next_line(&p, fields + len, &line);) {
            if (!is(&line, *sendfile ? "x-sendfile" : "x-accel-redirect"))
                continue;
            found = line;
            ++*n;
        }
    }
    return found;
}

bool tux_accel_applies(const struct tux_accel_rules *rules, const uint8_t *fields, size_t len)
{
    bool sendfile;
    unsigned n;
    find(rules, fields, len, &sendfile, &n);
    return n > 0;
}

/* -- the request that the planner sees ---------------------------------------------------------------------------- */

struct text {
    uint8_t *bytes;
    size_t len, size;
    bool full;
};

static void put(struct text *text, const void *bytes, size_t len)
{
    if (len > text->size - text->len) {
        text->full = true;
        return;
    }
    memcpy(text->bytes + text->len, bytes, len);
    text->len += len;
}

#define PUT(text, literal) put(text, literal, sizeof(literal) - 1)

static void put_escaped(struct text *text, const uint8_t *bytes, size_t len, const char *also)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = bytes[i];
        char escaped[3] = {'%', hex[byte >> 4], hex[byte & 15]};
        if (byte <= ' ' || byte >= 0x7f || byte == '#' || strchr(also, byte) != NULL)
            put(text, escaped, sizeof escaped);
        else
            put(text, &byte, 1);
    }
}

/* Fields of the request that matter for a file. */
#define FOR_FILES                                                                                                      \
    (BIT(TUX_FIELD_RANGE) | BIT(TUX_FIELD_IF_MATCH) | BIT(TUX_FIELD_IF_NONE_MATCH) | BIT(TUX_FIELD_IF_MODIFIED_SINCE) | \
     BIT(TUX_FIELD_IF_UNMODIFIED_SINCE) | BIT(TUX_FIELD_IF_RANGE) | BIT(TUX_FIELD_ACCEPT) |                            \
     BIT(TUX_FIELD_ACCEPT_ENCODING))

/* False: there is no such request. engine->head is the scan of the client's, and of the new one afterwards. */
static bool write_request(struct tux_engine *engine, struct tux_conn *conn, const struct tux_accel_rules *rules,
                          const struct line *line, bool sendfile, struct text *text)
{
    const struct tux_exchange *exchange = conn->exchange;
    struct tux_head *head = &engine->head;
    uint64_t context = engine->context_high | conn->listener->index;
    if (tux_head_scan(exchange->head, exchange->head_len, 0, &engine->head_limits, &engine->config.sign, context, head) !=
        TUX_DONE)
        return false; /* it was scanned before */
    bool safe = head->method == TUX_METHOD_GET || head->method == TUX_METHOD_HEAD;
    if (head->method == TUX_METHOD_HEAD)
        PUT(text, "HEAD ");
    else
        PUT(text, "GET ");
    if (sendfile) {
        const char *root = engine->root_paths[rules->sendfile_root];
        size_t root_len = strlen(root);
        while (root_len > 0 && root[root_len - 1] == '/')
            root_len--;
        if (line->value_len <= root_len + 1 || memcmp(line->value, root, root_len) != 0 || line->value[root_len] != '/')
            return false; /* elsewhere */
        put_escaped(text, line->value + root_len, line->value_len - root_len, "%?");
    } else {
        if (line->value_len == 0 || line->value[0] != '/')
            return false;
        put_escaped(text, line->value, line->value_len, "");
    }
    if (head->minor == 0)
        PUT(text, " HTTP/1.0\r\n");
    else
        PUT(text, " HTTP/1.1\r\n");
    if (head->host.len > 0) {
        PUT(text, "Host: ");
        put(text, exchange->head + head->host.off, head->host.len);
        PUT(text, "\r\n");
    }
    for (uint32_t i = 0; safe && i < head->n_fields; i++) {
        const struct tux_head_field *field = &head->fields[i];
        if ((FOR_FILES & BIT(field->id)) == 0)
            continue;
        put(text, exchange->head + field->name.off, field->name.len);
        PUT(text, ": ");
        put(text, exchange->head + field->value.off, field->value.len);
        PUT(text, "\r\n");
    }
    PUT(text, "\r\n");
    return !text->full && tux_head_scan(text->bytes, text->len, 0, &engine->head_limits, &engine->config.sign, context,
                                        head) == TUX_DONE;
}

/* -- waiting for the planner -------------------------------------------------------------------------------------- */

/* relay->peer meanwhile: the fields that the backend sent. */
struct kept {
    size_t len;
    uint8_t fields[];
};

static size_t no_room(struct tux_engine *engine, struct tux_conn *conn)
{
    (void)engine, (void)conn;
    return 0; /* what is left of the request's body is nobody's any more */
}

static void nothing(struct tux_engine *engine, struct tux_conn *conn)
{
    (void)engine, (void)conn;
}

static void no_body(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *data, size_t len, bool end)
{
    (void)engine, (void)conn, (void)data, (void)len, (void)end;
}

static void release(struct tux_engine *engine, struct tux_conn *conn, bool complete)
{
    (void)engine, (void)complete;
    free(conn->exchange->relay->peer);
    conn->exchange->relay->peer = NULL;
}

static const struct tux_backend backend = {
    .room = no_room, .body = no_body, .drained = nothing, .half_closed = nothing, .release = release};

bool tux_accel_waits(const struct tux_conn *conn)
{
    return conn->state == TUX_CONN_RELAY && conn->exchange != NULL && conn->exchange->relay != NULL &&
           conn->exchange->relay->backend == &backend;
}

bool tux_accel_answer(struct tux_engine *engine, struct tux_conn *conn, const struct tux_accel_rules *rules,
                      const struct tux_relay_head *head)
{
    const uint8_t *p = head->fields, *end = p + head->fields_len;
    struct kept *kept = malloc(sizeof *kept + head->fields_len);
    struct line line;
    bool sendfile;
    unsigned n;
    if (kept == NULL) {
        tux_relay_fail(engine, conn, 503);
        return true;
    }
    kept->len = 0;
    while (next_line(&p, end, &line)) {
        if (is_ours(&line))
            continue;
        memcpy(kept->fields + kept->len, line.name, line.len);
        kept->len += line.len;
    }
    line = find(rules, head->fields, head->fields_len, &sendfile, &n);
    if (n == 0) {
        struct tux_relay_head stripped = *head;
        stripped.fields = kept->fields;
        stripped.fields_len = (uint32_t)kept->len;
        tux_relay_answer(engine, conn, &stripped);
        free(kept);
        return false;
    }
    uint8_t *bytes = malloc(ASK_BYTES);
    struct text text = {.bytes = bytes, .size = bytes == NULL ? 0 : ASK_BYTES};
    uint16_t status = bytes == NULL ? 503 : 0;
    if (status == 0 && (n > 1 || !write_request(engine, conn, rules, &line, sendfile, &text)))
        status = 502;
    if (status == 0 && !tux_ask_file(engine, conn, text.bytes, sendfile ? rules->sendfile_root : TUX_NO_ROUTE))
        status = 503;
    free(bytes);
    if (status != 0) {
        free(kept);
        tux_relay_fail(engine, conn, status);
    } else {
        tux_relay_replace(engine, conn, &backend, kept);
    }
    return true;
}

/* -- the answer --------------------------------------------------------------------------------------------------- */

/* What a backend says about its own body, or what the file's answer says better. */
static bool is_about_body(const struct line *line)
{
    static const char *const names[] = {"content-length", "content-encoding", "content-range", "content-md5",   "etag",
                                        "last-modified",  "accept-ranges",    "digest",        "repr-digest", "content-digest",
                                        "date"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is(line, names[i]))
            return true;
    return false;
}

/* The backend's fields count before those of the file, but for those that describe the bytes. An error has its own, and what
 * the backend wants the client to remember. Returns the length of *fields, which has room for both. */
static size_t merge(const struct kept *kept, const struct tux_plan *plan, uint8_t *fields, struct tux_relay_head *head)
{
    bool good = plan->status == 200 || plan->status == 206 || plan->status == 304;
    const uint8_t *p = memchr(plan->head, '\n', plan->head_len), *end = plan->head + plan->head_len;
    const uint8_t *plan_fields = p == NULL ? end : p + 1;
    struct line line;
    size_t len = 0;
    bool parts = false;
    for (p = plan_fields; next_line(&p, end, &line);)
        parts |= is(&line, "content-type") && line.value_len >= 9 && tux_line_equals(line.value, 9, "multipart");
    for (p = kept->fields; next_line(&p, kept->fields + kept->len, &line);) {
        bool wanted = is(&line, "set-cookie") ||
                      (good && !is_about_body(&line) && !(parts && is(&line, "content-type")));
        if (!wanted)
            continue;
        memcpy(fields + len, line.name, line.len);
        len += line.len;
    }
    size_t theirs = len;
    for (p = plan_fields; next_line(&p, end, &line);) {
        uint64_t length;
        if (is(&line, "content-length")) {
            if (tux_line_number(line.value, line.value_len, &length))
                head->length = (int64_t)length;
            continue;
        }
        if (!is(&line, "vary") && has_name(fields, theirs, &line))
            continue;
        memcpy(fields + len, line.name, line.len);
        len += line.len;
    }
    for (p = fields; next_line(&p, fields + len, &line);)
        head->has_server |= is(&line, "server");
    return len;
}

static bool is_passed_on(uint16_t status)
{
    return status == 200 || status == 206 || status == 304 || status == 403 || status == 404 || status == 412 ||
           status == 416 || status == 503;
}

void tux_accel_reply(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan)
{
    const struct kept *kept = conn->exchange->relay->peer;
    if (plan == NULL || !is_passed_on(plan->status)) { /* a folder, or a path that cannot be: the backend's fault */
        tux_relay_fail(engine, conn, plan == NULL ? 503 : 404);
        return;
    }
    struct tux_relay_head head = {.status = plan->status, .length = -1};
    bool has_body = (plan->flags & TUX_PLAN_NO_BODY) == 0 && conn->exchange->facts.method != TUX_METHOD_HEAD;
    int fd = has_body && plan->fd >= 0 ? fcntl(plan->fd, F_DUPFD_CLOEXEC, 0) : -1;
    uint8_t *fields = malloc(kept->len + plan->head_len);
    if (fields == NULL || (has_body && plan->fd >= 0 && fd < 0)) {
        free(fields);
        tux_relay_fail(engine, conn, 503);
        return;
    }
    head.fields_len = (uint32_t)merge(kept, plan, fields, &head);
    head.fields = fields;
    if (has_body)
        head.length = (int64_t)plan->body_len;
    tux_relay_answer(engine, conn, &head);
    free(fields);
    if (fd >= 0)
        tux_relay_file(engine, conn, fd, plan->body_offset, plan->body_len);
    else if (has_body)
        tux_relay_data(engine, conn, plan->body, plan->body_len);
    tux_relay_end(engine, conn, NULL, 0);
}
