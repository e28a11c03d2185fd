/* SPDX-License-Identifier: MIT */
#include "wire.h"

#include <string.h>

bool tux_wire_reply(const void *payload, uint32_t size, struct tux_reply_view *view)
{
    const struct tux_reply_record *record = &view->record;
    view->record = (struct tux_reply_record){.fd = -1};
    if (size < sizeof *record)
        return false;
    memcpy(&view->record, payload, sizeof *record);
    if (record->n_checks > TUX_MAX_CHECKS || record->head_len == 0 || record->head_len > TUX_MAX_REPLY_HEAD ||
        record->inline_len > TUX_MAX_REPLY_BODY || record->paths_len > TUX_MAX_CHECKS * (TUX_MAX_PATH_BYTES + 1u) ||
        record->recipe.head_len > record->head_len || record->status < 200 || record->status > 599 || (record->flags & ~TUX_PLAN_FLAGS) != 0)
        return false;
    uint64_t need = sizeof *record + (uint64_t)record->n_checks * sizeof(struct tux_wire_check) + record->paths_len +
                    record->head_len + record->inline_len;
    if (need > size)
        return false;
    view->checks = (const struct tux_wire_check *)((const uint8_t *)payload + sizeof *record);
    view->paths = (const char *)(view->checks + record->n_checks);
    view->head = (const uint8_t *)view->paths + record->paths_len;
    view->body = view->head + record->head_len;
    uint64_t paths = 0;
    for (uint32_t i = 0; i < record->n_checks; i++) {
        if (view->checks[i].path_len > TUX_MAX_PATH_BYTES)
            return false;
        paths += view->checks[i].path_len;
    }
    if (paths != record->paths_len)
        return false;
    if (record->fd < 0)
        return record->body_len == record->inline_len || (record->flags & TUX_PLAN_NO_BODY) != 0;
    return record->inline_len == 0;
}

static bool inside(struct tux_span span, uint32_t len)
{
    return span.off <= len && span.len <= len - span.off;
}

bool tux_wire_ask(const void *payload, uint32_t size, struct tux_ask_view *view)
{
    const struct tux_ask_record *record = payload;
    if (size < sizeof *record || record->n_fields > TUX_MAX_FIELDS || record->head_len > TUX_MAX_HEAD_BYTES ||
        record->peer_len > TUX_MAX_PEER_BYTES)
        return false;
    if (sizeof *record + (uint64_t)record->n_fields * sizeof(struct tux_head_field) + record->head_len > size)
        return false;
    view->record = record;
    view->fields = (const struct tux_head_field *)(record + 1);
    view->head = (const uint8_t *)(view->fields + record->n_fields);
    uint32_t len = record->head_len;
    if (!inside(record->method, len) || !inside(record->target, len) || !inside(record->path, len) ||
        !inside(record->query, len) || !inside(record->host, len))
        return false;
    for (uint32_t i = 0; i < record->n_fields; i++)
        if (!inside(view->fields[i].name, len) || !inside(view->fields[i].value, len) ||
            view->fields[i].id >= TUX_FIELD_COUNT)
            return false;
    return true;
}
