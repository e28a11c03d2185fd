/* SPDX-License-Identifier: MIT */
/* Fuzz files that backends name: the fields of an answer that a process gives, for a request of a client. What the planner
 * is asked is one request, for the path that was named; what the client gets has one head, with nothing of these fields in
 * it. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "accel.h"
#include "appwire.h"

#define MUST(condition)                                                                                                \
    if (!(condition))                                                                                                  \
    __builtin_trap()

static struct tux_engine *engine;
static struct tux_conn conn;
static struct tux_ring asks; /* the planner's end */

static size_t room(struct tux_engine *of, struct tux_conn *at)
{
    (void)of, (void)at;
    return 0;
}

static void body(struct tux_engine *of, struct tux_conn *at, const uint8_t *data, size_t len, bool end)
{
    (void)of, (void)at, (void)data, (void)len, (void)end;
}

static void nothing(struct tux_engine *of, struct tux_conn *at)
{
    (void)of, (void)at;
}

static void release(struct tux_engine *of, struct tux_conn *at, bool complete)
{
    (void)of, (void)at, (void)complete;
}

static const struct tux_backend backend = {
    .room = room, .body = body, .drained = nothing, .half_closed = nothing, .release = release};

static void start(void)
{
    static const char *roots[] = {"/srv"};
    static struct tux_listener listener;
    struct tux_engine_config config;
    tux_engine_defaults(&config);
    config.roots = roots;
    config.n_roots = 1;
    MUST(tux_engine_new(&config, &engine) == 0);
    const struct tux_ring *ring = tux_engine_asks(engine);
    MUST(tux_ring_attach(&asks, dup(ring->memfd), dup(ring->data_eventfd), dup(ring->space_eventfd), ring->capacity) ==
         0);
    conn = (struct tux_conn){.listener = &listener, .fd = -1};
}

/* Lines with CRLF, none of them empty, none that is about these files. */
static void check_fields(const uint8_t *p, size_t len)
{
    const uint8_t *end = p + len;
    MUST(!tux_accel_mentioned(p, len));
    while (p < end) {
        const uint8_t *lf = memchr(p, '\n', (size_t)(end - p));
        MUST(lf != NULL && lf > p + 1 && lf[-1] == '\r');
        MUST(memchr(p, ':', (size_t)(lf - p)) != NULL && memchr(p, 0, (size_t)(lf - p)) == NULL);
        p = lf + 1;
    }
}

static size_t count(const uint8_t *text, size_t len, const char *what)
{
    size_t n = 0, what_len = strlen(what);
    for (size_t i = 0; i + what_len <= len; i++)
        n += memcmp(text + i, what, what_len) == 0;
    return n;
}

/* How many of these lines have that name. */
static size_t named(const uint8_t *p, size_t len, const char *name)
{
    const uint8_t *end = p + len;
    size_t n = 0, name_len = strlen(name);
    while (p < end) {
        const uint8_t *lf = memchr(p, '\n', (size_t)(end - p));
        MUST(lf != NULL);
        n += (size_t)(lf - p) > name_len && p[name_len] == ':' && strncasecmp((const char *)p, name, name_len) == 0;
        p = lf + 1;
    }
    return n;
}

static int digit(uint8_t byte)
{
    return byte <= '9' ? byte - '0' : byte - 'A' + 10;
}

/* The planner's half: a request for a path that a backend has named. path: without escapes; NULL: it is not known. */
static void take_ask(const uint8_t *path, size_t len)
{
    const void *payload;
    uint32_t size;
    struct tux_ask_view ask;
    MUST(tux_ring_read(&asks, &payload, &size) == 1 && tux_wire_ask(payload, size, &ask));
    struct tux_span method = ask.record->method, target = ask.record->target;
    MUST((method.len == 3 && memcmp(ask.head + method.off, "GET", 3) == 0) ||
         (method.len == 4 && memcmp(ask.head + method.off, "HEAD", 4) == 0));
    MUST(target.len > 0 && ask.head[target.off] == '/' && (ask.record->flags & TUX_ASK_INTERNAL) != 0);
    MUST(ask.record->head_len >= 4 && memcmp(ask.head + ask.record->head_len - 4, "\r\n\r\n", 4) == 0);
    MUST(count(ask.head, ask.record->head_len, "\r\n\r\n") == 1);
    for (uint32_t i = 0; i < ask.record->n_fields; i++)
        MUST(ask.fields[i].id != TUX_FIELD_OTHER && ask.fields[i].id != TUX_FIELD_COOKIE);
    size_t at = 0;
    for (uint32_t i = 0; path != NULL && i < target.len; i++) {
        const uint8_t *p = ask.head + target.off + i;
        uint8_t byte = *p;
        if (byte == '%') {
            byte = (uint8_t)(digit(p[1]) << 4 | digit(p[2]));
            i += 2;
        }
        MUST(at < len && byte == path[at]);
        at++;
    }
    MUST(path == NULL || at == len);
    tux_ring_release(&asks);
}

