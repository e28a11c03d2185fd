/* SPDX-License-Identifier: MIT */
#include "appwire.h"

#include <assert.h>
#include <string.h>

#include "response.h"
#include "scan.h"

static_assert(sizeof(struct tux_app_record) == 16 && sizeof(struct tux_app_field) == 10, "records have no holes");
static_assert(TUX_MAX_HEAD_BYTES <= UINT16_MAX, "places in a head fit into 16 bits");

/* -- the process's side ----------------------------------------------------------------------------------------- */

uint32_t tux_appwire_request_bytes(const struct tux_app_request *request)
{
    return (uint32_t)(sizeof *request + request->n_fields * sizeof(struct tux_app_field) + request->head_len +
                      request->peer_len + request->local_len + request->record.n);
}

static bool inside(struct tux_span span, uint32_t len)
{
    return span.off <= len && span.len <= len - span.off;
}

bool tux_appwire_request(const void *payload, uint32_t size, struct tux_app_request_view *view)
{
    struct tux_app_request *request = &view->request;
    if (size < sizeof *request)
        return false;
    memcpy(request, payload, sizeof *request);
    uint32_t len = request->head_len;
    if (request->n_fields > TUX_MAX_FIELDS || len > TUX_MAX_HEAD_BYTES || request->record.n > size ||
        tux_appwire_request_bytes(request) > size)
        return false;
    view->fields = (const struct tux_app_field *)(const void *)((const uint8_t *)payload + sizeof *request);
    view->head = (const uint8_t *)(view->fields + request->n_fields);
    view->peer = view->head + len;
    view->local = view->peer + request->peer_len;
    view->body = view->local + request->local_len;
    if (!inside(request->method, len) || !inside(request->target, len) || !inside(request->path, len) ||
        !inside(request->query, len) || !inside(request->host, len))
        return false;
    for (uint32_t i = 0; i < request->n_fields; i++) {
        const struct tux_app_field *field = &view->fields[i];
        if ((uint32_t)field->name + field->name_len > len || (uint32_t)field->value + field->value_len > len ||
            field->id >= TUX_FIELD_COUNT)
            return false;
    }
    return true;
}

bool tux_appwire_found(const void *payload, uint32_t size, struct tux_app_found_view *view)
{
    struct tux_app_found *found = &view->found;
    if (size < sizeof *found)
        return false;
    memcpy(found, payload, sizeof *found);
    view->type = (const uint8_t *)payload + sizeof *found;
    view->etag = view->type + found->type_len;
    return sizeof *found + found->type_len + found->etag_len == size;
}

enum tux_app_field_kind tux_appwire_field(const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len,
                                          bool upgrade)
{
    if (name_len == 0 || tux_scan_class(name, name + name_len, TUX_BYTE_TOKEN) != name + name_len)
        return TUX_APP_FIELD_BAD_NAME;
    if (tux_scan_text(value, value + value_len) != value + value_len)
        return TUX_APP_FIELD_BAD_VALUE;
    switch (tux_response_field_id(name, name_len)) {
    case TUX_RESPONSE_CONTENT_LENGTH:
        return TUX_APP_FIELD_LENGTH;
    case TUX_RESPONSE_CONNECTION:
    case TUX_RESPONSE_TRANSFER_ENCODING:
    case TUX_RESPONSE_HOP:
        return TUX_APP_FIELD_HOP;
    case TUX_RESPONSE_UPGRADE:
        return upgrade ? TUX_APP_FIELD_PLAIN : TUX_APP_FIELD_HOP;
    default:
        return TUX_APP_FIELD_PLAIN;
    }
}

bool tux_appwire_is_reason(const uint8_t *reason, size_t len)
{
    return len <= TUX_MAX_APP_REASON_BYTES && tux_scan_text(reason, reason + len) == reason + len;
}

/* -- the engine's side ------------------------------------------------------------------------------------------ */

/* Whole lines "Name: value CR LF", none of which says anything about the connection. */
static bool check_fields(struct tux_app_answer_view *view, bool upgrade)
{
    const uint8_t *p = view->fields, *end = p + view->fields_len;
    while (p < end) { /* ends: each line eats something */
        const uint8_t *name = p;
        p = tux_scan_name(p, end);
        if (p == name || end - p < 4 || p[0] != ':' || p[1] != ' ')
            return false;
        uint8_t id = tux_response_field_id(name, (size_t)(p - name));
        p = tux_scan_text(p + 2, end);
        if (end - p < 2 || p[0] != '\r' || p[1] != '\n')
            return false;
        p += 2;
        switch (id) {
        case TUX_RESPONSE_DATE:
            view->has_date = true;
            break;
        case TUX_RESPONSE_SERVER:
            view->has_server = true;
            break;
        case TUX_RESPONSE_CONTENT_LENGTH:
        case TUX_RESPONSE_CONNECTION:
        case TUX_RESPONSE_TRANSFER_ENCODING:
        case TUX_RESPONSE_HOP:
            return false;
        case TUX_RESPONSE_UPGRADE:
            if (!upgrade)
                return false;
            break;
        default:
            break;
        }
    }
    return true;
}

/* The rest of the record: fields, of which a copy is checked, and body. */
static bool take_fields(struct tux_app_answer_view *view, const uint8_t *rest, uint32_t size, uint8_t *scratch)
{
    if (view->fields_len > TUX_MAX_APP_FIELDS_BYTES || (uint64_t)view->fields_len + view->record.n != size)
        return false;
    memcpy(scratch, rest, view->fields_len);
    view->fields = scratch;
    view->body = rest + view->fields_len;
    return check_fields(view, view->record.kind == TUX_APP_UPGRADE);
}

