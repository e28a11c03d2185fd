/* SPDX-License-Identifier: MIT */
/* The messages of the rings: what adds up is taken apart, what does not is refused, whatever the numbers. */
#include "check.h"

#include <stdlib.h>

#include "wire.h"

/* -- replies ---------------------------------------------------------------------------------------------------- */

#define HEAD "HTTP/1.1 200 OK\r\n"

struct message {
    uint64_t align;
    uint8_t bytes[4096];
    uint32_t size;
};

/* Two checks ("a" and "bc"), a head, a body of five bytes. */
static void build_reply(struct message *message, struct tux_reply_record *record)
{
    struct tux_wire_check checks[2] = {{.root = 3, .path_len = 1}, {.root = 4, .path_len = 2}};
    checks[0].expected.kind = TUX_FOUND_FILE;
    *record = (struct tux_reply_record){.id = 7,
                                        .flags = TUX_PLAN_REMEMBER,
                                        .ttl_ms = UINT32_MAX,
                                        .head_len = sizeof HEAD - 1,
                                        .n_checks = 2,
                                        .paths_len = 3,
                                        .inline_len = 5,
                                        .body_len = 5,
                                        .fd = -1,
                                        .status = 200};
    uint8_t *at = message->bytes;
    memcpy(at, record, sizeof *record);
    at += sizeof *record;
    memcpy(at, checks, sizeof checks);
    at += sizeof checks;
    memcpy(at, "abc" HEAD "hello", 3 + sizeof HEAD - 1 + 5);
    message->size = (uint32_t)(at - message->bytes) + 3 + sizeof HEAD - 1 + 5;
}

/* Read a copy that has exactly `size` bytes, so that a sanitizer sees any read past them. */
static bool read_reply(const struct message *message, uint32_t size, struct tux_reply_view *view)
{
    static void *copy; /* the view points into it: lives until the next call */
    free(copy);
    copy = malloc(size == 0 ? 1 : size);
    if (copy == NULL)
        abort();
    memcpy(copy, message->bytes, size);
    return tux_wire_reply(copy, size, view);
}

static void test_reply(void)
{
    struct message message;
    struct tux_reply_record record;
    struct tux_reply_view view;
    build_reply(&message, &record);
    CHECK(read_reply(&message, message.size, &view));
    CHECK(view.record.id == 7 && view.record.status == 200 && view.record.body_len == 5);
    CHECK(view.checks[0].root == 3 && view.checks[0].expected.kind == TUX_FOUND_FILE && view.checks[1].root == 4);
    CHECK(memcmp(view.paths, "abc", 3) == 0);
    CHECK(memcmp(view.head, HEAD, sizeof HEAD - 1) == 0);
    CHECK(memcmp(view.body, "hello", 5) == 0);

    /* Not one byte may be missing; more may be there. Of a record that is whole the id is told in any case. */
    for (uint32_t size = 0; size < message.size; size++) {
        CHECK(!read_reply(&message, size, &view));
        CHECK(view.record.id == (size < sizeof record ? 0u : 7u));
    }
    CHECK(read_reply(&message, message.size + 8, &view));
}

/* The same record with one number changed. */
static void test_reply_numbers(void)
{
    static const struct {
        const char *about;
        size_t offset, width;
        uint64_t value;
        bool good;
    } rows[] = {
#define NUMBER(name, value, good)                                                                                      \
    {#name " = " #value, offsetof(struct tux_reply_record, name),                                                      \
     sizeof((struct tux_reply_record *)NULL)->name, (uint64_t)(value), good}
        NUMBER(status, 599, true),
        NUMBER(status, 0, false),
        NUMBER(status, 100, false), /* an interim answer ends no request */
        NUMBER(status, 199, false),
        NUMBER(status, 600, false),
        NUMBER(flags, TUX_PLAN_FLAGS, true),
        NUMBER(flags, TUX_PLAN_FLAGS + 1, false),
        NUMBER(flags, UINT32_MAX, false),
        NUMBER(head_len, 0, false),
        NUMBER(head_len, sizeof HEAD, false),
        NUMBER(head_len, sizeof HEAD - 2, true), /* shorter is allowed: the rest is not looked at */
        NUMBER(head_len, TUX_MAX_REPLY_HEAD + 1, false),
        NUMBER(head_len, UINT32_MAX, false),
        NUMBER(n_checks, 0, false), /* then the paths belong to nobody */
        NUMBER(n_checks, 1, false),
        NUMBER(n_checks, 3, false),
        NUMBER(n_checks, TUX_MAX_CHECKS + 1, false),
        NUMBER(n_checks, UINT32_MAX, false),
        NUMBER(paths_len, 0, false),
        NUMBER(paths_len, 2, false),
        NUMBER(paths_len, 4, false),
        NUMBER(paths_len, UINT32_MAX, false),
        NUMBER(inline_len, 4, false),
        NUMBER(inline_len, 6, false),
        NUMBER(inline_len, UINT32_MAX, false),
        NUMBER(body_len, 4, false),
        NUMBER(body_len, UINT64_MAX, false),
        NUMBER(fd, 0, false), /* a file and bytes in the record */
        NUMBER(fd, INT32_MAX, false),
        NUMBER(fd, -2, true), /* none, as -1 */
        NUMBER(body_offset, UINT64_MAX, true), /* tux_plan_new refuses it */
        NUMBER(ttl_ms, 0, true),
#undef NUMBER
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct message message;
        struct tux_reply_record record;
        struct tux_reply_view view;
        build_reply(&message, &record);
        memcpy(message.bytes + rows[i].offset, &rows[i].value, rows[i].width); /* of a little-endian machine */
        CHECK_ROW(read_reply(&message, message.size, &view) == rows[i].good, rows[i].about);
    }
}

