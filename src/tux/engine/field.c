/* SPDX-License-Identifier: MIT */
#include "field.h"

#include "scan.h"

#define SLOT(first, last, text, field) [TUX_FIELD_SLOT(first, last, sizeof(text) - 1)] = {field, sizeof(text) - 1, text}

const struct tux_field_slot tux_field_slots[TUX_FIELD_SLOTS] = {
    SLOT('h', 't', "host", TUX_FIELD_HOST),
    SLOT('c', 'n', "connection", TUX_FIELD_CONNECTION),
    SLOT('r', 'e', "range", TUX_FIELD_RANGE),
    SLOT('i', 'h', "if-match", TUX_FIELD_IF_MATCH),
    SLOT('i', 'h', "if-none-match", TUX_FIELD_IF_NONE_MATCH),
    SLOT('i', 'e', "if-modified-since", TUX_FIELD_IF_MODIFIED_SINCE),
    SLOT('i', 'e', "if-unmodified-since", TUX_FIELD_IF_UNMODIFIED_SINCE),
    SLOT('i', 'e', "if-range", TUX_FIELD_IF_RANGE),
    SLOT('a', 't', "accept", TUX_FIELD_ACCEPT),
    SLOT('a', 'g', "accept-encoding", TUX_FIELD_ACCEPT_ENCODING),
    SLOT('a', 'n', "authorization", TUX_FIELD_AUTHORIZATION),
    SLOT('t', 'g', "transfer-encoding", TUX_FIELD_TRANSFER_ENCODING),
    SLOT('c', 'h', "content-length", TUX_FIELD_CONTENT_LENGTH),
    SLOT('e', 't', "expect", TUX_FIELD_EXPECT),
    SLOT('u', 'e', "upgrade", TUX_FIELD_UPGRADE),
    SLOT('c', 'e', "cookie", TUX_FIELD_COOKIE),
    SLOT('o', 'n', "origin", TUX_FIELD_ORIGIN),
    SLOT('f', 'd', "forwarded", TUX_FIELD_FORWARDED),
    SLOT('x', 'r', "x-forwarded-for", TUX_FIELD_X_FORWARDED_FOR),
    SLOT('x', 'o', "x-forwarded-proto", TUX_FIELD_X_FORWARDED_PROTO),
    SLOT('x', 't', "x-forwarded-host", TUX_FIELD_X_FORWARDED_HOST),
    SLOT('r', 'r', "referer", TUX_FIELD_REFERER),
    SLOT('u', 't', "user-agent", TUX_FIELD_USER_AGENT),
    SLOT('a', 'e', "accept-language", TUX_FIELD_ACCEPT_LANGUAGE),
};

uint8_t tux_field_id(const uint8_t *name, size_t len)
{
    if (tux_scan_class(name, name + len, TUX_BYTE_TOKEN) != name + len)
        return TUX_FIELD_OTHER;
    return tux_field_id_of_token(name, len);
}
