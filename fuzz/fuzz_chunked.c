/* SPDX-License-Identifier: MIT */
/* Fuzz the chunked decoder: wherever a body is cut in two, data, outcome and end are the same. The first byte is the
 * cut. */
#include <stdlib.h>
#include <string.h>

#include "chunked.h"

#define MUST(condition)                                                                                                \
    if (!(condition))                                                                                                  \
    __builtin_trap()

struct body {
    enum tux_outcome outcome;
    size_t consumed, len;
    uint8_t bytes[4096];
};

static void feed(struct tux_chunked *decoder, struct body *body, const uint8_t *data, size_t size)
{
    uint8_t *copy = calloc(1, size == 0 ? 1 : size); /* of exactly that size: a sanitizer sees any read past it */
    size_t at = 0;
    MUST(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    while (body->outcome == TUX_MORE && at < size) {
        struct tux_span run;
        size_t consumed;
        body->outcome = tux_chunked_decode(decoder, copy + at, size - at, &consumed, &run);
        MUST(consumed > 0 && consumed <= size - at);
        MUST(run.off <= consumed && run.len <= consumed - run.off);
        memcpy(body->bytes + body->len, copy + at + run.off, run.len);
        body->len += run.len;
        at += consumed;
    }
    body->consumed += at;
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct body whole, pieces;
    struct tux_chunked at_once = {0}, in_two = {0};
    if (size < 1 || size > sizeof(whole.bytes))
        return 0;
    size_t cut = data[0];
    data++, size--;
    cut = cut < size ? cut : size;
    whole.outcome = pieces.outcome = TUX_MORE;
    whole.consumed = whole.len = pieces.consumed = pieces.len = 0;
    feed(&at_once, &whole, data, size);
    feed(&in_two, &pieces, data, cut);
    feed(&in_two, &pieces, data + cut, size - cut);
    MUST(whole.outcome == pieces.outcome && whole.consumed == pieces.consumed);
    MUST(whole.len == pieces.len && memcmp(whole.bytes, pieces.bytes, whole.len) == 0);
    if (whole.outcome == TUX_DONE) { /* the smallest body is "0" CRLF CRLF, and the framing is never less than that */
        MUST(whole.consumed >= 5 + whole.len && memcmp(data + whole.consumed - 2, "\r\n", 2) == 0);
    }
    return 0;
}
