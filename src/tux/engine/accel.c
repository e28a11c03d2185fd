/* SPDX-License-Identifier: MIT */
#include "accel.h"

#include <stdlib.h>
#include <string.h>

#include "line.h"
#include "reason.h"

#define BIT(field) (1u << (field))
#define CONTEXT_INTERNAL (UINT64_C(1) << 31) /* of signatures: what clients do not get may be sent in a backend's name */
#define CONTEXT_ROOT_SHIFT 17u               /* ... below such a root; listeners are below */

_Static_assert(((uint64_t)TUX_MAX_ROOTS << CONTEXT_ROOT_SHIFT) < CONTEXT_INTERNAL, "roots have room beside it");

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

/* A file that is wanted. */
struct wanted {
    const uint8_t *path; /* begins with a slash */
    size_t len;
    const char *escape;  /* what a path as this one has to be written with escapes for: "%?" where it is decoded */
    uint32_t root;       /* below this one; TUX_NO_ROUTE: where the site says */
    bool plain;          /* whatever the client's request says about ranges, conditions and codings */
};

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

static void put_escaped(struct text *text, const struct wanted *wanted)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < wanted->len; i++) {
        uint8_t byte = wanted->path[i];
        char escaped[3] = {'%', hex[byte >> 4], hex[byte & 15]};
        if (byte <= ' ' || byte >= 0x7f || byte == '#' || strchr(wanted->escape, byte) != NULL)
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

/* Write a request for the file into engine->text; engine->head is its scan afterwards. False: there is no such request. */
static bool write_request(struct tux_engine *engine, struct tux_conn *conn, const struct wanted *wanted)
{
    const struct tux_exchange *exchange = conn->exchange;
    struct tux_head *head = &engine->head;
    struct text text = {.bytes = engine->text, .size = sizeof engine->text};
    if (!tux_exchange_scan(engine, conn))
        return false;
    bool is_head = head->method == TUX_METHOD_HEAD && !wanted->plain;
    bool safe = (head->method == TUX_METHOD_GET || head->method == TUX_METHOD_HEAD) && !wanted->plain;
    if (is_head)
        PUT(&text, "HEAD ");
    else
        PUT(&text, "GET ");
    put_escaped(&text, wanted);
    if (head->minor == 0)
        PUT(&text, " HTTP/1.0\r\n");
    else
        PUT(&text, " HTTP/1.1\r\n");
    if (head->host.len > 0) {
        PUT(&text, "Host: ");
        put(&text, exchange->head + head->host.off, head->host.len);
        PUT(&text, "\r\n");
    }
    for (uint32_t i = 0; safe && (head->seen & FOR_FILES) != 0 && i < head->n_fields; i++) {
        const struct tux_head_field *field = &head->fields[i];
        if ((FOR_FILES & BIT(field->id)) == 0)
            continue;
        put(&text, exchange->head + field->name.off, field->name.len);
        PUT(&text, ": ");
        put(&text, exchange->head + field->value.off, field->value.len);
        PUT(&text, "\r\n");
    }
    PUT(&text, "\r\n");
    uint64_t context = tux_conn_context(engine, conn) | CONTEXT_INTERNAL;
    if (wanted->root != TUX_NO_ROUTE)
        context |= (uint64_t)(wanted->root + 1u) << CONTEXT_ROOT_SHIFT;
    engine->scanned = NULL;
    return !text.full && tux_head_scan(text.bytes, text.len, 0, &engine->head_limits, &engine->config.sign, context,
                                       head) == TUX_DONE;
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

/* What a backend wants to be said with a file. */
struct own {
    const uint8_t *fields;
    size_t len;
    uint16_t status; /* in place of 200; 0: it stays */
};

static uint8_t *append(uint8_t *at, const struct line *line)
{
    memcpy(at, line->name, line->len);
    return at + line->len;
}

/* The backend's fields count before those of the file, but for those that describe the bytes. An error has its own, and what
 * the backend wants the client to remember. NULL: no memory. */
static struct tux_own_head *merge(const struct own *own, const struct tux_plan *plan)
{
    bool good = plan->status == 200 || plan->status == 206 || plan->status == 304;
    const uint8_t *p = memchr(plan->head, '\n', plan->head_len), *end = plan->head + plan->head_len;
    const uint8_t *plan_fields = p == NULL ? end : p + 1;
    uint16_t status = own->status != 0 && plan->status == 200 ? own->status : plan->status;
    const char *reason = tux_reason(status);
    size_t reason_len = strlen(reason);
    struct tux_own_head *head = malloc(sizeof *head + plan->head_len + own->len + sizeof "HTTP/1.1 000 \r\n" + reason_len);
    struct line line;
    bool parts = false;
    if (head == NULL)
        return NULL;
    uint8_t *at = head->bytes;
    memcpy(at, "HTTP/1.1 000 ", 13);
    at[9] = (uint8_t)('0' + status / 100);
    at[10] = (uint8_t)('0' + status / 10 % 10);
    at[11] = (uint8_t)('0' + status % 10);
    memcpy(at + 13, reason, reason_len);
    memcpy(at + 13 + reason_len, "\r\n", 2);
    at += 13 + reason_len + 2;
    for (p = plan_fields; next_line(&p, end, &line);)
        parts |= is(&line, "content-type") && line.value_len >= 9 && tux_line_equals(line.value, 9, "multipart");
    const uint8_t *theirs = at;
    for (p = own->fields; next_line(&p, own->fields + own->len, &line);)
        if (!is_ours(&line) &&
            (is(&line, "set-cookie") || (good && !is_about_body(&line) && !(parts && is(&line, "content-type")))))
            at = append(at, &line);
    size_t theirs_len = (size_t)(at - theirs);
    for (p = plan_fields; next_line(&p, end, &line);)
        if (is(&line, "vary") || !has_name(theirs, theirs_len, &line))
            at = append(at, &line);
    head->len = (uint32_t)(at - head->bytes);
    head->status = status;
    return head;
}

static bool is_passed_on(uint16_t status)
{
    return status == 200 || status == 206 || status == 304 || status == 403 || status == 404 || status == 412 ||
           status == 416 || status == 503;
}

static void answer(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan, const struct own *own)
{
    struct tux_own_head *head = NULL;
    if (plan == NULL || !is_passed_on(plan->status)) { /* a folder, or a path that cannot be: the backend's fault */
        tux_relay_fail(engine, conn, plan == NULL ? 503 : 404);
        return;
    }
    if ((own->len > 0 || own->status != 0) && (head = merge(own, plan)) == NULL) {
        tux_relay_fail(engine, conn, 503);
        return;
    }
    tux_relay_plan(engine, conn, plan, head);
}

/* -- waiting for the planner -------------------------------------------------------------------------------------- */

/* relay->peer meanwhile. */
struct kept {
    struct tux_facts facts; /* of the request that the planner sees */
    uint16_t status;
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

static void planned(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan)
{
    struct kept *kept = conn->exchange->relay->peer;
    struct own own = {.fields = kept->fields, .len = kept->len, .status = kept->status};
    if (plan != NULL)
        tux_ask_remember(engine, &kept->facts, plan);
    conn->exchange->relay->peer = NULL; /* the plan takes the backend's place */
    answer(engine, conn, plan, &own);
    free(kept);
}

/* The remembered plan for the request of which engine->head is the scan, or NULL. */
static struct tux_plan *find_plan(struct tux_engine *engine, const struct tux_facts *facts)
{
    struct tux_plan *plan = NULL;
    if (!facts->is_signed || tux_answer_find(engine, facts, &plan) != TUX_PLAN_FOUND)
        return NULL;
    return plan;
}

/* Send the file in place of an answer. 0, or the status of the error to answer with. */
static uint16_t send_file(struct tux_engine *engine, struct tux_conn *conn, const struct wanted *wanted, const struct own *own)
{
    if (!write_request(engine, conn, wanted))
        return 502;
    struct tux_facts facts = tux_facts_of(&engine->head);
    struct tux_plan *plan = find_plan(engine, &facts);
    if (plan != NULL) {
        if (plan->file != NULL && !(plan->flags & TUX_PLAN_NO_BODY))
            tux_ask_load(engine, &facts, plan);
        answer(engine, conn, plan, own);
        return 0;
    }
    struct kept *kept = malloc(sizeof *kept + own->len);
    if (kept == NULL || !tux_ask_file(engine, conn, engine->text, wanted->root)) {
        free(kept);
        return 503;
    }
    kept->facts = facts;
    kept->status = own->status;
    kept->len = own->len;
    if (own->len > 0)
        memcpy(kept->fields, own->fields, own->len);
    tux_relay_replace(engine, conn, &backend, kept);
    tux_relay_await(conn, planned);
    return 0;
}

bool tux_accel_answer(struct tux_engine *engine, struct tux_conn *conn, const struct tux_accel_rules *rules,
                      const struct tux_relay_head *head)
{
    struct line line;
    bool sendfile;
    unsigned n;
    line = find(rules, head->fields, head->fields_len, &sendfile, &n);
    if (n == 0) { /* it is answered without them */
        struct tux_relay_head stripped = *head;
        uint8_t *fields = malloc(head->fields_len), *at = fields;
        if (fields == NULL) {
            tux_relay_fail(engine, conn, 503);
            return true;
        }
        for (const uint8_t *p = head->fields; next_line(&p, head->fields + head->fields_len, &line);)
            if (!is_ours(&line))
                at = append(at, &line);
        stripped.fields = fields;
        stripped.fields_len = (uint32_t)(at - fields);
        tux_relay_answer(engine, conn, &stripped);
        free(fields);
        return false;
    }
    struct wanted wanted = {.path = line.value, .len = line.value_len, .escape = "", .root = TUX_NO_ROUTE};
    struct own own = {.fields = head->fields, .len = head->fields_len};
    uint16_t status = n > 1 ? 502 : 0;
    if (sendfile) {
        const char *root = engine->root_paths[rules->sendfile_root];
        size_t root_len = strlen(root);
        while (root_len > 0 && root[root_len - 1] == '/')
            root_len--;
        if (wanted.len > root_len + 1 && memcmp(wanted.path, root, root_len) == 0) {
            wanted.path += root_len;
            wanted.len -= root_len;
            wanted.escape = "%?";
            wanted.root = rules->sendfile_root;
        } else {
            status = 502; /* elsewhere */
        }
    }
    if (wanted.len == 0 || wanted.path[0] != '/')
        status = 502;
    if (status == 0)
        status = send_file(engine, conn, &wanted, &own);
    if (status != 0)
        tux_relay_fail(engine, conn, status);
    return true;
}

void tux_accel_object(struct tux_engine *engine, struct tux_conn *conn, const struct tux_accel_object *object)
{
    struct wanted wanted = {.path = object->path, .len = object->path_len, .escape = "%?", .root = TUX_NO_ROUTE};
    struct own own = {.fields = object->fields, .len = object->fields_len, .status = object->status};
    uint16_t status = send_file(engine, conn, &wanted, &own);
    if (status != 0)
        tux_relay_fail(engine, conn, status);
}

/* -- looking ------------------------------------------------------------------------------------------------------ */

bool tux_accel_lookup(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *path, size_t len,
                      tux_relay_planned *found, struct tux_facts *facts)
{
    struct wanted wanted = {.path = path, .len = len, .escape = "%?", .root = TUX_NO_ROUTE, .plain = true};
    if (!write_request(engine, conn, &wanted))
        return false;
    *facts = tux_facts_of(&engine->head);
    struct tux_plan *plan = find_plan(engine, facts);
    if (plan != NULL && plan->file == NULL) {
        facts->is_signed = false;
        found(engine, conn, plan);
        return true;
    }
    /* A descriptor that is given away must be nobody else's, who could change how it is read: a new one is asked for. */
    if (!tux_ask_file(engine, conn, engine->text, TUX_NO_ROUTE))
        return false;
    tux_relay_await(conn, found);
    return true;
}

/* The value of a field of the plan's head; its length is 0 if there is none. */
static struct line value_of(const struct tux_plan *plan, const char *name)
{
    const uint8_t *end = plan->head + plan->head_len, *p = memchr(plan->head, '\n', plan->head_len);
    struct line line;
    if (p == NULL) /* no line but the status */
        return (struct line){.value_len = 0};
    p++;
    while (next_line(&p, end, &line))
        if (is(&line, name) && line.value_len <= TUX_MAX_ACCEL_VALUE_BYTES)
            return line;
    return (struct line){.value_len = 0};
}

void tux_accel_describe(const struct tux_plan *plan, struct tux_accel_facts *facts)
{
    struct line type = value_of(plan, "content-type"), etag = value_of(plan, "etag");
    *facts = (struct tux_accel_facts){.type = type.value,
                                      .type_len = (uint16_t)type.value_len,
                                      .etag = etag.value,
                                      .etag_len = (uint16_t)etag.value_len};
    for (uint32_t i = 0; i < plan->n_checks && facts->modified_ns == 0; i++) /* the side files, if any, are absent or more */
        if (plan->checks[i].expected.kind == TUX_FOUND_FILE)
            facts->modified_ns = plan->checks[i].expected.identity.mtime_ns;
}
