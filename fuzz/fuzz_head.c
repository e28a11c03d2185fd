/* SPDX-License-Identifier: MIT */
/* Fuzz the head scanner: spans lie inside the head, delivery in pieces changes nothing, what is refused stays so. */
#include "../tests/c/head_text.h"

#define MUST(condition)                                                                                                \
    if (!(condition))                                                                                                  \
    __builtin_trap()

/* Small limits, so that a fuzzer's short inputs reach them. */
static const struct tux_head_limits small_limits = {64, 512, 6};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tux_head whole, steps, closed;
    static uint8_t text[4096 + 4];
    if (size == 0 || size > 4096)
        return 0;
    const struct tux_head_limits *limits = data[0] & 1 ? &small_limits : &default_limits; /* 'G' is odd, CR too */
    enum tux_outcome outcome = scan_copy(data, size, 0, limits, &default_rules, &whole);
    for (size_t step = 1; step <= 17; step += 16) {
        enum tux_outcome piece = scan_in_steps(data, size, step, limits, &default_rules, &steps);
        if (outcome == TUX_DONE) {
            MUST(piece == TUX_DONE && same_head(&whole, &steps));
        } else if (outcome == TUX_MORE) {
            MUST(piece == TUX_MORE && (uint64_t)whole.host.off + whole.host.len <= size);
        } else if (piece != TUX_MALFORMED) { /* refused late, but at the latest with the blank line */
            MUST(piece == TUX_MORE);
            memcpy(text, data, size);
            memcpy(text + size, "\r\n\r\n", 4);
            MUST(scan_copy(text, size + 4, size, limits, &default_rules, &closed) == TUX_MALFORMED);
        }
    }
    if (outcome == TUX_DONE) {
        MUST(spans_inside(&whole) && whole.length <= size && whole.length <= limits->head_bytes);
        MUST(whole.target.len <= limits->target_bytes && whole.n_fields <= limits->fields);
        MUST(!(whole.chunked && whole.has_length) && (whole.minor == 0 || whole.host.len > 0));
        MUST(!whole.is_signed || (!whole.chunked && whole.content_length == 0 && !whole.upgrade));
        MUST(memcmp(data + whole.length - 4, "\r\n\r\n", 4) == 0);
        /* Nothing after the head belongs to it. */
        MUST(scan_copy(data, whole.length, 0, limits, &default_rules, &closed) == TUX_DONE &&
             same_head(&whole, &closed));
    }
    if (outcome == TUX_MALFORMED) {
        MUST(whole.error_reason != NULL && whole.error_status >= 400 && whole.error_status <= 505);
        MUST((uint64_t)whole.host.off + whole.host.len <= size);
    }
    return 0;
}
