/* SPDX-License-Identifier: MIT */
/* Fuzz the records of the rings: whatever is accepted lies inside the payload, every byte of it, and makes a plan or
 * none. */
#include <stdlib.h>
#include <string.h>

#include "wire.h"

#define MUST(condition)                                                                                                \
    if (!(condition))                                                                                                  \
    __builtin_trap()

static volatile uint8_t sink;

/* Touch every byte: a sanitizer sees what lies outside. */
static void touch(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum ^= at[i];
    sink = sum;
}

static void check_reply(const uint8_t *payload, uint32_t size)
{
    static const uint64_t key[2] = {1, 2};
    struct tux_reply_view view;
    if (!tux_wire_reply(payload, size, &view))
        return;
    const struct tux_reply_record *record = &view.record;
    struct tux_check checks[TUX_MAX_CHECKS];
    const char *path = view.paths;
    MUST(record->n_checks <= TUX_MAX_CHECKS && record->status >= 200 && record->status <= 599);
    for (uint32_t i = 0; i < record->n_checks; i++) {
        checks[i] = (struct tux_check){.root = view.checks[i].root,
                                       .path_len = view.checks[i].path_len,
                                       .path = path,
                                       .expected = view.checks[i].expected};
        path += view.checks[i].path_len;
    }
    MUST(path == view.paths + record->paths_len);
    touch(view.paths, record->paths_len);
    touch(view.head, record->head_len);
    touch(view.body, record->inline_len);
    if (record->fd >= 0)
        return; /* a descriptor of this process by number: only the planner may name one */
    struct tux_plan_parts parts = {.status = record->status,
                                   .flags = (uint16_t)record->flags,
                                   .head = view.head,
                                   .head_len = record->head_len,
                                   .body = view.body,
                                   .body_len = record->body_len,
                                   .body_offset = record->body_offset,
                                   .fd = -1,
                                   .expires_ms = record->ttl_ms,
                                   .checks = checks,
                                   .n_checks = record->n_checks};
    struct tux_plan *plan = tux_plan_new(&parts, key);
    if (plan != NULL)
        tux_plan_unref(plan);
}

static void check_ask(const uint8_t *payload, uint32_t size)
{
    struct tux_ask_view view;
    if (!tux_wire_ask(payload, size, &view))
        return;
    const struct tux_ask_record *record = view.record;
    const struct tux_span spans[] = {record->method, record->target, record->path, record->query, record->host};
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++)
        touch(view.head + spans[i].off, spans[i].len);
    for (uint32_t i = 0; i < record->n_fields; i++) {
        touch(view.head + view.fields[i].name.off, view.fields[i].name.len);
        touch(view.head + view.fields[i].value.off, view.fields[i].value.len);
    }
    touch(record->peer, record->peer_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size); /* aligned as a ring's payload is, and of exactly that size */
    MUST(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    check_reply(copy, (uint32_t)size);
    check_ask(copy, (uint32_t)size);
    free(copy);
    return 0;
}