static void test_reply_paths(void)
{
    static const uint32_t lengths[][2] = {
        {0, 4}, {3, 1}, {UINT32_MAX, 4}, {4, UINT32_MAX}, {TUX_MAX_PATH_BYTES + 1, 0}};
    struct message message;
    struct tux_reply_record record;
    struct tux_reply_view view;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        build_reply(&message, &record);
        for (size_t c = 0; c < 2; c++)
            memcpy(message.bytes + sizeof record + c * sizeof(struct tux_wire_check) +
                       offsetof(struct tux_wire_check, path_len),
                   &lengths[i][c], sizeof lengths[i][c]);
        CHECK(!read_reply(&message, message.size, &view));
    }
    /* A body that is only announced, and one in a file. */
    build_reply(&message, &record);
    record.flags = TUX_PLAN_NO_BODY;
    record.inline_len = 0;
    record.body_len = UINT64_MAX;
    memcpy(message.bytes, &record, sizeof record);
    CHECK(read_reply(&message, message.size, &view));
    record.flags = 0;
    memcpy(message.bytes, &record, sizeof record);
    CHECK(!read_reply(&message, message.size, &view));
    record.fd = 0;
    memcpy(message.bytes, &record, sizeof record);
    CHECK(read_reply(&message, message.size, &view));
}

/* -- asks ------------------------------------------------------------------------------------------------------- */

#define REQUEST "GET /a?b HTTP/1.1\r\nHost: kit\r\n\r\n"

static void build_ask(struct message *message, struct tux_ask_record *record, struct tux_head_field *field)
{
    *record = (struct tux_ask_record){.id = 9,
                                      .head_len = sizeof REQUEST - 1,
                                      .n_fields = 1,
                                      .minor = 1,
                                      .peer_len = 9,
                                      .peer = "127.0.0.1",
                                      .method = {0, 3},
                                      .target = {4, 4},
                                      .path = {4, 2},
                                      .query = {7, 1},
                                      .host = {25, 3}};
    *field = (struct tux_head_field){.name = {19, 4}, .value = {25, 3}, .id = TUX_FIELD_HOST};
    memcpy(message->bytes, record, sizeof *record);
    memcpy(message->bytes + sizeof *record, field, sizeof *field);
    memcpy(message->bytes + sizeof *record + sizeof *field, REQUEST, sizeof REQUEST - 1);
    message->size = sizeof *record + sizeof *field + sizeof REQUEST - 1;
}

static void test_ask(void)
{
    struct message message;
    struct tux_ask_record record;
    struct tux_head_field field;
    struct tux_ask_view view;
    build_ask(&message, &record, &field);
    CHECK(tux_wire_ask(message.bytes, message.size, &view));
    CHECK(view.record->id == 9 && memcmp(view.head + view.record->path.off, "/a", 2) == 0);
    CHECK(memcmp(view.head + view.fields[0].value.off, "kit", 3) == 0);
    for (uint32_t size = 0; size < message.size; size++)
        CHECK(!tux_wire_ask(message.bytes, size, &view));

    /* Each span may end at the end of the head, not beyond it. */
    static const size_t spans[] = {
        offsetof(struct tux_ask_record, method), offsetof(struct tux_ask_record, target),
        offsetof(struct tux_ask_record, path),   offsetof(struct tux_ask_record, query),
        offsetof(struct tux_ask_record, host),   sizeof record + offsetof(struct tux_head_field, name),
        sizeof record + offsetof(struct tux_head_field, value),
    };
    const uint32_t len = sizeof REQUEST - 1;
    const struct {
        struct tux_span span;
        bool good;
    } rows[] = {{{0, len}, true},        {{len, 0}, true},          {{0, len + 1}, false},
                {{len, 1}, false},       {{len + 1, 0}, false},     {{1, UINT32_MAX}, false},
                {{UINT32_MAX, 1}, false}, {{UINT32_MAX, UINT32_MAX}, false}};
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++)
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            build_ask(&message, &record, &field);
            memcpy(message.bytes + spans[i], &rows[r].span, sizeof rows[r].span);
            CHECK(tux_wire_ask(message.bytes, message.size, &view) == rows[r].good);
        }
    build_ask(&message, &record, &field);
    record.n_fields = TUX_MAX_FIELDS + 1;
    memcpy(message.bytes, &record, sizeof record);
    CHECK(!tux_wire_ask(message.bytes, sizeof message.bytes, &view));
    record.n_fields = 1;
    record.peer_len = TUX_MAX_PEER_BYTES + 1;
    memcpy(message.bytes, &record, sizeof record);
    CHECK(!tux_wire_ask(message.bytes, message.size, &view));
    build_ask(&message, &record, &field);
    field.id = TUX_FIELD_COUNT;
    memcpy(message.bytes + sizeof record, &field, sizeof field);
    CHECK(!tux_wire_ask(message.bytes, message.size, &view));
}

int main(void)
{
    test_reply();
    test_reply_numbers();
    test_reply_paths();
    test_ask();
    return check_report();
}