static bool take_answer(const uint8_t *payload, uint32_t size, uint8_t *scratch, struct tux_app_answer_view *view)
{
    struct tux_app_answer answer;
    uint16_t status = view->record.status;
    if (size < sizeof answer)
        return false;
    memcpy(&answer, payload, sizeof answer);
    view->length = answer.length;
    view->fields_len = answer.fields_len;
    view->remember_ms = answer.remember_ms;
    view->reason_len = answer.reason_len;
    const uint8_t *rest = payload + sizeof answer;
    uint32_t left = size - (uint32_t)sizeof answer;
    const unsigned ends = TUX_APP_END | TUX_APP_TRAILERS; /* one of them at most */
    const unsigned known = ends | TUX_APP_CLOSE | TUX_APP_GENERAL;
    if (status < 200 || status > 999 || answer.length < -1 || (view->record.flags & ~known) != 0 ||
        (view->record.flags & ends) == ends || answer.reason_len > TUX_MAX_APP_REASON_BYTES || answer.reason_len > left)
        return false;
    if (!take_fields(view, rest + answer.reason_len, left - answer.reason_len, scratch))
        return false;
    view->reason = scratch + view->fields_len;
    memcpy(scratch + view->fields_len, rest, answer.reason_len);
    return tux_appwire_is_reason(view->reason, view->reason_len);
}

/* A path, of which a copy is checked: it begins with a slash, and has no NUL. */
static bool take_path(struct tux_app_answer_view *view, const uint8_t *from, uint32_t len, uint8_t *scratch)
{
    if (len == 0 || len > TUX_MAX_APP_PATH_BYTES)
        return false;
    memcpy(scratch, from, len);
    view->path = scratch;
    view->path_len = len;
    return scratch[0] == '/' && memchr(scratch, 0, len) == NULL;
}

static bool take_object(const uint8_t *payload, uint32_t size, uint8_t *scratch, struct tux_app_answer_view *view)
{
    struct tux_app_object object;
    uint16_t status = view->record.status;
    if (size < sizeof object || view->record.n != 0 || (view->record.flags & ~TUX_APP_CLOSE) != 0)
        return false;
    memcpy(&object, payload, sizeof object);
    const uint8_t *rest = payload + sizeof object;
    uint32_t left = size - (uint32_t)sizeof object;
    view->fields_len = object.fields_len;
    if ((status != 0 && !tux_appwire_is_object_status(status)) || object.path_len > left)
        return false;
    return take_fields(view, rest, left - object.path_len, scratch) &&
           take_path(view, rest + view->fields_len, object.path_len, scratch + view->fields_len);
}

static bool take_file(const uint8_t *payload, uint32_t size, struct tux_app_answer_view *view)
{
    struct tux_app_file file;
    if (size != sizeof file || view->record.n != 0 || (view->record.flags & ~(TUX_APP_END | TUX_APP_DESCRIPTOR)) != 0)
        return false;
    memcpy(&file, payload, sizeof file);
    view->offset = file.offset;
    view->file_len = file.length;
    view->number = file.number;
    view->handle = file.handle;
    bool nameless = file.handle == TUX_APP_NO_HANDLE && (view->record.flags & TUX_APP_DESCRIPTOR) != 0;
    if (file.handle >= TUX_APP_HANDLES && !nameless)
        return false;
    return file.offset <= INT64_MAX && file.length <= INT64_MAX - file.offset;
}

bool tux_appwire_answer(const void *payload, uint32_t size, uint8_t *scratch, struct tux_app_answer_view *view)
{
    *view = (struct tux_app_answer_view){.length = -1};
    const struct tux_app_record *record = &view->record;
    if (size < sizeof *record)
        return false;
    memcpy(&view->record, payload, sizeof *record);
    const uint8_t *rest = (const uint8_t *)payload + sizeof *record;
    uint32_t left = size - (uint32_t)sizeof *record;
    if (record->kind != TUX_APP_ANSWER && record->kind != TUX_APP_INFORM && record->kind != TUX_APP_OBJECT &&
        record->status != 0)
        return false;
    switch (record->kind) {
    case TUX_APP_ANSWER:
        return take_answer(payload, size, scratch, view);
    case TUX_APP_DATA:
        view->body = rest;
        return record->n == left && (record->flags & ~(TUX_APP_END | TUX_APP_CLOSE)) == 0;
    case TUX_APP_FILE:
        return take_file(payload, size, view);
    case TUX_APP_INFORM:
        if (record->status < 102 || record->status > 199)
            return false;
        /* fall through */
    case TUX_APP_TRAILER:
    case TUX_APP_UPGRADE:
        view->fields_len = left;
        return record->n == 0 && record->flags == 0 && take_fields(view, rest, left, scratch);
    case TUX_APP_CONSUMED:
        return left == 0 && record->flags == 0;
    case TUX_APP_FORGET:
        return left == 0 && record->flags == 0 && record->n < TUX_APP_HANDLES;
    case TUX_APP_OBJECT:
        return take_object(payload, size, scratch, view);
    case TUX_APP_LOOKUP:
        return record->n == left && record->flags == 0 && take_path(view, rest, left, scratch);
    case TUX_APP_NEXT:
        return left == 0 && record->n == 0 && (record->flags & ~TUX_APP_FORWARD) == 0;
    case TUX_APP_ABORT:
    case TUX_APP_LEAVE:
        return left == 0 && record->n == 0 && record->flags == 0;
    default:
        return false;
    }
}
