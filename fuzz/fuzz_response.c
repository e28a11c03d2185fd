/* SPDX-License-Identifier: MIT */
/* Fuzz the response head scanner and the filter of its fields: spans lie inside the head, delivery in pieces changes nothing,
 * what is passed on has the syntax of fields and frames nothing. The first byte: bit 0, it answers HEAD; the rest, the cut. */
#include <stdlib.h>
#include <string.h>

#include "forward.h"
#include "response.h"

#define MUST(condition)                                                                                                \
    if (!(condition))                                                                                                  \
    __builtin_trap()

static enum tux_outcome scan_copy(const uint8_t *data, size_t size, size_t seen, bool is_head, struct tux_response *out)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size); /* of exactly that size: a sanitizer sees any read past it */
    MUST(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    enum tux_outcome outcome = tux_response_scan(copy, size, seen, is_head, out);
    free(copy);
    return outcome;
}

static bool inside(struct tux_span span, size_t len)
{
    return span.off <= len && span.len <= len - span.off;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tux_response whole, second, again;
    static uint8_t text[8192 + 4], fields[8192], message[8192 + 64];
    if (size < 1 || size > 8192)
        return 0;
    bool is_head = data[0] & 1;
    size_t cut = data[0] >> 1;
    data++, size--;
    cut = cut < size ? cut : size;
    enum tux_outcome outcome = scan_copy(data, size, 0, is_head, &whole);
    enum tux_outcome piece = scan_copy(data, cut, 0, is_head, &second);
    if (piece == TUX_MORE)
        piece = scan_copy(data, size, cut, is_head, &second);
    if (outcome == TUX_MALFORMED) {
        MUST(whole.error_reason != NULL);
        if (piece != TUX_MALFORMED) { /* refused late, but at the latest with the blank line */
            memcpy(text, data, size);
            memcpy(text + size, "\r\n\r\n", 4);
            MUST(piece == TUX_MORE && scan_copy(text, size + 4, size, is_head, &second) == TUX_MALFORMED);
        }
        return 0;
    }
    MUST(piece == outcome);
    if (outcome == TUX_MORE)
        return 0;
    MUST(whole.length <= size && whole.length == second.length && memcmp(data + whole.length - 4, "\r\n\r\n", 4) == 0);
    MUST(whole.framing == second.framing && whole.content_length == second.content_length);
    MUST(whole.status >= 100 && whole.status <= 599 && inside(whole.reason, whole.length));
    MUST(!is_head || whole.framing == TUX_FRAMING_NONE);
    MUST(whole.framing != TUX_FRAMING_CLOSE || !whole.keep_alive);
    for (uint32_t i = 0; i < whole.n_fields; i++)
        MUST(inside(whole.fields[i].name, whole.length) && inside(whole.fields[i].value, whole.length));

    /* What is passed on is a head of its own, without a word about framing or the connection. */
    size_t len = tux_forward_response(data, &whole, fields);
    MUST(len <= whole.length);
    memcpy(message, "HTTP/1.1 200 OK\r\n", 17);
    memcpy(message + 17, fields, len);
    memcpy(message + 17 + len, "\r\n", 2);
    MUST(scan_copy(message, 17 + len + 2, 0, false, &again) == TUX_DONE && again.length == 17 + len + 2);
    MUST(again.framing == TUX_FRAMING_CLOSE && !again.has_length);
    MUST((again.seen & (1u << TUX_RESPONSE_CONNECTION | 1u << TUX_RESPONSE_HOP)) == 0);
    return 0;
}
