/* SPDX-License-Identifier: MIT */
/* Fuzz the plain byte range: what is accepted has one canonical meaning, and resolves inside every size. The first byte
 * picks the size. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "range.h"

#define MUST(condition)                                                                                                \
    if (!(condition))                                                                                                  \
    __builtin_trap()

static struct tux_range parse(const void *value, size_t len)
{
    uint8_t *copy = calloc(1, len == 0 ? 1 : len); /* of exactly that size: a sanitizer sees any read past it */
    MUST(copy != NULL);
    if (len > 0)
        memcpy(copy, value, len);
    struct tux_range range = tux_range_parse(copy, len);
    free(copy);
    return range;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t sizes[] = {0, 1, 2, 10, 65536, UINT32_MAX, INT64_MAX, UINT64_MAX};
    char text[64] = "";
    uint64_t first = 0, last = 0;
    if (size < 1)
        return 0;
    uint64_t of = sizes[data[0] % 8];
    struct tux_range range = parse(data + 1, size - 1);
    bool satisfiable = tux_range_resolve(range, of, &first, &last);

    if (range.kind == TUX_RANGE_CLOSED)
        snprintf(text, sizeof(text), "bytes=%llu-%llu", (unsigned long long)range.first,
                 (unsigned long long)range.last);
    else if (range.kind == TUX_RANGE_OPEN)
        snprintf(text, sizeof(text), "bytes=%llu-", (unsigned long long)range.first);
    else if (range.kind == TUX_RANGE_SUFFIX)
        snprintf(text, sizeof(text), "bytes=-%llu", (unsigned long long)range.last);
    struct tux_range again = parse(text, strlen(text));
    MUST(again.kind == range.kind);
    MUST(range.kind == TUX_RANGE_NONE || (again.first == range.first && again.last == range.last));
    MUST(range.kind == TUX_RANGE_NONE || strlen(text) <= size - 1); /* no number was made longer */
    MUST(range.kind != TUX_RANGE_NONE || !satisfiable);
    MUST(!satisfiable || (first <= last && last < of));
    return 0;
}