/* What the planner says, by the first byte of the input. */
static struct tux_plan *plan_of(uint8_t choice)
{
    static const struct {
        uint16_t status;
        const char *head;
    } answers[] = {
        {200, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"e\"\r\nVary: Accept-Encoding\r\n"
              "Content-Length: 1\r\n"},
        {206, "HTTP/1.1 206 Part\r\nContent-Type: multipart/byteranges; boundary=b\r\nContent-Length: 1\r\n"},
        {404, "HTTP/1.1 404 None\r\nContent-Type: text/html\r\nContent-Length: 1\r\n"},
        {301, "HTTP/1.1 301 There\r\nLocation: there/\r\nContent-Length: 1\r\n"},
    };
    size_t i = choice % (sizeof answers / sizeof *answers);
    struct tux_plan_parts parts = {.status = answers[i].status,
                                   .head = answers[i].head,
                                   .head_len = (uint32_t)strlen(answers[i].head),
                                   .body = "b",
                                   .body_len = 1,
                                   .fd = -1};
    return tux_plan_new(&parts, engine->config.sign.key);
}

/* view: what the backend has said. */
static void check_result(const struct tux_relay *relay, const struct tux_app_answer_view *view, uint8_t choice)
{
    if (relay->planned != NULL) {
        tux_relay_planned *planned = relay->planned;
        struct tux_plan *plan = plan_of(choice);
        MUST(plan != NULL);
        take_ask(view->path, view->path_len);
        conn.exchange->relay->planned = NULL;
        planned(engine, &conn, plan);
        tux_plan_unref(plan);
    }
    MUST(relay->planned == NULL && (relay->failed != 0) == (relay->plan == NULL));
    if (relay->own != NULL) {
        const uint8_t *head = relay->own->bytes, *lf = memchr(head, '\n', relay->own->len);
        MUST(lf != NULL && memcmp(head, "HTTP/1.1 ", 9) == 0 && lf[-1] == '\r');
        size_t fields_len = relay->own->len - (size_t)(lf + 1 - head), theirs;
        check_fields(lf + 1, fields_len);
        theirs = named(view->fields, view->fields_len, "content-type");
        MUST(named(lf + 1, fields_len, "content-type") <= (theirs > 0 ? theirs : 1));
        MUST(named(lf + 1, fields_len, "etag") <= 1);
        MUST(count(head, relay->own->len, "\r\nContent-Length: 1\r\n") == 1);
        MUST(relay->plan->status == 301 || relay->own->status == relay->plan->status || relay->plan->status == 200);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Two bytes that choose, a record of a process (appwire.h), a client's head. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t scratch[TUX_APP_SCRATCH_BYTES];
    struct tux_app_answer_view view;
    if (engine == NULL)
        start();
    if (size < 4)
        return 0;
    uint8_t choice = data[0], rules_choice = data[1];
    uint32_t record_len = (uint32_t)(data[2] | data[3] << 8);
    data += 4;
    size -= 4;
    if (record_len > size)
        return 0;
    uint8_t *record = malloc(record_len + 1u), *text = malloc(size - record_len + 1u); /* of the exact sizes */
    MUST(record != NULL && text != NULL);
    memcpy(record, data, record_len);
    memcpy(text, data + record_len, size - record_len);
    bool fits = tux_appwire_answer(record, record_len, scratch, &view) &&
                (view.record.kind == TUX_APP_ANSWER || view.record.kind == TUX_APP_OBJECT ||
                 view.record.kind == TUX_APP_LOOKUP);
    if (!fits || tux_head_scan(text, size - record_len, 0, &engine->head_limits, &engine->config.sign,
                               tux_conn_context(engine, &conn), &engine->head) != TUX_DONE) {
        free(record);
        free(text);
        return 0;
    }
    MUST(tux_exchange_new(engine, &conn, &engine->head, text) != NULL);
    struct tux_relay *relay = conn.exchange->relay = calloc(1, sizeof *relay);
    MUST(relay != NULL);
    relay->backend = &backend;
    relay->body_end = true;
    if (view.record.kind == TUX_APP_ANSWER) {
        struct tux_accel_rules rules = {.redirect = (rules_choice & 1) != 0,
                                        .sendfile_root = (rules_choice & 2) != 0 ? 0 : TUX_NO_ROUTE};
        struct tux_relay_head head = {
            .status = view.record.status, .fields = view.fields, .fields_len = view.fields_len, .length = 0};
        bool applies = tux_accel_applies(&rules, view.fields, view.fields_len);
        bool mentioned = tux_accel_mentioned(view.fields, view.fields_len);
        MUST(mentioned || !applies);
        if (mentioned) {
            MUST(tux_accel_answer(engine, &conn, &rules, &head) == applies);
            if (applies)
                check_result(relay, &view, choice);
        }
    } else if (view.record.kind == TUX_APP_OBJECT) {
        struct tux_accel_object object = {.path = view.path,
                                          .path_len = view.path_len,
                                          .fields = view.fields,
                                          .fields_len = view.fields_len,
                                          .status = view.record.status};
        tux_accel_object(engine, &conn, &object);
        check_result(relay, &view, choice);
    } else {
        struct tux_facts facts;
        if (tux_accel_lookup(engine, &conn, view.path, view.path_len, NULL, &facts))
            take_ask(view.path, view.path_len);
    }
    tux_exchange_free(engine, &conn);
    conn.queued = false;
    engine->ready = NULL;
    engine->ready_tail = &engine->ready;
    free(record);
    free(text);
    return 0;
}
