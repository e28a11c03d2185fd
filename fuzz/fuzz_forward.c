/* SPDX-License-Identifier: MIT */
/* Fuzz the head that the upstream gets: our own scanner reads it as the same request, with nothing of the client's in places
 * that are ours. */
#include "../tests/c/head_text.h"
#include "forward.h"

#define MUST(condition)                                                                                                \
    if (!(condition))                                                                                                  \
    __builtin_trap()

static bool same_text(const uint8_t *a, struct tux_span x, const uint8_t *b, struct tux_span y)
{
    return x.len == y.len && memcmp(a + x.off, b + y.off, x.len) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tux_head head, again;
    static uint8_t out[TUX_FORWARD_HEAD_BYTES];
    static const struct tux_head_limits wide = {sizeof out, sizeof out, TUX_MAX_FIELDS};
    static const struct tux_address peer = {.kind = TUX_ADDRESS_V4, .bytes = {192, 0, 2, 7}};
    static const struct tux_client client = {.address = {.kind = TUX_ADDRESS_V4, .bytes = {192, 0, 2, 7}}};
    static const struct tux_forward_way way = {&peer, &client, "back:81", 7, false};
    static const struct tux_forward_rules rules = {.upgrade = true};
    struct tux_forward_head result;
    if (size > TUX_MAX_HEAD_BYTES || scan_copy(data, size, 0, &default_limits, &default_rules, &head) != TUX_DONE)
        return 0;
    uint16_t status = tux_forward_request(data, &head, &rules, &way, out, sizeof out, &result);
    if (status != 0) {
        MUST(status == 400 || status == 417 || status == 501);
        return 0;
    }
    /* A head may have as many fields as we take, and we add some. */
    enum tux_outcome outcome = scan_copy(out, result.length, 0, &wide, &default_rules, &again);
    if (outcome == TUX_MALFORMED && again.error_status == 431)
        return 0;
    MUST(outcome == TUX_DONE && again.length == result.length && again.minor == 1);
    MUST(same_text(data, head.method_name, out, again.method_name));
    MUST(again.chunked == head.chunked && again.has_length == head.has_length);
    MUST(again.content_length == head.content_length && again.expect_continue == head.expect_continue);
    MUST(again.has_query == head.has_query && (!head.has_query || same_text(data, head.query, out, again.query)));
    MUST(again.path.len == head.path.len && (out[again.path.off] == '*' || same_text(data, head.path, out, again.path)));
    MUST(again.host.len > 0 && (head.host.len == 0 || same_text(data, head.host, out, again.host)));
    MUST(!again.upgrade || (head.upgrade && !again.chunked && again.content_length == 0));
    for (uint32_t i = 0; i < again.n_fields; i++) {
        const struct tux_head_field *field = &again.fields[i];
        MUST(field->name.len > 0 && memchr(out + field->name.off, '_', field->name.len) == NULL);
        MUST(field->id != TUX_FIELD_FORWARDED);
    }
    return 0;
}
